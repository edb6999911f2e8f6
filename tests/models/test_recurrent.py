"""Recurrent networks against cells written out by hand from the papers' equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tsbench.data.windows import WindowShape
from tsbench.models.recurrent import GRU, LSTM, RNN, Recurrent

State = tuple[Tensor, Tensor]
"""Output and cell, `[D]` each; only an LSTM uses the second."""

Cell = Callable[[Tensor, Tensor, State], State]


def rnn_cell(from_input: Tensor, from_state: Tensor, state: State) -> State:
    return torch.tanh(from_input + from_state), state[1]


def lstm_cell(from_input: Tensor, from_state: Tensor, state: State) -> State:
    input_gate, forget_gate, candidate, output_gate = (from_input + from_state).chunk(4)
    cell = torch.sigmoid(forget_gate) * state[1] + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(cell), cell


def gru_cell(from_input: Tensor, from_state: Tensor, state: State) -> State:
    reset_input, update_input, new_input = from_input.chunk(3)
    reset_state, update_state, new_state = from_state.chunk(3)
    reset, update = torch.sigmoid(reset_input + reset_state), torch.sigmoid(update_input + update_state)
    new = torch.tanh(new_input + reset * new_state)
    return (1 - update) * new + update * state[0], state[1]


CELLS = [
    pytest.param(RNN, rnn_cell, id="rnn"),
    pytest.param(LSTM, lstm_cell, id="lstm"),
    pytest.param(GRU, gru_cell, id="gru"),
]


def one_step(model: Recurrent, cell: Cell, values_D: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
    """Through all layers: the uppermost output, and the new state of each layer."""
    new_states = []
    for layer, state in enumerate(states):
        weights = {
            name: getattr(model.recurrence, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        from_input = weights["weight_ih"] @ values_D + weights["bias_ih"]
        from_state = weights["weight_hh"] @ state[0] + weights["bias_hh"]
        new_states.append(cell(from_input, from_state, state))
        values_D = new_states[-1][0]
    return values_D, new_states


def read(model: Recurrent, cell: Cell, segments_NP: Tensor, num_layers: int) -> tuple[list[Tensor], list[State]]:
    """The output at every segment, and the last states."""
    states = [(torch.zeros(5), torch.zeros(5))] * num_layers
    outputs = []
    for segment_P in segments_NP:
        output, states = one_step(model, cell, torch.relu(model.embed[0](segment_P)), states)
        outputs.append(output)
    return outputs, states


def build(model_class: type[Recurrent], shape: WindowShape, **arguments: Any) -> Recurrent:
    torch.manual_seed(0)
    return model_class(shape, hidden_size=5, **arguments).eval()


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("model_class", "cell"), CELLS)
@torch.no_grad()
def test_the_classic_form_reads_step_by_step_and_maps_the_last_output(
    model_class: type[Recurrent], cell: Cell, num_layers: int
):
    shape = WindowShape(7, 4, channels_in=2, channels_out=2)
    model = build(model_class, shape, num_layers=num_layers, segment_length=1, decoder="direct")
    context_BLC = torch.randn(3, 7, 2)

    expected = [
        model.decoder.linear(read(model, cell, window_LC, num_layers)[0][-1]).view(4, 2) for window_LC in context_BLC
    ]

    torch.testing.assert_close(model(context_BLC), torch.stack(expected))


@torch.no_grad()
def test_the_direct_decoder_can_read_the_outputs_of_all_segments():
    model = build(GRU, WindowShape(6, 4), segment_length=2, decoder="direct", readout="all")
    context_BLC = torch.randn(1, 6, 1)

    outputs, _ = read(model, gru_cell, context_BLC.view(3, 2), num_layers=1)

    expected = model.decoder.linear(torch.cat(outputs)).view(1, 4, 1)
    torch.testing.assert_close(model(context_BLC), expected)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("model_class", "cell"), CELLS)
@torch.no_grad()
def test_the_parallel_decoder_takes_one_step_per_segment_of_the_horizon_from_the_last_state(
    model_class: type[Recurrent], cell: Cell, num_layers: int
):
    # Segments of 3: two in the context, three in a horizon of 8, whose last row is cut off.
    shape = WindowShape(6, 8, channels_in=2, channels_out=2)
    model = build(model_class, shape, num_layers=num_layers, segment_length=3)
    context_BLC = torch.randn(4, 6, 2)

    expected = []
    for window_LC in context_BLC:
        _, states = read(model, cell, window_LC.reshape(2, 6), num_layers)
        decoded = [one_step(model, cell, position_D, states)[0] for position_D in model.decoder.position_ND]
        rows = torch.cat([model.decoder.linear(output_D).view(3, 2) for output_D in decoded])
        expected.append(rows[:8])

    assert model.decoder.position_ND.shape == (3, 5)
    torch.testing.assert_close(model(context_BLC), torch.stack(expected))
