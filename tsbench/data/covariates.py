"""Covariates: what is known beside the targets, and when it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.calendar import calendar_columns, calendar_values
from tsbench.data.tables import frame_of
from tsbench.errors import DataError, unknown

MOST_WORDS = 1000
"""Different words in a static column: each is a column of its own."""


@dataclass(frozen=True)
class Roles:
    """The covariates by role. In arrays they stand in this order: past, known, calendar, then static."""

    past: tuple[str, ...] = ()
    """Known up to the row from which a forecast starts, and no further."""
    known: tuple[str, ...] = ()
    """Known for the rows of the horizon as well: another's forecast, a price list."""
    calendar: tuple[str, ...] = ()
    """What is made from the timestamps, such as hour or holidays:DE."""
    static: tuple[str, ...] = ()
    """Facts about an item that do not change; a fact in words has a column of zeros and ones for each word."""
    time_zone: str = ""
    """Where the calendar is read, for stamps in UTC."""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Roles:
        """From what `as_dict` gives, or a user writes: lists of names by role. Raises ConfigError for another role."""
        known = {field.name for field in dataclass_fields(cls)}
        for key in fields:
            if key not in known:
                raise unknown("role", key, known, where="covariates")
        names = {role: tuple(fields.get(role, ())) for role in ("past", "known", "calendar", "static")}
        return cls(**names, time_zone=fields.get("time_zone", ""))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __bool__(self) -> bool:
        return bool(self.past or self.known or self.calendar or self.static)

    @property
    def columns(self) -> tuple[str, ...]:
        """Those with a value for each row."""
        return (*self.past, *self.known, *calendar_columns(self.calendar))

    @property
    def num_measured(self) -> int:
        """Columns whose level and spread may drift, as those of a target do: past and known."""
        return len(self.past) + len(self.known)

    @property
    def num_ahead(self) -> int:
        """Values that are known of each row of the horizon: all but the past ones."""
        return len(self.columns) - len(self.past) + len(self.static)

    @property
    def width(self) -> int:
        return len(self.columns) + len(self.static)

    def by_name(self) -> dict[str, list[str]]:
        """The roles that are filled, with their names, for a reader."""
        roles = {"past": self.past, "known": self.known, "calendar": self.calendar, "static": self.static}
        return {role: list(names) for role, names in roles.items() if names}


@dataclass(frozen=True, eq=False)
class Covariates:
    """The values of a panel's covariates, in original units."""

    roles: Roles
    rows: np.ndarray
    """`[T, K]`, float32, row-major, beside the targets: past, known and calendar columns."""
    static: np.ndarray
    """`[items, S]`, float32."""


def rows_ahead(roles: Roles, items: Sequence[str], stamps: Sequence[pd.DatetimeIndex], future: Any) -> np.ndarray:
    """What is known of the rows after a panel's last, `[items, H, K]`, float32; past columns hold NaN.

    stamps: of these rows, for each item. future: a frame with the known covariates, see `Forecaster.predict`.

    Raises DataError for the first value that is missing.
    """
    values = np.full((len(items), len(stamps[0]), len(roles.columns)), np.nan, np.float32)
    if roles.known:
        wanted = pd.DataFrame({"item": np.repeat(items, len(stamps[0])), "timestamp": np.concatenate(stamps)})
        known = _values_of(future, roles.known, wanted, has_items=len(items) > 1)
        values[:, :, len(roles.past) : roles.num_measured] = known.reshape(*values.shape[:2], -1)
    calendar = calendar_values(np.concatenate(stamps), roles.calendar, roles.time_zone)
    values[:, :, roles.num_measured :] = calendar.reshape(*values.shape[:2], -1)
    return values


def _values_of(future: Any, names: Sequence[str], wanted: pd.DataFrame, *, has_items: bool) -> np.ndarray:
    """`[rows, names]` of the wanted items and timestamps."""
    keys = ["item", "timestamp"] if has_items else ["timestamp"]
    columns = ", ".join([*keys, *names])
    where = "Forecaster.predict, future"
    if future is None:
        raise DataError(
            f"{where}: the forecast needs {', '.join(map(repr, names))} of the rows ahead; give a frame with the "
            f"columns {columns} for {wanted['timestamp'].min()} to {wanted['timestamp'].max()}"
        )
    frame = frame_of(future)
    missing = [name for name in (*keys, *names) if name not in frame]
    if missing:
        raise DataError(
            f"{where}: no column {missing[0]!r}; needed are {columns}, there are {', '.join(map(str, frame))}"
        )
    stamps = pd.to_datetime(frame["timestamp"], utc=True, errors="coerce").dt.tz_localize(None)
    frame = frame.assign(timestamp=stamps.astype("datetime64[ns]"))
    frame = frame.assign(item=frame["item"].astype(str)) if has_items else frame
    if frame.duplicated(keys).any():
        row = frame[frame.duplicated(keys)].iloc[0]
        raise DataError(f"{where}: {row['timestamp']} is there twice; keep one row for each timestamp of an item")
    found = wanted.merge(frame[[*keys, *names]], how="left", on=keys)[list(names)]
    values = found.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    empty = ~np.isfinite(values)
    if empty.any():
        at, column = (int(number) for number in np.argwhere(empty)[0])
        item = f" of item {wanted['item'][at]!r}" if has_items else ""
        raise DataError(
            f"{where}: no value of {names[column]!r} at {wanted['timestamp'][at]}{item} ({int(empty.sum()):,} such "
            f"places); give all rows from {wanted['timestamp'].min()} to {wanted['timestamp'].max()}"
        )
    return values.astype(np.float32)


def encode_static(frame: pd.DataFrame, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values `[items, S]`: a number stays one, words become a column of zeros and ones for each.

    Raises DataError where a column has more different words than `MOST_WORDS`.
    """
    names: list[str] = []
    columns: list[np.ndarray] = []
    for name in frame:
        cells = frame[name]
        if pd.api.types.is_numeric_dtype(cells):
            names.append(str(name))
            columns.append(cells.to_numpy(np.float64))
            continue
        words = sorted(set(cells.astype(str)))
        if len(words) > MOST_WORDS:
            raise DataError(
                f"{where}: static column {str(name)!r} has {len(words):,} different words, more than {MOST_WORDS:,}; "
                "leave it out, or group them"
            )
        names += [f"{name}={word}" for word in words]
        columns += [(cells.astype(str) == word).to_numpy(np.float64) for word in words]
    return tuple(names), np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))
