"""Looking inside: activations and gradients by layer, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsbench.errors import ConfigError
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster


def built(model: str, **arguments: object) -> Forecaster:
    return Forecaster(model, context_length=24, horizon=6, channels=2, seasonality=24, **arguments).build(seed=0)


def windows(count: int = 3) -> Tensor:
    return torch.randn(count, 24, 2, generator=torch.Generator().manual_seed(0))


def num_hooks(forecaster: Forecaster) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in forecaster.modules() for kind in kinds)


@pytest.mark.parametrize("model", model_specs())
def test_every_model_can_be_traced_and_keeps_no_hook(model: str):
    forecaster = built(model)

    forecaster.trace(windows())

    assert num_hooks(forecaster) == 0


def test_activations_are_what_the_layers_make():
    forecaster = built("mlp", dropout=0.0, recipe={"instance_norm": "none"})
    hidden, _, _, *_ = forecaster.model.body  # type: ignore[union-attr, misc]
    alone = windows().mT.reshape(6, 24)

    layer = forecaster.trace(windows())["body.0"]

    torch.testing.assert_close(layer.inputs, alone)
    torch.testing.assert_close(layer.activation, hidden(alone))


def test_gradients_are_those_of_the_loss():
    forecaster = built("linear", recipe={"instance_norm": "none"})
    target = torch.ones(3, 6, 2)
    forecast = forecaster(windows())

    layer = forecaster.trace(windows(), target)["head.linear"]

    expected = 2 * (forecast - target) / target.numel()  # of a mean of squares
    torch.testing.assert_close(layer.gradient, expected.detach().mT.reshape(6, 6))


def test_layers_come_in_the_order_of_their_use():
    names = list(built("gru", decoder="direct").trace(windows()))

    assert names.index("segments") < names.index("embed.0") < names.index("recurrence") < names.index("decoder")


def test_hooks_are_gone_after_an_exception():
    forecaster = built("mlp")

    with pytest.raises(RuntimeError):
        forecaster.trace(torch.randn(3, 23, 2))

    assert num_hooks(forecaster) == 0


def test_weights_and_their_gradients_are_left_alone():
    forecaster = built("gru")
    before = {name: value.clone() for name, value in forecaster.state_dict().items()}
    marker = torch.ones_like(forecaster.model.embed[0].bias)  # type: ignore[union-attr, index]
    forecaster.model.embed[0].bias.grad = marker  # type: ignore[union-attr, index]

    forecaster.trace(windows())

    assert all(torch.equal(before[name], value) for name, value in forecaster.state_dict().items())
    assert forecaster.model.embed[0].bias.grad is marker  # type: ignore[union-attr, index]


def test_a_forecaster_that_is_not_built_says_so():
    with pytest.raises(ConfigError, match="fit"):
        Forecaster("gru", context_length=24, horizon=6).trace(windows())


def test_gradients_of_a_long_plain_recurrence_vanish_and_those_of_an_lstm_less():
    """The gradient at the first of 96 steps, relative to the last (Bengio et al. 1994)."""

    def reach(model: str, **arguments: object) -> float:
        forecaster = Forecaster(
            model, context_length=96, horizon=6, recipe={"instance_norm": "none"}, segment_length=1, decoder="direct",
            **arguments,
        ).build(seed=0)  # fmt: skip
        gradient = forecaster.trace(torch.randn(8, 96, 1, generator=torch.Generator().manual_seed(0)))["segments"]
        norms = gradient.gradient.norm(dim=(0, 2))  # type: ignore[union-attr]
        return float(norms[0] / norms[-1])

    assert reach("rnn") < 1e-6
    assert reach("lstm", forget_bias=3.0) > 100 * reach("rnn")
