"""The Transformer encoder: its arithmetic written out, and position."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.transformer import Transformer

SHAPE = WindowShape(12, 4)


def build(**arguments: int) -> Transformer:
    torch.manual_seed(0)
    return Transformer(SHAPE, hidden_size=8, segment_length=3, **arguments).eval()


@torch.no_grad()
def test_a_layer_is_attention_then_two_linear_maps_each_behind_a_norm_and_beside_a_shortcut():
    model = build(num_layers=1, num_heads=2, feedforward_size=6)
    layer = model.encoder.layers[0]
    context_BLC = torch.randn(1, 12, 1)

    tokens_ND = model.embed(context_BLC.view(4, 3)) + model.position_ND
    projected = layer.self_attn.in_proj_weight @ layer.norm1(tokens_ND).T + layer.self_attn.in_proj_bias[:, None]
    heads = []
    for rows in (slice(0, 4), slice(4, 8)):  # two heads of width four
        query, key, value = (part[rows].T for part in projected.chunk(3))
        heads.append(torch.softmax(query @ key.T / math.sqrt(4), dim=1) @ value)
    tokens_ND = tokens_ND + layer.self_attn.out_proj(torch.cat(heads, dim=1))
    tokens_ND = tokens_ND + layer.linear2(F.gelu(layer.linear1(layer.norm2(tokens_ND))))
    expected = model.head.linear(model.encoder.norm(tokens_ND).flatten()).view(1, 4, 1)

    torch.testing.assert_close(model(context_BLC), expected)


def swap_segments(context_BLC: Tensor) -> Tensor:
    return context_BLC.view(-1, 4, 3)[:, [2, 0, 3, 1]].reshape(-1, 12, 1)


@torch.no_grad()
def test_the_learned_position_tells_segments_apart():
    model, context_BLC = build(), torch.randn(2, 12, 1)
    # The head would tell places apart, too: here it treats all of them alike.
    alike = model.head.linear.weight.view(4, 4, 8).mean(1, keepdim=True).expand(4, 4, 8)
    model.head.linear.weight.copy_(alike.reshape(4, 32))

    with_position = model(context_BLC), model(swap_segments(context_BLC))
    model.position_ND.zero_()
    without = model(context_BLC), model(swap_segments(context_BLC))

    assert (with_position[0] - with_position[1]).abs().max() > 1e-4
    torch.testing.assert_close(without[0], without[1])


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="num_heads = 3 does not divide hidden_size = 8"):
        build(num_heads=3)
