"""Beside holes: what is missing teaches nothing, and a panel without holes pays and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.data.scaling import Scaler
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import Windows
from tsbench.errors import DataError
from tsbench.evaluation.accuracy import evaluate
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster
from tsbench.training.packed import fit_together
from tsbench.training.quantiles import shifts

RECIPE = {"max_steps": 6, "validate_every": 3, "batch_size": 8, "learning_rate": 0.02}
LEVELS = [0.1, 0.5, 0.9]
LOSSES: dict[str, tuple[dict[str, Any], Callable[[float, float, float], float]]] = {
    "mse": ({"loss": "mse"}, lambda error, level, size: error**2),
    "mae": ({"loss": "mae"}, lambda error, level, size: abs(error)),
    "huber": ({"loss": "huber"}, lambda error, level, size: error**2 / 2 if abs(error) < 1 else abs(error) - 0.5),
    "pinball": ({"quantiles": LEVELS}, lambda error, level, size: max(level * error, (level - 1) * error)),
    "spread": ({"loss_scale": "spread"}, lambda error, level, size: (error / size) ** 2),
}
"""A recipe, and what a target less a quantile of this level costs in a context of this spread."""


def windows_of(panel: Panel, part: str) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply_to(panel))
    return Windows.of(getattr(panel, part), values_TC, 24, 6)


def fit(panel: Panel, model: str = "linear", **recipe: Any) -> Forecaster:
    forecaster = Forecaster(model, context_length=24, horizon=6, recipe=RECIPE | recipe)
    return forecaster.fit(panel.train, panel.validation, device="cpu")


@pytest.mark.parametrize("quantiles", [[], LEVELS], ids=["points", "quantiles"])
@pytest.mark.parametrize("model", model_specs())
def test_every_model_learns_and_is_scored_beside_holes(model: str, quantiles: list[float], holed_panel: Panel):
    forecaster = fit(holed_panel, model, quantiles=quantiles, calibration="conformal" if quantiles else "none")

    totals = evaluate(forecaster, windows_of(holed_panel, "test"), forecaster.scaler)

    assert np.isfinite(totals.squared_HC).all()
    assert totals.squared_HC.all()
    assert all(np.isfinite(point["val_loss"]) for point in forecaster.training_log.curve)
    frame = forecaster.predict(holed_panel)
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)


@settings(max_examples=8, deadline=None)
@given(
    numbers=st.lists(st.integers(-(10**6), 10**6), min_size=5, max_size=5), model=st.sampled_from(["linear", "ridge"])
)
def test_whatever_stands_behind_the_mask_changes_no_bit(numbers: list[int], model: str):
    base, rows, results = synthetic_panel(num_rows=300, num_channels=1, seed=3), [60, 100, 150, 240, 270], []
    for behind in (numbers, [-9999] * 5):
        values = base.values[:, 0].astype(np.float64)
        values[rows] = np.array(behind) + 10**7  # no measured value is there
        frame = pd.DataFrame({"date": base.timestamps, "a": values})
        panel = read_panel(frame, missing="mask", sentinels=sorted(set(values[rows])))
        forecaster = fit(panel, model, quantiles=LEVELS, calibration="conformal")
        totals = evaluate(forecaster, windows_of(panel, "test"), forecaster.scaler)
        weights = [weight.numpy().tobytes() for weight in forecaster.state_dict().values()]
        sums = totals.squared_HC, totals.squared_N, totals.by_item.size_IC, totals.quantiles.inside_HP
        results.append([forecaster.scaler.mean.tobytes(), *weights, *(each.tobytes() for each in sums)])

    assert results[0] == results[1]


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_the_mean_over_the_values_that_are_there(name: str, holed_panel: Panel):
    recipe, cost = LOSSES[name]
    forecaster = fit(holed_panel, **recipe)
    context_BLC, target_BHC = next(windows_of(holed_panel, "train").in_order(300))
    quantiles_BHCQ, levels = forecaster.infer_quantiles(context_BLC), forecaster.levels or [0.5]

    loss = float(forecaster.loss((context_BLC, target_BHC)))

    size_BC = (context_BLC.var(1, correction=0) + 1e-5).sqrt()
    costs = [
        cost(float(target_BHC[b, h, c] - quantiles_BHCQ[b, h, c, q]), level, float(size_BC[b, c]))
        for b, h, c in (~target_BHC.isnan()).nonzero().tolist()
        for q, level in enumerate(levels)
    ]
    assert loss == pytest.approx(np.mean(costs), rel=1e-4)
    sums = forecaster.loss((context_BLC, target_BHC), reduction="sum")
    assert float(sums) / (~target_BHC.isnan()).sum() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_missing_value_has_no_gradient_and_a_batch_of_them_no_loss(name: str, holed_panel: Panel):
    forecaster = fit(holed_panel, **LOSSES[name][0])
    context_BLC, target_BHC = next(windows_of(holed_panel, "train").in_order(8))

    loss = forecaster.loss((context_BLC, torch.full_like(target_BHC, torch.nan)))
    loss.backward()

    assert float(loss) == 0
    assert not any(weight.grad.any() for weight in forecaster.parameters() if weight.grad is not None)


def test_the_validation_loss_is_a_mean_over_points_whatever_the_batches(holed_panel: Panel):
    forecaster, validation = fit(holed_panel), windows_of(holed_panel, "validation")
    forecaster.on_validation_start()
    for batch in validation.in_order(7):
        forecaster.validation_step(batch, 0)

    assert forecaster.validation_loss() == pytest.approx(
        float(forecaster.loss(next(validation.in_order(1000)))), rel=1e-5
    )


def test_a_validation_part_that_teaches_nothing_says_so(holed_panel: Panel):
    values = holed_panel.values.copy()
    values[holed_panel.validation.bounds[0, 0] - 24 : holed_panel.validation.bounds[0, 1]] = np.nan
    values[holed_panel.validation.bounds[0, 0], 1] = 1.0  # a target after an empty context

    with pytest.raises(DataError, match="validation part: no value is there that follows a context with one"):
        fit(replace(holed_panel, values=values))
    with pytest.raises(DataError, match="validation part: no value is there that follows a context with one"):
        fit(replace(holed_panel, values=values), "naive", quantiles=LEVELS)


def test_a_closed_form_is_solved_on_the_windows_without_a_hole(holed_panel: Panel):
    """The equations of whole windows alone, of each channel, by numpy."""
    forecaster, windows = fit(holed_panel, "ridge", instance_norm="none"), windows_of(holed_panel, "train")
    context_BLC, target_BHC = next(windows.in_order(1000))
    inputs_NL, target_NH = context_BLC.mT.flatten(0, 1).double(), target_BHC.mT.flatten(0, 1).double()
    whole_N = ~target_NH.isnan().any(1)
    rows_ND = torch.cat([inputs_NL, torch.ones_like(inputs_NL[:, :1])], 1)[whole_N]

    solution_DH = np.linalg.lstsq(rows_ND.numpy(), target_NH[whole_N].numpy(), rcond=None)[0]

    assert 0 < whole_N.sum() < len(whole_N)
    np.testing.assert_allclose(forecaster.model.weight_DO, solution_DH[:-1], rtol=1e-3, atol=1e-4)


def test_a_closed_form_without_a_whole_window_says_so(holed_panel: Panel):
    values = holed_panel.values.copy()
    values[::6] = np.nan

    with pytest.raises(DataError, match="ridge: a value is missing in the target of every training window"):
        fit(replace(holed_panel, values=values), "ridge")


@pytest.mark.parametrize("recipe", [{}, {"quantiles": LEVELS, "calibration": "conformal"}], ids=["points", "quantiles"])
@pytest.mark.parametrize("model", ["linear", "gru"])
def test_seeds_that_train_together_give_what_each_gives_alone(model: str, recipe: dict[str, Any], holed_panel: Panel):
    train, validation = (windows_of(holed_panel, part) for part in ("train", "validation"))
    recipe = RECIPE | recipe | {"precision": "64"}
    pack = [Forecaster(model, context_length=24, horizon=6, recipe=recipe) for _ in range(2)]

    errors = fit_together(pack, train, validation, seeds=[0, 1])

    assert errors == [None, None]
    for seed, packed in enumerate(pack):
        alone = Forecaster(model, context_length=24, horizon=6, recipe=recipe)
        alone.fit_windows(train, validation, seed=seed)
        for name, weight in alone.state_dict().items():
            torch.testing.assert_close(packed.state_dict()[name], weight, rtol=1e-4, atol=1e-5)
        assert packed.training_log.curve[-1]["val_loss"] == pytest.approx(
            alone.training_log.curve[-1]["val_loss"], rel=1e-4
        )


@given(data=st.data(), count=st.integers(100, 130))
def test_the_residuals_that_are_there_say_where_a_quantile_lies(data: st.DataObject, count: int):
    seed = data.draw(st.integers(0, 2**16))
    rng, levels = np.random.default_rng(seed), torch.tensor(LEVELS, dtype=torch.float64)
    residual_NHC = rng.normal(size=(count + 40, 2, 3))
    for step in range(2):
        for channel in range(3):  # as many as a level needs, in each step and channel others
            residual_NHC[rng.choice(count + 40, rng.integers(0, 41), replace=False), step, channel] = np.nan

    found_HCQ = shifts(torch.from_numpy(residual_NHC).unsqueeze(-1), levels)

    for step in range(2):
        for channel in range(3):
            there = residual_NHC[:, step, channel][~np.isnan(residual_NHC[:, step, channel])]
            alone = shifts(torch.from_numpy(there).view(-1, 1, 1, 1), levels)
            np.testing.assert_array_equal(found_HCQ[step, channel], alone[0, 0])


def test_rows_have_the_gradient_of_the_values_that_are_there(holed_panel: Panel):
    """A window whose second half is missing is as one with half the horizon."""
    forecaster = fit(holed_panel)
    context_BLC, target_BHC = (part[:4, :, :1] for part in next(windows_of(holed_panel, "validation").in_order(8)))
    target_BHC = target_BHC.nan_to_num()
    half = target_BHC.clone()
    half[:, 3:] = torch.nan

    norm_L = forecaster.row_gradients(context_BLC, half)

    forecaster.has_holes = False
    as_forecast = target_BHC.clone()
    as_forecast[:, 3:] = forecaster.infer(context_BLC)[:, 3:]  # no error, no gradient, but counted
    torch.testing.assert_close(norm_L, 2 * forecaster.row_gradients(context_BLC, as_forecast), rtol=1e-3, atol=1e-5)


def test_a_layer_trace_bears_holes(holed_panel: Panel):
    forecaster = fit(holed_panel)
    context_BLC, target_BHC = next(windows_of(holed_panel, "train").in_order(300))
    assert target_BHC.isnan().any()

    layers = forecaster.trace(context_BLC, target_BHC)

    assert all(layer.gradient is None or layer.gradient.isfinite().all() for layer in layers.values())


def test_a_forecast_rests_on_the_last_values_seen(holed_panel: Panel):
    forecaster = fit(holed_panel, "naive")
    values = holed_panel.values.copy()
    values[-3:] = np.nan
    last = values[:, 0][~np.isnan(values[:, 0])][-1]

    frame = forecaster.predict(replace(holed_panel, values=values))

    assert frame.loc[frame.channel == "channel_0", "forecast"].tolist() == pytest.approx([last] * 6, rel=1e-5)


def test_without_holes_nothing_of_the_mask_is_computed(small_panel: Panel, monkeypatch: pytest.MonkeyPatch):
    def never(*_: Any) -> None:
        raise AssertionError("a panel without holes pays for them")

    monkeypatch.setattr(Windows, "_masked", never)
    monkeypatch.setattr(Forecaster, "_each_error", never)

    assert not fit(small_panel).has_holes


def test_holes_beyond_a_parts_windows_are_none_of_its_own(small_panel: Panel):
    values = small_panel.values.copy()
    values[small_panel.validation.bounds[0, 0] + 3] = np.nan
    panel = replace(small_panel, values=values)

    assert [windows_of(panel, part).has_holes for part in ("train", "validation", "test")] == [False, True, False]
    assert fit(panel).has_holes  # the validation loss must know of them
