"""Files and frames as tables: how text is encoded, separated and headed, and the words for a place in it."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.reading import Reading, remedy
from tsbench.errors import DataError, MachineError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


@dataclass(frozen=True)
class Table:
    """A parsed table and the words for a place in it."""

    frame: pd.DataFrame
    where: str
    row_word: str = "line"
    first_row: int = 2
    """What the first data row is called: line 2 of a file, after the header."""
    raw: Callable[[list[str]], pd.DataFrame] | None = None
    """The text of these columns as it stands in the file; None: the frame is all there is."""
    notes: tuple[str, ...] = ()

    def place(self, row: int, column: str | None = None) -> str:
        at = f"{self.where}, {self.row_word} {row + self.first_row}"
        return at if column is None else f"{at}, column {column!r}"

    def texts(self, columns: list[str]) -> pd.DataFrame:
        """The cells of these columns as they were written."""
        return self.frame[columns] if self.raw is None else self.raw(columns)


def parse_text(data: bytes, where: str, reading: Reading) -> Table:
    """Separated values, with or without a header line, as a table. Raises DataError."""
    notes: list[str] = []
    text = _decoded(data, where, reading.encoding, notes)
    if not text:
        raise DataError(f"{where}: the file is empty")
    separator = SEPARATORS[reading.separator] if reading.separator else separator_of(text)
    if separator != "," and not reading.separator:
        notes.append(f"separator: {separator!r} (inferred)")
    first, second = _first_lines(text, separator, where)
    has_header = reading.header if reading.header is not None else _has_header(first, second, where, notes)
    names = first if has_header else [f"column_{number}" for number in range(1, len(first) + 1)]
    _check_header(names, where)
    options: dict[str, Any] = {
        "sep": separator,
        "header": 0 if has_header else None,
        "skipinitialspace": True,
        "skip_blank_lines": False,
        "index_col": False,
        "low_memory": False,  # else a column may be numbers in one stretch and text in the next
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header would be dropped
            frame = pd.read_csv(io.StringIO(text), **options)
    except pd.errors.ParserWarning as error:
        raise DataError(f"{where}, line 2: more cells than column names; give every column a name") from error
    except (pd.errors.ParserError, ValueError, OverflowError) as error:
        raise DataError(f"{where}{_parser_words(str(error))}") from error
    frame.columns = pd.Index(names)

    def raw(columns: list[str]) -> pd.DataFrame:
        chosen = [names.index(column) for column in columns]
        cells = pd.read_csv(io.StringIO(text), **options, usecols=chosen, dtype=str, keep_default_na=False)
        order = np.argsort(np.argsort(chosen))  # usecols keeps the order of the file
        return cells.iloc[:, order].set_axis(columns, axis="columns")

    return Table(frame, where, first_row=2 if has_header else 1, raw=raw, notes=tuple(notes))


def _decoded(data: bytes, where: str, encoding: str | None, notes: list[str]) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") and encoding is None:
        encoding = "utf-16"
        notes.append("encoding: utf-16 (inferred from its byte order mark)")
    if encoding != "utf-16" and b"\x00" in data:
        raise DataError(f"{where}: not a CSV file (it holds binary data); export it as comma-separated text")
    try:
        return data.decode("utf-8-sig" if encoding in (None, "utf-8") else encoding).rstrip()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        wrong = DataError(f"{where}, line {line}: not {encoding or 'utf-8'} text; save the file as UTF-8")
        if encoding is not None or re.search(rb"[\x01-\x08\x0e-\x1f]", data):
            raise wrong from error
    try:
        text = data.decode("cp1252").rstrip()
    except UnicodeDecodeError:
        raise wrong from None
    notes.append(f"encoding: cp1252 (inferred: line {line} is not UTF-8)")
    return text


def separator_of(text: str) -> str:
    """The mark that cuts the first lines into the same number of cells; a comma where none does."""
    lines = text[:20_000].splitlines()[:20]
    head = lines[:-1] or lines  # the last one may be cut
    counts = {}
    for mark in ("\t", ";", "|", ","):
        try:
            widths = [len(row) for row in csv.reader(head, delimiter=mark)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            counts[mark] = (sum(width == widths[0] for width in widths) / len(widths), mark != ",", widths[0])
    return max(counts, key=lambda mark: counts[mark]) if counts else ","


def _first_lines(text: str, separator: str, where: str) -> tuple[list[str], list[str]]:
    rows = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True, delimiter=separator)
    try:
        return next(rows), next(rows, [])
    except csv.Error as error:
        raise DataError(f"{where}, line 1: not a header of comma-separated names ({error})") from error


def _has_header(first: list[str], second: list[str], where: str, notes: list[str]) -> bool:
    """Names are not numbers. Whole numbers may be either: nobody guesses."""
    if not first or not all(_is_value(cell) for cell in first):
        return True
    if all(re.fullmatch(r"\d+", cell) for cell in first) and len(set(first)) == len(first):
        raise DataError(
            f"{where}, line 1: are {', '.join(first[:3])}{', ...' if len(first) > 3 else ''} names of columns or "
            f"values? Say header = true or false: {remedy(where, 'header=false')}"
        )
    notes.append("header: none, columns are named column_1, column_2, ... (line 1 holds values)")
    return False


def _is_value(cell: str) -> bool:
    """Whether this is a number, a timestamp or nothing, not a name."""
    try:
        float(cell or "0")
    except ValueError:
        return bool(re.match(r"\d+[-/.,]\d+", cell))
    return True


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
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise DataError(
            f"{where}, line 1: one column only, {header[0][:60]!r}; it seems to be separated by {other!r}: say so with "
            "separator, or save it with commas"
        )
    seen: set[str] = set()
    for cell in header:
        if cell in seen:
            raise DataError(f"{where}, line 1: column {cell!r} is there twice; give each column a name of its own")
        seen.add(cell)


ARROW_MAGIC = (b"PAR1", b"ARROW1", b"FEA1")


def parse_arrow(data: bytes, where: str) -> pd.DataFrame:
    """The frame of a Parquet or Feather file. Raises MachineError without the extra, DataError for a damaged file."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MachineError(
            f"{where}: reading Parquet and Feather files needs the extra: pip install 'tsbench[parquet]'"
        ) from None
    read = pd.read_parquet if data[:4] == b"PAR1" else pd.read_feather
    try:
        return read(io.BytesIO(data))
    except Exception as error:  # pyarrow has a dozen kinds, and some damage ends in others
        problem = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{where}: a damaged Parquet or Feather file ({problem}); fetch or export it again") from error


def table_of_frame(frame: pd.DataFrame, where: str) -> Table:
    """A frame whose rows count from 0 and whose column names are text; timestamps in the index become a column."""
    named = frame.set_axis(frame.columns.map(str), axis="columns")
    levels = [name for name in named.index.names if name is not None]
    if isinstance(named.index, pd.DatetimeIndex):
        levels = [str(named.index.name or "index")]
        named.index = named.index.set_names(levels)
    if not levels or (set(levels) & set(named.columns) and not isinstance(named.index, pd.DatetimeIndex)):
        return Table(named.reset_index(drop=True), where, "row", first_row=0)
    if set(levels) & set(named.columns):
        raise DataError(f"the frame's index and one of its columns are both called {levels[0]!r}; rename one of them")
    if not isinstance(named.index, (pd.DatetimeIndex, pd.MultiIndex)):
        return Table(named.reset_index(drop=True), where, "row", first_row=0)
    return Table(named.reset_index(), where, "row", first_row=0)


def is_frame(source: Any) -> bool:
    """Whether this is a frame of a library that narwhals knows by name."""
    import narwhals

    return isinstance(source, pd.DataFrame) or narwhals.from_native(source, pass_through=True) is not source


def frame_of(source: Any) -> pd.DataFrame:
    """A pandas frame from any other: polars, pyarrow, DuckDB, or whatever speaks Arrow. Raises DataError."""
    if isinstance(source, pd.DataFrame):
        return source
    import narwhals

    try:
        frame = narwhals.from_native(source)
        return (frame.collect() if isinstance(frame, narwhals.LazyFrame) else frame).to_pandas()
    except (TypeError, AttributeError):
        pass  # no frame that narwhals knows by name
    except ModuleNotFoundError as error:
        raise MachineError(f"this frame needs pyarrow on its way: pip install 'tsbench[parquet]' ({error})") from error
    if hasattr(source, "to_pandas"):  # a Hugging Face Dataset
        return source.to_pandas()
    if not hasattr(source, "__arrow_c_stream__"):
        raise DataError(
            f"cannot read a {type(source).__name__}; give a path, a DataFrame (pandas, polars, pyarrow, ...), anything "
            "that speaks the Arrow PyCapsule interface, or dicts such as {'start': '2024-01-01', 'target': [1.0, 2.0]}"
        )
    try:
        import pyarrow
    except ImportError:
        raise MachineError("a frame that speaks Arrow needs the extra: pip install 'tsbench[parquet]'") from None
    return pyarrow.table(source).to_pandas()
