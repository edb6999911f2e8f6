"""The temporal convolutional network: causal, dilated convolutions in residual blocks (Bai et al. 2018)."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.choices import Activation, DropoutKind, Norm
from tsbench.models.layers import DirectHead, Segments, check_counts, make_activation, make_dropout, make_norm
from tsbench.models.registry import register


@register("tcn", widths=("num_filters",))
class TCN(nn.Module):
    """A temporal convolutional network: causal dilated convolutions in residual blocks over segments of the context.

    num_filters: channels of each convolution.
    kernel_size: places under a convolution.
    num_levels: residual blocks; none: as many as the context needs to be seen whole.
    dilation_base: from one block to the next the dilation grows by this factor: 1, 2, 4, ... with 2; 1: no dilation;
        above 2 kernel_size - 1 a place sees only some of the rows in its receptive field.
    norm: weight: the length and direction of each filter are learned apart (Salimans and Kingma 2016); else of each
        convolution's output. With weight, none and layer no place sees a later one; instance and group take mean and
        variance over all places of the context, batch in training over those of all windows, later ones included.
    activation: the nonlinearity after each convolution and after each block.
    dropout: share of values dropped after each convolution, in training.
    dropout_kind: element drops single values, channel whole filters, as in the paper; alpha keeps mean and variance,
        for activation selu.
    segment_length: rows read at once; none: a divisor of the season; 1: the classic form, step by step.
    readout: what the head reads of the last block: the outputs of all places, or the last one, which has seen as much
        as any.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        num_filters: int = 64,
        kernel_size: int = 3,
        num_levels: int | None = None,
        dilation_base: int = 2,
        norm: Literal["weight", "none", "batch", "instance", "layer", "group"] = "weight",
        activation: Activation = "relu",
        dropout: float = 0.1,
        dropout_kind: DropoutKind = "element",
        segment_length: int | None = None,
        readout: Literal["last", "all"] = "all",
    ) -> None:
        super().__init__()
        check_counts("tcn", num_filters=num_filters, kernel_size=kernel_size, dilation_base=dilation_base)
        self.segments = Segments(shape, segment_length, min_segments=8)
        if num_levels is None:
            num_levels = levels_for(self.segments.count, kernel_size, dilation_base)
        check_counts("tcn", num_levels=num_levels)
        if norm == "instance" and self.segments.count == 1:
            raise ConfigError("tcn: norm = 'instance' needs two segments or more; set a smaller segment_length")
        # Segments count back from the last row, so that only the oldest one can be shorter.
        self.receptive_field = places_seen(num_levels, kernel_size, dilation_base) * self.segments.length
        if self.receptive_field < shape.context_length:
            warnings.warn(_too_short(self.receptive_field, shape.context_length, readout), UserWarning, stacklevel=2)
        # A block sees 2 k - 1 places in a row, its dilation apart: the blocks below must fill what lies between.
        if 1 < 2 * kernel_size - 1 < dilation_base and num_levels > 1:
            warnings.warn(_has_gaps(kernel_size, dilation_base), UserWarning, stacklevel=2)
        # A head that reads the last place needs only every dilation_base-th place of each block, counted from the end,
        # and on those alone the next block is undilated: the same function of the same weights for fewer operations.
        # Not where a norm takes mean and variance over all places.
        self.stride = dilation_base if readout == "last" and norm in ("weight", "none", "layer") else 1
        widths = [self.segments.width] + [num_filters] * num_levels
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(
                    width_in,
                    width_out,
                    kernel_size=kernel_size,
                    dilation=1 if self.stride > 1 else dilation_base**level,
                    norm=norm,
                    activation=activation,
                    dropout=dropout,
                    dropout_kind=dropout_kind,
                )
                for level, (width_in, width_out) in enumerate(pairwise(widths))
            )
        )
        self.readout = readout
        self.head = DirectHead(num_filters * (self.segments.count if readout == "all" else 1), shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        hidden_BDN = self.segments(context_BLC).mT
        for block in self.blocks:
            hidden_BDN = block(hidden_BDN)
            if self.stride > 1:
                hidden_BDN = hidden_BDN[:, :, (hidden_BDN.shape[2] - 1) % self.stride :: self.stride]
        return self.head(hidden_BDN.flatten(1) if self.readout == "all" else hidden_BDN[:, :, -1])


def places_seen(num_levels: int, kernel_size: int, dilation_base: int) -> int:
    """The receptive field in places: each of two convolutions a block reaches (k - 1) dilations further back."""
    return 1 + 2 * (kernel_size - 1) * sum(dilation_base**level for level in range(num_levels))


def levels_for(count: int, kernel_size: int, dilation_base: int) -> int:
    """The fewest blocks whose last place sees so many; a kernel of one, which never will, gets those of two."""
    num_levels = 1
    while places_seen(num_levels, max(kernel_size, 2), dilation_base) < count:
        num_levels += 1
    return num_levels


def _too_short(receptive_field: int, context_length: int, readout: str) -> str:
    what = "older rows are lost" if readout == "last" else "no place sees the whole context"
    return (
        f"tcn: the receptive field of {receptive_field} rows is shorter than the context of {context_length}: {what}; "
        "leave out num_levels, or set a larger num_levels, kernel_size or dilation_base"
    )


def _has_gaps(kernel_size: int, dilation_base: int) -> str:
    return (
        f"tcn: with dilation_base = {dilation_base} and kernel_size = {kernel_size} the receptive field has gaps, and "
        f"a place sees only some of its rows; set dilation_base to at most {2 * kernel_size - 1}, or kernel_size higher"
    )


class ResidualBlock(nn.Module):
    """Two causal dilated convolutions beside a shortcut (Bai et al. 2018, figure 1b): `[B, D, N]` to `[B, D', N]`."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        kernel_size: int,
        dilation: int,
        norm: Norm | Literal["weight"],
        activation: Activation,
        dropout: float,
        dropout_kind: DropoutKind,
    ) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        # Batch and instance norm would take a bias out again.
        bias = norm not in ("batch", "instance")
        self.first = nn.Conv1d(width_in, width_out, kernel_size, dilation=dilation, bias=bias)
        self.second = nn.Conv1d(width_out, width_out, kernel_size, dilation=dilation, bias=bias)
        if norm == "weight":
            weight_norm(self.first)
            weight_norm(self.second)
        self.norms = nn.ModuleList(make_norm("none" if norm == "weight" else norm, width_out) for _ in range(2))
        # One more after the sum; each by itself, because PReLU learns.
        self.activations = nn.ModuleList(make_activation(activation) for _ in range(3))
        self.dropout = make_dropout(dropout_kind, dropout)
        self.shortcut = nn.Conv1d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, values_BDN: Tensor) -> Tensor:
        hidden = values_BDN
        for place, convolution in enumerate((self.first, self.second)):
            # Zeros on the left only: no place sees a later one.
            hidden = self.norms[place](convolution(F.pad(hidden, (self.reach, 0))))
            hidden = self.dropout(self.activations[place](hidden))
        return self.activations[2](hidden + self.shortcut(values_BDN))
