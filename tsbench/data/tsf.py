"""Monash `.tsf` files: a header of @-lines, then a series a line, `name:start:1,2,?`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsbench.data.reading import Reading, refuse_covariates, remedy
from tsbench.data.sheet import Sheet
from tsbench.errors import DataError

_STEPS: dict[str, tuple[int, str]] = {
    "4_seconds": (4, "s"), "secondly": (1, "s"), "minutely": (1, "m"), "10_minutes": (10, "m"),
    "15_minutes": (15, "m"), "half_hourly": (30, "m"), "hourly": (1, "h"), "daily": (1, "D"), "weekly": (7, "D"),
    "monthly": (1, "M"), "quarterly": (3, "M"), "yearly": (12, "M"),
}  # fmt: skip
"""Numpy's units of the frequencies that the format names."""

_ALIASES = {"s": "s", "m": "min", "h": "h", "D": "D", "M": "MS"}


@dataclass
class _Header:
    attributes: list[tuple[str, str]]
    words: dict[str, str]
    data_line: int


def parse_tsf(data: bytes, where: str, reading: Reading) -> Sheet:
    """The series of a `.tsf` file. Raises DataError with the line that is wrong.

    The collection's files are cp1252 with CRLF or LF; in UTF-8 files the names of series may be anything.
    """
    try:
        text = data.decode(reading.encoding or "utf-8-sig")
    except UnicodeDecodeError:
        if reading.encoding:
            raise DataError(f"{where}: not {reading.encoding} text; leave encoding out, or name the true one") from None
        text = data.decode("cp1252", errors="replace")
    lines = text.splitlines()
    header = _header(lines, where)
    refuse_covariates(reading, where, "a .tsf file")
    names, starts, series, numbers = [], [], [], []
    for number, line in enumerate(lines[header.data_line :], header.data_line + 1):
        if line.strip():
            name, start, cells = _line(line, header, f"{where}, line {number}")
            names.append(name)
            starts.append(start)
            series.append(cells)
            numbers.append(number)
    if not series:
        raise DataError(f"{where}: a .tsf header and no series below @data")
    notes = ["format: Monash .tsf, one item for each series"]
    steps = _steps(header, reading, where)
    first = _starts(starts, numbers, steps[1], where, reading, notes)
    lengths = np.array([len(cells) for cells in series])
    codes = np.repeat(np.arange(len(series)), lengths)
    counted = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    unit = f"datetime64[{steps[1]}]"
    stamps = (first.astype(unit)[codes] + (counted * steps[0]).astype(f"timedelta64[{steps[1]}]")).astype(
        "datetime64[us]"
    )
    if stamps.max() > pd.Timestamp.max or stamps.min() < pd.Timestamp.min:
        raise DataError(f"{where}: a series leaves the years 1678 to 2261, which the clock holds; correct its start")
    # What is lost in the unit (a month's day, a day's hour) is the same for all rows of an item.
    stamps = stamps.astype("datetime64[ns]") + (first - first.astype(unit).astype(first.dtype))[codes]
    horizon = header.words.get("horizon", "")
    if horizon.isdecimal():
        notes.append(f"the file names a horizon of {horizon} rows")
    return Sheet(
        where=where,
        values=np.concatenate(series)[:, None],
        timestamps=pd.DatetimeIndex(stamps),
        codes=codes,
        items=_told_apart(names),
        channels=("value",),
        place=lambda row, column: f"{where}, line {numbers[codes[row]]}, value {int(counted[row]) + 1}",
        notes=tuple(notes),
        freq=_alias(steps, first),
        horizon=int(horizon) if horizon.isdecimal() else None,
    )


def _header(lines: list[str], where: str) -> _Header:
    header = _Header([], {}, 0)
    for number, line in enumerate(lines, 1):
        key, _, rest = line.strip().partition(" ")
        key = key.lower()
        if key == "@data":
            header.data_line = number
            return header
        if key == "@attribute":
            name, _, kind = rest.strip().rpartition(" ")
            header.attributes.append((name.strip(), kind.strip().lower()))
        elif key.startswith("@"):
            header.words[key[1:]] = rest.strip()
        elif key and not key.startswith("#"):
            raise DataError(f"{where}, line {number}: {line[:40]!r} is no @-line of a .tsf header; is @data missing?")
    raise DataError(f"{where}: no line @data: not a .tsf file, or a cut one")


def _line(line: str, header: _Header, at: str) -> tuple[str, str, np.ndarray]:
    """Name, start and values of a series. A name may hold colons: the values are what follows the last one."""
    parts = line.split(":")
    surplus = len(parts) - 1 - len(header.attributes)
    if surplus < 0:
        raise DataError(
            f"{at}: {len(parts) - 1} attributes before the values, but the header declares "
            f"{', '.join(name for name, _ in header.attributes)}; mend the line"
        )
    parts = [":".join(parts[: surplus + 1]), *parts[surplus + 1 :]]
    told = dict(zip((name for name, _ in header.attributes), parts, strict=False))
    start = next((told[name] for name, kind in header.attributes if kind == "date"), "")
    cells = parts[-1].strip()
    try:
        values = np.array([float(cell) for cell in cells.replace("?", "nan").split(",")])
    except ValueError as error:
        raise DataError(f"{at}: {str(error)[:90]}; write numbers, and ? where one is missing") from None
    if np.isinf(values).any() or (np.abs(values) > np.finfo(np.float32).max).any():
        raise DataError(f"{at}: a value is not finite, or larger than float32 holds (3.4e38); replace it")
    return next((told[name] for name, kind in header.attributes if kind != "date"), ""), start.strip(), values


def _steps(header: _Header, reading: Reading, where: str) -> tuple[int, str]:
    said = header.words.get("frequency", "").lower()
    if said in _STEPS and reading.freq is None:
        return _STEPS[said]
    if reading.freq is None:
        problem = f"@frequency {said!r}" if said else "no @frequency in the header"
        raise DataError(f"{where}: {problem}; say it: {remedy(where, 'freq=h')}. Known: {', '.join(_STEPS)}")
    match = re.fullmatch(r"(\d*)(s|min|h|D|W|MS|QS|YS)(-\w+)?", reading.freq)
    if not match:
        raise DataError(
            f"{where}: freq {reading.freq!r}: for a .tsf file write one such as s, 10min, h, D, W, MS, QS, YS"
        )
    count, unit = int(match[1] or 1), match[2]
    each, word = {"min": (1, "m"), "W": (7, "D"), "MS": (1, "M"), "QS": (3, "M"), "YS": (12, "M")}.get(unit, (1, unit))
    return count * each, word


def _starts(
    starts: list[str], numbers: list[int], unit: str, where: str, reading: Reading, notes: list[str]
) -> np.ndarray:
    if not any(starts):
        made_up = pd.Timestamp(reading.start or "1970-01-01").tz_localize(None)
        notes.append(f"timestamps: made up from {made_up} on (the file has none)")
        return np.full(len(starts), made_up.to_datetime64()).astype("datetime64[ns]")
    texts = pd.Series(starts).str.replace(r"(\d{2})-(\d{2})-(\d{2})$", r"\1:\2:\3", regex=True).where(
        lambda text: text.str.len() > 10, pd.Series(starts)
    )  # fmt: skip
    parsed = pd.to_datetime(texts, format="ISO8601", errors="coerce")
    bad = np.flatnonzero(parsed.isna() | (parsed < pd.Timestamp.min) | (parsed > pd.Timestamp.max))
    if bad.size:
        raise DataError(
            f"{where}, line {numbers[bad[0]]}: start {starts[bad[0]][:40]!r} is not a timestamp; write it like "
            "2012-01-01 00-00-00"
        )
    first = parsed.to_numpy().astype("datetime64[ns]")
    months = first.astype("datetime64[M]").astype(first.dtype)
    if unit == "M" and (first != months).any():
        notes.append(f"timestamps: {int((first != months).sum())} starts within a month were moved to its first day")
        return months
    return first


def _alias(steps: tuple[int, str], starts: np.ndarray) -> str:
    """The pandas alias: weeks and quarters are named by where they begin if all items agree."""
    count, unit = steps
    if (count, unit) == (7, "D") and len(days := set(pd.DatetimeIndex(starts).day_name())) == 1:
        return f"W-{days.pop()[:3].upper()}"
    base = {3: "QS", 12: "YS"}.get(count)
    if unit == "M" and base:
        months = {(month - 1) % count for month in pd.DatetimeIndex(starts).month}
        if len(months) == 1:
            return f"{base}-{pd.Timestamp(2000, months.pop() + 1, 1):%b}".upper()
    return f"{count if count > 1 else ''}{_ALIASES[unit]}"


def _told_apart(names: list[str]) -> tuple[str, ...]:
    """Series without a name, or with one name, are told apart by their number."""
    if len(set(names)) == len(names) and all(names):
        return tuple(names)
    return tuple(f"{name or 'series'}#{number}" for number, name in enumerate(names, 1))
