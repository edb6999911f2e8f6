"""One network for several seeds: every weight `[S, ...]`, all copies computed in one pass.

`vmap` does that for nearly every layer. What it does not, because a fused kernel computes it or because it draws random
numbers, is written here: recurrences and dropout. Dropout draws for each seed what its own run
would draw on a CPU. Anything else that draws is refused by `vmap` itself, with an error that says so.

Letters beside those of the project: S seeds, G width of all gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call, vmap

from tsbench.models.attention import Attention, RotaryAttention
from tsbench.models.dropout import Dropout, fill_with_noise

Fill = Callable[[Tensor, float, torch.Generator], None]


def _fill_with_ones(noise: Tensor, rate: float, generator: torch.Generator) -> None:
    """And with zeros at this rate."""
    noise.bernoulli_(1 - rate, generator=generator)


class Stacked:
    """A module whose weights and buffers are given in each call, stacked by seed.

    generators: of what each seed draws, on the device.
    """

    def __init__(self, module: nn.Module, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)
        self._module = deepcopy(module).train()
        for layer in self._module.modules():
            self._replace(layer)
        self._call = vmap(partial(functional_call, self._module), randomness="error")

    def __call__(self, tensors: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        """tensors: weights and buffers by name, `[S, ...]`; buffers are updated in place. inputs: `[S, B, ...]`."""
        return self._call(tensors, inputs)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places only."""
        self.generators = [self.generators[place] for place in places]

    def _replace(self, layer: nn.Module) -> None:
        forward: Callable[..., Any]
        match layer:
            case Dropout():
                forward = partial(_drop, layer, partial(self.noise, fill=fill_with_noise))
            case nn.Dropout():
                forward = partial(_drop, layer, self.scaled_noise)
            case nn.Dropout1d():
                forward = partial(_drop_channels, layer, self.scaled_noise)
            case nn.AlphaDropout():
                forward = partial(_drop_alpha, layer, self.noise)
            case nn.RNNBase() if layer.proj_size == 0:
                forward = partial(_recur, layer, self.scaled_noise)
            case Attention() | RotaryAttention():
                layer.written_out = True  # what is dropped is drawn here
                return
            case _:
                return
        layer.forward = forward  # type: ignore[method-assign]

    def noise(self, like: Tensor, rate: float, fill: Fill = _fill_with_ones) -> Tensor:
        """One where a value stays and zero where it is dropped, in the shape of one seed's tensor.

        Drawn in the order of the tensor's memory, as torch does.
        """
        order = sorted(range(like.dim()), key=like.stride, reverse=True)
        drawn = _outside(partial(self._draw, fill, rate), like.permute(order))
        return drawn.permute([order.index(axis) for axis in range(like.dim())])

    def scaled_noise(self, like: Tensor, rate: float) -> Tensor:
        """The same with a mean of one."""
        return self.noise(like, rate).div(1 - rate)

    def _draw(self, fill: Fill, rate: float, like: Tensor) -> Tensor:
        noise = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        for row, generator in zip(noise, self.generators, strict=True):
            fill(row, rate, generator)
        return noise


Noise = Callable[[Tensor, float], Tensor]
"""For a tensor and the rate at which its values are dropped: what they are multiplied by."""


class _Outside(Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(call: Callable[..., Any], *tensors: Tensor) -> Any:
        raise AssertionError("only for use inside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], call: Callable[..., Any], *tensors: Tensor) -> Any:
        stacked = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        output = call(*stacked)
        return output, (0,) * len(output) if isinstance(output, tuple) else 0


def _outside(call: Callable[..., Any], *tensors: Tensor) -> Any:
    """Inside vmap, call something with the stacked tensors themselves, `[S, ...]`."""
    return _Outside.apply(call, *tensors)


def _drop(layer: nn.Dropout, noise: Noise, values: Tensor) -> Tensor:
    if layer.p == 0 or not layer.training:
        return values
    return values * noise(values, layer.p)


def _drop_channels(layer: nn.Dropout1d, noise: Noise, values_BDN: Tensor) -> Tensor:
    if layer.p == 0 or not layer.training:
        return values_BDN
    return values_BDN * noise(values_BDN[:, :, :1].contiguous(), layer.p)


def _drop_alpha(layer: nn.AlphaDropout, noise: Noise, values: Tensor) -> Tensor:
    """Klambauer et al. 2017: dropped values become the negative limit of SELU, then mean and variance are restored."""
    if layer.p == 0 or not layer.training:
        return values
    alpha = 1.7580993408473766
    scale = 1 / math.sqrt((alpha**2 * layer.p + 1) * (1 - layer.p))
    kept = noise(values, layer.p)
    return values * (kept * scale) + ((kept - 1) * alpha * scale + alpha * scale * layer.p)


def _recur(
    layer: nn.RNNBase, noise: Noise, values: Tensor, start: Tensor | tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """`nn.RNN`, `nn.LSTM` and `nn.GRU`, step by step: vmap has no rule for their fused kernels."""
    values_NBD = values.transpose(0, 1) if layer.batch_first else values
    directions = 2 if layer.bidirectional else 1
    if start is None:
        zeros = values.new_zeros(layer.num_layers * directions, values_NBD.shape[1], layer.hidden_size)
        start = (zeros, zeros) if layer.mode == "LSTM" else zeros
    starts = start if isinstance(start, tuple) else (start,)
    ends = []
    for level, weights in enumerate(_in_levels(layer.all_weights, directions)):
        if level > 0 and layer.dropout and layer.training:
            values_NBD = values_NBD * noise(values_NBD, layer.dropout)
        outputs = []
        for direction, own in enumerate(weights):
            place = level * directions + direction
            states = [state[place] for state in starts]
            run = partial(_run, layer.mode, len(states), direction == 1)
            output_NBD, *last = _outside(run, values_NBD, *states, *own)
            outputs.append(output_NBD)
            ends.append(last)
        values_NBD = torch.cat(outputs, 2)
    last_states = tuple(torch.stack(states) for states in zip(*ends, strict=True))
    output = values_NBD.transpose(0, 1) if layer.batch_first else values_NBD
    return output, last_states if layer.mode == "LSTM" else last_states[0]


def _in_levels(weights: Sequence[list[Any]], directions: int) -> list[Sequence[list[Tensor]]]:
    return [weights[first : first + directions] for first in range(0, len(weights), directions)]


def _run(mode: str, num_states: int, backwards: bool, values_SNBD: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """One direction of one level for all seeds: outputs `[S, N, B, D]`, then the last states `[S, B, D]`."""
    states, (input_SGD, state_SGD, *biases) = tensors[:num_states], tensors[num_states:]
    input_SG, state_SG = biases or (input_SGD.new_zeros(input_SGD.shape[:2]),) * 2
    hidden_size = state_SGD.shape[2]
    # In a GRU the candidate's share of the second bias is multiplied by a gate; all the rest is added once for all.
    added_SG = state_SG.clone()
    if mode == "GRU":
        added_SG[:, 2 * hidden_size :] = 0
    gates_SMG = torch.baddbmm((input_SG + added_SG).unsqueeze(1), values_SNBD.flatten(1, 2), input_SGD.mT)
    # Unbound once, because the gradient of a slice is a tensor of zeros as large as the whole.
    gates = gates_SMG.unflatten(1, values_SNBD.shape[1:3]).unbind(1)
    step = _STEPS[mode](state_SGD.mT, state_SG.unsqueeze(1))
    outputs = []
    for gates_SBG in reversed(gates) if backwards else gates:
        states = step(gates_SBG, *states)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backwards else outputs, 1), *states


Step = Callable[..., tuple[Tensor, ...]]


def _rnn_step(nonlinearity: Callable[[Tensor], Tensor], weight_SDG: Tensor, bias_S1G: Tensor) -> Step:
    def step(gates_SBG: Tensor, hidden_SBD: Tensor) -> tuple[Tensor]:
        return (nonlinearity(torch.baddbmm(gates_SBG, hidden_SBD, weight_SDG)),)

    return step


def _gru_step(weight_SDG: Tensor, bias_S1G: Tensor) -> Step:
    size = weight_SDG.shape[1]
    gate_SDG, candidate_SDD = weight_SDG.split([2 * size, size], 2)
    bias_S1D = bias_S1G[:, :, 2 * size :]

    def step(gates_SBG: Tensor, hidden_SBD: Tensor) -> tuple[Tensor]:
        both_SBG, candidate_SBD = gates_SBG.split([2 * size, size], 2)
        reset_SBD, update_SBD = torch.baddbmm(both_SBG, hidden_SBD, gate_SDG).sigmoid().chunk(2, 2)
        recalled_SBD = torch.baddbmm(bias_S1D, hidden_SBD, candidate_SDD)
        return (torch.lerp(torch.addcmul(candidate_SBD, reset_SBD, recalled_SBD).tanh(), hidden_SBD, update_SBD),)

    return step


def _lstm_step(weight_SDG: Tensor, bias_S1G: Tensor) -> Step:
    def step(gates_SBG: Tensor, hidden_SBD: Tensor, cell_SBD: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.baddbmm(gates_SBG, hidden_SBD, weight_SDG).chunk(4, 2)
        enter, forget, candidate, leave = gates[0].sigmoid(), gates[1].sigmoid(), gates[2].tanh(), gates[3].sigmoid()
        cell_SBD = torch.addcmul(enter * candidate, forget, cell_SBD)
        return leave * cell_SBD.tanh(), cell_SBD

    return step


_STEPS: dict[str, Callable[[Tensor, Tensor], Step]] = {
    "RNN_TANH": partial(_rnn_step, torch.tanh),
    "RNN_RELU": partial(_rnn_step, torch.relu),
    "GRU": _gru_step,
    "LSTM": _lstm_step,
}
