"""Cells into numbers: decimal commas and thousands separators are read off all cells, or told; never guessed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pandas as pd

from tsbench.data.reading import Reading, remedy
from tsbench.data.tables import Table
from tsbench.data.times import shown
from tsbench.errors import DataError

_MARKS = {"point": ".", "comma": ",", "blank": " ", "apostrophe": "'"}
_STYLES = [("point", "comma"), ("comma", "point"), ("comma", "blank"), ("point", "blank"), ("point", "apostrophe")]
_MISSING = {"", "NA", "NaN", "nan", "N/A", "n/a", "null", "NULL", "None", "?", "-", "<NA>", "#N/A"}


def to_numbers(table: Table, columns: list[str], reading: Reading) -> tuple[np.ndarray, list[str]]:
    """`[T, C]` float64 with NaN for missing cells, and what was inferred.

    Raises DataError at the first cell that is no finite number or that float32 cannot hold.
    """
    values = np.empty((len(table.frame), len(columns)), dtype=np.float64)
    texts: dict[int, pd.Series] = {}
    for index, column in enumerate(columns):
        cells = table.frame[column]
        try:
            values[:, index] = _plain(cells)
        except TypeError:  # dates, lists, records
            _refuse_text(table, column, 0, columns)
        if _holds_text(cells, values[:, index]):
            texts[index] = cells
    notes: list[str] = []
    truths = [column for column in columns if pd.api.types.is_bool_dtype(table.frame[column])]
    if truths:
        notes.append(f"numbers: True and False are taken as 1 and 0 in {', '.join(map(repr, truths[:8]))}")
    style = _told_style(reading)
    if style is not None or texts:
        if style is None:
            style = _style(table, columns, texts)
            notes.append(_words(style, [columns[index] for index in texts]))
        _read_again(table, columns, values, style, list(texts))
    _refuse_infinite(table, columns, values)
    return values, notes


def _plain(cells: pd.Series) -> np.ndarray:
    """What reads as a number without further ado; NaN elsewhere."""
    if pd.api.types.is_datetime64_any_dtype(cells) or pd.api.types.is_timedelta64_dtype(cells):
        raise TypeError("a column of dates")
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    try:
        return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError:  # whole numbers of hundreds of digits; as text they become infinite, which is refused
        return pd.to_numeric(cells.astype(str), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _told_style(reading: Reading) -> tuple[str, str | None] | None:
    if not reading.decimal and not reading.thousands:
        return None
    return reading.decimal or ("comma" if reading.thousands == "point" else "point"), reading.thousands


def _holds_text(cells: pd.Series, numbers: np.ndarray) -> bool:
    left = cells[np.isnan(numbers) & cells.notna().to_numpy()]
    return bool(len(left)) and not left.astype(str).str.strip().isin(_MISSING).all()


def _pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    point = re.escape(_MARKS[decimal])
    mark = "[ \u00a0\u202f]" if thousands == "blank" else re.escape(_MARKS[thousands]) if thousands else None
    whole = rf"(?:\d{{1,3}}(?:{mark}\d{{3}})+|\d+)" if mark else r"\d+"
    return re.compile(rf"\s*[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


def _style(table: Table, columns: list[str], texts: dict[int, pd.Series]) -> tuple[str, str | None]:
    """The one way of writing in which all these columns are numbers."""
    possible = list(_STYLES)
    for index, cells in texts.items():
        written = cells.dropna().astype(str)
        written = written[~written.str.strip().isin(_MISSING)]
        fits = [style for style in _STYLES if written.str.fullmatch(_pattern(*style)).all()]
        if not fits:
            bad = np.flatnonzero(np.isnan(_plain(cells)) & cells.notna().to_numpy())
            _refuse_text(table, columns[index], int(bad[0]), columns, len(bad))
        possible = [style for style in possible if style in fits]
    if not possible:
        names = ", ".join(repr(columns[index]) for index in list(texts)[:4])
        raise DataError(
            f"{table.where}: columns {names} write their decimals in different ways; say decimal and thousands for "
            "all, or leave columns out with targets"
        )
    if ("point", "comma") in possible and ("comma", "point") in possible:
        index, cells = next(iter(texts.items()))
        row = int(np.argmax((np.isnan(_plain(cells)) & cells.notna()).to_numpy()))
        raise DataError(
            f"{table.place(row, columns[index])}: {shown(cells.iloc[row])} may hold a decimal comma or a thousands "
            f"separator; say which: decimal=comma or thousands=comma, such as "
            f"{remedy(table.where, 'decimal=comma')}"
        )
    return min(possible, key=lambda style: style[0] == "comma")  # 1 234 says nothing of decimals: the point stays


def _words(style: tuple[str, str | None], columns: list[str]) -> str:
    decimal, thousands = style
    shown_columns = ", ".join(map(repr, columns[:4])) + (", ..." if len(columns) > 4 else "")
    mark = "decimal comma" if decimal == "comma" else f"thousands separator {_MARKS[str(thousands)]!r}"
    return f"numbers: {mark} (inferred from {shown_columns})"


def _read_again(
    table: Table, columns: list[str], values: np.ndarray, style: tuple[str, str | None], texts: list[int]
) -> None:
    """With a decimal comma 1.234 is one thousand in every column, so all of them are read from their text."""
    chosen = list(range(len(columns))) if style[0] == "comma" else texts
    if not chosen:
        return
    written = table.texts([columns[index] for index in chosen])
    pattern, mark = _pattern(*style), _MARKS[style[1]] if style[1] else ""
    for index in chosen:
        cells = written[columns[index]]
        if pd.api.types.is_numeric_dtype(cells):
            continue
        text = cells.astype(str).str.strip()
        is_missing = cells.isna() | text.isin(_MISSING)
        fits = text.str.fullmatch(pattern)
        bad = np.flatnonzero((~fits & ~is_missing).to_numpy())
        if bad.size:
            _refuse_text(replace(table, frame=written), columns[index], int(bad[0]), columns, len(bad))
        plain = text.where(fits, "nan")
        if mark:
            plain = plain.str.replace(r"[ \u00a0\u202f]" if mark == " " else re.escape(mark), "", regex=True)
        values[:, index] = plain.str.replace(_MARKS[style[0]], ".", regex=False).astype(np.float64)


def _refuse_text(table: Table, column: str, row: int, columns: list[str], count: int | None = None) -> NoReturn:
    count = len(table.frame) if count is None else count
    numeric = [name for name in columns if name in table.frame and pd.api.types.is_numeric_dtype(table.frame[name])]
    named = ",".join(name for name in numeric if name != column)
    leave = f": {remedy(table.where, f'targets={named}')}" if numeric and len(named) < 200 and " " not in named else ""
    raise DataError(
        f"{table.place(row, column)}: {shown(table.frame[column].iloc[row])} is not a number ({count} such cells in "
        f"this column); mend the cell, or leave the column out by naming the others in targets{leave}"
    )


def _refuse_infinite(table: Table, columns: list[str], values: np.ndarray) -> None:
    bad = np.argwhere(np.isinf(values) | (np.abs(values) > np.finfo(np.float32).max))
    if not len(bad):
        return
    index = int(bad[:, 1].min())  # the first column that is wrong, at its first row
    rows = bad[bad[:, 1] == index, 0]
    number = values[rows[0], index]
    if np.isfinite(number):
        problem, what = f"{number} is larger than float32 holds (3.4e38)", "use a larger unit, or leave the column out"
    else:
        problem, what = f"{number} is not finite", "replace it"
    raise DataError(
        f"{table.place(int(rows[0]), columns[index])}: {problem} ({len(rows)} such cells in this column); {what}"
    )


def to_float32(values: np.ndarray, channels: tuple[str, ...], where: str) -> np.ndarray:
    """`[T, C]` float32, NaN as it is. Raises DataError for a channel whose values float32 cannot tell apart."""
    rounded = np.ascontiguousarray(values, dtype=np.float32)
    has_holes = np.isnan(values).any()
    spread = (np.nanstd if has_holes else np.std)(values, axis=0) if len(values) else np.zeros(values.shape[1])
    lost = np.fmax.reduce(np.abs(values - rounded), axis=0, initial=0)
    refuse_lost(lost, spread, channels, where)
    return rounded


def refuse_lost(lost: np.ndarray, spread: np.ndarray, channels: tuple[str, ...], where: str) -> None:
    """Raises DataError where float32 rounds by too much of the spread: a level of 1e9 with a spread of 1."""
    bad = np.flatnonzero((lost > 1e-3 * spread) & (spread > 0))
    if bad.size:
        raise DataError(
            f"{where}, column {channels[bad[0]]!r}: its values vary by {spread[bad[0]]:.3g} around a level that "
            f"float32 rounds by up to {lost[bad[0]]:.3g}; subtract a constant from the column or drop it"
        )
