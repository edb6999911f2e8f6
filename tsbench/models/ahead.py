"""What is known of the horizon, at the head of every learned family in one way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape

_WIDTH = 64


class Ahead(nn.Module):
    """Adds to a forecast what is made of the values that are known of its steps: it starts as nothing.

    One small network, the same for every step, over the values known of the step and of its two neighbours, and over
    the forecast itself.
    """

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3 * shape.ahead + shape.channels_out, _WIDTH), nn.ReLU())
        self.head = nn.Linear(_WIDTH, shape.channels_out)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, forecast_NHC: Tensor, ahead_NHA: Tensor) -> Tensor:
        padded = torch.cat([ahead_NHA[:, :1], ahead_NHA, ahead_NHA[:, -1:]], 1)
        features = torch.cat([padded[:, :-2], ahead_NHA, padded[:, 2:], forecast_NHC], 2)
        return forecast_NHC + self.head(self.body(features))


def forecast_with(model: nn.Module, inputs_NLC: Tensor, ahead_NHA: Tensor | None = None) -> Tensor:
    """What a model forecasts, `[N, H, C_out]`, with what is known ahead where it was built for that."""
    forecast_NHC = model(inputs_NLC)
    return forecast_NHC if ahead_NHA is None else model.get_submodule("ahead")(forecast_NHC, ahead_NHA)
