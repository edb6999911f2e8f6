"""Blocks that more than one family uses."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.choices import Activation, DropoutKind, Norm, Padding, PaddingMode
from tsbench.models.dropout import Dropout

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}

_DROPOUTS: dict[str, type[nn.Module]] = {"element": Dropout, "channel": nn.Dropout1d, "alpha": nn.AlphaDropout}


def check_counts(model: str, **counts: int) -> None:
    """Raises ConfigError for a count below one."""
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{model}: {name} = {count}: allowed are whole numbers from 1")


def make_activation(activation: Activation) -> nn.Module:
    return _ACTIVATIONS[activation]()


def make_dropout(kind: DropoutKind, rate: float) -> nn.Module:
    """element drops single values, channel whole channels of `[B, D, N]` (Tompson et al. 2015), alpha keeps mean and
    variance under SELU (Klambauer et al. 2017)."""
    return _DROPOUTS[kind](rate)


def make_norm(kind: Norm, width: int, num_groups: int = 4) -> nn.Module:
    """Over `[B, D, N]`: batch (Ioffe and Szegedy 2015), instance (each channel over time), layer (all channels at one
    place, Ba et al. 2016), group (Wu and He 2018), or nothing.

    Raises ConfigError when `num_groups` does not divide the width of a group norm.
    """
    match kind:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm1d(width)
        case "instance":
            return nn.InstanceNorm1d(width, affine=True)
        case "layer":
            return ChannelNorm(width)
        case "group":
            if width % num_groups:
                raise ConfigError(f"norm = 'group': {num_groups} groups do not divide {width} channels")
            return nn.GroupNorm(num_groups, width)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of `[B, D, N]`, at each place by itself."""

    def forward(self, values_BDN: Tensor) -> Tensor:
        return super().forward(values_BDN.mT).mT


def default_segment_length(shape: WindowShape, min_segments: int = 4) -> int:
    """The longest divisor of the season (of 24 where there is none) that leaves `min_segments` in the context."""
    season = shape.seasonality if shape.seasonality > 1 else 24
    longest = max(shape.context_length // min_segments, 1)
    return max(d for d in range(1, season + 1) if season % d == 0 and d <= longest)


class Segments(nn.Module):
    """Cuts a context into consecutive segments: `[B, L, C]` to `[B, N, P * C]`, P rows in a segment.

    Where P does not divide L, the first row is repeated in front, so that no row is lost.
    """

    def __init__(self, shape: WindowShape, length: int | None, min_segments: int = 4) -> None:
        super().__init__()
        if length is None:
            length = default_segment_length(shape, min_segments)
        if length < 1:
            raise ConfigError(f"segment_length = {length}: allowed are whole numbers from 1 to the context length")
        self.length = min(length, shape.context_length)
        self.count = math.ceil(shape.context_length / self.length)
        self.padding = self.count * self.length - shape.context_length
        self.width = self.length * shape.channels_in

    def forward(self, context_BLC: Tensor) -> Tensor:
        if self.padding:
            context_BLC = F.pad(context_BLC.mT, (self.padding, 0), mode="replicate").mT
        return context_BLC.reshape(len(context_BLC), self.count, self.width)


def channels_first(values_BND: Tensor) -> Tensor:
    """`[B, N, D]` to `[B, D, N]`, copied into that order.

    For speed: with D = 1 the strides of a mere transpose can be read both ways. PyTorch takes them for channels last,
    a convolution's output and its gradient then lie differently in memory, and a CNN's step takes 1.2 times as long.
    """
    return values_BND.mT.clone(memory_format=torch.contiguous_format)


class Convolution(nn.Conv1d):
    """A convolution that pads its input: `[B, D, N]` to `[B, D', N']`.

    same: half of what the kernel spans on both sides; causal: all of it but one in front; valid: nothing. Where the
    stride leaves rows over, same leaves them at the end, as PyTorch does; the others at the start, so that the last
    place ends on the newest row.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        kernel_size: int,
        stride: int,
        dilation: int,
        padding: Padding,
        padding_mode: PaddingMode,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        reach = dilation * (kernel_size - 1)
        super().__init__(
            width_in,
            width_out,
            kernel_size,
            stride,
            padding=reach // 2 if padding == "same" else 0,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )
        self.reach = reach
        self.in_front = reach if padding == "causal" else 0
        self.keeps_the_end = padding != "same"

    def forward(self, values_BDN: Tensor) -> Tensor:
        if self.in_front:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            values_BDN = F.pad(values_BDN, (self.in_front, 0), mode=mode)
        if self.keeps_the_end:
            over = (values_BDN.shape[2] - self.reach - 1) % self.stride[0]
            values_BDN = values_BDN[:, :, over:]
        return super().forward(values_BDN)

    def length_after(self, length: int) -> int:
        """Places it gives for so many; none, or less than none, where the kernel spans more."""
        padded = length + self.in_front + 2 * int(self.padding[0])
        return (padded - self.reach - 1) // self.stride[0] + 1


class Skip(nn.Module):
    """Adds its input to what its layers make of it (He et al. 2016)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, values: Tensor) -> Tensor:
        return values + self.layers(values)


class Readout(nn.Module):
    """What is read of the outputs at all places: `[B, N, D]` to `[B, width]`.

    With two directions D holds both outputs side by side, the backward one last. It has read everything at the first
    place, the forward one at the last.
    """

    def __init__(
        self, kind: Literal["last", "mean", "attention", "all"], hidden_size: int, count: int, bidirectional: bool
    ) -> None:
        super().__init__()
        outputs = 2 * hidden_size if bidirectional else hidden_size
        self.kind, self.forward_size = kind, hidden_size
        self.width = count * outputs if kind == "all" else outputs
        if kind == "attention":
            self.query_D = nn.Parameter(torch.randn(outputs))

    def forward(self, output_BND: Tensor) -> Tensor:
        match self.kind:
            case "last":
                return torch.cat([output_BND[:, -1, : self.forward_size], output_BND[:, 0, self.forward_size :]], 1)
            case "mean":
                return output_BND.mean(1)
            case "attention":
                # Scaled as in Vaswani et al. 2017: the width does not decide how sharp the weights are.
                weight_BN = (output_BND @ self.query_D / math.sqrt(len(self.query_D))).softmax(1)
                return (weight_BN.unsqueeze(1) @ output_BND).squeeze(1)
            case "all":
                return output_BND.flatten(1)


class DirectHead(nn.Module):
    """All steps at once by one linear map: `[B, D]` to `[B, H, C_out]`."""

    def __init__(self, width: int, shape: WindowShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(width, shape.horizon * shape.channels_out)
        self.channels = shape.channels_out

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.dropout(features_BD)).unflatten(1, (-1, self.channels))
