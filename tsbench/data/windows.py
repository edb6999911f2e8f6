"""Windows: every (context, target) pair of a part, as one gather from the panel's memory.

A window of a row-major `[T, C]` array is one contiguous run of L + H rows. So a strided view of overlapping rows and
one `index_select` make a batch; no sample is ever handled alone, as a Dataset and a DataLoader would. The array lies on
the training device; only start rows are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsbench.data.covariates import Covariates, Roles
from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import Scaler
from tsbench.errors import DataError

Batch = tuple[Tensor, ...]
"""Context `[B, L, C]`, always finite, and target `[B, H, C]`, NaN where a value is missing; then covariates
`[B, L + H, K]`, where there are any."""

_GATHER_VALUES = 2**19
"""As many as are gathered at a time for several batches, 2 MiB: a gather of more is faster still, but a processor keeps
no more than that near until the training comes to it."""


@dataclass(frozen=True)
class WindowShape:
    """What a model must know of the windows: all sizes, and the season in them."""

    context_length: int
    horizon: int
    channels_in: int = 1
    channels_out: int = 1
    seasonality: int = 1
    """Rows in a season."""
    ahead: int = 0
    """Values that are known of each row of the horizon."""
    quantiles: int = 1
    """Values to forecast of each channel, side by side in `channels_out`, which counts them all; the median is in their
    middle."""

    @classmethod
    def of(
        cls,
        context_length: int,
        horizon: int,
        seasonality: int,
        *,
        channels: int = 1,
        covariates: Roles = Roles(),
        quantiles: int = 1,
    ) -> WindowShape:
        """With covariates: those with a value for each row are channels of the context, behind the targets."""
        channels_in, channels_out = channels + len(covariates.columns), channels * quantiles
        return cls(context_length, horizon, channels_in, channels_out, seasonality, covariates.num_ahead, quantiles)

    @property
    def targets(self) -> int:
        """The first channels of the context: what is forecast."""
        return self.channels_out // self.quantiles


def runs(rows_TC: Tensor, length: int) -> Tensor:
    """Every run of so many rows, `[T - length + 1, length * C]`: a view, nothing is copied."""
    count, channels = rows_TC.shape
    return rows_TC.as_strided((count - length + 1, length * channels), (channels, 1), rows_TC.storage_offset())


class CovariateRows:
    """The scaled covariates of a panel, on the device where the batches are wanted."""

    def __init__(self, covariates: Covariates, scaler: Scaler, offsets: np.ndarray, device: torch.device) -> None:
        num_columns = covariates.rows.shape[1]
        row_scaler = Scaler(scaler.mean[:num_columns], scaler.std[:num_columns])
        item_scaler = Scaler(scaler.mean[num_columns:], scaler.std[num_columns:])
        self.rows_TK = torch.from_numpy(row_scaler.apply(covariates.rows)).to(device)
        self.static_IS = torch.from_numpy(item_scaler.apply(covariates.static)).to(device)
        self.ends_I = torch.from_numpy(offsets[1:]).to(device)

    @classmethod
    def of(cls, panel: Panel, scaler: Scaler | None, device: torch.device) -> CovariateRows | None:
        if panel.covariates is None or scaler is None:
            return None
        return cls(panel.covariates, scaler, panel.offsets, device)

    def gather(self, starts_B: Tensor, length: int) -> Tensor:
        """So many rows from each start, `[B, length, K]`; an item's static values stand in each of them."""
        num_columns = self.rows_TK.shape[1]
        parts = []
        if num_columns:
            parts = [runs(self.rows_TK, length).index_select(0, starts_B).unflatten(1, (length, num_columns))]
        if self.static_IS.shape[1]:
            items_B = torch.searchsorted(self.ends_I, starts_B, right=True)
            parts.append(self.static_IS[items_B].unsqueeze(1).expand(-1, length, -1))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


class Windows:
    """All windows of one part of a panel.

    values_TC: scaled values of the whole panel as contexts hold them, contiguous, on the device where the batches are
        wanted.
    starts_N: first row of each window.
    covariates: batches have a third part with these.
    """

    missing_TC: Tensor | None = None
    """Whether a value is missing; None: none is."""
    teaches = False
    """Whether the windows are for learning: of a channel that has no value in the context, the target then has none."""

    def __init__(
        self,
        values_TC: Tensor,
        starts_N: Tensor,
        context_length: int,
        horizon: int,
        covariates: CovariateRows | None = None,
    ) -> None:
        self.starts_N = starts_N.to(values_TC.device)
        self.items_N = torch.zeros_like(self.starts_N)
        """The item of each window."""
        self.firsts_N: Tensor | None = self.items_N
        """Its first row; None where that is not in memory."""
        self.num_items = 1
        self.values_TC = values_TC
        self.context_length, self.horizon = context_length, horizon
        self.channels, self.covariates = values_TC.shape[1], covariates
        self._runs = runs(values_TC, context_length + horizon)

    @classmethod
    def of(
        cls,
        part: Part,
        values_TC: Tensor,
        context_length: int,
        horizon: int,
        covariates: CovariateRows | None = None,
    ) -> Windows:
        """Raises DataError when the part holds no window."""
        starts = part.starts(context_length, horizon)
        windows = cls(values_TC, torch.from_numpy(starts), context_length, horizon, covariates)
        items, panel = part.panel.item_of(starts + context_length), part.panel
        windows.num_items = len(panel.items)
        windows.items_N = torch.from_numpy(items).to(values_TC.device)
        if panel.has_holes:
            windows._take_holes(part, starts)
        windows.firsts_N = torch.from_numpy((panel.offsets[:-1] + panel.padded)[items]).to(values_TC.device)
        return windows

    def _take_holes(self, part: Part, starts: np.ndarray) -> None:
        """Those that the windows reach: what is missing in the test part alone must not change a bit of a training."""
        missing = np.isnan(part.panel.values[:])
        edges = np.zeros(len(missing) + 1, np.int64)
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + self.context_length + self.horizon, -1)
        if missing[np.cumsum(edges)[:-1] > 0].any():
            self.missing_TC = torch.from_numpy(missing).to(self.starts_N.device)
            self.teaches = part.name != "test"

    @property
    def has_holes(self) -> bool:
        """Whether targets may hold NaN."""
        return self.missing_TC is not None

    def __len__(self) -> int:
        return len(self.starts_N)

    @property
    def device(self) -> torch.device:
        return self.values_TC.device

    @property
    def at_a_time(self) -> int:
        """How many windows to take at a time where all are read.

        On a CPU so few that what a layer makes of them stays near: in a script, whose freed memory goes back to the
        system, a TCN scored 512 series of 168 rows at a time four times as fast as 2,048. A GPU has to be filled.
        """
        return 256 if self.device.type == "cuda" else min(max(512 // self.channels, 32), 256)

    def head(self, count: int) -> Windows:
        """The first windows alone."""
        return self.only(torch.arange(min(count, len(self)), device=self.device))

    def only(self, picks_N: Tensor) -> Windows:
        """The windows with these numbers alone."""
        few = copy(self)
        few.starts_N, few.items_N = self.starts_N[picks_N], self.items_N[picks_N]
        few.firsts_N = None if self.firsts_N is None else self.firsts_N[picks_N]
        return few

    def blocks(self) -> Iterator[tuple[int, Windows]]:
        """All windows in order, in parts that lie in memory: the number of a part's first window, and the part."""
        yield 0, self

    def between(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        """First row and item of the windows with the numbers from `low` to before `high`."""
        return self.starts_N[low:high], self.items_N[low:high]

    def shuffled(self, batch_size: int, num_steps: int, seed: int) -> Iterator[tuple[Windows, Iterator[Tensor]]]:
        """Batches for so many steps, see `shuffled_picks`: what to gather them from, and the numbers `[B]` of each."""
        yield self, shuffled_picks(len(self), batch_size, num_steps, seed)

    def open(self) -> None:
        """Have in memory what batches are gathered from; called before the first step of a chunk."""

    def batch(self, picks_B: Tensor) -> Batch:
        """The windows with these numbers."""
        return self._gather(self.starts_N[picks_B])

    def batches(self, picks_KB: Tensor) -> Iterator[Batch]:
        """`batch` of each row. Small ones are gathered together: a gather of few values costs its call."""
        size = picks_KB.shape[1]
        values = size * self.channels * (self.context_length + self.horizon)
        for picks_GB in picks_KB.split(max(1, _GATHER_VALUES // values)):
            parts = self.batch(picks_GB.flatten())
            yield from zip(*(part.unflatten(0, (-1, size)) for part in parts), strict=True)

    def histories(self, picks_B: Tensor) -> Tensor:
        """All rows of the item before the targets of the windows with these numbers, `[B, longest, C]`.

        Shorter ones begin with NaN.
        """
        if self.firsts_N is None:
            raise refuse_histories()
        return histories(self.values_TC, self.firsts_N[picks_B], self.starts_N[picks_B] + self.context_length)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every window once, the last batch as small as it must be."""
        for _, block in self.blocks():
            for starts_B in block.starts_N.split(batch_size):
                yield block._gather(starts_B)

    def _gather(self, starts_B: Tensor) -> Batch:
        window = self._runs.index_select(0, starts_B).unflatten(1, (-1, self.channels))
        pair = window[:, : self.context_length], window[:, self.context_length :]
        if self.missing_TC is not None:
            pair = pair[0], self._masked(pair[1], starts_B)
        if self.covariates is None:
            return pair
        return *pair, self.covariates.gather(starts_B, self.context_length + self.horizon)

    def _masked(self, target_BHC: Tensor, starts_B: Tensor) -> Tensor:
        assert self.missing_TC is not None
        length = self.context_length + self.horizon
        missing = runs(self.missing_TC, length).index_select(0, starts_B).unflatten(1, (-1, self.channels))
        missing_BHC = missing[:, self.context_length :]
        if self.teaches:
            missing_BHC = missing_BHC | missing[:, : self.context_length].all(1, keepdim=True)
        return target_BHC.masked_fill(missing_BHC, torch.nan)


def refuse_histories() -> DataError:
    return DataError(
        "the model reads all rows of an item before the forecast, and a mapped panel gives contexts only; leave the "
        "model out, or read the file without memory = 'mapped'"
    )


def histories(values_TC: Tensor, firsts_B: Tensor, ends_B: Tensor) -> Tensor:
    """The rows from each first one to before the end, `[B, longest, C]`; shorter stretches begin with NaN."""
    longest = int((ends_B - firsts_B).max())
    rows_BT = ends_B[:, None] + torch.arange(-longest, 0, device=ends_B.device)
    is_before_BT = rows_BT < firsts_B[:, None]
    return values_TC[rows_BT.clamp(min=0)].masked_fill(is_before_BT[..., None], torch.nan)


def evenly_spaced_runs(count: int, most: int) -> list[tuple[int, int]]:
    """Of so many windows all, or of more than `most` about as many in runs of 1,024 neighbours.

    Of each the first number, and the one after its last.
    """
    if count <= most:
        return [(0, count)]
    every = -(-count // max(most, 1)) * RUN_WINDOWS
    return [(low, min(low + RUN_WINDOWS, count)) for low in range(0, count, every)]


RUN_WINDOWS = 1024


def shuffled_picks(num_windows: int, batch_size: int, num_steps: int, seed: int) -> Iterator[Tensor]:
    """Window numbers `[B]` for each of `num_steps` steps: shuffled passes over all windows, one after the other.

    A batch that reaches the end of a pass goes on into the next, so every batch is full and no window is left out.
    """
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(num_steps):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(num_windows, generator=generator)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]
