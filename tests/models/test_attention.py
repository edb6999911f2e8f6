"""Attention by the shorter way: the function of PyTorch's modules, with their parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.models.attention import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    RotaryAttention,
    attend,
    largest_head_product,
)
from tsbench.models.dropout import Dropout
from tsbench.models.registry import model_spec

SETTINGS: dict[str, Any] = {"dim_feedforward": 24, "activation": "gelu"}
COUNTS = [1, 7, 15, 16, 30]
"""Of tokens: few and many."""


def alike(ours: nn.Module, theirs: nn.Module, *inputs: Tensor, **options: Any) -> None:
    """Same weights by name, same output, same gradients."""
    theirs.load_state_dict(ours.state_dict())
    results = []
    for module in (ours, theirs):
        given = [value.clone().requires_grad_() for value in inputs]
        output = module(*given, **options)
        output = output[0] if isinstance(output, tuple) else output
        output.square().sum().backward()
        results.append([output.detach(), *(value.grad for value in given), *(p.grad for p in module.parameters())])
    for our, their in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-9)


@pytest.fixture(autouse=True)
def _in_double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("count", COUNTS)
def test_attention_is_pytorchs(count: int):
    tokens, others = torch.randn(5, count, 16), torch.randn(5, 9, 16)
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)

    alike(ours, theirs, tokens, others, others, need_weights=False)
    mask = nn.Transformer.generate_square_subsequent_mask(count, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    own, _ = ours(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(own, theirs(tokens, tokens, tokens, attn_mask=mask, need_weights=False)[0])


def test_attention_tells_its_weights_where_they_are_asked_for():
    tokens = torch.randn(5, 7, 16)

    _, weights_BNN = Attention(16, 4)(tokens, tokens, tokens)

    torch.testing.assert_close(weights_BNN.sum(2), torch.ones(5, 7))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_a_layer_of_an_encoder_is_pytorchs(count: int, training: bool, norm_first: bool):
    ours = EncoderLayer(16, 4, dropout=0.0, norm_first=norm_first, **SETTINGS)
    theirs = nn.TransformerEncoderLayer(16, 4, dropout=0.0, norm_first=norm_first, batch_first=True, **SETTINGS)

    alike(ours.train(training), theirs.train(training), torch.randn(5, count, 16))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_layer_of_a_decoder_is_pytorchs(norm_first: bool):
    ours = DecoderLayer(16, 4, dropout=0.0, norm_first=norm_first, **SETTINGS)
    theirs = nn.TransformerDecoderLayer(16, 4, dropout=0.0, norm_first=norm_first, batch_first=True, **SETTINGS)
    mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)

    alike(ours, theirs, torch.randn(5, 3, 16), torch.randn(5, 20, 16), tgt_mask=mask, tgt_is_causal=True)


@pytest.mark.parametrize("count", COUNTS)
def test_weights_are_dropped_at_the_rate_and_keep_their_mean(count: int):
    """Values that are all one: what comes out is the sum of the weights that stayed."""
    query, key = torch.randn(2, 600, 4, count, 8).unbind(0)

    sums = attend(query, key, torch.ones_like(key), Dropout(0.25))[..., 0]

    assert float(sums.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(sums.std()) > 0.05


def test_written_out_or_by_the_kernel_is_the_same():
    query, key, value = torch.randn(3, 2, 4, 20, 8).unbind(0)
    mask = nn.Transformer.generate_square_subsequent_mask(20, dtype=torch.float64)
    still = Dropout(0.5).eval()

    by_kernel, written_out = (attend(query, key, value, still, mask, written_out=way) for way in (False, True))

    torch.testing.assert_close(by_kernel, written_out)


SHAPE = WindowShape(96, 24, 1, 1, 24)


@pytest.mark.parametrize(
    ("model", "arguments", "expected"),
    [
        ("mlp", {}, 0),
        ("transformer", {"segment_length": 24}, 4**2 * 16),
        ("transformer", {"segment_length": 4, "hidden_size": 32}, 24**2 * 8),
        ("transformer", {"segment_length": 1, "position": "rotary"}, 96**2 * 16),
        ("transformer_encdec", {"segment_length": 8}, 12**2 * 16),
        ("stack", {"layers": [{"kind": "linear", "hidden_size": 32}, {"kind": "attention"}]}, 96**2 * 8),
    ],
)
def test_the_largest_product_within_a_head_is_known(model: str, arguments: dict[str, Any], expected: int):
    spec = model_spec(model)

    assert largest_head_product(spec.build(SHAPE, spec.resolve(arguments, model))) == expected


def test_attention_over_who_knows_how_many_tokens_counts_as_large():
    assert largest_head_product(nn.MultiheadAttention(16, 4)) == math.inf
    assert largest_head_product(RotaryAttention(16, 4, count=10)) == 10**2 * 4
