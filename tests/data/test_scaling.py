"""Scaling: z-scores of the training rows, there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler, item_sums, seen
from tsbench.data.splits import SplitByFractions
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import DataError

# Sixty-fourths: no spread of training rows is so small that a test row overflows on its scale.
tables = arrays(np.float32, (20, 2), elements=st.integers(-640_000, 640_000).map(lambda number: number / 64))


def panel_with(values: np.ndarray) -> Panel:
    return replace(
        synthetic_panel(num_rows=len(values), num_channels=values.shape[1]), values=values.astype(np.float32)
    )


def test_mean_and_deviation_are_worked_out_by_hand() -> None:
    """Ten rows, the first seven for training: 1 to 7 has mean 4 and, with ddof 0, variance 28 / 7 = 4."""
    values = np.array([1, 2, 3, 4, 5, 6, 7, 1000, 1000, 1000])[:, None]

    scaler = Scaler.fit(panel_with(values).train)

    assert (scaler.mean[0], scaler.std[0]) == (4, 2)
    assert scaler.apply(np.array([[4.0], [8.0]])).tolist() == [[0], [2]]
    assert scaler.invert(np.array([[0.0], [-1.0]])).tolist() == [[4], [2]]


def test_rows_after_the_training_part_do_not_move_the_scaler_by_one_bit(small_panel: Panel) -> None:
    spoiled = small_panel.values.copy()
    spoiled[small_panel.bounds["validation"][0, 0] :] = np.nan

    before, after = Scaler.fit(small_panel.train), Scaler.fit(replace(small_panel, values=spoiled).train)

    assert before.mean.tobytes() == after.mean.tobytes()
    assert before.std.tobytes() == after.std.tobytes()


@given(values=tables)
def test_the_scaler_equals_numpy_in_float64_with_ddof_0(values: np.ndarray) -> None:
    scaler = Scaler.fit(panel_with(values).train)

    rows = values[:14].astype(np.float64)
    np.testing.assert_allclose(scaler.mean, rows.mean(axis=0), rtol=1e-9, atol=1e-9)
    varies = rows.std(axis=0) > 1e-6
    np.testing.assert_allclose(scaler.std[varies], rows.std(axis=0)[varies], rtol=1e-6)


@given(values=tables)
def test_back_from_z_scores_are_the_values_themselves(values: np.ndarray) -> None:
    scaler = Scaler.fit(panel_with(values).train)

    back = scaler.invert(scaler.apply(values))

    # A z-score is a float32: its relative error of 2**-24 comes back in units of the distance from the mean.
    allowed = 2**-23 * (np.abs(values - scaler.mean) + 1)
    assert (np.abs(back - values) <= allowed).all()


def test_z_scores_of_the_training_rows_have_mean_0_and_deviation_1(small_panel: Panel) -> None:
    scaled = Scaler.fit(small_panel.train).apply(small_panel.train.values).astype(np.float64)

    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 5.0, 0.1, 1e9])
def test_a_constant_channel_is_only_moved_to_zero(level: float) -> None:
    values = np.full((10, 1), level, dtype=np.float32)

    scaler = Scaler.fit(panel_with(values).train)

    assert scaler.std.tolist() == [1]
    assert scaler.apply(values).tolist() == [[0]] * 10


def test_each_item_is_divided_by_its_own_level() -> None:
    panel = replace(
        panel_with(np.array([1, 3, 9, 9, 5, 7, 9, 9])[:, None]),
        items=("a", "b"),
        offsets=np.array([0, 4, 8]),
        split=SplitByFractions(train=0.5, test=0.25),
    )

    scaler = Scaler.fit(panel.train)  # rows 1, 3 of the first item and 5, 7 of the second

    assert scaler.std.tolist() == [[2], [6]]
    assert scaler.apply_to(panel)[:, 0].tolist() == pytest.approx([0.5, 1.5, 4.5, 4.5, 5 / 6, 7 / 6, 1.5, 1.5])
    assert scaler.invert(scaler.apply_to(panel), panel.item_of(np.arange(8))) == pytest.approx(panel.values)


def test_an_item_of_zeros_is_left_at_zero() -> None:
    panel = replace(panel_with(np.zeros((8, 1))), items=("a", "b"), offsets=np.array([0, 4, 8]),
        split=SplitByFractions(train=0.5, test=0.25))  # fmt: skip

    assert Scaler.fit(panel.train).std.tolist() == [[1], [1]]


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=9), min_size=2, max_size=5))
def test_sums_of_items_are_those_of_a_loop(items: list[list[float]]) -> None:
    values = np.array([value for item in items for value in item], dtype=np.float32)[:, None]
    ends = np.cumsum([len(item) for item in items])
    bounds = np.stack([ends - [len(item) - 1 for item in items], ends], axis=1)  # all but each item's first row

    expected = [[sum(item[1:])] for item in items]
    np.testing.assert_allclose(item_sums(values, bounds), expected, rtol=1e-6, atol=1e-6)


def test_z_scores_are_float32_and_original_units_float64_for_any_leading_shape(small_panel: Panel) -> None:
    scaler = Scaler.fit(small_panel.train)
    forecasts = np.zeros((5, 6, 2), dtype=np.float32)

    assert scaler.apply(forecasts).dtype == np.float32
    assert scaler.invert(forecasts).dtype == np.float64
    assert scaler.invert(forecasts)[3, 2].tolist() == scaler.mean.tolist()


# Beside holes


@given(values=tables, holes=arrays(bool, (20, 2)))
def test_statistics_are_those_of_the_values_that_are_there(values: np.ndarray, holes: np.ndarray) -> None:
    holes[[0, 13]] = False
    panel = panel_with(np.where(holes, np.nan, values))

    scaler = Scaler.fit(panel.train)

    for channel in range(2):
        there = values[:14, channel][~holes[:14, channel]].astype(np.float64)
        assert scaler.mean[channel] == pytest.approx(there.mean(), rel=1e-9, abs=1e-9)
        if np.ptp(there):
            assert scaler.std[channel] == pytest.approx(there.std(), rel=1e-6)


def test_the_level_of_an_item_is_that_of_the_values_that_are_there() -> None:
    values = np.array([2, np.nan, 4, *[3] * 7, np.nan, 20, np.nan, *[20] * 7], np.float32)[:, None]

    panel = two_items(values)

    assert Scaler.fit(panel.train).std.tolist() == [[3], [20]]


@given(values=tables, holes=arrays(bool, (20, 2)), row=st.integers(0, 19), new=st.integers(-99, 99))
def test_a_context_holds_the_last_value_seen_and_never_looks_ahead(
    values: np.ndarray, holes: np.ndarray, row: int, new: int
) -> None:
    holes[13] = False
    panel = panel_with(np.where(holes, np.nan, values))
    filled = seen(panel)

    for channel in range(2):
        last = Scaler.fit(panel.train).mean[channel]
        for at in range(20):
            last = last if holes[at, channel] else values[at, channel]
            assert filled[at, channel] == pytest.approx(last, rel=1e-6, abs=1e-6)
    later = panel.values.copy()
    later[row + 1 :] = new  # whatever comes later, holes or not
    again = seen(replace(panel, values=later))
    begun = np.maximum.accumulate(~holes, axis=0)
    np.testing.assert_array_equal(again[: row + 1][begun[: row + 1]], filled[: row + 1][begun[: row + 1]])


def test_no_context_holds_a_value_of_the_item_before() -> None:
    values = np.array([1.0] * 10 + [np.nan, np.nan] + [20.0] * 8, np.float32)[:, None]

    assert seen(two_items(values))[10:12, 0].tolist() == [20, 20]  # the mean of its own training rows


def test_a_channel_without_a_training_value_is_refused() -> None:
    values = np.ones((20, 2))
    values[:14, 1] = np.nan

    with pytest.raises(DataError, match="channel_1 has no value in the rows that its scale is taken from"):
        Scaler.fit(panel_with(values).train)


def two_items(values: np.ndarray) -> Panel:
    base = panel_with(values)
    stamps = np.concatenate([base.timestamps[:10]] * 2)
    return replace(base, timestamps=stamps, items=("a", "b"), offsets=np.array([0, 10, 20]))
