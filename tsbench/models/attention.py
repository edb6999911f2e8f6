"""Positions of tokens, and attention that rotates by them.

Letters beside those of the project: A attention heads, E width of a head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.models.layers import make_activation


def sinusoidal_positions(count: int, width: int, start: int = 0) -> Tensor:
    """Sines in even columns and cosines in odd ones, `[N, D]`, from position `start` on (Vaswani et al. 2017, 3.5)."""
    angle_ND = position_angles(count, width, start).repeat_interleave(2, dim=1)[:, :width]
    is_even_D = torch.arange(width) % 2 == 0
    return torch.where(is_even_D, angle_ND.sin(), angle_ND.cos())


def position_angles(count: int, width: int, start: int = 0) -> Tensor:
    """Position times 10000^(-2i / width) for each pair i of columns, `[N, ceil(width / 2)]`."""
    frequency = 10000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.arange(start, start + count)[:, None] * frequency


def rotate(values_BANE: Tensor, angle_NE: Tensor) -> Tensor:
    """Turn each pair of columns (2i, 2i + 1) of the token at each place by its angle, `[N, E / 2]` (Su et al. 2021)."""
    even, odd = values_BANE[..., 0::2], values_BANE[..., 1::2]
    cosine, sine = angle_NE.cos(), angle_NE.sin()
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


class RotaryAttention(nn.Module):
    """Self-attention with queries and keys rotated by their place: `[B, N, D]` to `[B, N, D]` (Su et al. 2021).

    The weight that a token gives another depends on what they hold and on their distance, not on their places.
    """

    def __init__(self, width: int, num_heads: int, count: int, dropout: float = 0.0) -> None:
        """count: tokens. dropout: share of attention weights dropped in training."""
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)  # as nn.MultiheadAttention starts
        for projection in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(projection.bias)
        self.register_buffer("angle_NE", position_angles(count, width // num_heads), persistent=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        mixed_BANE = F.scaled_dot_product_attention(
            *self._rotated(tokens_BND),
            self._by_head(self.value(tokens_BND)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed_BANE.transpose(1, 2).flatten(2))

    def weights(self, tokens_BND: Tensor) -> Tensor:
        """How each token shares its attention, `[B, N, N]`, mean over heads: rows sum to one."""
        query_BANE, key_BANE = self._rotated(tokens_BND)
        return (query_BANE @ key_BANE.mT / math.sqrt(query_BANE.shape[3])).softmax(3).mean(1)

    def _rotated(self, tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, `[B, A, N, E]`."""
        angle_NE = self.get_buffer("angle_NE")
        query_BANE, key_BANE = self._by_head(self.query(tokens_BND)), self._by_head(self.key(tokens_BND))
        return rotate(query_BANE, angle_NE), rotate(key_BANE, angle_NE)

    def _by_head(self, values_BND: Tensor) -> Tensor:
        return values_BND.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class RotaryEncoderLayer(nn.Module):
    """`nn.TransformerEncoderLayer` with rotary attention: `[B, N, D]` to `[B, N, D]`.

    That class cannot take another attention: in evaluation its fast path reads the weights and skips the module.
    """

    def __init__(
        self,
        count: int,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: Literal["relu", "gelu"],
        norm_first: bool,
    ) -> None:
        """count: tokens. The rest as in `nn.TransformerEncoderLayer`."""
        super().__init__()
        self.norm_first = norm_first
        self.attention = RotaryAttention(d_model, nhead, count, dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, dim_feedforward),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(dim_feedforward, d_model),
        )
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        if self.norm_first:
            tokens_BND = tokens_BND + self.dropout1(self.attention(self.norm1(tokens_BND)))
            return tokens_BND + self.dropout2(self.feedforward(self.norm2(tokens_BND)))
        tokens_BND = self.norm1(tokens_BND + self.dropout1(self.attention(tokens_BND)))
        return self.norm2(tokens_BND + self.dropout2(self.feedforward(tokens_BND)))
