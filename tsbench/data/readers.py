"""Reading a wide table, one row per timestamp and one column per channel, into a panel."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tsbench.data.clock import check_freq, check_order, infer_freq, infer_seasonality
from tsbench.data.files import read_bytes
from tsbench.data.panel import About, Panel
from tsbench.data.splits import SplitByFractions, SplitRule
from tsbench.errors import DataError

_TIME_NAMES = ("date", "datetime", "timestamp", "time", "ds")


def read_panel(
    source: str | Path | pd.DataFrame,
    *,
    name: str | None = None,
    time_column: str | None = None,
    targets: Sequence[str] | None = None,
    freq: str | None = None,
    seasonality: int | None = None,
    split: SplitRule | None = None,
) -> Panel:
    """A panel from a wide CSV file (also gzipped) or a DataFrame; what is not given is found out, see `inferred`.

    A DataFrame may carry its timestamps as index. `split` defaults to the first 70 % of the rows for training and the
    last 20 % for testing.

    Raises DataError with the line and the column of the first thing that is wrong.
    """
    if isinstance(source, pd.DataFrame):
        table = Table(_with_time_as_column(source), name or "data", "row", first_row=0)
    else:
        path = Path(source)
        table = parse_csv(read_bytes(path), str(path))
        name = name or path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return panel_from_table(
        table,
        name=name or "data",
        time_column=time_column,
        targets=targets,
        freq=freq,
        seasonality=seasonality,
        split=split,
        about=About(title=Path(table.where).name),
    )


def _with_time_as_column(source: pd.DataFrame) -> pd.DataFrame:
    """A copy whose rows count from 0 and whose column names are text."""
    frame = source.set_axis(source.columns.map(str), axis="columns")
    if not isinstance(source.index, pd.DatetimeIndex):
        return frame.reset_index(drop=True)
    name = str(source.index.name or "index")
    if name in frame:
        raise DataError(f"the frame's index and one of its columns are both called {name!r}; rename one of them")
    return frame.reset_index(names=name)


@dataclass(frozen=True)
class Table:
    """A parsed table and the words for a place in it."""

    frame: pd.DataFrame
    where: str
    row_word: str = "line"
    first_row: int = 2
    """What the first data row is called: line 2 of a file, after the header."""

    def place(self, row: int, column: str | None = None) -> str:
        at = f"{self.where}, {self.row_word} {row + self.first_row}"
        return at if column is None else f"{at}, column {column!r}"


def parse_csv(data: bytes, where: str, encoding: str = "utf-8") -> Table:
    """Comma-separated bytes with a header line as a table. Raises DataError."""
    if b"\x00" in data[:4096]:
        raise DataError(f"{where}: not a CSV file (it holds binary data); export it as comma-separated text")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding).rstrip()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{where}, line {line}: not {encoding} text; save the file as UTF-8") from error
    if not text:
        raise DataError(f"{where}: the file is empty")
    try:
        header = next(csv.reader(io.StringIO(text, newline=None), skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{where}, line 1: not a header of comma-separated names ({error})") from error
    _check_header(header, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header would be dropped
            frame = pd.read_csv(io.StringIO(text), skipinitialspace=True, skip_blank_lines=False, index_col=False)
    except pd.errors.ParserWarning as error:
        raise DataError(f"{where}, line 2: more cells than column names; give every column a name") from error
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{where}{_parser_words(str(error))}") from error
    frame.columns = pd.Index(header)
    return Table(frame, where)


def _parser_words(problem: str) -> str:
    """Where the parser stopped, and what to do about it."""
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", problem)
    if ragged:
        columns, line, cells = ragged.groups()
        return f", line {line}: {cells} cells, but the header names {columns} columns; mend the line"
    return f": not a table of comma-separated values ({problem.strip()}); look for a quotation mark that is not closed"


def _check_header(header: list[str], where: str) -> None:
    if not header:
        raise DataError(f"{where}, line 1: blank; the header with the column names belongs there")
    if len(header) == 1:
        other = next((mark for mark in ";\t|" if mark in header[0]), None)
        hint = f"it seems to be separated by {other!r}; save it with commas" if other else "two or more are needed"
        raise DataError(f"{where}, line 1: one column only, {header[0][:60]!r}; not a CSV table: {hint}")
    twice = next((cell for i, cell in enumerate(header) if cell in header[:i]), None)
    if twice is not None:
        raise DataError(f"{where}, line 1: column {twice!r} is there twice; give each column a name of its own")
    if all(_is_value(cell) for cell in header):
        raise DataError(f"{where}, line 1: values instead of column names; add a header line such as date,a,b")


def _is_value(cell: str) -> bool:
    """Whether this is a number or a timestamp, not a name."""
    try:
        float(cell)
    except ValueError:
        return bool(re.match(r"\d+[-/.]\d+", cell))
    return True


def panel_from_table(
    table: Table,
    *,
    name: str,
    about: About,
    time_column: str | None = None,
    targets: Sequence[str] | None = None,
    freq: str | None = None,
    seasonality: int | None = None,
    split: SplitRule | None = None,
    rows_are_consecutive: bool = False,
    defects: Sequence[str] = (),
) -> Panel:
    """Check a table and lay it out as a panel of one item."""
    found: list[str] = []
    if not len(table.frame):
        raise DataError(f"{table.where}: column names and no rows; three or more are needed")
    if time_column is None:
        time_column = _find_time_column(table)
        found.append(f"time column: {time_column!r} (inferred)")
    timestamps = _timestamps(table, time_column, found)
    seen = None
    if not rows_are_consecutive:
        check_order(timestamps, table.place)
        seen = infer_freq(timestamps, table.place)
    if freq is None:
        assert seen is not None  # a card with consecutive rows has a freq, DatasetCard checks it
        freq = seen
        found.append(f"frequency: {freq} (inferred from the timestamps)")
    else:
        check_freq(freq, timestamps, seen, table.where)
    if seasonality is None:
        seasonality = infer_seasonality(freq)
        found.append(f"seasonality: {seasonality} rows (the usual season of {freq})")
    if split is None:
        split = SplitByFractions()
        found.append(f"split: {split} (default)")
    columns = _target_columns(table, time_column, targets)
    panel = Panel(
        name=name,
        values=_values(table, columns),
        timestamps=timestamps.to_numpy(dtype="datetime64[ns]"),
        channels=tuple(columns),
        freq=freq,
        seasonality=seasonality,
        split=split,
        about=about,
        inferred=tuple(found),
        defects=tuple(defects),
    )
    return panel


def _find_time_column(table: Table) -> str:
    frame = table.frame
    named = [column for column in frame.columns if str(column).strip().lower() in _TIME_NAMES]
    for column in named + [column for column in frame.columns if column not in named]:
        cells = frame[column]
        if pd.api.types.is_datetime64_any_dtype(cells):
            return column
        if pd.api.types.is_numeric_dtype(cells):
            continue
        # The named column is taken even if a later cell is bad: that cell is then reported with its line.
        if column in named or _parse_times(cells.head(50)).notna().all():
            return column
    if named:  # it holds numbers: the reader of the timestamps says so
        return named[0]
    first = frame.columns[0]
    raise DataError(
        f"{table.where}: no time column: none of {', '.join(map(repr, frame.columns[:8]))} holds timestamps "
        f"(first cell of {first!r}: {_shown(frame[first].iloc[0])}); "
        "add a column such as date with values like 2024-01-31 13:00"
    )


def _parse_times(cells: pd.Series) -> pd.Series:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not infer format")  # the refusal that follows says it with the line
        return pd.to_datetime(cells, errors="coerce", utc=True)


def _timestamps(table: Table, column: str, found: list[str]) -> pd.DatetimeIndex:
    if column not in table.frame:
        raise DataError(
            f"{table.where}: no column {column!r} for the time; "
            f"there are {', '.join(map(repr, table.frame.columns[:12]))}"
        )
    cells = table.frame[column]
    if pd.api.types.is_numeric_dtype(cells):
        raise DataError(
            f"{table.where}, column {column!r}: numbers such as {cells.iloc[0]} instead of timestamps; "
            "write them like 2024-01-31 13:00"
        )
    parsed = _parse_times(cells)
    bad = np.flatnonzero(parsed.isna().to_numpy())
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{table.place(row, column)}: {_shown(cells.iloc[row])} is not a timestamp ({len(bad)} such cells); "
            "write all of them one way, such as 2024-01-31 13:00"
        )
    sample = str(cells.iloc[0])
    if sample.endswith("Z") or "+" in sample[10:] or "-" in sample[11:]:
        found.append("time zone: timestamps were converted to UTC")
    parsed = parsed.dt.tz_localize(None)
    outside = np.flatnonzero(~parsed.between(pd.Timestamp.min, pd.Timestamp.max).to_numpy())
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"{table.place(row, column)}: {_shown(cells.iloc[row])} is outside the years 1678 to 2261, which the clock "
            "holds; move the timestamps into them"
        )
    return pd.DatetimeIndex(parsed.astype("datetime64[ns]"))


def _target_columns(table: Table, time_column: str, targets: Sequence[str] | None) -> list[str]:
    columns = [column for column in table.frame.columns if column != time_column] if targets is None else list(targets)
    missing = [column for column in columns if column not in table.frame]
    if missing:
        raise DataError(
            f"{table.where}: no column {missing[0]!r}; there are {', '.join(map(repr, table.frame.columns))}"
        )
    twice = next((column for i, column in enumerate(columns) if column in columns[:i]), None)
    if twice is not None:
        raise DataError(f"{table.where}: target {twice!r} is there twice; name each column once")
    if not columns:
        raise DataError(f"{table.where}: no column beside the time column {time_column!r}: nothing to forecast")
    return columns


def _values(table: Table, columns: list[str]) -> np.ndarray:
    """`[T, C]` float32. Raises DataError at the first cell that is no finite number or that float32 cannot hold."""
    values = np.empty((len(table.frame), len(columns)), dtype=np.float64)
    for index, column in enumerate(columns):
        cells = table.frame[column]
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        _refuse_first(table, column, cells, numbers)
        values[:, index] = numbers
    rounded = np.ascontiguousarray(values, dtype=np.float32)
    spread = values.std(axis=0) if len(values) else np.zeros(len(columns))
    lost = np.abs(values - rounded).max(axis=0, initial=0)
    # A level of 1e9 with a spread of 1 would be rounded away silently.
    bad = np.flatnonzero((lost > 1e-3 * spread) & (spread > 0))
    if bad.size:
        raise DataError(
            f"{table.where}, column {columns[bad[0]]!r}: its values vary by {spread[bad[0]]:.3g} around a level that "
            f"float32 rounds by up to {lost[bad[0]]:.3g}; subtract a constant from the column or drop it"
        )
    return rounded


def _refuse_first(table: Table, column: str, cells: pd.Series, numbers: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(numbers) <= np.finfo(np.float32).max))
    if not bad.size:
        return
    row = int(bad[0])
    cell = cells.iloc[row]
    if np.isfinite(numbers[row]):
        problem, remedy = f"{cell} is larger than float32 holds (3.4e38)", "use a larger unit, or leave the column out"
    elif isinstance(cell, str):
        problem, remedy = f"{_shown(cell)} is not a number", "mend the cell, or leave the column out"
    elif pd.isna(cell):
        problem, remedy = (
            "a missing value (empty or NaN)",
            "fill it, for example by interpolation, or leave the column out",
        )
    else:
        problem, remedy = f"{cell} is not finite", "replace it"
    raise DataError(f"{table.place(row, column)}: {problem} ({len(bad)} such cells in this column); {remedy}")


def _shown(cell: object) -> str:
    return "an empty cell" if pd.isna(cell) else repr(str(cell)[:40])  # type: ignore[call-overload]
