"""The recipe's optimizer, and its step at the price of its kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsbench.training.recipe import Recipe


def make_optimizer(recipe: Recipe, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """On a GPU with all that changes from step to step in tensors, so that a step can be captured."""
    common: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    capturable = device.type == "cuda"
    if capturable:
        groups = [{**group, "lr": torch.tensor(group["lr"], device=device)} for group in groups]
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, capturable=capturable, **common)
        case "adam":
            return torch.optim.Adam(groups, capturable=capturable, **common)
        case "sgd":
            return torch.optim.SGD(groups, momentum=0.9, nesterov=True, **common)


class DirectStep:
    """`optimizer.step()`, on a CPU without what is the same in every step.

    Before it calls Adam's fused kernel, PyTorch looks for the state of each weight and sorts all by device and type:
    60 µs, a fifth of a linear model's step. But they stay where they are. So the first step is the optimizer's own, and
    each further one calls the kernel; gradients, learning rate and the rest of a group are read anew.

    Where weights or their state are replaced, a new one has to be made.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._kernel = torch._fused_adamw_ if isinstance(optimizer, torch.optim.AdamW) else torch._fused_adam_
        self._applies = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) and all(
            weight.device.type == "cpu" for group in optimizer.param_groups for weight in group["params"]
        )
        self._states: list[list[list[Tensor]]] = []
        """Of each group the means, the mean squares and the steps of its weights; empty until all have them."""

    def __call__(self) -> None:
        groups = self.optimizer.param_groups
        gradients = [[weight.grad for weight in group["params"]] for group in groups]
        if not self._states or any(gradient is None for each in gradients for gradient in each):
            self.optimizer.step()
            self._states = self._found() if self._applies else []
            return
        for group, own_gradients, (means, squares, steps) in zip(groups, gradients, self._states, strict=True):
            torch._foreach_add_(steps, 1)
            self._kernel(
                group["params"],
                own_gradients,
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _found(self) -> list[list[list[Tensor]]]:
        groups, states = self.optimizer.param_groups, self.optimizer.state
        if not all(states[weight] for group in groups for weight in group["params"]):
            return []
        names = ("exp_avg", "exp_avg_sq", "step")
        return [[[states[weight][name] for weight in group["params"]] for name in names] for group in groups]
