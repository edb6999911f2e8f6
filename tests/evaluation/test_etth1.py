"""ETTh1, the long-horizon literature's protocol: figures that are known, reproduced on the real file.

All windows of the test rows, z-scores with the training rows' statistics, contexts of 96 hours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tsbench.data.datasets import load_dataset
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import evaluate
from tsbench.evaluation.metrics import metrics, seasonal_errors
from tsbench.training.forecaster import Forecaster


@pytest.fixture(scope="module")
def etth1(shared_data: Path) -> Panel:
    return load_dataset("etth1", data_dirs=[shared_data])


def windows_of(panel: Panel, part: str, horizon: int) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    return Windows.of(getattr(panel, part), values_TC, 96, horizon)


def score(forecaster: Forecaster, panel: Panel) -> dict[str, Any]:
    """All metrics on the test part."""
    scaler = Scaler.fit(panel.train)
    seasonal = seasonal_errors(panel.test, 96, forecaster.horizon)
    return metrics(evaluate(forecaster, windows_of(panel, "test", forecaster.horizon), scaler, seasonal), panel)


def untrained(model: str, horizon: int) -> Forecaster:
    return Forecaster(model, context_length=96, horizon=horizon, seasonality=24).build(0).eval()


def test_the_scaler_has_the_training_rows_statistics(etth1: Panel):
    scaler = Scaler.fit(etth1.train)

    mean = [7.937742, 2.021039, 5.079771, 0.746186, 2.781762, 0.788453, 17.128262]
    std = [5.812749, 2.090105, 5.518794, 1.926379, 1.023523, 0.630237, 9.176491]
    np.testing.assert_allclose(scaler.mean, mean, atol=1e-5)
    np.testing.assert_allclose(scaler.std, std, atol=1e-5)


@pytest.mark.parametrize(("horizon", "expected"), [(96, 2785), (192, 2689), (336, 2545), (720, 2161)])
def test_every_window_of_the_test_rows_is_scored(horizon: int, expected: int, etth1: Panel):
    assert len(windows_of(etth1, "test", horizon)) == expected
    assert len(windows_of(etth1, "train", horizon)) == 8640 - 96 - horizon + 1


@pytest.mark.parametrize(
    ("model", "horizon", "mse", "mae"),
    [
        ("naive", 96, 1.2944, 0.7132),
        ("naive", 192, 1.3249, 0.7331),
        ("naive", 336, 1.3299, 0.7460),
        ("naive", 720, 1.3351, 0.7550),
        ("seasonal_naive", 96, 0.5122, 0.4333),
        ("seasonal_naive", 192, 0.5808, 0.4692),
        ("seasonal_naive", 336, 0.6499, 0.5008),
        ("seasonal_naive", 720, 0.6554, 0.5141),
        ("profile", 96, 0.4059, 0.3963),
    ],
)
def test_forecasters_without_a_parameter_reach_the_known_figures(
    model: str, horizon: int, mse: float, mae: float, etth1: Panel
):
    scores = score(untrained(model, horizon), etth1)

    assert scores["mse_scaled"] == pytest.approx(mse, abs=1e-4)
    assert scores["mae_scaled"] == pytest.approx(mae, abs=1e-4)


def test_naive_errors_by_channel_and_by_step_are_the_known_ones(etth1: Panel):
    scores = score(untrained("naive", 96), etth1)

    by_channel = dict(zip(etth1.channels, scores["by_channel"]["mse_scaled"], strict=True))
    by_step = scores["by_step"]["mse_scaled"]
    assert by_channel["HUFL"] == pytest.approx(3.1098, abs=1e-4)
    assert by_channel["OT"] == pytest.approx(0.0693, abs=1e-4)
    assert [by_step[step - 1] for step in (1, 24, 96)] == pytest.approx([0.1777, 0.4205, 0.6036], abs=1e-4)


def closed_form(panel: Panel, horizon: int, instance_norm: str) -> Forecaster:
    """The package's linear model with the weights of least squares over all training windows of all channels."""
    windows = windows_of(panel, "train", horizon)
    context_BLC, target_BHC = (part.double() for part in windows.batch(torch.arange(len(windows))))
    # With a bias for the plain map, without one after the last value was taken off: so the known figures were made.
    level, bias = (context_BLC[:, -1:], 0.0) if instance_norm == "last" else (0.0, 1.0)
    context_NL, target_NH = ((part - level).mT.flatten(0, 1) for part in (context_BLC, target_BHC))
    context_NL = torch.cat([context_NL, torch.full((len(context_NL), 1), bias)], dim=1)
    # 60,000 rows of 97 numbers: the normal equations are exact enough in float64. A column may be all zero (the last
    # value, the bias), so they are solved for the smallest of all solutions.
    products = context_NL.mT @ context_NL, context_NL.mT @ target_NH
    weights_LH = torch.linalg.lstsq(*products, driver="gelsd").solution
    forecaster = Forecaster("linear", context_length=96, horizon=horizon, recipe={"instance_norm": instance_norm})
    linear = forecaster.build(0).eval().model.head.linear
    with torch.no_grad():
        linear.weight.copy_(weights_LH[:-1].mT)
        linear.bias.copy_(weights_LH[-1])
    return forecaster


@pytest.mark.parametrize(
    ("instance_norm", "horizon", "mse", "mae"),
    [
        ("none", 96, 0.3815, 0.3930),
        ("none", 192, 0.4318, 0.4243),
        ("none", 336, 0.4754, 0.4506),
        ("none", 720, 0.5000, 0.4969),
        ("last", 96, 0.3832, 0.3915),
        ("last", 192, 0.4340, 0.4206),
        ("last", 336, 0.4746, 0.4409),
        ("last", 720, 0.4616, 0.4556),
    ],
)
def test_least_squares_in_the_linear_model_reaches_the_known_figures(
    instance_norm: str, horizon: int, mse: float, mae: float, etth1: Panel
):
    scores = score(closed_form(etth1, horizon, instance_norm), etth1)

    assert scores["mse_scaled"] == pytest.approx(mse, abs=2e-4)
    assert scores["mae_scaled"] == pytest.approx(mae, abs=2e-4)


@pytest.mark.parametrize("model", ["linear", "dlinear"])
def test_trained_linear_forecasters_come_near_least_squares(model: str, etth1: Panel):
    forecaster = Forecaster(model, context_length=96, horizon=96).fit(etth1.train, etth1.validation, seed=0)

    assert 0.378 < score(forecaster, etth1)["mse_scaled"] < 0.400
