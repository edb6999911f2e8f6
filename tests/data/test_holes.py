"""Holes: refused with their list; filled by the rule that was asked for, counted, and never across items."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsbench.data.readers import read_panel
from tsbench.errors import DataError

NAN = float("nan")


def daily(*values: float, item: str = "x", start: str = "2024-01-01") -> pd.DataFrame:
    stamps = pd.date_range(start, periods=len(values), freq="D")
    return pd.DataFrame({"unique_id": item, "ds": stamps, "y": values})


TEN = [float(value) for value in range(10)]


def test_missing_cells_are_refused_with_their_number() -> None:
    with pytest.raises(DataError, match=r"row 3, column 'y': a missing value .*\(2 such cells in this column\)"):
        read_panel(daily(0, 1, 2, NAN, NAN, 5, 6, 7, 8, 9))


def test_missing_rows_are_refused_with_their_list() -> None:
    with pytest.raises(DataError) as refusal:
        read_panel(daily(*TEN, *TEN).drop([3, 7, 8]))

    assert "2024-01-05 00:00:00 comes after 2024-01-03 00:00:00, where 2024-01-04 00:00:00" in str(refusal.value)
    assert "(2 such places, 3 missing rows: 1 before 2024-01-05 00:00:00, 2 before 2024-01-10" in str(refusal.value)
    assert "say missing = interpolate, forward_fill or mask" in str(refusal.value)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("interpolate", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), ("forward_fill", [0, 1, 2, 2, 2, 5, 5, 7, 8, 9])],
)
def test_cells_and_rows_are_filled_by_the_same_rule_and_counted(missing: str, expected: list[float]) -> None:
    holes = daily(0, 1, 2, NAN, NAN, 5, 6, 7, 8, 9).drop([6])

    panel = read_panel(holes, missing=missing)

    assert panel.values[:, 0].tolist() == expected
    assert (np.diff(panel.timestamps) == np.timedelta64(1, "D")).all()
    assert any(note.startswith("missing: 2 cells and 1 rows; 3 cells were filled by") for note in panel.notes)


def test_months_are_filled_on_their_own_clock() -> None:
    whole = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=24, freq="MS"), "a": np.arange(24.0)})

    panel = read_panel(whole.drop([5, 6]), missing="interpolate")

    assert panel.timestamps.tolist() == whole.date.to_numpy("datetime64[ns]").tolist()
    assert panel.values[:, 0].tolist() == list(range(24))


@pytest.mark.parametrize("missing", ["interpolate", "forward_fill"])
def test_the_ends_of_an_item_are_cut_not_filled(missing: str) -> None:
    ends = pd.concat([daily(NAN, NAN, *TEN, NAN), daily(*[100.0] * 10, NAN, NAN, item="y")])

    panel = read_panel(ends, missing=missing)

    assert panel.offsets.tolist() == [0, 10, 20]
    assert panel.values[:, 0].tolist() == [*TEN, *[100.0] * 10]
    assert "missing: 5 rows at the ends of 2 items were cut off, because 'y' have no value there yet or any more" in (
        panel.notes
    )


def test_a_channel_that_begins_later_takes_the_others_with_it() -> None:
    frame = daily(*TEN).assign(z=[NAN, NAN, *TEN[2:]]).drop(columns="unique_id")

    panel = read_panel(frame, targets=["y", "z"], missing="interpolate")

    assert panel.values.tolist() == [[value, value] for value in TEN[2:]]


def test_channels_that_never_meet_are_named() -> None:
    frame = daily(*TEN[:5], *[NAN] * 5).assign(z=[*[NAN] * 6, 1.0, 2.0, 3.0, 4.0]).drop(columns="unique_id")

    with pytest.raises(DataError, match="no row in which every channel has a value by then: 'z' begins after 'y' has"):
        read_panel(frame, targets=["y", "z"], missing="interpolate")


def test_filled_cells_that_are_scored_are_counted() -> None:
    panel = read_panel(daily(0, 1, 2, 3, 4, 5, 6, 7, NAN, 9), missing="interpolate")

    assert "missing: 1 of the filled cells lie in test rows and are scored as if they were measured" in panel.notes


def test_sentinels_are_missing_values_and_counted() -> None:
    marked = daily(0, 1, -9999, 3, 4, 5, 6, 7, 8, 9)

    panel = read_panel(marked, sentinels=-9999, missing="interpolate")

    assert panel.values[2, 0] == 2
    assert "sentinels: 1 cells of -9999 count as missing: 1 in 'y'" in panel.notes
    with pytest.raises(DataError, match="row 2, column 'y': a missing value"):
        read_panel(marked, sentinels=-9999)


@pytest.mark.parametrize(("repeated", "expected"), [("first", 3), ("last", 30), ("mean", 16.5)])
def test_of_rows_with_one_stamp_the_one_that_was_asked_for_is_kept(repeated: str, expected: float) -> None:
    twice = pd.concat([daily(*TEN), daily(30.0, start="2024-01-04")])

    with pytest.raises(
        DataError, match=r"row 10, item 'x'|row 10: timestamp 2024-01-04 00:00:00 repeats the one of row 3"
    ):
        read_panel(twice)
    panel = read_panel(twice, repeated=repeated)
    assert panel.values[:, 0].tolist() == [0, 1, 2, expected, *TEN[4:]]
    assert f"repeated: 1 rows with the timestamp of another; kept is the {repeated} of them" in panel.notes


def test_a_hole_as_large_as_the_series_is_no_hole() -> None:
    far = pd.concat([daily(*TEN), daily(*TEN, start="2030-01-01")])

    with pytest.raises(DataError, match="rows are missing, more than the 20 that are there"):
        read_panel(far, missing="interpolate")


def slowly(values: np.ndarray, missing: str) -> list[float]:
    """One item, filled by pandas."""
    series = pd.Series(values)
    inside = series.loc[series.first_valid_index() : series.last_valid_index()]
    return (inside.interpolate() if missing == "interpolate" else inside.ffill()).tolist()


@given(data=st.data(), missing=st.sampled_from(["interpolate", "forward_fill"]))
def test_items_are_filled_as_if_each_were_alone(data: st.DataObject, missing: str) -> None:
    cell = st.one_of(st.just(NAN), st.integers(-100, 100).map(float))
    series = data.draw(st.lists(st.lists(cell, min_size=12, max_size=20), min_size=1, max_size=4))
    series = [[1.0, *values[:3], *range(8), *values[3:], 2.0] for values in series]  # long enough for a split
    frame = pd.concat([daily(*values, item=f"i{number}") for number, values in enumerate(series)])

    panel = read_panel(frame, missing=missing)

    expected = [value for values in series for value in slowly(np.array(values), missing)]
    np.testing.assert_allclose(panel.values[:, 0], expected, rtol=1e-5, atol=1e-5)


# Masked


def test_masked_cells_and_rows_stay_missing_and_are_counted() -> None:
    panel = read_panel(daily(0, 1, 2, NAN, NAN, 5, 6, 7, 8, 9).drop([8]), missing="mask")

    np.testing.assert_array_equal(panel.values[:, 0], np.float32([0, 1, 2, NAN, NAN, 5, 6, 7, NAN, 9]))
    assert (np.diff(panel.timestamps) == np.timedelta64(1, "D")).all()
    assert "missing: 2 cells and 1 rows; missing = mask keeps them out of loss, scaling and scores" in panel.notes
    assert panel.notes[-1] == (
        "mask: 3 values are missing, 2 (28.57%) of train, 0 (0.00%) of validation, 1 (50.00%) of test; they are "
        "neither learned from nor scored"
    )


def test_under_the_mask_only_rows_without_any_value_are_cut_off() -> None:
    late = daily(NAN, *TEN, NAN).assign(z=[NAN, NAN, *TEN[1:], NAN]).drop(columns="unique_id")

    panel = read_panel(late, targets=["y", "z"], missing="mask")

    np.testing.assert_array_equal(panel.values[:2], np.float32([[0, NAN], [1, 1]]))
    assert len(panel.values) == 10
    cut = "missing: 2 rows at the ends of 1 items were cut off, because no target has a value there"
    assert any(note.startswith(cut) for note in panel.notes)


def test_covariates_of_masked_rows_repeat_their_last_value_and_begin_with_their_first() -> None:
    table = daily(NAN, *TEN, NAN, 11.0).assign(price=[NAN, NAN, *range(2, 12), NAN]).drop(columns="unique_id")

    panel = read_panel(table.drop([6]), targets="y", past="price", missing="mask")

    assert panel.covariates.rows[:, 0].tolist() == [2, 3, 4, 5, 5, 7, 8, 9, 10, 11, 11]
    np.testing.assert_array_equal(panel.values[:, 0], np.float32([1, 2, 3, 4, NAN, 6, 7, 8, 9, NAN, 11]))
    assert any(note.endswith("2 cells of covariates were filled by the last value seen") for note in panel.notes)


def test_a_target_without_any_value_is_named() -> None:
    with pytest.raises(DataError, match="'z': no value in any row; name the other columns in targets"):
        read_panel(daily(*TEN).assign(z=NAN).drop(columns="unique_id"), targets=["y", "z"], missing="mask")


@given(data=st.data())
def test_items_are_masked_as_if_each_were_alone(data: st.DataObject) -> None:
    cell = st.one_of(st.just(NAN), st.integers(-100, 100).map(float))
    series = data.draw(st.lists(st.lists(cell, min_size=12, max_size=20), min_size=1, max_size=4))
    series = [[*values[:3], *range(8), *values[3:], 2.0] for values in series]
    frame = pd.concat([daily(*values, item=f"i{number}") for number, values in enumerate(series)])

    panel = read_panel(frame, missing="mask")

    expected = [pd.Series(values).loc[pd.Series(values).first_valid_index() :] for values in series]
    np.testing.assert_array_equal(panel.values[:, 0], np.concatenate(expected).astype(np.float32))


def test_a_level_that_float32_rounds_away_is_refused_beside_holes_too() -> None:
    with pytest.raises(DataError, match="float32 rounds by up to"):
        read_panel(daily(NAN, 1e9, 1e9 + 3, NAN, *[1e9 + n % 7 for n in range(12)]), missing="mask")
