"""The convolutional network: convolutions that halve the context, then one linear map from all that is left."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.layers import DirectHead
from tsbench.models.registry import register


@register("cnn")
class CNN(nn.Module):
    """A convolutional network: strided convolutions, then one linear map from all that is left.

    num_filters: channels of each convolution.
    num_layers: convolutions, each with a stride.
    kernel_size: rows under a convolution; odd, zeros around the context keep every row in use.
    stride: rows between two places of a convolution: each layer leaves so much fewer.
    dropout: share of values dropped before the head, in training.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        num_filters: int = 32,
        num_layers: int = 2,
        kernel_size: int = 7,
        stride: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"cnn: kernel_size = {kernel_size}: allowed are odd numbers, such as 7")
        widths = [shape.channels_in] + [num_filters] * num_layers
        self.body = nn.Sequential()
        for width_in, width_out in pairwise(widths):
            padding = kernel_size // 2
            self.body.extend([nn.Conv1d(width_in, width_out, kernel_size, stride, padding), nn.ReLU()])
        with torch.no_grad():
            left = self.body(torch.zeros(1, shape.channels_in, shape.context_length)).numel()
        self.head = DirectHead(left, shape, dropout)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.head(self.body(context_BLC.mT).flatten(1))
