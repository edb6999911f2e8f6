"""Where the errors lie: small tables, held to plain loops over the windows."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByCounts
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import evaluate
from tsbench.evaluation.residuals import HISTOGRAM_REACH, NUM_BINS, Residuals
from tsbench.training.forecaster import Forecaster


def tables(panel: Panel, batch_size: int = 256, horizon: int = 6) -> dict[str, Any]:
    """Of seasonal naive."""
    scaler = Scaler.fit(panel.train)
    windows = Windows.of(panel.test, torch.from_numpy(scaler.apply_to(panel)), 24, horizon)
    forecaster = Forecaster("seasonal_naive", context_length=24, horizon=horizon, seasonality=24).build(0).eval()
    residuals = Residuals(panel.test, windows)
    evaluate(forecaster, windows, scaler, batch_size=batch_size, look=residuals.look)
    return residuals.tables()


def errors_by_hand(panel: Panel) -> list[tuple[int, int, np.ndarray]]:
    """Row of the target, step, and error by channel of every step of seasonal naive; NaN where a value is missing."""
    scaler = Scaler.fit(panel.train)
    values_TC, contexts_TC = scaler.apply(panel.values), scaler.apply_to(panel)
    return [
        (first + step, step, contexts_TC[first + step - 24] - values_TC[first + step])
        for first in panel.test.starts(24, 6) + 24
        for step in range(6)
    ]


@pytest.fixture(params=["whole", "with holes"])
def panel(request: pytest.FixtureRequest, small_panel: Panel, holed_panel: Panel) -> Panel:
    return small_panel if request.param == "whole" else holed_panel


@pytest.mark.parametrize("name", ["hour", "weekday"])
def test_errors_by_the_clock_are_means_over_the_targets_at_that_time(panel: Panel, name: str):
    groups = defaultdict(list)
    for row, _, error_C in errors_by_hand(panel):
        stamp = pd.Timestamp(panel.timestamps[row])
        groups[str(stamp.hour) if name == "hour" else stamp.strftime("%a")].append(error_C)

    found = tables(panel)["errors_by"][name]

    assert set(found["names"]) == set(groups)
    for place, group in enumerate(found["names"]):
        assert found["mse_scaled"][place] == pytest.approx(np.nanmean(np.square(groups[group])), rel=1e-4)
        assert found["mae_scaled"][place] == pytest.approx(np.nanmean(np.abs(groups[group])), rel=1e-4)


def test_bias_and_histogram_are_of_forecast_less_truth(panel: Panel):
    points, found = errors_by_hand(panel), tables(panel)

    bias = [np.nanmean([error_C for _, step, error_C in points if step == wanted]) for wanted in range(6)]
    np.testing.assert_allclose(found["bias_by_step"], bias, rtol=1e-3, atol=1e-6)
    errors = np.concatenate([error_C for _, _, error_C in points]).clip(-HISTOGRAM_REACH, HISTOGRAM_REACH)
    counts, _ = np.histogram(errors, NUM_BINS, (-HISTOGRAM_REACH, HISTOGRAM_REACH))
    np.testing.assert_allclose(found["histogram"], counts / counts.sum(), atol=1e-4)


def test_the_autocorrelation_is_that_of_errors_one_step_ahead(panel: Panel):
    one_step = np.array([error_C for _, step, error_C in errors_by_hand(panel) if step == 0])
    centred = one_step - np.nanmean(one_step, axis=0)
    rows = np.array([row for row, step, _ in errors_by_hand(panel) if step == 0])

    found = tables(panel)["autocorrelation"]

    assert len(found) == len(one_step) // 4
    for lag in (1, 5, 18):
        products = (centred[lag:] * centred[:-lag])[rows[lag:] - rows[:-lag] == lag]
        expected = (np.nanmean(products, axis=0) / np.nanvar(one_step, axis=0)).mean()
        assert found[lag - 1] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_tables_do_not_depend_on_the_batch_size(panel: Panel):
    whole, dealt = tables(panel), tables(panel, batch_size=7)

    assert dealt["errors_by"]["level"]["names"] == whole["errors_by"]["level"]["names"]
    for kind, table in whole["errors_by"].items():
        np.testing.assert_allclose(dealt["errors_by"][kind]["mse_scaled"], table["mse_scaled"], rtol=2e-5)
    np.testing.assert_allclose(dealt["autocorrelation"], whole["autocorrelation"], rtol=1e-4, atol=1e-6)


def test_levels_go_from_the_lowest_windows_to_the_highest():
    values = np.tile(np.arange(24, dtype=np.float32), 20)[:, None]
    values[-120:] = 100  # the last windows stand still on high ground
    stamps = pd.date_range("2024-01-01", periods=480, freq="h").to_numpy(dtype="datetime64[ns]")
    panel = Panel("steps", values, stamps, ("a",), "h", 24, SplitByCounts(train=240, validation=48, test=192))

    level = tables(panel)["errors_by"]["level"]

    assert level["names"][0] == "1"
    assert level["mse_scaled"][0] == 0  # before the step a day repeats the day before
    assert max(level["mse_scaled"]) > 0


@pytest.mark.parametrize(("freq", "kinds"), [("D", {"weekday"}), ("MS", {"month"}), ("W-MON", {"month"})])
def test_only_what_the_clock_knows_is_told(freq: str, kinds: set[str]):
    stamps = pd.date_range("2000-01-01", periods=200, freq=freq).to_numpy(dtype="datetime64[ns]")
    values = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    panel = Panel("x", values, stamps, ("a",), freq, 24, SplitByCounts(train=100, validation=40, test=60))

    assert set(tables(panel)["errors_by"]) - {"level"} == kinds


def test_pairs_of_the_autocorrelation_stay_within_an_item():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 1)).astype(np.float32)
    stamps = pd.date_range("2024-01-01", periods=200, freq="h").to_numpy(dtype="datetime64[ns]")
    panel = Panel(
        "two",
        values,
        np.concatenate([stamps, stamps]),
        ("a",),
        "h",
        24,
        SplitByCounts(train=100, validation=40, test=60),
        items=("x", "y"),
        offsets=np.array([0, 200, 400]),
    )
    scaled = Scaler.fit(panel.train).apply_to(panel).astype(np.float64)
    error = [scaled[row - 24, 0] - scaled[row, 0] for item in (0, 200) for row in range(item + 140, item + 195)]
    centred = np.array(error) - np.mean(error)
    within = np.concatenate([centred[1:55] * centred[:54], centred[56:] * centred[55:-1]])

    assert tables(panel)["autocorrelation"][0] == pytest.approx(within.mean() / centred.var(), rel=1e-3)


def test_windows_are_told_apart_by_the_level_of_the_values_that_are_there(holed_panel: Panel):
    scaled_TC, points = Scaler.fit(holed_panel.train).apply(holed_panel.values), errors_by_hand(holed_panel)
    windows = [points[first : first + 6] for first in range(0, len(points), 6)]
    level_N = [np.nanmean([scaled_TC[row] for row, _, _ in window]) for window in windows]
    tenth_N = np.searchsorted(np.quantile(level_N, np.arange(1, 10) / 10), level_N)

    found = tables(holed_panel)["errors_by"]["level"]["mse_scaled"]

    for tenth in range(10):
        errors = [
            error_C for window, own in zip(windows, tenth_N, strict=True) if own == tenth for *_, error_C in window
        ]
        assert found[tenth] == pytest.approx(np.nanmean(np.square(errors)), rel=1e-3)
