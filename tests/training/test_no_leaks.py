"""The future cannot change the past: nothing that is fitted or forecast depends on rows it must not see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import CovariateRows, Windows
from tsbench.evaluation.accuracy import evaluate
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

LEARNED = [name for name in model_specs() if name not in ("naive", "seasonal_naive", "profile", "naive2")]
RECIPE = {"max_steps": 12, "validate_every": 3, "batch_size": 8, "learning_rate": 0.02}


def with_rows(panel: Panel, rows: slice, value: float) -> Panel:
    """The panel with other values in some rows."""
    values = panel.values.copy()
    values[rows] = value
    return replace(panel, values=values)


def fit(model: str, panel: Panel) -> Forecaster:
    return Forecaster(model, context_length=24, horizon=6, recipe=RECIPE).fit(panel.train, panel.validation)


def first_row(panel: Panel, part: str) -> int:
    return int(panel.bounds[part][0, 0])


@pytest.mark.parametrize("model", LEARNED)
def test_test_rows_reach_neither_scaler_nor_weights_nor_the_chosen_step(model: str, small_panel: Panel):
    blinded = with_rows(small_panel, slice(first_row(small_panel, "test"), None), np.nan)

    seeing, blind = fit(model, small_panel), fit(model, blinded)

    assert np.array_equal(seeing.scaler.mean, blind.scaler.mean)
    assert np.array_equal(seeing.scaler.std, blind.scaler.std)
    assert all(torch.equal(a, b) for a, b in zip(seeing.parameters(), blind.parameters(), strict=True))
    assert seeing.training_log.best_step == blind.training_log.best_step
    losses = [[(look["train_loss"], look["val_loss"]) for look in made.training_log.curve] for made in (seeing, blind)]
    assert losses[0] == losses[1]


def test_validation_rows_do_not_reach_the_scaler(small_panel: Panel):
    rows = slice(first_row(small_panel, "validation"), first_row(small_panel, "test"))

    scaler = Scaler.fit(with_rows(small_panel, rows, 1e6).train)

    assert np.array_equal(scaler.mean, Scaler.fit(small_panel.train).mean)
    assert np.array_equal(scaler.std, Scaler.fit(small_panel.train).std)


def forecasts(forecaster: Forecaster, panel: Panel) -> Tensor:
    """Of all windows of the test part, `[N, H, C]`."""
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    windows = Windows.of(panel.test, values_TC, 24, 6)
    return torch.cat([forecaster.infer(context_BLC) for context_BLC, _ in windows.in_order(32)])


@pytest.mark.parametrize("model", model_specs())
def test_rows_after_the_cutoff_do_not_change_a_forecast_by_one_bit(model: str, small_panel: Panel):
    forecaster, cutoff = fit(model, small_panel), first_row(small_panel, "test") + 10
    changed = with_rows(small_panel, slice(cutoff, None), 1e6)

    before, after = forecasts(forecaster, small_panel), forecasts(forecaster, changed)

    # The target of window n starts n rows after the first test row: the first eleven contexts end before the cutoff.
    assert torch.equal(before[:11], after[:11])
    assert not torch.equal(before[40], after[40])


def test_a_forecast_needs_no_later_rows_at_all(small_panel: Panel):
    forecaster, cutoff = fit("gru", small_panel), first_row(small_panel, "test")
    cut_off = replace(
        small_panel, values=small_panel.values[:cutoff].copy(), timestamps=small_panel.timestamps[:cutoff], offsets=None
    )

    frame = forecaster.predict(cut_off)

    with_later_rows = forecaster.scaler.invert(forecasts(forecaster, small_panel)[0].numpy())
    np.testing.assert_allclose(frame["forecast"].to_numpy().reshape(2, 6).T, with_later_rows, rtol=1e-5)


def with_covariate(panel: Panel, column: str, rows: slice, value: float) -> Panel:
    """The panel with other values of a covariate in some rows."""
    covariates = panel.covariates
    changed = covariates.rows.copy()
    changed[rows, panel.roles.columns.index(column)] = value
    return replace(panel, covariates=replace(covariates, rows=changed))


def forecasts_with_covariates(forecaster: Forecaster, panel: Panel) -> Tensor:
    """Of all windows of the test part, item by item, `[N, H, C]`; scaled as the forecaster was fitted."""
    values_TC = torch.from_numpy(forecaster.scaler.apply_to(panel))
    covariates = CovariateRows.of(panel, forecaster.covariate_scaler, values_TC.device)
    windows = Windows.of(panel.test, values_TC, 24, 6, covariates)
    return torch.cat([forecaster.infer(context, given) for context, _, given in windows.in_order(32)])


RECIPES = [{**RECIPE, "channel_mode": mode} for mode in ("independent", "mixing")]


@pytest.mark.parametrize("recipe", RECIPES, ids=["independent", "mixing"])
@pytest.mark.parametrize("model", LEARNED)
def test_a_past_covariate_never_reaches_the_horizon_and_a_known_one_does(
    model: str, recipe: dict[str, Any], covariate_panel: Panel
):
    forecaster = Forecaster(model, context_length=24, horizon=6, recipe=recipe)
    forecaster.fit(covariate_panel.train, covariate_panel.validation)
    origin = first_row(covariate_panel, "test")  # of the first window's forecast

    def first_forecast(column: str, rows: slice) -> Tensor:
        return forecasts_with_covariates(forecaster, with_covariate(covariate_panel, column, rows, 2.5))[0]

    before = forecasts_with_covariates(forecaster, covariate_panel)[0]
    assert torch.equal(first_forecast("wind", slice(origin, None)), before)
    assert torch.equal(first_forecast("wind", slice(origin, origin + 6)), before)
    assert not torch.equal(first_forecast("wind", slice(origin - 1, origin)), before)
    assert torch.equal(first_forecast("price", slice(origin + 6, None)), before)
    for step in range(6):
        assert not torch.equal(first_forecast("price", slice(origin + step, origin + step + 1)), before)
    assert not torch.equal(first_forecast("price", slice(origin - 1, origin)), before)


@pytest.mark.parametrize("model", LEARNED)
def test_covariates_of_test_rows_reach_neither_scaler_nor_weights(model: str, covariate_panel: Panel):
    blinded = covariate_panel
    for column in covariate_panel.roles.columns:
        for low, high in covariate_panel.bounds["test"]:
            blinded = with_covariate(blinded, column, slice(low, high), np.nan)

    seeing, blind = fit(model, covariate_panel), fit(model, blinded)

    assert np.array_equal(seeing.covariate_scaler.mean, blind.covariate_scaler.mean)
    assert np.array_equal(seeing.covariate_scaler.std, blind.covariate_scaler.std)
    assert all(torch.equal(a, b) for a, b in zip(seeing.parameters(), blind.parameters(), strict=True))


def test_covariates_of_validation_rows_do_not_reach_the_scaler(covariate_panel: Panel):
    changed = covariate_panel
    for low, high in covariate_panel.bounds["validation"]:
        changed = with_covariate(changed, "price", slice(low, high), 1e6)

    assert np.array_equal(Scaler.fit_covariates(changed.train).mean, Scaler.fit_covariates(covariate_panel.train).mean)


def error(model: str, panel: Panel, **arguments: int) -> float:
    """Mean squared error on the scaled test values, whose variance is about one."""
    forecaster = Forecaster(model, context_length=48, horizon=6, recipe={"max_steps": 200}, **arguments)
    forecaster.fit(panel.train, panel.validation)
    windows = Windows.of(panel.test, torch.from_numpy(forecaster.scaler.apply_to(panel)), 48, 6)
    return float(evaluate(forecaster, windows, forecaster.scaler).squared_HC.mean() / len(windows))


@pytest.mark.parametrize(("model", "arguments"), [("linear", {}), ("mlp", {}), ("gru", {"hidden_size": 32})])
def test_no_skill_is_left_where_the_rows_were_shuffled(model: str, arguments: dict[str, int]):
    panel = synthetic_panel(num_rows=1500, num_channels=2, seed=1)
    shuffled = replace(panel, values=np.random.default_rng(0).permutation(panel.values))

    assert error(model, panel, **arguments) < 0.35
    assert error(model, shuffled, **arguments) > 0.95


def test_no_skill_is_left_where_the_targets_were_shuffled():
    panel = synthetic_panel(num_rows=1500, num_channels=2, seed=1)
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    forecaster = Forecaster("mlp", context_length=48, horizon=6, recipe={"max_steps": 200, "instance_norm": "none"})
    train, validation, test = (
        Windows.of(part, values_TC, 48, 6) for part in (panel.train, panel.validation, panel.test)
    )

    forecaster.fit_windows(ShuffledTargets(train), ShuffledTargets(validation), seed=0)

    assert evaluate(forecaster, test, Scaler.fit(panel.train)).squared_HC.mean() / len(test) > 0.95


class ShuffledTargets(Windows):
    """Windows whose targets belong to other contexts."""

    def __init__(self, windows: Windows) -> None:
        self.__dict__.update(windows.__dict__)

    def batches(self, picks_KB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """One by one: how many steps a chunk has is a matter of time, and the others must not depend on it."""
        return map(self.batch, picks_KB)

    def _gather(self, starts_B: Tensor) -> tuple[Tensor, Tensor]:
        others = self.starts_N[torch.randint(len(self.starts_N), (len(starts_B),))]
        return super()._gather(starts_B)[0], super()._gather(others)[1]
