"""Families at one parameter budget: a model's width chosen so that it has as many parameters as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.registry import ModelSpec

TOLERANCE = 0.024
"""Share of the target: two families within it differ by less than 5 % of the smaller."""

_WIDEST = 65536


def num_parameters(spec: ModelSpec, shape: WindowShape, arguments: Mapping[str, Any]) -> int:
    """Counted on the meta device: no memory, no random numbers."""
    with torch.device("meta"):
        model = spec.build(shape, {**arguments, "init": "default"} if "init" in arguments else arguments)
    return sum(parameter.numel() for parameter in model.parameters())


def match_parameters(
    spec: ModelSpec, shape: WindowShape, arguments: Mapping[str, Any], target: int, where: str
) -> tuple[dict[str, Any], int]:
    """The arguments with other widths, so that the model has `target` parameters, `TOLERANCE` more or fewer; and how
    many it has.

    The widths of the registry's entry grow together, in the proportion they have in `arguments`. Where there are
    several, that stops short of the target, and the last one alone takes up the rest: heads leave the leading one few
    choices.

    Raises ConfigError when no width comes near enough.
    """
    leading, *others = spec.widths
    ratios = {keyword: arguments[keyword] / arguments[leading] for keyword in spec.widths}

    def grown(width: int) -> dict[str, Any]:
        return {**arguments, **{keyword: max(round(ratio * width), 1) for keyword, ratio in ratios.items()}}

    def count(candidate: Mapping[str, Any]) -> int:
        return num_parameters(spec, shape, candidate)

    step = next(width for width in range(1, _WIDEST) if _can_be_built(spec, shape, grown(width)))
    candidates = [grown(step * number) for number in _around(lambda number: count(grown(step * number)), target)]
    if others:
        last, base = others[-1], candidates[0]
        candidates = [
            {**base, last: number} for number in _around(lambda number: count({**base, last: number}), target)
        ]
    best = min(candidates, key=lambda candidate: abs(count(candidate) - target))
    found = count(best)
    if abs(found - target) > TOLERANCE * target:
        widths = ", ".join(f"{keyword} = {best[keyword]}" for keyword in spec.widths)
        raise ConfigError(
            f"{where}: no width gives {spec.name} about {target:,} parameters for {shape.horizon} rows from "
            f"{shape.context_length}; the nearest is {found:,} with {widths}; choose a larger num_parameters"
        )
    return best, found


def _can_be_built(spec: ModelSpec, shape: WindowShape, arguments: Mapping[str, Any]) -> bool:
    """Not where heads do not divide the width, or groups the filters; then only multiples of some number can be."""
    try:
        num_parameters(spec, shape, arguments)
    except ConfigError:
        return False
    return True


def _around(count: Callable[[int], int], target: int) -> tuple[int, int]:
    """Two neighbours from 1 between whose counts, which grow with them, the target lies, if it lies anywhere."""
    low, high = 1, 2
    while count(high) < target and high < _WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    return low, high
