"""Time: its step, its season, the stamps that follow, and the row where it goes wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tsbench.data.clock import Grid, check_freq, following_each, infer_freq, infer_seasonality
from tsbench.errors import DataError


def row(number: int) -> str:
    return f"row {number}"


def freq_of(*items: pd.DatetimeIndex) -> str:
    """What is inferred from these items."""
    return infer_freq(np.concatenate([item.to_numpy() for item in items]), np.cumsum([0, *map(len, items)]), row)


def one_item(index: pd.DatetimeIndex) -> np.ndarray:
    return np.array([0, len(index)])


def stamps(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts)


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        ("h", 24),
        ("2h", 12),
        ("30min", 48),
        ("15min", 96),
        ("10min", 144),
        ("min", 1440),
        ("s", 60),
        ("5s", 12),
        ("D", 7),
        ("7D", 1),
        ("B", 5),
        ("W", 52),
        ("W-TUE", 52),
        ("2W", 26),
        ("MS", 12),
        ("ME", 12),
        ("BME", 12),
        ("3MS", 4),
        ("QS", 4),
        ("QS-OCT", 4),
        ("BQE", 4),
        ("YS", 1),
        ("YE-JUN", 1),
    ],
)
def test_a_season_is_the_usual_cycle_of_the_step(freq: str, season: int) -> None:
    assert infer_seasonality(freq) == season


@pytest.mark.parametrize("freq", ["7h", "11min", "bh", "WOM-2FRI"])
def test_a_step_that_does_not_divide_its_cycle_has_no_season(freq: str) -> None:
    assert infer_seasonality(freq) == 1


@pytest.mark.parametrize(
    ("last", "freq", "expected"),
    [
        ("2024-02-28 23:00", "h", ["2024-02-29 00:00", "2024-02-29 01:00"]),
        ("2024-01-01", "MS", ["2024-02-01", "2024-03-01"]),
        ("2024-01-31", "ME", ["2024-02-29", "2024-03-31"]),
        ("2024-05-31", "B", ["2024-06-03", "2024-06-04"]),  # a Friday
        ("2024-12-31", "W-TUE", ["2025-01-07", "2025-01-14"]),
    ],
)
def test_the_clock_goes_on_after_the_last_stamp(last: str, freq: str, expected: list[str]) -> None:
    after = following_each(np.array([last, last], "datetime64[ns]"), freq, 2)

    assert [pd.DatetimeIndex(row).equals(stamps(*expected)) for row in after] == [True, True]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_stamps_do_not_show_a_step(count: int) -> None:
    with pytest.raises(DataError, match=rf"{count} rows; three are needed"):
        freq_of(pd.date_range("2024-01-01", periods=count, freq="h"))


@pytest.mark.parametrize(
    "freq", ["h", "D", "B", "W-MON", "MS", "ME", "QS-JAN", "YS-JAN", "10min", "2D", "2W-MON", "3h", "2MS", "QE-DEC"]
)
@pytest.mark.parametrize("missing", [[], [3], [33], [5, 6, 7, 20]])
def test_a_step_is_seen_although_rows_are_missing(freq: str, missing: list[int]) -> None:
    """Months, quarters and business days differ in length: that is no irregularity."""
    whole = pd.date_range("2001-01-01", periods=40, freq=freq)

    found = freq_of(whole.delete(missing))

    assert pd.date_range(whole[0], periods=40, freq=found).equals(whole)


@pytest.mark.parametrize("freq", ["h", "D", "B", "W-MON", "MS", "ME", "QS-JAN", "YS-JAN", "2W-MON", "2MS"])
def test_a_grid_counts_steps_from_each_items_first_stamp_and_back(freq: str) -> None:
    whole = pd.date_range("2001-01-01", periods=40, freq=freq).to_numpy()
    grid, firsts = Grid.of(freq, whole), np.repeat(whole[[0, 8]], [40, 32])
    both = np.concatenate([whole, whole[8:]])

    steps, on = grid.positions(both, firsts)

    assert on.all()
    assert steps.tolist() == [*range(40), *range(32)]
    assert (grid.stamps(firsts, steps) == both).all()
    assert not grid.positions(both + np.timedelta64(1, "m"), firsts)[1].any()


def test_items_may_start_at_different_times() -> None:
    first = pd.date_range("2024-01-01 00:00", periods=30, freq="h")
    second = pd.date_range("2022-05-01 00:30", periods=10, freq="h")

    assert freq_of(first, second) == "h"


@pytest.mark.parametrize(
    ("freq", "second", "expected"),
    [("W-MON", "W-WED", "7D"), ("QS-JAN", "QS-FEB", "3MS"), ("YS-JAN", "YS-MAY", "12MS")],
)
def test_items_that_begin_their_weeks_or_quarters_elsewhere_share_the_plain_step(
    freq: str, second: str, expected: str
) -> None:
    items = (pd.date_range("2001-01-01", periods=20, freq=anchor) for anchor in (freq, second))

    assert freq_of(*items) == expected


def test_stamps_without_any_step_are_irregular() -> None:
    gaps = np.cumsum([1, 5, 2, 9, 4, 7, 3])

    with pytest.raises(DataError, match="the series is irregular: its stamps lie on no common step; resample it"):
        freq_of(pd.Timestamp("2024-01-01") + pd.to_timedelta(gaps * 7919, unit="s"))


def test_a_stamp_between_the_steps_is_named() -> None:
    index = pd.date_range("2024-01-01", periods=40, freq="h")
    moved = index.where(np.arange(40) != 20, index + pd.Timedelta(minutes=7))

    with pytest.raises(DataError, match=r"^row 20: 2024-01-01 20:07:00 comes after .* where 2024-01-01 20:00:00 was"):
        freq_of(moved)


@pytest.mark.parametrize(("freq", "given"), [("h", "60min"), ("7D", "W-MON"), ("MS", "MS"), ("QS", "3MS")])
def test_another_name_of_the_same_step_is_accepted(freq: str, given: str) -> None:
    index = pd.date_range("2024-01-01", periods=50, freq=freq)

    check_freq(given, index.to_numpy(), one_item(index), "file")


@pytest.mark.parametrize(("freq", "given"), [("h", "D"), ("D", "B"), ("W-WED", "W"), ("YS", "365D"), ("MS", "ME")])
def test_a_step_that_the_stamps_contradict_is_refused(freq: str, given: str) -> None:
    index = pd.date_range("2024-01-01", periods=50, freq=freq)

    with pytest.raises(DataError, match=rf"^file: the freq given is '{given}', but the timestamps follow"):
        check_freq(given, index.to_numpy(), one_item(index), "file")


@pytest.mark.parametrize("given", ["hourly", "H", "1", ""])
def test_a_step_that_pandas_does_not_know_is_refused(given: str) -> None:
    with pytest.raises(DataError, match="is no pandas offset alias; write h, 15min, D, W-MON or MS"):
        check_freq(given, pd.date_range("2024-01-01", periods=5, freq="h").to_numpy(), np.array([0, 5]), "file")
