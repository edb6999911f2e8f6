"""What every reader gives, whatever the format: rows of values with an item and a timestamp each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tsbench.errors import DataError


@dataclass(frozen=True)
class Sheet:
    """Rows as they were read: not yet in order, with holes, on no checked clock."""

    where: str
    values: np.ndarray
    """`[T, C]`, float64; NaN where a cell is missing."""
    timestamps: pd.DatetimeIndex
    """`[T]`, in UTC or on a local clock without a zone."""
    codes: np.ndarray
    """`[T]`, the number of each row's item."""
    items: tuple[str, ...]
    channels: tuple[str, ...]
    """Of the values: the targets, then the covariates that the reading names."""
    place: Callable[[int, str | None], str]
    """The words for a row and a channel."""
    notes: tuple[str, ...] = ()
    freq: str | None = None
    """What the format itself says of the step of time."""
    horizon: int | None = None
    """What the format itself says of the rows to forecast."""
    static: pd.DataFrame | None = None
    """A row of facts for each item, numbers or words; None where none were asked for."""
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The covariates among the channels by role, past and known, where the format itself says so."""
    is_counted: bool = False
    """Whether the timestamps were made up, for rows that are only known to follow each other."""

    def row(self, row: int) -> str:
        """The words for a row, with its item where there are several."""
        item = self.items[self.codes[row]] if len(self.items) > 1 else ""
        return self.place(row, None) + (f", item {item!r}" if item else "")


def joined(sheets: Sequence[Sheet], where: str) -> Sheet:
    """Several files as one sheet; their items follow each other. Raises DataError where their channels differ."""
    first = sheets[0]
    for sheet in sheets[1:]:
        if sheet.channels != first.channels:
            raise DataError(
                f"{sheet.where}: columns {', '.join(map(repr, sheet.channels[:8]))}, but {first.where} has "
                f"{', '.join(map(repr, first.channels[:8]))}; the files of a folder need the same ones: name them in "
                "targets, or move a file elsewhere"
            )
    items = tuple(item for sheet in sheets for item in sheet.items)
    twice = pd.Series(items).duplicated()
    if twice.any():
        raise DataError(f"{where}: item {items[int(np.argmax(twice))]!r} is in two files; rename one of them")
    rows = np.cumsum([0, *(len(sheet.values) for sheet in sheets)])
    before = np.cumsum([0, *(len(sheet.items) for sheet in sheets)])

    def place(row: int, column: str | None) -> str:
        number = int(np.searchsorted(rows, row, side="right")) - 1
        return sheets[number].place(row - int(rows[number]), column)

    return Sheet(
        where=where,
        values=np.concatenate([sheet.values for sheet in sheets]),
        timestamps=pd.DatetimeIndex(np.concatenate([sheet.timestamps.to_numpy() for sheet in sheets])),
        codes=np.concatenate([sheet.codes + low for sheet, low in zip(sheets, before, strict=False)]),
        items=items,
        channels=first.channels,
        place=place,
        notes=tuple(dict.fromkeys(note for sheet in sheets for note in sheet.notes)),
        freq=first.freq if len({sheet.freq for sheet in sheets}) == 1 else None,
        horizon=first.horizon if len({sheet.horizon for sheet in sheets}) == 1 else None,
        static=None if first.static is None else pd.concat([sheet.static for sheet in sheets], ignore_index=True),
        roles=first.roles,
        is_counted=all(sheet.is_counted for sheet in sheets),
    )
