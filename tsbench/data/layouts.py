"""From a table to a sheet: wide (a column per channel), long (a row per item and timestamp), or a series a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from tsbench.data.clock import Grid
from tsbench.data.numbers import to_numbers
from tsbench.data.reading import Reading, refuse_covariates, remedy
from tsbench.data.sheet import Sheet
from tsbench.data.tables import Table
from tsbench.data.times import looks_like_time, shown, to_timestamps
from tsbench.errors import DataError

TIME_NAMES = ("date", "datetime", "timestamp", "time", "ds")
ITEM_NAMES = ("unique_id", "item_id", "series_id", "ts_id", "item", "series", "series_name", "id")
_TIME_PARTS = ("year", "month", "day", "hour", "minute", "second")


def sheet_of(table: Table, reading: Reading) -> Sheet:
    """What a table holds, by the layout it is told to have or shows. Raises DataError."""
    if not len(table.frame):
        raise DataError(f"{table.where}: column names and no rows; three or more are needed")
    twice = table.frame.columns[table.frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{table.where}: column {twice[0]!r} is there twice; give each column a name of its own")
    if reading.layout == "rows" or (reading.layout is None and _is_series_a_row(table)):
        return _of_rows(table, reading)
    notes = list(table.notes)
    columns, timestamps, item_columns = _clock_and_items(table, reading, notes)
    codes, items = _items(table, item_columns)
    taken = [*columns, *item_columns, *_covariates(table, [*columns, *item_columns], reading)]
    labels = _labels(table, taken, codes, len(items), reading, notes) if item_columns else []
    targets = _targets(table, [*taken, *labels], columns, reading, notes)
    channels = [*targets, *reading.covariates]
    values, inferred = to_numbers(table, channels, reading)
    is_counted = timestamps is None
    if timestamps is None:
        timestamps = counted_stamps(codes, len(items), table.where, reading)
        notes.append(f"timestamps: made up, {reading.freq} from {timestamps.min()} on (the file has none)")
    return Sheet(
        where=table.where,
        values=values,
        timestamps=timestamps,
        codes=codes,
        items=items,
        channels=tuple(channels),
        place=table.place,
        notes=(*notes, *inferred),
        static=_static(table, codes, items, reading),
        is_counted=is_counted,
    )


def told_columns(table: Table, sheet: Sheet, reading: Reading) -> Reading:
    """The reading that says of its own columns what `sheet_of` found in this table: for further rows of the file."""
    columns, _, item_columns = _clock_and_items(table, reading, [])
    found = {"time_column": tuple(columns) or None, "item_columns": tuple(item_columns) or None}
    layout = "long" if item_columns else "wide"
    return reading.model_copy(update={**found, "layout": layout, "targets": sheet.channels})


def _clock_and_items(
    table: Table, reading: Reading, notes: list[str]
) -> tuple[list[str], pd.DatetimeIndex | None, list[str]]:
    columns = _time_columns(table, reading, notes)
    timestamps = _timestamps(table, columns, reading, notes) if columns else None
    return columns, timestamps, _item_columns(table, columns, timestamps, reading, notes)


def _present(table: Table, columns: Sequence[str], what: str) -> list[str]:
    missing = [column for column in columns if column not in table.frame]
    if missing:
        raise DataError(
            f"{table.where}: no column {missing[0]!r}{what}; "
            f"there are {', '.join(map(repr, table.frame.columns[:12]))}{', ...' if table.frame.shape[1] > 12 else ''}"
        )
    return list(columns)


def _time_columns(table: Table, reading: Reading, notes: list[str]) -> list[str]:
    """The columns that hold the time; none where rows are told to be equally spaced and there is no such column."""
    if reading.time_column is not None:
        return _present(table, reading.time_column, " for the time")
    found = _find_time_column(table)
    if found is None:
        parts = [column for column in table.frame.columns if str(column).strip().lower() in _TIME_PARTS]
        if {"year", "month"} <= {part.strip().lower() for part in parts}:
            notes.append(f"time: from the columns {', '.join(map(repr, parts))} (inferred)")
            return parts
        if len(parts) == 1 and parts[0].strip().lower() == "year":
            notes.append(f"time column: {parts[0]!r} (inferred)")
            return parts
        if reading.freq is not None:
            return []
        first = table.frame.columns[0]
        raise DataError(
            f"{table.where}: no time column: none of {', '.join(map(repr, table.frame.columns[:8]))} holds timestamps "
            f"(first cell of {first!r}: {shown(table.frame[first].iloc[0])}); "
            "add a column such as date with values like 2024-01-31 13:00, or say the step of the rows, such as "
            f"{remedy(table.where, 'freq=h', 'start=2024-01-01')}"
        )
    notes.append(f"time column: {found!r} (inferred)")
    return [found]


def _find_time_column(table: Table) -> str | None:
    frame = table.frame
    named = [column for column in frame.columns if str(column).strip().lower() in TIME_NAMES]
    for column in named + [column for column in frame.columns if column not in named]:
        cells = frame[column]
        if pd.api.types.is_datetime64_any_dtype(cells) or isinstance(cells.dtype, pd.PeriodDtype):
            return column
        if pd.api.types.is_numeric_dtype(cells):
            continue
        # The named column is taken even if a later cell is bad: that cell is then reported with its line.
        if column in named or looks_like_time(cells.head(50)):
            return column
    return named[0] if named else None  # numbers: epochs or years, or the reader of timestamps says what is wrong


def _timestamps(table: Table, columns: list[str], reading: Reading, notes: list[str]) -> pd.DatetimeIndex:
    if len(columns) > 1:
        return _from_parts(table, columns)
    (column,) = columns
    cells = table.frame[column]
    is_plain_number = pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells)
    if is_plain_number and table.raw is not None and not pd.api.types.is_float_dtype(cells):
        written = table.texts([column])[column]
        if written.str.match(r"0\d").any():  # 01012024: its leading zero tells it from a number
            cells = written
    found, inferred = to_timestamps(cells, lambda row: table.place(row, column), reading.time_format)
    notes += inferred
    return found


def _from_parts(table: Table, columns: list[str]) -> pd.DatetimeIndex:
    parts = {column.strip().lower(): pd.to_numeric(table.frame[column], errors="coerce") for column in columns}
    if not {"year", "month"} <= parts.keys() <= set(_TIME_PARTS):
        raise DataError(
            f"{table.where}: the time from columns {', '.join(map(repr, columns))}: several columns must be called "
            "year, month, day, hour, minute or second, with year and month among them"
        )
    parts.setdefault("day", pd.Series(1, index=table.frame.index))
    stamps = pd.to_datetime(pd.DataFrame(parts), errors="coerce")
    found, _ = to_timestamps(stamps, lambda row: table.place(row, columns[0]))
    return found


def counted_stamps(codes: np.ndarray, num_items: int, where: str, reading: Reading) -> pd.DatetimeIndex:
    """Stamps for rows without any: each item starts at `start` and goes on in steps of freq."""
    assert reading.freq is not None
    start = pd.Timestamp(reading.start or "1970-01-01")
    counted = np.empty(len(codes), np.int64)
    order = np.argsort(codes, kind="stable")
    lengths = np.bincount(codes, minlength=num_items)
    counted[order] = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    stamps = made_stamps(start, int(lengths.max()), reading.freq, where)
    return stamps[counted]


def made_stamps(start: pd.Timestamp, count: int, freq: str, where: str) -> pd.DatetimeIndex:
    """So many stamps from the first one that freq knows from `start` on."""
    try:
        Grid.of(freq, np.array(["1970-01-01", "1970-01-02"], "datetime64[ns]"))
        return pd.date_range(start.tz_localize(None), periods=count, freq=freq).as_unit("ns")
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, pd.errors.OutOfBoundsDatetime):
            raise DataError(f"{where}: {count:,} rows of {freq} from {start} leave the years 1678 to 2261") from error
        raise DataError(f"{where}: freq {freq!r} is no pandas offset alias; write h, 15min, D, W-MON or MS") from error
    except OverflowError as error:
        raise DataError(f"{where}: {count:,} rows of {freq} from {start} leave the years 1678 to 2261") from error


def _item_columns(
    table: Table, time_columns: list[str], timestamps: pd.DatetimeIndex | None, reading: Reading, notes: list[str]
) -> list[str]:
    """The columns that name an item: the usual name, or the fewest columns of words that tell equal stamps apart."""
    if reading.item_columns is not None:
        return _present(table, reading.item_columns, " for the item")
    if reading.layout == "wide" or timestamps is None:
        return []
    others = [column for column in table.frame.columns if column not in (*time_columns, *reading.static)]
    named = [column for column in others if str(column).strip().lower() in ITEM_NAMES]
    repeats = bool(timestamps.has_duplicates)
    words = [column for column in others if not pd.api.types.is_numeric_dtype(table.frame[column])]
    for column in named:
        if repeats or column in words:
            notes.append(f"item column: {column!r} (inferred)")
            return [column]
    if not repeats or not words:
        return []
    keys = pd.DataFrame({column: pd.factorize(table.frame[column])[0] for column in words[:6]})
    keys["time"] = timestamps.asi8
    for count in (1, 2, 3):
        for chosen in combinations(words[:6], count):
            if not keys.duplicated([*chosen, "time"]).any():
                if keys[list(chosen)].drop_duplicates().shape[0] > len(keys) // 2:
                    continue  # hardly two rows each: no series
                notes.append(f"item columns: {', '.join(map(repr, chosen))} (inferred: they tell equal stamps apart)")
                return list(chosen)
    return []


def _items(table: Table, columns: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """`[T]` the number of each row's item, and their names in order of appearance."""
    if not columns:
        return np.zeros(len(table.frame), np.int64), ("",)
    frame = table.frame[columns]
    if frame.isna().any(axis=None):  # `NA` may be a name: Namibia, North America
        frame = table.texts(columns)
        empty = frame.isna() | (frame == "")
        if empty.any(axis=None):
            column = columns[int(np.argmax(empty.any(axis=0)))]
            row = int(np.argmax(empty[column]))
            raise DataError(f"{table.place(row, column)}: an empty cell for the item; name every row's item")
    codes, names = pd.factorize(frame[columns[0]])
    parts = [names.astype(str)]
    for column in columns[1:]:
        inner, names = pd.factorize(frame[column])
        codes, pairs = pd.factorize(codes.astype(np.int64) * len(names) + inner)
        parts = [part[pairs // len(names)] for part in parts]
        parts.append(names.astype(str)[pairs % len(names)])
    joined = [" / ".join(words) for words in zip(*parts, strict=True)]
    return codes.astype(np.int64), tuple(joined)


def _covariates(table: Table, taken: list[str], reading: Reading) -> list[str]:
    """The columns that have a role beside the targets."""
    columns = [
        column
        for role in ("past", "known", "static")
        for column in _present(table, getattr(reading, role), f" for {role}")
    ]
    used = next((column for column in columns if column in taken), None)
    if used is not None:
        raise DataError(f"{table.where}: covariate {used!r} is the time or the item; name another column")
    return columns


def _static(table: Table, codes: np.ndarray, items: Sequence[str], reading: Reading) -> pd.DataFrame | None:
    """The facts of each item, a row for each. Raises DataError where one changes within an item, or is missing."""
    if not reading.static:
        return None
    frame = table.frame[list(reading.static)]
    first = np.unique(codes, return_index=True)[1]  # every item of a table has a row
    for column in reading.static:
        values = pd.factorize(frame[column])[0]
        if (values < 0).any():
            row = int(np.argmax(values < 0))
            raise DataError(f"{table.place(row, column)}: a missing static value; fill it, or leave the column out")
        changed = values != values[first][codes]
        if changed.any():
            row = int(np.argmax(changed))
            raise DataError(
                f"{table.place(row, column)}: {str(frame[column].iloc[row])!r} after "
                f"{str(frame[column].iloc[first[codes[row]]])!r} for item {items[codes[row]]!r}: a static covariate is "
                "the same in all rows of an item; is it past or known?"
            )
    return frame.iloc[first].reset_index(drop=True)


def _labels(
    table: Table, taken: list[str], codes: np.ndarray, num_items: int, reading: Reading, notes: list[str]
) -> list[str]:
    """Columns of words that say the same in all rows of an item: they describe it and are no series."""
    if reading.targets is not None:
        return []
    words = [c for c in table.frame.columns if c not in taken and not pd.api.types.is_numeric_dtype(table.frame[c])]
    pairs = pd.DataFrame({column: pd.factorize(table.frame[column])[0] for column in words}).assign(item=codes)
    labels = [column for column in words if len(pairs[["item", column]].drop_duplicates()) == num_items]
    if labels:
        notes.append(f"left out: {', '.join(map(repr, labels))}, words that describe an item")
    return labels


def _targets(table: Table, taken: list[str], time_columns: list[str], reading: Reading, notes: list[str]) -> list[str]:
    others = [column for column in table.frame.columns if column not in taken]
    if reading.targets is not None:
        targets = _present(table, reading.targets, "")
        rest = [column for column in others if column not in targets]
        if rest:
            notes.append(f"left out: {_listed(rest)}, as targets does not name them")
        twice = next((column for i, column in enumerate(targets) if column in targets[:i]), None)
        if twice is not None:
            raise DataError(f"{table.where}: target {twice!r} is there twice; name each column once")
        used = next((column for column in targets if column in taken), None)
        if used is not None:
            raise DataError(f"{table.where}: target {used!r} is the time or the item; name another column")
    elif time_columns == ["ds"] and "y" in others and len(others) > 1:
        targets = ["y"]
        rest = [column for column in others if column != "y"]
        notes.append(f"target: 'y', as the names ds and y mean it; left out: {_listed(rest)}")
    else:
        targets = others
    if not targets:
        beside = f"the time column {time_columns[0]!r}" if time_columns else "the others"
        raise DataError(f"{table.where}: no column beside {beside}: nothing to forecast")
    return targets


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns[:8])) + (", ..." if len(columns) > 8 else "")


def _is_series_a_row(table: Table) -> bool:
    """M4's files: columns V1, V2, ..., of which the first holds names."""
    columns = table.frame.columns
    return (
        len(columns) > 2
        and all(re.fullmatch(r"V\d+", str(column)) for column in columns)
        and not pd.api.types.is_numeric_dtype(table.frame[columns[0]])
    )


def _of_rows(table: Table, reading: Reading) -> Sheet:
    """One series a row, its name first; rows of short ones end in empty cells."""
    notes = [*table.notes, "layout: one series a row (V1 names it)"]
    where = table.where
    refuse_covariates(reading, where, "one series a row")
    if reading.freq is None:
        raise DataError(f"{where}: one series a row and no timestamps; say the step: {remedy(where, 'freq=h')}")
    name_column, *columns = table.frame.columns
    if not columns:
        raise DataError(f"{where}: layout = 'rows' needs a column of names and columns of values")
    wide, inferred = to_numbers(table, columns, reading)
    lengths = wide.shape[1] - np.argmax(~np.isnan(wide[:, ::-1]), axis=1)
    lengths[np.isnan(wide).all(axis=1)] = 0
    names = table.texts([name_column])[name_column].astype(str)
    if names.duplicated().any():
        row = int(np.argmax(names.duplicated()))
        raise DataError(f"{table.place(row, name_column)}: item {names.iloc[row]!r} is there twice; rename one")
    is_there = np.arange(wide.shape[1]) < lengths[:, None]
    rows, steps = np.nonzero(is_there)
    if not len(rows):
        raise DataError(f"{where}: no values; three or more in a row are needed")
    stamps = made_stamps(pd.Timestamp(reading.start or "1970-01-01"), int(lengths.max()), reading.freq, where)
    notes.append(f"timestamps: made up, {reading.freq} from {stamps[0]} on, for every item (the file has none)")
    return Sheet(
        where=where,
        values=wide[is_there][:, None],
        timestamps=stamps[steps],
        codes=rows,
        items=tuple(names),
        channels=("value",),
        place=lambda row, column: table.place(int(rows[row]), str(columns[steps[row]])),
        notes=(*notes, *inferred),
        is_counted=True,
    )
