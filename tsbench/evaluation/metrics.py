"""From totals to metrics; every definition stands here once, those of quantiles beside their sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import item_sums
from tsbench.evaluation.quantiles import QuantileTotals, quantile_metrics


@dataclass(frozen=True, eq=False)
class ItemTotals:
    """Sums over the windows of each item of means over the steps ahead, `[items, C]`, in original units.

    A missing value adds nothing to them; what they are divided by to be means over points is `scored_IC`.
    """

    windows_I: np.ndarray
    """How many windows of each item were scored."""
    scored_IC: np.ndarray
    """The same by channel, where a window with holes counts by the share of its values that are there."""
    absolute_IC: np.ndarray
    squared_IC: np.ndarray
    signed_IC: np.ndarray
    """Of forecast - target: greater than zero where forecasts are too high."""
    size_IC: np.ndarray
    """Of absolute targets."""
    symmetric_IC: np.ndarray
    """Of sMAPE's terms."""
    seasonal_IC: np.ndarray
    """Of absolute errors over the seasonal error; NaN where there is none."""
    seasonal_squared_IC: np.ndarray
    """Of squared errors over the squared seasonal error; NaN where there is none."""


@dataclass(frozen=True, eq=False)
class ErrorTotals:
    """Sums in float64 over all windows of a part, `[H, C]`: never means of batch means. And by window, and by item."""

    count_HC: np.ndarray
    """Over how many windows: those with a value there."""
    squared_HC: np.ndarray
    """Of squared errors on the scaled values."""
    absolute_HC: np.ndarray
    """Of absolute errors on the scaled values."""
    original_squared_HC: np.ndarray
    """Of squared errors in original units."""
    original_absolute_HC: np.ndarray
    """Of absolute errors in original units."""
    symmetric_HC: np.ndarray
    """Of 200 |y - f| / (|y| + |f|) in original units, 0 where both are zero: sMAPE's terms, in percent."""
    squared_N: np.ndarray
    """Mean squared error of each window on the scaled values, over steps and channels; windows in their order."""
    absolute_N: np.ndarray
    """Mean absolute error of the same."""
    share_N: np.ndarray
    """How many of the steps and channels of each window are there, as a share of the mean window's: 1 without holes."""
    by_item: ItemTotals
    quantiles: QuantileTotals | None = None
    """Where the recipe has quantiles."""
    is_joined: bool = False
    """Whether `squared_N` and `absolute_N` are sums over groups of windows already, of as many as are kept."""

    @property
    def num_windows(self) -> int:
        return int(self.by_item.windows_I.sum())


class SeasonalErrors(NamedTuple):
    """The denominators of MASE and RMSSE: how wrong the last season is in sample (Hyndman and Koehler 2006).

    NaN where there is no pair of rows a season apart.
    """

    absolute_GC: np.ndarray
    """Mean absolute difference at the seasonal lag, by group of windows and channel."""
    squared_GC: np.ndarray
    """Mean squared difference of the same."""
    group_N: np.ndarray | None
    """The group of each window; None: its item."""


def seasonal_errors(test: Part, context_length: int, horizon: int) -> SeasonalErrors:
    """For every window of a part. A group is an item with its training rows, or a window with all rows before it.

    Which of both, the split says: `scaled_by_past`.
    """
    panel = test.panel
    if panel.is_mapped and not panel.split.scaled_by_past:
        return SeasonalErrors(*seasonal_differences(panel, panel.train.bounds, np.arange(len(panel.items))), None)
    origins_N = test.starts(context_length, horizon) + context_length
    item_N = panel.item_of(origins_N)
    if not panel.split.scaled_by_past:
        return SeasonalErrors(*seasonal_differences(panel, panel.train.bounds, np.arange(len(panel.items))), item_N)
    past_N2 = np.stack([panel.train.bounds[item_N, 0], origins_N], axis=1)
    return SeasonalErrors(*seasonal_differences(panel, past_N2, item_N), np.arange(len(item_N)))


def seasonal_differences(panel: Panel, rows_G2: np.ndarray, item_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean absolute and mean squared difference at the seasonal lag, `[G, C]`, NaN where there is none.

    rows_G2: first row and row after the last of stretches, each within its item `item_G`. They may overlap.
    """
    lag = panel.seasonality
    low_G = np.minimum(rows_G2[:, 0] + lag, rows_G2[:, 1])
    count_GC = (rows_G2[:, 1] - low_G)[:, None]
    if panel.has_holes:
        is_pair_TC = ~np.isnan(_differences(panel, 0, len(panel.values)))
        pairs_TC = np.concatenate([np.zeros((1, panel.num_channels), np.int64), np.cumsum(is_pair_TC, axis=0)])
        count_GC = pairs_TC[rows_G2[:, 1]] - pairs_TC[low_G]
    sums_2GC = np.zeros((2, len(rows_G2), panel.num_channels))
    for low, high in panel.stretches():
        differences_TC = np.nan_to_num(_differences(panel, low, high))
        for number, size_TC in enumerate((np.abs(differences_TC), differences_TC**2)):
            sums_2GC[number] += _sums(panel, size_TC, low, np.stack([low_G, rows_G2[:, 1]], axis=1), item_G)
    means = [np.divide(sum_GC, count_GC, out=np.full(sum_GC.shape, np.nan), where=count_GC > 0) for sum_GC in sums_2GC]
    return means[0], means[1]


def _differences(panel: Panel, low: int, high: int) -> np.ndarray:
    """To the row a season before, of the rows from `low` to before `high`, float64; 0 where that is of
    another item, NaN where one of both is missing."""
    lag = panel.seasonality
    values_TC = panel.values[max(low - lag, 0) : high]
    differences_TC = np.zeros((high - low, panel.num_channels))
    pairs = max(len(values_TC) - lag, 0)
    np.subtract(values_TC[lag:], values_TC[:-lag], out=differences_TC[high - low - pairs :], dtype=np.float64)
    rows_T = np.arange(low, high)
    differences_TC[rows_T < panel.offsets[panel.item_of(rows_T)] + lag] = 0
    return differences_TC


def _sums(panel: Panel, size_TC: np.ndarray, first: int, rows_G2: np.ndarray, item_G: np.ndarray) -> np.ndarray:
    """Sums over the rows of each group that lie among these, `[G, C]`. first: row of the panel that they begin with."""
    high = first + len(size_TC)
    own_I2 = np.stack([panel.offsets[:-1], panel.offsets[1:]], axis=1).clip(first, high) - first
    # Running sums of shares of the item's total: a small item's sums would be lost beside those of a large one.
    total_IC = item_sums(size_TC, own_I2)
    size_TC /= np.where(total_IC > 0, total_IC, 1.0)[panel.item_of(np.arange(first, high))]
    running_TC = np.concatenate([np.zeros_like(size_TC[:1]), np.cumsum(size_TC, axis=0)])
    low_G, high_G = (rows_G2.clip(first, high) - first).T
    return (running_TC[high_G] - running_TC[low_G]) * total_IC[item_G]


def metrics(totals: ErrorTotals, panel: Panel, naive2: ErrorTotals | None = None) -> dict[str, Any]:
    """All metrics of a run from its totals, by name; `note` says why one is blank.

    Overall figures are means over windows, steps and channels; mse, mae and rmse are in original units. MASE and RMSSE
    are means over items. naive2: totals of Naive2 on the same windows, where OWA is wanted.
    """
    sums = {
        "mse_scaled": totals.squared_HC,
        "mae_scaled": totals.absolute_HC,
        "mse": totals.original_squared_HC,
        "mae": totals.original_absolute_HC,
    }
    # Means over points weigh each step and channel by its windows; without holes all weights are 1.
    count_HC = totals.count_HC
    weight_HC = count_HC / count_HC.mean()
    tables = {name: sum_HC / np.maximum(count_HC, 1) * weight_HC for name, sum_HC in sums.items()}
    overall = {name: float(table.mean()) for name, table in tables.items()}
    items, by_item = totals.by_item, item_metrics(totals)
    size = items.size_IC.sum()
    mase, rmsse = (_mean_of_items(by_item[name]) for name in ("mase", "rmsse"))
    smape = float(totals.symmetric_HC.mean() / count_HC.mean())
    owa, no_owa = _owa(smape, mase, totals, naive2)
    notes = [_without_scale(items, panel), "" if size else "WAPE and bias are blank: every target is zero", no_owa]
    return {
        **overall,
        "rmse_scaled": float(np.sqrt(overall["mse_scaled"])),
        "rmse": float(np.sqrt(overall["mse"])),
        "smape": smape,
        "mase": mase,
        "rmsse": rmsse,
        "owa": owa,
        "wape": float(items.absolute_IC.sum() / size) if size else None,
        "bias": float(items.signed_IC.sum() / size) if size else None,
        "note": "; ".join(note for note in notes if note),
        "by_step": {name: (table.mean(axis=1) / weight_HC.mean(axis=1)).tolist() for name, table in tables.items()},
        "by_channel": {name: (table.mean(axis=0) / weight_HC.mean(axis=0)).tolist() for name, table in tables.items()},
        "quantiles": quantile_metrics(totals.quantiles, float(size) * len(totals.squared_HC))
        if totals.quantiles
        else None,
    }


def item_metrics(totals: ErrorTotals) -> dict[str, np.ndarray]:
    """mae, rmse, smape, mase, rmsse, wape and bias of each item, means over its channels that were scored, `[items]`.

    NaN where an item has no window, or nothing to divide by.
    """
    items = totals.by_item
    with np.errstate(divide="ignore", invalid="ignore"):
        size_I = items.size_IC.sum(axis=1)
        found = {
            "mae": _over_channels(items.absolute_IC, items.scored_IC),
            "rmse": np.sqrt(_over_channels(items.squared_IC, items.scored_IC)),
            "smape": _over_channels(items.symmetric_IC, items.scored_IC),
            "mase": _over_channels(items.seasonal_IC, items.scored_IC),
            "rmsse": _over_channels(items.seasonal_squared_IC, items.scored_IC, np.sqrt),
            "wape": items.absolute_IC.sum(axis=1) / size_I,
            "bias": items.signed_IC.sum(axis=1) / size_I,
        }
    return {name: np.where(np.isfinite(values_I), values_I, np.nan) for name, values_I in found.items()}


def _over_channels(
    sum_IC: np.ndarray, scored_IC: np.ndarray, then: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Means over the points of each channel, and then over the channels that have any, `[items]`."""
    mean_IC = then(sum_IC / scored_IC)
    if scored_IC.all():
        return mean_IC.mean(axis=1)
    return np.where(scored_IC > 0, mean_IC, 0).sum(axis=1) / (scored_IC > 0).sum(axis=1)


def _mean_of_items(values_I: np.ndarray) -> float | None:
    """Of those that have a value; None where none has. Which ones have it does not depend on the forecasts."""
    there = values_I[np.isfinite(values_I)]
    return float(there.mean()) if len(there) else None


def _owa(smape: float, mase: float | None, totals: ErrorTotals, naive2: ErrorTotals | None) -> tuple[float | None, str]:
    """Overall weighted average (M4): the mean of sMAPE and MASE, each as a share of Naive2's."""
    if totals.by_item.windows_I.max() > 1:
        return None, ""  # the protocol says so, and it is the usual case
    if mase is None or naive2 is None:
        return None, "OWA is blank: " + ("there is no MASE" if mase is None else "Naive2 was not scored")
    base_smape = float(naive2.symmetric_HC.mean() / naive2.count_HC.mean())
    base_mase = _mean_of_items(item_metrics(naive2)["mase"])
    if not (base_smape and base_mase):
        return None, "OWA is blank: Naive2 makes no error"
    return (smape / base_smape + mase / base_mase) / 2, ""


def _without_scale(items: ItemTotals, panel: Panel) -> str:
    """Which items, or which channels of a single one, have no MASE and no RMSSE, and why."""
    scored_I = items.windows_I > 0
    there_IC = items.scored_IC > 0
    short_IC, still_IC = np.isnan(items.seasonal_IC) & there_IC, np.isinf(items.seasonal_IC) & there_IC
    if len(panel.items) == 1:
        if short_IC.any():
            return "MASE is blank: " + (
                "no two training values of a channel lie a season apart"
                if panel.has_holes
                else "the training part is not longer than one season"
            )
        names = [channel for channel, still in zip(panel.channels, still_IC[0], strict=True) if still]
        repeats = f"{', '.join(names[:5])} repeats itself exactly from season to season in the training rows"
        return f"MASE is blank: {repeats}" if names else ""
    reasons = []
    for without_IC, reason in ((short_IC, "not longer than one season"), (still_IC, "the same in every season")):
        numbers = np.flatnonzero(without_IC.any(axis=1) & scored_I)
        if len(numbers):
            listed = _named([panel.items[number] for number in numbers[:8]], len(numbers))
            reasons.append(f"{len(numbers):,} of {int(scored_I.sum()):,} items ({reason}: {listed})")
    return f"MASE and RMSSE leave out {' and '.join(reasons)}" if reasons else ""


def _named(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names):,} more" if count > len(names) else "")
