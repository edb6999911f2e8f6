"""Splits: which rows are for training, validation and testing."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tsbench.data.panel import Panel
from tsbench.data.splits import (
    PARTS,
    SplitByCounts,
    SplitByDates,
    SplitByFractions,
    SplitByLast,
    SplitByOrigins,
    SplitRule,
    cut,
)
from tsbench.errors import DataError


def hours(count: int, first: str = "2024-01-01") -> np.ndarray:
    return (np.datetime64(first, "h") + np.arange(count)).astype("datetime64[ns]")


def sizes(rule: SplitRule, count: int) -> list[int]:
    """Rows of train, validation and test in a panel of one item."""
    bounds = cut(rule, hours(count), np.array([0, count]), "panel")
    return [int(high - low) for low, high in (bounds[part][0] for part in PARTS)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (966, [676, 97, 193]),  # ILI: int(676.2), the rest, int(193.2)
        (7588, [5311, 760, 1517]),  # Exchange: int(5311.6), the rest, int(1517.6)
        (17544, [12280, 1756, 3508]),  # the embedded pedestrians: int(12280.8), the rest, int(3508.8)
        (100, [70, 10, 20]),
        (5, [3, 1, 1]),
    ],
)
def test_seven_one_two_cuts_as_the_literature_does(rows: int, expected: list[int]) -> None:
    assert sizes(SplitByFractions(train=0.7, test=0.2), rows) == expected


def test_counts_start_at_the_first_row_and_leave_the_last_ones_unused() -> None:
    bounds = cut(SplitByCounts(train=8640, validation=2880, test=2880), hours(17420), np.array([0, 17420]), "etth1")

    assert {part: bounds[part].tolist() for part in PARTS} == {
        "train": [[0, 8640]],
        "validation": [[8640, 11520]],
        "test": [[11520, 14400]],  # rows 14400 to 17419 belong to nobody
    }


def test_dates_open_the_validation_and_the_test_part() -> None:
    rule = SplitByDates(validation=date(2024, 1, 3), test=datetime(2024, 1, 3, 12))

    assert sizes(rule, 24 * 4) == [48, 12, 36]


def test_the_test_part_ends_before_its_end_date() -> None:
    rule = SplitByDates(validation=date(2024, 1, 2), test=date(2024, 1, 3), end=date(2024, 1, 4))

    assert sizes(rule, 24 * 5) == [24, 24, 24]


def test_a_date_between_two_rows_opens_the_part_with_the_later_row() -> None:
    rule = SplitByDates(validation=datetime(2024, 1, 1, 4, 30), test=datetime(2024, 1, 1, 8))

    assert sizes(rule, 10) == [5, 3, 2]


def test_an_end_in_the_far_future_means_all_rows() -> None:
    rule = SplitByDates(validation=date(2024, 1, 2), test=date(2024, 1, 3), end=date(9999, 12, 31))

    assert sizes(rule, 24 * 4) == [24, 24, 48]


@pytest.mark.filterwarnings("error")
def test_a_date_with_a_time_zone_is_taken_in_utc() -> None:
    ahead = timezone(timedelta(hours=13))
    rule = SplitByDates(validation=datetime(2024, 1, 2, 13, tzinfo=ahead), test=datetime(2024, 1, 3, 13, tzinfo=ahead))

    assert sizes(rule, 24 * 4) == [24, 24, 48]


def test_every_item_is_cut_by_itself() -> None:
    offsets = np.array([0, 10, 30])
    clock = np.concatenate([hours(10), hours(20)])

    bounds = cut(SplitByFractions(train=0.7, test=0.2), clock, offsets, "panel")

    assert bounds["train"].tolist() == [[0, 7], [10, 24]]
    assert bounds["validation"].tolist() == [[7, 8], [24, 26]]
    assert bounds["test"].tolist() == [[8, 10], [26, 30]]


@given(
    lengths=st.lists(st.integers(10, 500), min_size=1, max_size=4), train=st.floats(0.2, 0.7), test=st.floats(0.1, 0.2)
)
def test_the_parts_of_an_item_follow_each_other_without_gap_or_overlap(
    lengths: list[int], train: float, test: float
) -> None:
    offsets = np.cumsum([0, *lengths])
    clock = np.concatenate([hours(length) for length in lengths])

    bounds = cut(SplitByFractions(train=train, test=test), clock, offsets, "panel")

    for item, (first, after) in enumerate(pairwise(offsets)):
        rows = [row for part in PARTS for row in range(*bounds[part][item])]
        assert rows == list(range(first, after))


def test_the_last_rows_of_every_item_are_for_testing_however_long_it_is() -> None:
    bounds = cut(SplitByLast(test=3), np.concatenate([hours(10), hours(20)]), np.array([0, 10, 30]), "panel")

    assert bounds["train"].tolist() == [[0, 4], [10, 24]]
    assert bounds["validation"].tolist() == [[4, 7], [24, 27]]
    assert bounds["test"].tolist() == [[7, 10], [27, 30]]


def test_rows_may_be_left_unused_after_the_test_part() -> None:
    bounds = cut(SplitByLast(test=3, validation=2, unused=4), hours(20), np.array([0, 20]), "panel")

    assert [bounds[part].tolist() for part in PARTS] == [[[0, 11]], [[11, 13]], [[13, 16]]]


RULES = [
    SplitByCounts(train=100, validation=30, test=40),
    SplitByFractions(train=0.6, test=0.2),
    SplitByDates(validation=date(2024, 1, 5), test=date(2024, 1, 7)),
    SplitByLast(test=24, validation=30),
    SplitByOrigins(horizon=12, windows=5, stride=6),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.by)
@given(gap=st.integers(0, 11), lengths=st.lists(st.integers(200, 400), min_size=1, max_size=4))
def test_a_gap_is_kept_between_the_parts_and_moves_no_test_row(rule: SplitRule, gap: int, lengths: list[int]) -> None:
    offsets = np.cumsum([0, *lengths])
    clock = np.concatenate([hours(length) for length in lengths])

    with_gap = cut(rule.model_copy(update={"gap": gap}), clock, offsets, "panel")
    without = cut(rule, clock, offsets, "panel")

    assert (with_gap["test"] == without["test"]).all()
    for earlier, later in pairwise(PARTS):
        assert (with_gap[later][:, 0] - with_gap[earlier][:, 1] == gap).all()


# Where forecasts start


def panel_of(rule: SplitRule, lengths: list[int]) -> Panel:
    return Panel(
        name="shops",
        values=np.arange(sum(lengths), dtype=np.float32)[:, None],
        timestamps=np.concatenate([hours(length) for length in lengths]),
        channels=("sales",),
        freq="h",
        seasonality=1,
        split=rule,
        items=tuple(f"shop {number}" for number in range(len(lengths))),
        offsets=np.cumsum([0, *lengths]),
    )


def test_origins_roll_so_that_the_last_forecast_ends_with_the_item() -> None:
    panel = panel_of(SplitByOrigins(horizon=4, windows=3, stride=2, validation=5), [40, 60])

    starts = panel.test.starts(context_length=10, horizon=4)

    assert (starts + 10).tolist() == [32, 34, 36, 92, 94, 96]
    assert panel.validation.bounds.tolist() == [[27, 32], [87, 92]]


@given(
    lengths=st.lists(st.integers(30, 90), min_size=1, max_size=5),
    horizon=st.integers(1, 5),
    windows=st.integers(1, 4),
    stride=st.integers(1, 6),
    context_length=st.integers(1, 40),
)
def test_exactly_the_origins_that_have_a_whole_context_are_scored(
    lengths: list[int], horizon: int, windows: int, stride: int, context_length: int
) -> None:
    panel = panel_of(SplitByOrigins(horizon=horizon, windows=windows, stride=stride), lengths)
    expected = []
    for first, after in pairwise(panel.offsets.tolist()):
        origins = [after - horizon - stride * back for back in reversed(range(windows))]
        expected += [origin for origin in origins if origin - context_length >= first]

    if expected:
        assert (panel.test.starts(context_length, horizon) + context_length).tolist() == expected
    else:
        with pytest.raises(DataError, match="too few rows"):
            panel.test.starts(context_length, horizon)


def test_a_shorter_horizon_keeps_the_origins_and_a_longer_one_is_refused() -> None:
    panel = panel_of(SplitByOrigins(horizon=4, windows=3), [60])

    assert (panel.test.starts(5, 1) + 5).tolist() == (panel.test.starts(5, 4) + 5).tolist() == [48, 52, 56]
    with pytest.raises(
        DataError, match=r"is made for a horizon of 4, not of 5; shorten --horizon, or change \[split\]"
    ):
        panel.test.starts(5, 5)


def test_validation_windows_start_at_every_row() -> None:
    panel = panel_of(SplitByOrigins(horizon=4, windows=3, validation=6), [60])

    assert (panel.validation.starts(5, 4) + 5).tolist() == [42, 43, 44]


def test_with_refit_every_origin_is_a_fold_that_trains_on_all_rows_before() -> None:
    rolling = panel_of(SplitByOrigins(horizon=4, windows=3, validation=5), [60])
    folds = panel_of(SplitByOrigins(horizon=4, windows=3, validation=5, refit=True), [60]).folds()

    assert [fold.name for fold in folds] == ["shops_fold1", "shops_fold2", "shops_fold3"]
    origins = [(fold.test.starts(5, 4) + 5).tolist() for fold in folds]
    assert origins == [[48], [52], [56]] == [[origin] for origin in rolling.test.starts(5, 4) + 5]
    assert [fold.train.bounds.tolist() for fold in folds] == [[[0, 43]], [[0, 47]], [[0, 51]]]
    assert [fold.name for fold in rolling.folds()] == ["shops"]


def test_fifty_thousand_items_are_cut_into_windows_quickly() -> None:
    lengths = np.random.default_rng(0).integers(40, 60, 50_000).tolist()
    panel = panel_of(SplitByLast(test=5), lengths)

    clock = time.process_time()
    starts = panel.train.starts(10, 5)

    assert len(starts) == sum(length - 10 - 10 - 5 + 1 for length in lengths)
    assert time.process_time() - clock < 1  # a loop over the items takes many times as long


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(SplitByCounts(train=90, validation=5, test=6), id="one row too many"),
        pytest.param(SplitByFractions(train=0.9, test=0.2), id="more than everything"),
        pytest.param(SplitByFractions(train=0.8, test=0.2), id="nothing for validation"),
        pytest.param(SplitByFractions(train=0.001, test=0.2), id="nothing for training"),
        pytest.param(SplitByFractions(train=0.7, test=0.001), id="nothing for testing"),
        pytest.param(SplitByDates(validation=date(2024, 1, 3), test=date(2024, 1, 2)), id="test before validation"),
        pytest.param(SplitByDates(validation=date(2023, 1, 3), test=date(2024, 1, 2)), id="before the data"),
        pytest.param(SplitByDates(validation=date(2024, 1, 3), test=date(2025, 1, 2)), id="after the data"),
    ],
)
def test_a_split_that_leaves_a_part_empty_is_refused(rule: SplitRule) -> None:
    with pytest.raises(DataError, match=r"^sales: the split \(.*\) does not fit 100 rows: .*; change \[split\]"):
        cut(rule, hours(100), np.array([0, 100]), "sales")


def test_one_item_that_is_too_short_is_enough_to_refuse() -> None:
    with pytest.raises(DataError, match="does not fit 3 rows: it would cut at rows 0, 2, 3, 3"):
        cut(SplitByFractions(), np.concatenate([hours(50), hours(3)]), np.array([0, 50, 53]), "panel")


@pytest.mark.parametrize(
    "content",
    [
        {"by": "counts", "train": 0, "validation": 1, "test": 1},
        {"by": "fractions", "train": 0, "test": 0.2},
        {"by": "fractions", "train": 0.7, "test": 1},
        {"by": "fractions", "train": 0.7, "test": 0.2, "validation": 0.1},
        {"by": "dates", "validation": "2024-01-01"},
        {"by": "months", "train": 12},
        {"by": "last"},
        {"by": "last", "test": 5, "gap": -1},
        {"by": "origins", "horizon": 5},
        {"by": "origins", "horizon": 5, "windows": 2, "stride": 0},
        {"train": 0.7, "test": 0.2},
    ],
)
def test_a_rule_that_makes_no_sense_is_not_a_rule(content: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(SplitRule).validate_python(content)
