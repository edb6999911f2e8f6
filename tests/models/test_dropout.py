"""Dropout at a lower price: what `nn.Dropout` does, with random numbers of fewer bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tsbench.models.dropout import Dropout, fill_with_noise


@given(rate=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_values_are_zero_at_the_rate_and_the_others_keep_the_mean(rate: float, seed: int):
    torch.manual_seed(seed)
    count = 40_000

    dropped = Dropout(rate)(torch.ones(200, 200))

    share = float((dropped == 0).double().mean())
    assert abs(share - rate) < 5 * (rate * (1 - rate) / count) ** 0.5 + 2**-16
    assert torch.unique(dropped).tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-3)
    assert float(dropped.double().mean()) == pytest.approx((1 - share) / (1 - rate), rel=1e-2)


def test_gradients_pass_where_values_do():
    values = torch.randn(50, 40, requires_grad=True)

    dropped = Dropout(0.3)(values)
    dropped.sum().backward()

    assert torch.equal(values.grad * values, dropped)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_ends_and_evaluation_are_those_of_pytorch(rate: float):
    values = torch.randn(30, 20)

    assert torch.equal(Dropout(rate).eval()(values), values)
    if rate != 0.5:
        assert torch.equal(Dropout(rate)(values), nn.Dropout(rate)(values))


def test_every_dropped_value_is_decided_on_by_itself():
    """Four come from one number: none of them says anything about its neighbours."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).double().view(-1, 4)

    correlation = torch.corrcoef(kept.T) - torch.eye(4)

    assert correlation.abs().max() < 0.02  # five standard errors


def test_the_draws_follow_the_order_of_the_memory():
    values = torch.ones(3, 4, 5)
    torch.manual_seed(0)
    turned = Dropout(0.5)(values.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    torch.manual_seed(0)

    assert torch.equal(turned.permute(2, 0, 1), Dropout(0.5)(torch.ones(5, 3, 4)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 1001])
def test_any_number_of_values_of_any_precision(count: int, dtype: torch.dtype):
    dropped = Dropout(0.25)(torch.ones(count, dtype=dtype))

    assert (dropped.shape, dropped.dtype) == ((count,), dtype)


def test_a_generator_repeats_its_draws_and_leaves_the_global_state_alone():
    before, noises = torch.random.get_rng_state(), [torch.empty(1000) for _ in range(3)]

    for noise, seed in zip(noises, (0, 0, 1), strict=True):
        fill_with_noise(noise, 0.5, torch.Generator().manual_seed(seed))

    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])
    assert torch.equal(torch.random.get_rng_state(), before)
