"""RNN and GRU over many short steps on a CPU: PyTorch's forward pass, with a backward pass that costs less.

PyTorch records every operation of every step and walks back through them one by one. Here all derivatives of the
gates are taken before the walk, several steps at once, which leaves three operations for a step of a GRU and two for
one of an RNN (benchmarks/README.md has what that gains). The fused LSTM of PyTorch leaves nothing to win.

Letters beside those of the project: N steps, G the gates' width (RNN: D, GRU: 3D in PyTorch's order reset, update,
candidate).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BLOCK_VALUES = 2**15
"""States whose derivatives are taken at once: enough to be worth a call, few enough for the cache."""


class _Stepwise(nn.RNNBase):
    """A recurrence that takes its own steps where that pays and gives what PyTorch's gives, up to rounding."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`[B, N, D]`, or with batch_first = False `[N, B, D]`, and states `[layers, B, D]`, as in PyTorch."""
        if not self._pays(input):
            return super().forward(input, hx)
        values_NBD = input.transpose(0, 1) if self.batch_first else input
        directions = 2 if self.bidirectional else 1
        ends = []
        for level in range(self.num_layers):
            if level:
                values_NBD = F.dropout(values_NBD, self.dropout, self.training)
            outputs = []
            for direction in range(directions):
                place = level * directions + direction
                start_BD = values_NBD.new_zeros(values_NBD.shape[1], self.hidden_size) if hx is None else hx[place]
                state_NBD = self._run(
                    values_NBD.flip(0) if direction else values_NBD, start_BD, self.all_weights[place]
                )
                ends.append(state_NBD[-1])
                outputs.append(state_NBD.flip(0) if direction else state_NBD)
            values_NBD = torch.cat(outputs, 2) if directions == 2 else outputs[0]
        return values_NBD.transpose(0, 1) if self.batch_first else values_NBD, torch.stack(ends)

    def _pays(self, values: Tensor) -> bool:
        """Nothing is gained without gradients, and on a GPU the library's kernel takes all steps at once."""
        is_plain = values.device.type == "cpu" and values.dim() == 3 and not torch.is_autocast_enabled("cpu")
        return is_plain and torch.is_grad_enabled()

    def _run(self, values_NBD: Tensor, start_BD: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """States after every step of one layer in one direction, `[N, B, D]`."""
        raise NotImplementedError


class StepwiseRNN(_Stepwise, nn.RNN):  # type: ignore[misc]
    """`nn.RNN`, faster over many short steps on a CPU: same parameters, same function."""

    def _run(self, values_NBD: Tensor, start_BD: Tensor, weights: Sequence[Tensor]) -> Tensor:
        from_input_GD, from_state_GD, *biases = weights
        gates_NBG = F.linear(values_NBD, from_input_GD, biases[0] + biases[1] if biases else None)
        return _RNNSteps.apply(gates_NBG, start_BD, from_state_GD, self.nonlinearity == "relu")


class StepwiseGRU(_Stepwise, nn.GRU):  # type: ignore[misc]
    """`nn.GRU`, faster over many short steps on a CPU: same parameters, same function."""

    def _run(self, values_NBD: Tensor, start_BD: Tensor, weights: Sequence[Tensor]) -> Tensor:
        from_input_GD, from_state_GD, *biases = weights
        added_G, candidate_D = None, from_state_GD.new_zeros(self.hidden_size)
        if biases:
            # The candidate's share of the second bias is multiplied by a gate; all the rest is added once for all.
            reset_and_update_G, candidate_D = biases[1].split([2 * self.hidden_size, self.hidden_size])
            added_G = biases[0] + F.pad(reset_and_update_G, (0, self.hidden_size))
        gates_NBG = F.linear(values_NBD, from_input_GD, added_G)
        return _GRUSteps.apply(gates_NBG, start_BD, from_state_GD, candidate_D)


class _RNNSteps(Function):
    """state = f(gate + W state), and its gradients."""

    @staticmethod
    def forward(ctx: Any, gates_NBD: Tensor, start_BD: Tensor, from_state_DD: Tensor, is_relu: bool) -> Tensor:
        states = gates_NBD.new_empty(len(gates_NBD) + 1, *start_BD.shape)
        states[0] = start_BD
        place = states.unbind(0)
        for step, gate_BD in enumerate(gates_NBD.unbind(0)):
            torch.addmm(gate_BD, place[step], from_state_DD.T, out=place[step + 1])
            place[step + 1].relu_() if is_relu else place[step + 1].tanh_()
        ctx.save_for_backward(states, from_state_DD)
        ctx.is_relu = is_relu
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NBD: Tensor) -> tuple[Tensor | None, ...]:
        states, from_state_DD = ctx.saved_tensors
        after_NBD = states[1:]
        slope_NBD = (after_NBD > 0).to(states.dtype) if ctx.is_relu else after_NBD.square().neg_().add_(1)
        grads, slopes = grad_NBD.unbind(0), slope_NBD.unbind(0)  # a slope becomes the gradient of its gate
        grad_BD = grads[-1]
        for step in reversed(range(len(grads))):
            slopes[step].mul_(grad_BD)
            if step:
                grad_BD = torch.addmm(grads[step - 1], slopes[step], from_state_DD)
        grad_start_BD = slopes[0] @ from_state_DD
        grad_weight_DD = slope_NBD.flatten(0, 1).T @ states[:-1].flatten(0, 1)
        return slope_NBD, grad_start_BD, grad_weight_DD, None


class _GRUSteps(Function):
    """Cho et al. 2014 as PyTorch computes it, and its gradients.

    reset, update = sigmoid(gates + W state); new = tanh(gate + reset * h) with h = W state + b;
    state = (1 - update) * new + update * state.
    """

    @staticmethod
    def forward(ctx: Any, gates_NBG: Tensor, start_BD: Tensor, from_state_GD: Tensor, candidate_D: Tensor) -> Tensor:
        count, (rows, width) = len(gates_NBG), start_BD.shape
        two_DE, one_DD = from_state_GD.T.split([2 * width, width], 1)
        states = gates_NBG.new_empty(count + 1, rows, width)
        states[0] = start_BD
        both_NBE, seen_NBD, new_NBD = (gates_NBG.new_empty(count, rows, size) for size in (2 * width, width, width))
        inputs_NBE, input_NBD = gates_NBG.split([2 * width, width], 2)
        place = states.unbind(0)
        parts = (inputs_NBE, input_NBD, both_NBE, both_NBE[..., :width], both_NBE[..., width:], seen_NBD, new_NBD)
        for step, (inputs, value, both, reset, update, seen, new) in enumerate(
            zip(*(part.unbind(0) for part in parts), strict=True)
        ):
            state = place[step]
            torch.addmm(inputs, state, two_DE, out=both).sigmoid_()
            torch.addmm(candidate_D, state, one_DD, out=seen)
            torch.addcmul(value, reset, seen, out=new).tanh_()
            torch.lerp(new, state, update, out=place[step + 1])
        ctx.save_for_backward(states, both_NBE, seen_NBD, new_NBD, from_state_GD)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NBD: Tensor) -> tuple[Tensor, ...]:
        states, both_NBE, seen_NBD, new_NBD, from_state_GD = ctx.saved_tensors
        count, rows, width = new_NBD.shape
        reset_NBD, update_NBD = both_NBE.split(width, 2)
        # Four parts side by side, so that the gates of the state (candidate, reset, update) and those of the input
        # (reset, update, candidate) are both one matrix: the candidate's two differ by the reset gate.
        grads_NBFD = new_NBD.new_empty(count, rows, 4, width)
        by_state_NBG, by_input_NBG = grads_NBFD[:, :, :3].flatten(2), grads_NBFD[:, :, 1:].flatten(2)
        weight_GD = from_state_GD.roll(width, 0)  # candidate first
        grads, parts, products = grad_NBD.unbind(0), grads_NBFD.unbind(0), by_state_NBG.unbind(0)
        updates = update_NBD.unbind(0)
        grad_BD = grads[-1]
        for block in _blocks(count, rows * width):
            _gate_slopes(
                states[block], reset_NBD[block], update_NBD[block], seen_NBD[block], new_NBD[block], grads_NBFD[block]
            )
            for step in reversed(range(block.start, block.stop)):
                parts[step].mul_(grad_BD.unsqueeze(1))
                through_BD = grad_BD * updates[step]
                if step:
                    through_BD += grads[step - 1]
                grad_BD = through_BD.addmm_(products[step], weight_GD)
        flat_MG = by_state_NBG.flatten(0, 1)
        grad_weight_GD = (flat_MG.T @ states[:-1].flatten(0, 1)).roll(-width, 0)
        return by_input_NBG, grad_BD, grad_weight_GD, flat_MG[:, :width].sum(0)


def _blocks(count: int, values: int) -> Iterator[slice]:
    """Slices of steps, the last first, of so many values each that a block has about `_BLOCK_VALUES`."""
    steps = max(1, _BLOCK_VALUES // values)
    for last in range(count, 0, -steps):
        yield slice(max(0, last - steps), last)


def _gate_slopes(
    before_NBD: Tensor, reset_NBD: Tensor, update_NBD: Tensor, seen_NBD: Tensor, new_NBD: Tensor, slope_NBFD: Tensor
) -> None:
    """What a change of each gate changes the state by: candidate (of the state), reset, update, candidate (of the
    input), written to `slope_NBFD`."""
    by_state_NBD, by_reset_NBD, by_update_NBD, by_input_NBD = slope_NBFD.unbind(2)
    kept_NBD = 1 - update_NBD
    torch.addcmul(kept_NBD, kept_NBD, new_NBD.square(), value=-1, out=by_input_NBD)  # (1 - update) (1 - new^2)
    torch.mul(by_input_NBD, reset_NBD, out=by_state_NBD)
    torch.mul(by_state_NBD, seen_NBD, out=by_reset_NBD).mul_(1 - reset_NBD)
    torch.sub(before_NBD, new_NBD, out=by_update_NBD).mul_(update_NBD).mul_(kept_NBD)
