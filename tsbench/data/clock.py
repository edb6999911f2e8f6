"""Time: finding the step of series, the grid their stamps lie on, its season, and the stamps that follow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset, Tick

from tsbench.errors import DataError

_DAY = 86_400 * 10**9
"""Nanoseconds."""


@dataclass(frozen=True)
class Grid:
    """All moments that a step of time can reach, counted from the first stamp of each item."""

    freq: str
    step: int | None
    """Nanoseconds of a step of fixed length; None for months, quarters, years and business days."""
    moments: np.ndarray | None
    """`[M]`, sorted: where the step has no fixed length, all its moments from the first stamp to the last."""
    every: int = 1
    """How many moments make a step."""

    @classmethod
    def of(cls, freq: str, timestamps: np.ndarray) -> Grid:
        """timestamps: what the grid must span. Raises ValueError when freq is no pandas offset alias."""
        offset = pd.tseries.frequencies.to_offset(freq)
        step = _fixed_step(offset)
        if step is not None:
            return cls(freq, step, None)
        moments = pd.date_range(timestamps.min(), timestamps.max(), freq=offset.base).to_numpy("datetime64[ns]")
        return cls(freq, None, moments, offset.n)

    def positions(self, timestamps: np.ndarray, firsts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps from each row's item's first stamp, and whether the row lies on the grid; both `[T]`."""
        timestamps, firsts = timestamps.astype("datetime64[ns]"), firsts.astype("datetime64[ns]")
        if self.step is not None:
            steps, rest = np.divmod((timestamps - firsts).astype(np.int64), self.step)
            return steps, (rest == 0) & self._on_anchor(timestamps)
        assert self.moments is not None
        if not len(self.moments):
            return np.zeros(len(timestamps), np.int64), np.zeros(len(timestamps), bool)
        at = np.searchsorted(self.moments, timestamps)
        on = self.moments[np.minimum(at, len(self.moments) - 1)] == timestamps
        steps, rest = np.divmod(at - np.searchsorted(self.moments, firsts), self.every)
        return steps, on & (rest == 0)

    def stamps(self, firsts: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The stamps so many steps after the first of an item; both `[T]`."""
        if self.step is not None:
            return firsts + (steps * self.step).astype("timedelta64[ns]")
        assert self.moments is not None
        return self.moments[np.searchsorted(self.moments, firsts) + steps * self.every]

    def _on_anchor(self, timestamps: np.ndarray) -> np.ndarray:
        """Whether weeks begin on the day of their name."""
        weekday = getattr(pd.tseries.frequencies.to_offset(self.freq), "weekday", None)
        if weekday is None:
            return np.ones(len(timestamps), bool)
        days = timestamps.astype("datetime64[D]").astype(np.int64)
        return (days + 3) % 7 == weekday  # 1970-01-01 was a Thursday


def _fixed_step(offset: BaseOffset) -> int | None:
    if isinstance(offset, Tick):
        return int(pd.Timedelta(offset).value)
    days = {"D": 1, "W": 7}.get(offset.rule_code.split("-")[0])
    return offset.n * days * _DAY if days else None


def longest(offsets: np.ndarray) -> slice:
    """The rows of the longest item."""
    item = int(np.argmax(np.diff(offsets)))
    return slice(int(offsets[item]), int(offsets[item + 1]))


def infer_freq(timestamps: np.ndarray, offsets: np.ndarray, place: Callable[[int], str]) -> str:
    """The pandas offset alias that the stamps of all items follow, but for rows that are missing.

    timestamps: `[T]`, rising within an item. offsets: `[items + 1]`. Raises DataError at the first irregular step.
    """
    timestamps = timestamps.astype("datetime64[ns]")
    rows = longest(offsets)
    if rows.stop - rows.start < 3:
        raise DataError(f"{place(rows.start)}: {rows.stop - rows.start} rows; three are needed to see the step of time")
    run = pd.DatetimeIndex(timestamps[rows])
    seen = _regular_freq(run) or _usual_freq(run, rows.start, place)
    for freq in (seen, _without_anchor(seen)):
        steps, on = _steps(Grid.of(freq, timestamps), timestamps, offsets)
        if on.all():
            return freq
    _refuse_off_grid(timestamps, steps, on, run, place)
    raise AssertionError


def _steps(grid: Grid, timestamps: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return grid.positions(timestamps, np.repeat(timestamps[offsets[:-1]], np.diff(offsets)))


def _regular_freq(timestamps: pd.DatetimeIndex) -> str | None:
    """The alias of regular stamps; None where they are not."""
    if len(timestamps) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pandas 4 returns an offset, which has a freqstr
        freq = pd.infer_freq(timestamps)
    return getattr(freq, "freqstr", freq)


def _usual_freq(timestamps: pd.DatetimeIndex, first_row: int, place: Callable[[int], str]) -> str:
    """The alias of a stretch that is regular, if most rows of the whole are one such step apart."""
    stamps = timestamps.to_numpy("datetime64[ns]")
    seen: list[str] = []
    for length in (10, 5, 3):  # months differ in length, so the most frequent step alone does not show them
        for start in range(0, min(len(timestamps) - length + 1, 50 * length), length):
            freq = _regular_freq(timestamps[start : start + length])
            if freq is not None and freq not in seen:
                seen.append(freq)
                steps, on = _steps(Grid.of(freq, stamps), stamps, np.array([0, len(stamps)]))
                if on.all() and (np.diff(steps) == 1).mean() >= 0.5:
                    return freq
    usual = pd.Series(timestamps).diff().mode()[0]
    expected = stamps[:-1] + usual.to_timedelta64()
    if seen:
        grid = Grid.of(seen[0], stamps)
        steps, on = _steps(grid, stamps, np.array([0, len(stamps)]))
        _refuse_off_grid(stamps, steps, on, timestamps, lambda row: place(row + first_row))
    wrong = np.flatnonzero(stamps[1:] != expected)
    raise _irregular(stamps, int(wrong[0]) + 1, expected[wrong[0]], len(wrong), lambda row: place(row + first_row))


def _refuse_off_grid(
    stamps: np.ndarray, steps: np.ndarray, on: np.ndarray, run: pd.DatetimeIndex, place: Callable[[int], str]
) -> None:
    wrong = np.flatnonzero(~on)
    if wrong.size:
        row = max(int(wrong[0]), 1)
        usual = pd.Series(run).diff().mode()[0].to_timedelta64()
        raise _irregular(stamps, row, stamps[row - 1] + usual, len(wrong), place)


def _irregular(
    stamps: np.ndarray, row: int, expected: np.datetime64, count: int, place: Callable[[int], str]
) -> DataError:
    found, before, wanted = (pd.Timestamp(stamp) for stamp in (stamps[row], stamps[row - 1], expected))
    return DataError(
        f"{place(row)}: {found} comes after {before}, where {wanted} was expected ({count} such places): the series is "
        "irregular: its stamps lie on no common step; resample it to one, such as every hour"
    )


def _without_anchor(freq: str) -> str:
    """Items may begin their weeks on different days, their quarters and years in different months."""
    base = freq.partition("-")[0].lstrip("0123456789")
    offset = pd.tseries.frequencies.to_offset(freq)
    months = {"QS": 3, "YS": 12}.get(base)
    if base == "W":
        return f"{7 * offset.n}D"
    return f"{months * offset.n}MS" if months else freq


def check_freq(freq: str, timestamps: np.ndarray, offsets: np.ndarray, where: str, *, on_clock: bool = True) -> None:
    """Raises DataError when a given freq is none, or not the step of the stamps (unless not `on_clock`)."""
    try:
        grid = Grid.of(freq, timestamps[:2])
        if pd.tseries.frequencies.to_offset(freq).n < 1:
            raise ValueError("a step backwards")
        grid = Grid.of(freq, timestamps)
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise DataError(f"{where}: freq {freq!r} is no pandas offset alias; write h, 15min, D, W-MON or MS") from error
    if not on_clock:
        return
    steps, on = _steps(grid, timestamps, offsets)
    rows = longest(offsets)
    apart = np.diff(steps[rows])
    if on.all() and (not len(apart) or apart.min() == 1):
        return
    seen = _regular_freq(pd.DatetimeIndex(timestamps[rows]))
    follow = f"the timestamps follow {seen!r}" if seen else "the timestamps do not lie on it"
    row = rows.start if on.all() else int(np.flatnonzero(~on)[0])
    raise DataError(
        f"{where}: the freq given is {freq!r}, but {follow} (such as {pd.Timestamp(timestamps[row])}); correct the freq"
    )


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


def following_each(lasts: np.ndarray, freq: str, count: int) -> np.ndarray:
    """The `count` stamps after each of the last ones, `[items, count]`, datetime64[ns]."""
    lasts = lasts.astype("datetime64[ns]")
    end = pd.date_range(pd.Timestamp(lasts.max()), periods=count + 1, freq=freq)[-1]
    grid = Grid.of(freq, np.array([lasts.min(), end.to_datetime64()]))
    return grid.stamps(lasts[:, None], np.arange(1, count + 1)[None])
