"""Accuracy on the test split: the one place that reads test targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
MAX_KEPT_LOSSES = 2048
"""Values kept per run and kind of loss: 16 KiB of float32 for two kinds, whatever the length of the test part."""


@dataclass(frozen=True, eq=False)
class ErrorTotals:
    """Sums in float64 over all windows of a part, `[H, C]`: never means of batch means. And means by window, `[N]`."""

    squared_HC: np.ndarray
    """Of squared errors on the scaled values."""
    absolute_HC: np.ndarray
    """Of absolute errors on the scaled values."""
    symmetric_HC: np.ndarray
    """Of 200 |y - f| / (|y| + |f|) in original units, 0 where both are zero: sMAPE's terms, in percent."""
    squared_N: np.ndarray
    """Mean squared error of each window on the scaled values, over steps and channels; windows in their order."""
    absolute_N: np.ndarray
    """Mean absolute error of the same."""

    @property
    def num_windows(self) -> int:
        return len(self.squared_N)


def evaluate(
    forecaster: Forecaster,
    windows: Windows,
    scaler: Scaler,
    *,
    batch_size: int = EVALUATION_BATCH_SIZE,
    look: Callable[[Tensor, Tensor], None] | None = None,
) -> ErrorTotals:
    """Score every window once. The totals do not depend on the batch size but for rounding.

    look: is shown target and forecast of every batch, float64 on scaled values, in the order of the windows.
    Raises Diverged when a forecast is not a finite number.
    """
    device = windows.starts_N.device
    sums_KHC = torch.zeros(3, windows.horizon, windows.channels, dtype=torch.float64, device=device)
    by_window: list[Tensor] = []
    mean_C, std_C = (torch.from_numpy(part).to(device) for part in (scaler.mean, scaler.std))
    for context_BLC, target_BHC in windows.in_order(batch_size):
        forecast_BHC, target_BHC = forecaster.infer(context_BLC).double(), target_BHC.double()
        if look:
            look(target_BHC, forecast_BHC)
        error_BHC = target_BHC - forecast_BHC
        squared_BHC, absolute_BHC = error_BHC.square(), error_BHC.abs()
        sums_KHC[0] += squared_BHC.sum(0)
        sums_KHC[1] += absolute_BHC.sum(0)
        by_window.append(torch.stack([squared_BHC.mean((1, 2)), absolute_BHC.mean((1, 2))]))
        sums_KHC[2] += _symmetric(target_BHC * std_C + mean_C, forecast_BHC * std_C + mean_C).sum(0)
    if not sums_KHC.isfinite().all():
        raise Diverged("forecasts of the test part left the finite numbers; try a smaller learning_rate")
    squared_HC, absolute_HC, symmetric_HC = sums_KHC.cpu().numpy()
    squared_N, absolute_N = torch.cat(by_window, dim=1).cpu().numpy()
    return ErrorTotals(squared_HC, absolute_HC, symmetric_HC, squared_N, absolute_N)


def _symmetric(target: Tensor, forecast: Tensor) -> Tensor:
    size = target.abs() + forecast.abs()
    return torch.where(size > 0, 200 * (target - forecast).abs() / size, 0.0)


def kept_losses(
    totals: ErrorTotals, test: Part, context_length: int, horizon: int, limit: int = MAX_KEPT_LOSSES
) -> dict[str, np.ndarray]:
    """The losses that paired tests rest on, in the order of time, float32 `[M]` with M at most `limit`.

    One value is one origin, the time at which a forecast starts. Items that share an origin are joined, because they
    share its weather; then as many neighbours as the limit asks for, `origins_per_loss`. Each value is a sum over what
    was joined, divided by the mean size of such a group: the mean of the values is the error over all windows.
    """
    rows = test.starts(context_length, horizon) + context_length
    origins, which_N = np.unique(test.panel.timestamps[rows], return_inverse=True)
    together = -(-len(origins) // limit)
    group_N = which_N // together
    size = totals.num_windows / (group_N.max() + 1)
    kept = {"squared_loss": totals.squared_N, "absolute_loss": totals.absolute_N}
    losses = {name: (np.bincount(group_N, loss_N) / size).astype(np.float32) for name, loss_N in kept.items()}
    return losses | {"origins_per_loss": np.array(together)}


def sample_forecasts(forecaster: Forecaster, test: Part, windows: Windows, scaler: Scaler) -> dict[str, np.ndarray]:
    """Some windows with their forecasts, for the eye: the same for every model, see `chosen_windows`.

    context `[W, L, C]`, target and forecast `[W, H, C]`, float32 in original units; and `[W]`: target_start, item,
    channel (the number of the one to look at) and chosen_as.
    """
    chosen_as, picks, channels = chosen_windows(windows, test.panel.seasonality)
    context, target = windows.batch(torch.from_numpy(picks).to(windows.starts_N.device))
    forecast = forecaster.infer(context)
    named = {"context": context, "target": target, "forecast": forecast}
    arrays = {name: scaler.invert(value.double().cpu().numpy()).astype(np.float32) for name, value in named.items()}
    rows = windows.starts_N.cpu().numpy()[picks] + windows.context_length
    items = np.array(test.panel.items)[np.searchsorted(test.panel.offsets, rows, side="right") - 1]
    return arrays | {
        "target_start": test.panel.timestamps[rows],
        "item": items,
        "channel": channels,
        "chosen_as": np.array(chosen_as),
    }


def chosen_windows(windows: Windows, seasonality: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Why, which windows `[W]`, and which channel of each `[W]`: a choice that no model has a part in.

    Of all windows and channels those that repeating the last season forecasts best, in the middle and worst (squared
    error on scaled values; the last value where the context is shorter than a season); then three windows evenly spaced
    over the part, the channels in turn.
    """
    loss_NC = np.concatenate([_seasonal_loss(*batch, seasonality) for batch in windows.in_order(EVALUATION_BATCH_SIZE)])
    loss = loss_NC.ravel()
    middle = int(np.argpartition(loss, len(loss) // 2)[len(loss) // 2])
    picks = [divmod(place, loss_NC.shape[1]) for place in (int(loss.argmin()), middle, int(loss.argmax()))]
    spaced = np.unique(np.linspace(0, len(windows) - 1, 3).round().astype(int))
    picks += [(int(window), turn % loss_NC.shape[1]) for turn, window in enumerate(spaced)]
    chosen_as = [*("easiest", "median", "hardest"), *("evenly spaced" for _ in spaced)]
    return chosen_as, np.array([window for window, _ in picks]), np.array([channel for _, channel in picks])


def _seasonal_loss(context_BLC: Tensor, target_BHC: Tensor, seasonality: int) -> np.ndarray:
    """`[B, C]`: mean squared error of the last season repeated."""
    length, horizon = context_BLC.shape[1], target_BHC.shape[1]
    season = seasonality if seasonality <= length else 1
    row_H = length - season + torch.arange(horizon, device=context_BLC.device) % season
    return (target_BHC - context_BLC.index_select(1, row_H)).square().mean(1).cpu().numpy()


def points_digest(test: Part, context_length: int, horizon: int) -> str:
    """Of the scored (item, timestamp, step) set: the same for every context length, model and batch size."""
    panel = test.panel
    targets = test.starts(context_length, horizon) + context_length
    item = np.searchsorted(panel.offsets, targets, side="right") - 1
    digest = hashlib.sha256(f"{panel.channels} {panel.items} horizon {horizon}".encode())
    digest.update(item.astype(np.int64).tobytes())
    digest.update(panel.timestamps[targets].astype("datetime64[ns]").tobytes())
    return digest.hexdigest()[:16]
