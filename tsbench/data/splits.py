"""Which rows are for training, validation and testing: by counts, by fractions or by dates."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tsbench.errors import DataError

PARTS = ("train", "validation", "test")


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitByCounts(_Rule):
    """So many rows each, from the first row on; rows after them are not used (the ETT files' rule)."""

    by: Literal["counts"] = "counts"
    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)

    def borders(self, timestamps: np.ndarray) -> tuple[int, int, int]:
        return self.train, self.train + self.validation, self.train + self.validation + self.test

    def __str__(self) -> str:
        return f"the first {self.train:,} / next {self.validation:,} / next {self.test:,} rows"


class SplitByFractions(_Rule):
    """`int(train * n)` rows first, `int(test * n)` rows last, the rest between (the literature's 7:1:2)."""

    by: Literal["fractions"] = "fractions"
    train: float = Field(0.7, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    def borders(self, timestamps: np.ndarray) -> tuple[int, int, int]:
        rows = len(timestamps)
        return int(self.train * rows), rows - int(self.test * rows), rows

    def __str__(self) -> str:
        return f"{self.train:.0%} / {1 - self.train - self.test:.0%} / {self.test:.0%} of the rows, in order"


class SplitByDates(_Rule):
    """Validation and test start at these timestamps; the test ends before `end`, or with the data."""

    by: Literal["dates"] = "dates"
    validation: datetime | date
    test: datetime | date
    end: datetime | date | None = None

    def borders(self, timestamps: np.ndarray) -> tuple[int, int, int]:
        # Nanoseconds end in 2262; microseconds reach any date that can be written.
        clock = timestamps.astype("datetime64[us]")

        def row(moment: datetime | date) -> int:
            if isinstance(moment, datetime) and moment.tzinfo:
                moment = moment.astimezone(UTC).replace(tzinfo=None)  # as the readers do with timestamps
            return int(np.searchsorted(clock, np.datetime64(moment, "us")))

        return row(self.validation), row(self.test), row(self.end) if self.end else len(timestamps)

    def __str__(self) -> str:
        return f"validation from {self.validation}, test from {self.test}" + (f" to {self.end}" if self.end else "")


SplitRule = Annotated[SplitByCounts | SplitByFractions | SplitByDates, Field(discriminator="by")]

SPLIT_KEYS = {key for rule in (SplitByCounts, SplitByFractions, SplitByDates) for key in rule.model_fields}


def cut(rule: SplitRule, timestamps: np.ndarray, offsets: np.ndarray, where: str) -> dict[str, np.ndarray]:
    """The rows of each part, `[items, 2]` (first row, row after the last) in the panel's own numbering.

    Raises DataError when a part of an item would be empty or lie outside it.
    """
    bounds = {part: np.empty((len(offsets) - 1, 2), dtype=np.int64) for part in PARTS}
    for item, (start, stop) in enumerate(pairwise(offsets)):
        edges = (0, *rule.borders(timestamps[start:stop]))
        if not all(low < high for low, high in pairwise(edges)) or edges[-1] > stop - start:
            raise DataError(
                f"{where}: the split ({rule}) does not fit {stop - start:,} rows: it would cut at rows "
                f"{', '.join(f'{edge:,}' for edge in edges)}; change [split] in the card, or bring more rows"
            )
        for part, (low, high) in zip(PARTS, pairwise(edges), strict=True):
            bounds[part][item] = start + low, start + high
    return bounds
