"""The multilayer perceptron against its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.mlp import MLP

SHAPE = WindowShape(6, 4, channels_in=2, channels_out=2)


def build(**arguments: Any) -> MLP:
    torch.manual_seed(0)
    return MLP(SHAPE, **({"hidden_size": 8} | arguments)).eval()


def linear(model: MLP, place: str, values_BD: Tensor) -> Tensor:
    weights = model.state_dict()
    return values_BD @ weights[f"{place}.weight"].mT + weights[f"{place}.bias"]


@torch.no_grad()
def test_each_hidden_layer_is_a_linear_map_and_a_rectifier_over_the_flattened_context():
    model = build(num_layers=2)
    context_BLC = torch.randn(3, 6, 2)

    first = linear(model, "body.0", context_BLC.view(3, 12)).clamp(min=0)
    second = linear(model, "body.3", first).clamp(min=0)

    torch.testing.assert_close(model(context_BLC), linear(model, "head.linear", second).view(3, 4, 2))


FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),  # 0.25 is where it starts to learn
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "selu": lambda x: 1.0507 * torch.where(x > 0, x, 1.67326 * (x.exp() - 1)),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x / (1 + (-x).exp()),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
}


@pytest.mark.parametrize("activation", FORMULAS)
@torch.no_grad()
def test_the_activation_is_the_one_that_was_named(activation: str):
    model = build(activation=activation)
    context_BLC = torch.randn(3, 6, 2)

    hidden = FORMULAS[activation](linear(model, "body.0", context_BLC.view(3, 12)))

    expected = linear(model, "head.linear", hidden).view(3, 4, 2)
    torch.testing.assert_close(model(context_BLC), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "dim"), [("batch", 0), ("layer", 1)])
@torch.no_grad()
def test_a_norm_standardises_hidden_values_before_the_activation(norm: str, dim: int):
    model = build(norm=norm, dropout=0.0).train()
    context_BLC = torch.randn(5, 6, 2)

    hidden = linear(model, "body.0", context_BLC.view(5, 12))
    spread = (hidden.var(dim, correction=0, keepdim=True) + 1e-5).sqrt()
    hidden = ((hidden - hidden.mean(dim, keepdim=True)) / spread).clamp(min=0)

    torch.testing.assert_close(model(context_BLC), linear(model, "head.linear", hidden).view(5, 4, 2))


@torch.no_grad()
def test_a_residual_layer_adds_its_input_and_the_first_layer_is_none():
    model = build(num_layers=3, residual=True)
    context_BLC = torch.randn(3, 6, 2)

    hidden = linear(model, "body.0", context_BLC.view(3, 12)).clamp(min=0)
    for skip in (3, 4):
        hidden = hidden + linear(model, f"body.{skip}.layers.0", hidden).clamp(min=0)

    torch.testing.assert_close(model(context_BLC), linear(model, "head.linear", hidden).view(3, 4, 2))


def test_the_first_layer_is_never_residual_even_where_the_context_is_as_wide_as_it():
    model = build(num_layers=2, hidden_size=12, residual=True)

    assert [name for name in model.state_dict() if "weight" in name] == [
        "body.0.weight",
        "body.3.layers.0.weight",
        "head.linear.weight",
    ]


def test_skips_need_a_second_hidden_layer():
    with pytest.raises(ConfigError, match=r"residual = true .* num_layers = 1; set num_layers = 2 or more"):
        build(residual=True)


def dropped(kind: str) -> Tensor:
    """Hidden values of SELU on standard normal numbers after dropout; the activation is the last but one module."""
    model = build(hidden_size=500, activation="selu", dropout=0.3, dropout_kind=kind).train()
    return model.body[-1](F.selu(torch.randn(200, 500)))


def test_element_dropout_sets_values_to_zero():
    assert dropped("element").eq(0).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_alpha_dropout_keeps_mean_and_variance_under_selu():
    values, torn = dropped("alpha"), dropped("element")

    assert values.mean().item() == pytest.approx(0, abs=0.02)
    assert values.var().item() == pytest.approx(1, abs=0.03)
    assert torn.var().item() > 1.3


@torch.no_grad()
def test_depth_and_width_are_the_number_and_size_of_hidden_layers():
    shapes = [tuple(w.shape) for name, w in build(num_layers=3, hidden_size=7).named_parameters() if "weight" in name]

    assert shapes == [(7, 12), (7, 7), (7, 7), (8, 7)]
