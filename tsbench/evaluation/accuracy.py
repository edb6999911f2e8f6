"""Accuracy on the test split: the one place that reads test targets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsbench.data.panel import Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.errors import Diverged
from tsbench.training.forecaster import Forecaster

EVALUATION_BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class ErrorTotals:
    """Sums in float64 over all windows of a part, `[H, C]`: never means of batch means."""

    squared_HC: np.ndarray
    """Of squared errors on the scaled values."""
    absolute_HC: np.ndarray
    """Of absolute errors on the scaled values."""
    symmetric_HC: np.ndarray
    """Of 200 |y - f| / (|y| + |f|) in original units, 0 where both are zero: sMAPE's terms, in percent."""
    num_windows: int


def evaluate(
    forecaster: Forecaster, windows: Windows, scaler: Scaler, *, batch_size: int = EVALUATION_BATCH_SIZE
) -> ErrorTotals:
    """Score every window once. The totals do not depend on the batch size but for rounding.

    Raises Diverged when a forecast is not a finite number.
    """
    device = windows.starts_N.device
    sums_KHC = torch.zeros(3, windows.horizon, windows.channels, dtype=torch.float64, device=device)
    mean_C, std_C = (torch.from_numpy(part).to(device) for part in (scaler.mean, scaler.std))
    for context_BLC, target_BHC in windows.in_order(batch_size):
        forecast_BHC, target_BHC = forecaster.infer(context_BLC).double(), target_BHC.double()
        error_BHC = target_BHC - forecast_BHC
        sums_KHC[0] += error_BHC.square().sum(0)
        sums_KHC[1] += error_BHC.abs().sum(0)
        sums_KHC[2] += _symmetric(target_BHC * std_C + mean_C, forecast_BHC * std_C + mean_C).sum(0)
    if not sums_KHC.isfinite().all():
        raise Diverged("forecasts of the test part left the finite numbers; try a smaller learning_rate")
    squared_HC, absolute_HC, symmetric_HC = sums_KHC.cpu().numpy()
    return ErrorTotals(squared_HC, absolute_HC, symmetric_HC, len(windows))


def _symmetric(target: Tensor, forecast: Tensor) -> Tensor:
    size = target.abs() + forecast.abs()
    return torch.where(size > 0, 200 * (target - forecast).abs() / size, 0.0)


def sample_forecasts(
    forecaster: Forecaster, test: Part, windows: Windows, scaler: Scaler, count: int = 4
) -> dict[str, np.ndarray]:
    """Some windows, evenly spaced over the part, with their forecasts, for the eye.

    context `[W, L, C]`, target and forecast `[W, H, C]`, float32 in original units, and target_start `[W]`.
    """
    picks = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(np.int64)
    context, target = windows.batch(torch.from_numpy(picks).to(windows.starts_N.device))
    forecast = forecaster.infer(context)
    named = {"context": context, "target": target, "forecast": forecast}
    arrays = {name: scaler.invert(value.double().cpu().numpy()).astype(np.float32) for name, value in named.items()}
    rows = windows.starts_N.cpu().numpy()[picks] + windows.context_length
    return arrays | {"target_start": test.panel.timestamps[rows]}


def points_digest(test: Part, context_length: int, horizon: int) -> str:
    """Of the scored (item, timestamp, step) set: the same for every context length, model and batch size."""
    panel = test.panel
    targets = test.starts(context_length, horizon) + context_length
    item = np.searchsorted(panel.offsets, targets, side="right") - 1
    digest = hashlib.sha256(f"{panel.channels} {panel.items} horizon {horizon}".encode())
    digest.update(item.astype(np.int64).tobytes())
    digest.update(panel.timestamps[targets].astype("datetime64[ns]").tobytes())
    return digest.hexdigest()[:16]
