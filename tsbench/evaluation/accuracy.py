"""Accuracy on the test split: the one place that reads test targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tsbench.data.panel import Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.errors import Diverged
from tsbench.evaluation.metrics import ErrorTotals, ItemTotals, SeasonalErrors
from tsbench.evaluation.quantiles import QuantileSums

EVALUATION_BATCH_SIZE = 256
MAX_KEPT_LOSSES = 2048
"""Values kept per run and kind of loss: 16 KiB of float32 for two kinds, whatever the length of the test part."""


class Forecasts(Protocol):
    """Whatever gives quantiles `[B, H, C, Q]` for contexts `[B, L, C]`, both scaled: a `Forecaster`, or a file.

    The one in the middle is the forecast; it is alone where there are no levels.
    """

    @property
    def reads_history(self) -> bool:
        """Whether it is given all rows of the item before the targets, in original units, instead of a context."""
        ...

    @property
    def levels(self) -> Sequence[float]:
        """Of the quantiles, if it gives any."""
        ...

    def infer_quantiles(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor: ...


def evaluate(
    forecaster: Forecasts,
    windows: Windows,
    scaler: Scaler,
    seasonal: SeasonalErrors | None = None,
    *,
    batch_size: int = EVALUATION_BATCH_SIZE,
    look: Callable[[Tensor, Tensor], None] | None = None,
) -> ErrorTotals:
    """Score every window once. The totals do not depend on the batch size but for rounding.

    seasonal: of these windows; None: there will be no MASE. look: is shown target and forecast of every batch, float64
    on scaled values, in the order of the windows. Raises Diverged when a forecast is not a finite number.
    """
    device, channels, num_items = windows.starts_N.device, windows.channels, windows.num_items
    sums_KHC = torch.zeros(5, windows.horizon, channels, dtype=torch.float64, device=device)
    items_KIC = torch.zeros(7, num_items, channels, dtype=torch.float64, device=device)
    by_window: list[Tensor] = []
    levels = forecaster.levels
    quantile_sums = QuantileSums(levels, windows.horizon, device) if levels else None
    if seasonal is None:
        none_GC = np.full((1, channels), np.nan)
        seasonal = SeasonalErrors(none_GC, none_GC, np.zeros(len(windows), dtype=np.int64))
    scale_KGC = torch.from_numpy(np.stack([seasonal.absolute_GC, seasonal.squared_GC])).to(device)
    group_N = torch.from_numpy(seasonal.group_N).to(device)
    for picks_B in torch.arange(len(windows), device=device).split(batch_size):
        quantiles_BHCQ, target_BHC, mean, std = quantiles_and_target(forecaster, windows, scaler, picks_B)
        forecast_BHC = median_of(quantiles_BHCQ)
        if quantile_sums:
            quantile_sums.add(quantiles_BHCQ, target_BHC, std)
        if look:
            look(target_BHC, forecast_BHC)
        error_BHC = forecast_BHC - target_BHC
        squared_BHC, absolute_BHC = error_BHC.square(), error_BHC.abs()
        by_window.append(torch.stack([squared_BHC.mean((1, 2)), absolute_BHC.mean((1, 2))]))
        size_BHC = (target_BHC * std + mean).abs()
        symmetric_BHC = _symmetric(target_BHC * std + mean, forecast_BHC * std + mean)
        original = (squared_BHC * std**2, absolute_BHC * std)
        for number, each_BHC in enumerate((squared_BHC, absolute_BHC, *original, symmetric_BHC)):
            sums_KHC[number] += each_BHC.sum(0)
        squared_BC, absolute_BC = (each_BHC.mean(1) for each_BHC in original)
        absolute_scale_BC, squared_scale_BC = scale_KGC[:, group_N[picks_B]]
        parts = (
            absolute_BC,
            squared_BC,
            (error_BHC * std).mean(1),
            size_BHC.mean(1),
            symmetric_BHC.mean(1),
            _over(absolute_BC, absolute_scale_BC),
            _over(squared_BC, squared_scale_BC),
        )
        items_KIC.index_add_(1, windows.items_N[picks_B], torch.stack(parts))
    if not sums_KHC.isfinite().all():
        raise Diverged("forecasts of the test part left the finite numbers; try a smaller learning_rate")
    squared_N, absolute_N = torch.cat(by_window, dim=1).cpu().numpy()
    counts_I = torch.bincount(windows.items_N, minlength=num_items).cpu().numpy()
    squared_HC, absolute_HC, original_squared_HC, original_absolute_HC, symmetric_HC = sums_KHC.cpu().numpy()
    return ErrorTotals(
        squared_HC,
        absolute_HC,
        original_squared_HC,
        original_absolute_HC,
        symmetric_HC,
        squared_N,
        absolute_N,
        ItemTotals(counts_I, *items_KIC.cpu().numpy()),
        quantile_sums.totals() if quantile_sums else None,
    )


def quantiles_and_target(
    forecaster: Forecasts, windows: Windows, scaler: Scaler, picks_B: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaled quantiles `[B, H, C, Q]` and target `[B, H, C]`, float64, and mean and spread that undo the scaling.

    Without quantiles in the recipe there is one: the forecast.
    """
    context_BLC, target_BHC, *covariates = windows.batch(picks_B)
    items_B1 = windows.items_N[picks_B][:, None].cpu().numpy()
    mean, std = (torch.as_tensor(part).to(target_BHC.device) for part in scaler.at(items_B1))
    if not forecaster.reads_history:
        return forecaster.infer_quantiles(context_BLC, *covariates).double(), target_BHC.double(), mean, std
    quantiles_BHCQ = forecaster.infer_quantiles(windows.histories(picks_B).double() * std + mean).double()
    return (quantiles_BHCQ - mean.unsqueeze(-1)) / std.unsqueeze(-1), target_BHC.double(), mean, std


def median_of(quantiles_BHCQ: Tensor) -> Tensor:
    return quantiles_BHCQ[..., quantiles_BHCQ.shape[-1] // 2]


def _symmetric(target: Tensor, forecast: Tensor) -> Tensor:
    size = target.abs() + forecast.abs()
    return torch.where(size > 0, 200 * (target - forecast).abs() / size, 0.0)


def _over(error: Tensor, scale: Tensor) -> Tensor:
    """Infinite over zero, also for no error: whether there is a value must not depend on the forecasts."""
    return torch.where(scale == 0, torch.inf, error / scale)


def kept_losses(
    totals: ErrorTotals, test: Part, context_length: int, horizon: int, limit: int = MAX_KEPT_LOSSES
) -> dict[str, np.ndarray]:
    """The losses that paired tests rest on, in the order of time, float32 `[M]` with M at most `limit`.

    One value is one origin, the time at which a forecast starts. Items that share an origin are joined, because they
    share its weather; then as many neighbours as the limit asks for, `origins_per_loss`. Each value is a sum over what
    was joined, divided by the mean size of such a group: the mean of the values is the error over all windows.
    `overlap` consecutive values have targets that share a row.
    """
    rows = test.starts(context_length, horizon) + context_length
    origins, which_N = np.unique(test.panel.timestamps[rows], return_inverse=True)
    together = -(-len(origins) // limit)
    group_N = which_N // together
    size = totals.num_windows / (group_N.max() + 1)
    kept = {"squared_loss": totals.squared_N, "absolute_loss": totals.absolute_N}
    losses = {name: (np.bincount(group_N, loss_N) / size).astype(np.float32) for name, loss_N in kept.items()}
    first_M, last_M = origins[::together], origins[::together].copy()
    np.maximum.at(last_M, group_N, test.panel.timestamps[rows + horizon - 1])
    overlap = np.searchsorted(first_M, last_M, side="right") - np.arange(len(first_M))
    return losses | {"origins_per_loss": np.array(together), "overlap": overlap.max()}


def sample_forecasts(forecaster: Forecasts, test: Part, windows: Windows, scaler: Scaler) -> dict[str, np.ndarray]:
    """Some windows with their forecasts, for the eye: the same for every model, see `chosen_windows`.

    context `[W, L, C]`, target and forecast `[W, H, C]`, float32 in original units; and `[W]`: target_start, item,
    channel (the number of the one to look at) and chosen_as. Where there are quantiles, these as well, `[W, H, C, Q]`.
    """
    chosen_as, picks, channels = chosen_windows(windows, test.panel.seasonality)
    picks_W = torch.from_numpy(picks).to(windows.starts_N.device)
    quantiles, target, mean, std = quantiles_and_target(forecaster, windows, scaler, picks_W)
    context, *_ = windows.batch(picks_W)
    named = {"context": context, "target": target, "forecast": median_of(quantiles)}
    named = {name: value * std + mean for name, value in named.items()}
    if forecaster.levels:
        named["quantiles"] = quantiles * std.unsqueeze(-1) + mean.unsqueeze(-1)
    arrays = {name: value.cpu().numpy().astype(np.float32) for name, value in named.items()}
    rows = windows.starts_N.cpu().numpy()[picks] + windows.context_length
    return arrays | {
        "target_start": test.panel.timestamps[rows],
        "item": np.array(test.panel.items)[test.panel.item_of(rows)],
        "channel": channels,
        "chosen_as": np.array(chosen_as),
    }


def chosen_windows(windows: Windows, seasonality: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Why, which windows `[W]`, and which channel of each `[W]`: a choice that no model has a part in.

    Of all windows and channels those that repeating the last season forecasts best, in the middle and worst (squared
    error on scaled values; the last value where the context is shorter than a season); then three windows evenly spaced
    over the part, the channels in turn.
    """
    batches = windows.in_order(EVALUATION_BATCH_SIZE)
    loss_NC = np.concatenate([_seasonal_loss(context, target, seasonality) for context, target, *_ in batches])
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
