"""The Transformer encoder over segments (patches) of the context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.layers import DirectHead, Segments
from tsbench.models.registry import register


@register("transformer")
class Transformer(nn.Module):
    """A Transformer encoder (Vaswani et al. 2017) over segments of the context, as in PatchTST (Nie et al. 2023).

    hidden_size: width of a token.
    num_layers: encoder layers.
    num_heads: attention heads; a divisor of hidden_size.
    feedforward_size: width of the hidden layer in each encoder layer.
    dropout: share of values dropped in training.
    segment_length: rows in a token; none: a divisor of the season; 1: the classic form, a token for each step.
    """

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
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ConfigError(f"transformer: num_heads = {num_heads} does not divide hidden_size = {hidden_size}")
        self.segments = Segments(shape, segment_length, min_segments=8)
        self.embed = nn.Linear(self.segments.width, hidden_size)
        self.position_ND = nn.Parameter(0.02 * torch.randn(self.segments.count, hidden_size))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            hidden_size, num_heads, feedforward_size, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, num_layers, norm=nn.LayerNorm(hidden_size), enable_nested_tensor=False
        )
        self.head = DirectHead(self.segments.count * hidden_size, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        tokens_BND = self.dropout(self.embed(self.segments(context_BLC)) + self.position_ND)
        return self.head(self.encoder(tokens_BND).flatten(1))
