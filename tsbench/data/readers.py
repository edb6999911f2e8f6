"""Reading a wide table, one row per timestamp and one column per channel, into a panel."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tsbench.data.clock import check_order, infer_freq, infer_seasonality
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
    """A panel from a wide CSV file (also gzipped) or a DataFrame; what is not given is inferred and stated in `notes`.

    A DataFrame may carry its timestamps as index. `split` defaults to the first 70 % of the rows for training and the
    last 20 % for testing.

    Raises DataError with the line and the column of the first thing that is wrong.
    """
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index() if isinstance(source.index, pd.DatetimeIndex) else source
        table = Table(frame.reset_index(drop=True), name or "data", "row", first_row=0)
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
    if not data.strip():
        raise DataError(f"{where}: the file is empty")
    if b"\x00" in data[:4096]:
        raise DataError(f"{where}: not a CSV file (it holds binary data); export it as comma-separated text")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{where}, line {line}: not {encoding} text; save the file as UTF-8") from error
    header = next(csv.reader(io.StringIO(text)))
    _check_header(header, where)
    try:
        frame = pd.read_csv(io.StringIO(text), skipinitialspace=True, skip_blank_lines=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        raise DataError(f"{where}: not a table of comma-separated values: {str(error).strip()}") from error
    frame.columns = pd.Index(header)
    return Table(frame, where)


def _check_header(header: list[str], where: str) -> None:
    if len(header) == 1:
        other = next((mark for mark in ";\t|" if mark in header[0]), None)
        hint = f"it seems to be separated by {other!r}; save it with commas" if other else "two or more are needed"
        raise DataError(f"{where}, line 1: one column only, {header[0][:60]!r}; not a CSV table: {hint}")
    twice = next((cell for i, cell in enumerate(header) if cell in header[:i]), None)
    if twice is not None:
        raise DataError(f"{where}, line 1: column {twice!r} is there twice; give each column a name of its own")
    if all(_is_number(cell) for cell in header):
        raise DataError(f"{where}, line 1: numbers instead of column names; add a header line such as date,a,b")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
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
    notes: Sequence[str] = (),
) -> Panel:
    """Check a table and lay it out as a panel of one item."""
    found = list(notes)
    if time_column is None:
        time_column = _find_time_column(table)
        found.append(f"time column: {time_column!r} (inferred)")
    timestamps = _timestamps(table, time_column, found)
    if not rows_are_consecutive:
        check_order(timestamps, table.place)
        seen = infer_freq(timestamps, table.place)
        if freq is None:
            freq = seen
            found.append(f"frequency: {freq} (inferred from the timestamps)")
    assert freq is not None  # a card with consecutive rows has one, DatasetCard checks it
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
        notes=tuple(found),
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
    first = table.frame.columns[0]
    raise DataError(
        f"{table.where}: no time column: none of {', '.join(map(repr, frame.columns[:8]))} holds timestamps "
        f"(first cell of {first!r}: {frame[first].iloc[0] if len(frame) else 'none'!r}); "
        "add a column such as date with values like 2024-01-31 13:00"
    )


def _parse_times(cells: pd.Series) -> pd.Series:
    return pd.to_datetime(cells, errors="coerce", utc=True)


def _timestamps(table: Table, column: str, notes: list[str]) -> pd.DatetimeIndex:
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
        notes.append("time zone: timestamps were converted to UTC")
    return pd.DatetimeIndex(parsed.dt.tz_localize(None).astype("datetime64[ns]"))


def _target_columns(table: Table, time_column: str, targets: Sequence[str] | None) -> list[str]:
    columns = list(targets) if targets else [column for column in table.frame.columns if column != time_column]
    missing = [column for column in columns if column not in table.frame]
    if missing:
        raise DataError(
            f"{table.where}: no column {missing[0]!r}; there are {', '.join(map(repr, table.frame.columns))}"
        )
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
    with np.errstate(over="ignore"):
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
    bad = np.flatnonzero(~np.isfinite(numbers))
    if not bad.size:
        return
    row = int(bad[0])
    cell = cells.iloc[row]
    if isinstance(cell, str):
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
