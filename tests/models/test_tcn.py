"""The temporal convolutional network: causal, with the receptive field it states."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.tcn import TCN, ResidualBlock

NORMS = ["weight", "none", "batch", "instance", "layer", "group"]


SHAPE = WindowShape(24, 6)


def build(shape: WindowShape = SHAPE, **arguments: Any) -> TCN:
    torch.manual_seed(0)
    return TCN(shape, **({"num_filters": 8} | arguments)).eval()


def build_block(**arguments: Any) -> ResidualBlock:
    torch.manual_seed(0)
    usual = {"norm": "weight", "activation": "relu", "dropout": 0.0, "dropout_kind": "element"}
    return ResidualBlock(2, 4, kernel_size=3, dilation=2, **(usual | arguments)).eval()


# What a place sees


def earlier_places_change(model: TCN) -> bool:
    """Whether places before the seventh segment notice that it and all later ones are others."""
    torch.manual_seed(1)
    segments_BDN = torch.randn(4, 2, 12)
    changed_BDN = segments_BDN.clone()
    changed_BDN[:, :, 7:] = 10 * torch.randn(4, 2, 5)
    before, after = model.blocks(segments_BDN), model.blocks(changed_BDN)
    assert not torch.equal(before[:, :, 7], after[:, :, 7])
    return not torch.allclose(before[:, :, :7], after[:, :, :7])


@pytest.mark.parametrize("norm", ["weight", "none", "layer"])
@pytest.mark.parametrize("dilation_base", [1, 2, 3])
@torch.no_grad()
def test_no_place_sees_a_later_segment_in_training_or_evaluation(norm: Any, dilation_base: int):
    model = build(segment_length=2, num_levels=3, norm=norm, dilation_base=dilation_base, dropout=0.0)

    assert not earlier_places_change(model.eval())
    assert not earlier_places_change(model.train())


@pytest.mark.parametrize(
    ("norm", "in_training", "in_evaluation"),
    [("batch", True, False), ("instance", True, True), ("group", True, True)],
)
@torch.no_grad()
def test_the_other_norms_let_later_segments_in_as_documented(norm: Any, in_training: bool, in_evaluation: bool):
    model = build(segment_length=2, num_levels=3, norm=norm, dropout=0.0)

    assert earlier_places_change(model.eval()) is in_evaluation
    assert earlier_places_change(model.train()) is in_training


@pytest.mark.parametrize(
    ("kernel_size", "dilation_base", "num_levels", "segment_length", "rows"),
    [
        (2, 2, 1, 1, 3),
        (3, 2, 1, 2, 10),
        (2, 2, 3, 1, 15),
        (3, 2, 2, 3, 39),
        (2, 3, 3, 1, 27),  # 1 + 2 (1 + 3 + 9)
        (3, 1, 4, 1, 17),  # 1 + 2 * 2 * 4
        (3, 4, 2, 2, 42),  # (1 + 2 * 2 (1 + 4)) * 2
        (1, 2, 3, 4, 4),
    ],
)
@pytest.mark.filterwarnings("ignore:tcn. the receptive field")
def test_the_last_place_sees_the_stated_receptive_field_and_no_row_more(
    kernel_size: int, dilation_base: int, num_levels: int, segment_length: int, rows: int
):
    model = build(
        WindowShape(48, 4),
        kernel_size=kernel_size,
        dilation_base=dilation_base,
        num_levels=num_levels,
        segment_length=segment_length,
        readout="last",
    )
    context_BLC = torch.randn(64, 48, 1, requires_grad=True)

    model(context_BLC).square().sum().backward()

    assert context_BLC.grad is not None
    seen_L = context_BLC.grad.abs().sum((0, 2)) > 0
    assert model.receptive_field == rows
    assert seen_L.tolist() == [row >= 48 - rows for row in range(48)]


@pytest.mark.parametrize("dilation_base", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [2, 3, 7])
@pytest.mark.parametrize("context_length", [1, 2, 24, 29, 96, 168])
def test_by_default_there_are_as_many_levels_as_the_context_needs_and_no_more(
    context_length: int, kernel_size: int, dilation_base: int
):
    shape = WindowShape(context_length, 4, seasonality=24)
    model = build(shape, kernel_size=kernel_size, dilation_base=dilation_base, segment_length=1)
    levels = len(model.blocks)

    assert model.receptive_field >= context_length
    one_fewer = 1 + 2 * (kernel_size - 1) * sum(dilation_base**level for level in range(levels - 1))
    assert levels == 1 or one_fewer < context_length


@pytest.mark.parametrize(("dilation_base", "dilations"), [(1, [1, 1, 1]), (2, [1, 2, 4]), (3, [1, 3, 9])])
def test_the_dilation_grows_by_its_base_from_block_to_block(dilation_base: int, dilations: list[int]):
    model = build(dilation_base=dilation_base, num_levels=3)

    assert [block.first.dilation[0] for block in model.blocks] == dilations
    assert [block.second.dilation[0] for block in model.blocks] == dilations


@pytest.mark.parametrize("norm", ["weight", "none", "layer"])
@pytest.mark.parametrize("dilation_base", [2, 3])
@pytest.mark.parametrize("context_length", [1, 2, 23, 24, 64])
def test_reading_the_last_place_alone_is_the_dilated_network_and_has_its_gradients(
    norm: Any, dilation_base: int, context_length: int
):
    """Plain: every place of every block; the head takes the last."""
    arguments = {"norm": norm, "dilation_base": dilation_base, "num_levels": 4, "segment_length": 1}
    shape = WindowShape(context_length, 6)
    plain, pruned = build(shape, **arguments, readout="all"), build(shape, **arguments, readout="last")
    pruned.blocks.load_state_dict(plain.blocks.state_dict())
    context_BLC = torch.randn(5, context_length, 1)

    expected = pruned.head(plain.blocks(context_BLC.mT)[:, :, -1])
    result = pruned(context_BLC)

    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    for loss, model in ((expected, plain), (result, pruned)):
        loss.square().sum().backward()
        assert model.blocks[0].first.bias.grad.abs().sum() > 0
    for (name, wanted), found in zip(plain.blocks.named_parameters(), pruned.blocks.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_reading_the_last_place_alone_costs_a_fraction():
    def operations(readout: Any) -> int:
        model = build(WindowShape(64, 6), segment_length=1, readout=readout)
        with FlopCounterMode(display=False) as counter:
            model.blocks(torch.zeros(1, 1, 64)) if readout == "all" else model(torch.zeros(1, 64, 1))
        return counter.get_total_flops()

    assert operations("last") < operations("all") / 2


@pytest.mark.parametrize(
    ("readout", "consequence"), [("last", "older rows are lost"), ("all", "no place sees the whole context")]
)
def test_a_receptive_field_shorter_than_the_context_is_told(readout: Any, consequence: str):
    with pytest.warns(
        UserWarning, match=f"receptive field of 13 rows is shorter than the context of 24: {consequence}"
    ):
        build(num_levels=2, segment_length=1, readout=readout)


def test_a_receptive_field_as_long_as_the_context_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(WindowShape(13, 6), num_levels=2, segment_length=1)
        build(WindowShape(29, 6))
        build(kernel_size=2, dilation_base=3, segment_length=1)  # as far apart as a block sees, so without gaps


def test_a_dilation_that_grows_faster_than_the_kernel_covers_leaves_gaps_and_is_told():
    with pytest.warns(UserWarning, match="dilation_base = 4 and kernel_size = 2 the receptive field has gaps"):
        model = build(WindowShape(11, 4), kernel_size=2, dilation_base=4, segment_length=1, readout="last")
    context_BLC = torch.randn(64, 11, 1, requires_grad=True)

    model(context_BLC).square().sum().backward()

    unseen_L = context_BLC.grad.abs().sum((0, 2)) == 0
    assert model.receptive_field == 11
    assert unseen_L.nonzero().flatten().tolist() == [3, 7]  # 0, 1 or 2 rows back, and 0, 4 or 8


# What a block computes


def convolve(convolution: nn.Conv1d, values_DN: Tensor) -> Tensor:
    """Dilation 2, three taps, nine places; the last tap lies on the place itself."""
    output = torch.zeros(4, 9) if convolution.bias is None else convolution.bias[:, None].repeat(1, 9)
    for place in range(9):
        for tap in range(3):
            source = place - 2 * (2 - tap)
            if source >= 0:
                output[:, place] += convolution.weight[:, :, tap] @ values_DN[:, source]
    return output


@torch.no_grad()
def test_a_block_is_two_dilated_convolutions_beside_a_shortcut():
    block = build_block()
    values_BDN = torch.randn(1, 2, 9)

    hidden_DN = convolve(block.second, convolve(block.first, values_BDN[0]).relu()).relu()
    shortcut_DN = block.shortcut.weight[:, :, 0] @ values_BDN[0] + block.shortcut.bias[:, None]

    torch.testing.assert_close(block(values_BDN)[0], (hidden_DN + shortcut_DN).relu())


NORM_FORMULAS = {
    "none": lambda hidden_DN: hidden_DN,
    "batch": lambda hidden_DN: standardised(hidden_DN, dim=1),  # of one window, in training
    "instance": lambda hidden_DN: standardised(hidden_DN, dim=1),
    "layer": lambda hidden_DN: standardised(hidden_DN, dim=0),
    "group": lambda hidden_DN: standardised(hidden_DN, dim=1),  # four groups of one filter each
}


def standardised(values: Tensor, dim: int) -> Tensor:
    centred = values - values.mean(dim, keepdim=True)
    return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("norm", NORM_FORMULAS)
@torch.no_grad()
def test_a_norm_stands_between_each_convolution_and_its_activation(norm: Any):
    block = build_block(norm=norm, activation="tanh").train()
    values_BDN = torch.randn(1, 2, 9)

    hidden_DN = NORM_FORMULAS[norm](convolve(block.first, values_BDN[0])).tanh()
    hidden_DN = NORM_FORMULAS[norm](convolve(block.second, hidden_DN)).tanh()

    expected = (hidden_DN + block.shortcut(values_BDN)[0]).tanh()
    torch.testing.assert_close(block(values_BDN)[0], expected)


@pytest.mark.parametrize("place", ["first", "second"])
@torch.no_grad()
def test_weight_norm_learns_the_length_and_the_direction_of_each_filter_apart(place: str):
    convolution = getattr(build_block(norm="weight"), place)
    length_D11, direction = (convolution.get_parameter(f"parametrizations.weight.original{i}") for i in (0, 1))
    before = convolution.weight.clone()

    torch.testing.assert_close(length_D11.flatten(), before.flatten(1).norm(dim=1))
    direction.mul_(3)
    torch.testing.assert_close(convolution.weight, before)
    length_D11.mul_(2)
    torch.testing.assert_close(convolution.weight, 2 * before)


@pytest.mark.parametrize("norm", NORMS)
def test_with_every_norm_the_gradient_reaches_every_parameter(norm: Any):
    model = build(norm=norm, activation="prelu").train().double()

    model(torch.randn(32, 24, 1).double()).square().sum().backward()

    # Where a norm takes a bias out again, rounding would leave a trace of 1e-15.
    assert [name for name, p in model.named_parameters() if p.grad.abs().max() < 1e-9] == []


def test_channel_dropout_drops_whole_filters_after_each_convolution():
    model = build(num_filters=64, dropout=0.5, dropout_kind="channel", activation="sigmoid").train()
    dropped = []
    model.blocks[0].dropout.register_forward_hook(lambda *seen: dropped.append(seen[2] == 0))

    model(torch.randn(4, 24, 1))

    assert len(dropped) == 2
    for dropped_BDN in dropped:
        assert torch.equal(dropped_BDN.any(2), dropped_BDN.all(2))  # a sigmoid is never zero by itself
        assert 90 < dropped_BDN.all(2).sum() < 166  # about half of 4 x 64


def test_dropout_of_everything_leaves_the_shortcut():
    block = build_block(dropout=1.0).train()
    values_BDN = torch.randn(1, 2, 9)

    assert torch.equal(block(values_BDN), F.relu(block.shortcut(values_BDN)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "instance", "segment_length": 24}, "tcn: norm = 'instance' needs two segments or more"),
        ({"norm": "group", "num_filters": 6}, "norm = 'group': 4 groups do not divide 6 channels"),
        ({"dilation_base": 0}, "tcn: dilation_base = 0: allowed are whole numbers from 1"),
        ({"num_levels": 0}, "tcn: num_levels = 0: allowed are whole numbers from 1"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_way_out(arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build(**arguments)
