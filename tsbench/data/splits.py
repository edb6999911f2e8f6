"""Which rows are for training, validation and testing, and at which of them a forecast may start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tsbench.data.mapped import RegularStamps
from tsbench.errors import DataError

PARTS = ("train", "validation", "test")


_Borders = np.ndarray
"""`[items, 3]`: rows of an item before its validation part, before its test part, and to the end of that."""


class Origins(NamedTuple):
    """The only test windows that are scored: each item's first one, and every `stride` rows another."""

    horizon: int
    """Rows from the last origin to the end of the test part: the longest horizon that fits."""
    windows: int
    stride: int


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    gap: int = Field(0, ge=0)
    """Rows before validation and before test that belong to no part. They are taken from the end of the part before, so
    the test rows are scored as without a gap; a context may still reach over them."""
    scaled_by_past: ClassVar[bool] = False
    """Where MASE takes the seasonal error from: training rows, or all rows of an item before the forecast starts."""
    origins: ClassVar[Origins | None] = None
    """None: every window of the test part is scored."""

    @property
    def own_horizon(self) -> int | None:
        """The horizon that the split is made for; None for those that know of none."""
        return None


class SplitByCounts(_Rule):
    """So many rows each, from the first row on; rows after them are not used (the ETT files' rule)."""

    by: Literal["counts"] = "counts"
    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)

    def borders(self, timestamps: np.ndarray | RegularStamps, offsets: np.ndarray) -> _Borders:
        edges = np.cumsum([self.train, self.validation, self.test])
        return np.broadcast_to(edges, (len(offsets) - 1, 3))

    def __str__(self) -> str:
        return f"the first {self.train:,} / next {self.validation:,} / next {self.test:,} rows"


class SplitByFractions(_Rule):
    """`int(train * n)` rows first, `int(test * n)` rows last, the rest between (the literature's 7:1:2)."""

    by: Literal["fractions"] = "fractions"
    train: float = Field(0.7, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    def borders(self, timestamps: np.ndarray | RegularStamps, offsets: np.ndarray) -> _Borders:
        rows = np.diff(offsets)
        return np.stack([(self.train * rows).astype(int), rows - (self.test * rows).astype(int), rows], axis=1)

    def __str__(self) -> str:
        return f"{self.train:.0%} / {1 - self.train - self.test:.0%} / {self.test:.0%} of the rows, in order"


class SplitByDates(_Rule):
    """Validation and test start at these timestamps; the test ends before `end`, or with the data."""

    by: Literal["dates"] = "dates"
    validation: datetime | date
    test: datetime | date
    end: datetime | date | None = None

    def borders(self, timestamps: np.ndarray | RegularStamps, offsets: np.ndarray) -> _Borders:
        def rows_before(moment: datetime | date) -> np.ndarray:
            if isinstance(moment, datetime) and moment.tzinfo:
                moment = moment.astimezone(UTC).replace(tzinfo=None)  # as the readers do with timestamps
            if isinstance(timestamps, RegularStamps):
                return timestamps.rows_before(np.datetime64(moment, "us"))
            # Nanoseconds end in 2262; microseconds reach any date that can be written.
            before = np.concatenate([[0], np.cumsum(timestamps.astype("datetime64[us]") < np.datetime64(moment, "us"))])
            return before[offsets[1:]] - before[offsets[:-1]]

        end = rows_before(self.end) if self.end else np.diff(offsets)
        return np.stack([rows_before(self.validation), rows_before(self.test), end], axis=1)

    def __str__(self) -> str:
        return f"validation from {self.validation}, test from {self.test}" + (f" to {self.end}" if self.end else "")


class SplitByLast(_Rule):
    """The last rows of each item are for testing, those before them for validation (M4, Monash)."""

    by: Literal["last"] = "last"
    test: int = Field(gt=0)
    validation: int | None = Field(None, gt=0)
    """None: as many as for testing."""
    unused: int = Field(0, ge=0)
    """Rows after the test rows that are left alone."""
    scaled_by_past: ClassVar[bool] = True

    @property
    def own_horizon(self) -> int:
        return self.test

    def borders(self, timestamps: np.ndarray | RegularStamps, offsets: np.ndarray) -> _Borders:
        end = np.diff(offsets) - self.unused
        return np.stack([end - self.test - (self.validation or self.test), end - self.test, end], axis=1)

    def __str__(self) -> str:
        unused = f", but for {self.unused:,} unused" if self.unused else ""
        return f"the last {self.test:,} rows of each item{unused}, {self.validation or self.test:,} before them"


class SplitByOrigins(_Rule):
    """Rolling origins: `windows` forecasts, `stride` rows apart, of which the last ends with the item (fev, GIFT-Eval).

    One model, trained before the first of them, makes all of these forecasts; with `refit`, each is a fold: a model of
    its own, trained on all rows before (expanding cross-validation).
    """

    by: Literal["origins"] = "origins"
    horizon: int = Field(gt=0)
    """Rows ahead. A run may ask for fewer, never for more."""
    windows: int = Field(gt=0)
    stride: int | None = Field(None, gt=0)
    """None: the horizon."""
    validation: int | None = Field(None, gt=0)
    """Rows before the first origin; None: the horizon."""
    refit: bool = False
    scaled_by_past: ClassVar[bool] = True

    @property
    def origins(self) -> Origins:  # type: ignore[override]  # what the other rules do not have
        return Origins(self.horizon, self.windows, self.stride or self.horizon)

    @property
    def own_horizon(self) -> int:
        return self.horizon

    @property
    def test(self) -> int:
        """Rows from the first origin to the end."""
        return self.horizon + (self.windows - 1) * self.origins.stride

    def borders(self, timestamps: np.ndarray | RegularStamps, offsets: np.ndarray) -> _Borders:
        return SplitByLast(test=self.test, validation=self.validation or self.horizon).borders(timestamps, offsets)

    def folds(self) -> list[SplitByLast]:
        """A split for each origin, the first one first."""
        validation = self.validation or self.horizon
        after = [(self.windows - 1 - fold) * self.origins.stride for fold in range(self.windows)]
        return [SplitByLast(test=self.horizon, validation=validation, unused=rows, gap=self.gap) for rows in after]

    def __str__(self) -> str:
        rolled = (
            f"{self.windows:,} origins, {self.origins.stride:,} rows apart, the last {self.horizon:,} before the end"
        )
        return rolled + (", a model for each" if self.refit else "")


SplitRule = Annotated[
    SplitByCounts | SplitByFractions | SplitByDates | SplitByLast | SplitByOrigins, Field(discriminator="by")
]

SPLIT_KEYS = {
    key
    for rule in (SplitByCounts, SplitByFractions, SplitByDates, SplitByLast, SplitByOrigins)
    for key in rule.model_fields
}


def cut(
    rule: SplitRule,
    timestamps: np.ndarray | RegularStamps,
    offsets: np.ndarray,
    where: str,
    items: Sequence[str] = (),
    padded: np.ndarray | int = 0,
) -> dict[str, np.ndarray]:
    """The rows of each part, `[items, 2]` (first row, row after the last) in the panel's own numbering.

    items: their names, for the message. padded: `[items]`, rows at the beginning of each that belong to no part.

    Raises DataError when a part of an item would be empty or lie outside it.
    """
    lengths = np.diff(offsets)
    borders = rule.borders(timestamps, offsets)
    low = np.stack([np.broadcast_to(padded, lengths.shape), borders[:, 0], borders[:, 1]], axis=1)
    high = borders - [rule.gap, rule.gap, 0]
    wrong = np.flatnonzero((high <= low).any(axis=1) | (borders[:, -1] > lengths))
    if wrong.size:
        first = wrong[0]
        others = ""
        if len(lengths) > 1:
            names = ", ".join(str(items[item]) for item in wrong[:8] if item < len(items))
            others = (
                f" ({len(wrong):,} of {len(lengths):,} items: {names}{', ...' if len(wrong) > 8 else ''}; to leave "
                f"short ones out, say min_rows = {int(lengths[wrong].max()) + 1})"
            )
        gap = f" with a gap of {rule.gap:,}" if rule.gap else ""
        raise DataError(
            f"{where}: the split ({rule}) does not fit {lengths[first]:,} rows: it would cut at rows "
            f"{', '.join(f'{edge:,}' for edge in [low[first, 0], *borders[first]])}{gap}{others}; change [split] in "
            "the card, or bring more rows"
        )
    bounds = np.stack([low, high], axis=2) + offsets[:-1, None, None]
    return {part: np.ascontiguousarray(bounds[:, number]) for number, part in enumerate(PARTS)}
