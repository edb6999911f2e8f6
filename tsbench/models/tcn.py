"""The temporal convolutional network: causal, dilated convolutions in residual blocks (Bai et al. 2018)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tsbench.data.windows import WindowShape
from tsbench.models.layers import DirectHead, Segments
from tsbench.models.registry import register


@register("tcn")
class TCN(nn.Module):
    """A temporal convolutional network: causal dilated convolutions in residual blocks over segments of the context.

    num_filters: channels of each convolution.
    kernel_size: places under a convolution.
    num_levels: residual blocks, with dilations 1, 2, 4, ...; none: as many as the context needs to be seen whole.
    dropout: share of values dropped after each convolution, in training.
    segment_length: rows read at once; none: a divisor of the season; 1: the classic form, step by step.
    readout: what the head reads of the last block: the outputs of all places, or the last one, which has seen them all.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        num_filters: int = 64,
        kernel_size: int = 3,
        num_levels: int | None = None,
        dropout: float = 0.1,
        segment_length: int | None = None,
        readout: Literal["last", "all"] = "all",
    ) -> None:
        super().__init__()
        self.segments = Segments(shape, segment_length, min_segments=8)
        if num_levels is None:
            # Receptive field 1 + 2 (k - 1) (2^n - 1): two convolutions a block.
            num_levels = max(1, math.ceil(math.log2((self.segments.count - 1) / (2 * max(kernel_size - 1, 1)) + 1)))
        self.receptive_field = (1 + 2 * (kernel_size - 1) * (2**num_levels - 1)) * self.segments.length
        widths = [self.segments.width] + [num_filters] * num_levels
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(width_in, width_out, kernel_size, 2**level, dropout)
                for level, (width_in, width_out) in enumerate(pairwise(widths))
            )
        )
        self.readout = readout
        self.head = DirectHead(num_filters * (self.segments.count if readout == "all" else 1), shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        output_BDN = self.blocks(self.segments(context_BLC).mT)
        return self.head(output_BDN.flatten(1) if self.readout == "all" else output_BDN[:, :, -1])


class ResidualBlock(nn.Module):
    """Two causal dilated convolutions beside a shortcut (Bai et al. 2018, figure 1b): `[B, D, N]` to `[B, D', N]`."""

    def __init__(self, width_in: int, width_out: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.first = weight_norm(nn.Conv1d(width_in, width_out, kernel_size, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(width_out, width_out, kernel_size, dilation=dilation))
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv1d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, values_BDN: Tensor) -> Tensor:
        hidden = values_BDN
        for convolution in (self.first, self.second):
            # Zeros on the left only: no place sees a later one.
            hidden = self.dropout(F.relu(convolution(F.pad(hidden, (self.reach, 0)))))
        return F.relu(hidden + self.shortcut(values_BDN))
