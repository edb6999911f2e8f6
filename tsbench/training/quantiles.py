"""Quantile forecasts: their loss, and what moves them to where the validation part says they should be.

Beside the letters of the project: Q quantiles, symmetric around the median, which is in their middle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST = 100
"""Residuals that a quantile of them rests on at least, if pooling over channels, then over steps, can find as many."""


def pinball(forecast_BHCQ: Tensor, target_BHC: Tensor, levels_Q: Tensor) -> Tensor:
    """The loss whose smallest mean is at the quantile (Koenker and Bassett 1978), `[B, H, C, Q]`."""
    error_BHCQ = target_BHC.unsqueeze(-1) - forecast_BHCQ
    return torch.maximum(levels_Q * error_BHCQ, (levels_Q - 1) * error_BHCQ)


def shifts(residual_NHCQ: Tensor, levels_Q: Tensor) -> Tensor:
    """What has to be added to each quantile so that its share of the targets lies below it, `[H or 1, C or 1, Q]`.

    residual_NHCQ: target less quantile, in units of its window, NaN where there was no target; a last axis of one is a
    point forecast. The median stays: its shift is zero.

    Split conformal prediction: of n residuals the one of rank (n + 1) * level, rounded away from the median. Each side
    on its own (Romano, Patterson and Candès 2019, theorem 2). By step and channel where there are residuals enough.
    """
    residual_NHCQ = _pooled(residual_NHCQ).expand(*[-1] * 3, len(levels_Q))
    found = [_of_rank(residual_NHCQ[..., q], level) for q, level in enumerate(levels_Q.tolist())]
    found[len(found) // 2] = torch.zeros_like(found[0])
    return torch.stack(found, -1)


def _of_rank(residual_NHC: Tensor, level: float) -> Tensor:
    """`[H, C]`"""
    count_HC = (~residual_NHC.isnan()).sum(0)
    if count_HC.min() == len(residual_NHC):
        return residual_NHC.kthvalue(_rank(len(residual_NHC), level), dim=0).values
    ranks = [_rank(count, level) for count in count_HC.flatten().tolist()]
    place_1HC = torch.tensor(ranks, device=residual_NHC.device).view(1, *count_HC.shape) - 1
    return residual_NHC.sort(0).values.gather(0, place_1HC)[0]  # NaN comes last


def _pooled(residual_NHCQ: Tensor) -> Tensor:
    """Further residuals in place of channels, then of steps, where windows alone are too few."""
    if _fewest(residual_NHCQ) < FEWEST:
        residual_NHCQ = residual_NHCQ.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    if _fewest(residual_NHCQ) < FEWEST:
        residual_NHCQ = residual_NHCQ.flatten(0, 1).unsqueeze(1)
    return residual_NHCQ


def _fewest(residual_NHCQ: Tensor) -> int:
    """Residuals of a step and channel."""
    return int((~residual_NHCQ[..., 0].isnan()).sum(0).min())


def _rank(count: int, level: float) -> int:
    """Of `count` residuals, from 1; the outermost where there are too few for the level."""
    from_the_median = math.ceil((count + 1) * max(level, 1 - level) - 1e-9)
    rank = from_the_median if level > 0.5 else count + 1 - from_the_median
    return max(min(rank, count), 1)


def outward(quantiles_BHCQ: Tensor) -> Tensor:
    """Without crossings: from the median outwards none is nearer than the one before, so no interval gets narrower."""
    lower, median, upper = quantiles_BHCQ.tensor_split(
        [quantiles_BHCQ.shape[-1] // 2, quantiles_BHCQ.shape[-1] // 2 + 1], -1
    )
    rising = torch.cat([median, upper], -1).cummax(-1).values
    falling = torch.cat([median, lower.flip(-1)], -1).cummin(-1).values
    return torch.cat([falling[..., 1:].flip(-1), rising], -1)
