"""What is known ahead: a block that starts as nothing and then reads each step and its neighbours."""

from __future__ import annotations

import torch

from tsbench.data.windows import WindowShape
from tsbench.models.ahead import Ahead, forecast_with
from tsbench.models.linear import Ridge
from tsbench.models.registry import model_spec

SHAPE = WindowShape(24, 6, 3, 1, seasonality=24, ahead=2)


def moved_block() -> Ahead:
    """One whose last layer has left its zeros."""
    torch.manual_seed(0)
    block = Ahead(SHAPE)
    torch.nn.init.normal_(block.head.weight)
    return block


def test_it_starts_as_nothing():
    forecast = torch.randn(4, 6, 1)

    assert torch.equal(Ahead(SHAPE)(forecast, torch.randn(4, 6, 2)), forecast)


def test_a_step_is_moved_by_its_own_values_and_those_of_its_neighbours():
    block, forecast, ahead = moved_block(), torch.zeros(1, 6, 1), torch.randn(1, 6, 2)
    changed = ahead.clone()
    changed[0, 2] += 1

    moved = (block(forecast, changed) - block(forecast, ahead))[0, :, 0] != 0

    assert moved.tolist() == [False, True, True, True, False, False]


def test_all_steps_are_read_in_one_way():
    block, forecast, ahead = moved_block(), torch.zeros(1, 6, 1), torch.ones(1, 6, 2)

    moved = block(forecast, ahead)

    torch.testing.assert_close(moved, moved[:, :1].expand(-1, 6, -1))


def test_a_model_has_it_only_where_something_is_known_ahead():
    with_it, without = (model_spec("mlp").build(shape, {}) for shape in (SHAPE, WindowShape(24, 6, 3, 1, 24)))

    assert [name for name, _ in with_it.named_children()] == ["body", "head", "ahead"]
    assert [name for name, _ in without.named_children()] == ["body", "head"]


def test_it_stays_nothing_at_first_whatever_the_weights_start_from():
    model = model_spec("mlp").build(SHAPE, {"init": "normal", "dropout": 0.0})
    context = torch.randn(4, 24, 3)

    assert torch.equal(forecast_with(model, context, torch.randn(4, 6, 2)), model(context))


def test_ridge_solves_for_context_and_future_together():
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2000, 24, 3, generator=generator, dtype=torch.float64)
    ahead = torch.randn(2000, 6, 2, generator=generator, dtype=torch.float64)
    target = 2 * context[:, -1:, :1] - 3 * ahead[:, :, 1:] + 0.5
    ridge = Ridge(SHAPE).double()

    ridge.add(context, target, torch.ones(2000, 1, 1, dtype=torch.float64), ahead)
    ridge.solve()

    torch.testing.assert_close(forecast_with(ridge, context, ahead), target)
