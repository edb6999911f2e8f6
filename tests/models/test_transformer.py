"""The Transformers: their arithmetic written out, positions by their definitions, and who sees whom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.attention import (
    RotaryAttention,
    RotaryEncoderLayer,
    position_angles,
    rotate,
    sinusoidal_positions,
)
from tsbench.models.transformer import Patches, Transformer, TransformerEncoderDecoder

SHAPE = WindowShape(12, 4)

POSITIONS = ["learned", "sinusoidal", "rotary", "none"]


def build(model_class: Any = Transformer, shape: WindowShape = SHAPE, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return model_class(shape, **({"hidden_size": 8, "segment_length": 3} | arguments)).eval()


def attend(query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, a head at a time (Vaswani et al. 2017, equation 1)."""
    heads = []
    for query, key, value in zip(*(x.chunk(num_heads, 1) for x in (query_ND, key_ND, value_ND)), strict=True):
        score = query @ key.T / math.sqrt(query.shape[1])
        heads.append(score.exp() / score.exp().sum(1, keepdim=True) @ value)
    return torch.cat(heads, dim=1)


# The encoder


@pytest.mark.parametrize(("activation", "function"), [("gelu", F.gelu), ("relu", F.relu)])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@torch.no_grad()
def test_a_layer_is_attention_then_two_linear_maps_each_with_a_norm_and_beside_a_shortcut(
    activation: Any, function: Any, norm_first: bool
):
    model = build(num_layers=1, num_heads=2, feedforward_size=6, norm_first=norm_first, activation=activation)
    layer = model.encoder.layers[0]
    nn.init.normal_(layer.norm1.weight)
    context_BLC = torch.randn(1, 12, 1)

    def attention(tokens_ND: Tensor) -> Tensor:
        projected_ND = tokens_ND @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias
        return layer.self_attn.out_proj(attend(*projected_ND.chunk(3, 1), num_heads=2))

    def feedforward(tokens_ND: Tensor) -> Tensor:
        return layer.linear2(function(layer.linear1(tokens_ND)))

    tokens_ND = model.embed(context_BLC.view(4, 3)) + model.position_ND
    if norm_first:
        tokens_ND = tokens_ND + attention(layer.norm1(tokens_ND))
        tokens_ND = model.encoder.norm(tokens_ND + feedforward(layer.norm2(tokens_ND)))
    else:
        tokens_ND = layer.norm1(tokens_ND + attention(tokens_ND))
        tokens_ND = layer.norm2(tokens_ND + feedforward(tokens_ND))

    torch.testing.assert_close(model(context_BLC), model.head.linear(tokens_ND.flatten()).view(1, 4, 1))


@pytest.mark.parametrize(
    ("pooling", "read"),
    [("flat", lambda x: x.flatten(1)), ("mean", lambda x: x.mean(1)), ("last", lambda x: x[:, -1])],
)
@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_the_head_reads_all_tokens_or_their_mean_or_the_last_one(position: Any, pooling: Any, read: Any):
    model, context_BLC = build(pooling=pooling, position=position), torch.randn(2, 12, 1)

    expected = model.head.linear(read(model.encode(context_BLC)))

    torch.testing.assert_close(model(context_BLC).flatten(1), expected)


@pytest.mark.parametrize("model_class", [Transformer, TransformerEncoderDecoder])
@pytest.mark.parametrize("keyword", ["dropout", "feedforward_size", "num_heads", "num_layers"])
@torch.no_grad()
def test_the_sizes_are_those_asked_for(model_class: Any, keyword: str):
    asked = {"dropout": 0.3, "feedforward_size": 10, "num_heads": 2, "num_layers": 3}
    model = build(model_class, **asked)
    stacks = [model.encoder, *([model.decoder] if model_class is TransformerEncoderDecoder else [])]

    for stack in stacks:
        layer = stack.layers[0]
        found = {
            "dropout": layer.dropout.p,
            "feedforward_size": layer.linear1.out_features,
            "num_heads": layer.self_attn.num_heads,
            "num_layers": len(stack.layers),
        }
        assert found[keyword] == asked[keyword]


def test_tokens_are_dropped_with_their_position_in_training():
    model = build(dropout=1.0).train()

    assert torch.equal(model(torch.randn(1, 12, 1)), model(torch.randn(1, 12, 1)))


# Positions


def test_sinusoidal_positions_are_those_of_the_paper():
    expected = np.zeros((7, 6))
    for place in range(7):
        for i in range(3):
            expected[place, 2 * i] = math.sin((place + 5) / 10000 ** (2 * i / 6))
            expected[place, 2 * i + 1] = math.cos((place + 5) / 10000 ** (2 * i / 6))

    np.testing.assert_allclose(sinusoidal_positions(7, 6, start=5), expected, atol=1e-5)
    assert sinusoidal_positions(7, 5, start=5).shape == (7, 5)


@torch.no_grad()
def test_sinusoidal_positions_are_added_to_the_tokens_and_not_learned():
    model, context_BLC = build(position="sinusoidal"), torch.randn(2, 12, 1)

    tokens_BND = model.embed(context_BLC.view(2, 4, 3)) + sinusoidal_positions(4, 8)

    torch.testing.assert_close(model.encode(context_BLC), model.encoder(tokens_BND))
    assert not any("position" in name for name in model.state_dict())


def test_learned_positions_are_learned():
    model = build(position="learned")

    model(torch.randn(2, 12, 1)).sum().backward()

    assert model.position_ND.grad.abs().sum() > 0


@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_only_a_position_tells_segments_apart(position: Any):
    model, context_BLC = build(position=position, pooling="mean"), torch.randn(2, 12, 1)
    swapped_BLC = context_BLC.view(-1, 4, 3)[:, [2, 0, 3, 1]].reshape(-1, 12, 1)

    difference = (model(context_BLC) - model(swapped_BLC)).abs().max()

    assert (difference < 1e-6) if position == "none" else (difference > 1e-5)


# Rotary positions


@pytest.mark.parametrize("distance", [0, 1, 5])
def test_the_inner_product_of_rotated_tokens_depends_on_their_distance_only(distance: int):
    query_E, key_E = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    angle_NE = position_angles(20, 8).double()

    turned_query, turned_key = (rotate(x.expand(20, 8), angle_NE) for x in (query_E, key_E))
    products = [float(turned_query[place + distance] @ turned_key[place]) for place in range(15)]

    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    if distance:
        assert abs(products[0] - float(query_E @ key_E)) > 1e-3


def test_rotation_turns_each_pair_of_columns_by_place_times_its_frequency():
    values_NE = torch.randn(5, 6)
    pairs = values_NE.numpy()[:, 0::2] + 1j * values_NE.numpy()[:, 1::2]

    place, i = np.arange(5)[:, None], np.arange(3)[None]
    expected = pairs * np.exp(1j * place / 10000 ** (2 * i / 6))

    turned = rotate(values_NE, position_angles(5, 6)).numpy()
    np.testing.assert_allclose(turned[:, 0::2], expected.real, atol=1e-5)
    np.testing.assert_allclose(turned[:, 1::2], expected.imag, atol=1e-5)


@torch.no_grad()
def test_rotary_attention_is_the_plain_formula_on_rotated_queries_and_keys():
    torch.manual_seed(0)
    attention, tokens_ND = RotaryAttention(8, num_heads=2, count=5).eval(), torch.randn(5, 8)

    angles_ND = position_angles(5, 4).repeat(1, 2)  # the same in both heads
    query_ND, key_ND = (rotate(project(tokens_ND), angles_ND) for project in (attention.query, attention.key))
    expected = attention.out(attend(query_ND, key_ND, attention.value(tokens_ND), num_heads=2))

    torch.testing.assert_close(attention(tokens_ND[None])[0], expected)


@torch.no_grad()
def test_rotary_attention_sees_distances_not_places():
    torch.manual_seed(0)
    attention = RotaryAttention(8, num_heads=2, count=6).eval()
    tokens_BND = torch.randn(1, 6, 8)

    before = attention(tokens_BND)
    attention.angle_NE += 3 * position_angles(2, 4)[1]  # every token three places later
    moved = attention(tokens_BND)
    attention.angle_NE *= 2  # twice the distances

    torch.testing.assert_close(moved, before)
    assert (attention(tokens_BND) - before).abs().max() > 1e-3


def without_rotation(layer: RotaryEncoderLayer) -> RotaryEncoderLayer:
    layer.attention.angle_NE.zero_()
    return layer


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@torch.no_grad()
def test_without_the_rotation_a_rotary_layer_is_pytorchs_layer(activation: Any, norm_first: bool):
    torch.manual_seed(0)
    reference = nn.TransformerEncoderLayer(8, 2, 12, 0.0, activation, batch_first=True, norm_first=norm_first)
    layer = without_rotation(RotaryEncoderLayer(5, 8, 2, 12, 0.0, activation, norm_first))
    attention = layer.attention
    parts = zip(
        (attention.query, attention.key, attention.value),
        reference.self_attn.in_proj_weight.chunk(3),
        torch.randn(3, 8),
        strict=True,
    )
    biases = []
    for projection, weight_DD, bias_D in parts:
        projection.weight.copy_(weight_DD)
        projection.bias.copy_(bias_D)
        biases.append(bias_D)
    reference.self_attn.in_proj_bias.copy_(torch.cat(biases))
    attention.out.load_state_dict(reference.self_attn.out_proj.state_dict())
    layer.norm1.load_state_dict(reference.norm1.state_dict())
    layer.norm2.load_state_dict(reference.norm2.state_dict())
    layer.feedforward[0].load_state_dict(reference.linear1.state_dict())
    layer.feedforward[3].load_state_dict(reference.linear2.state_dict())
    tokens_BND = torch.randn(3, 5, 8)

    torch.testing.assert_close(layer(tokens_BND), reference(tokens_BND))
    torch.testing.assert_close(layer.eval()(tokens_BND), reference.eval()(tokens_BND))


def test_a_rotary_layer_drops_attention_weights_and_what_it_adds_in_training_only():
    layer = RotaryEncoderLayer(5, 8, 2, 12, dropout=1.0, activation="relu", norm_first=True)
    nn.init.normal_(layer.attention.out.bias)
    tokens_BND = torch.randn(2, 5, 8)

    assert torch.equal(layer.train()(tokens_BND), tokens_BND)
    assert torch.equal(layer.attention(tokens_BND), layer.attention.out.bias.expand(2, 5, 8))
    assert not torch.equal(layer.eval()(tokens_BND), tokens_BND)
    layer.norm_first = False
    torch.testing.assert_close(layer.train()(tokens_BND), layer.norm2(layer.norm1(tokens_BND)))
    assert not torch.allclose(layer.eval()(tokens_BND), layer.norm2(layer.norm1(tokens_BND)), atol=1e-3)


@torch.no_grad()
def test_the_rotary_encoder_normalises_last_with_pre_norm_only():
    pre, post = (build(position="rotary", norm_first=norm_first) for norm_first in (True, False))

    assert isinstance(pre.encoder[-1], nn.LayerNorm)
    assert not any(isinstance(module, nn.LayerNorm) for module in post.encoder)
    assert [layer.norm_first for layer in (pre.encoder[0], post.encoder[1])] == [True, False]


# Patches


def test_patches_overlap_where_the_stride_is_shorter():
    patches = Patches(WindowShape(8, 1), length=4, stride=2)

    assert patches(torch.arange(8.0).view(1, 8, 1)).tolist() == [[[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]]


def test_the_first_row_is_repeated_in_front_where_the_patches_do_not_end_with_the_context():
    patches = Patches(WindowShape(7, 1), length=4, stride=2)

    assert patches(torch.arange(7.0).view(1, 7, 1)).tolist() == [[[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6]]]


def test_a_patch_holds_all_channels_row_by_row_like_a_segment():
    context_BLC = torch.randn(2, 8, 3)
    overlapping = Patches(WindowShape(8, 1, 3), length=4, stride=2)(context_BLC)
    apart = Patches(WindowShape(8, 1, 3), length=4, stride=None)(context_BLC)

    assert torch.equal(overlapping[:, ::2], apart)
    assert torch.equal(overlapping[:, 1], context_BLC[:, 2:6].flatten(1))


@pytest.mark.parametrize("context_length", [1, 3, 7, 8, 29, 96])
@pytest.mark.parametrize(("length", "stride"), [(4, 1), (4, 3), (4, 4), (16, 8), (5, 2), (None, 1)])
def test_patches_cover_all_rows_and_end_with_the_newest(context_length: int, length: int | None, stride: int):
    patches = Patches(WindowShape(context_length, 1), length, stride)

    cut_BND = patches(torch.arange(1.0, context_length + 1).view(1, context_length, 1))

    assert cut_BND.shape == (1, patches.count, patches.width)
    assert set(cut_BND.flatten().tolist()) == set(range(1, context_length + 1))
    assert cut_BND[0, -1, -1] == context_length
    starts_N = cut_BND[0, 1:, 0]
    assert torch.equal(starts_N[1:] - starts_N[:-1], torch.full_like(starts_N[1:], patches.stride))


@pytest.mark.parametrize("stride", [0, -1, 4])
def test_a_stride_that_loses_rows_is_refused(stride: int):
    with pytest.raises(ConfigError, match=rf"segment_stride = {stride}: allowed are .* 1 to segment_length = 3"):
        build(segment_stride=stride)


@torch.no_grad()
def test_overlapping_patches_are_more_tokens():
    model = build(segment_stride=1)

    assert model.segments.count == 10
    assert model.encode(torch.randn(2, 12, 1)).shape == (2, 10, 8)


# The decoder


def with_horizon(horizon: int, **arguments: Any) -> TransformerEncoderDecoder:
    return build(TransformerEncoderDecoder, WindowShape(12, horizon, 2, 2), **arguments)


@torch.no_grad()
def test_each_query_gives_its_segment_of_the_horizon():
    model, context_BLC = with_horizon(8), torch.randn(2, 12, 2)
    decoded_BND = model.decode(model.query_ND.expand(2, -1, -1), model.encode(context_BLC))

    rows = [model.linear(decoded_BND[:, place]).view(2, 3, 2) for place in range(3)]

    assert model.query_ND.shape == (3, 8)
    torch.testing.assert_close(model(context_BLC), torch.cat(rows, dim=1)[:, :8])


@torch.no_grad()
def test_a_decoder_layer_is_attention_among_the_queries_then_to_the_tokens():
    model = with_horizon(6, num_layers=1, num_heads=2, feedforward_size=6)
    layer, tokens_ND, query_ND = model.decoder.layers[0], torch.randn(4, 8), torch.randn(2, 8)

    def attention(module: nn.MultiheadAttention, asking_ND: Tensor, asked_ND: Tensor) -> Tensor:
        weights = module.in_proj_weight.chunk(3)
        query, key, value = (x @ w.T for x, w in zip((asking_ND, asked_ND, asked_ND), weights, strict=True))
        return module.out_proj(attend(query, key, value, num_heads=2))

    normed = layer.norm1(query_ND)
    # The first query sees itself alone, the second one both.
    among = [attention(layer.self_attn, normed[i : i + 1], normed[: i + 1]) for i in range(2)]
    hidden = query_ND + torch.cat(among)
    hidden = hidden + attention(layer.multihead_attn, layer.norm2(hidden), tokens_ND)
    hidden = hidden + layer.linear2(F.gelu(layer.linear1(layer.norm3(hidden))))

    torch.testing.assert_close(model.decode(query_ND[None], tokens_ND[None])[0], model.decoder.norm(hidden))


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_a_later_query_never_changes_an_earlier_one(training: bool):
    model = with_horizon(15, dropout=0.0).train(training)
    query_BND, tokens_BND = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    changed_BND = query_BND.clone()
    changed_BND[:, 3:] = torch.randn(2, 2, 8)

    before, after = model.decode(query_BND, tokens_BND), model.decode(changed_BND, tokens_BND)

    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-6)
    assert (before[:, 3:] - after[:, 3:]).abs().amin() > 0
    earlier_BND = query_BND.clone()
    earlier_BND[:, 0] = torch.randn(2, 8)
    assert ((model.decode(earlier_BND, tokens_BND) - before).abs().amax((0, 2)) > 1e-4).all()


def test_every_query_reads_every_row_of_the_context():
    model, context_BLC = with_horizon(8), torch.randn(16, 12, 2, requires_grad=True)

    for step in (0, 7):
        (gradient_BLC,) = torch.autograd.grad(model(context_BLC)[:, step].square().sum(), context_BLC)
        assert gradient_BLC.abs().sum(0).gt(0).all()


@torch.no_grad()
def test_sinusoidal_queries_count_on_from_the_last_token():
    model = with_horizon(8, position="sinusoidal")
    query_BND, tokens_BND = torch.randn(2, 3, 8), torch.randn(2, 4, 8)

    decoded = model.decoder(query_BND + sinusoidal_positions(7, 8)[4:], tokens_BND, tgt_mask=model.mask_NN)

    torch.testing.assert_close(model.decode(query_BND, tokens_BND), decoded)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_the_gradient_reaches_every_parameter_of_both_halves(position: Any, norm_first: bool):
    model = with_horizon(8, position=position, norm_first=norm_first).train()

    model(torch.randn(16, 12, 2)).square().sum().backward()

    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


# What cannot be


@pytest.mark.parametrize("model_class", [Transformer, TransformerEncoderDecoder])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "num_heads = 3 does not divide hidden_size = 8"),
        ({"num_layers": 0}, "num_layers = 0: allowed are whole numbers from 1"),
        ({"feedforward_size": 0}, "feedforward_size = 0: allowed are whole numbers from 1"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(model_class: Any, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build(model_class, **arguments)


def test_rotation_needs_pairs_of_columns():
    with pytest.raises(ConfigError, match=r"hidden_size / num_heads = 3 must be even; change hidden_size or num_heads"):
        build(position="rotary", hidden_size=6, num_heads=2)
