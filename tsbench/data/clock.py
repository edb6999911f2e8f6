"""Time: finding the step of a series, its season, and the stamps that follow it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from pandas.tseries.offsets import Tick

from tsbench.errors import DataError


def check_order(timestamps: pd.DatetimeIndex, place: Callable[[int], str]) -> None:
    """Raises DataError at the first repeated or descending stamp. `place` words the position of a row."""
    steps = np.diff(timestamps.to_numpy())
    wrong = np.flatnonzero(steps <= np.timedelta64(0))
    if not wrong.size:
        return
    row = int(wrong[0]) + 1
    if timestamps[row] == timestamps[row - 1]:
        raise DataError(
            f"{place(row)}: timestamp {timestamps[row]} repeats the row before ({len(wrong)} such places); "
            "keep one row for each timestamp"
        )
    raise DataError(
        f"{place(row)}: timestamp {timestamps[row]} comes after {timestamps[row - 1]}: rows are not in order of time "
        f"({len(wrong)} such places); sort the file by time, oldest first"
    )


def infer_freq(timestamps: pd.DatetimeIndex, place: Callable[[int], str]) -> str:
    """The pandas offset alias of regular stamps. Raises DataError at the first irregular step."""
    if len(timestamps) < 3:
        raise DataError(f"{place(0)}: {len(timestamps)} rows; three are needed to see the step of time")
    freq = _regular_freq(timestamps)
    if freq is not None:
        return freq
    usual = _usual_step(timestamps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        expected = timestamps[:-1] + usual
    wrong = np.flatnonzero(timestamps[1:] != expected)
    row = int(wrong[0]) + 1
    raise DataError(
        f"{place(row)}: {timestamps[row]} comes after {timestamps[row - 1]}, where {expected[row - 1]} was expected "
        f"({len(wrong)} such places): the series is irregular; fill or resample the missing rows"
    )


def _regular_freq(timestamps: pd.DatetimeIndex) -> str | None:
    """The alias of regular stamps; None where they are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pandas 4 returns an offset, which has a freqstr
        freq = pd.infer_freq(timestamps)
    return getattr(freq, "freqstr", freq)


def _usual_step(timestamps: pd.DatetimeIndex) -> pd.offsets.BaseOffset | pd.Timedelta:
    """The step of the first ten rows that are regular, since months differ in length; else the most frequent step."""
    for start in range(0, len(timestamps) - 9, 10):
        freq = _regular_freq(timestamps[start : start + 10])
        if freq is not None:
            return pd.tseries.frequencies.to_offset(freq)
    return pd.Series(timestamps).diff().mode()[0]


def check_freq(freq: str, timestamps: pd.DatetimeIndex, seen: str | None, where: str) -> None:
    """Raises DataError when a given freq is none, or not the step `seen` in the stamps (None: nobody looked)."""
    first = timestamps[:400]  # business days and days part within a week, months and 30 days within two months
    try:
        expected = pd.date_range(first[0], periods=len(first), freq=freq)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: freq {freq!r} is no pandas offset alias; write h, 15min, D, W-MON or MS") from error
    if seen is not None and not expected.equals(first):
        raise DataError(f"{where}: the freq given is {freq!r}, but the timestamps follow {seen!r}; correct the freq")


def infer_seasonality(freq: str) -> int:
    """Rows in the usual season of a step: 24 for h, 96 for 15min, 7 for D, 52 for W, 12 for months, 4, 1.

    1 also for steps without a usual season, such as business hours.
    """
    offset = pd.tseries.frequencies.to_offset(freq)
    base = offset.rule_code.split("-")[0]
    for prefix, season in (("W", 52), ("B", 5), ("D", 7), ("M", 12), ("Q", 4), ("Y", 1)):
        if base in (prefix, f"{prefix}S", f"{prefix}E", f"B{prefix}S", f"B{prefix}E"):
            return max(season // offset.n, 1)
    if not isinstance(offset, Tick):
        return 1
    seconds = pd.Timedelta(offset).total_seconds()
    cycle = 86400 if seconds >= 60 else 60  # a day, or a minute for steps of seconds
    return round(cycle / seconds) if cycle % seconds == 0 else 1


def following(last: np.datetime64, freq: str, count: int) -> pd.DatetimeIndex:
    """The `count` stamps after the last one."""
    return pd.date_range(pd.Timestamp(last), periods=count + 1, freq=freq)[1:]
