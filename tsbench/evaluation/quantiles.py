"""How good quantiles are: pinball loss, coverage and width, as sums over windows and then as metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class QuantileTotals:
    """Sums in float64 over all windows and channels of a part that hold a value, by step ahead.

    Q quantiles, symmetric around the median; P intervals between a quantile and its partner, the widest first.
    """

    levels_Q: np.ndarray
    count_H: np.ndarray
    """Of windows and channels: what each sum is over."""
    scaled_HQ: np.ndarray
    """Of pinball losses on the scaled values."""
    original_HQ: np.ndarray
    """Of pinball losses in original units."""
    below_HQ: np.ndarray
    """How many targets are not above the quantile."""
    inside_HP: np.ndarray
    """How many targets lie in the interval, its ends included."""
    width_HP: np.ndarray
    """Of the widths of intervals on the scaled values."""


class QuantileSums:
    """Adds up batches on their device. The rest of this file needs no torch."""

    def __init__(self, levels: Sequence[float], horizon: int, device: torch.device) -> None:
        import torch

        self.levels_Q = torch.tensor(levels, dtype=torch.float64, device=device)
        self.by_level_KHQ = torch.zeros(3, horizon, len(levels), dtype=torch.float64, device=device)
        self.by_interval_KHP = torch.zeros(2, horizon, len(levels) // 2, dtype=torch.float64, device=device)
        self.count_H = torch.zeros(horizon, dtype=torch.float64, device=device)

    def add(self, quantiles_BHCQ: Tensor, target_BHC: Tensor, std: Tensor, is_there_BHC: Tensor | None = None) -> None:
        """Scaled values, and the spread that undoes the scaling.

        is_there_BHC: which targets there are; None: all.
        """
        import torch

        from tsbench.training.quantiles import pinball

        loss_BHCQ = pinball(quantiles_BHCQ, target_BHC, self.levels_Q)
        target_BHC1, num_intervals = target_BHC.unsqueeze(-1), len(self.levels_Q) // 2
        lower_BHCP, upper_BHCP = quantiles_BHCQ[..., :num_intervals], quantiles_BHCQ.flip(-1)[..., :num_intervals]
        is_inside_BHCP = (lower_BHCP <= target_BHC1) & (target_BHC1 <= upper_BHCP)
        by_level = [loss_BHCQ, loss_BHCQ * std.unsqueeze(-1), (target_BHC1 <= quantiles_BHCQ).double()]
        by_interval = [is_inside_BHCP.double(), upper_BHCP - lower_BHCP]
        if is_there_BHC is None:
            self.count_H += target_BHC.shape[0] * target_BHC.shape[2]
        else:
            self.count_H += is_there_BHC.sum((0, 2))
            there_BHC1 = is_there_BHC.unsqueeze(-1)
            by_level, by_interval = (
                [each.where(there_BHC1, 0.0) for each in several] for several in (by_level, by_interval)
            )
        self.by_level_KHQ += torch.stack([each.sum((0, 2)) for each in by_level])
        self.by_interval_KHP += torch.stack([each.sum((0, 2)) for each in by_interval])

    def totals(self) -> QuantileTotals:
        sums = (*self.by_level_KHQ.cpu().numpy(), *self.by_interval_KHP.cpu().numpy())
        return QuantileTotals(self.levels_Q.cpu().numpy(), self.count_H.cpu().numpy(), *sums)


def quantile_metrics(totals: QuantileTotals, size: float) -> dict[str, Any]:
    """What a record keeps of them, `tsbench.bench.records.QuantileMetrics`.

    size: sum of absolute targets in original units.
    """
    count_H, count, steps = totals.count_H, totals.count_H.mean(), len(totals.scaled_HQ)
    levels, intervals = totals.levels_Q, range(len(totals.levels_Q) // 2)
    return {
        "levels": levels.tolist(),
        "pinball": (totals.scaled_HQ.sum(0) / count / steps).tolist(),
        "below": (totals.below_HQ.sum(0) / count / steps).tolist(),
        "wql": float(2 * totals.original_HQ.sum(0).mean() / size) if size else None,
        "crps_scaled": float(2 * totals.scaled_HQ.mean() / count),
        "nominal": [float(levels[-1 - number] - levels[number]) for number in intervals],
        "coverage": (totals.inside_HP.sum(0) / count / steps).tolist(),
        "width": (totals.width_HP.sum(0) / count / steps).tolist(),
        "pinball_by_step": (totals.scaled_HQ.mean(1) / count_H).tolist(),
        "coverage_by_step": (totals.inside_HP.T / count_H).tolist(),
    }
