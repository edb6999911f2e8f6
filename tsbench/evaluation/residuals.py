"""Where the errors of a forecaster lie: by the clock, by the level of the series, and what is left in them to learn.

Small tables, gathered while the test part is scored; all errors are on scaled values. Missing values are in none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsbench.data.panel import Part
from tsbench.data.windows import Windows

NUM_LEVELS = 10
HISTOGRAM_REACH, NUM_BINS = 4.0, 41
"""Errors beyond the reach, in standard deviations of the training rows, are counted in the outermost bins."""
MOST_LAGS = 48
MOST_CHANNELS = 32
"""Channels whose autocorrelation is taken, evenly spaced."""

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Residuals:
    """Sees every batch of `evaluate` in the order of the windows, and keeps sums in float64."""

    def __init__(self, test: Part, windows: Windows) -> None:
        self._test, self._windows = test, windows
        device, horizon = windows.starts_N.device, windows.horizon
        first = windows.starts_N + windows.context_length
        self._low, high = int(first.min()), int(first.max()) + horizon
        self._sums_3T = torch.zeros(3, high - self._low, dtype=torch.float64, device=device)
        self._bias_2H = torch.zeros(2, horizon, dtype=torch.float64, device=device)
        self._counts = torch.zeros(NUM_BINS, dtype=torch.float64, device=device)
        self._levels: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._one_step: list[Tensor] = []
        self._seen = 0

    def look(self, target_BHC: Tensor, forecast_BHC: Tensor) -> None:
        """At the next windows, float64 on scaled values; a target that is missing is NaN."""
        error_BHC = forecast_BHC - target_BHC
        within = error_BHC.clamp(-HISTOGRAM_REACH, HISTOGRAM_REACH)
        self._counts += torch.histc(within, NUM_BINS, -HISTOGRAM_REACH, HISTOGRAM_REACH)  # NaN is in no bin
        every = -(-error_BHC.shape[2] // MOST_CHANNELS)
        self._one_step.append(error_BHC[:, 0, ::every])
        # Third of the sums is what they are divided by: the share of the channels that there are.
        share_BH = torch.ones_like(error_BHC[:, :, 0])
        if self._windows.has_holes:
            is_there_BHC = ~target_BHC.isnan()
            error_BHC, share_BH = error_BHC.where(is_there_BHC, 0.0), is_there_BHC.double().mean(2)
        losses_3BH = torch.stack([error_BHC.square().mean(2), error_BHC.abs().mean(2), share_BH])
        starts_B = self._windows.starts_N[self._seen : self._seen + len(error_BHC)]
        step_H = torch.arange(self._windows.horizon, device=starts_B.device)
        row_BH = (starts_B + self._windows.context_length - self._low)[:, None] + step_H
        self._sums_3T.index_add_(1, row_BH.flatten(), losses_3BH.flatten(1))
        self._bias_2H += torch.stack([error_BHC.mean(2).sum(0), share_BH.sum(0)])
        self._levels.append((target_BHC.nanmean if self._windows.has_holes else target_BHC.mean)((1, 2)))
        self._losses.append(losses_3BH.mean(2))
        self._seen += len(starts_B)

    def tables(self) -> dict[str, Any]:
        """By name, as `tsbench.bench.records.Diagnostics` holds them."""
        clock = self._by_clock()
        levels = self._by_level()
        return {
            "errors_by": clock | ({"level": levels} if levels else {}),
            "bias_by_step": _rounded((self._bias_2H[0] / self._bias_2H[1]).cpu().numpy()),
            "histogram": _rounded((self._counts / self._counts.sum()).cpu().numpy()),
            "autocorrelation": self._autocorrelation(),
        }

    def _by_clock(self) -> dict[str, dict[str, Any]]:
        """By hour, weekday or month of the target, where the clock of the data has them."""
        sums_3T = self._sums_3T.cpu().numpy()
        stamps = self._test.panel.timestamps[self._low : self._low + sums_3T.shape[1]].astype("datetime64[s]")
        days, months = stamps.astype("datetime64[D]"), stamps.astype("datetime64[M]")
        step = np.diff(self._test.panel.timestamps[:2]).astype("timedelta64[s]")
        kinds = {"hour": ((stamps - days).astype("timedelta64[h]").astype(int), [str(hour) for hour in range(24)])}
        if (step <= np.timedelta64(1, "D")).all():
            kinds["weekday"] = (days.astype(int) + 3) % 7, list(_WEEKDAYS)  # 1970 began on a Thursday
        else:
            kinds["month"] = months.astype(int) % 12, list(_MONTHS)
        tables = {name: _table(place_T, names, sums_3T) for name, (place_T, names) in kinds.items()}
        return {name: table for name, table in tables.items() if len(table["names"]) > 1}

    def _by_level(self) -> dict[str, Any]:
        """By tenths of the windows, from the lowest mean of the truth to the highest."""
        level_N = torch.cat(self._levels).cpu().numpy()
        if len(level_N) < 2 * NUM_LEVELS:
            return {}
        edges = np.quantile(level_N, np.arange(1, NUM_LEVELS) / NUM_LEVELS)
        place_N = np.searchsorted(edges, level_N)
        names = [str(tenth) for tenth in range(1, NUM_LEVELS + 1)]
        table = _table(place_N, names, torch.cat(self._losses, 1).cpu().numpy())
        return table if len(table["names"]) > 1 else {}

    def _autocorrelation(self) -> list[float]:
        """Of the errors one step ahead, from lag 1 on, mean over channels; pairs never cross an item or a gap."""
        error_NC = torch.cat(self._one_step).cpu().numpy()
        starts_N, items_N = self._windows.starts_N.cpu().numpy(), self._windows.items_N.cpu().numpy()
        seasonality = self._test.panel.seasonality
        most = min(MOST_LAGS, max(2 * seasonality, 24), len(error_NC) // 4)
        is_there_NC = ~np.isnan(error_NC)
        error_NC, is_there_NC = (each[:, is_there_NC.any(0)] for each in (error_NC, is_there_NC))
        share_C = is_there_NC.mean(0)
        centred = np.where(is_there_NC, error_NC - np.nan_to_num(error_NC).mean(0) / share_C, 0.0)
        variance = centred.var(0) / share_C
        if most < 1 or not variance.all():
            return []
        found = []
        for lag in range(1, most + 1):
            neighbours = (starts_N[lag:] - starts_N[:-lag] == lag) & (items_N[lag:] == items_N[:-lag])
            if not neighbours.any():
                return []
            products = (centred[lag:] * centred[:-lag])[neighbours]
            pairs = (is_there_NC[lag:] & is_there_NC[:-lag])[neighbours].sum(0)
            found.append(float((products.sum(0) / np.maximum(pairs, 1) / variance).mean()))
        return _rounded(found)


def _table(place_N: np.ndarray, names: list[str], sums_3N: np.ndarray) -> dict[str, Any]:
    """Means of the two losses by place, without the places that nothing was scored at."""
    sums_3G = np.stack([np.bincount(place_N, sums, len(names)) for sums in sums_3N])
    found = np.flatnonzero(sums_3G[2])
    squared, absolute = sums_3G[:2, found] / sums_3G[2, found]
    return {
        "names": [names[place] for place in found],
        "mse_scaled": _rounded(squared),
        "mae_scaled": _rounded(absolute),
    }


def _rounded(values: Any) -> list[float]:
    """Five digits: enough for a picture, and a third of the bytes in every record."""
    return [float(f"{value:.5g}") for value in values]
