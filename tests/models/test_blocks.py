"""Activations, norms and dropouts against their formulas in NumPy, and by their statistics."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch

from tsbench.errors import ConfigError
from tsbench.models.choices import Activation, DropoutKind, Norm
from tsbench.models.layers import ChannelNorm, check_counts, make_activation, make_dropout, make_norm

# Activations

ERF = np.vectorize(lambda x: torch.erf(torch.tensor(x)).item())

ACTIVATION_FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x),  # 0.25 is where it starts to learn
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "gelu": lambda x: x * (1 + ERF(x / 2**0.5)) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
}


@pytest.mark.parametrize("activation", get_args(Activation))
def test_an_activation_is_its_formula(activation: Any):
    values = np.linspace(-4, 4, 81)

    result = make_activation(activation).double()(torch.from_numpy(values)).detach().numpy()

    np.testing.assert_allclose(result, ACTIVATION_FORMULAS[activation](values), atol=1e-6)


def test_the_slope_of_prelu_is_learned_and_no_other_activation_has_weights():
    learned = {name: len(list(make_activation(name).parameters())) for name in get_args(Activation)}

    assert {name for name, count in learned.items() if count} == {"prelu"}
    slope = next(make_activation("prelu").parameters())
    assert slope.requires_grad


# Norms

AXES = {"batch": (0, 2), "instance": (2,), "layer": (1,)}
"""What mean and variance are taken over, of [batch, channel, place]."""


def random_values() -> np.ndarray:
    generator = np.random.default_rng(0)
    scale_B11, scale_1D1 = generator.uniform(1, 5, (6, 1, 1)), generator.uniform(1, 5, (1, 8, 1))
    return generator.normal(3, 1, (6, 8, 10)) * scale_B11 * scale_1D1


def standardised(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return (values - values.mean(axes, keepdims=True)) / np.sqrt(values.var(axes, keepdims=True) + 1e-5)


def normed(norm: Any, values_BDN: np.ndarray, **arguments: int) -> np.ndarray:
    return make_norm(norm, 8, **arguments).double()(torch.from_numpy(values_BDN)).detach().numpy()


@pytest.mark.parametrize("norm", AXES)
def test_a_norm_takes_mean_and_variance_over_its_axes(norm: str):
    values_BDN = random_values()

    np.testing.assert_allclose(normed(norm, values_BDN), standardised(values_BDN, AXES[norm]), atol=1e-6)


@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_group_norm_takes_them_over_the_channels_of_a_group_and_all_places(num_groups: int):
    values_BDN = random_values()
    groups_BGDN = values_BDN.reshape(6, num_groups, 8 // num_groups, 10)

    expected = standardised(groups_BGDN, (2, 3)).reshape(6, 8, 10)

    np.testing.assert_allclose(normed("group", values_BDN, num_groups=num_groups), expected, atol=1e-6)


def test_without_a_norm_nothing_changes():
    values_BDN = random_values()

    assert np.array_equal(normed("none", values_BDN), values_BDN)


@pytest.mark.parametrize("norm", sorted(set(get_args(Norm)) - {"none"}))
def test_every_norm_then_scales_and_shifts_each_channel(norm: Any):
    values_BDN = torch.from_numpy(random_values())
    layer = make_norm(norm, 8).double()
    plain_BDN = layer(values_BDN)
    scale_D, shift_D = torch.arange(1.0, 9.0).double(), torch.arange(-4.0, 4.0).double()

    layer.load_state_dict({"weight": scale_D, "bias": shift_D}, strict=False)

    torch.testing.assert_close(layer(values_BDN), plain_BDN * scale_D[:, None] + shift_D[:, None])


def test_batch_norm_uses_what_it_saw_in_training_for_evaluation():
    layer = make_norm("batch", 8).double()
    values_BDN = torch.from_numpy(random_values())
    for _ in range(300):  # its memory fades by a tenth each time
        layer(values_BDN)

    one_window = layer.eval()(values_BDN[:1])

    unbiased = values_BDN.var((0, 2), keepdim=True)
    expected = (values_BDN[:1] - values_BDN.mean((0, 2), keepdim=True)) / (unbiased + 1e-5).sqrt()
    torch.testing.assert_close(one_window, expected)


@pytest.mark.parametrize("norm", ["none", "instance", "layer", "group"])
def test_the_other_norms_do_not_see_the_windows_beside(norm: Any):
    values_BDN = random_values()

    np.testing.assert_allclose(normed(norm, values_BDN)[2:3], normed(norm, values_BDN[2:3]), atol=1e-12)


def test_the_norm_of_channels_does_not_see_the_places_beside():
    values_BDN = torch.randn(2, 8, 10)

    alone = ChannelNorm(8)(values_BDN[:, :, 3:4])

    torch.testing.assert_close(ChannelNorm(8)(values_BDN)[:, :, 3:4], alone)


def test_groups_must_divide_the_channels():
    with pytest.raises(ConfigError, match="norm = 'group': 4 groups do not divide 6 channels"):
        make_norm("group", 6)


# Dropout


def dropped(kind: Any, rate: float, values_BDN: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return make_dropout(kind, rate).train()(values_BDN)


def test_element_dropout_drops_single_values_and_scales_the_others():
    result_BDN = dropped("element", 0.25, torch.ones(40, 50, 60))

    kept = result_BDN != 0
    assert torch.allclose(result_BDN[kept], torch.tensor(1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert kept.float().mean(2).std().item() == pytest.approx((0.75 * 0.25 / 60) ** 0.5, rel=0.1)  # one by one


def test_channel_dropout_drops_whole_channels_and_scales_the_others():
    result_BDN = dropped("channel", 0.25, torch.ones(40, 50, 60))

    kept_BD = result_BDN[:, :, 0] != 0
    assert torch.allclose(result_BDN, (kept_BD / 0.75)[:, :, None].expand(40, 50, 60))
    assert kept_BD.float().mean().item() == pytest.approx(0.75, abs=0.04)
    assert not (kept_BD == kept_BD[:1]).all()  # others in each window


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance_where_plain_dropout_does_not(rate: float):
    values_BDN = torch.nn.functional.selu(torch.randn(100, 100, 100, generator=torch.Generator().manual_seed(1)))

    by_alpha, plain = dropped("alpha", rate, values_BDN), dropped("element", rate, values_BDN)

    assert values_BDN.var().item() == pytest.approx(1, abs=0.01)  # where SELU settles
    assert by_alpha.mean().item() == pytest.approx(values_BDN.mean().item(), abs=0.01)
    assert by_alpha.var().item() == pytest.approx(values_BDN.var().item(), rel=0.02)
    assert plain.var().item() > 1.08
    assert (by_alpha != values_BDN).float().mean().item() > 0.99  # the kept ones are scaled


@pytest.mark.parametrize("kind", get_args(DropoutKind))
def test_nothing_is_dropped_in_evaluation_or_at_a_rate_of_zero(kind: Any):
    values_BDN = torch.randn(4, 8, 10)

    assert torch.equal(make_dropout(kind, 0.5).eval()(values_BDN), values_BDN)
    assert torch.equal(dropped(kind, 0.0, values_BDN), values_BDN)
    assert not torch.equal(dropped(kind, 0.5, values_BDN), values_BDN)


# Counts


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused_with_its_keyword(count: int):
    with pytest.raises(ConfigError, match=f"cnn: stride = {count}: allowed are whole numbers from 1"):
        check_counts("cnn", kernel_size=1, stride=count)
