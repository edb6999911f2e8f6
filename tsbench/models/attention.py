"""Attention, with a short way for few tokens, and positions of tokens.

Letters beside those of the project: A attention heads, E width of a head.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.models.dropout import Dropout
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


_FEW = 16
"""Values of a row from which on PyTorch's softmax over rows fills a vector of the processor: below, it takes five times
as long as over columns."""


def attend(
    query_BANE: Tensor,
    key_BAME: Tensor,
    value_BAME: Tensor,
    drop: Dropout,
    mask_NM: Tensor | None = None,
    *,
    written_out: bool = False,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), `[B, A, N, E]`.

    PyTorch's kernel computes it, but on a CPU for two cases: few tokens, and weights that are dropped, for which it has
    no kernel there. mask_NM: added to the scores. written_out: never by the kernel.
    """
    drops = drop.training and drop.p > 0
    few = key_BAME.shape[2] < _FEW
    if not written_out and (query_BANE.device.type != "cpu" or not (few or drops)):
        rate = drop.p if drops else 0.0
        return F.scaled_dot_product_attention(query_BANE, key_BAME, value_BAME, attn_mask=mask_NM, dropout_p=rate)
    score_BANM = (query_BANE / math.sqrt(query_BANE.shape[3])) @ key_BAME.mT
    if mask_NM is not None:
        score_BANM = score_BANM + mask_NM
    if not few:
        return drop(score_BANM.softmax(3)) @ value_BAME
    share_MX = drop(score_BANM.flatten(0, 2).T.contiguous().softmax(0))
    return share_MX.T.view(score_BANM.shape) @ value_BAME


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` of `[B, N, D]` by `attend`: same parameters, same function."""

    written_out = False

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(width, num_heads, dropout=dropout, batch_first=True)
        self.drop = Dropout(dropout)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = True, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        if need_weights or options.get("key_padding_mask") is not None:
            return super().forward(query, key, value, need_weights=need_weights, **options)
        if query is key is value:
            inputs = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2)
        else:
            parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
            inputs = tuple(F.linear(*part) for part in parts)
        query_BANE, key_BAME, value_BAME = (each.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for each in inputs)
        mask_NM = options.get("attn_mask")
        mixed_BANE = attend(query_BANE, key_BAME, value_BAME, self.drop, mask_NM, written_out=self.written_out)
        return self.out_proj(mixed_BANE.transpose(1, 2).flatten(2)), None


class EncoderLayer(nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` of `[B, N, D]` with `Attention`: same parameters, same function."""

    def __init__(self, d_model: int, nhead: int, *, dropout: float, **settings: Any) -> None:
        super().__init__(d_model, nhead, dropout=dropout, batch_first=True, **settings)
        self.self_attn = Attention(d_model, nhead, dropout)
        self.dropout, self.dropout1, self.dropout2 = (Dropout(dropout) for _ in range(3))

    def forward(self, src: Tensor, *_: Any, **__: Any) -> Tensor:
        """Without the parent's way in evaluation, which reads the weights and skips the attention."""
        if self.norm_first:
            src = src + self._sa_block(self.norm1(src), None, None)
            return src + self._ff_block(self.norm2(src))
        src = self.norm1(src + self._sa_block(src, None, None))
        return self.norm2(src + self._ff_block(src))


class DecoderLayer(nn.TransformerDecoderLayer):
    """`nn.TransformerDecoderLayer` of `[B, N, D]` with `Attention`: same parameters, same function."""

    def __init__(self, d_model: int, nhead: int, *, dropout: float, **settings: Any) -> None:
        super().__init__(d_model, nhead, dropout=dropout, batch_first=True, **settings)
        self.self_attn, self.multihead_attn = (Attention(d_model, nhead, dropout) for _ in range(2))
        self.dropout, self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout) for _ in range(4))


def largest_head_product(model: nn.Module) -> float:
    """Multiplications in the largest product within a head: of its width, for all tokens with all. 0 without attention.

    Modules say with `num_tokens` how many tokens attend to each other; where none does, they may be any number.
    """
    modules = list(model.modules())
    widths = [module.head_dim for module in modules if isinstance(module, nn.MultiheadAttention | RotaryAttention)]
    if not widths:
        return 0
    num_tokens: list[int] = [module.num_tokens for module in modules if hasattr(module, "num_tokens")]  # type: ignore[misc]
    return max(num_tokens, default=math.inf) ** 2 * max(widths)


class RotaryAttention(nn.Module):
    """Self-attention with queries and keys rotated by their place: `[B, N, D]` to `[B, N, D]` (Su et al. 2021).

    The weight that a token gives another depends on what they hold and on their distance, not on their places.
    """

    written_out = False

    def __init__(self, width: int, num_heads: int, count: int, dropout: float = 0.0) -> None:
        """count: tokens. dropout: share of attention weights dropped in training."""
        super().__init__()
        self.num_heads, self.head_dim, self.num_tokens = num_heads, width // num_heads, count
        self.drop = Dropout(dropout)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)  # as nn.MultiheadAttention starts
        for projection in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(projection.bias)
        self.register_buffer("angle_NE", position_angles(count, width // num_heads), persistent=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        query_BANE, key_BANE = self._rotated(tokens_BND)
        value_BANE = self._by_head(self.value(tokens_BND))
        mixed_BANE = attend(query_BANE, key_BANE, value_BANE, self.drop, written_out=self.written_out)
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
            Dropout(dropout),
            nn.Linear(dim_feedforward, d_model),
        )
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        if self.norm_first:
            tokens_BND = tokens_BND + self.dropout1(self.attention(self.norm1(tokens_BND)))
            return tokens_BND + self.dropout2(self.feedforward(self.norm2(tokens_BND)))
        tokens_BND = self.norm1(tokens_BND + self.dropout1(self.attention(tokens_BND)))
        return self.norm2(tokens_BND + self.dropout2(self.feedforward(tokens_BND)))
