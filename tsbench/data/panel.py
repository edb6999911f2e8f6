"""The panel: values on a clock, cut into training, validation and test rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral

import numpy as np

from tsbench.data.covariates import Covariates, Roles
from tsbench.data.mapped import MappedRows, RegularStamps, stretches
from tsbench.data.splits import PARTS, Origins, SplitByFractions, SplitByOrigins, SplitRule, cut
from tsbench.errors import DataError


@dataclass(frozen=True)
class About:
    """What the reader of a report must know of the data."""

    title: str = ""
    source: str = "user's own data"
    license: str = "not stated"
    attribution: str = ""
    units: str = ""


@dataclass(frozen=True, eq=False)
class Panel:
    """One contiguous float32 array of all items, one after the other, and what is known about it."""

    name: str
    values: np.ndarray | MappedRows
    """`[T_total, C]`, float32, row-major: a window is one contiguous run of memory, or of a file.

    NaN is the mask: that value is in no statistic, no loss and no score; contexts hold `scaling.seen` in its place. Not
    of a file, which has no holes."""
    timestamps: np.ndarray | RegularStamps
    """`[T_total]`, datetime64[ns], increasing within an item."""
    channels: tuple[str, ...]
    freq: str
    """A pandas offset alias: h, 15min, D, W-TUE, MS, ..."""
    seasonality: int
    """Rows in a season: 24 for hourly data with a daily pattern; 1 where there is none."""
    split: SplitRule = SplitByFractions()
    items: tuple[str, ...] = ("",)
    """Names of the items; a wide table is a panel of one item without a name."""
    offsets: np.ndarray = None  # type: ignore[assignment]  # None: one item
    """`[items + 1]`: item i owns the rows from offsets[i] to offsets[i + 1]."""
    covariates: Covariates | None = None
    padded: np.ndarray | int = 0
    """`[items]`: rows at the beginning of each item that only fill its first contexts: no target, in no statistic."""
    about: About = About()
    inferred: tuple[str, ...] = ()
    """What was found out rather than told: said when a run starts, and in the report."""
    defects: tuple[str, ...] = ()
    """What is known to be wrong with the data: said in the report."""
    bounds: dict[str, np.ndarray] = field(init=False, repr=False)
    """Rows of each part, see `splits.cut`."""

    def __post_init__(self) -> None:
        if self.offsets is None:
            object.__setattr__(self, "offsets", np.array([0, len(self.values)], dtype=np.int64))
        is_in_rows = self.is_mapped or self.values.flags.c_contiguous  # type: ignore[union-attr]
        if self.values.dtype != np.float32 or not is_in_rows or self.values.ndim != 2:
            raise DataError(f"{self.name}: values must be one row-major float32 array of rows x channels")
        if self.covariates is not None:
            sizes = [(len(self.values), len(self.roles.columns)), (len(self.items), len(self.roles.static))]
            for array, size in zip((self.covariates.rows, self.covariates.static), sizes, strict=True):
                if array.dtype != np.float32 or not array.flags.c_contiguous or array.shape != size:
                    raise DataError(
                        f"{self.name}: covariates must be row-major float32 arrays, one of {sizes[0][0]:,} rows x "
                        f"{sizes[0][1]} columns and one of {sizes[1][0]:,} items x {sizes[1][1]}"
                    )
        if not isinstance(self.seasonality, Integral) or self.seasonality < 1:
            raise DataError(f"{self.name}: seasonality = {self.seasonality}: give a whole number of rows, 1 for none")
        bounds = cut(self.split, self.timestamps, self.offsets, self.name, self.items, self.padded)
        object.__setattr__(self, "bounds", bounds)

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that a reader of a report must be told of the data."""
        return (*self.defects, *self.inferred, *self._account_of_holes)

    @property
    def roles(self) -> Roles:
        return self.covariates.roles if self.covariates else Roles()

    @property
    def num_channels(self) -> int:
        return len(self.channels)

    @property
    def has_items(self) -> bool:
        """Whether there are several: each is then scaled by its own level."""
        return len(self.items) > 1

    @cached_property
    def has_holes(self) -> bool:
        """Whether values are masked: one look at all of them, once. Without holes nothing is spent on them."""
        return not self.is_mapped and bool(np.isnan(self.values[:].min(initial=0)))

    @cached_property
    def _account_of_holes(self) -> list[str]:
        if not self.has_holes:
            return []
        parts = (self.train, self.validation, self.test)
        found = [(part.name, int(np.isnan(values).sum()), values.size) for part in parts for values in [part.values]]
        shares = ", ".join(f"{count:,} ({count / size:.2%}) of {name}" for name, count, size in found)
        total = int(np.isnan(self.values[:]).sum())
        return [f"mask: {total:,} values are missing, {shares}; they are neither learned from nor scored"]

    @property
    def is_mapped(self) -> bool:
        """Whether the values lie in a file and may be more than memory holds."""
        return isinstance(self.values, MappedRows)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """First row and row after the last of parts that fit into memory, in order; of values in memory, all rows."""
        if not self.is_mapped:
            return iter([(0, len(self.values))])
        return stretches(len(self.values), self.num_channels)

    def folds(self) -> list[Panel]:
        """A panel for each fold of a cross-validation, `name_fold1` and so on; this one alone where there is none."""
        if not (isinstance(self.split, SplitByOrigins) and self.split.refit):
            return [self]
        folds = enumerate(self.split.folds(), start=1)
        return [replace(self, name=f"{self.name}_fold{number}", split=split) for number, split in folds]

    def item_of(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the items that own these rows."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    @property
    def train(self) -> Part:
        return Part(self, "train")

    @property
    def validation(self) -> Part:
        return Part(self, "validation")

    @property
    def test(self) -> Part:
        return Part(self, "test")

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that could change a score: values, clock, names, seasonality, rows of each part, covariates."""
        digest = hashlib.sha256()
        for low, high in self.stretches():
            digest.update(np.ascontiguousarray(self.values[low:high]).view(np.uint8).data)
        for low, high in self.stretches():
            digest.update(self.timestamps[low:high].astype("datetime64[ns]").view(np.uint8).data)
        names = [self.channels, self.items, self.offsets.tolist(), self.freq, self.seasonality]
        digest.update(json.dumps([*names, [self.bounds[part].tolist() for part in PARTS]]).encode())
        if self.covariates:
            digest.update(json.dumps(self.roles.as_dict()).encode())
            for array in (self.covariates.rows, self.covariates.static):
                digest.update(array.view(np.uint8).data)
        if self.split.scaled_by_past:  # not in the rows alone; the other rules keep the fingerprints they had
            digest.update(json.dumps(["scaled by past", self.split.origins]).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Part:
    """The training, validation or test rows of a panel."""

    panel: Panel
    name: str

    @property
    def bounds(self) -> np.ndarray:
        """`[items, 2]`: first row and the row after the last, of each item."""
        return self.panel.bounds[self.name]

    @property
    def rows(self) -> np.ndarray:
        """`[T]`: the numbers of the rows of this part, of all items."""
        return _runs(self.bounds[:, 0], self.bounds[:, 1] - self.bounds[:, 0])

    @property
    def values(self) -> np.ndarray:
        """`[T, C]`: the rows of this part alone, of all items."""
        return self.panel.values[self.rows]

    @property
    def smallest(self) -> float:
        """Of the values that are there; NaN where none is."""
        return min(float(np.fmin.reduce(values, axis=None)) for values in self.pieces())

    def pieces(self) -> Iterator[np.ndarray]:
        """`values` in pieces that fit into memory; of values in memory, all of them at once."""
        if not self.panel.is_mapped:
            yield self.values
            return
        for low, high in self.panel.stretches():
            begin, end = self.bounds.clip(low, high).T
            if (begin < end).any():
                values = self.panel.values[low:high]
                yield values[_runs(begin - low, end - begin)]

    @property
    def origins(self) -> Origins | None:
        """Where forecasts may start in this part; None: everywhere."""
        return self.panel.split.origins if self.name == "test" else None

    def starts(self, context_length: int, horizon: int) -> np.ndarray:
        """First rows `[N]` of all windows whose target lies wholly in this part; of the test part, at its origins.

        A window whose target holds no value is none.

        The context may reach back into earlier parts, never into another item. So the number of windows of validation
        and test does not depend on the context length.

        Raises DataError when there is no such window, or when the origins of the split have a shorter horizon.
        """
        return self.window_starts(context_length, horizon).all()

    def window_starts(self, context_length: int, horizon: int) -> WindowStarts:
        """The same, not yet written out."""
        if self.origins and horizon > self.origins.horizon:
            raise DataError(
                f"{self.panel.name}: the split ({self.panel.split}) is made for a horizon of {self.origins.horizon:,}, "
                f"not of {horizon:,}; shorten --horizon, or change [split] in the card"
            )
        low, counts = self._starts(context_length, horizon)
        if not counts.sum():
            raise DataError(
                f"{self.panel.name}: too few rows: the {self.name} part has {np.diff(self.bounds).max():,}, and a "
                f"window needs {horizon:,} there for the horizon with {context_length:,} before them for the context; "
                "shorten --horizon or --context-length, change the split, or bring more rows"
            )
        starts = WindowStarts(low, counts, self.origins.stride if self.origins else 1)
        if not self.panel.has_holes:
            return starts
        kept = np.flatnonzero(self._have_values(starts.all() + context_length, horizon))
        if not len(kept):
            raise DataError(
                f"{self.panel.name}: every value of every window of the {self.name} part is missing; change the split"
            )
        return WindowStarts(low, counts, starts.stride, kept)

    def _have_values(self, rows_N: np.ndarray, horizon: int) -> np.ndarray:
        """Whether there is a value among so many rows from each one on, `[N]`."""
        before = np.concatenate([[0], np.cumsum(~np.isnan(self.panel.values[:]).all(axis=1))])
        return before[rows_N + horizon] > before[rows_N]

    def without_window(self, context_length: int, horizon: int) -> np.ndarray:
        """The numbers of the items that have no window in this part."""
        return np.flatnonzero(self.window_starts(context_length, horizon).counts_I == 0)

    def empty_windows(self, context_length: int, horizon: int) -> int:
        """How many windows hold no value in their target, and therefore are none."""
        return int(self._starts(context_length, horizon)[1].sum()) - len(self.starts(context_length, horizon))

    def _starts(self, context_length: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """The first start and the number of windows of each item, both `[items]`."""
        stride = self.origins.stride if self.origins else 1
        first = self.bounds[:, 0] - context_length
        skipped = -(-np.maximum(self.panel.offsets[:-1] - first, 0) // stride)  # contexts that begin before the item
        counts = (self.bounds[:, 1] - self.bounds[:, 0] - horizon) // stride + 1
        if self.origins:
            counts = np.minimum(counts, self.origins.windows)
        return first + skipped * stride, np.maximum(counts - skipped, 0)


class WindowStarts:
    """The first rows of all windows of a part, by the number of the window: computed when they are asked for."""

    def __init__(self, low_I: np.ndarray, counts_I: np.ndarray, stride: int, kept: np.ndarray | None = None) -> None:
        """low_I: first start in each item. counts_I: how many there are, so many rows apart. kept: the numbers of those
        that are windows, rising; None: all are."""
        self.low_I, self.stride = low_I, stride
        self._spaced_I, self._ends_I, self._kept = counts_I, np.cumsum(counts_I), kept
        self.counts_I = counts_I if kept is None else np.bincount(self._item_of(kept), minlength=len(counts_I))
        """How many windows each item has."""

    def __len__(self) -> int:
        return int(self._ends_I[-1]) if self._kept is None else len(self._kept)

    def all(self) -> np.ndarray:
        starts = _runs(self.low_I, self._spaced_I, self.stride)
        return starts if self._kept is None else starts[self._kept]

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First rows of these windows, and the numbers of their items."""
        places = numbers if self._kept is None else self._kept[numbers]
        items = self._item_of(places)
        before = self._ends_I[items] - self._spaced_I[items]
        return self.low_I[items] + (places - before) * self.stride, items

    def _item_of(self, places: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._ends_I, places, side="right")


def _runs(low: np.ndarray, counts: np.ndarray, stride: int = 1) -> np.ndarray:
    """`low[i], low[i] + stride, ...`, `counts[i]` of them, for all items in one go."""
    before = np.cumsum(counts) - counts
    return (np.arange(counts.sum()) - np.repeat(before, counts)) * stride + np.repeat(low, counts)
