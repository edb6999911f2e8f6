"""Windows of a mapped panel: read from its file in blocks, scaled as they are read.

A block is a stretch of neighbouring windows with the rows that they cover. In order, one block after the other lies in
memory. For training a chest of many blocks from all over the part is filled at a time and its windows are shuffled; so
reading stays nearly sequential, and a short training sees places from everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsbench.data.mapped import STRETCH_VALUES
from tsbench.data.panel import Panel, Part, WindowStarts
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Batch, CovariateRows, Windows, refuse_histories

_BLOCK_VALUES = 1 << 22
"""Values of a block in order: 16 MiB."""
_BLOCK_WINDOWS = 1 << 16

_CHEST_VALUES = 1 << 24
"""Values of a chest, 64 MiB, or as many as eight blocks have where that is more."""
_CHEST_WINDOWS = 1 << 19
_SHUFFLED_BLOCK_VALUES = 1 << 12
"""Values of a block in a chest, at least; of long windows, four windows' rows, so that what two blocks read, the rows
beyond the last start, is at most a quarter."""


@dataclass(frozen=True, eq=False)
class ScaledRows:
    """The rows of a mapped panel as a model sees them, scaled and on its device, read when they are asked for."""

    panel: Panel
    scaler: Scaler
    device: torch.device

    def read_into(self, rows_R: np.ndarray, values_RC: Tensor) -> None:
        """These rows, in the order in which they are named; in pieces, because scaling is done in double precision."""
        most = max(STRETCH_VALUES // self.panel.num_channels, 1)
        for low in range(0, len(rows_R), most):
            rows = rows_R[low : low + most]
            items = self.panel.item_of(rows) if self.scaler.is_by_item else None
            values = self.scaler.apply(self.panel.values[rows], items)
            values_RC[low : low + len(rows)].copy_(torch.from_numpy(values))

    def windows_at(self, starts_N: np.ndarray, context_length: int, horizon: int) -> Windows:
        """Ordinary windows with these first rows, over the rows that they cover and no others."""
        rows_R, local_N = _covered(starts_N, context_length + horizon)
        values_RC = torch.empty(len(rows_R), self.panel.num_channels, device=self.device)
        self.read_into(rows_R, values_RC)
        return Windows(values_RC, torch.from_numpy(local_N), context_length, horizon)


def _covered(starts_N: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that windows of this length cover, each once, and where each window begins among them."""
    order = np.argsort(starts_N, kind="stable")
    rising_N = starts_N[order]
    # A stretch begins where a window does not touch the one before.
    is_first = np.diff(rising_N, prepend=rising_N[0] - length - 1) > length
    low_S = rising_N[is_first]
    counts_S = rising_N[np.append(np.flatnonzero(is_first)[1:], len(rising_N)) - 1] + length - low_S
    before_S = np.cumsum(counts_S) - counts_S
    rows_R = np.arange(counts_S.sum()) + np.repeat(low_S - before_S, counts_S)
    local_N = np.empty_like(starts_N)
    local_N[order] = rising_N - (low_S - before_S)[np.cumsum(is_first) - 1]
    return rows_R, local_N


def scaled_rows(panel: Panel, scaler: Scaler, device: torch.device) -> Tensor | ScaledRows:
    """All rows of a panel, scaled, `[T, C]`, on a device; of a mapped panel what reads them."""
    return ScaledRows(panel, scaler, device) if panel.is_mapped else torch.from_numpy(scaler.apply_to(panel)).to(device)


def windows_of(
    part: Part,
    values_TC: Tensor | ScaledRows,
    context_length: int,
    horizon: int,
    covariates: CovariateRows | None = None,
) -> Windows:
    """All windows of a part, in memory or in blocks. Raises DataError when there is none."""
    if isinstance(values_TC, ScaledRows):
        return BlockedWindows(values_TC, part.window_starts(context_length, horizon), context_length, horizon)
    return Windows.of(part, values_TC, context_length, horizon, covariates)


def windows_at(values_TC: Tensor | ScaledRows, starts_N: np.ndarray, context_length: int, horizon: int) -> Windows:
    """Windows with these first rows."""
    if isinstance(values_TC, ScaledRows):
        return values_TC.windows_at(starts_N, context_length, horizon)
    return Windows(values_TC, torch.from_numpy(starts_N), context_length, horizon)


class BlockedWindows(Windows):
    """All windows of one part of a mapped panel. What it gives are ordinary windows, some at a time."""

    def __init__(self, values: ScaledRows, starts: WindowStarts, context_length: int, horizon: int) -> None:
        self.values, self.starts = values, starts
        self.context_length, self.horizon = context_length, horizon
        self.channels, self.num_items = values.panel.num_channels, len(values.panel.items)
        self.covariates = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        return self.context_length + self.horizon

    @property
    def device(self) -> torch.device:
        return self.values.device

    def only(self, picks_N: Tensor) -> Windows:
        return self._numbered(picks_N.cpu().numpy())

    def _numbered(self, numbers_N: np.ndarray) -> Windows:
        starts_N, items_N = self.starts.at(numbers_N)
        windows = self.values.windows_at(starts_N, self.context_length, self.horizon)
        windows.items_N, windows.num_items = torch.from_numpy(items_N).to(self.device), self.num_items
        windows.firsts_N = None  # an item's first rows are not in the block
        return windows

    def blocks(self) -> Iterator[tuple[int, Windows]]:
        low = 0
        while low < len(self):
            high = min(low + min(_BLOCK_WINDOWS, max(_BLOCK_VALUES // self.channels, 1)), len(self))
            while (
                high - low > 1 and self.most_rows(np.array([low]), np.array([high]))[0] * self.channels > _BLOCK_VALUES
            ):
                high = (low + high + 1) // 2
            yield low, self._numbered(np.arange(low, high))
            low = high

    def most_rows(self, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        """How many rows stretches of windows cover at most."""
        items = self.starts.at(highs - 1)[1] - self.starts.at(lows)[1] + 1
        return (highs - lows - items) * min(self.starts.stride, self.length) + items * self.length

    def between(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        starts_N, items_N = self.starts.at(np.arange(low, min(high, len(self))))
        return torch.from_numpy(starts_N).to(self.device), torch.from_numpy(items_N).to(self.device)

    def batch(self, picks_B: Tensor) -> Batch:
        return self.only(picks_B).batch(torch.arange(len(picks_B), device=self.device))

    def histories(self, picks_B: Tensor) -> Tensor:
        raise refuse_histories()

    def shuffled(self, batch_size: int, num_steps: int, seed: int) -> Iterator[tuple[Windows, Iterator[Tensor]]]:
        """Passes over all windows, one after the other, chest by chest; a chest's blocks are drawn from all of them.

        What is left of a chest when no full batch can be made of it comes first in the next: every batch is full, and
        no window comes again before all have come.
        """
        generator = torch.Generator().manual_seed(seed)
        shelf = _Shelf(self, batch_size)
        waiting = np.empty(0, np.int64)
        while True:
            blocks = torch.randperm(shelf.num_blocks, generator=generator).numpy()
            for chosen in np.array_split(blocks, -(-len(blocks) // shelf.blocks_per_chest)):
                drawn = shelf.numbers_of(np.sort(chosen))
                drawn = drawn[torch.randperm(len(drawn), generator=generator).numpy()]
                numbers_n = np.concatenate([waiting, drawn])
                steps = min(len(numbers_n) // batch_size, num_steps)
                num_steps -= steps
                waiting = numbers_n[steps * batch_size :]
                picks = torch.arange(steps * batch_size).view(steps, batch_size)
                yield _Chest(shelf, numbers_n[: steps * batch_size]), iter(picks)
                if not num_steps:
                    return


class _Shelf:
    """Where the chests of one training stand in turn: the same memory for all, as a captured step needs."""

    def __init__(self, windows: BlockedWindows, batch_size: int) -> None:
        self.windows, channels = windows, windows.channels
        self.block = max(_SHUFFLED_BLOCK_VALUES // channels, 4 * windows.length)
        largest = self._largest()
        while (
            self.block > 1 and largest > 2 * (self.block + windows.length) and largest * channels > _BLOCK_VALUES // 8
        ):
            self.block = -(-self.block // 2)  # its windows lie in many short items
            largest = self._largest()
        most = min(_CHEST_VALUES // (largest * channels), _CHEST_WINDOWS // self.block)
        self.blocks_per_chest = min(max(most, 8), self.num_blocks)
        capacity = self.blocks_per_chest * largest + batch_size * windows.length
        values_RC = torch.empty(capacity, channels, device=windows.device)
        starts_n = torch.empty(self.blocks_per_chest * self.block + batch_size, dtype=torch.int64)
        self.content = Windows(values_RC, starts_n, windows.context_length, windows.horizon)
        self.chest: _Chest | None = None

    @property
    def num_blocks(self) -> int:
        return -(-len(self.windows) // self.block)

    def _largest(self) -> int:
        """Rows of the largest block."""
        lows = np.arange(0, len(self.windows), self.block)
        return int(self.windows.most_rows(lows, np.minimum(lows + self.block, len(self.windows))).max())

    def numbers_of(self, blocks: np.ndarray) -> np.ndarray:
        """The numbers of the windows of these blocks."""
        numbers = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        return numbers[numbers < len(self.windows)]

    def put(self, chest: _Chest) -> None:
        starts_n, _ = self.windows.starts.at(chest.numbers_n)
        rows_R, local_n = _covered(starts_n, self.windows.length)
        self.windows.values.read_into(rows_R, self.content.values_TC)
        self.content.starts_N[: len(local_n)] = torch.from_numpy(local_n)
        self.chest = chest


class _Chest(Windows):
    """Shuffled windows of some blocks; they lie in memory from `open` until that of another chest."""

    def __init__(self, shelf: _Shelf, numbers_n: np.ndarray) -> None:
        self.shelf, self.numbers_n = shelf, numbers_n
        self.context_length, self.horizon = shelf.content.context_length, shelf.content.horizon
        self.channels = shelf.content.channels

    def __len__(self) -> int:
        return len(self.numbers_n)

    @property
    def device(self) -> torch.device:
        return self.shelf.content.device

    def open(self) -> None:
        if self.shelf.chest is not self:
            self.shelf.put(self)

    def batch(self, picks_B: Tensor) -> Batch:
        return self.shelf.content.batch(picks_B)
