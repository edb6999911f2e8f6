"""Stacks: each layer against NumPy, or PyTorch's own on the same values; then order, sizes and mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tsbench.data.panel import Panel
from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.choices import Activation
from tsbench.models.initialisers import initialise
from tsbench.models.layer_kinds import KINDS, parse_layers
from tsbench.models.layers import make_activation
from tsbench.models.registry import layer_arguments, model_spec
from tsbench.models.stack import Size, Stack, build_layers
from tsbench.training.forecaster import Forecaster

SHAPE = WindowShape(24, 6, channels_in=2, channels_out=2)
VALUES_BND = torch.randn(5, 11, 8, generator=torch.Generator().manual_seed(0))

Table = dict[str, Any]


def built(*layers: Table, values: Tensor = VALUES_BND) -> nn.Sequential:
    """Layers for values of this size, in evaluation; the size that they announce is the one that they give."""
    torch.manual_seed(0)
    network, size = build_layers(parse_layers(list(layers)), Size(*values.shape[1:]))
    network.eval()
    with torch.no_grad():
        assert network(values).shape == (len(values), size.places, size.channels)
    return network


def given(*layers: Table, values: Tensor = VALUES_BND) -> np.ndarray:
    with torch.no_grad():
        return built(*layers, values=values)(values).numpy()


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """By the last part of their names."""
    return {name.split(".")[-1]: weight.detach().numpy() for name, weight in network.named_parameters()}


def context(shape: WindowShape = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, shape.context_length, shape.channels_in, generator=generator)


def stack(layers: list[Table], shape: WindowShape = SHAPE, **arguments: Any) -> Stack:
    torch.manual_seed(0)
    return Stack(shape, layers=layers, **arguments).eval()


# Each kind


NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize(
    ("padding", "before", "after", "first"),
    [("same", 2, 2, 0), ("causal", 4, 0, 0), ("causal", 4, 0, 1), ("valid", 0, 0, 0)],
)
def test_conv1d_weighs_the_places_under_its_kernel(padding: str, before: int, after: int, first: int, mode: str):
    stride = 1 + first  # 11 places: with stride 2 causal takes every second one up to the newest, the first included
    table = {"num_filters": 6, "kernel_size": 3, "dilation": 2, "stride": stride, "groups": 2}
    layer = {"kind": "conv1d", "padding": padding, "padding_mode": mode, **table}
    padded_BND = np.pad(VALUES_BND.numpy(), ((0, 0), (before, after), (0, 0)), mode=NUMPY_MODES[mode])
    weights = weights_of(built(layer))  # [6, 4, 3]: three filters read the first four channels, three the others

    expected_BND = []
    for start in range(0, padded_BND.shape[1] - 4, stride):
        under_BKD = padded_BND[:, start : start + 5 : 2]
        halves = [
            np.einsum(
                "bkd,edk->be", under_BKD[:, :, 4 * half : 4 * half + 4], weights["weight"][3 * half : 3 * half + 3]
            )
            for half in (0, 1)
        ]
        expected_BND.append(np.concatenate(halves, 1) + weights["bias"])

    np.testing.assert_allclose(given(layer), np.stack(expected_BND, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("function", "pool"), [("max", np.max), ("average", np.mean)])
@pytest.mark.parametrize("size", [2, 3, 20])
def test_pooling_makes_one_place_of_several_and_of_those_left_over(function: str, pool: Any, size: int):
    values = VALUES_BND.numpy()

    expected = np.stack([pool(values[:, start : start + size], axis=1) for start in range(0, 11, size)], 1)

    np.testing.assert_allclose(given({"kind": "pooling", "function": function, "size": size}), expected, rtol=1e-5)


def test_adaptive_pooling_averages_equal_parts():
    values = VALUES_BND[:, :10]

    pooled = given({"kind": "pooling", "function": "adaptive", "pooled_length": 5}, values=values)

    np.testing.assert_allclose(pooled, values.unflatten(1, (5, 2)).mean(2), rtol=1e-5)


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_padding_adds_places_at_the_ends(mode: str):
    padded = given({"kind": "padding", "before": 3, "after": 1, "padding_mode": mode})

    expected = np.pad(VALUES_BND.numpy(), ((0, 0), (3, 1), (0, 0)), mode=NUMPY_MODES[mode])
    assert np.array_equal(padded, expected)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_recurrence_gives_its_outputs_at_every_place(kind: str):
    table = {"kind": kind, "hidden_size": 3, "num_layers": 2, "bidirectional": True}
    reference = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](8, 3, 2, batch_first=True, bidirectional=True)
    reference.load_state_dict(built(table)[0].recurrence.state_dict())

    with torch.no_grad():
        expected_BND, _ = reference(VALUES_BND)

    assert expected_BND.shape == (5, 11, 6)
    np.testing.assert_allclose(given(table), expected_BND, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("nonlinearity", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))])
def test_a_plain_recurrence_is_elmans(nonlinearity: str, function: Any):
    table = {"kind": "rnn", "hidden_size": 3, "nonlinearity": nonlinearity}
    weights = weights_of(built(table))

    state, outputs = np.zeros((5, 3)), []
    for value_BD in VALUES_BND.numpy().swapaxes(0, 1):
        read = value_BD @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        state = function(read + state @ weights["weight_hh_l0"].T + weights["bias_hh_l0"])
        outputs.append(state)

    np.testing.assert_allclose(given(table), np.stack(outputs, 1), rtol=1e-4, atol=1e-5)


def test_attention_gives_each_place_a_weighted_mean_of_all():
    table = {"kind": "attention", "num_heads": 2, "position": "none"}
    attention = built(table)[0].attention
    query, key, value = (
        (VALUES_BND @ weight.T + bias).unflatten(2, (2, 4)).transpose(1, 2)
        for weight, bias in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )

    weight_BANN = (query @ key.mT / 4**0.5).softmax(3)
    expected_BND = attention.out_proj((weight_BANN @ value).transpose(1, 2).flatten(2))

    np.testing.assert_allclose(given(table), expected_BND.detach(), rtol=1e-4, atol=1e-5)


def test_attention_without_positions_cannot_tell_places_apart_and_with_them_it_can():
    backwards = VALUES_BND.flip(1)

    def turns_with_its_input(position: str) -> bool:
        layer = built({"kind": "attention", "position": position})
        with torch.no_grad():
            return torch.allclose(layer(backwards), layer(VALUES_BND).flip(1), atol=1e-5)

    assert {p for p in ("none", "learned", "sinusoidal", "rotary") if turns_with_its_input(p)} == {"none"}


def test_only_learned_positions_are_weights():
    counts = {
        position: sum(weight.numel() for weight in built({"kind": "attention", "position": position}).parameters())
        for position in ("none", "learned", "sinusoidal", "rotary")
    }

    assert counts["learned"] - counts["none"] == 11 * 8
    assert counts["none"] == counts["sinusoidal"] == counts["rotary"]


def test_a_linear_map_is_the_same_at_every_place():
    table = {"kind": "linear", "hidden_size": 3}
    weights = weights_of(built(table))

    expected = VALUES_BND.numpy() @ weights["weight"].T + weights["bias"]

    np.testing.assert_allclose(given(table), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("function", "axes"), [("batch", (0, 1)), ("instance", (1,)), ("layer", (2,))])
def test_a_norm_takes_mean_and_variance_over_its_axes(function: str, axes: tuple[int, ...]):
    layer = built({"kind": "norm", "function": function}).train()
    values = VALUES_BND.numpy()

    expected = (values - values.mean(axes, keepdims=True)) / np.sqrt(values.var(axes, keepdims=True) + 1e-5)

    np.testing.assert_allclose(layer(VALUES_BND).detach(), expected, rtol=1e-4, atol=1e-5)


def test_group_norm_takes_them_over_the_channels_of_a_group_and_all_places():
    groups = VALUES_BND.unflatten(2, (2, 4))

    expected = (groups - groups.mean((1, 3), keepdim=True)) / (groups.var((1, 3), False, keepdim=True) + 1e-5).sqrt()

    normed = given({"kind": "norm", "function": "group", "num_groups": 2})
    np.testing.assert_allclose(normed, expected.flatten(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", get_args(Activation))
def test_an_activation_is_that_of_the_other_families(function: Any):
    with torch.no_grad():
        expected = make_activation(function)(VALUES_BND).numpy()

    assert np.array_equal(given({"kind": "activation", "function": function}), expected)


def test_softmax_makes_shares_of_the_channels_at_a_place():
    exponents = np.exp(VALUES_BND.numpy())

    shares = given({"kind": "activation", "function": "softmax"})

    np.testing.assert_allclose(shares, exponents / exponents.sum(2, keepdims=True), rtol=1e-5)


def dropped(dropout_kind: str, values: Tensor) -> Tensor:
    layer = built({"kind": "dropout", "rate": 0.25, "dropout_kind": dropout_kind}, values=values)
    assert torch.equal(layer(values), values)  # in evaluation
    return layer.train()(values)


def test_dropout_drops_elements_or_channels_or_keeps_mean_and_variance():
    ones_BND = torch.ones(200, 11, 8)

    single, whole = (dropped(kind, ones_BND) for kind in ("element", "channel"))
    alpha = dropped("alpha", torch.randn(200, 11, 8))

    assert single.unique().tolist() == whole.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (single == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (whole == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert (whole == whole[:, :1]).all()
    assert not (single == single[:, :1]).all()
    assert (alpha.mean().item(), alpha.var().item()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.05))


def test_a_residual_adds_what_comes_in_to_what_its_layers_give():
    inner = [{"kind": "norm"}, {"kind": "linear", "hidden_size": 8}]

    residual = given({"kind": "residual", "layers": inner})

    np.testing.assert_allclose(residual, given(*inner) + VALUES_BND.numpy(), rtol=1e-5, atol=1e-6)


KEYWORDS = [(kind, keyword) for kind in KINDS for keyword in layer_arguments(kind)]

SMALL_TABLES: dict[str, Table] = {
    "padding": {"before": 2},
    "residual": {"layers": [{"kind": "norm"}]},
    "conv1d": {"num_filters": 8, "kernel_size": 3},
}

NEEDS: dict[tuple[str, str], Table] = {
    ("pooling", "pooled_length"): {"function": "adaptive"},
    ("norm", "num_groups"): {"function": "group"},
    **{(kind, "dropout"): {"num_layers": 2} for kind in ("lstm", "gru", "rnn")},
}
"""Keywords that matter only beside another."""

OTHERS: dict[str, Any] = {
    "layers": [{"kind": "activation"}],
    "groups": 2,
    "num_heads": 2,
    "num_groups": 2,
    "before": 3,
    "after": 3,
}


@pytest.mark.parametrize(("kind", "keyword"), KEYWORDS)
def test_every_keyword_is_explained_and_changes_something(kind: str, keyword: str):
    argument = layer_arguments(kind)[keyword]
    table = {"kind": kind, **SMALL_TABLES.get(kind, {}), **NEEDS.get((kind, keyword), {})}
    value = table.get(keyword, argument.default)
    if keyword in OTHERS:
        other = OTHERS[keyword]
    elif get_origin(argument.type) is Literal:
        other = next(option for option in get_args(argument.type) if option != value)
    else:
        other = {bool: not value, int: 2 * value + 1, float: value + 0.4}[type(value)]

    def in_training(**changes: Any) -> Tensor:
        layer = built({**table, **changes}).train()
        torch.manual_seed(7)  # for dropout
        return layer(VALUES_BND)

    assert len(argument.meaning) > 10
    assert not torch.equal(in_training(), in_training(**{keyword: other}))


# The whole


def test_layers_come_one_after_the_other_then_readout_and_head():
    layers = [{"kind": "linear", "hidden_size": 3}, {"kind": "activation", "function": "tanh"}, {"kind": "linear"}]
    model = stack(layers, readout="all")
    first, _, second = model.layers

    with torch.no_grad():
        hidden_BND = second(torch.tanh(first(context())))
        expected_BHC = model.head.linear(hidden_BND.reshape(3, 24 * 64)).reshape(3, 6, 2)
        torch.testing.assert_close(model(context()), expected_BHC)


@pytest.mark.parametrize("readout", ["last", "mean", "all"])
def test_the_head_reads_the_last_place_the_mean_or_all_of_them(readout: str):
    model = stack([{"kind": "linear", "hidden_size": 3}], readout=readout)

    with torch.no_grad():
        values_BND = model.layers(context())
        read_BD = {"last": values_BND[:, -1], "mean": values_BND.mean(1), "all": values_BND.flatten(1)}[readout]
        torch.testing.assert_close(model(context()), model.head(read_BD))


def test_the_last_of_two_directions_is_where_each_has_read_everything():
    model = stack([{"kind": "gru", "hidden_size": 3, "bidirectional": True}], readout="last")

    with torch.no_grad():
        output_BND = model.layers(context())
        read_BD = torch.cat([output_BND[:, -1, :3], output_BND[:, 0, 3:]], 1)
        torch.testing.assert_close(model(context()), model.head(read_BD))


def test_causal_layers_keep_the_future_out_of_the_past():
    causal = {"kind": "conv1d", "num_filters": 8, "kernel_size": 4, "padding": "causal"}
    by_hand = [{"kind": "padding", "before": 3}, {**causal, "padding": "valid"}]
    network = built(causal, {"kind": "residual", "layers": by_hand}, {"kind": "norm"}, {"kind": "lstm"})
    changed = VALUES_BND.clone()
    changed[:, 6:] += 1

    with torch.no_grad():
        before, after = network(VALUES_BND), network(changed)

    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.isclose(before[:, 6:], after[:, 6:]).any(2).all()


def test_the_default_is_a_long_short_term_memory_over_days_that_end_on_the_newest_row():
    model = Stack(WindowShape(168, 24)).eval()
    newest_row = torch.zeros(1, 168, 1, requires_grad=True)

    convolution, _, lstm = model.layers
    convolution(newest_row)[0, -1].sum().backward()

    assert newest_row.grad[0, :, 0].nonzero().flatten().tolist() == list(range(144, 168))
    assert isinstance(lstm.recurrence, nn.LSTM)
    assert model.readout.width == 28 * 64  # a place every six hours


# Arguments


def test_defaults_are_written_out_so_that_a_key_does_not_depend_on_spelling_them():
    short = [{"kind": "gru"}, {"kind": "residual", "layers": [{"kind": "norm"}]}]
    inner = [{"kind": "norm", "function": "layer", "num_groups": 4}]
    own = {"hidden_size": 64, "num_layers": 1, "bias": True, "dropout": 0.0, "bidirectional": False}
    long = [{"kind": "gru", **own}, {"kind": "residual", "layers": inner}]

    resolved = model_spec("stack").resolve({"layers": short}, "test")

    assert resolved["layers"] == long
    assert resolved == model_spec("stack").resolve({"layers": long}, "test")
    assert json.loads(json.dumps(resolved)) == resolved
    assert short == [{"kind": "gru"}, {"kind": "residual", "layers": [{"kind": "norm"}]}]


MISTAKES = {
    "unknown kind": ([{"kind": "lstm"}, {"kind": "lstn"}], "layer 2: unknown kind 'lstn'; did you mean 'lstm'?"),
    "unknown keyword": (
        [{"kind": "conv1d", "filters": 8}],
        "layer 1 (conv1d): unknown key 'filters'; did you mean 'num_filters'?",
    ),
    "inside a residual": (
        [{"kind": "gru"}, {"kind": "residual", "layers": [{"kind": "norm"}, {"kind": "gru", "hidden": 3}]}],
        "layer 2.2 (gru): unknown key 'hidden'; did you mean 'hidden_size'?",
    ),
    "unknown choice": (
        [{"kind": "pooling", "function": "min"}],
        "layer 1 (pooling): function = 'min': input should be",
    ),
    "wrong type": ([{"kind": "gru", "hidden_size": "8"}], "layer 1 (gru): hidden_size = '8': input should be a valid"),
    "out of range": ([{"kind": "dropout", "rate": 1.0}], "layer 1 (dropout): rate = 1.0: input should be less than 1"),
    "no kind": (
        [{"hidden_size": 8}],
        "layer 1 = {'hidden_size': 8}: write a table with a kind, such as { kind = 'lstm'",
    ),
    "no table": (["lstm"], "layer 1 = 'lstm': write a table with a kind, such as { kind = 'lstm' }"),
    "no layers": ([], "layers = []: write one at least, such as { kind = 'lstm' }"),
    "an empty residual": ([{"kind": "residual", "layers": []}], "layer 1 (residual): layers = []: write one at least"),
    "a residual of nothing": ([{"kind": "residual"}], "layer 1 (residual): key 'layers' is missing"),
    "even kernel": (
        [{"kind": "conv1d", "kernel_size": 4}],
        "layer 1 (conv1d): kernel_size = 4: allowed are odd numbers, such as 5; padding = 'causal' or 'valid' allows",
    ),
    "groups": ([{"kind": "conv1d", "groups": 3}], "layer 1 (conv1d): groups = 3 does not divide num_filters = 32"),
    "padding of nothing": ([{"kind": "padding"}], "layer 1 (padding): adds nothing; set before or after"),
    "dropout between nothing": (
        [{"kind": "lstm", "dropout": 0.1}],
        "layer 1 (lstm): dropout = 0.1 stands between its layers, but num_layers = 1; set num_layers = 2",
    ),
}


@pytest.mark.parametrize(("layers", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_table_is_told_with_the_layers_number_and_kind(layers: list[Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(f"gruppe: {message}")):
        model_spec("stack").resolve({"layers": layers}, "gruppe")


def test_tables_are_checked_without_torch():
    code = "import sys, tsbench.models.layer_kinds, tsbench.models.registry; print('torch' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"


def inside(*layers: Table) -> list[Table]:
    return [{"kind": "linear", "hidden_size": 8}, {"kind": "residual", "layers": list(layers)}]


MISFITS = {
    "kernel": (
        [{"kind": "pooling", "size": 6}, {"kind": "conv1d", "padding": "valid"}],
        "layer 2 (conv1d): 4 places x 2 channels come in, but its kernel spans 7 places; "
        "use padding = 'same' or 'causal', or a smaller kernel_size or dilation",
    ),
    "groups": (
        [{"kind": "linear", "hidden_size": 6}, {"kind": "conv1d", "groups": 4}],
        "layer 2 (conv1d): 24 places x 6 channels come in, but groups = 4 must divide the channels; allowed: 1, 2, 3",
    ),
    "reflected by a convolution": (
        [{"kind": "conv1d", "kernel_size": 25, "padding": "causal", "padding_mode": "reflect"}],
        "layer 1 (conv1d): 24 places x 2 channels come in, but padding_mode = 'reflect' adds 24 at an end and needs "
        "more than it adds; use padding_mode = 'replicate'",
    ),
    "reflected padding": (
        [{"kind": "padding", "after": 24, "padding_mode": "reflect"}],
        "layer 1 (padding): 24 places x 2 channels come in, but padding_mode = 'reflect' adds 24 at an end",
    ),
    "heads": (
        [{"kind": "attention"}],
        "layer 1 (attention): 24 places x 2 channels come in, but num_heads = 4 must divide the channels; "
        "allowed: 1, 2, or put { kind = 'linear', hidden_size = 64 } in front",
    ),
    "rotary": (
        [{"kind": "attention", "num_heads": 2, "position": "rotary"}],
        "layer 1 (attention): 24 places x 2 channels come in, but position = 'rotary' turns pairs of channels, and a "
        "head has 1; change num_heads, or use position = 'sinusoidal'",
    ),
    "group norm": (
        [{"kind": "norm", "function": "group"}],
        "layer 1 (norm): 24 places x 2 channels come in, but num_groups = 4 must divide the channels; allowed: 1, 2",
    ),
    "instance norm": (
        [{"kind": "pooling", "size": 24}, {"kind": "norm", "function": "instance"}],
        "layer 2 (norm): 1 place x 2 channels come in, but function = 'instance' needs two places or more; "
        "use function = 'layer'",
    ),
    "residual, other channels": (
        inside({"kind": "lstm"}),
        "layer 2 (residual): 24 places x 8 channels come in, but 24 places x 64 channels come out of its layers; "
        "end them with { kind = 'linear', hidden_size = 8 }",
    ),
    "residual, other places": (
        inside({"kind": "pooling"}),
        "layer 2 (residual): 24 places x 8 channels come in, but 12 places x 8 channels come out of its layers; "
        "use padding = 'same' or 'causal' and stride = 1, and put pooling outside",
    ),
    "inside a residual": (
        inside({"kind": "norm"}, {"kind": "attention", "num_heads": 3}),
        "layer 2.2 (attention): 24 places x 8 channels come in, but num_heads = 3 must divide the channels",
    ),
}


@pytest.mark.parametrize(("layers", "message"), MISFITS.values(), ids=MISFITS)
def test_a_layer_that_cannot_read_what_comes_in_is_told_with_the_sizes(layers: list[Table], message: str):
    with pytest.raises(ConfigError, match=re.escape(f"stack: {message}")):
        stack(layers)


# What a forecaster does with it

EVERY_KIND = [
    {"kind": "padding", "before": 2},
    {"kind": "conv1d", "num_filters": 8, "kernel_size": 3},
    {"kind": "norm", "function": "batch"},
    {"kind": "activation"},
    {"kind": "pooling"},
    {"kind": "residual", "layers": [{"kind": "norm"}, {"kind": "attention"}, {"kind": "dropout"}]},
    {"kind": "linear", "hidden_size": 6},
    {"kind": "gru", "hidden_size": 5},
    {"kind": "rnn", "hidden_size": 5},
    {"kind": "lstm", "hidden_size": 5},
]


def test_every_kind_is_trained_saved_and_loaded(tmp_path: Path, small_panel: Panel):
    assert all(f"'{kind}'" in str(EVERY_KIND) for kind in KINDS)
    recipe = {"max_steps": 3, "batch_size": 8}
    forecaster = Forecaster("stack", context_length=24, horizon=6, layers=EVERY_KIND, recipe=recipe)

    forecaster.fit(small_panel.train, small_panel.validation, device="cpu").save(tmp_path / "kept.pt")
    loaded = Forecaster.load(tmp_path / "kept.pt")

    assert loaded.arguments == forecaster.arguments
    assert loaded.predict(small_panel).equals(forecaster.predict(small_panel))


def test_weights_of_every_layer_start_as_asked():
    model = stack(EVERY_KIND)

    initialise(model, "constant")

    fresh = {name: weight for name, weight in model.named_parameters() if "norm" not in name and "position" not in name}
    assert len(fresh) > 20
    for name, weight in fresh.items():
        assert (weight == (0.0 if "bias" in name else 0.01)).all(), name


def test_a_trace_names_each_layer_by_number_and_kind():
    forecaster = Forecaster("stack", context_length=24, horizon=6, seasonality=24, layers=EVERY_KIND).build(seed=0)

    layers = forecaster.trace(torch.randn(2, 24, 1))

    assert layers["layers.2_conv1d"].activation.shape == (2, 26, 8)
    assert layers["layers.6_residual.layers.2_attention"].inputs.shape == (2, 13, 8)
    assert layers["layers.10_lstm"].gradient.abs().sum() > 0
