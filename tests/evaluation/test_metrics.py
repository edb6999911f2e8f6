"""Metrics against slow loops on tiny arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByCounts
from tsbench.evaluation.metrics import metrics, seasonal_scale

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


def totals_of(target_NHC: np.ndarray, forecast_NHC: np.ndarray) -> dict[str, Any]:
    """What `evaluate` sums up, in loops over every number."""
    windows, steps, channels = target_NHC.shape
    squared_HC, absolute_HC, symmetric_HC = (np.zeros((steps, channels)) for _ in range(3))
    for n in range(windows):
        for h in range(steps):
            for c in range(channels):
                target, forecast = target_NHC[n, h, c], forecast_NHC[n, h, c]
                error = (target - forecast) / SCALER.std[c]
                squared_HC[h, c] += error**2
                absolute_HC[h, c] += abs(error)
                if target or forecast:
                    symmetric_HC[h, c] += 200 * abs(target - forecast) / (abs(target) + abs(forecast))
    return {"squared_HC": squared_HC, "absolute_HC": absolute_HC, "symmetric_HC": symmetric_HC, "num_windows": windows}


def score(target_NHC: np.ndarray, forecast_NHC: np.ndarray, of: Panel = ZIGZAG) -> dict[str, Any]:
    return metrics(**totals_of(target_NHC, forecast_NHC), scaler=SCALER, train=of.train)


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


# The denominator of MASE


def test_the_seasonal_scale_is_the_mean_difference_at_the_lag_over_training_rows_alone():
    rows = [[1.0], [5], [2], [9], [4]]

    # At lag 2: |2 - 1|, |9 - 5|, |4 - 2|; the rows of validation and test, of 1e9, do not count.
    assert seasonal_scale(panel(rows).train, 2).tolist() == pytest.approx([7 / 3])


def test_the_seasonal_scale_does_not_cross_from_item_to_item():
    one, other = [[1.0], [2], [4]], [[100.0], [101], [103]]
    rest = [[0.0], [0]]
    values = np.array([*one, *rest, *other, *rest], dtype=np.float32)
    stamps = pd.date_range("2024-01-01", periods=5, freq="D").to_numpy(dtype="datetime64[ns]")
    two = Panel(
        "two", values, np.tile(stamps, 2), ("a",), "D", 1, SplitByCounts(train=3, validation=1, test=1),
        ("x", "y"), np.array([0, 5, 10]),
    )  # fmt: skip

    assert seasonal_scale(two.train, 1).tolist() == [(1 + 2 + 1 + 2) / 4]


def test_a_channel_that_stands_still_leaves_mase_blank_and_says_why():
    still = panel([[0, 7], [2, 7], [0, 7]])

    scores = score(TARGET_NHC, FORECAST_NHC, still)

    assert scores["mase"] is None
    assert scores["note"] == "MASE is blank: b repeats itself exactly from season to season in the training rows"
    assert scores["mae"] == pytest.approx(178 / 12)


def test_training_rows_of_one_season_leave_mase_blank_and_say_why():
    short = panel([[0, 0], [2, 100], [0, 0]], seasonality=3)

    scores = score(TARGET_NHC, FORECAST_NHC, short)

    assert np.isnan(seasonal_scale(short.train, 3)).all()
    assert (scores["mase"], scores["note"]) == (
        None,
        "MASE is blank: the training part is not longer than one season",
    )


def test_nothing_is_noted_where_nothing_is_blank():
    assert score(TARGET_NHC, FORECAST_NHC)["note"] == ""
