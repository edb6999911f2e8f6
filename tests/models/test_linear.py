"""Linear forecasters and the perceptron against plain matrix products in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.linear import DLinear, Linear
from tsbench.models.mlp import MLP

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
