"""How weights start."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from tsbench.models.choices import Init

_INITIALISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": nn.init.zeros_,
    "constant": lambda weight: nn.init.constant_(weight, 0.01),
    "normal": lambda weight: nn.init.normal_(weight, std=0.02),
    "uniform": lambda weight: nn.init.uniform_(weight, -0.05, 0.05),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


@torch.no_grad()
def initialise(model: nn.Module, init: Init) -> None:
    """Start every linear, convolutional, attention and recurrent weight anew, biases at zero.

    default leaves PyTorch's own. constant is 0.01, normal has standard deviation 0.02, uniform lies within 0.05; Xavier
    and Kaiming (gain of ReLU, fan in) as in Glorot and Bengio 2010 and He et al. 2015; orthogonal as in Saxe et al.
    2014. Matrices that PyTorch keeps in one tensor start one by one: gates, query, key and value, groups of channels.
    Norms, learned positions and learned queries keep their start.

    A module with a method `after_initialise` may then set what has a start of its own, such as a forget gate's bias.
    """
    if init == "default":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | _ConvNd | nn.RNNBase | nn.MultiheadAttention):
            _start_own(module, _INITIALISERS[init])
    for module in model.modules():
        after_initialise = getattr(module, "after_initialise", None)
        if after_initialise:
            after_initialise()


def _start_own(module: nn.Module, start: Callable[[Tensor], Tensor]) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if "bias" in name:
            parameter.zero_()
        else:
            parameter.copy_(_started(module, name, parameter, start))
    if is_parametrized(module, "weight"):
        _start_weight_norm(module, start)


def _start_weight_norm(module: nn.Module, start: Callable[[Tensor], Tensor]) -> None:
    """Its weight is no parameter but a product of two, length and direction."""
    weight = _started(module, "weight", cast(Tensor, module.weight), start)
    if weight.any():
        module.weight = weight
    else:  # Zero has no direction: the one there is stays, or the forecast would be 0 / 0.
        module.get_parameter("parametrizations.weight.original0").zero_()


def _started(module: nn.Module, name: str, weight: Tensor, start: Callable[[Tensor], Tensor]) -> Tensor:
    """A new weight of this shape, each of its matrices `[out, in, ...]` started by itself."""
    is_transposed = isinstance(module, _ConvNd) and module.transposed  # such a convolution keeps [in, out, ...]
    matrices = []
    for matrix in weight.chunk(_num_matrices(module, name)):
        if is_transposed:
            fresh = start(matrix.transpose(0, 1).clone(memory_format=torch.contiguous_format))
            matrices.append(fresh.transpose(0, 1))
        else:
            matrices.append(start(matrix.clone()))
    return torch.cat(matrices)


def _num_matrices(module: nn.Module, name: str) -> int:
    """How many matrices lie one above the other in a weight."""
    match module:
        case nn.RNNBase():
            return _GATES[module.mode]
        case nn.MultiheadAttention():
            return 3 if name == "in_proj_weight" else 1
        case _ConvNd():
            return module.groups
        case _:
            return 1
