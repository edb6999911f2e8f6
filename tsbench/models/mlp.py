"""The multilayer perceptron (feed-forward network) over the flattened context."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.models.layers import DirectHead
from tsbench.models.registry import register


@register("mlp")
class MLP(nn.Module):
    """A multilayer perceptron (feed-forward network) over the flattened context.

    hidden_size: width of each hidden layer.
    num_layers: hidden layers.
    dropout: share of hidden values dropped in training.
    """

    def __init__(
        self, shape: WindowShape, *, hidden_size: int = 256, num_layers: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        widths = [shape.context_length * shape.channels_in] + [hidden_size] * num_layers
        self.body = nn.Sequential()
        for width_in, width_out in pairwise(widths):
            self.body.extend([nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)])
        self.head = DirectHead(widths[-1], shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.head(self.body(context_BLC.flatten(1)))
