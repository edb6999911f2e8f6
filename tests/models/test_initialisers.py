"""Initialisers by their statistics, gate by gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tsbench.data.windows import WindowShape
from tsbench.models.choices import Init
from tsbench.models.initialisers import initialise
from tsbench.models.registry import ModelSpec, model_specs

# Every kind of weight, with the matrices in it cut out by hand: `[out, in]` or `[out, in, places]`, 80 to 120 in total.

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], list[Tensor]]]] = {
    "linear": (lambda: nn.Linear(80, 120), lambda m: [m.weight]),
    "rnn": (lambda: nn.RNN(80, 120), lambda m: [m.weight_ih_l0, m.weight_hh_l0]),
    "gru": (
        lambda: nn.GRU(80, 120, num_layers=2),
        lambda m: [
            w[g * 120 : g * 120 + 120] for w in (m.weight_ih_l0, m.weight_hh_l0, m.weight_ih_l1) for g in range(3)
        ],
    ),
    "lstm": (
        lambda: nn.LSTM(80, 120, bidirectional=True),
        lambda m: [w[g * 120 : g * 120 + 120] for w in (m.weight_ih_l0, m.weight_hh_l0_reverse) for g in range(4)],
    ),
    "attention": (
        lambda: nn.MultiheadAttention(96, 4),
        lambda m: [*(m.in_proj_weight[g * 96 : g * 96 + 96] for g in range(3)), m.out_proj.weight],
    ),
    "attention over another width": (
        lambda: nn.MultiheadAttention(96, 4, kdim=80, vdim=72, add_bias_kv=True),
        lambda m: [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight],
    ),
    "convolution": (lambda: nn.Conv1d(24, 32, 5), lambda m: [m.weight]),
    "convolution in groups": (lambda: nn.Conv1d(72, 96, 5, groups=3), lambda m: list(m.weight.split(32))),
    "transposed convolution": (lambda: nn.ConvTranspose1d(24, 32, 5), lambda m: [m.weight.transpose(0, 1)]),
    "weight norm": (lambda: weight_norm(nn.Conv1d(24, 32, 5)), lambda m: [m.weight]),
}

every_layer = pytest.mark.parametrize("layer", LAYERS)


def started(layer: str, init: Init) -> tuple[nn.Module, list[Tensor]]:
    make, cut = LAYERS[layer]
    torch.manual_seed(0)
    module = make()
    initialise(module, init)
    return module, [matrix.detach() for matrix in cut(module)]


def fans(matrix: Tensor) -> tuple[int, int]:
    """How many values flow into an output, and out of an input."""
    places = matrix[0, 0].numel()
    return matrix.shape[1] * places, matrix.shape[0] * places


STANDARD_DEVIATIONS: dict[Init, Callable[[int, int], float]] = {
    "normal": lambda fan_in, fan_out: 0.02,
    "uniform": lambda fan_in, fan_out: 0.05 / math.sqrt(3),
    "xavier_uniform": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "xavier_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "kaiming_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "kaiming_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
}


@pytest.mark.parametrize("init", STANDARD_DEVIATIONS)
@every_layer
def test_random_weights_have_mean_zero_and_the_variance_of_the_formula(layer: str, init: Init):
    for matrix in started(layer, init)[1]:
        expected = STANDARD_DEVIATIONS[init](*fans(matrix))
        assert matrix.std().item() == pytest.approx(expected, rel=0.05)
        assert abs(matrix.mean().item()) < 4 * expected / math.sqrt(matrix.numel())


@pytest.mark.parametrize("init", ["uniform", "xavier_uniform", "kaiming_uniform"])
@every_layer
def test_uniform_weights_fill_their_interval_and_no_more(layer: str, init: Init):
    for matrix in started(layer, init)[1]:
        bound = math.sqrt(3) * STANDARD_DEVIATIONS[init](*fans(matrix))
        assert 0.98 * bound < matrix.abs().max() < bound * 1.00001


@pytest.mark.parametrize("init", ["normal", "xavier_normal", "kaiming_normal"])
def test_normal_weights_have_the_tails_of_a_normal_distribution(init: Init):
    (matrix,) = started("linear", init)[1]

    beyond_two = (matrix.abs() > 2 * matrix.std()).float().mean().item()

    assert beyond_two == pytest.approx(0.0455, abs=0.01)


@every_layer
def test_orthogonal_matrices_are_orthogonal_each_by_itself(layer: str):
    for matrix in started(layer, "orthogonal")[1]:
        rows = matrix.flatten(1)
        product = rows @ rows.mT if len(rows) <= rows.shape[1] else rows.mT @ rows
        torch.testing.assert_close(product, torch.eye(len(product)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("init", "value"), [("zeros", 0.0), ("constant", 0.01)])
@every_layer
def test_constant_weights_are_all_the_same(layer: str, init: Init, value: float):
    for matrix in started(layer, init)[1]:
        torch.testing.assert_close(matrix, torch.full_like(matrix, value))


@pytest.mark.parametrize("init", [init for init in get_args(Init) if init != "default"])
@every_layer
def test_biases_start_at_zero(layer: str, init: Init):
    module, _ = started(layer, init)
    biases = [parameter for name, parameter in module.named_parameters() if "bias" in name]

    assert len(biases) > 0
    assert not any(bias.any() for bias in biases)


@every_layer
def test_default_is_what_pytorch_does(layer: str):
    torch.manual_seed(0)
    untouched = LAYERS[layer][0]().state_dict()
    module, _ = started(layer, "default")

    assert all(torch.equal(tensor, untouched[name]) for name, tensor in module.state_dict().items())


def test_a_weight_norm_at_zero_forecasts_zero_and_can_learn():
    module, _ = started("weight norm", "zeros")

    output = module(torch.randn(2, 24, 9))
    (output - 1).square().sum().backward()

    assert output.eq(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert module.parametrizations.weight.original0.grad.any()


def test_norms_and_learned_positions_keep_their_start():
    model = nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.PReLU(), nn.Linear(4, 4))
    model.position_ND = nn.Parameter(torch.randn(3, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    initialise(model, "orthogonal")

    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["4.weight", "4.bias"]


def test_a_module_may_set_what_has_a_start_of_its_own():
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def after_initialise(self) -> None:
            self.linear.bias.data.fill_(3.0)

    model = nn.Sequential(Biased())
    initialise(model, "zeros")

    assert model[0].linear.bias.tolist() == [3.0, 3.0]


# In the models

SHAPE = WindowShape(24, 6, 1, 1, seasonality=24)

learned_models = pytest.mark.parametrize(
    "spec", [pytest.param(spec, id=name) for name, spec in model_specs().items() if "init" in spec.arguments]
)


def build(spec: ModelSpec, init: Init) -> nn.Module:
    torch.manual_seed(0)
    return spec.build(SHAPE, spec.resolve({"init": init}, "test")).eval()


@pytest.mark.parametrize("init", get_args(Init))
@learned_models
@torch.no_grad()
def test_every_learned_model_runs_from_every_start(spec: ModelSpec, init: Init):
    forecast_BHC = build(spec, init)(torch.randn(3, 24, 1))

    assert forecast_BHC.shape == (3, 6, 1)
    assert forecast_BHC.isfinite().all()


@learned_models
def test_no_weight_of_a_layer_is_left_out(spec: ModelSpec):
    model = build(spec, "constant")
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d)]
    weights += [w for name, w in model.named_parameters() if "recurrence.weight" in name or "in_proj_weight" in name]

    for weight in weights:
        torch.testing.assert_close(weight, torch.full_like(weight, 0.01))
