"""The multilayer perceptron (feed-forward network) over the flattened context."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.choices import Activation
from tsbench.models.layers import DirectHead, Skip, make_activation, make_dropout
from tsbench.models.registry import register


@register("mlp", widths=("hidden_size",))
class MLP(nn.Module):
    """A multilayer perceptron (feed-forward network) over the flattened context.

    hidden_size: width of each hidden layer.
    num_layers: hidden layers.
    activation: the nonlinearity of each hidden layer.
    norm: of the hidden values before the activation: batch (over the windows of a batch) or layer (over the width).
    dropout: share of hidden values dropped in training.
    dropout_kind: element sets values to zero; alpha keeps mean and variance, for activation selu.
    residual: whether each hidden layer but the first, whose input is the context, adds to its input what it computes.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        hidden_size: int = 256,
        num_layers: int = 1,
        activation: Activation = "relu",
        norm: Literal["none", "batch", "layer"] = "none",
        dropout: float = 0.1,
        dropout_kind: Literal["element", "alpha"] = "element",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if residual and num_layers < 2:
            raise ConfigError(
                f"mlp: residual = true skips hidden layers from the second on, but num_layers = {num_layers}; "
                "set num_layers = 2 or more"
            )
        widths = [shape.context_length * shape.channels_in] + [hidden_size] * num_layers
        self.body = nn.Sequential()
        for index, (width_in, width_out) in enumerate(pairwise(widths)):
            layer = [
                nn.Linear(width_in, width_out),
                *_norm(norm, width_out),
                make_activation(activation),
                make_dropout(dropout_kind, dropout),
            ]
            self.body.extend([Skip(nn.Sequential(*layer))] if residual and index > 0 else layer)
        self.head = DirectHead(widths[-1], shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.head(self.body(context_BLC.flatten(1)))


def _norm(kind: Literal["none", "batch", "layer"], width: int) -> list[nn.Module]:
    """Over `[B, D]`. Without one no module stands there, so that saved weights keep their names."""
    match kind:
        case "none":
            return []
        case "batch":
            return [nn.BatchNorm1d(width)]
        case "layer":
            return [nn.LayerNorm(width)]
