"""From totals to metrics. NumPy only; every definition stands here once."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsbench.data.panel import Part
from tsbench.data.scaling import Scaler


def seasonal_scale(train: Part, seasonality: int) -> np.ndarray:
    """The denominator of MASE by channel, `[C]`: in-sample mean absolute difference at the seasonal lag.

    Over the training rows, item by item (Hyndman and Koehler 2006). NaN where no item is longer than the lag.
    """
    panel = train.panel
    total, count = np.zeros(panel.num_channels), 0
    for low, high in train.bounds:
        rows = panel.values[low:high].astype(np.float64)
        differences = np.abs(rows[seasonality:] - rows[:-seasonality])
        total, count = total + differences.sum(axis=0), count + len(differences)
    return total / count if count else np.full(panel.num_channels, np.nan)


def metrics(
    squared_HC: np.ndarray,
    absolute_HC: np.ndarray,
    symmetric_HC: np.ndarray,
    num_windows: int,
    scaler: Scaler,
    train: Part,
) -> dict[str, Any]:
    """All metrics of a run from its totals (see ErrorTotals), by name; `note` says why one is blank.

    Overall figures are means over windows, steps and channels; mse, mae and rmse are in original units.
    """
    squared, absolute = squared_HC / num_windows, absolute_HC / num_windows
    original_squared, original_absolute = squared * scaler.std**2, absolute * scaler.std
    tables = {"mse_scaled": squared, "mae_scaled": absolute, "mse": original_squared, "mae": original_absolute}
    mase, note = _mase(
        original_absolute.mean(axis=0), seasonal_scale(train, train.panel.seasonality), train.panel.channels
    )
    overall = {name: float(table.mean()) for name, table in tables.items()}
    return {
        **overall,
        "rmse_scaled": float(np.sqrt(overall["mse_scaled"])),
        "rmse": float(np.sqrt(overall["mse"])),
        "smape": float(symmetric_HC.mean() / num_windows),
        "mase": mase,
        "note": note,
        "by_step": {name: table.mean(axis=1).tolist() for name, table in tables.items()},
        "by_channel": {name: table.mean(axis=0).tolist() for name, table in tables.items()},
    }


def _mase(mae_C: np.ndarray, scale_C: np.ndarray, channels: tuple[str, ...]) -> tuple[float | None, str]:
    """Mean over channels, or None and the reason: a channel left out would make the figure look better than it is."""
    if np.isnan(scale_C).any():
        return None, "MASE is blank: the training part is not longer than one season"
    constant = [channel for channel, scale in zip(channels, scale_C, strict=True) if scale == 0]
    if constant:
        named = ", ".join(constant[:5])
        return None, f"MASE is blank: {named} repeats itself exactly from season to season in the training rows"
    return float((mae_C / scale_C).mean()), ""
