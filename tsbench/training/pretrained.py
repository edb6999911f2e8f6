"""Starting from the weights of another forecaster, and leaving some of them as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from tsbench.errors import ConfigError


@dataclass(frozen=True)
class Transfer:
    """What became of the tensors of a saved forecaster, and of those that found nothing there."""

    taken: tuple[str, ...]
    """Same name and shape: copied."""
    mismatched: tuple[str, ...]
    """Same name, other shape, such as `head.weight (96x128 there, 24x128 here)`: started anew."""
    skipped: tuple[str, ...]
    """In the file only."""
    new: tuple[str, ...]
    """In the model only: started anew."""

    def __str__(self) -> str:
        parts = [f"{len(self.taken)} tensors taken"]
        for words, names in (
            ("mismatched, started anew", self.mismatched),
            ("in the file only, skipped", self.skipped),
            ("in the model only, started anew", self.new),
        ):
            if names:
                parts.append(f"{len(names)} {words}: {', '.join(names)}")
        return "; ".join(parts)


@torch.no_grad()
def take_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> Transfer:
    """Copy every tensor that fits, parameters and buffers, into a model; the others stay as they are.

    Raises ConfigError when none fits.
    """
    own = model.state_dict()
    both = [name for name in own if name in weights]
    fitting = tuple(name for name in both if own[name].shape == weights[name].shape)
    transfer = Transfer(
        taken=fitting,
        mismatched=tuple(
            f"{name} ({_shape(weights[name])} there, {_shape(own[name])} here)" for name in both if name not in fitting
        ),
        skipped=tuple(name for name in weights if name not in own),
        new=tuple(name for name in own if name not in weights),
    )
    if not fitting:
        raise ConfigError(f"pretrained = {source!r}: no tensor fits this model ({transfer}); save one of the same kind")
    for name in fitting:
        own[name].copy_(weights[name])
    return transfer


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Leave the weights with these names out of the training. Raises ConfigError for a pattern that names none."""
    for pattern in patterns:
        for parameter in named(model, pattern, "freeze").values():
            parameter.requires_grad_(False)


def named(model: nn.Module, pattern: str, where: str) -> dict[str, nn.Parameter]:
    """The weights whose name fits a pattern such as `embed.*`. Raises ConfigError where there is none."""
    parameters = dict(model.named_parameters())
    found = {name: parameter for name, parameter in parameters.items() if fnmatchcase(name, pattern)}
    if not found:
        raise ConfigError(f"{where}: no weight is called {pattern!r}; there are {', '.join(parameters)}")
    return found


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
