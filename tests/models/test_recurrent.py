"""Recurrent networks against cells written out by hand from the papers' equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.recurrent import GRU, LSTM, RNN, Recurrent
from tsbench.models.registry import model_spec

State = tuple[Tensor, Tensor]
"""Output and cell, `[D]` each; only an LSTM uses the second."""

Cell = Callable[[Tensor, Tensor, State], State]


def rnn_cell(from_input: Tensor, from_state: Tensor, state: State) -> State:
    return torch.tanh(from_input + from_state), state[1]


def relu_cell(from_input: Tensor, from_state: Tensor, state: State) -> State:
    return torch.relu(from_input + from_state), state[1]


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


every_cell = pytest.mark.parametrize(("model_class", "cell"), CELLS)
one_and_two_layers = pytest.mark.parametrize("num_layers", [1, 2])


def build(model_class: type[Recurrent], shape: WindowShape, **arguments: Any) -> Recurrent:
    torch.manual_seed(0)
    return model_class(shape, hidden_size=5, **arguments).eval()


def one_step(model: Recurrent, cell: Cell, values_D: Tensor, state: State, place: str) -> State:
    """Of one layer in one direction: place is l0, l1, ... or l0_reverse."""
    weights = dict(model.recurrence.named_parameters())
    from_input = weights[f"weight_ih_{place}"] @ values_D
    from_state = weights[f"weight_hh_{place}"] @ state[0]
    if model.recurrence.bias:
        from_input = from_input + weights[f"bias_ih_{place}"]
        from_state = from_state + weights[f"bias_hh_{place}"]
    return cell(from_input, from_state, state)


def step_up(model: Recurrent, cell: Cell, values_D: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
    """One step through all layers: the uppermost output, and the new state of each layer."""
    new_states = []
    for layer, state in enumerate(states):
        new_states.append(one_step(model, cell, values_D, state, f"l{layer}"))
        values_D = new_states[-1][0]
    return values_D, new_states


def embedded(model: Recurrent, segment_P: Tensor) -> Tensor:
    if isinstance(model.embed, nn.Identity):  # single steps
        return segment_P
    return torch.relu(model.embed[0].weight @ segment_P + model.embed[0].bias)


def read(model: Recurrent, cell: Cell, segments_NP: Tensor) -> tuple[list[Tensor], list[State]]:
    """The uppermost output at every segment, and the last state of each layer."""
    states = [(torch.zeros(5), torch.zeros(5))] * model.recurrence.num_layers
    outputs = []
    for segment_P in segments_NP:
        output_D, states = step_up(model, cell, embedded(model, segment_P), states)
        outputs.append(output_D)
    return outputs, states


def read_both_ways(model: Recurrent, cell: Cell, segments_NP: Tensor) -> list[Tensor]:
    """The uppermost outputs of a bidirectional network: a layer reads both directions of the one below."""
    values = [embedded(model, segment_P) for segment_P in segments_NP]
    for layer in range(model.recurrence.num_layers):
        ahead, back = [], []
        state = other = torch.zeros(5), torch.zeros(5)
        for value, from_the_end in zip(values, reversed(values), strict=True):
            state = one_step(model, cell, value, state, f"l{layer}")
            other = one_step(model, cell, from_the_end, other, f"l{layer}_reverse")
            ahead.append(state[0])
            back.append(other[0])
        values = [torch.cat(pair) for pair in zip(ahead, reversed(back), strict=True)]
    return values


# The recurrence


@one_and_two_layers
@every_cell
@torch.no_grad()
def test_the_classic_form_reads_step_by_step_and_maps_the_last_output(
    model_class: type[Recurrent], cell: Cell, num_layers: int
):
    shape = WindowShape(7, 4, channels_in=2, channels_out=2)
    model = build(model_class, shape, num_layers=num_layers, segment_length=1, decoder="direct")
    context_BLC = torch.randn(3, 7, 2)
    assert model.recurrence.input_size == 2  # each row as it is

    expected = [model.decoder.linear(read(model, cell, window_LC)[0][-1]).view(4, 2) for window_LC in context_BLC]

    torch.testing.assert_close(model(context_BLC), torch.stack(expected))


@every_cell
@torch.no_grad()
def test_without_bias_the_recurrence_has_none_and_embedding_and_head_keep_theirs(
    model_class: type[Recurrent], cell: Cell
):
    model = build(model_class, WindowShape(6, 4), num_layers=2, segment_length=2, decoder="direct", bias=False)
    context_BLC = torch.randn(1, 6, 1)

    outputs, _ = read(model, cell, context_BLC.view(3, 2))

    biases = [name for name, _ in model.named_parameters() if "bias" in name]
    assert biases == ["embed.0.bias", "decoder.linear.bias"]
    torch.testing.assert_close(model(context_BLC).flatten(), model.decoder.linear(outputs[-1]))


@one_and_two_layers
@torch.no_grad()
def test_a_plain_network_can_have_relu_for_tanh(num_layers: int):
    arguments = {"num_layers": num_layers, "segment_length": 2, "decoder": "direct"}
    model = build(RNN, WindowShape(6, 4), nonlinearity="relu", **arguments)
    context_BLC = 5 * torch.randn(1, 6, 1)

    outputs, _ = read(model, relu_cell, context_BLC.view(3, 2))

    assert outputs[-1].max() > 1  # beyond tanh
    torch.testing.assert_close(model(context_BLC).flatten(), model.decoder.linear(outputs[-1]))


def test_dropout_lies_before_the_head():
    model = build(GRU, WindowShape(6, 4), decoder="direct", dropout=1.0).train()

    assert torch.equal(model(torch.randn(1, 6, 1)).flatten(), model.decoder.linear.bias)


def test_dropout_lies_between_layers():
    model = build(GRU, WindowShape(6, 4), num_layers=2, dropout=1.0).train()

    one, _ = model.read(torch.randn(1, 3, model.segments.width))
    other, _ = model.read(torch.randn(1, 3, model.segments.width))

    assert torch.equal(one, other)


def test_one_layer_has_no_dropout_in_its_recurrence():
    assert build(GRU, WindowShape(6, 4), num_layers=1, dropout=0.9).recurrence.dropout == 0


def test_a_network_has_the_keywords_of_its_family_and_its_own():
    common = set(model_spec("gru").arguments)

    assert {"hidden_size", "bidirectional", "readout"} < common
    assert set(model_spec("rnn").arguments) - common == {"nonlinearity"}
    assert set(model_spec("lstm").arguments) - common == {"forget_bias"}


# The forget gate


def biases_by_gate(model: Recurrent) -> Tensor:
    """What is added to each gate, `[layers and directions, gate, D]`, gates in the order input, forget, ..."""
    weights = dict(model.recurrence.named_parameters())
    places = [name.removeprefix("bias_ih_") for name in weights if name.startswith("bias_ih_")]
    return torch.stack([(weights[f"bias_ih_{p}"] + weights[f"bias_hh_{p}"]).view(4, -1) for p in places]).detach()


def test_the_forget_gate_starts_where_it_is_told_in_every_layer_and_direction_and_no_other_gate_does():
    shape, arguments = WindowShape(6, 4), {"num_layers": 2, "bidirectional": True, "decoder": "direct"}
    usual = biases_by_gate(build(LSTM, shape, **arguments))
    told = biases_by_gate(build(LSTM, shape, forget_bias=1.5, **arguments))

    assert len(told) == 4
    assert told[:, 1].eq(1.5).all()
    assert torch.equal(told[:, [0, 2, 3]], usual[:, [0, 2, 3]])


def test_the_forget_gate_starts_where_it_is_told_whatever_the_initialiser():
    spec = model_spec("lstm")
    settings = spec.resolve({"forget_bias": -2.0, "init": "orthogonal", "hidden_size": 5}, "test")

    biases = biases_by_gate(spec.build(WindowShape(6, 4), settings))

    assert biases[:, 1].eq(-2).all()
    assert biases[:, [0, 2, 3]].eq(0).all()


def test_an_open_forget_gate_remembers_the_first_step_longer():
    def influence_of_the_first_step(forget_bias: float) -> float:
        arguments = {"segment_length": 1, "decoder": "direct", "forget_bias": forget_bias}
        context = torch.ones(1, 30, 1, requires_grad=True)
        build(LSTM, WindowShape(30, 1), **arguments)(context).sum().backward()
        return context.grad[0, 0].abs().item()

    assert influence_of_the_first_step(4.0) > 1000 * influence_of_the_first_step(-1.0)


def test_a_forget_bias_needs_a_bias():
    with pytest.raises(ConfigError, match=r"forget_bias = 1\.0 needs a bias; set bias = true"):
        build(LSTM, WindowShape(6, 4), forget_bias=1.0, bias=False)


# What the direct decoder reads


def by_attention(outputs: list[Tensor], query_D: Tensor) -> Tensor:
    scores = [float(output_D @ query_D) / len(query_D) ** 0.5 for output_D in outputs]
    total = sum(torch.tensor(score).exp() for score in scores)
    return sum(torch.tensor(score).exp() / total * output_D for score, output_D in zip(scores, outputs, strict=True))


def readout_by_hand(model: Recurrent, readout: str, outputs: list[Tensor]) -> Tensor:
    match readout:
        case "last":
            return torch.cat([outputs[-1][:5], outputs[0][5:]])  # each direction where it has read everything
        case "mean":
            return sum(outputs) / len(outputs)
        case "attention":
            return by_attention(outputs, model.readout.query_D)
    return torch.cat(outputs)


@pytest.mark.parametrize("readout", ["last", "mean", "attention", "all"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both ways"])
@one_and_two_layers
@every_cell
@torch.no_grad()
def test_the_direct_decoder_reads_the_outputs_as_told(
    model_class: type[Recurrent], cell: Cell, num_layers: int, bidirectional: bool, readout: str
):
    arguments = {"num_layers": num_layers, "bidirectional": bidirectional, "readout": readout}
    model = build(model_class, WindowShape(6, 4), segment_length=2, decoder="direct", **arguments)
    context_BLC = torch.randn(1, 6, 1)

    segments_NP = context_BLC.view(3, 2)
    outputs = read_both_ways(model, cell, segments_NP) if bidirectional else read(model, cell, segments_NP)[0]

    expected = model.decoder.linear(readout_by_hand(model, readout, outputs))
    torch.testing.assert_close(model(context_BLC).flatten(), expected)


def test_attention_is_learned():
    model = build(GRU, WindowShape(6, 4), segment_length=2, decoder="direct", readout="attention")

    model(torch.randn(8, 6, 1)).sum().backward()

    assert model.readout.query_D.grad.abs().sum() > 0


# Decoders that step forward in time


@one_and_two_layers
@every_cell
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
        _, states = read(model, cell, window_LC.reshape(2, 6))
        decoded = [step_up(model, cell, position_D, states)[0] for position_D in model.decoder.position_ND]
        rows = torch.cat([model.decoder.linear(output_D).view(3, 2) for output_D in decoded])
        expected.append(rows[:8])

    assert model.decoder.position_ND.shape == (3, 5)
    torch.testing.assert_close(model(context_BLC), torch.stack(expected))


@pytest.mark.parametrize("length", [1, 3], ids=["single steps", "segments"])
@one_and_two_layers
@every_cell
@torch.no_grad()
def test_the_rolled_decoder_reads_its_own_forecast(
    model_class: type[Recurrent], cell: Cell, num_layers: int, length: int
):
    shape = WindowShape(6, 8, channels_in=2, channels_out=2)  # segments of 3: the ninth row is cut off
    model = build(model_class, shape, num_layers=num_layers, segment_length=length, decoder="rolled")
    context_BLC = torch.randn(4, 6, 2)

    expected = []
    for window_LC in context_BLC:
        outputs, states = read(model, cell, window_LC.reshape(-1, 2 * length))
        rows = [model.decoder.linear(outputs[-1])]
        while length * len(rows) < 8:
            output_D, states = step_up(model, cell, embedded(model, rows[-1]), states)
            rows.append(model.decoder.linear(output_D))
        expected.append(torch.cat(rows).view(-1, 2)[:8])

    torch.testing.assert_close(model(context_BLC), torch.stack(expected))


@torch.no_grad()
def test_the_rolled_decoder_forecasts_the_same_first_steps_whatever_the_horizon():
    near, far = (build(GRU, WindowShape(6, h), segment_length=2, decoder="rolled") for h in (3, 11))
    context_BLC = torch.randn(2, 6, 1)

    torch.testing.assert_close(far(context_BLC)[:, :3], near(context_BLC))


def test_the_rolled_decoder_needs_to_forecast_all_that_it_reads():
    with pytest.raises(
        ConfigError, match=r"'rolled' reads its own forecast.* out \(1\) as in \(2, covariates among them\)"
    ):
        build(RNN, WindowShape(6, 4, channels_in=2, channels_out=1), decoder="rolled")


@pytest.mark.parametrize("decoder", ["parallel", "rolled"])
def test_a_decoder_that_steps_forward_refuses_what_it_cannot_use(decoder: str):
    with pytest.raises(ConfigError, match=f"'{decoder}' steps forward in time; use decoder = 'direct'"):
        build(GRU, WindowShape(6, 4), decoder=decoder, bidirectional=True)
    with pytest.raises(ConfigError, match=f"'{decoder}' starts from the last state; .* with readout = 'mean'"):
        build(GRU, WindowShape(6, 4), decoder=decoder, readout="mean")
