"""Scoring: every window once, in sums that do not depend on how the windows are dealt out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler, seen
from tsbench.data.splits import SplitByCounts, SplitByOrigins
from tsbench.data.windows import Windows
from tsbench.errors import Diverged
from tsbench.evaluation.accuracy import (
    ErrorTotals,
    chosen_windows,
    evaluate,
    kept_losses,
    points_digest,
    sample_forecasts,
)
from tsbench.evaluation.metrics import metrics
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster


def windows_of(panel: Panel, context_length: int = 24, horizon: int = 6) -> Windows:
    """Of the test part, on the scaled values."""
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply_to(panel))
    return Windows.of(panel.test, values_TC, context_length, horizon)


def score(panel: Panel, model: str, context_length: int = 24, batch_size: int = 256) -> ErrorTotals:
    """Of a forecaster with untrained weights."""
    forecaster = Forecaster(model, context_length=context_length, horizon=6, seasonality=24).build(0).eval()
    return evaluate(forecaster, windows_of(panel, context_length), Scaler.fit(panel.train), batch_size=batch_size)


def test_the_totals_are_sums_over_every_window_of_the_test_part(small_panel: Panel):
    scaler, (low, high) = Scaler.fit(small_panel.train), small_panel.test.bounds[0]
    squared_HC, absolute_HC, symmetric_HC = (np.zeros((6, 2)) for _ in range(3))
    values_TC, num_windows = small_panel.values.astype(np.float64), 0
    for first in range(low, high - 6 + 1):
        num_windows += 1
        for h in range(6):
            for c in range(2):
                target, forecast = values_TC[first + h, c], values_TC[first - 1, c]  # naive: the last value before
                squared_HC[h, c] += ((target - forecast) / scaler.std[c]) ** 2
                absolute_HC[h, c] += abs(target - forecast) / scaler.std[c]
                symmetric_HC[h, c] += 200 * abs(target - forecast) / (abs(target) + abs(forecast))

    totals = score(small_panel, "naive")

    assert totals.num_windows == num_windows == 80 - 6 + 1
    np.testing.assert_allclose(totals.squared_HC, squared_HC, rtol=1e-4)
    np.testing.assert_allclose(totals.absolute_HC, absolute_HC, rtol=1e-4)
    np.testing.assert_allclose(totals.symmetric_HC, symmetric_HC, rtol=1e-3)


def test_a_window_has_the_mean_of_its_errors_over_steps_and_channels(small_panel: Panel):
    scaler, first = Scaler.fit(small_panel.train), small_panel.test.bounds[0, 0]
    totals = score(small_panel, "naive")

    values_TC = (small_panel.values - scaler.mean) / scaler.std
    for window in (0, 40, 74):
        row = first + window
        errors = values_TC[row : row + 6] - values_TC[row - 1]
        np.testing.assert_allclose(totals.squared_N[window], (errors**2).mean(), rtol=1e-4)
        np.testing.assert_allclose(totals.absolute_N[window], np.abs(errors).mean(), rtol=1e-4)


def test_zero_against_zero_is_no_symmetric_error():
    stamps = pd.date_range("2024-01-01", periods=60, freq="h").to_numpy(dtype="datetime64[ns]")
    values = np.zeros((60, 1), dtype=np.float32)
    values[:20:2] = 1  # training rows vary, the rest is zero: the scaler's mean of 0.25 must not hide it
    panel = Panel("zeros", values, stamps, ("a",), "h", 1, SplitByCounts(train=40, validation=10, test=10))
    scaler = Scaler(mean=np.zeros(1), std=np.ones(1))
    windows = Windows.of(panel.test, torch.from_numpy(panel.values), 4, 2)

    totals = evaluate(Forecaster("naive", context_length=4, horizon=2).build(0), windows, scaler)

    assert totals.symmetric_HC.tolist() == [[0], [0]]


@pytest.mark.parametrize("model", model_specs())
def test_a_score_does_not_change_with_the_batch_size(model: str, small_panel: Panel):
    whole = score(small_panel, model, batch_size=512)

    for batch_size in (1, 7, 32):
        dealt = score(small_panel, model, batch_size=batch_size)
        assert dealt.num_windows == whole.num_windows
        for name in ("squared_HC", "absolute_HC", "symmetric_HC"):
            np.testing.assert_allclose(getattr(dealt, name).sum(), getattr(whole, name).sum(), rtol=1e-6)
        for name in ("squared_N", "absolute_N"):
            np.testing.assert_allclose(getattr(dealt, name), getattr(whole, name), rtol=1e-5)


def test_a_forecast_that_is_no_number_is_told_as_diverged(small_panel: Panel):
    forecaster = Forecaster("linear", context_length=24, horizon=6).build(0).eval()
    with torch.no_grad():
        forecaster.model.head.linear.bias[0] = torch.nan

    with pytest.raises(Diverged, match="forecasts of the test part left the finite numbers"):
        evaluate(forecaster, windows_of(small_panel), Scaler.fit(small_panel.train))


# What is kept of it


def test_the_losses_that_are_kept_are_those_of_the_windows_in_the_order_of_time(small_panel: Panel):
    totals = score(small_panel, "naive")

    kept = kept_losses(totals, small_panel.test, 24, 6)

    np.testing.assert_allclose(kept["squared_loss"], totals.squared_N, rtol=1e-6)
    np.testing.assert_allclose(kept["absolute_loss"], totals.absolute_N, rtol=1e-6)
    assert kept["origins_per_loss"] == 1
    assert kept["squared_loss"].dtype == np.float32


@pytest.mark.parametrize(
    ("limit", "together", "count", "overlap"), [(75, 1, 75, 6), (40, 2, 38, 4), (10, 8, 10, 2), (1, 75, 1, 1)]
)
def test_neighbours_are_joined_until_the_limit_holds_and_the_mean_stays(
    limit: int, together: int, count: int, overlap: int, small_panel: Panel
):
    totals = score(small_panel, "naive")

    kept = kept_losses(totals, small_panel.test, 24, 6, limit)

    assert kept["origins_per_loss"] == together
    assert kept["overlap"] == overlap  # 5 windows on reach at most so many values
    assert len(kept["squared_loss"]) == count
    assert kept["squared_loss"].mean() == pytest.approx(totals.squared_N.mean(), rel=1e-6)
    assert kept["squared_loss"][0] == pytest.approx(totals.squared_N[:together].sum() * count / 75, rel=1e-6)


@pytest.mark.parametrize(("stride", "overlap"), [(6, 1), (4, 2), (1, 4)])
def test_origins_that_are_a_horizon_apart_do_not_overlap(stride: int, overlap: int, small_panel: Panel):
    panel = replace(small_panel, split=SplitByOrigins(horizon=6, windows=4, stride=stride))

    assert kept_losses(score(panel, "naive"), panel.test, 24, 6)["overlap"] == overlap


def test_items_that_share_an_origin_share_a_loss():
    stamps = pd.date_range("2024-01-01", periods=60, freq="h").to_numpy(dtype="datetime64[ns]")
    values = np.random.default_rng(0).normal(size=(120, 1)).astype(np.float32)
    panel = Panel(
        "shops",
        values,
        np.tile(stamps, 2),
        ("sales",),
        "h",
        1,
        SplitByCounts(train=40, validation=10, test=10),
        items=("a", "b"),
        offsets=np.array([0, 60, 120]),
    )
    windows = Windows.of(panel.test, torch.from_numpy(panel.values), 4, 2)
    scaler = Scaler(mean=np.zeros(1), std=np.ones(1))
    totals = evaluate(Forecaster("naive", context_length=4, horizon=2).build(0), windows, scaler)

    kept = kept_losses(totals, panel.test, 4, 2)

    assert totals.num_windows == 18
    np.testing.assert_allclose(kept["squared_loss"], totals.squared_N.reshape(2, 9).mean(0), rtol=1e-6)


# What is scored


@pytest.mark.parametrize("context_length", [1, 24, 100, 200])
def test_the_scored_points_do_not_depend_on_the_context_length(context_length: int, small_panel: Panel):
    assert score(small_panel, "naive", context_length).num_windows == 75
    assert points_digest(small_panel.test, context_length, 6) == points_digest(small_panel.test, 24, 6)


def test_the_digest_changes_with_anything_that_changes_the_scored_points(small_panel: Panel):
    counts = SplitByCounts(train=280, validation=40, test=80)
    assert points_digest(replace(small_panel, split=counts).test, 24, 6) == points_digest(small_panel.test, 24, 6)

    others = {
        "another horizon": (small_panel, 7),
        "other test rows": (replace(small_panel, split=SplitByCounts(train=280, validation=41, test=79)), 6),
        "fewer test rows": (replace(small_panel, split=SplitByCounts(train=280, validation=40, test=79)), 6),
        "another channel": (replace(small_panel, channels=("channel_0", "other")), 6),
        "another item": (replace(small_panel, items=("shop",)), 6),
        "another clock": (replace(small_panel, timestamps=small_panel.timestamps + np.timedelta64(1, "h")), 6),
    }
    digests = {points_digest(panel.test, 24, horizon) for panel, horizon in others.values()}

    assert len(digests | {points_digest(small_panel.test, 24, 6)}) == 1 + len(others)


def test_the_digest_knows_the_values_of_nothing(small_panel: Panel):
    doubled = replace(small_panel, values=2 * small_panel.values)

    assert points_digest(doubled.test, 24, 6) == points_digest(small_panel.test, 24, 6)


def test_items_are_told_apart_by_the_digest(small_panel: Panel):
    split = SplitByCounts(train=100, validation=40, test=60)
    halves = {"split": split, "items": ("x", "y"), "offsets": np.array([0, 200, 400])}
    one = replace(small_panel, **halves)
    turned = replace(small_panel, **{**halves, "items": ("y", "x")})

    assert score(one, "naive").num_windows == 2 * 55
    assert points_digest(one.test, 24, 6) != points_digest(turned.test, 24, 6)


# Forecasts for the eye


def test_the_sampled_forecasts_are_what_predict_would_say(small_panel: Panel):
    forecaster = Forecaster("gru", context_length=24, horizon=6, recipe={"max_steps": 3})
    forecaster.fit(small_panel.train, small_panel.validation)

    windows = windows_of(small_panel)
    arrays = sample_forecasts(forecaster, small_panel.test, windows, forecaster.scaler)

    first_test_row = 400 - 80
    assert arrays["context"].shape == (6, 24, 2)
    assert arrays["target"].shape == arrays["forecast"].shape == (6, 6, 2)
    assert list(arrays["item"]) == [""] * 6
    _, picks, channels = chosen_windows(windows, small_panel.seasonality)
    assert list(arrays["channel"]) == list(channels)
    for sample, window in enumerate(picks):
        row = first_test_row + window
        assert arrays["target_start"][sample] == small_panel.timestamps[row]
        np.testing.assert_allclose(arrays["context"][sample], small_panel.values[row - 24 : row], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(arrays["target"][sample], small_panel.values[row : row + 6], rtol=1e-4, atol=1e-5)
        until_then = replace(
            small_panel, values=small_panel.values[:row].copy(), timestamps=small_panel.timestamps[:row], offsets=None
        )
        predicted = forecaster.predict(until_then)["forecast"].to_numpy().reshape(2, 6).T
        np.testing.assert_allclose(arrays["forecast"][sample], predicted, rtol=1e-4, atol=1e-5)


def test_the_windows_to_look_at_are_chosen_by_the_last_season_repeated_and_evenly(small_panel: Panel):
    windows, scaler = windows_of(small_panel), Scaler.fit(small_panel.train)
    values_TC, low = scaler.apply(small_panel.values), 400 - 80
    loss_NC = np.array(
        [((values_TC[low + n : low + n + 6] - values_TC[low + n - 24 : low + n - 18]) ** 2).mean(0) for n in range(75)]
    )
    order = np.argsort(loss_NC.ravel())

    chosen_as, picks, channels = chosen_windows(windows, 24)

    assert chosen_as == ["easiest", "median", "hardest"] + ["evenly spaced"] * 3
    expected = [divmod(place, 2) for place in order[[0, 75, 149]]]
    assert list(zip(picks[:3], channels[:3], strict=True)) == expected
    assert (list(picks[3:]), list(channels[3:])) == ([0, 37, 74], [0, 1, 0])


def test_where_the_context_is_shorter_than_a_season_the_last_value_chooses(small_panel: Panel):
    windows = windows_of(small_panel, context_length=10)

    np.testing.assert_array_equal(chosen_windows(windows, 24)[1], chosen_windows(windows, 1)[1])


def test_of_two_windows_both_are_shown_evenly_spaced(small_panel: Panel):
    forecaster = Forecaster("naive", context_length=24, horizon=79).build(0)
    windows = windows_of(small_panel, horizon=79)

    arrays = sample_forecasts(forecaster, small_panel.test, windows, Scaler.fit(small_panel.train))

    assert len(windows) == len(set(arrays["target_start"])) == 2
    assert list(arrays["chosen_as"]).count("evenly spaced") == 2


# Beside holes


def test_the_totals_are_those_of_a_loop_over_the_values_that_are_there(holed_panel: Panel):
    scaler, contexts_TC, values_TC = Scaler.fit(holed_panel.train), seen(holed_panel), holed_panel.values
    rows_N = holed_panel.test.starts(24, 6) + 24
    squared_HC, count_HC, size_C = np.zeros((6, 2)), np.zeros((6, 2)), np.zeros(2)
    squared_N, count_N = np.zeros(len(rows_N)), np.zeros(len(rows_N))
    for n, first in enumerate(rows_N):
        for h in range(6):
            for c in range(2):
                target = float(values_TC[first + h, c])
                if not np.isnan(target):
                    squared = ((float(contexts_TC[first - 1, c]) - target) / scaler.std[c]) ** 2
                    squared_HC[h, c] += squared
                    count_HC[h, c] += 1
                    size_C[c] += abs(target)
                    squared_N[n] += squared
                    count_N[n] += 1

    totals = score(holed_panel, "naive", batch_size=7)

    np.testing.assert_allclose(totals.squared_HC, squared_HC, rtol=1e-4)
    np.testing.assert_array_equal(totals.count_HC, count_HC)
    np.testing.assert_allclose(totals.squared_N, squared_N / count_N, rtol=1e-4)
    np.testing.assert_allclose(totals.by_item.size_IC[0] * 6, size_C, rtol=1e-5)
    np.testing.assert_allclose(totals.by_item.scored_IC[0] * 6, count_HC.sum(0))
    assert metrics(totals, holed_panel)["mse_scaled"] == pytest.approx(squared_HC.sum() / count_HC.sum(), rel=1e-5)


@pytest.mark.parametrize("limit", [2048, 10])
def test_the_mean_of_the_losses_that_are_kept_is_the_error_of_the_run(limit: int, holed_panel: Panel):
    totals = score(holed_panel, "seasonal_naive")

    kept = kept_losses(totals, holed_panel.test, 24, 6, limit)

    error = metrics(totals, holed_panel)
    assert kept["squared_loss"].mean() == pytest.approx(error["mse_scaled"], rel=1e-6)
    assert kept["absolute_loss"].mean() == pytest.approx(error["mae_scaled"], rel=1e-6)


def test_the_digest_knows_what_is_missing_and_no_context_length(holed_panel: Panel):
    values = holed_panel.values.copy()
    row = int(np.flatnonzero(~np.isnan(values[400:450, 0]))[0]) + 400
    values[row, 0] = np.nan
    one_more, digest = replace(holed_panel, values=values), points_digest(holed_panel.test, 24, 6)

    assert points_digest(one_more.test, 24, 6) != digest
    assert points_digest(holed_panel.test, 100, 6) == digest


def test_no_window_to_look_at_is_chosen_for_values_that_are_missing(holed_panel: Panel):
    values = holed_panel.values.copy()
    values[-60:, 0] = np.nan
    windows = windows_of(replace(holed_panel, values=values))

    _, picks, channels = chosen_windows(windows, 24)

    target_BHC = windows.batch(torch.from_numpy(picks[:3]))[1]
    assert all((~target_BHC[place, :, channels[place]].isnan()).any() for place in range(3))


def test_a_forecast_of_what_is_missing_may_be_anything(holed_panel: Panel):
    windows, scaler = windows_of(holed_panel), Scaler.fit(holed_panel.train)

    class Wild:
        """A zero where there is a target, else no number."""

        reads_history, levels, seen = False, (), 0

        def infer_quantiles(self, context_BLC: torch.Tensor, covariates_BMK: None = None) -> torch.Tensor:
            picks = torch.arange(self.seen, self.seen + len(context_BLC))
            self.seen += len(picks)
            target_BHC = windows.batch(picks)[1]
            return torch.zeros_like(target_BHC).masked_fill(target_BHC.isnan(), torch.nan).unsqueeze(-1)

    assert np.isfinite(evaluate(Wild(), windows, scaler).squared_HC).all()
