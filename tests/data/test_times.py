"""Timestamps: every way of writing them is read off the cells, and two possible ways are never guessed between."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tsbench.data.times import to_timestamps, to_utc
from tsbench.errors import DataError


def row(number: int) -> str:
    return f"row {number}"


def read(*cells: object, time_format: str | None = None) -> tuple[list[str], list[str]]:
    stamps, notes = to_timestamps(pd.Series(list(cells)), row, time_format)
    return [str(stamp) for stamp in stamps], notes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024-01-31"], "2024-01-31 00:00:00"),
        (["2024-01-31 13:00"], "2024-01-31 13:00:00"),
        (["2024-01-31T13:00:30.25"], "2024-01-31 13:00:30.250000"),
        (["1949-01"], "1949-01-01 00:00:00"),
        (["1990/1/2 0:00"], "1990-01-02 00:00:00"),
        (["2024.01.02"], "2024-01-02 00:00:00"),
        (["31.01.2024", "01.02.2024"], "2024-01-31 00:00:00"),
        (["1/13/1981", "2/1/1981"], "1981-01-13 00:00:00"),
        (["1/13/2020 12:05 AM"], "2020-01-13 00:05:00"),
        (["01312011 1:00"], "2011-01-31 01:00:00"),
        (["20240131 10:00", "20240201 11:00"], "2024-01-31 10:00:00"),
        (["1998 Q3"], "1998-07-01 00:00:00"),
        (["1998-Q3"], "1998-07-01 00:00:00"),
        (["31-Jan-2020"], "2020-01-31 00:00:00"),
        (["Jan 5, 2020"], "2020-01-05 00:00:00"),
        ([20240131], "2024-01-31 00:00:00"),
        ([1949], "1949-01-01 00:00:00"),
        ([1_700_000_000], "2023-11-14 22:13:20"),
        ([1_700_000_000_000], "2023-11-14 22:13:20"),
        ([1_700_000_000_000_000], "2023-11-14 22:13:20"),
        ([1_700_000_000_000_000_001], "2023-11-14 22:13:20.000000001"),
        (["2023-10-01 04:00:00+02:00"], "2023-10-01 02:00:00"),
        (["2023-10-01T04:00Z"], "2023-10-01 04:00:00"),
        ([pd.Timestamp("2024-01-31 01:00", tz="Pacific/Auckland")], "2024-01-30 12:00:00"),
        ([pd.Period("2024-02", "M")], "2024-02-01 00:00:00"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_way_of_writing_time_is_recognised(cells: list, expected: str) -> None:
    assert read(*cells)[0][0] == expected


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["31.01.2024", "01.02.2024"], "timestamps: the day is first (seen from '31.01.2024')"),
        (["01/02/1981", "1/13/1981"], "timestamps: the month is first (seen from '1/13/1981')"),
        ([1_700_000_000_000], "timestamps: milliseconds since 1970, UTC (inferred from their size)"),
        (["1998 Q1"], "timestamps: quarters, taken at their first day"),
        (["2023-10-01T04:00Z"], "time zone: timestamps were converted to UTC"),
    ],
)
def test_what_was_inferred_is_stated(cells: list, note: str) -> None:
    assert read(*cells)[1] == [note]


def test_nothing_is_stated_of_plain_timestamps() -> None:
    assert read("2024-01-31")[1] == []


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["01.02.2024", "03.04.2024"], "row 0: '01.02.2024' may have the day or the month first"),
        (["01.02.2024 10:00"], r"time_format='%d.%m.%Y %H:%M' or '%m.%d.%Y %H:%M'"),
        (["01022024"], r"time_format='%d%m%Y' or '%m%d%Y'"),
        (["31.01.2024", "01.31.2024"], "'31.01.2024' has the day first, '01.31.2024' the month"),
        (["1/2/24"], "a year of two digits"),
        (["2024-01-01T00:00Z", "2024-01-01T01:00"], "some timestamps name a time zone"),
        (["2024-01-01", "2024-01-02", "02/01/2024"], "row 2: '02/01/2024' is not a timestamp (1 such cells)"),
        (["2024-02-28", "2024-02-30", "2024-03-01"], "row 1: '2024-02-30' is not a timestamp"),
        (["2024-01-01", None, "2024-01-02"], "row 1: an empty cell is not a timestamp"),
        (["5:00 pm"], "row 0: '5:00 pm' is not a timestamp"),
        (["monday"], "row 0: 'monday' is not a timestamp"),
        (["1/13/2024 25:00"], "row 0: '1/13/2024 25:00' is not a timestamp"),
        (["1000-01-01"], "row 0: '1000-01-01' is outside the years 1678 to 2261"),
        ([1.5, 2.5], "row 0: numbers such as 1.5 instead of timestamps"),
        ([0, 1], "time_format = epoch_s, epoch_ms or %Y%m%d"),
    ],
)
def test_what_may_be_read_in_two_ways_or_none_is_refused_with_what_to_type(cells: list, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(*cells)

    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("cell", "time_format", "expected"),
    [
        ("01.02.2024", "%d.%m.%Y", "2024-02-01 00:00:00"),
        ("01.02.2024", "%m.%d.%Y", "2024-01-02 00:00:00"),
        ("1/2/24", "%d/%m/%y", "2024-02-01 00:00:00"),
        (60, "epoch_s", "1970-01-01 00:01:00"),
        (1.5, "epoch_s", "1970-01-01 00:00:01.500000"),
        ("60", "epoch_ms", "1970-01-01 00:00:00.060000"),
        (202402, "%Y%m", "2024-02-01 00:00:00"),
        ("2024-01-01 00:00+01:00", "%Y-%m-%d %H:%M%z", "2023-12-31 23:00:00"),
    ],
)
def test_a_format_that_is_told_is_the_one_that_counts(cell: object, time_format: str, expected: str) -> None:
    assert read(cell, time_format=time_format)[0] == [expected]


def test_the_second_of_two_equal_local_stamps_is_winter_time() -> None:
    local = pd.DatetimeIndex(["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"])

    utc = to_utc(local, np.zeros(4, int), "Europe/Berlin", row)

    assert utc.equals(pd.date_range("2024-10-26 23:00", periods=4, freq="h"))


def test_each_item_has_its_own_first_of_two_equal_stamps() -> None:
    local = pd.DatetimeIndex(["2024-10-27 02:00"] * 4)

    utc = to_utc(local, np.array([0, 1, 0, 1]), "Europe/Berlin", row)

    assert utc.hour.tolist() == [0, 0, 1, 1]


def test_a_stamp_that_the_clock_skipped_is_refused() -> None:
    local = pd.DatetimeIndex(["2024-03-31 01:00", "2024-03-31 02:30"])

    with pytest.raises(DataError, match=r"^row 1: 2024-03-31 02:30:00 does not exist in Europe/Berlin"):
        to_utc(local, np.zeros(2, int), "Europe/Berlin", row)


@pytest.mark.parametrize("zone", ["Europe/Berlinn", "", "../etc", "CESTX"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(DataError, match="no time zone"):
        to_utc(pd.DatetimeIndex(["2024-03-31 01:00"]), np.zeros(1, int), zone, row)
