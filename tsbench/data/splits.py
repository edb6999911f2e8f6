"""Which rows are for training, validation and testing: by counts, by fractions or by dates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tsbench.errors import DataError

PARTS = ("train", "validation", "test")


_Borders = np.ndarray
"""`[items, 3]`: rows of an item before its validation part, before its test part, and to the end of that."""


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitByCounts(_Rule):
    """So many rows each, from the first row on; rows after them are not used (the ETT files' rule)."""

    by: Literal["counts"] = "counts"
    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)

    def borders(self, timestamps: np.ndarray, offsets: np.ndarray) -> _Borders:
        edges = np.cumsum([self.train, self.validation, self.test])
        return np.broadcast_to(edges, (len(offsets) - 1, 3))

    def __str__(self) -> str:
        return f"the first {self.train:,} / next {self.validation:,} / next {self.test:,} rows"


class SplitByFractions(_Rule):
    """`int(train * n)` rows first, `int(test * n)` rows last, the rest between (the literature's 7:1:2)."""

    by: Literal["fractions"] = "fractions"
    train: float = Field(0.7, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    def borders(self, timestamps: np.ndarray, offsets: np.ndarray) -> _Borders:
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

    def borders(self, timestamps: np.ndarray, offsets: np.ndarray) -> _Borders:
        # Nanoseconds end in 2262; microseconds reach any date that can be written.
        clock = timestamps.astype("datetime64[us]")

        def rows_before(moment: datetime | date) -> np.ndarray:
            if isinstance(moment, datetime) and moment.tzinfo:
                moment = moment.astimezone(UTC).replace(tzinfo=None)  # as the readers do with timestamps
            before = np.concatenate([[0], np.cumsum(clock < np.datetime64(moment, "us"))])
            return before[offsets[1:]] - before[offsets[:-1]]

        end = rows_before(self.end) if self.end else np.diff(offsets)
        return np.stack([rows_before(self.validation), rows_before(self.test), end], axis=1)

    def __str__(self) -> str:
        return f"validation from {self.validation}, test from {self.test}" + (f" to {self.end}" if self.end else "")


SplitRule = Annotated[SplitByCounts | SplitByFractions | SplitByDates, Field(discriminator="by")]

SPLIT_KEYS = {key for rule in (SplitByCounts, SplitByFractions, SplitByDates) for key in rule.model_fields}


def cut(
    rule: SplitRule, timestamps: np.ndarray, offsets: np.ndarray, where: str, items: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The rows of each part, `[items, 2]` (first row, row after the last) in the panel's own numbering.

    items: their names, for the message. Raises DataError when a part of an item would be empty or lie outside it.
    """
    lengths = np.diff(offsets)
    edges = np.concatenate([np.zeros((len(lengths), 1), np.int64), rule.borders(timestamps, offsets)], axis=1)
    wrong = np.flatnonzero((np.diff(edges, axis=1) <= 0).any(axis=1) | (edges[:, -1] > lengths))
    if wrong.size:
        first = wrong[0]
        others = ""
        if len(lengths) > 1:
            names = ", ".join(str(items[item]) for item in wrong[:8] if item < len(items))
            others = (
                f" ({len(wrong):,} of {len(lengths):,} items: {names}{', ...' if len(wrong) > 8 else ''}; to leave "
                f"short ones out, say min_rows = {int(lengths[wrong].max()) + 1})"
            )
        raise DataError(
            f"{where}: the split ({rule}) does not fit {lengths[first]:,} rows: it would cut at rows "
            f"{', '.join(f'{edge:,}' for edge in edges[first])}{others}; change [split] in the card, or bring more rows"
        )
    edges += offsets[:-1, None]
    return {part: edges[:, number : number + 2].copy() for number, part in enumerate(PARTS)}
