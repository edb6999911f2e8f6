"""The convolutional network against NumPy, place by place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.cnn import CNN, TransposedDecoder

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}

SHAPE = WindowShape(24, 6, channels_in=2, channels_out=2)


def build(shape: WindowShape = SHAPE, **arguments: Any) -> CNN:
    torch.manual_seed(0)
    return CNN(shape, **({"num_filters": 4, "kernel_size": 3} | arguments)).eval()


def layer(convolution: nn.Module, values_DL: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return convolution(torch.from_numpy(values_DL)[None])[0].numpy()


def random_values(channels: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(channels, length)).astype(np.float32)


def convolve(padded_DL: np.ndarray, convolution: nn.Conv1d, starts: range) -> np.ndarray:
    """One output per start of the kernel, all channels mixed."""
    weight_EDK, bias_E = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
    dilation = convolution.dilation[0]
    output = np.tile(bias_E[:, None], len(starts))
    for place, start in enumerate(starts):
        for tap in range(weight_EDK.shape[2]):
            output[:, place] += weight_EDK[:, :, tap] @ padded_DL[:, start + tap * dilation]
    return output


def test_the_forecast_is_strided_convolutions_then_one_linear_map():
    model = build(WindowShape(9, 3, 2, 2), num_layers=2, stride=2)
    context_LC = random_values(9, 2)
    head = {name: value.detach().numpy() for name, value in model.head.linear.named_parameters()}

    hidden = context_LC.T
    for place in (0, 2):
        padded = np.pad(hidden, ((0, 0), (1, 1)))  # zeros around the context
        hidden = np.maximum(convolve(padded, model.body[place], range(0, hidden.shape[1], 2)), 0)
    expected_HC = (head["weight"] @ hidden.ravel() + head["bias"]).reshape(3, 2)

    assert hidden.shape == (4, 3)  # 9 rows, then 5, then 3
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(context_LC)[None])[0], expected_HC, rtol=1e-4, atol=1e-6)


# Padding


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize(("kernel_size", "dilation", "stride"), [(3, 1, 1), (5, 2, 1), (3, 3, 2), (7, 1, 3)])
def test_same_lays_half_a_kernel_on_both_sides(kernel_size: int, dilation: int, stride: int, mode: Any):
    arguments = {"kernel_size": kernel_size, "dilation": dilation, "stride": stride, "padding_mode": mode}
    convolution = build(num_layers=1, **arguments).body[0]
    values_DL = random_values(2, 24)

    half = dilation * (kernel_size - 1) // 2
    padded = np.pad(values_DL, ((0, 0), (half, half)), NUMPY_MODES[mode])

    expected = convolve(padded, convolution, range(0, 24, stride))
    np.testing.assert_allclose(layer(convolution, values_DL), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize(("kernel_size", "dilation", "stride"), [(3, 1, 1), (4, 2, 1), (2, 3, 2), (7, 1, 5)])
def test_causal_lays_a_whole_kernel_in_front_and_ends_on_the_newest_row(
    kernel_size: int, dilation: int, stride: int, mode: Any
):
    arguments = {"kernel_size": kernel_size, "dilation": dilation, "stride": stride, "padding_mode": mode}
    convolution = build(num_layers=1, padding="causal", **arguments).body[0]
    values_DL = random_values(2, 24)

    padded = np.pad(values_DL, ((0, 0), (dilation * (kernel_size - 1), 0)), NUMPY_MODES[mode])

    # A kernel that starts at row i of the padded context ends on row i of the context.
    expected = convolve(padded, convolution, range(23 % stride, 24, stride))
    np.testing.assert_allclose(layer(convolution, values_DL), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_with_causal_padding_no_place_sees_a_later_row():
    body = build(padding="causal", stride=1, kernel_size=4, dilation=2).body
    values_BDL = torch.randn(1, 2, 24)
    changed_BDL = values_BDL.clone()
    changed_BDL[:, :, 15:] = 1e3

    before, after = body(values_BDL), body(changed_BDL)

    assert torch.equal(before[:, :, :15], after[:, :, :15])
    assert not torch.equal(before[:, :, 15], after[:, :, 15])


@pytest.mark.parametrize(("kernel_size", "dilation", "stride", "left"), [(3, 1, 1, 22), (4, 3, 1, 15), (3, 2, 4, 5)])
def test_valid_lies_on_rows_alone_and_ends_on_the_newest_one(kernel_size: int, dilation: int, stride: int, left: int):
    arguments = {"kernel_size": kernel_size, "dilation": dilation, "stride": stride}
    convolution = build(num_layers=1, padding="valid", **arguments).body[0]
    values_DL = random_values(2, 24)

    last = 24 - dilation * (kernel_size - 1) - 1
    expected = convolve(values_DL, convolution, range(last % stride, last + 1, stride))

    assert expected.shape == (4, left)
    np.testing.assert_allclose(layer(convolution, values_DL), expected, rtol=1e-4, atol=1e-5)


# Groups and separable convolutions


def test_groups_are_convolved_by_themselves():
    model = build(groups=2, stride=1)
    values_DL = random_values(4, 24)
    grouped = model.body[2]

    padded = np.pad(values_DL, ((0, 0), (1, 1)))
    whole = nn.Conv1d(4, 4, 3)
    whole.weight.data.zero_()
    for rows in (slice(0, 2), slice(2, 4)):
        whole.weight.data[rows, rows] = grouped.weight.data[rows]
    whole.bias = grouped.bias

    assert model.body[0].groups == 1
    np.testing.assert_allclose(layer(grouped, values_DL), convolve(padded, whole, range(24)), rtol=1e-4, atol=1e-5)


def test_a_separable_layer_convolves_each_channel_then_mixes_them_at_each_place():
    model = build(separable=True, stride=2)
    depthwise, pointwise = model.body[2], model.body[3]
    values_DL = random_values(4, 12)
    padded = np.pad(values_DL, ((0, 0), (1, 1)))

    each = np.zeros((4, 6), np.float32)
    for channel in range(4):
        for place in range(6):
            under_kernel = padded[channel, 2 * place : 2 * place + 3]
            each[channel, place] = depthwise.weight[channel, 0].detach().numpy() @ under_kernel
    expected = pointwise.weight[:, :, 0].detach().numpy() @ each + pointwise.bias.detach().numpy()[:, None]

    assert depthwise.weight.shape == (4, 1, 3)
    assert depthwise.bias is None  # the pointwise one has it
    np.testing.assert_allclose(layer(model.body[2:4], values_DL), expected, rtol=1e-4, atol=1e-5)


def test_the_first_layer_is_never_grouped_or_separable():
    # One channel by itself would be all there is to mix afterwards.
    plain = build(WindowShape(24, 6)).body[0].weight

    assert torch.equal(build(WindowShape(24, 6), groups=2).body[0].weight, plain)
    assert torch.equal(build(WindowShape(24, 6), separable=True).body[0].weight, plain)


# Norm, activation, dropout, pooling


@torch.no_grad()
def test_the_norm_stands_between_convolution_and_activation():
    model = build(norm="layer", activation="tanh", num_layers=1)
    values_BDL = torch.randn(2, 2, 24)

    hidden = model.body[0](values_BDL)
    centred = hidden - hidden.mean(1, keepdim=True)
    expected = torch.tanh(centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt())

    torch.testing.assert_close(model.body(values_BDL), expected)


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "layer", "group"])
@pytest.mark.parametrize("separable", [False, True])
def test_with_every_norm_the_gradient_reaches_every_parameter(norm: Any, separable: bool):
    model = build(norm=norm, separable=separable, num_filters=8, activation="silu").train().double()

    model(torch.randn(32, 24, 2).double()).square().sum().backward()

    # Where a norm takes a bias out again, rounding would leave a trace of 1e-15.
    assert [name for name, p in model.named_parameters() if p.grad.abs().max() < 1e-9] == []


@pytest.mark.parametrize(("pooling", "expected"), [("max", [3.0, 4.0, 1.0]), ("average", [2.0, 0.0, 1.0])])
def test_pooling_takes_two_places_together_and_a_last_one_by_itself(pooling: Any, expected: list[float]):
    body = build(num_layers=1, pooling=pooling).body

    assert body[2](torch.tensor([[[1.0, 3.0, -4.0, 4.0, 1.0]]])).flatten().tolist() == expected


def test_pooling_follows_every_convolution():
    model = build(WindowShape(21, 6), num_layers=2, stride=1, pooling="max")

    assert [type(module).__name__ for module in model.body] == 2 * ["Convolution", "ReLU", "MaxPool1d"]
    assert model.body(torch.randn(1, 1, 21)).shape[2] == 6  # 21 rows, then 11, then 6


@torch.no_grad()
def test_adaptive_pooling_averages_equal_parts_of_what_is_left_once():
    model = build(stride=1, pooling="adaptive", pooled_length=3)
    values_BDL = torch.randn(1, 2, 24)

    left_BDN = model.body[:-1](values_BDL)

    assert left_BDN.shape[2] == 24
    torch.testing.assert_close(model.body(values_BDL), left_BDN.unflatten(2, (3, 8)).mean(3))


def test_channel_dropout_drops_whole_filters_before_the_decoder():
    model = build(dropout=0.5, dropout_kind="channel", num_filters=64, activation="sigmoid").train()
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    model(torch.randn(4, 24, 2))

    dropped_BDN = seen[0].unflatten(1, (64, 6)) == 0
    assert torch.equal(dropped_BDN.any(2), dropped_BDN.all(2))  # a sigmoid is never zero by itself
    assert 90 < dropped_BDN.all(2).sum() < 166  # about half of 4 x 64


def test_element_dropout_leaves_no_value_to_the_decoder_at_a_rate_of_one():
    model = build(dropout=1.0).train()

    assert torch.equal(model(torch.randn(1, 24, 2)).flatten(), model.head.linear.bias)


# The transposed decoder


@torch.no_grad()
def test_a_transposed_convolution_doubles_the_places_and_each_place_adds_its_kernel():
    torch.manual_seed(0)
    decoder = TransposedDecoder(3, length=4, shape=WindowShape(4, 8), activation="relu")
    features_DN = random_values(3, 4)
    transposed = decoder.body[0]

    spread_DN = np.zeros((3, 10), np.float32)
    for place in range(4):
        for tap in range(4):  # [in, out, tap]
            spread_DN[:, 2 * place + tap] += transposed.weight[:, :, tap].numpy().T @ features_DN[:, place]
    grown_DN = np.maximum(spread_DN[:, 1:-1] + transposed.bias.numpy()[:, None], 0)
    expected_HC = (decoder.pointwise.weight[:, :, 0].numpy() @ grown_DN + decoder.pointwise.bias.numpy()[:, None]).T

    assert len(decoder.body) == 2
    np.testing.assert_allclose(decoder(torch.from_numpy(features_DN)[None])[0], expected_HC, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("horizon", "doublings"), [(1, 1), (6, 1), (12, 1), (13, 2), (24, 2), (25, 3), (96, 4), (720, 7)]
)
@torch.no_grad()
def test_places_double_until_there_is_one_per_step_and_the_last_ones_are_the_forecast(horizon: int, doublings: int):
    model = build(WindowShape(24, horizon, 2, 3), decoder="transposed")  # six places are left of 24 rows
    features_BDN = torch.randn(2, 4, 6)

    grown_BCN = model.head.pointwise(model.head.body(features_BDN))

    assert grown_BCN.shape == (2, 3, 6 * 2**doublings)
    assert torch.equal(model.head(features_BDN), grown_BCN[:, :, -horizon:].mT)


# Every length, and what is impossible


@pytest.mark.parametrize("context_length", [1, 2, 3, 7, 24, 29])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding": "causal", "kernel_size": 4},
        {"padding": "causal", "padding_mode": "replicate", "stride": 5},
        {"pooling": "max"},
        {"pooling": "adaptive"},
        {"decoder": "transposed"},
        {"dilation": 3},
    ],
    ids=str,
)
@torch.no_grad()
def test_any_context_will_do(context_length: int, arguments: dict[str, Any]):
    model = build(WindowShape(context_length, 5), **arguments)

    assert model(torch.randn(3, context_length, 1)).shape == (3, 5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "cnn: kernel_size = 4: allowed are odd numbers, such as 7"),
        ({"groups": 3}, "cnn: groups = 3 does not divide num_filters = 4"),
        ({"groups": 2, "num_layers": 1}, "cnn: groups = 2 concerns the layers after the first; set num_layers = 2"),
        ({"separable": True, "num_layers": 1}, "cnn: separable = true concerns the layers after the first"),
        ({"separable": True, "groups": 2}, "cnn: separable = true has a group per channel; leave out groups = 2"),
        ({"stride": 0}, "cnn: stride = 0: allowed are whole numbers from 1"),
        ({"num_layers": 0}, "cnn: num_layers = 0: allowed are whole numbers from 1"),
        (
            {"padding": "valid", "kernel_size": 12},
            "cnn: nothing is left of the context in layer 2: 7 places come in, and its kernel spans 12; "
            "use padding = 'same'",
        ),
        (
            {"padding_mode": "reflect", "kernel_size": 49},
            "cnn: padding_mode = 'reflect' needs more places than it adds, but in layer 1 24 come in and 24 are added",
        ),
        (
            {"padding_mode": "reflect", "padding": "causal", "kernel_size": 13},
            "in layer 2 12 come in and 12 are added",
        ),
        ({"norm": "instance", "stride": 5}, "cnn: norm = 'instance' needs two places or more, but layer 2 leaves one"),
        ({"norm": "group", "num_filters": 6}, "norm = 'group': 4 groups do not divide 6 channels"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_way_out(arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(**arguments)


@pytest.mark.parametrize("channels", [1, 2])
def test_outputs_of_convolutions_and_their_gradients_lie_alike_in_memory(channels: int):
    """Else ReLU's backward pass goes through them value by value."""
    model, strides = build(WindowShape(24, 6, channels, channels)), []

    def look(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        output.register_hook(lambda gradient: strides.append((output.stride(), gradient.stride())))

    for module in model.body:
        module.register_forward_hook(look)
    model(torch.randn(5, 24, channels)).square().mean().backward()

    assert len(strides) == 4
    assert all(forth == back for forth, back in strides)
