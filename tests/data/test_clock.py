"""Time: its step, its season, the stamps that follow, and the row where it goes wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tsbench.data.clock import check_freq, check_order, following, infer_freq, infer_seasonality
from tsbench.errors import DataError


def row(number: int) -> str:
    return f"row {number}"


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
    assert following(np.datetime64(last, "ns"), freq, 2).equals(stamps(*expected))


def test_stamps_in_order_are_accepted() -> None:
    check_order(stamps("2024-01-01", "2024-01-02", "2024-01-05"), row)


def test_the_first_repeated_stamp_is_named() -> None:
    repeated = stamps("2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03", "2024-01-03")

    with pytest.raises(DataError, match=r"^row 2: timestamp 2024-01-02 00:00:00 repeats the row before \(2 such"):
        check_order(repeated, row)


def test_the_first_descending_stamp_is_named() -> None:
    with pytest.raises(DataError, match=r"^row 2: timestamp 2024-01-02 00:00:00 comes after 2024-01-03.* sort"):
        check_order(stamps("2024-01-01", "2024-01-03", "2024-01-02", "2024-01-04"), row)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_stamps_do_not_show_a_step(count: int) -> None:
    with pytest.raises(DataError, match=rf"{count} rows; three are needed"):
        infer_freq(pd.date_range("2024-01-01", periods=count, freq="h"), row)


@pytest.mark.parametrize("freq", ["h", "D", "B", "W-MON", "MS", "ME", "QS", "YS"])
def test_the_row_after_a_gap_is_named_whatever_the_step(freq: str) -> None:
    """Months, quarters and business days differ in length: that is not the irregularity."""
    whole = pd.date_range("2001-01-01", periods=40, freq=freq)

    with pytest.raises(DataError) as refusal:
        infer_freq(whole.delete(33), row)

    assert str(refusal.value).startswith(
        f"row 33: {whole[34]} comes after {whole[32]}, where {whole[33]} was expected (1 such places)"
    )


def test_a_gap_in_the_first_rows_is_named_too() -> None:
    whole = pd.date_range("2024-01-01", periods=40, freq="MS")

    with pytest.raises(DataError, match=r"^row 3: 2024-05-01 .* where 2024-04-01 00:00:00 was expected"):
        infer_freq(whole.delete(3), row)


def test_stamps_without_any_step_are_irregular() -> None:
    gaps = np.cumsum([1, 5, 2, 9, 4, 7, 3])

    with pytest.raises(DataError, match="the series is irregular; fill or resample"):
        infer_freq(pd.Timestamp("2024-01-01") + pd.to_timedelta(gaps, unit="h"), row)


@pytest.mark.parametrize(("freq", "given"), [("h", "60min"), ("7D", "W-MON"), ("MS", "MS"), ("QS", "3MS")])
def test_another_name_of_the_same_step_is_accepted(freq: str, given: str) -> None:
    index = pd.date_range("2024-01-01", periods=50, freq=freq)

    check_freq(given, index, infer_freq(index, row), "file")


@pytest.mark.parametrize(("freq", "given"), [("h", "D"), ("D", "B"), ("W-WED", "W"), ("YS", "365D"), ("MS", "ME")])
def test_a_step_that_the_stamps_contradict_is_refused(freq: str, given: str) -> None:
    index = pd.date_range("2024-01-01", periods=50, freq=freq)

    with pytest.raises(DataError, match=rf"^file: the freq given is '{given}', but the timestamps follow"):
        check_freq(given, index, infer_freq(index, row), "file")


@pytest.mark.parametrize("given", ["hourly", "H", "1", ""])
def test_a_step_that_pandas_does_not_know_is_refused(given: str) -> None:
    with pytest.raises(DataError, match="is no pandas offset alias; write h, 15min, D, W-MON or MS"):
        check_freq(given, pd.date_range("2024-01-01", periods=5, freq="h"), None, "file")
