"""Metrics against slow loops on tiny arrays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByCounts, SplitByLast, SplitByOrigins, SplitRule
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import evaluate
from tsbench.evaluation.metrics import (
    ErrorTotals,
    ItemTotals,
    item_metrics,
    metrics,
    seasonal_differences,
    seasonal_errors,
)
from tsbench.training.forecaster import Forecaster

TARGET_NHC = np.array([[[10.0, 200], [12, 100]], [[0, 300], [8, 0]], [[4, 100], [6, 250]]])
FORECAST_NHC = np.array([[[11.0, 180], [12, 130]], [[0, 330], [5, 40]], [[8, 100], [6, 200]]])
"""Three windows, two steps, two channels, in original units."""

SCALER = Scaler(mean=np.array([5.0, 150.0]), std=np.array([2.0, 50.0]))


def panel(train_rows: list[list[float]], seasonality: int = 1) -> Panel:
    """A panel of one item with these training rows; what follows them does not matter."""
    values = np.array([*train_rows, *[[1e9] * len(train_rows[0])] * 4], dtype=np.float32)
    return Panel(
        name="made up",
        values=values,
        timestamps=pd.date_range("2024-01-01", periods=len(values), freq="D").to_numpy(dtype="datetime64[ns]"),
        channels=tuple("ab"[: values.shape[1]]),
        freq="D",
        seasonality=seasonality,
        split=SplitByCounts(train=len(train_rows), validation=2, test=2),
    )


ZIGZAG = panel([[0, 0], [2, 100], [0, 0]])
"""Both channels go up and down: by 2 and by 100."""


def totals_of(
    target_NHC: np.ndarray, forecast_NHC: np.ndarray, of: Panel, item_N: list[int] | None = None
) -> ErrorTotals:
    """What `evaluate` sums up, in loops over every number that is there."""
    windows, steps, channels = target_NHC.shape
    item_N = item_N or [0] * windows
    shape = (len(of.items), channels)
    sums = {name: np.zeros((steps, channels)) for name in ("squared", "absolute", "osquared", "oabsolute", "symmetric")}
    items = {name: np.zeros(shape) for name in ("scored", "a", "s", "signed", "size", "symmetric", "mase", "rmsse")}
    by_window, counts_N, counts_HC = np.zeros((2, windows)), np.zeros(windows), np.zeros((steps, channels))
    absolute_IC, squared_IC = seasonal_differences(of, of.train.bounds, np.arange(len(of.items)))
    for n in range(windows):
        for h in range(steps):
            for c in range(channels):
                target, forecast, item = target_NHC[n, h, c], forecast_NHC[n, h, c], (item_N[n], c)
                if np.isnan(target):
                    continue
                counts_N[n] += 1
                counts_HC[h, c] += 1
                items["scored"][item] += 1 / steps
                error = (forecast - target) / SCALER.std[c]
                size = abs(target) + abs(forecast)
                symmetric = 200 * abs(target - forecast) / size if size else 0
                sums["squared"][h, c] += error**2
                sums["absolute"][h, c] += abs(error)
                sums["osquared"][h, c] += (forecast - target) ** 2
                sums["oabsolute"][h, c] += abs(forecast - target)
                sums["symmetric"][h, c] += symmetric
                items["a"][item] += abs(forecast - target) / steps
                items["s"][item] += (forecast - target) ** 2 / steps
                items["signed"][item] += (forecast - target) / steps
                items["size"][item] += abs(target) / steps
                items["symmetric"][item] += symmetric / steps
                still = absolute_IC[item] == 0
                items["mase"][item] += np.inf if still else abs(forecast - target) / absolute_IC[item] / steps
                items["rmsse"][item] += np.inf if still else (forecast - target) ** 2 / squared_IC[item] / steps
                by_window[:, n] += np.array([error**2, abs(error)])
    counts = np.bincount(item_N, minlength=len(of.items))
    shares_N = counts_N / counts_N.mean()
    return ErrorTotals(
        counts_HC, *sums.values(), *(by_window / counts_N), shares_N, ItemTotals(counts, *items.values())
    )


def score(target_NHC: np.ndarray, forecast_NHC: np.ndarray, of: Panel = ZIGZAG) -> dict[str, Any]:
    return metrics(totals_of(target_NHC, forecast_NHC, of), of)


def test_each_metric_is_its_definition():
    scores = score(TARGET_NHC, FORECAST_NHC)

    errors = (TARGET_NHC - FORECAST_NHC).ravel().tolist()
    assert errors == [-1, 20, 0, -30, 0, -30, 3, -40, -4, 0, 0, 50]
    scaled = [-0.5, 0.4, 0, -0.6, 0, -0.6, 1.5, -0.8, -2, 0, 0, 1]
    assert scores["mse"] == pytest.approx(sum(e * e for e in errors) / 12)
    assert scores["mae"] == pytest.approx(sum(abs(e) for e in errors) / 12)
    assert scores["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / 12))
    assert scores["mse_scaled"] == pytest.approx(sum(e * e for e in scaled) / 12)
    assert scores["mae_scaled"] == pytest.approx(sum(abs(e) for e in scaled) / 12)
    assert scores["rmse_scaled"] == pytest.approx(math.sqrt(sum(e * e for e in scaled) / 12))


def test_smape_is_in_percent_and_nothing_where_both_are_zero():
    # 200 |y - f| / (|y| + |f|) by hand: 0 against 0 counts as no error, 0 against 40 as the whole 200.
    terms = [200 / 21, 4000 / 380, 0, 6000 / 230, 0, 6000 / 630, 600 / 13, 200, 800 / 12, 0, 0, 10000 / 450]

    assert score(TARGET_NHC, FORECAST_NHC)["smape"] == pytest.approx(sum(terms) / 12)


def test_mase_divides_each_channels_error_by_what_naive_makes_of_the_training_rows():
    # Mean absolute errors 8/6 and 170/6 in original units; naive is wrong by 2 and by 100 at each training row.
    assert score(TARGET_NHC, FORECAST_NHC)["mase"] == pytest.approx((8 / 6 / 2 + 170 / 6 / 100) / 2)


def test_the_means_by_step_and_by_channel_average_to_the_whole():
    scores = score(TARGET_NHC, FORECAST_NHC)

    for name in ("mse_scaled", "mae_scaled", "mse", "mae"):
        assert np.mean(scores["by_step"][name]) == pytest.approx(scores[name])
        assert np.mean(scores["by_channel"][name]) == pytest.approx(scores[name])
    assert scores["by_channel"]["mae"] == pytest.approx([8 / 6, 170 / 6])
    assert scores["by_step"]["mae"] == pytest.approx([55 / 6, 123 / 6])


def test_a_perfect_forecast_has_no_error():
    scores = score(TARGET_NHC, TARGET_NHC)

    assert {name: scores[name] for name in ("mse", "mae", "rmse", "mse_scaled", "mae_scaled", "smape", "mase")} == {
        "mse": 0, "mae": 0, "rmse": 0, "mse_scaled": 0, "mae_scaled": 0, "smape": 0, "mase": 0,
    }  # fmt: skip


def test_rmsse_is_the_root_of_squared_errors_over_squared_differences():
    # Mean squared errors 26/6 and 6300/6 against 4 and 10,000.
    assert score(TARGET_NHC, FORECAST_NHC)["rmsse"] == pytest.approx(
        (math.sqrt(26 / 6 / 4) + math.sqrt(6300 / 6 / 10_000)) / 2
    )


def test_wape_and_bias_are_shares_of_the_size_of_the_targets():
    scores = score(TARGET_NHC, FORECAST_NHC)

    # By hand: absolute errors sum to 178; forecast less target to 32; targets to 40 and 950.
    assert scores["wape"] == pytest.approx(178 / 990)
    assert scores["bias"] == pytest.approx(32 / 990)


def test_wape_of_zeros_is_blank_and_says_why():
    scores = score(np.zeros((2, 2, 2)), np.ones((2, 2, 2)))

    assert (scores["wape"], scores["bias"]) == (None, None)
    assert scores["note"] == "WAPE and bias are blank: every target is zero"


# The denominator of MASE


def scale(of: Panel) -> list[list[float]]:
    return seasonal_differences(of, of.train.bounds, np.arange(len(of.items)))[0].tolist()


def test_the_seasonal_error_is_the_mean_difference_at_the_lag_over_training_rows_alone():
    rows = [[1.0], [5], [2], [9], [4]]

    # At lag 2: |2 - 1|, |9 - 5|, |4 - 2|; the rows of validation and test, of 1e9, do not count.
    assert scale(panel(rows, seasonality=2)) == [pytest.approx([7 / 3])]


def items(*series: list[float], split: SplitRule, seasonality: int = 1) -> Panel:
    """An item for each series."""
    stamps = pd.date_range("2024-01-01", periods=max(map(len, series)), freq="D").to_numpy(dtype="datetime64[ns]")
    return Panel(
        name="items",
        values=np.array([[value] for one in series for value in one], dtype=np.float32),
        timestamps=np.concatenate([stamps[: len(one)] for one in series]),
        channels=("a",),
        freq="D",
        seasonality=seasonality,
        split=split,
        items=tuple("xyzuvw"[: len(series)]),
        offsets=np.cumsum([0, *map(len, series)]),
    )


THREE_ROWS = SplitByCounts(train=3, validation=1, test=1)


def test_every_item_has_a_seasonal_error_of_its_own():
    assert scale(items([1, 2, 4, 0, 0], [100, 110, 130, 0, 0], split=THREE_ROWS)) == [[1.5], [15]]


def test_where_the_split_says_so_a_forecast_is_scaled_by_all_rows_before_it():
    rolling = items([1, 2, 4, 8, 16, 32], [0, 9, 0, 9, 0, 9], split=SplitByOrigins(horizon=1, windows=2))

    absolute_GC, squared_GC, group_N = seasonal_errors(rolling.test, 1, 1)

    assert absolute_GC[group_N, 0] == pytest.approx([(1 + 2 + 4) / 3, (1 + 2 + 4 + 8) / 4, 9, 9])
    assert squared_GC[group_N, 0] == pytest.approx([(1 + 4 + 16) / 3, (1 + 4 + 16 + 64) / 4, 81, 81])


@given(
    series=st.lists(
        st.lists(st.one_of(st.integers(-9, 9), st.just(math.nan)), min_size=6, max_size=20), min_size=1, max_size=4
    ),
    lag=st.integers(1, 4),
    size=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_seasonal_errors_equal_those_of_a_loop(series: list[list[float]], lag: int, size: float):
    # The first item is much smaller or larger than the rest: its error must not drown in their sums.
    series = [[value * size for value in series[0]], *series[1:]]
    some = items(*series, split=SplitByLast(test=2), seasonality=lag)

    absolute_IC, squared_IC = seasonal_differences(some, some.train.bounds, np.arange(len(series)))

    for number, (low, high) in enumerate(some.train.bounds):
        rows = [float(value) for value in some.values[low:high, 0]]
        differences = [later - earlier for earlier, later in zip(rows, rows[lag:], strict=False)]
        differences = [difference for difference in differences if not math.isnan(difference)]
        if not differences:
            assert np.isnan([absolute_IC[number, 0], squared_IC[number, 0]]).all()
            continue
        assert absolute_IC[number, 0] == pytest.approx(sum(map(abs, differences)) / len(differences), rel=1e-9)
        assert squared_IC[number, 0] == pytest.approx(sum(d * d for d in differences) / len(differences), rel=1e-9)


def test_mase_of_several_items_is_the_mean_of_theirs():
    two = items([0, 2, 0, 0, 0], [0, 100, 0, 0, 0], split=THREE_ROWS)
    totals = totals_of(np.array([[[10.0]], [[10.0]]]), np.array([[[11.0]], [[60.0]]]), two, item_N=[0, 1])

    assert metrics(totals, two)["mase"] == pytest.approx((1 / 2 + 50 / 100) / 2)
    assert item_metrics(totals)["mase"].tolist() == pytest.approx([0.5, 0.5])
    assert item_metrics(totals)["wape"].tolist() == pytest.approx([0.1, 5])
    assert item_metrics(totals)["bias"].tolist() == pytest.approx([0.1, 5])


def test_an_item_without_a_seasonal_error_has_no_mase_and_is_named_and_counted():
    three = items([0, 2, 0, 0, 0], [7, 7, 7, 0, 0], [0, 4, 0, 0, 0], split=THREE_ROWS)
    totals = totals_of(np.full((3, 1, 1), 10.0), np.full((3, 1, 1), 14.0), three, item_N=[0, 1, 2])

    scores = metrics(totals, three)

    assert scores["mase"] == pytest.approx((4 / 2 + 4 / 4) / 2)
    assert np.isnan(item_metrics(totals)["mase"]).tolist() == [False, True, False]
    assert scores["note"].startswith("MASE and RMSSE leave out 1 of 3 items (the same in every season: y)")


def test_a_perfect_forecast_does_not_bring_an_item_without_seasonal_error_back():
    still = items([7, 7, 7, 0, 0], [0, 4, 0, 0, 0], split=THREE_ROWS)
    windows = Windows.of(still.test, torch.from_numpy(still.values), 1, 1)
    scaler = Scaler(np.zeros((2, 1)), np.ones((2, 1)))

    totals = evaluate(Forecaster("naive", context_length=1, horizon=1).build(0), windows, scaler,
        seasonal_errors(still.test, 1, 1))  # fmt: skip

    assert totals.by_item.absolute_IC.tolist() == [[0], [0]]
    assert np.isnan(item_metrics(totals)["mase"]).tolist() == [True, False]


def test_owa_is_the_mean_of_smape_and_mase_as_shares_of_naive2():
    two = items([0, 2, 0, 0, 0], [0, 4, 0, 0, 0], split=THREE_ROWS)
    target = np.full((2, 1, 1), 10.0)
    ours, naive2 = (totals_of(target, target + error, two, item_N=[0, 1]) for error in (1.0, 4.0))

    # MASE 3/8 against 3/2; sMAPE 200/21 against 800/24.
    assert metrics(ours, two, naive2)["owa"] == pytest.approx((1 / 4 + (200 / 21) / (800 / 24)) / 2)
    assert metrics(naive2, two, naive2)["owa"] == 1
    assert metrics(totals_of(TARGET_NHC, FORECAST_NHC, ZIGZAG), ZIGZAG)["owa"] is None  # three origins


def test_a_channel_that_stands_still_leaves_mase_blank_and_says_why():
    still = panel([[0, 7], [2, 7], [0, 7]])

    scores = score(TARGET_NHC, FORECAST_NHC, still)

    assert scores["mase"] is None
    assert scores["note"] == "MASE is blank: b repeats itself exactly from season to season in the training rows"
    assert scores["mae"] == pytest.approx(178 / 12)


def test_training_rows_of_one_season_leave_mase_blank_and_say_why():
    short = panel([[0, 0], [2, 100], [0, 0]], seasonality=3)

    scores = score(TARGET_NHC, FORECAST_NHC, short)

    assert np.isnan(scale(short)).all()
    assert (scores["mase"], scores["note"]) == (
        None,
        "MASE is blank: the training part is not longer than one season",
    )


def test_training_values_that_never_lie_a_season_apart_leave_mase_blank_and_say_why():
    of = panel([[0, 0], [np.nan, 1], [2, np.nan], [np.nan, 1]])

    scores = score(TARGET_NHC, FORECAST_NHC, of)

    assert scores["mase"] is None
    assert scores["note"] == "MASE is blank: no two training values of a channel lie a season apart"


def test_every_figure_is_a_mean_over_the_points_that_are_there():
    """Six of twelve points, by hand: a step with one, a channel with two, a window with one."""
    target_NHC = TARGET_NHC.copy()
    target_NHC[0, 0, 1] = target_NHC[0, 1] = target_NHC[1, 1] = target_NHC[2, 0, 0] = np.nan

    totals = totals_of(target_NHC, FORECAST_NHC, ZIGZAG)
    scores = metrics(totals, ZIGZAG)

    errors = (target_NHC - FORECAST_NHC)[~np.isnan(target_NHC)].tolist()
    assert errors == [-1, 0, -30, 0, 0, 50]
    scaled = [-0.5, 0, -0.6, 0, 0, 1]
    assert scores["mse"] == pytest.approx(sum(e * e for e in errors) / 6)
    assert scores["mae_scaled"] == pytest.approx(sum(map(abs, scaled)) / 6)
    assert scores["wape"] == pytest.approx(81 / (10 + 0 + 300 + 100 + 6 + 250))
    assert scores["bias"] == pytest.approx((1 + 30 - 50) / 666)
    assert scores["smape"] == pytest.approx(200 * (1 / 21 + 30 / 630 + 50 / 450) / 6)
    # By channel: 1 / 3 over the training rows' 2, and 80 / 3 over their 100.
    assert scores["mase"] == pytest.approx((1 / 3 / 2 + 80 / 3 / 100) / 2)
    assert scores["by_step"]["mae"] == pytest.approx([31 / 4, 50 / 2])
    assert scores["by_channel"]["mae"] == pytest.approx([1 / 3, 80 / 3])
    assert np.mean(totals.squared_N * totals.share_N) == pytest.approx(scores["mse_scaled"])


def test_a_channel_of_an_item_without_a_scored_point_is_not_in_its_means():
    two = items([0, 2, 0, 0, 0], [0, 100, 0, 0, 0], split=THREE_ROWS)
    two = replace(two, channels=("a", "b"), values=np.repeat(two.values, 2, axis=1))
    target_NHC = np.array([[[10.0, np.nan]], [[np.nan, 10.0]]])

    by_item = item_metrics(totals_of(target_NHC, np.array([[[11.0, 0.0]], [[0.0, 60.0]]]), two, item_N=[0, 1]))

    assert by_item["mae"].tolist() == [1, 50]
    assert by_item["mase"] == pytest.approx([1 / 2, 50 / 100])


def test_nothing_is_noted_where_nothing_is_blank():
    assert score(TARGET_NHC, FORECAST_NHC)["note"] == ""
