"""Transformers over segments (patches) of the context: an encoder with a linear head, and an encoder with a decoder."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.attention import DecoderLayer, EncoderLayer, RotaryEncoderLayer, sinusoidal_positions
from tsbench.models.dropout import Dropout
from tsbench.models.layers import DirectHead, Segments, check_counts
from tsbench.models.registry import register


class SegmentEncoder(nn.Module):
    """What the Transformers share: tokens from segments of the context, and encoder layers over them.

    hidden_size: width of a token.
    num_layers: encoder layers.
    num_heads: attention heads; a divisor of hidden_size.
    feedforward_size: width of the hidden layer in each encoder layer.
    dropout: share of values dropped in training.
    segment_length: rows in a token; none: a divisor of the season; 1: the classic form, a token for each step.
    segment_stride: rows from the start of a token to the start of the next; none: segment_length; smaller: tokens that
        overlap, as in PatchTST.
    position: how a token says where it stands: learned and sinusoidal (Vaswani et al. 2017) are added to it; rotary
        turns queries and keys, so that attention sees distances (Su et al. 2021); none: only the head tells places
        apart.
    norm_first: whether layers normalise what they read, and the encoder what it gives (pre-norm), or each layer what it
        gives (post-norm, as in the paper).
    activation: the nonlinearity in each feedforward network.
    """

    position_ND: Tensor

    def __init__(
        self,
        shape: WindowShape,
        *,
        hidden_size: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        feedforward_size: int = 128,
        dropout: float = 0.1,
        segment_length: int | None = None,
        segment_stride: int | None = None,
        position: Literal["learned", "sinusoidal", "rotary", "none"] = "learned",
        norm_first: bool = True,
        activation: Literal["relu", "gelu"] = "gelu",
    ) -> None:
        super().__init__()
        _check(hidden_size, num_layers, num_heads, feedforward_size, position)
        self.segments = Patches(shape, segment_length, segment_stride)
        self.num_tokens = self.segments.count
        self.embed = nn.Linear(self.segments.width, hidden_size)
        count = self.segments.count
        if position == "learned":
            self.position_ND = nn.Parameter(0.02 * torch.randn(count, hidden_size))
        elif position == "sinusoidal":
            self.register_buffer("position_ND", sinusoidal_positions(count, hidden_size), persistent=False)
        self.adds_position = position in ("learned", "sinusoidal")
        self.dropout = Dropout(dropout)
        self.layer_settings: dict[str, Any] = {
            "d_model": hidden_size,
            "nhead": num_heads,
            "dim_feedforward": feedforward_size,
            "dropout": dropout,
            "activation": activation,
            "norm_first": norm_first,
        }
        self.encoder = self._encoder(num_layers, rotary=position == "rotary")

    def _encoder(self, num_layers: int, *, rotary: bool) -> nn.Module:
        if rotary:
            count = self.segments.count
            layers = [RotaryEncoderLayer(count, **self.layer_settings) for _ in range(num_layers)]
            return nn.Sequential(*layers, self._last_norm() or nn.Identity())
        layer = EncoderLayer(**self.layer_settings)
        return nn.TransformerEncoder(layer, num_layers, norm=self._last_norm(), enable_nested_tensor=False)

    def _last_norm(self) -> nn.LayerNorm | None:
        """With pre-norm nothing has normalised the sum that the last layer gives."""
        return nn.LayerNorm(self.embed.out_features) if self.layer_settings["norm_first"] else None

    def encode(self, context_BLC: Tensor) -> Tensor:
        """`[B, L, C]` to `[B, N, D]`: the tokens after the encoder."""
        tokens_BND = self.embed(self.segments(context_BLC))
        if self.adds_position:
            tokens_BND = tokens_BND + self.position_ND
        return self.encoder(self.dropout(tokens_BND))


@register("transformer", widths=("hidden_size", "feedforward_size"))
class Transformer(SegmentEncoder):
    """A Transformer encoder (Vaswani et al. 2017) over segments of the context, as in PatchTST (Nie et al. 2023).

    pooling: what the head reads of the encoder: all tokens, their mean, or the last one.
    """

    def __init__(self, shape: WindowShape, *, pooling: Literal["flat", "mean", "last"] = "flat", **common: Any) -> None:
        super().__init__(shape, **common)
        self.pooling = pooling
        width = self.embed.out_features
        self.head = DirectHead(self.segments.count * width if pooling == "flat" else width, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        tokens_BND = self.encode(context_BLC)
        match self.pooling:
            case "mean":
                return self.head(tokens_BND.mean(1))
            case "last":
                return self.head(tokens_BND[:, -1])
            case _:
                return self.head(tokens_BND.flatten(1))


@register("transformer_encdec", widths=("hidden_size", "feedforward_size"))
class TransformerEncoderDecoder(SegmentEncoder):
    """A Transformer with a decoder (Vaswani et al. 2017): a learned query per segment of the horizon reads the context.

    num_layers: encoder layers, and as many decoder layers.
    position: how a token says where it stands: learned and sinusoidal (Vaswani et al. 2017) are added to it; none:
        nothing does. A query is learned, and so is its place; sinusoidal counts on from the last token.
    """

    mask_NN: Tensor
    query_position_ND: Tensor

    def __init__(
        self,
        shape: WindowShape,
        *,
        num_layers: int = 2,
        position: Literal["learned", "sinusoidal", "none"] = "learned",
        **common: Any,
    ) -> None:
        super().__init__(shape, num_layers=num_layers, position=position, **common)
        self.horizon, self.channels = shape.horizon, shape.channels_out
        width, length = self.embed.out_features, self.segments.length
        count = math.ceil(shape.horizon / length)
        self.num_tokens = max(self.segments.count, count)
        # Not small, as positions are: what a layer adds to all queries alike would drown what tells them apart.
        # At 0.02 a noisy sine was not learned in 240 steps (loss 0.52, its variance).
        self.query_ND = nn.Parameter(torch.randn(count, width))
        # A learned query says by itself where it stands.
        query_position_ND = torch.zeros(count, width)
        if position == "sinusoidal":
            query_position_ND = sinusoidal_positions(count, width, start=self.segments.count)
        self.register_buffer("query_position_ND", query_position_ND, persistent=False)
        mask_NN = nn.Transformer.generate_square_subsequent_mask(count)
        self.register_buffer("mask_NN", mask_NN, persistent=False)
        layer = DecoderLayer(**self.layer_settings)
        self.decoder = nn.TransformerDecoder(layer, num_layers, norm=self._last_norm())
        self.linear = nn.Linear(width, length * shape.channels_out)

    def forward(self, context_BLC: Tensor) -> Tensor:
        tokens_BND = self.encode(context_BLC)
        decoded_BND = self.decode(self.query_ND.expand(len(tokens_BND), -1, -1), tokens_BND)
        return self.linear(decoded_BND).reshape(len(tokens_BND), -1, self.channels)[:, : self.horizon]

    def decode(self, query_BND: Tensor, tokens_BND: Tensor) -> Tensor:
        """One token per segment of the horizon, from those of the context; no query sees a later one."""
        query_BND = query_BND + self.query_position_ND
        return self.decoder(query_BND, tokens_BND, tgt_mask=self.mask_NN, tgt_is_causal=True)


class Patches(Segments):
    """Segments that may overlap: one starts `stride` rows after the other; none: where the other ends.

    Where they do not end with the context, the first row is repeated in front, so that no row is lost.
    """

    def __init__(self, shape: WindowShape, length: int | None, stride: int | None) -> None:
        super().__init__(shape, length, min_segments=8)
        longest = length or self.length
        if stride is not None and not 1 <= stride <= longest:
            raise ConfigError(
                f"segment_stride = {stride}: allowed are whole numbers from 1 to segment_length = {longest}; "
                "with a larger one rows between two segments would be lost"
            )
        self.stride = min(stride or self.length, self.length)
        self.count = math.ceil((shape.context_length - self.length) / self.stride) + 1
        self.padding = (self.count - 1) * self.stride + self.length - shape.context_length

    def forward(self, context_BLC: Tensor) -> Tensor:
        if self.stride == self.length:
            return super().forward(context_BLC)
        if self.padding:
            context_BLC = F.pad(context_BLC.mT, (self.padding, 0), mode="replicate").mT
        return context_BLC.unfold(1, self.length, self.stride).mT.flatten(2)


def _check(hidden_size: int, num_layers: int, num_heads: int, feedforward_size: int, position: str) -> None:
    check_counts(
        "transformer",
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        feedforward_size=feedforward_size,
    )
    if hidden_size % num_heads:
        raise ConfigError(f"transformer: num_heads = {num_heads} does not divide hidden_size = {hidden_size}")
    if position == "rotary" and hidden_size // num_heads % 2:
        raise ConfigError(
            f"transformer: position = 'rotary' turns pairs of columns: hidden_size / num_heads = "
            f"{hidden_size // num_heads} must be even; change hidden_size or num_heads"
        )
