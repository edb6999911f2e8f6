"""The convolutional network: convolutions that halve the context, then a decoder reads all that is left."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.choices import Activation, DropoutKind, Norm, Padding, PaddingMode
from tsbench.models.layers import (
    Convolution,
    DirectHead,
    channels_first,
    check_counts,
    make_activation,
    make_dropout,
    make_norm,
)
from tsbench.models.registry import register


@register("cnn", widths=("num_filters",))
class CNN(nn.Module):
    """A convolutional network: strided convolutions, then one linear map from all that is left.

    num_filters: channels of each convolution.
    num_layers: convolutions, each with a stride.
    kernel_size: rows under a convolution; odd where padding is same.
    stride: rows between two places of a convolution: each layer leaves so much fewer.
    dilation: rows from one row under a convolution to the next; 2: every other one, so that a kernel spans more.
    padding: same: half a kernel on both sides, so that a place stands over every stride-th row, the first one included
        (as many places as rows only with stride 1); causal: a whole kernel in front, so that no place sees a later row
        (but by norm batch, instance or group, whose mean and variance are over all places); valid: nothing, so that a
        kernel lies on rows alone, and the context shrinks by what it spans. With a stride causal and valid end on the
        newest row.
    padding_mode: what stands in the padding: zeros, the rows next to the edge reflected at it, or the edge replicated.
    groups: of channels, each convolved by itself, in the layers after the first; a divisor of num_filters.
    separable: whether the layers after the first are a convolution of each channel by itself, then a pointwise one
        (Chollet 2017).
    pooling: after each convolution the larger or the average of two places, a last one without neighbour by itself;
        adaptive: once, after the last convolution, averages over pooled_length equal parts.
    pooled_length: places that adaptive pooling leaves; where fewer come in, they are repeated.
    norm: of each convolution's output, before the activation.
    activation: the nonlinearity after each convolution.
    dropout: share of values dropped before the decoder, in training.
    dropout_kind: element drops single values, channel whole filters; alpha keeps mean and variance, for activation
        selu.
    decoder: flat: one linear map from all that is left; transposed: transposed convolutions, each of which doubles the
        places until there is one per step, so that a step rests on the rows that stand in its part of the context.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        num_filters: int = 32,
        num_layers: int = 2,
        kernel_size: int = 7,
        stride: int = 2,
        dilation: int = 1,
        padding: Padding = "same",
        padding_mode: PaddingMode = "zeros",
        groups: int = 1,
        separable: bool = False,
        pooling: Literal["none", "max", "average", "adaptive"] = "none",
        pooled_length: int = 8,
        norm: Norm = "none",
        activation: Activation = "relu",
        dropout: float = 0.1,
        dropout_kind: DropoutKind = "element",
        decoder: Literal["flat", "transposed"] = "flat",
    ) -> None:
        super().__init__()
        check_counts(
            "cnn",
            num_filters=num_filters,
            num_layers=num_layers,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            pooled_length=pooled_length,
        )
        _check_kernel(kernel_size, padding)
        _check_mixing(num_filters, num_layers, groups, separable)
        padded = partial(
            Convolution,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            padding=padding,
            padding_mode=padding_mode,
        )
        # Batch and instance norm would take a bias out again.
        bias = norm not in ("batch", "instance")
        self.body = nn.Sequential(padded(shape.channels_in, num_filters, bias=bias))
        self._finish_layer(num_filters, norm, activation, pooling)
        for _ in range(num_layers - 1):
            if separable:
                self.body.append(padded(num_filters, num_filters, groups=num_filters, bias=False))
                self.body.append(nn.Conv1d(num_filters, num_filters, 1, bias=bias))
            else:
                self.body.append(padded(num_filters, num_filters, groups=groups, bias=bias))
            self._finish_layer(num_filters, norm, activation, pooling)
        if pooling == "adaptive":
            self.body.append(nn.AdaptiveAvgPool1d(pooled_length))
        length = _length_left(self.body, shape.context_length)
        self.dropout = make_dropout(dropout_kind, dropout)
        self.head: DirectHead | TransposedDecoder
        if decoder == "flat":
            self.head = DirectHead(num_filters * length, shape)
        else:
            self.head = TransposedDecoder(num_filters, length, shape, activation)

    def _finish_layer(self, width: int, norm: Norm, activation: Activation, pooling: str) -> None:
        """What follows a convolution. Where nothing stands there is no module: saved weights keep their names."""
        if norm != "none":
            self.body.append(make_norm(norm, width))
        self.body.append(make_activation(activation))
        if pooling == "max":
            self.body.append(nn.MaxPool1d(2, ceil_mode=True))
        elif pooling == "average":
            self.body.append(nn.AvgPool1d(2, ceil_mode=True))

    def forward(self, context_BLC: Tensor) -> Tensor:
        # Contiguous, because dropout draws in the order of the memory.
        features_BDN = self.dropout(self.body(channels_first(context_BLC)).contiguous())
        return self.head(features_BDN.flatten(1) if isinstance(self.head, DirectHead) else features_BDN)


class TransposedDecoder(nn.Module):
    """Transposed convolutions, each of which doubles the places: `[B, D, N]` to `[B, H, C_out]`.

    There is at least one, and as many as the horizon needs. The last H places are the forecast: like the last row of
    the context, the last place stays.
    """

    def __init__(self, width: int, length: int, shape: WindowShape, activation: Activation) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.body = nn.Sequential()
        for _ in range(max(1, math.ceil(math.log2(shape.horizon / length)))):
            # Twice the stride, less one place on both sides: N places give exactly 2 N.
            self.body.extend([nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), make_activation(activation)])
        self.pointwise = nn.Conv1d(width, shape.channels_out, 1)

    def forward(self, features_BDN: Tensor) -> Tensor:
        return self.pointwise(self.body(features_BDN))[:, :, -self.horizon :].mT


def _check_kernel(kernel_size: int, padding: Padding) -> None:
    if padding == "same" and kernel_size % 2 == 0:
        raise ConfigError(
            f"cnn: kernel_size = {kernel_size}: allowed are odd numbers, such as 7; "
            "padding = 'causal' or 'valid' allows even ones"
        )


def _check_mixing(num_filters: int, num_layers: int, groups: int, separable: bool) -> None:
    if groups == 1 and not separable:
        return
    option = "separable = true" if separable else f"groups = {groups}"
    if num_layers < 2:
        raise ConfigError(f"cnn: {option} concerns the layers after the first; set num_layers = 2 or more")
    if separable and groups > 1:
        raise ConfigError(f"cnn: separable = true has a group per channel; leave out groups = {groups}")
    if num_filters % groups:
        raise ConfigError(f"cnn: groups = {groups} does not divide num_filters = {num_filters}")


def _length_left(body: nn.Sequential, length: int) -> int:
    """Places after all layers. Raises ConfigError with the layer where none would be left."""
    layer = 0
    for module in body:
        match module:
            case Convolution():
                layer += 1
                _check_room(module, length, layer)
                length = module.length_after(length)
            case nn.InstanceNorm1d() if length == 1:
                raise ConfigError(
                    f"cnn: norm = 'instance' needs two places or more, but layer {layer} leaves one; "
                    "use norm = 'layer', a smaller stride or fewer layers"
                )
            case nn.MaxPool1d() | nn.AvgPool1d():
                length = math.ceil(length / 2)
            case nn.AdaptiveAvgPool1d():
                length = int(module.output_size)  # type: ignore[arg-type]
    return length


def _check_room(convolution: Convolution, length: int, layer: int) -> None:
    if convolution.length_after(length) < 1:
        raise ConfigError(
            f"cnn: nothing is left of the context in layer {layer}: {length} places come in, and its kernel spans "
            f"{convolution.reach + 1}; use padding = 'same', a smaller kernel_size or dilation, or fewer layers"
        )
    padding = convolution.in_front or int(convolution.padding[0])
    if convolution.padding_mode == "reflect" and padding >= length:
        raise ConfigError(
            f"cnn: padding_mode = 'reflect' needs more places than it adds, but in layer {layer} {length} come in and "
            f"{padding} are added at an end; use padding_mode = 'replicate' or a smaller kernel_size"
        )
