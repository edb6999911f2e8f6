"""Panels: values on a clock, their parts, and the windows that a part owns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsbench.data.panel import Panel, Part
from tsbench.data.splits import PARTS, SplitByCounts, SplitByFractions, SplitRule
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import DataError


def panel_of(lengths: list[int], split: SplitRule = SplitByFractions()) -> Panel:
    """Hourly items of these lengths; the value of a row is its number."""
    rows = sum(lengths)
    return Panel(
        name="made_up",
        values=np.arange(rows, dtype=np.float32)[:, None],
        timestamps=np.datetime64("2024-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "h"),
        channels=("a",),
        freq="h",
        seasonality=24,
        split=split,
        items=tuple(f"item_{i}" for i in range(len(lengths))),
        offsets=np.cumsum([0, *lengths]),
    )


def slowly(part: Part, context_length: int, horizon: int) -> list[int]:
    """The first rows of all windows of a part, found by trying every row of every item."""
    starts = []
    for (first, after), (low, high) in zip(pairwise(part.panel.offsets), part.bounds, strict=True):
        for start in range(first, after):
            target = range(start + context_length, start + context_length + horizon)
            if all(low <= row < high for row in target):
                starts.append(start)
    return starts


panels = st.lists(st.integers(10, 60), min_size=1, max_size=4).map(panel_of)
a_part = st.sampled_from(PARTS)


@given(panel=panels, name=a_part, context_length=st.integers(1, 30), horizon=st.integers(1, 8))
def test_a_part_owns_exactly_the_windows_whose_target_lies_in_it(
    panel: Panel, name: str, context_length: int, horizon: int
) -> None:
    part = Part(panel, name)
    expected = slowly(part, context_length, horizon)

    if expected:
        assert part.starts(context_length, horizon).tolist() == expected
    else:
        with pytest.raises(DataError, match="too few rows"):
            part.starts(context_length, horizon)


@given(panel=panels, name=a_part, context_length=st.integers(1, 12), horizon=st.integers(1, 4))
def test_no_window_crosses_the_border_of_an_item(panel: Panel, name: str, context_length: int, horizon: int) -> None:
    try:
        starts = Part(panel, name).starts(context_length, horizon)
    except DataError:
        return

    first_item = np.searchsorted(panel.offsets, starts, side="right")
    last_item = np.searchsorted(panel.offsets, starts + context_length + horizon - 1, side="right")
    assert (first_item == last_item).all()


@given(context_length=st.integers(1, 70), horizon=st.integers(1, 10))
def test_the_number_of_scored_windows_does_not_depend_on_the_context_length(context_length: int, horizon: int) -> None:
    """Context may reach back into earlier parts: there are 70 training rows before the 10 and 20."""
    panel = panel_of([100])

    assert len(panel.validation.starts(context_length, horizon)) == 10 - horizon + 1
    assert len(panel.test.starts(context_length, horizon)) == 20 - horizon + 1


@given(context_length=st.integers(1, 60), horizon=st.integers(1, 10))
def test_training_windows_need_room_for_their_context(context_length: int, horizon: int) -> None:
    assert len(panel_of([100]).train.starts(context_length, horizon)) == 70 - context_length - horizon + 1


def test_etth1_has_the_published_numbers_of_windows() -> None:
    panel = panel_of([17420], SplitByCounts(train=8640, validation=2880, test=2880))

    for horizon, train, test in [(96, 8449, 2785), (192, 8353, 2689), (336, 8209, 2545), (720, 7825, 2161)]:
        assert len(panel.train.starts(96, horizon)) == train
        assert len(panel.validation.starts(96, horizon)) == test
        assert len(panel.test.starts(96, horizon)) == test


def test_an_item_too_short_for_a_window_only_leaves_its_own_out() -> None:
    assert panel_of([100, 10]).test.starts(4, 5).tolist() == [*range(76, 92)]  # item 1 has two test rows


@pytest.mark.parametrize(("part", "rows"), [("train", 70), ("validation", 10), ("test", 20)])
def test_a_part_without_a_window_says_what_is_missing_and_what_to_change(part: str, rows: int) -> None:
    with pytest.raises(DataError) as refusal:
        Part(panel_of([100]), part).starts(96, 24)

    assert f"made_up: too few rows: the {part} part has {rows}, and a window needs 24 there" in str(refusal.value)
    assert "with 96 before them for the context; shorten --horizon or --context-length" in str(refusal.value)


def test_the_values_of_a_part_are_its_rows_of_all_items() -> None:
    panel = panel_of([10, 20])

    assert panel.train.values[:, 0].tolist() == [*range(0, 7), *range(10, 24)]
    assert panel.validation.values[:, 0].tolist() == [7, 24, 25]
    assert panel.test.values[:, 0].tolist() == [8, 9, 26, 27, 28, 29]


def test_a_wide_table_is_a_panel_of_one_item_without_a_name() -> None:
    panel = synthetic_panel(num_rows=50)

    assert panel.items == ("",)
    assert panel.offsets.tolist() == [0, 50]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((50, 2)), id="float64"),
        pytest.param(np.zeros(50, dtype=np.float32), id="one dimension"),
        pytest.param(np.zeros((50, 2), dtype=np.float32, order="F"), id="column-major"),
        pytest.param(np.zeros((50, 4), dtype=np.float32)[:, ::2], id="a view with gaps"),
    ],
)
def test_values_that_are_no_row_major_float32_table_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="one row-major float32 array of rows x channels"):
        replace(synthetic_panel(num_rows=50, num_channels=2), values=values)


def test_the_fingerprint_is_the_same_for_the_same_content() -> None:
    assert synthetic_panel(num_rows=50).fingerprint == synthetic_panel(num_rows=50).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda panel: {"values": panel.values + np.float32(1e-3)}, id="values"),
        pytest.param(lambda panel: {"timestamps": panel.timestamps + np.timedelta64(1, "h")}, id="clock"),
        pytest.param(lambda panel: {"channels": ("x", "y")}, id="channels"),
        pytest.param(lambda panel: {"channels": panel.channels[::-1]}, id="order of channels"),
        pytest.param(lambda panel: {"items": ("shop",)}, id="items"),
        pytest.param(lambda panel: {"freq": "60min"}, id="freq"),
        pytest.param(lambda panel: {"seasonality": 12}, id="seasonality"),
        pytest.param(lambda panel: {"split": SplitByFractions(train=0.6, test=0.2)}, id="split"),
    ],
)
def test_whatever_could_change_a_score_changes_the_fingerprint(change) -> None:
    panel = synthetic_panel(num_rows=50, num_channels=2)

    assert replace(panel, **change(panel)).fingerprint != panel.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"inferred": ("a note",)}, {"defects": ("a hole",)}, {"split": SplitByFractions(train=0.7)}],
)
def test_what_cannot_change_a_score_leaves_the_fingerprint(change: dict) -> None:
    panel = synthetic_panel(num_rows=50)

    assert replace(panel, **change).fingerprint == panel.fingerprint


def test_a_reader_is_told_what_is_wrong_before_what_was_inferred() -> None:
    panel = replace(synthetic_panel(num_rows=50), inferred=("freq",), defects=("a gap",))

    assert panel.notes == ("a gap", "freq")


@pytest.mark.parametrize("seasonality", [0, -1, 2.5])
def test_a_season_is_a_whole_number_of_rows(seasonality: float) -> None:
    with pytest.raises(DataError, match=f"seasonality = {seasonality}: give a whole number of rows"):
        replace(synthetic_panel(num_rows=50), seasonality=seasonality)
