"""What a panel holds that is larger than memory: rows that lie in a file, and timestamps that follow from the first.

Both are read like arrays. What is taken is a copy: the map is opened for it and closed again, so that no page of it
stays with the process, and a worker process is handed a path, not the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.clock import Grid

STRETCH_VALUES = 1 << 18
"""Values that are looked at together in a pass over a file: 1 MiB, and twice that in double precision."""


class MappedRows:
    """The rows of a file of float32 values, `[T, C]`, row-major."""

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.array(np.memmap(self.path, np.float32, "r", shape=self.shape)[rows])


class RegularStamps:
    """`[T]` timestamps, datetime64[ns], of items that each go on from their first one without a gap."""

    def __init__(self, freq: str, firsts: np.ndarray, offsets: np.ndarray) -> None:
        """firsts: `[items]`, datetime64[ns]. offsets: `[items + 1]`, rows."""
        self.freq, self.firsts, self.offsets = freq, firsts.astype("datetime64[ns]"), offsets
        self.grid = Grid.of(freq, self.firsts[:1])
        if self.grid.step is None:
            longest = int(np.diff(offsets).max())
            end = pd.date_range(pd.Timestamp(self.firsts.max()), periods=longest, freq=freq)[-1]
            self.grid = Grid.of(freq, np.array([self.firsts.min(), end.to_datetime64()]))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        items = np.searchsorted(self.offsets, rows, side="right") - 1
        return self.grid.stamps(self.firsts[items], rows - self.offsets[items])

    def min(self) -> np.datetime64:
        return self.firsts.min()

    def max(self) -> np.datetime64:
        return self[self.offsets[1:] - 1].max()

    def ticks(self, rows: np.ndarray) -> Any:
        """Where the stamps of these rows lie on the clock of all items, in whole numbers."""
        stamps = self[rows]
        return stamps.astype(np.int64) if self.grid.moments is None else np.searchsorted(self.grid.moments, stamps)

    @property
    def ticks_per_row(self) -> int:
        return self.grid.step or self.grid.every

    def rows_before(self, moment: np.datetime64) -> np.ndarray:
        """How many rows of each item lie before a moment, `[items]`: found by halving."""
        low, high = self.offsets[:-1].copy(), self.offsets[1:].copy()
        while (low < high).any():
            middle = (low + high) // 2
            is_before = (low < high) & (self[np.minimum(middle, len(self) - 1)].astype("datetime64[us]") < moment)
            low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, np.minimum(middle, high))
        return low - self.offsets[:-1]


def stretches(num_rows: int, num_columns: int) -> Iterator[tuple[int, int]]:
    """First row and row after the last of parts that fit into memory, in order."""
    most = max(STRETCH_VALUES // num_columns, 1)
    return ((low, min(low + most, num_rows)) for low in range(0, num_rows, most))
