"""Accuracy on the test split: the one place that reads test targets."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tsbench.data.mapped import RegularStamps
from tsbench.data.panel import Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows, evenly_spaced_runs
from tsbench.errors import Diverged
from tsbench.evaluation.metrics import ErrorTotals, ItemTotals, SeasonalErrors
from tsbench.evaluation.quantiles import QuantileSums

EVALUATION_BATCH_SIZE = 256
MAX_KEPT_LOSSES = 2048
"""Values kept per run and kind of loss: 16 KiB of float32 for two kinds, whatever the length of the test part."""
_TINY = torch.finfo(torch.float64).tiny


MOST_LOOKED_AT = 1 << 22
"""Windows times channels among which those to be shown are chosen."""


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
    joined: JoinedLosses | None = None,
) -> ErrorTotals:
    """Score every window once. The totals do not depend on the batch size but for rounding. Missing values add nothing.

    seasonal: of these windows; None: there will be no MASE. look: is shown target and forecast of every batch, float64
    on scaled values, in the order of the windows; targets are NaN where a value is missing. joined: gets the losses of
    windows, where they are too many to be returned. Raises Diverged when a forecast is not a finite number.
    """
    device, channels, num_items = windows.device, windows.channels, windows.num_items
    sums_KHC = torch.zeros(5, windows.horizon, channels, dtype=torch.float64, device=device)
    items_KIC = torch.zeros(7, num_items, channels, dtype=torch.float64, device=device)
    counts_I = torch.zeros(num_items, dtype=torch.int64, device=device)
    by_window: list[Tensor] = []
    levels = forecaster.levels
    quantile_sums = QuantileSums(levels, windows.horizon, device) if levels else None
    if seasonal is None:
        none_IC = np.full((num_items, channels), np.nan)
        seasonal = SeasonalErrors(none_IC, none_IC, None)
    scale_KGC = torch.from_numpy(np.stack([seasonal.absolute_GC, seasonal.squared_GC])).to(device)
    group_N = None if seasonal.group_N is None else torch.from_numpy(seasonal.group_N).to(device)
    for number, block, picks_B in _batches(windows, batch_size):
        quantiles_BHCQ, target_BHC, mean, std = quantiles_and_target(forecaster, block, scaler, picks_B)
        forecast_BHC = median_of(quantiles_BHCQ)
        is_there_BHC = ~target_BHC.isnan() if windows.has_holes else None
        if quantile_sums:
            quantile_sums.add(quantiles_BHCQ, target_BHC, std, is_there_BHC)
        if look:
            look(target_BHC, forecast_BHC)
        error_BHC, size_BHC, relative_BHC = _terms(forecast_BHC, target_BHC, mean, std, is_there_BHC)
        squared_BHC, absolute_BHC = error_BHC.square(), error_BHC.abs()
        each: tuple[Tensor, ...] = (squared_BHC, absolute_BHC, relative_BHC)
        if scaler.is_by_item:
            each += (squared_BHC * std**2, absolute_BHC * std)
        for sum_HC, each_BHC in zip(sums_KHC, each, strict=False):
            sum_HC += each_BHC.sum(0)
        squared_BC, absolute_BC = squared_BHC.mean(1), absolute_BHC.mean(1)
        losses_2B = torch.stack([squared_BC.mean(1), absolute_BC.mean(1)])
        if joined:
            joined.add(number, losses_2B.cpu().numpy())
        else:
            by_window.append(losses_2B)
        std_BC = std.squeeze(1) if scaler.is_by_item else std
        squared_BC, absolute_BC = squared_BC * std_BC**2, absolute_BC * std_BC
        items_B = block.items_N[picks_B]
        groups_B = items_B if group_N is None else group_N[number : number + len(picks_B)]
        absolute_scale_BC, squared_scale_BC = scale_KGC[:, groups_B]
        parts = (
            absolute_BC,
            squared_BC,
            error_BHC.mean(1) * std_BC,
            size_BHC.mean(1),
            200 * relative_BHC.mean(1),
            _over(absolute_BC, absolute_scale_BC),
            _over(squared_BC, squared_scale_BC),
        )
        items_KIC.index_add_(1, items_B, torch.stack(parts))
        counts_I.index_add_(0, items_B, torch.ones_like(items_B))
    if not sums_KHC.isfinite().all():
        raise Diverged("forecasts of the test part left the finite numbers; try a smaller learning_rate")
    squared_N, absolute_N = joined.sums_2M if joined else torch.cat(by_window, dim=1).cpu().numpy()
    windows_I = counts_I.cpu().numpy()
    count_HC, share_N, scored_IC = _scored(windows, windows_I, len(squared_N), batch_size)
    squared_HC, absolute_HC, relative_HC, original_squared_HC, original_absolute_HC = sums_KHC.cpu().numpy()
    if not scaler.is_by_item:
        original_squared_HC, original_absolute_HC = squared_HC * scaler.std**2, absolute_HC * scaler.std
    return ErrorTotals(
        count_HC,
        squared_HC,
        absolute_HC,
        original_squared_HC,
        original_absolute_HC,
        200 * relative_HC,
        squared_N / share_N,
        absolute_N / share_N,
        share_N / share_N.mean(),
        ItemTotals(windows_I, scored_IC, *items_KIC.cpu().numpy()),
        quantile_sums.totals() if quantile_sums else None,
        is_joined=joined is not None,
    )


def _terms(
    forecast_BHC: Tensor, target_BHC: Tensor, mean: Tensor, std: Tensor, is_there_BHC: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled error, size of the target in original units, and |y - f| / (|y| + |f|); 0 where a value is missing."""
    error_BHC = forecast_BHC - target_BHC
    size_BHC = (target_BHC * std).add_(mean).abs_()
    # Where both are zero so is the quotient: 0 over the smallest number, which takes one pass less than asking.
    both_BHC = (forecast_BHC * std).add_(mean).abs_().add_(size_BHC).clamp_(min=_TINY)
    relative_BHC = (error_BHC.abs() * std).div_(both_BHC)
    if is_there_BHC is None:
        return error_BHC, size_BHC, relative_BHC
    there, size, relative = (each.where(is_there_BHC, 0.0) for each in (error_BHC, size_BHC, relative_BHC))
    return there, size, relative


def _batches(windows: Windows, batch_size: int) -> Iterator[tuple[int, Windows, Tensor]]:
    """All windows in order: the number of a batch's first one, the block that it lies in, and its numbers there."""
    for first, block in windows.blocks():
        for low, picks_B in enumerate(torch.arange(len(block), device=windows.device).split(batch_size)):
            yield first + low * batch_size, block, picks_B


def _scored(
    windows: Windows, windows_I: np.ndarray, num_losses: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many values there are: windows by step and channel `[H, C]`, the share of each window `[N]`, and windows by
    item and channel `[items, C]`, where one with holes counts by its share.

    windows_I: of each item. num_losses: as many as there are windows, or fewer where they are joined.
    """
    horizon, channels = windows.horizon, windows.channels
    windows_IC = np.repeat(windows_I[:, None], channels, axis=1).astype(np.float64)
    if not windows.has_holes:
        return np.full((horizon, channels), float(len(windows))), np.ones(num_losses), windows_IC
    count_HC, there_IC = np.zeros((horizon, channels)), np.zeros_like(windows_IC)
    share_N, items_N = np.empty(len(windows)), windows.items_N.cpu().numpy()
    for numbers_B in np.split(np.arange(len(windows)), range(batch_size, len(windows), batch_size)):
        is_there_BHC = ~windows.batch(torch.from_numpy(numbers_B).to(windows.device))[1].isnan().cpu().numpy()
        count_HC += is_there_BHC.sum(0)
        share_N[numbers_B] = is_there_BHC.mean((1, 2))
        np.add.at(there_IC, items_N[numbers_B], is_there_BHC.sum(1))
    return count_HC, share_N, there_IC / horizon


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
        pieces = zip(*(part.split(windows.at_a_time) for part in (context_BLC, *covariates)), strict=True)
        quantiles_BHCQ = torch.cat([forecaster.infer_quantiles(*piece) for piece in pieces])
        return quantiles_BHCQ.double(), target_BHC.double(), mean, std
    quantiles_BHCQ = forecaster.infer_quantiles(windows.histories(picks_B).double() * std + mean).double()
    return (quantiles_BHCQ - mean.unsqueeze(-1)) / std.unsqueeze(-1), target_BHC.double(), mean, std


def median_of(quantiles_BHCQ: Tensor) -> Tensor:
    return quantiles_BHCQ[..., quantiles_BHCQ.shape[-1] // 2]


def _over(error: Tensor, scale: Tensor) -> Tensor:
    """Infinite over zero, also for no error: whether there is a value must not depend on the forecasts."""
    return torch.where(scale == 0, torch.inf, error / scale)


def kept_losses(
    totals: ErrorTotals, test: Part, context_length: int, horizon: int, limit: int = MAX_KEPT_LOSSES
) -> dict[str, np.ndarray]:
    """The losses that paired tests rest on, in the order of time, float32 `[M]` with M at most `limit`.

    One value is one origin, the time at which a forecast starts. Items that share an origin are joined, because they
    share its weather; then as many neighbours as the limit asks for, `origins_per_loss`. Each value is a sum over what
    was joined, divided by the mean size of such a group: the mean of the values is the error over all points. A window
    with holes counts by its share of them. `overlap` consecutive values have targets that share a row.
    """
    if totals.is_joined:
        joined = JoinedLosses(test, context_length, horizon, limit)
        size = totals.num_windows / len(totals.squared_N)
        sums = {"squared_loss": totals.squared_N, "absolute_loss": totals.absolute_N}
        losses = {name: (sums_M / size).astype(np.float32) for name, sums_M in sums.items()}
        return losses | {"origins_per_loss": np.array(joined.together), "overlap": np.array(joined.overlap(horizon))}
    rows = test.starts(context_length, horizon) + context_length
    origins, which_N = np.unique(test.panel.timestamps[rows], return_inverse=True)
    together = -(-len(origins) // limit)
    group_N = which_N // together
    size = totals.num_windows / (group_N.max() + 1)
    kept = {"squared_loss": totals.squared_N, "absolute_loss": totals.absolute_N}
    losses = {name: np.bincount(group_N, loss_N * totals.share_N) / size for name, loss_N in kept.items()}
    losses = {name: loss_M.astype(np.float32) for name, loss_M in losses.items()}
    first_M, last_M = origins[::together], origins[::together].copy()
    np.maximum.at(last_M, group_N, test.panel.timestamps[rows + horizon - 1])
    overlap = np.searchsorted(first_M, last_M, side="right") - np.arange(len(first_M))
    return losses | {"origins_per_loss": np.array(together), "overlap": overlap.max()}


class JoinedLosses:
    """The losses of windows, joined as `kept_losses` joins them while they come: of a mapped panel.

    Which origins there are follows from the clock: each item's are evenly spaced, so that stretches of them are merged,
    not the origins themselves. Only where the clocks of items do not meet are all of them written out.
    """

    def __init__(self, test: Part, context_length: int, horizon: int, limit: int = MAX_KEPT_LOSSES) -> None:
        stamps = test.panel.timestamps
        assert isinstance(stamps, RegularStamps)
        self._stamps, self._starts = stamps, test.window_starts(context_length, horizon)
        self._context_length = context_length
        have = self._starts.counts_I > 0
        counts = self._starts.counts_I[have]
        firsts = stamps.ticks(self._starts.low_I[have] + context_length)
        self._first, self._step = firsts.min(), stamps.ticks_per_row * self._starts.stride
        places, rest = np.divmod(firsts - self._first, self._step)
        if rest.any():
            every = stamps.ticks(self._starts.all() + context_length) - self._first
            places, self._step = np.unique(every), 1
            counts = np.ones(len(places), np.int64)
        self._lows, ends = _merged(places, places + counts)
        self._before = np.cumsum(ends - self._lows) - (ends - self._lows)
        self._num_origins = int((ends - self._lows).sum())
        self.together = -(-self._num_origins // limit)
        self.sums_2M = np.zeros((2, -(-self._num_origins // self.together)))

    def overlap(self, horizon: int) -> int:
        """How many consecutive values have targets that share a row."""
        first_M = np.arange(0, self._num_origins, self.together)
        last_M = np.minimum(first_M + self.together, self._num_origins) - 1
        last_rows = self._ticks_of(last_M) + (horizon - 1) * self._stamps.ticks_per_row
        return int((np.searchsorted(self._ticks_of(first_M), last_rows, side="right") - np.arange(len(first_M))).max())

    def _ticks_of(self, origins: np.ndarray) -> np.ndarray:
        """Where origins lie on the clock, by their place in the order of time."""
        merged = np.searchsorted(self._before, origins, side="right") - 1
        return (self._lows[merged] + origins - self._before[merged]) * self._step

    def add(self, number: int, losses_2B: np.ndarray) -> None:
        """Of the windows from this number on."""
        starts_B, _ = self._starts.at(np.arange(number, number + losses_2B.shape[1]))
        places_B = (self._stamps.ticks(starts_B + self._context_length) - self._first) // self._step
        merged_B = np.searchsorted(self._lows, places_B, side="right") - 1
        group_B = (self._before[merged_B] + places_B - self._lows[merged_B]) // self.together
        for sums_M, loss_B in zip(self.sums_2M, losses_2B, strict=True):
            sums_M += np.bincount(group_B, loss_B, minlength=len(sums_M))


def _merged(lows: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of whole numbers with those that touch each other joined, rising."""
    order = np.argsort(lows, kind="stable")
    lows, reached = lows[order], np.maximum.accumulate(ends[order])
    begins = np.append(True, lows[1:] > reached[:-1])
    return lows[begins], reached[np.append(np.flatnonzero(begins)[1:], len(lows)) - 1]


def sample_forecasts(forecaster: Forecasts, test: Part, windows: Windows, scaler: Scaler) -> dict[str, np.ndarray]:
    """Some windows with their forecasts, for the eye: the same for every model, see `chosen_windows`.

    context `[W, L, C]` as models see it, target (NaN where a value is missing) and forecast `[W, H, C]`, float32 in
    original units; and `[W]`: target_start, item, channel (the number of the one to look at) and chosen_as. Where there
    are quantiles, these as well, `[W, H, C, Q]`.
    """
    chosen_as, picks, channels = chosen_windows(windows, test.panel.seasonality)
    chosen = windows.only(torch.from_numpy(picks).to(windows.device))
    all_W = torch.arange(len(chosen), device=windows.device)
    quantiles, target, mean, std = quantiles_and_target(forecaster, chosen, scaler, all_W)
    context, *_ = chosen.batch(all_W)
    named = {"context": context, "target": target, "forecast": median_of(quantiles)}
    named = {name: value * std + mean for name, value in named.items()}
    if forecaster.levels:
        named["quantiles"] = quantiles * std.unsqueeze(-1) + mean.unsqueeze(-1)
    arrays = {name: value.cpu().numpy().astype(np.float32) for name, value in named.items()}
    starts, items = test.window_starts(windows.context_length, windows.horizon).at(picks)
    return arrays | {
        "target_start": test.panel.timestamps[starts + windows.context_length],
        "item": np.array(test.panel.items)[items],
        "channel": channels,
        "chosen_as": np.array(chosen_as),
    }


def chosen_windows(windows: Windows, seasonality: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Why, which windows `[W]`, and which channel of each `[W]`: a choice that no model has a part in.

    Of all windows and channels (where they are more than four million: of about as many, in evenly spaced runs) those
    that repeating the last season forecasts best, in the middle and worst (squared error on scaled values; the last
    value where the context is shorter than a season); then three windows evenly spaced over the part, the channels in
    turn.
    """
    asked = evenly_spaced_runs(len(windows), MOST_LOOKED_AT // windows.channels)
    some = (windows.only(torch.arange(*run, device=windows.device)) for run in asked)
    parts = [windows] if asked == [(0, len(windows))] else some
    batches = (batch for part in parts for batch in part.in_order(part.at_a_time))
    number_N = np.concatenate([np.arange(*run) for run in asked])
    # In one piece: small arrays that stay would keep the memory of what is freed around them from further use.
    loss_NC, seen = np.empty((len(number_N), windows.channels), np.float32), 0
    for context, target, *_ in batches:
        loss_NC[seen : seen + len(context)] = _seasonal_loss(context, target, seasonality)
        seen += len(context)
    loss = loss_NC.ravel()
    there = np.flatnonzero(~np.isnan(loss))  # not of a channel without a value in the window
    middle = int(np.argpartition(loss[there], len(there) // 2)[len(there) // 2])
    chosen = there[[int(loss[there].argmin()), middle, int(loss[there].argmax())]]
    places = [divmod(int(place), loss_NC.shape[1]) for place in chosen]
    picks = [(int(number_N[window]), channel) for window, channel in places]
    spaced = np.unique(np.linspace(0, len(windows) - 1, 3).round().astype(int))
    picks += [(int(window), turn % loss_NC.shape[1]) for turn, window in enumerate(spaced)]
    chosen_as = [*("easiest", "median", "hardest"), *("evenly spaced" for _ in spaced)]
    return chosen_as, np.array([window for window, _ in picks]), np.array([channel for _, channel in picks])


def _seasonal_loss(context_BLC: Tensor, target_BHC: Tensor, seasonality: int) -> np.ndarray:
    """`[B, C]`: mean squared error of the last season repeated."""
    length, horizon = context_BLC.shape[1], target_BHC.shape[1]
    season = seasonality if seasonality <= length else 1
    row_H = length - season + torch.arange(horizon, device=context_BLC.device) % season
    return (target_BHC - context_BLC.index_select(1, row_H)).square().nanmean(1).cpu().numpy()


def points_digest(test: Part, context_length: int, horizon: int) -> str:
    """Of the scored (item, timestamp, step) set and what is missing in it: the same for every context length, model and
    batch size."""
    panel, starts = test.panel, test.window_starts(context_length, horizon)
    digest = hashlib.sha256(f"{panel.channels} {panel.items} horizon {horizon}".encode())
    ends = [(low, min(low + _DIGESTED, len(starts))) for low in range(0, len(starts), _DIGESTED)]
    for numbers in itertools.starmap(np.arange, ends):
        digest.update(starts.at(numbers)[1].astype(np.int64).tobytes())
    for numbers in itertools.starmap(np.arange, ends):
        targets = starts.at(numbers)[0] + context_length
        digest.update(panel.timestamps[targets].astype("datetime64[ns]").tobytes())
    if panel.has_holes:
        digest.update(np.packbits(np.isnan(test.values)).tobytes())
    return digest.hexdigest()[:16]


_DIGESTED = 1 << 20
"""Windows at a time."""
