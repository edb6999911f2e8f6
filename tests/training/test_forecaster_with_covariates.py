"""A forecaster with covariates: fitted, saved, asked for the future, looked into, trained in a Trainer of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tsbench.data.covariates import Roles
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.windows import CovariateRows, Windows
from tsbench.errors import ConfigError, DataError
from tsbench.evaluation.accuracy import evaluate
from tsbench.evaluation.explain import explain
from tsbench.evaluation.inspection import inspect_model
from tsbench.evaluation.throughput import flops_per_window
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

RECIPE = {"max_steps": 12, "validate_every": 3, "batch_size": 8, "learning_rate": 0.02}
LEARNED = [name for name, spec in model_specs().items() if spec.learned]
ROLES = {"past": ["wind"], "known": ["price"], "static": ["size"]}


def fitted(panel: Panel, model: str = "mlp", steps: int = 12, **recipe: Any) -> Forecaster:
    forecaster = Forecaster(model, context_length=24, horizon=6, recipe={**RECIPE, "max_steps": steps, **recipe})
    return forecaster.fit(panel.train, panel.validation)


def future_of(panel: Panel, price: float = 0.5) -> pd.DataFrame:
    stamps = pd.date_range(panel.timestamps[panel.offsets[1] - 1], periods=7, freq="h")[1:]
    return pd.DataFrame(
        [(item, stamp, price) for item in panel.items for stamp in stamps], columns=["item", "timestamp", "price"]
    )


def scaled_error(panel: Panel, forecaster: Forecaster) -> float:
    """Mean squared error on the scaled test values."""
    values_TC = torch.from_numpy(forecaster.scaler.apply_to(panel))
    covariates = CovariateRows.of(panel, forecaster.covariate_scaler, torch.device("cpu"))
    windows = Windows.of(panel.test, values_TC, 24, 6, covariates)
    return float(evaluate(forecaster, windows, forecaster.scaler).squared_HC.mean() / len(windows))


@pytest.mark.parametrize("model", LEARNED)
def test_what_is_known_ahead_lowers_the_error_of_every_learned_family(model: str, covariate_panel: Panel):
    def error(covariates: str) -> float:
        forecaster = fitted(covariate_panel, model, 150, validate_every=50, covariates=covariates)
        return scaled_error(covariate_panel, forecaster)

    assert error("all") < 0.6 * error("none")


def test_a_recipe_without_covariates_is_the_forecaster_of_the_targets_alone(covariate_panel: Panel):
    without = fitted(covariate_panel, covariates="none")
    bare = fitted(replace(covariate_panel, covariates=None))

    assert without.covariates == Roles()
    assert all(torch.equal(a, b) for a, b in zip(without.parameters(), bare.parameters(), strict=True))


@pytest.mark.parametrize("model", ["naive", "seasonal_naive", "profile"])
def test_models_without_weights_ignore_covariates(model: str, covariate_panel: Panel):
    forecast = fitted(covariate_panel, model).predict(covariate_panel)

    pd.testing.assert_frame_equal(
        forecast, fitted(replace(covariate_panel, covariates=None), model).predict(covariate_panel)
    )


def test_the_level_of_a_covariate_is_its_context_s(covariate_panel: Panel):
    """With instance normalisation, loads that are all 100 higher say the same of prices."""
    forecaster = fitted(covariate_panel)
    context, given = torch.randn(4, 24, 2), torch.randn(4, 30, 7)
    moved = given.clone()
    moved[:, :, :2] = 3 * moved[:, :, :2] + 100

    torch.testing.assert_close(forecaster.infer(context, moved), forecaster.infer(context, given), rtol=1e-3, atol=1e-3)


def test_a_flag_that_was_never_up_in_the_context_stays_within_bounds(covariate_panel: Panel):
    forecaster = fitted(covariate_panel)
    context, given = torch.randn(4, 24, 2), torch.randn(4, 30, 7)
    given[:, :, 1] = 0
    given[:, 26, 1] = 1

    _, ahead = forecaster.model_input(context, given)

    assert ahead[:, :, 0].max() == 5


# Asked for the future


def test_a_forecast_is_moved_by_the_future_that_is_given(covariate_panel: Panel):
    forecaster = fitted(covariate_panel, steps=100)

    low, high = (forecaster.predict(covariate_panel, future_of(covariate_panel, price)) for price in (-1.0, 1.0))

    assert list(low.columns) == ["item", "timestamp", "channel", "forecast"]
    assert (high["forecast"] > low["forecast"]).all()


def test_the_forecast_of_predict_is_that_of_the_windows(covariate_panel: Panel):
    forecaster = fitted(covariate_panel)
    rows = np.r_[0:294, 300:594]  # without the last six of each item
    cut_off = replace(
        covariate_panel,
        values=covariate_panel.values[rows],
        timestamps=covariate_panel.timestamps[rows],
        offsets=np.array([0, 294, 588]),
        covariates=replace(covariate_panel.covariates, rows=covariate_panel.covariates.rows[rows]),
    )
    future = pd.DataFrame({"item": np.repeat(["north", "south"], 300), "timestamp": covariate_panel.timestamps})
    future["price"] = covariate_panel.covariates.rows[:, 1]

    frame = forecaster.predict(cut_off, future)

    scaler = forecaster.scaler.for_items_of(cut_off)
    values_TC = torch.from_numpy(scaler.apply_to(covariate_panel))
    covariates = CovariateRows.of(covariate_panel, forecaster.covariate_scaler, torch.device("cpu"))
    context, _, given = Windows(values_TC, torch.tensor([270, 570]), 24, 6, covariates).batch(torch.tensor([0, 1]))
    expected = scaler.invert(forecaster.infer(context, given).numpy(), np.array([[0], [1]]))
    np.testing.assert_allclose(frame["forecast"].to_numpy().reshape(2, 2, 6), expected.transpose(0, 2, 1), rtol=1e-4)


def test_a_missing_future_says_what_to_give(covariate_panel: Panel):
    with pytest.raises(
        DataError, match="needs 'price' of the rows ahead; give a frame with the columns item, timestamp"
    ):
        fitted(covariate_panel).predict(covariate_panel)


def test_a_panel_with_other_roles_is_refused(covariate_panel: Panel):
    with pytest.raises(DataError, match=r"covariates none; the forecaster was fitted with .*'wind'"):
        fitted(covariate_panel).predict(replace(covariate_panel, covariates=None), future_of(covariate_panel))


def test_covariates_and_their_scale_are_saved(covariate_panel: Panel, tmp_path: Path):
    forecaster = fitted(covariate_panel)
    forecaster.save(tmp_path / "mlp.pt")
    again = Forecaster.load(tmp_path / "mlp.pt")

    assert again.covariates == covariate_panel.roles
    future = future_of(covariate_panel)
    pd.testing.assert_frame_equal(again.predict(covariate_panel, future), forecaster.predict(covariate_panel, future))


# In a Trainer of one's own, and looked into


def batches(count: int = 3, columns: int = 3) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = (8, 24, 2), (8, 6, 2), (8, 30, columns)
    parts = [torch.randn(count * shape[0], *shape[1:], generator=generator) for shape in shapes]
    return DataLoader(TensorDataset(*parts), batch_size=8)


def own_training(forecaster: Forecaster, loader: DataLoader[Any]) -> None:
    pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    ).fit(forecaster, loader)


def test_a_trainer_of_one_s_own_takes_covariates_as_a_third_part():
    forecaster = Forecaster("gru", context_length=24, horizon=6, covariates=ROLES)

    own_training(forecaster, batches())

    assert forecaster.model.ahead.head.weight.abs().sum() > 0
    with pytest.raises(ConfigError, match=r"it was told of 3 \(wind, price, size\) for each of 30 rows"):
        forecaster(torch.randn(4, 24, 2))


def test_covariates_that_a_forecaster_was_not_told_of_are_refused():
    with pytest.raises(ConfigError, match="covariates of this shape: 8 x 30 x 3; it was told of 0"):
        own_training(Forecaster("gru", context_length=24, horizon=6), batches())


def built(model: str, **recipe: Any) -> Forecaster:
    settings = {"context_length": 24, "horizon": 6, "channels": 2, "covariates": ROLES, "recipe": recipe}
    return Forecaster(model, **settings).build(seed=0)


@pytest.mark.parametrize("mode", ["independent", "mixing"])
@pytest.mark.parametrize("model", LEARNED)
def test_every_family_can_be_inspected_traced_and_counted(model: str, mode: str):
    forecaster = built(model, channel_mode=mode)

    facts = inspect_model(forecaster, channels=2)

    assert facts.num_parameters == sum(weight.numel() for weight in forecaster.parameters())
    assert facts.flops_per_window == flops_per_window(forecaster, 2) >= 0
    assert "ahead" in {layer.name for layer in facts.layers}


def test_what_is_known_ahead_is_in_the_trace():
    layers = built("mlp").trace(torch.randn(4, 24, 2), covariates_BMK=torch.randn(4, 30, 3))

    assert layers["ahead"].inputs.shape == (8, 6, 1)  # each channel a window of its own
    assert list(layers)[-3:] == ["ahead.body.0", "ahead.body.1", "ahead.head"]


def test_gradients_by_row_are_recorded_with_covariates(covariate_panel: Panel):
    forecaster = fitted(covariate_panel, gradient_norms=True)

    look = forecaster.training_log.gradients[0]
    assert len(look["by_row"]) == 24
    assert "ahead.head" in look["by_layer"]


def covariate_shares(forecaster: Forecaster, given: Tensor) -> Any:
    pytest.importorskip("captum", reason="captum comes with the extra explain")
    return explain(forecaster, torch.randn(3, 24, 2, generator=torch.Generator().manual_seed(0)), given)


@pytest.mark.parametrize("mode", ["independent", "mixing"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer"])
def test_forecasts_with_covariates_are_explained_by_row(model: str, mode: str):
    found = covariate_shares(built(model, channel_mode=mode).eval(), torch.randn(3, 30, 3))

    for shares_SL in found.importance.values():
        assert shares_SL.shape == (6, 24)
        np.testing.assert_allclose(shares_SL.sum(axis=1), 1)


def test_the_closed_form_map_is_explained_with_what_is_known_ahead(covariate_panel: Panel):
    forecaster = fitted(covariate_panel, "ridge")

    assert np.isfinite(covariate_shares(forecaster, torch.randn(3, 30, 7)).importance["occlusion"]).all()


def test_half_precision_takes_covariates(covariate_panel: Panel):
    fitted(covariate_panel, "gru", precision="bf16")
    forecaster = fitted(covariate_panel, "gru", precision="64")

    assert forecaster.infer(torch.randn(2, 24, 2), torch.randn(2, 30, 7)).dtype == torch.float64


def test_the_scale_is_that_of_the_training_rows(covariate_panel: Panel):
    scaler = fitted(covariate_panel).covariate_scaler

    assert np.array_equal(scaler.mean, Scaler.fit_covariates(covariate_panel.train).mean)
    assert scaler.mean[0] == pytest.approx(covariate_panel.covariates.rows[covariate_panel.train.rows, 0].mean())
