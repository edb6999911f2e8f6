"""Metrics of quantiles against slow loops over every window, step, channel and level."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsbench.data.panel import Panel
from tsbench.data.scaling import seen
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import evaluate, sample_forecasts
from tsbench.evaluation.metrics import metrics
from tsbench.evaluation.quantiles import QuantileSums, quantile_metrics
from tsbench.training.forecaster import Forecaster

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]


def fitted(model: str, panel: Panel) -> Forecaster:
    recipe = {"quantiles": LEVELS, "max_steps": 4, "validate_every": 2}
    return Forecaster(model, context_length=24, horizon=6, recipe=recipe).fit(
        panel.train, panel.validation, device="cpu"
    )


def windows_of(forecaster: Forecaster, panel: Panel) -> Windows:
    return Windows.of(panel.test, torch.from_numpy(forecaster.scaler.apply_to(panel)), 24, 6)


@pytest.mark.parametrize("model", ["linear", "seasonal_naive", "naive2"])
@pytest.mark.parametrize("holes", [False, True], ids=["whole", "with holes"])
def test_each_metric_is_what_a_slow_loop_over_the_predictions_gives(
    holes: bool, model: str, small_panel: Panel, holed_panel: Panel
):
    panel = holed_panel if holes else small_panel
    forecaster = fitted(model, panel)
    windows = windows_of(forecaster, panel)
    rows, contexts_TC = panel.test.starts(24, 6) + 24, seen(panel)
    std_C, values_TC = forecaster.scaler.std, panel.values.astype(np.float64)
    loss_Q, below_Q, inside_P, width_P, size, count = [np.zeros(n) for n in (5, 5, 2, 2)] + [0.0, 0]
    scaled_Q = np.zeros(5)
    for window in range(len(windows)):
        origin = rows[window]
        if model == "naive2":
            history = windows.histories(torch.tensor([window])).double()
            original = history * torch.as_tensor(std_C) + torch.as_tensor(forecaster.scaler.mean)
            quantiles_HCQ = forecaster.infer_quantiles(original)[0].double().numpy()
        else:
            context = torch.from_numpy(forecaster.scaler.apply(contexts_TC[origin - 24 : origin]))[None]
            scaled_HCQ = forecaster.infer_quantiles(context)[0].double().numpy()
            quantiles_HCQ = scaled_HCQ * std_C[:, None] + forecaster.scaler.mean[:, None]
        for step, channel in np.ndindex(6, 2):
            target, found = values_TC[origin + step, channel], quantiles_HCQ[step, channel]
            if np.isnan(target):
                continue
            size, count = size + abs(target), count + 1
            for number, level in enumerate(LEVELS):
                error = target - found[number]
                loss = level * error if error >= 0 else (level - 1) * error
                loss_Q[number] += loss
                scaled_Q[number] += loss / std_C[channel]
                below_Q[number] += target <= found[number]
            for number in range(2):
                inside_P[number] += found[number] <= target <= found[-1 - number]
                width_P[number] += (found[-1 - number] - found[number]) / std_C[channel]

    scores = metrics(evaluate(forecaster, windows, forecaster.scaler, batch_size=7), panel)["quantiles"]

    assert scores["levels"] == LEVELS
    assert scores["wql"] == pytest.approx(np.mean(2 * loss_Q / size), rel=1e-4)
    assert scores["crps_scaled"] == pytest.approx(2 * scaled_Q.mean() / count, rel=1e-4)
    np.testing.assert_allclose(scores["pinball"], scaled_Q / count, rtol=1e-4)
    np.testing.assert_allclose(scores["below"], below_Q / count, atol=2 / count)
    np.testing.assert_allclose(scores["nominal"], [0.8, 0.5])
    np.testing.assert_allclose(scores["coverage"], inside_P / count, atol=2 / count)
    np.testing.assert_allclose(scores["width"], width_P / count, rtol=1e-4)
    there_H = (~np.isnan(values_TC[rows[:, None] + np.arange(6)])).sum((0, 2))
    by_step = [*scores["coverage_by_step"], scores["pinball_by_step"]]
    np.testing.assert_allclose(
        np.average(by_step, axis=1, weights=there_H), [*scores["coverage"], scores["crps_scaled"] / 2]
    )


def test_a_quantile_that_is_met_exactly_is_inside_and_below():
    sums = QuantileSums([0.25, 0.5, 0.75], 1, torch.device("cpu"))
    sums.add(torch.tensor([[[[1.0, 2.0, 3.0]]]]).double(), torch.tensor([[[3.0]]]).double(), torch.ones(1).double())

    scores = quantile_metrics(sums.totals(), size=3.0)

    assert scores["coverage"] == [1.0]
    assert scores["below"] == [0.0, 0.0, 1.0]
    assert scores["wql"] == pytest.approx(2 * (0.25 * 2 + 0.5 * 1) / 3 / 3)


def test_the_median_alone_has_no_interval_and_half_the_absolute_error(small_panel: Panel):
    forecaster = Forecaster("naive", context_length=24, horizon=6, recipe={"quantiles": [0.5]})
    forecaster.fit(small_panel.train, small_panel.validation, device="cpu")

    scores = metrics(evaluate(forecaster, windows_of(forecaster, small_panel), forecaster.scaler), small_panel)

    assert scores["quantiles"]["coverage"] == []
    assert 2 * scores["quantiles"]["pinball"][0] == pytest.approx(scores["mae_scaled"])
    assert scores["quantiles"]["wql"] == pytest.approx(scores["wape"])


def test_targets_of_zero_leave_wql_blank():
    sums = QuantileSums([0.5], 1, torch.device("cpu"))
    sums.add(torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1, 1).double(), torch.ones(1).double())

    assert quantile_metrics(sums.totals(), size=0.0)["wql"] is None


def test_without_quantiles_in_the_recipe_there_are_none(small_panel: Panel):
    forecaster = Forecaster("naive", context_length=24, horizon=6)
    forecaster.fit(small_panel.train, small_panel.validation, device="cpu")
    windows = windows_of(forecaster, small_panel)

    assert metrics(evaluate(forecaster, windows, forecaster.scaler), small_panel)["quantiles"] is None
    assert "quantiles" not in sample_forecasts(forecaster, small_panel.test, windows, forecaster.scaler)


def test_sampled_windows_keep_their_quantiles_in_original_units(small_panel: Panel):
    forecaster = fitted("linear", small_panel)

    arrays = sample_forecasts(forecaster, small_panel.test, windows_of(forecaster, small_panel), forecaster.scaler)

    assert arrays["quantiles"].shape == (*arrays["forecast"].shape, 5)
    np.testing.assert_array_equal(arrays["quantiles"][..., 2], arrays["forecast"])
    assert (np.diff(arrays["quantiles"], axis=-1) >= 0).all()
