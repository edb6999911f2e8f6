"""Time: finding the step of a series, its season, and the stamps that follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

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
    freq = pd.infer_freq(timestamps)
    if freq is not None:
        return freq
    steps = pd.Series(timestamps).diff()[1:]
    usual = steps.mode()[0]
    wrong = np.flatnonzero((steps != usual).to_numpy())
    row = int(wrong[0]) + 1
    raise DataError(
        f"{place(row)}: {timestamps[row]} comes {steps.iloc[row - 1]} after the row before, but most rows are {usual} "
        f"apart ({len(wrong)} such places): the series is irregular; fill or resample the missing rows"
    )


def infer_seasonality(freq: str) -> int:
    """Rows in the usual season of a step: 24 for h, 96 for 15min, 7 for D, 52 for W, 12 for months, 4, 1."""
    offset = pd.tseries.frequencies.to_offset(freq)
    base = offset.name.split("-")[0]
    for prefix, season in (("W", 52), ("B", 5), ("D", 7), ("M", 12), ("Q", 4), ("Y", 1)):
        if base in (prefix, f"{prefix}S", f"{prefix}E", f"B{prefix}S", f"B{prefix}E"):
            return max(season // offset.n, 1)
    seconds = pd.Timedelta(cast(Tick, offset)).total_seconds()
    cycle = 86400 if seconds >= 60 else 60  # a day, or a minute for steps of seconds
    return round(cycle / seconds) if cycle % seconds == 0 else 1


def following(last: np.datetime64, freq: str, count: int) -> pd.DatetimeIndex:
    """The `count` stamps after the last one."""
    return pd.date_range(pd.Timestamp(last), periods=count + 1, freq=freq)[1:]
