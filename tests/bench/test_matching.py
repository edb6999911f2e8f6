"""Widths for a number of parameters: near enough, in proportion, and buildable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsbench.bench.matching import TOLERANCE, match_parameters, num_parameters
from tsbench.data.windows import WindowShape
from tsbench.models.registry import model_spec, model_specs

WITH_WIDTH = [name for name, spec in model_specs().items() if spec.widths]
SHAPE = WindowShape(48, 12, 1, 1, 24)


def arguments_of(model: str, **changes: Any) -> dict[str, Any]:
    return {name: argument.default for name, argument in model_spec(model).arguments.items()} | changes


@pytest.mark.parametrize("model", WITH_WIDTH)
def test_counting_on_no_device_is_counting_the_model(model: str):
    built = model_spec(model).build(SHAPE, arguments_of(model))

    assert num_parameters(model_spec(model), SHAPE, arguments_of(model)) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("model", WITH_WIDTH)
def test_counting_draws_no_random_number(model: str):
    state = torch.get_rng_state()

    num_parameters(model_spec(model), SHAPE, arguments_of(model, init="orthogonal"))

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model", WITH_WIDTH)
@settings(max_examples=8, deadline=None)
@given(target=st.integers(30_000, 400_000))
def test_any_large_enough_target_is_met_and_nothing_but_widths_changes(model: str, target: int):
    spec, before = model_spec(model), arguments_of(model)

    after, count = match_parameters(spec, SHAPE, before, target, "here")

    assert abs(count - target) <= TOLERANCE * target
    assert num_parameters(spec, SHAPE, after) == count
    assert {name for name in before if before[name] != after[name]} <= set(spec.widths)


def test_widths_stay_in_proportion_and_divisible_by_the_heads():
    after, _ = match_parameters(
        model_spec("transformer"), SHAPE, arguments_of("transformer", num_heads=8, position="rotary"), 200_000, "here"
    )

    default = arguments_of("transformer")
    assert after["hidden_size"] % 16 == 0
    proportion = default["feedforward_size"] / default["hidden_size"]
    assert proportion <= after["feedforward_size"] / after["hidden_size"] < 2 * proportion
