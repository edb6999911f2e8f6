"""Quantiles: they never cross, hold what they promise, and know nothing of the test part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_forecaster_with_covariates import future_of

from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByCounts
from tsbench.data.windows import Windows
from tsbench.errors import ConfigError
from tsbench.evaluation.accuracy import evaluate
from tsbench.evaluation.explain import explain
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster
from tsbench.training.quantiles import FEWEST, outward, pinball, shifts

LEVELS = [0.1, 0.3, 0.5, 0.7, 0.9]
RECIPE = {"quantiles": LEVELS, "max_steps": 6, "validate_every": 3, "batch_size": 8, "learning_rate": 0.02}
MODES = ["independent", "mixing"]
TRAINED = [name for name, spec in model_specs().items() if spec.trained]
UNTRAINED = [name for name, spec in model_specs().items() if not spec.trained]


def fit(model: str, panel: Panel, *, recipe: dict[str, Any] | None = None, **arguments: Any) -> Forecaster:
    forecaster = Forecaster(model, context_length=24, horizon=6, recipe=RECIPE | (recipe or {}), **arguments)
    return forecaster.fit(panel.train, panel.validation, device="cpu")


def scaled_windows(forecaster: Forecaster, panel: Panel, part: str = "test") -> Windows:
    values_TC = torch.from_numpy(forecaster.scaler.apply_to(panel))
    return Windows.of(getattr(panel, part), values_TC, forecaster.context_length, forecaster.horizon)


def first_batch(forecaster: Forecaster, panel: Panel, part: str = "test") -> tuple[torch.Tensor, ...]:
    return next(scaled_windows(forecaster, panel, part).in_order(1000))


# Every model


@pytest.mark.parametrize("calibration", ["none", "conformal"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", model_specs())
def test_quantiles_of_every_model_never_cross_and_the_median_is_the_forecast(
    model: str, mode: str, calibration: str, small_panel: Panel
):
    forecaster = fit(model, small_panel, recipe={"channel_mode": mode, "calibration": calibration})
    context_BLC, _ = first_batch(forecaster, small_panel)

    quantiles_BHCQ = forecaster.infer_quantiles(context_BLC)

    assert quantiles_BHCQ.shape == (len(context_BLC), 6, small_panel.num_channels, 5)
    assert quantiles_BHCQ.isfinite().all()
    assert (quantiles_BHCQ.diff(dim=-1) >= 0).all()
    assert (quantiles_BHCQ[..., 0] < quantiles_BHCQ[..., -1]).any()
    assert torch.equal(quantiles_BHCQ[..., 2], forecaster.infer(context_BLC))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", TRAINED)
def test_every_learned_family_learns_quantiles_with_covariates(model: str, mode: str, covariate_panel: Panel):
    forecaster = fit(model, covariate_panel, recipe={"channel_mode": mode, "calibration": "conformal"})
    frame = forecaster.predict(covariate_panel, future_of(covariate_panel))

    assert forecaster.num_outputs == 5
    assert (np.diff(frame[[f"q{level}" for level in LEVELS]].to_numpy(), axis=1) >= 0).all()


@pytest.mark.parametrize("model", UNTRAINED)
def test_a_model_of_points_forecasts_the_same_with_quantiles(model: str, small_panel: Panel):
    with_quantiles, without = fit(model, small_panel), fit(model, small_panel, recipe={"quantiles": []})
    context_BLC, _ = first_batch(without, small_panel)

    assert torch.equal(with_quantiles.infer(context_BLC), without.infer(context_BLC))


def test_a_rolled_decoder_reads_its_own_medians(small_panel: Panel):
    forecaster = fit("gru", small_panel, decoder="rolled", segment_length=2, hidden_size=8)
    decoder, context_BLC = forecaster.model.decoder, first_batch(forecaster, small_panel)[0]
    before = forecaster.infer_quantiles(context_BLC)[:, 2:]
    with torch.no_grad():
        # Of each row 5 outputs; other quantiles than the median do not move what comes after.
        decoder.linear.weight[[0, 1, 3, 4]] += 1.0
    others_moved = forecaster.model(context_BLC[..., :1])[:, 2:, 2]
    with torch.no_grad():
        decoder.linear.weight[[0, 1, 3, 4]] -= 1.0
    as_before = forecaster.model(context_BLC[..., :1])[:, 2:, 2]
    torch.testing.assert_close(others_moved, as_before, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        decoder.linear.weight[2] += 1.0

    assert not torch.allclose(forecaster.infer_quantiles(context_BLC)[:, 2:], before, atol=1e-3)


# The loss


def test_the_pinball_loss_is_what_a_slow_loop_says():
    generator = torch.Generator().manual_seed(0)
    forecast, target = torch.randn(3, 2, 2, 5, generator=generator), torch.randn(3, 2, 2, generator=generator)

    loss = pinball(forecast, target, torch.tensor(LEVELS))

    for place in np.ndindex(3, 2, 2):
        for number, level in enumerate(LEVELS):
            error = float(target[place] - forecast[(*place, number)])
            expected = level * error if error >= 0 else (level - 1) * error
            assert loss[(*place, number)].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_scale", ["none", "spread"])
@pytest.mark.parametrize("mode", MODES)
def test_the_median_alone_is_trained_on_half_the_absolute_error(mode: str, loss_scale: str, small_panel: Panel):
    recipe = {"channel_mode": mode, "loss_scale": loss_scale}
    medians = fit("gru", small_panel, recipe=recipe | {"quantiles": [0.5]}, hidden_size=8)
    points = fit("gru", small_panel, recipe=recipe | {"quantiles": [], "loss": "mae"}, hidden_size=8)

    for half, whole in zip(medians.training_log.curve, points.training_log.curve, strict=True):
        assert 2 * half["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-3)
    assert medians.predict(small_panel).columns.tolist() == ["item", "timestamp", "channel", "forecast", "q0.5"]


def test_quantiles_take_the_place_of_the_loss(small_panel: Panel):
    one, other = (fit("linear", small_panel, recipe={"loss": loss}) for loss in ("mse", "mae"))

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Calibration


def test_a_shift_is_the_residual_of_the_rank_that_conformal_prediction_asks_for():
    residual_NHCQ = torch.randn(199, 2, 3, 3, generator=torch.Generator().manual_seed(0))

    found = shifts(residual_NHCQ, torch.tensor([0.1, 0.5, 0.9]))

    assert found.shape == (2, 3, 3)
    assert (found[..., 1] == 0).all()
    for step, channel in np.ndindex(2, 3):
        # Of 199 residuals above the 0.9 quantile the one of rank 0.9 * 200 = 180; below, counted from the other end.
        assert found[step, channel, 2] == sorted(residual_NHCQ[:, step, channel, 2].tolist())[179]
        assert found[step, channel, 0] == sorted(residual_NHCQ[:, step, channel, 0].tolist())[::-1][179]


@pytest.mark.parametrize(
    ("windows", "channels", "steps", "shape"),
    [(FEWEST, 3, 2, (2, 3, 5)), (FEWEST // 2, 3, 2, (2, 1, 5)), (FEWEST // 4, 3, 2, (1, 1, 5)), (1, 1, 1, (1, 1, 5))],
)
def test_residuals_are_pooled_where_windows_are_few(windows: int, channels: int, steps: int, shape: tuple[int, ...]):
    found = shifts(torch.randn(windows, steps, channels, 1), torch.tensor(LEVELS))

    assert found.shape == shape


def test_what_was_moved_across_the_median_is_put_back_outwards():
    moved = torch.tensor([0.2, 0.4, 0.3, 0.1, 0.9])

    assert outward(moved).tolist() == pytest.approx([0.2, 0.3, 0.3, 0.3, 0.9])


NOISE = 0.5


@pytest.fixture(scope="module")
def noisy_panel() -> Panel:
    """A known daily wave with normal noise of a known size, 3,000 rows."""
    stamps = np.datetime64("2024-01-01T00", "ns") + np.arange(3000) * np.timedelta64(1, "h")
    wave_T1 = np.sin(2 * np.pi * np.arange(3000) / 24)[:, None]
    noise_TC = NOISE * np.random.default_rng(0).normal(size=(3000, 2))
    values = (wave_T1 + noise_TC).astype(np.float32)
    return Panel("noisy", values, stamps, ("a", "b"), "h", 24, SplitByCounts(train=1600, validation=700, test=700))


@pytest.mark.parametrize("model", ["linear", "seasonal_naive"])
def test_calibration_is_what_a_hand_computation_gives(model: str, noisy_panel: Panel):
    forecaster = fit(model, noisy_panel, recipe={"calibration": "conformal"})
    plain = fit(model, noisy_panel, recipe={"quantiles": LEVELS if model == "linear" else []})
    context_BLC, target_BHC = first_batch(forecaster, noisy_panel, "validation")
    highest_BHC = plain.infer_quantiles(context_BLC)[..., -1]

    num_windows = len(context_BLC)
    assert num_windows == 700 - 6 + 1
    for step, channel in np.ndindex(6, 2):
        scores = []
        for window in range(num_windows):
            spread = np.sqrt(context_BLC[window, :, channel].numpy().var() + 1e-5)
            scores.append(float(target_BHC[window, step, channel] - highest_BHC[window, step, channel]) / spread)
        expected = sorted(scores)[math.ceil(0.9 * (num_windows + 1)) - 1]
        assert forecaster.shifts_HCQ[step, channel, 4].item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("model", ["linear", "gru", "ridge", "seasonal_naive", "naive", "naive2"])
def test_intervals_hold_their_share_of_targets_with_known_noise(model: str, noisy_panel: Panel):
    forecaster = Forecaster(
        model, context_length=48, horizon=6, recipe={"quantiles": LEVELS, "calibration": "conformal", "max_steps": 200}
    ).fit(noisy_panel.train, noisy_panel.validation, device="cpu")

    totals = evaluate(forecaster, scaled_windows(forecaster, noisy_panel), forecaster.scaler).quantiles

    np.testing.assert_allclose(totals.inside_HP.sum(0) / totals.count_H.mean() / 6, [0.8, 0.4], atol=0.03)
    np.testing.assert_allclose(totals.below_HQ.sum(0) / totals.count_H.mean() / 6, LEVELS, atol=0.03)


def test_learned_quantiles_are_those_of_the_noise(noisy_panel: Panel):
    forecaster = Forecaster(
        "linear", context_length=48, horizon=6, recipe={"quantiles": LEVELS, "max_steps": 600, "learning_rate": 0.01}
    ).fit(noisy_panel.train, noisy_panel.validation, device="cpu")
    context_BLC, _ = first_batch(forecaster, noisy_panel)

    quantiles = forecaster.infer_quantiles(context_BLC).numpy() * forecaster.scaler.std[:, None]
    width = float((quantiles[..., -1] - quantiles[..., 0]).mean())

    assert width == pytest.approx(2 * 1.2816 * NOISE, rel=0.1)


@pytest.mark.parametrize("model", ["linear", "ridge", "seasonal_naive", "naive2"])
def test_test_rows_reach_no_calibration_and_validation_rows_do(model: str, small_panel: Panel):
    first_test = int(small_panel.bounds["test"][0, 0])
    values = small_panel.values.copy()
    values[first_test:] = np.nan
    blinded = replace(small_panel, values=values)
    louder = replace(small_panel, values=small_panel.values.copy())
    louder.values[first_test - 20 : first_test] *= 3

    seeing, blind, other = (
        fit(model, panel, recipe={"calibration": "conformal"}) for panel in (small_panel, blinded, louder)
    )

    assert torch.equal(seeing.shifts_HCQ, blind.shifts_HCQ)
    assert not torch.equal(seeing.shifts_HCQ, other.shifts_HCQ)


def test_logarithms_are_calibrated_as_logarithms(small_panel: Panel):
    positive = replace(small_panel, values=np.exp(small_panel.values))
    forecaster = Forecaster("linear", context_length=24, horizon=6, recipe=RECIPE | {"calibration": "conformal"})
    forecaster.recipe = forecaster.recipe.model_copy(update={"log": True})
    forecaster.fit(positive.train, positive.validation, device="cpu")

    quantiles = forecaster.infer_quantiles(first_batch(forecaster, positive)[0])

    assert (quantiles > 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


# Around it


@pytest.mark.parametrize("model", ["linear", "ridge", "seasonal_naive"])
def test_what_was_saved_forecasts_the_same_quantiles(model: str, small_panel: Panel, tmp_path: Path):
    forecaster = fit(model, small_panel, recipe={"calibration": "conformal"})
    forecaster.save(tmp_path / "kept.pt")

    again = Forecaster.load(tmp_path / "kept.pt")

    context_BLC, _ = first_batch(forecaster, small_panel)
    assert torch.equal(again.infer_quantiles(context_BLC), forecaster.infer_quantiles(context_BLC))


def test_a_prediction_has_a_column_for_each_quantile_in_original_units(small_panel: Panel):
    forecaster = fit("seasonal_naive", small_panel)

    frame = forecaster.predict(small_panel)

    context = small_panel.values[-24:]
    spread_C = np.sqrt(forecaster.scaler.apply(context).var(axis=0) + 1e-5) * forecaster.scaler.std
    shift = forecaster.shifts_HCQ.expand(6, 2, 5)[..., 4].numpy().clip(min=0)
    expected_HC = context[:6] + shift * spread_C
    assert frame.columns.tolist()[3:] == ["forecast", "q0.1", "q0.3", "q0.5", "q0.7", "q0.9"]
    np.testing.assert_allclose(frame["q0.9"].to_numpy().reshape(2, 6).T, expected_HC, rtol=1e-4, atol=1e-4)


def test_quantiles_of_the_validation_part_need_it():
    forecaster = Forecaster("naive", context_length=4, horizon=2, recipe={"quantiles": [0.1, 0.5, 0.9]}).build(0)

    with pytest.raises(ConfigError, match=r"quantiles come from the validation part; call fit\(train, validation\)"):
        forecaster.infer_quantiles(torch.randn(3, 4, 1))


@pytest.mark.parametrize(
    "levels",
    [[0.5, 0.1, 0.9], [0.1, 0.9], [0.1, 0.5], [0.0, 0.5, 1.0], [0.1, 0.5, 0.5, 0.9], [0.2, 0.5, 0.9], [0.9]],
    ids=str,
)
def test_levels_that_are_no_levels_are_refused(levels: list[float]):
    with pytest.raises(ConfigError, match=r"quantiles.*such as \[0.1, 0.5, 0.9\]"):
        Forecaster("linear", context_length=4, horizon=2, recipe={"quantiles": levels})


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_recorded_and_layers_traced_with_quantiles(mode: str, small_panel: Panel):
    forecaster = fit("gru", small_panel, recipe={"channel_mode": mode, "gradient_norms": True}, hidden_size=8)
    context_BLC, target_BHC = first_batch(forecaster, small_panel)

    layers = forecaster.trace(context_BLC, target_BHC)

    assert all(np.isfinite(look["by_row"]).all() for look in forecaster.training_log.gradients)
    assert layers["decoder.linear"].gradient.abs().sum() > 0


@pytest.mark.parametrize("mode", MODES)
def test_the_median_is_what_is_explained(mode: str, small_panel: Panel, train: Callable[..., Forecaster]):
    pytest.importorskip("captum", reason="captum is the extra 'explain'")
    forecaster = train("linear", recipe=RECIPE | {"channel_mode": mode})
    context_BLC = first_batch(forecaster, small_panel)[0][:4]
    before = explain(forecaster, context_BLC).importance["integrated_gradients"]
    outputs = forecaster.shape.channels_out
    with torch.no_grad():
        weight = forecaster.model.head.linear.weight.unflatten(0, (-1, outputs // 5, 5))
        weight[:, :, [0, 1, 3, 4]] += torch.randn_like(weight[:, :, [0, 1, 3, 4]])

    np.testing.assert_allclose(explain(forecaster, context_BLC).importance["integrated_gradients"], before, rtol=1e-5)
