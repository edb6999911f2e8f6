"""The convolutional network against NumPy, place by place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.cnn import CNN


def convolve(values_DL: np.ndarray, weight_EDK: np.ndarray, bias_E: np.ndarray, stride: int) -> np.ndarray:
    half = weight_EDK.shape[2] // 2
    padded_DL = np.pad(values_DL, ((0, 0), (half, half)))  # zeros around the context
    places = range(0, values_DL.shape[1], stride)
    under_kernel = [padded_DL[:, place : place + weight_EDK.shape[2]] for place in places]
    return np.stack([(weight_EDK * rows_DK).sum((1, 2)) + bias_E for rows_DK in under_kernel], axis=1)


def test_the_forecast_is_strided_convolutions_then_one_linear_map():
    torch.manual_seed(0)
    model = CNN(WindowShape(9, 3, 2, 2), num_filters=4, num_layers=2, kernel_size=3, stride=2).eval()
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    context_LC = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)

    hidden = context_LC.T
    for layer in ("body.0", "body.2"):
        hidden = np.maximum(convolve(hidden, weights[f"{layer}.weight"], weights[f"{layer}.bias"], stride=2), 0)
    expected_HC = (weights["head.linear.weight"] @ hidden.ravel() + weights["head.linear.bias"]).reshape(3, 2)

    assert hidden.shape == (4, 3)  # 9 rows, then 5, then 3
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(context_LC)[None])[0], expected_HC, rtol=1e-4, atol=1e-6)


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="cnn: kernel_size = 4: allowed are odd numbers, such as 7"):
        CNN(WindowShape(9, 3), kernel_size=4)
