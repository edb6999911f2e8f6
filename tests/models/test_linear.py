"""Linear forecasters and the perceptron against plain matrix products in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model
import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.linear import DLinear, Linear, NLinear, Ridge, SeasonalRidge
from tsbench.models.mlp import MLP
from tsbench.models.naive import Profile

SHAPE = WindowShape(8, 3, 2, 2)


@pytest.fixture(name="context_BLC")
def _context() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 8, 2)).astype(np.float32)


def numbers(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def forecast(model: nn.Module, context_BLC: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(context_BLC)).numpy()


def test_linear_is_one_matrix_product(context_BLC: np.ndarray):
    model = Linear(SHAPE)
    weight, bias = numbers(model.head.linear)

    expected_BHC = (context_BLC.reshape(4, 16) @ weight.T + bias).reshape(4, 3, 2)

    np.testing.assert_allclose(forecast(model, context_BLC), expected_BHC, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 25])
def test_dlinear_maps_the_moving_average_and_the_rest_apart(context_BLC: np.ndarray, kernel_size: int):
    model = DLinear(SHAPE, kernel_size=kernel_size)
    half = kernel_size // 2
    trend_BLC = np.empty_like(context_BLC)
    for row in range(8):
        under_kernel = [min(max(near, 0), 7) for near in range(row - half, row + half + 1)]  # the ends are repeated
        trend_BLC[:, row] = context_BLC[:, under_kernel].mean(axis=1)
    (weight, bias), (rest_weight, rest_bias) = numbers(model.trend.linear), numbers(model.rest.linear)

    expected_BD = trend_BLC.reshape(4, 16) @ weight.T + bias
    expected_BD += (context_BLC - trend_BLC).reshape(4, 16) @ rest_weight.T + rest_bias

    np.testing.assert_allclose(forecast(model, context_BLC), expected_BD.reshape(4, 3, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [0, 4, -3])
def test_dlinear_refuses_an_even_kernel(kernel_size: int):
    with pytest.raises(
        ConfigError, match=rf"dlinear: kernel_size = {kernel_size}: allowed are odd numbers, such as 25"
    ):
        DLinear(SHAPE, kernel_size=kernel_size)


def test_mlp_is_matrix_products_with_rectifiers_between(context_BLC: np.ndarray):
    model = MLP(SHAPE, hidden_size=5, num_layers=2)
    hidden = context_BLC.reshape(4, 16)
    for layer in (model.body[0], model.body[3]):
        weight, bias = numbers(layer)
        hidden = np.maximum(hidden @ weight.T + bias, 0)
    weight, bias = numbers(model.head.linear)

    expected_BHC = (hidden @ weight.T + bias).reshape(4, 3, 2)

    np.testing.assert_allclose(forecast(model, context_BLC), expected_BHC, rtol=1e-5, atol=1e-6)


def test_nlinear_maps_the_context_less_its_last_value_and_adds_that_again(context_BLC: np.ndarray):
    model = NLinear(SHAPE)
    weight, bias = numbers(model.head.linear)
    last = context_BLC[:, -1:]

    expected_BHC = ((context_BLC - last).reshape(4, 16) @ weight.T + bias).reshape(4, 3, 2) + last

    np.testing.assert_allclose(forecast(model, context_BLC), expected_BHC, rtol=1e-5, atol=1e-6)


def solved(penalty: float, spread: float = 1.0, num_windows: int = 40) -> tuple[Ridge, Tensor, Tensor]:
    """A ridge over windows of six rows, given to it in two parts, and those windows flat."""
    shape = WindowShape(6, 2)
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(num_windows, 6, 1, generator=generator, dtype=torch.float64)
    target = torch.randn(num_windows, 2, 1, generator=generator, dtype=torch.float64)
    model = Ridge(shape, penalty=penalty).double()
    for part in (slice(0, 7), slice(7, num_windows)):
        model.add(context[part], target[part], torch.full_like(context[part, :1], spread))
    model.solve()
    return model, context[:, :, 0], target[:, :, 0]


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_ridge_is_the_least_squares_map_with_a_penalty_per_window_and_a_free_bias(penalty: float):
    model, context, target = solved(penalty)

    expected = sklearn.linear_model.Ridge(alpha=penalty * len(context)).fit(context, target)

    torch.testing.assert_close(model.weight_DO, torch.from_numpy(expected.coef_.T))
    torch.testing.assert_close(model.bias_O, torch.from_numpy(expected.intercept_))


def test_ridge_aims_at_the_target_after_the_spread_is_put_back():
    model, context, target = solved(0.0, spread=4.0)

    expected = sklearn.linear_model.LinearRegression().fit(context, target / 4)

    torch.testing.assert_close(model.weight_DO, torch.from_numpy(expected.coef_.T))


def test_ridge_solves_a_context_with_a_column_of_zeros():
    model = Ridge(WindowShape(3, 1)).double()
    context = torch.tensor([[[1.0], [2.0], [0.0]], [[2.0], [1.0], [0.0]], [[3.0], [5.0], [0.0]], [[0.0], [1.0], [0.0]]])
    target = context[:, :1] + 2 * context[:, 1:2]

    model.add(context.double(), target.double(), torch.ones(4, 1, 1, dtype=torch.float64))
    model.solve()

    torch.testing.assert_close(model(context.double()), target.double())


def solved_by_season(penalty: float, horizon: int, spread: float = 1.0) -> tuple[SeasonalRidge, Tensor, Tensor]:
    """Over 30 windows of seven rows, with a season of three; in two parts."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(30, 7, 1, generator=generator, dtype=torch.float64)
    target = torch.randn(30, horizon, 1, generator=generator, dtype=torch.float64)
    model = SeasonalRidge(WindowShape(7, horizon, seasonality=3), penalty=penalty).double()
    for part in (slice(0, 11), slice(11, 30)):
        model.add(context[part], target[part], torch.full_like(context[part, :1], spread))
    model.solve()
    return model, context[:, :, 0], target[:, :, 0]


@pytest.mark.parametrize("horizon", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_seasonal_ridge_weighs_the_seasons_by_least_squares_over_all_phases(penalty: float, horizon: int):
    model, context, target = solved_by_season(penalty, horizon)
    forecast_BH = model(context[:, :, None])[:, :, 0]

    for season in range(-(-horizon // 3)):
        steps = [step for step in range(3 * season, 3 * season + 3) if step < horizon]
        past = np.concatenate([context[:, [1 + step % 3, 4 + step % 3]] for step in steps])
        ahead = np.concatenate([target[:, step] for step in steps])
        # Shrinking towards equal weights is shrinking to nothing what is left of their forecast.
        alpha = penalty * (past**2).sum(axis=0).mean()
        expected = sklearn.linear_model.Ridge(alpha=alpha, fit_intercept=False)
        expected.fit(past, ahead - past.mean(axis=1))
        whole = expected.predict(past) + past.mean(axis=1)
        np.testing.assert_allclose(np.concatenate([forecast_BH[:, step] for step in steps]), whole, rtol=1e-6)


def test_seasonal_ridge_is_the_profile_before_it_is_solved_and_with_an_endless_penalty():
    shape = WindowShape(6, 7, 2, 2, seasonality=3)
    context = torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(1))
    endless, past, _ = solved_by_season(1e12, 5)

    torch.testing.assert_close(SeasonalRidge(shape)(context), Profile(shape)(context))
    whole_seasons = WindowShape(6, 5, seasonality=3)
    expected = Profile(whole_seasons).double()(past[:, 1:, None])
    torch.testing.assert_close(endless(past[:, :, None]), expected)


def test_seasonal_ridge_aims_at_the_target_after_the_spread_is_put_back():
    model, past, target = solved_by_season(0.3, 5, spread=4.0)

    plain = SeasonalRidge(WindowShape(7, 5, seasonality=3), penalty=0.3).double()
    plain.add(past[:, :, None], target[:, :, None] / 4, torch.ones(len(past), 1, 1, dtype=torch.float64))
    plain.solve()

    torch.testing.assert_close(model.weight_DO, plain.weight_DO)


def test_seasonal_ridge_reads_all_mixed_channels():
    generator = torch.Generator().manual_seed(2)
    context = torch.randn(50, 4, 2, generator=generator, dtype=torch.float64)
    target = context[:, :2].flip(2)  # each channel is the other's season before last
    model = SeasonalRidge(WindowShape(4, 2, 2, 2, seasonality=2), penalty=0.0).double()

    model.add(context, target, torch.ones(50, 1, 2, dtype=torch.float64))
    model.solve()

    torch.testing.assert_close(model(context), target)


def test_seasonal_ridge_needs_a_season():
    with pytest.raises(ConfigError, match="seasonal_ridge needs a context of at least one season: 24 rows, got 8"):
        SeasonalRidge(WindowShape(8, 3, seasonality=24))
