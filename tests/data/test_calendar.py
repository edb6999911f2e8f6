"""Calendar features: made from the timestamps alone, in the zone whose clock counts."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tsbench.data.calendar import calendar_columns, calendar_values, check_calendar
from tsbench.errors import DataError, MachineError


def values(stamps: list[str], *words: str, time_zone: str = "") -> list[list[float]]:
    return calendar_values(np.array(stamps, "datetime64[ns]"), words, time_zone).tolist()


def test_a_cycle_closes_so_that_its_ends_are_neighbours() -> None:
    (six,), (midnight,), (late,) = ([row] for row in values(["2024-01-01T06", "2024-01-02", "2024-01-01T23"], "hour"))

    assert six == pytest.approx([1, 0], abs=1e-6)
    assert midnight == pytest.approx([0, 1], abs=1e-6)
    assert np.linalg.norm(np.subtract(late, midnight)) == pytest.approx(2 * np.sin(np.pi / 24), abs=1e-6)


@pytest.mark.parametrize(
    ("word", "one", "other"),
    [
        ("hour", "2024-01-01T05:30", "2024-07-09T05:30"),
        ("weekday", "2024-01-01", "2024-07-08T13:00"),
        ("month", "2024-03-01", "2023-03-30"),
        ("day_of_year", "2024-01-17", "2023-01-17T08:00"),
    ],
)
def test_a_feature_repeats_with_its_cycle_and_nothing_else(word: str, one: str, other: str) -> None:
    first, again, between = values([one, other, "2024-10-20T19"], word)

    assert first == pytest.approx(again)
    assert first != pytest.approx(between, abs=1e-3)


def test_hours_are_read_on_the_clock_of_the_zone() -> None:
    summer = values(["2024-07-01T10:00"], "hour", time_zone="Europe/Berlin")

    assert summer == values(["2024-07-01T12:00"], "hour")


def test_each_word_has_its_columns_in_the_order_asked_for() -> None:
    assert calendar_columns(["holidays:DE", "hour"]) == ("holidays:DE", "sin hour", "cos hour")
    assert np.shape(values(["2024-01-01"], "hour", "month", "weekday")) == (1, 6)
    assert np.shape(values(["2024-01-01"])) == (1, 0)


def test_an_unknown_word_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown 'hours'; did you mean 'hour'"):
        check_calendar(["hours"])


def test_holidays_are_ones_among_zeros() -> None:
    pytest.importorskip("holidays", reason="holidays is an extra")
    days = ["2024-10-02T23:00", "2024-10-03", "2024-10-03T17:00", "2024-10-04"]

    assert values(days, "holidays:DE") == [[0], [1], [1], [0]]
    assert values(["2024-03-31"], "holidays:US-CA") != values(["2024-03-31"], "holidays:US")


def test_an_unknown_country_is_named() -> None:
    pytest.importorskip("holidays", reason="holidays is an extra")

    with pytest.raises(DataError, match="'holidays:XX': Country XX not available"):
        values(["2024-01-01"], "holidays:XX")


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)

    with pytest.raises(MachineError, match=r"pip install 'tsbench\[holidays\]'"):
        values(["2024-01-01"], "holidays:DE")
