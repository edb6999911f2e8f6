"""Recurrences that take their own steps, against PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.models import steps
from tsbench.models.recurrent import GRU, LSTM, RNN
from tsbench.models.steps import StepwiseGRU, StepwiseRNN

PAIRS = [
    pytest.param(StepwiseRNN, nn.RNN, {}, id="rnn"),
    pytest.param(StepwiseRNN, nn.RNN, {"nonlinearity": "relu"}, id="rnn, relu"),
    pytest.param(StepwiseGRU, nn.GRU, {}, id="gru"),
]
SETTINGS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "no bias": {"bias": False},
    "time first": {"batch_first": False},
    "two layers both ways": {"num_layers": 2, "bidirectional": True},
    "dropout between layers": {"num_layers": 3, "dropout": 0.4},
}

every_pair = pytest.mark.parametrize(("stepwise_class", "torch_class", "options"), PAIRS)


def both(stepwise_class: Any, torch_class: Any, **options: Any) -> tuple[nn.RNNBase, nn.RNNBase]:
    """A recurrence of ours and one of PyTorch's with the same weights, in double precision."""
    options = {"batch_first": True} | options
    ours, torchs = (kind(3, 5, dtype=torch.float64, **options) for kind in (stepwise_class, torch_class))
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def all_of(recurrence: nn.RNNBase, values: Tensor, start: Tensor | None) -> list[Tensor]:
    """Outputs, last states, and the gradients of input, start and every weight, of a sum that weighs all of them."""
    values = values.clone().requires_grad_()
    inputs = [values, *recurrence.parameters()]
    if start is not None:
        inputs.append(start := start.clone().requires_grad_())
    torch.manual_seed(1)  # of dropout
    output, state = recurrence(values, start)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    loss = (output * weight).sum() + state.sin().sum()
    return [output, state, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("with_start", [False, True])
@every_pair
def test_outputs_states_and_gradients_are_those_of_pytorch(
    stepwise_class: Any, torch_class: Any, options: dict[str, Any], with_start: bool, setting: str
):
    ours, torchs = both(stepwise_class, torch_class, **options, **SETTINGS[setting])
    values = torch.randn(4, 9, 3, dtype=torch.float64)
    rows = values.shape[0 if ours.batch_first else 1]
    places = ours.num_layers * (2 if ours.bidirectional else 1)
    start = torch.randn(places, rows, 5, dtype=torch.float64) if with_start else None

    torch.testing.assert_close(all_of(ours, values, start), all_of(torchs, values, start))


@pytest.mark.parametrize("block", [1, 45, 60, 10**6])
def test_gradients_do_not_depend_on_how_many_steps_are_a_block(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_BLOCK_VALUES", block)  # 20 states a step: blocks of 1, 2, 3 and all 7 steps
    ours, torchs = both(StepwiseGRU, nn.GRU)
    values = torch.randn(4, 7, 3, dtype=torch.float64)

    torch.testing.assert_close(all_of(ours, values, None), all_of(torchs, values, None))


@every_pair
def test_one_step_is_enough(stepwise_class: Any, torch_class: Any, options: dict[str, Any]):
    ours, torchs = both(stepwise_class, torch_class, **options)
    values = torch.randn(2, 1, 3, dtype=torch.float64)

    torch.testing.assert_close(all_of(ours, values, None), all_of(torchs, values, None))


@every_pair
def test_without_gradients_pytorch_computes(stepwise_class: Any, torch_class: Any, options: dict[str, Any]):
    ours, torchs = both(stepwise_class, torch_class, **options)
    values = torch.randn(4, 9, 3, dtype=torch.float64)

    with torch.no_grad():
        assert torch.equal(ours(values)[0], torchs(values)[0])


@every_pair
def test_a_lower_precision_of_the_recipe_is_kept(stepwise_class: Any, torch_class: Any, options: dict[str, Any]):
    ours, torchs = both(stepwise_class, torch_class, **options)
    values = torch.randn(4, 9, 3)

    with torch.autocast("cpu", torch.bfloat16):
        outputs = [recurrence.float()(values)[0] for recurrence in (ours, torchs)]

    assert torch.equal(*outputs)


def test_a_gradient_of_a_gradient_is_refused_not_wrong():
    ours, _ = both(StepwiseGRU, nn.GRU)
    values = torch.randn(4, 9, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(ours(values)[0].square().sum(), values, create_graph=True)

    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(("model_class", "stepwise_class"), [(RNN, StepwiseRNN), (GRU, StepwiseGRU), (LSTM, nn.LSTM)])
def test_single_steps_are_taken_so_and_segments_as_pytorch_takes_them(model_class: Any, stepwise_class: Any):
    shape = WindowShape(12, 4)

    assert type(model_class(shape, segment_length=1).recurrence) is stepwise_class
    assert type(model_class(shape, segment_length=3).recurrence) in (nn.RNN, nn.GRU, nn.LSTM)
