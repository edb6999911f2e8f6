"""Cells into timestamps. How they are written is read off all of them, or told; between two ways nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from tsbench.errors import DataError

Place = Callable[[int], str]
"""The words for a row."""

EPOCHS = {"epoch_s": "s", "epoch_ms": "ms", "epoch_us": "us", "epoch_ns": "ns"}

_CLOCK = r"(?:[ T]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:\.\d+)?))?\s*(?P<half>[AaPp][Mm])?)?"
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}}){_CLOCK}")
_YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}){_CLOCK}")
_RUN_TOGETHER = re.compile(rf"(?P<a>\d{{2}})(?P<b>\d{{2}})(?P<year>\d{{4}}){_CLOCK}")
_RUN_YEAR_FIRST = re.compile(
    rf"(?P<year>(?:1[6-9]|2[0-2])\d{{2}})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01]){_CLOCK}"
)
_QUARTER = re.compile(r"(?P<year>\d{4})[ -]?Q(?P<quarter>[1-4])")
_SHORT_YEAR = re.compile(rf"\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2}}{_CLOCK}")
_MONTH_NAMED = re.compile(
    r"(?i)(?=.*\b\d{4}\b)(?=.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))[\w :,./+-]{8,40}"
)
_ZONED = re.compile(r".*:\d{2}(?:[.,]\d+)?\s?(?:Z|[+-]\d{2}(?::?\d{2})?)")
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2})?([ T]\d{2}(:\d{2}(:\d{2}([.,]\d+)?)?)?)?\s?(Z|[+-]\d{2}:?(\d{2})?)?")


def to_timestamps(cells: pd.Series, place: Place, time_format: str | None = None) -> tuple[pd.DatetimeIndex, list[str]]:
    """Timestamps without a zone, in UTC where the cells name one, and what was inferred on the way.

    Raises DataError with the place of the first cell that is no timestamp, or where day and month look the same.
    """
    if isinstance(cells.dtype, pd.PeriodDtype):
        cells = cells.dt.to_timestamp()
    if pd.api.types.is_datetime64_any_dtype(cells):
        return _checked(cells, cells, place, _told_zone(getattr(cells.dt, "tz", None) is not None))
    codes, unique = pd.factorize(cells)  # a long table repeats its stamps for every item
    if len(unique) == 0:
        raise DataError(f"{place(0)}: an empty cell is not a timestamp; write it like 2024-01-31 13:00")
    if pd.api.types.is_bool_dtype(cells):
        unique = pd.Index(unique).astype(str)
    if pd.api.types.is_numeric_dtype(unique):
        parsed, notes = _from_numbers(pd.Series(unique), place, time_format)
    else:
        parsed, notes = _from_text(pd.Series(unique).astype(str).str.strip(), place, time_format)
    found = pd.Series(parsed.to_numpy()).reindex(codes).reset_index(drop=True)  # an empty cell has the code -1
    return _checked(cells, found, place, notes)


def _told_zone(zoned: bool) -> list[str]:
    return ["time zone: timestamps were converted to UTC"] if zoned else []


def _checked(cells: pd.Series, parsed: pd.Series, place: Place, notes: list[str]) -> tuple[pd.DatetimeIndex, list[str]]:
    bad = np.flatnonzero(parsed.isna().to_numpy())
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{place(row)}: {shown(cells.iloc[row])} is not a timestamp ({len(bad)} such cells); "
            "write all of them one way, such as 2024-01-31 13:00"
        )
    index = pd.DatetimeIndex(parsed)
    index = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
    outside = np.flatnonzero((index < pd.Timestamp.min) | (index > pd.Timestamp.max))
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"{place(row)}: {shown(cells.iloc[row])} is outside the years 1678 to 2261, which the clock "
            "holds; move the timestamps into them"
        )
    return index.as_unit("ns"), notes


def _from_numbers(numbers: pd.Series, place: Place, time_format: str | None) -> tuple[pd.Series, list[str]]:
    """Epochs, years, or 20240131; which of them, all numbers must agree on."""
    if time_format is not None and time_format not in EPOCHS:
        whole = numbers.map(lambda number: f"{number:.0f}" if float(number).is_integer() else str(number))
        return _from_text(whole, place, time_format)
    if time_format is not None:
        return _from_epoch(numbers, EPOCHS[time_format]), []
    low, high = float(numbers.min()), float(numbers.max())
    is_whole = bool((numbers % 1 == 0).all())
    for unit, smallest in (("s", 1e8), ("ms", 1e11), ("us", 1e14), ("ns", 1e17)):
        if smallest <= low and high < 1e2 * smallest * (1 if unit != "ns" else 92):
            words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
            return _from_epoch(numbers, unit), [f"timestamps: {words} since 1970, UTC (inferred from their size)"]
    if is_whole and low >= 1678 and high <= 2261:
        return pd.to_datetime(numbers.astype(int).astype(str), format="%Y", errors="coerce"), [
            "timestamps: years (inferred)"
        ]
    if is_whole and low >= 16780101 and high <= 22611231:
        return _by_format(numbers.astype(int).astype(str), "%Y%m%d"), ["timestamps: written as YYYYMMDD (inferred)"]
    raise DataError(
        f"{place(0)}: numbers such as {numbers.iloc[0]} instead of timestamps; write them like 2024-01-31 13:00, or "
        "say how they are meant: time_format = epoch_s, epoch_ms or %Y%m%d"
    )


def _from_epoch(numbers: pd.Series, unit: str) -> pd.Series:
    if pd.api.types.is_float_dtype(numbers) and bool((numbers % 1 == 0).all()) and numbers.abs().max() < 2**53:
        numbers = numbers.astype("int64")
    return pd.to_datetime(numbers, unit=unit, errors="coerce")  # type: ignore[call-overload]


def _by_format(texts: pd.Series, time_format: str) -> pd.Series:
    return pd.to_datetime(texts, format=time_format, errors="coerce", utc="%z" in time_format)


def _from_text(texts: pd.Series, place: Place, time_format: str | None) -> tuple[pd.Series, list[str]]:
    if time_format in EPOCHS:
        return _from_epoch(pd.to_numeric(texts, errors="coerce"), EPOCHS[str(time_format)]), []
    if time_format is not None:
        try:
            return _by_format(texts, time_format), _told_zone("%z" in time_format)
        except (ValueError, re.error) as error:
            raise DataError(
                f"{place(0)}: time_format {time_format!r}: {error}; write it like %d.%m.%Y %H:%M"
            ) from error
    if _share(texts, _ISO) > 0.5:
        return _from_iso(texts, place)
    for pattern, reader in (
        (_YEAR_FIRST, _from_parts),
        (_RUN_YEAR_FIRST, _from_parts),
        (_RUN_TOGETHER, _from_day_and_month),
        (_YEAR_LAST, _from_day_and_month),
        (_QUARTER, _from_quarters),
    ):
        if _share(texts, pattern) > 0.5:
            return reader(texts, texts.str.extract(f"^{pattern.pattern}$"), place)
    if _share(texts, _MONTH_NAMED) > 0.5:
        named = texts.where(texts.str.fullmatch(_MONTH_NAMED))
        return pd.to_datetime(named, format="mixed", errors="coerce", utc=True), []
    if _share(texts, _SHORT_YEAR) > 0.5:
        raise DataError(
            f"{place(0)}: {texts.iloc[0]!r} has a year of two digits, which may be read in several ways; say which: "
            "time_format = %d.%m.%y or %m/%d/%y"
        )
    return pd.Series(pd.NaT, index=texts.index), []


def _share(texts: pd.Series, pattern: re.Pattern[str]) -> float:
    """Of the first few hundred: which way they are written. Cells that are not are found when all are parsed."""
    return float(texts.head(300).str.fullmatch(pattern).mean())


def _from_iso(texts: pd.Series, place: Place) -> tuple[pd.Series, list[str]]:
    # Only what looks like ISO goes in: the parser also takes 20240131 and 1949.
    zoned = texts.str.fullmatch(_ZONED)
    fits = texts.str.fullmatch(_ISO)
    parsed = pd.to_datetime(texts.where(fits), format="ISO8601", errors="coerce", utc=True)
    if zoned.any() and not zoned[parsed.notna()].all():
        plain, with_zone = texts[~zoned & parsed.notna()].iloc[0], texts[zoned].iloc[0]
        raise DataError(
            f"{place(0)}: some timestamps name a time zone ({with_zone!r}), others do not ({plain!r}); "
            "write all of them one way"
        )
    return parsed, _told_zone(bool(zoned.any()))


def _from_day_and_month(texts: pd.Series, parts: pd.DataFrame, place: Place) -> tuple[pd.Series, list[str]]:
    """31.01.2024, 01/31/2024 or 31012024: a number above 12 shows which one is the day."""
    a, b = (pd.to_numeric(parts[key]).fillna(0) for key in ("a", "b"))
    day_first, month_first = bool((a > 12).any()), bool((b > 12).any())
    if day_first and month_first:
        cells = texts[a > 12].iloc[0], texts[b > 12].iloc[0]
        raise DataError(
            f"{place(0)}: {cells[0]!r} has the day first, {cells[1]!r} the month; write all of them one way, such as "
            "2024-01-31"
        )
    if not day_first and not month_first:
        mark = parts["mark"].dropna().iloc[0] if "mark" in parts and parts["mark"].notna().any() else ""
        day, month = f"%d{mark}%m{mark}%Y", f"%m{mark}%d{mark}%Y"
        clock = "" if parts["hour"].isna().all() else " %H:%M" if parts["second"].isna().all() else " %H:%M:%S"
        raise DataError(
            f"{place(0)}: {texts.iloc[0]!r} may have the day or the month first, and no cell has a number above 12 to "
            f"show it; say which: time_format={(day + clock)!r} or {(month + clock)!r}"
        )
    words, evidence = ("day", texts[a > 12].iloc[0]) if day_first else ("month", texts[b > 12].iloc[0])
    parts = parts.assign(day=a if day_first else b, month=b if day_first else a)
    parsed, _ = _from_parts(texts, parts, place)
    return parsed, [f"timestamps: the {words} is first (seen from {evidence!r})"]


def _from_parts(texts: pd.Series, parts: pd.DataFrame, place: Place) -> tuple[pd.Series, list[str]]:
    dates = pd.to_datetime(parts[["year", "month", "day"]].apply(pd.to_numeric), errors="coerce")
    clock = parts[["hour", "minute", "second"]].apply(pd.to_numeric).fillna(0)
    hour = clock["hour"]
    if parts["half"].notna().any():
        hour = hour % 12 + 12 * parts["half"].str.lower().eq("pm")
    valid = (hour < 24) & (clock["minute"] < 60) & (clock["second"] < 60)
    seconds = pd.to_timedelta(hour * 3600 + clock["minute"] * 60 + clock["second"], unit="s")
    return (dates + seconds).where(valid), []


def _from_quarters(texts: pd.Series, parts: pd.DataFrame, place: Place) -> tuple[pd.Series, list[str]]:
    month = 3 * pd.to_numeric(parts["quarter"]) - 2
    dates = pd.DataFrame({"year": pd.to_numeric(parts["year"]), "month": month, "day": 1})
    return pd.to_datetime(dates, errors="coerce"), ["timestamps: quarters, taken at their first day"]


def to_utc(timestamps: pd.DatetimeIndex, items: np.ndarray, time_zone: str, place: Place) -> pd.DatetimeIndex:
    """Local stamps in UTC. Of two equal stamps of an item, as when clocks are set back, the first is summer time.

    Raises DataError for an unknown zone, and at a stamp that the clock skipped.
    """
    first = ~pd.DataFrame({"item": items, "stamp": timestamps}).duplicated().to_numpy()
    try:
        local = timestamps.tz_localize(time_zone, ambiguous=first, nonexistent="NaT")
    except (LookupError, ValueError, OSError, TypeError) as error:  # zoneinfo has several words for a name it lacks
        raise DataError(f"{place(0)}: no time zone {time_zone!r}; write it like Europe/Berlin or UTC") from error
    skipped = np.flatnonzero(local.isna())
    if skipped.size:
        row = int(skipped[0])
        raise DataError(
            f"{place(row)}: {timestamps[row]} does not exist in {time_zone}: clocks were set ahead ({len(skipped)} "
            "such cells); correct time_zone, or leave it out"
        )
    return local.tz_convert("UTC").tz_localize(None)


def shown(cell: object) -> str:
    """A cell in a message."""
    return "an empty cell" if pd.isna(cell) else repr(str(cell)[:40])  # type: ignore[call-overload]


def looks_like_time(cells: pd.Series) -> bool:
    """Whether all of these cells are written in a way that timestamps are, whatever day they mean."""
    texts = cells.dropna().astype(str).str.strip()
    ways = (_ISO, _YEAR_FIRST, _YEAR_LAST, _RUN_YEAR_FIRST, _RUN_TOGETHER, _QUARTER, _SHORT_YEAR, _MONTH_NAMED)
    return bool(len(texts)) and any(texts.str.fullmatch(way).all() for way in ways)
