"""Where the errors of a forecaster lie: by the clock, by the level of the series, and what is left in them to learn.

Small tables, gathered while the test part is scored; all errors are on scaled values. Missing values are in none.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsbench.data.mapped import RegularStamps
from tsbench.data.panel import Part
from tsbench.data.windows import Windows, evenly_spaced_runs

NUM_LEVELS = 10
HISTOGRAM_REACH, NUM_BINS = 4.0, 41
"""Errors beyond the reach, in standard deviations of the training rows, are counted in the outermost bins."""
MOST_LAGS = 48
MOST_KEPT = 1 << 20
"""Windows times channels whose levels and errors one step ahead are kept one by one; of more, as many in evenly spaced
runs of neighbours."""
MOST_CHANNELS = 32
"""Channels whose autocorrelation is taken, evenly spaced."""

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Residuals:
    """Sees every batch of `evaluate` in the order of the windows, and keeps sums in float64."""

    def __init__(self, test: Part, windows: Windows) -> None:
        self._test, self._windows = test, windows
        device, horizon = windows.device, windows.horizon
        self._clock = _ByBatch(test, windows) if test.panel.is_mapped else _ByRow(test, windows)
        self._bias_2H = torch.zeros(2, horizon, dtype=torch.float64, device=device)
        self._counts = torch.zeros(NUM_BINS, dtype=torch.float64, device=device)
        self._channels = slice(None, None, -(-windows.channels // MOST_CHANNELS))
        self._kept = evenly_spaced_runs(len(windows), MOST_KEPT // min(windows.channels, MOST_CHANNELS))
        most, channels = sum(high - low for low, high in self._kept), len(range(windows.channels)[self._channels])
        empty = partial(torch.empty, dtype=torch.float64, device=device)
        # Of the windows that are kept one by one: mean of the truth, losses, errors one step ahead, start and item. In
        # one piece each: small tensors that stay would keep the memory of what is freed around them from further use.
        self._levels_M, self._losses_3M, self._one_step_MC = empty(most), empty(3, most), empty(most, channels)
        self._places_2M = torch.empty(2, most, dtype=torch.int64, device=device)
        self._seen = self._num_kept = 0

    def look(self, target_BHC: Tensor, forecast_BHC: Tensor) -> None:
        """At the next windows, float64 on scaled values; a target that is missing is NaN."""
        error_BHC = forecast_BHC - target_BHC
        within = error_BHC.clamp(-HISTOGRAM_REACH, HISTOGRAM_REACH)
        self._counts += torch.histc(within, NUM_BINS, -HISTOGRAM_REACH, HISTOGRAM_REACH)  # NaN is in no bin
        one_step_BC = error_BHC[:, 0, self._channels]
        # Third of the sums is what they are divided by: the share of the channels that there are.
        share_BH = torch.ones_like(error_BHC[:, :, 0])
        if self._windows.has_holes:
            is_there_BHC = ~target_BHC.isnan()
            error_BHC, share_BH = error_BHC.where(is_there_BHC, 0.0), is_there_BHC.double().mean(2)
        losses_3BH = torch.stack([error_BHC.square().mean(2), error_BHC.abs().mean(2), share_BH])
        level_B = (target_BHC.nanmean if self._windows.has_holes else target_BHC.mean)((1, 2))
        starts_B, items_B = self._windows.between(self._seen, self._seen + len(error_BHC))
        self._clock.add(starts_B + self._windows.context_length, losses_3BH)
        self._bias_2H += torch.stack([error_BHC.mean(2).sum(0), share_BH.sum(0)])
        for some in self._kept_of(len(error_BHC)):
            places_2B = torch.stack([starts_B[some], items_B[some]])
            here = slice(self._num_kept, self._num_kept + places_2B.shape[1])
            self._levels_M[here] = level_B[some]
            self._losses_3M[:, here] = losses_3BH[:, some].mean(2)
            self._one_step_MC[here] = one_step_BC[some]
            self._places_2M[:, here] = places_2B
            self._num_kept = here.stop
        self._seen += len(starts_B)

    def _kept_of(self, count: int) -> Iterator[slice]:
        """Those of the next windows that are kept one by one."""
        first, after = self._seen, self._seen + count
        while self._kept and self._kept[0][0] < after:
            low, high = self._kept[0]
            yield slice(max(low - first, 0), high - first)
            if high > after:
                return
            self._kept.pop(0)

    def tables(self) -> dict[str, Any]:
        """By name, as `tsbench.bench.records.Diagnostics` holds them."""
        clock = {name: table for name, table in self._clock.tables().items() if len(table["names"]) > 1}
        levels = self._by_level()
        return {
            "errors_by": clock | ({"level": levels} if levels else {}),
            "bias_by_step": _rounded((self._bias_2H[0] / self._bias_2H[1]).cpu().numpy()),
            "histogram": _rounded((self._counts / self._counts.sum()).cpu().numpy()),
            "autocorrelation": self._autocorrelation(),
        }

    def _by_level(self) -> dict[str, Any]:
        """By tenths of the windows, from the lowest mean of the truth to the highest."""
        level_N = self._levels_M.cpu().numpy()
        if len(level_N) < 2 * NUM_LEVELS:
            return {}
        edges = np.quantile(level_N, np.arange(1, NUM_LEVELS) / NUM_LEVELS)
        place_N = np.searchsorted(edges, level_N)
        names = [str(tenth) for tenth in range(1, NUM_LEVELS + 1)]
        table = _table(place_N, names, self._losses_3M.cpu().numpy())
        return table if len(table["names"]) > 1 else {}

    def _autocorrelation(self) -> list[float]:
        """Of the errors one step ahead, from lag 1 on, mean over channels; pairs never cross an item or a gap."""
        error_NC = self._one_step_MC.cpu().numpy()
        starts_N, items_N = self._places_2M.cpu().numpy()
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


class _ByRow:
    """Sums of the two losses and of shares by row of the panel, and by the clock when all are there."""

    def __init__(self, test: Part, windows: Windows) -> None:
        self._stamps, self._horizon = test.panel.timestamps, windows.horizon
        first_N = windows.between(0, len(windows))[0] + windows.context_length
        self._low, high = int(first_N.min()), int(first_N.max()) + windows.horizon
        self._sums_3T = torch.zeros(3, high - self._low, dtype=torch.float64, device=windows.device)

    def add(self, first_B: Tensor, losses_3BH: Tensor) -> None:
        step_H = torch.arange(self._horizon, device=first_B.device)
        row_BH = (first_B - self._low)[:, None] + step_H
        self._sums_3T.index_add_(1, row_BH.flatten(), losses_3BH.flatten(1))

    def tables(self) -> dict[str, dict[str, Any]]:
        sums_3T = self._sums_3T.cpu().numpy()
        kinds = _clock_of(self._stamps[self._low : self._low + sums_3T.shape[1]], self._stamps)
        return {name: _table(place_T, names, sums_3T) for name, (place_T, names) in kinds.items()}


class _ByBatch:
    """The same by the clock at once: of a mapped panel, which has too many rows."""

    def __init__(self, test: Part, windows: Windows) -> None:
        self._stamps, self._horizon = test.panel.timestamps, windows.horizon
        self._sums: dict[str, np.ndarray] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, first_B: Tensor, losses_3BH: Tensor) -> None:
        rows = (first_B.cpu().numpy()[:, None] + np.arange(self._horizon)).ravel()
        losses_3N = losses_3BH.flatten(1).cpu().numpy()
        for name, (place_N, names) in _clock_of(self._stamps[rows], self._stamps).items():
            sums_3P = self._sums.setdefault(name, np.zeros((3, len(names))))
            self._names[name] = names
            for sums_P, weights_N in zip(sums_3P, losses_3N, strict=True):
                sums_P += np.bincount(place_N, weights_N, len(names))

    def tables(self) -> dict[str, dict[str, Any]]:
        return {
            name: _table(np.arange(len(self._names[name])), self._names[name], sums_3P)
            for name, sums_3P in self._sums.items()
        }


def _clock_of(stamps: np.ndarray, clock: np.ndarray | RegularStamps) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Hour, and weekday or month, of stamps, and their names. clock: that of the panel."""
    stamps = stamps.astype("datetime64[s]")
    days, months = stamps.astype("datetime64[D]"), stamps.astype("datetime64[M]")
    step = np.diff(clock[:2]).astype("timedelta64[s]")
    kinds = {"hour": ((stamps - days).astype("timedelta64[h]").astype(int), [str(hour) for hour in range(24)])}
    if (step <= np.timedelta64(1, "D")).all():
        kinds["weekday"] = (days.astype(int) + 3) % 7, list(_WEEKDAYS)  # 1970 began on a Thursday
    else:
        kinds["month"] = months.astype(int) % 12, list(_MONTHS)
    return kinds


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
