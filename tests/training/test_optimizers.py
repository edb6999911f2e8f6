"""The direct step is the optimizer's own: the same weights, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tsbench.training.optimizers import DirectStep, make_optimizer
from tsbench.training.recipe import Recipe

CPU = torch.device("cpu")


def after(
    steps: int, update_of: Callable[[torch.optim.Optimizer], Callable[[], Any]], groups: int = 1, **recipe: Any
) -> list[torch.Tensor]:
    """Weights of a small network after some steps, the learning rate halved after each."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    rest = [{"params": list(network[2].parameters()), "lr": 0.1, "weight_decay": 0.0}] if groups == 2 else []
    members = list(network[0].parameters()) if groups == 2 else list(network.parameters())
    optimizer = make_optimizer(Recipe(**recipe), [{"params": members, "lr": 0.01}, *rest], CPU)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    update = update_of(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 5)).square().mean().backward()
        update()
        schedule.step()
    return [weight.detach() for weight in network.parameters()]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_the_weights_are_those_of_the_optimizers_own_step(optimizer: str, groups: int, steps: int):
    ours = after(steps, DirectStep, groups, optimizer=optimizer, weight_decay=0.1)
    own = after(steps, lambda optimizer: optimizer.step, groups, optimizer=optimizer, weight_decay=0.1)

    assert all(map(torch.equal, ours, own))


@pytest.mark.parametrize(("optimizer", "calls"), [("adamw", 1), ("adam", 1), ("sgd", 10)])
def test_an_adam_steps_once_and_its_kernel_from_then_on(optimizer: str, calls: int, monkeypatch: pytest.MonkeyPatch):
    weight = nn.Parameter(torch.ones(3))
    made = make_optimizer(Recipe(optimizer=optimizer), [{"params": [weight], "lr": 0.01}], CPU)
    counted, step = [], made.step
    monkeypatch.setattr(made, "step", lambda: (counted.append(1), step()))
    update = DirectStep(made)

    for _ in range(10):
        weight.grad = torch.ones(3)
        update()

    assert len(counted) == calls


def test_a_weight_without_a_gradient_is_left_alone_for_that_step():
    used, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    update = DirectStep(make_optimizer(Recipe(), [{"params": [used, other], "lr": 0.01}], CPU))

    def step(*, with_other: bool) -> tuple[list[float], list[float]]:
        used.grad = torch.ones(3)
        other.grad = torch.ones(3) if with_other else None
        before = used.detach().clone(), other.detach().clone()
        update()
        return (used - before[0]).tolist(), (other - before[1]).tolist()

    for with_other in (False, True, True, False, True):
        moved, other_moved = step(with_other=with_other)
        assert all(moved)
        assert all(other_moved) is with_other
