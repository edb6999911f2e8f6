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
    """Row of the target, step, and error by channel of every scored point of seasonal naive."""
    values_TC, (low, high) = Scaler.fit(panel.train).apply(panel.values), panel.test.bounds[0]
    return [
        (first + step, step, values_TC[first + step - 24] - values_TC[first + step])
        for first in range(low, high - 6 + 1)
        for step in range(6)
    ]


@pytest.mark.parametrize("name", ["hour", "weekday"])
def test_errors_by_the_clock_are_means_over_the_targets_at_that_time(small_panel: Panel, name: str):
    groups = defaultdict(list)
    for row, _, error_C in errors_by_hand(small_panel):
        stamp = pd.Timestamp(small_panel.timestamps[row])
        groups[str(stamp.hour) if name == "hour" else stamp.strftime("%a")].append(error_C)

    found = tables(small_panel)["errors_by"][name]

    assert set(found["names"]) == set(groups)
    for place, group in enumerate(found["names"]):
        assert found["mse_scaled"][place] == pytest.approx(np.square(groups[group]).mean(), rel=1e-4)
        assert found["mae_scaled"][place] == pytest.approx(np.abs(groups[group]).mean(), rel=1e-4)


def test_bias_and_histogram_are_of_forecast_less_truth(small_panel: Panel):
    points, found = errors_by_hand(small_panel), tables(small_panel)

    bias = [np.mean([error_C for _, step, error_C in points if step == wanted]) for wanted in range(6)]
    np.testing.assert_allclose(found["bias_by_step"], bias, rtol=1e-3, atol=1e-6)
    errors = np.concatenate([error_C for _, _, error_C in points]).clip(-HISTOGRAM_REACH, HISTOGRAM_REACH)
    counts, _ = np.histogram(errors, NUM_BINS, (-HISTOGRAM_REACH, HISTOGRAM_REACH))
    np.testing.assert_allclose(found["histogram"], counts / len(errors), atol=1e-4)


def test_the_autocorrelation_is_that_of_errors_one_step_ahead(small_panel: Panel):
    one_step = np.array([error_C for _, step, error_C in errors_by_hand(small_panel) if step == 0])
    centred = one_step - one_step.mean(0)

    found = tables(small_panel)["autocorrelation"]

    assert len(found) == 75 // 4
    for lag in (1, 5, 18):
        expected = ((centred[lag:] * centred[:-lag]).mean(0) / centred.var(0)).mean()
        assert found[lag - 1] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_tables_do_not_depend_on_the_batch_size(small_panel: Panel):
    whole, dealt = tables(small_panel), tables(small_panel, batch_size=7)

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
