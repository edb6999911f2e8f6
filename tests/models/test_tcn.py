"""The temporal convolutional network: causal, with the receptive field it states."""

from __future__ import annotations

import pytest
import torch

from tsbench.data.windows import WindowShape
from tsbench.models.tcn import TCN, ResidualBlock

SETTINGS = [(2, 1, 1), (3, 1, 2), (2, 3, 1), (3, 2, 3)]
"""Kernel size, levels, segment length: receptive fields of 3, 10, 15 and 39 rows by 1 + 2 (k - 1) (2^n - 1)."""


@torch.no_grad()
def test_no_place_sees_a_later_segment():
    model = TCN(WindowShape(24, 6), segment_length=2, num_levels=3).eval()
    segments_BDN = torch.randn(1, 2, 12)
    changed_BDN = segments_BDN.clone()
    changed_BDN[:, :, 7:] = 1e3

    before, after = model.blocks(segments_BDN), model.blocks(changed_BDN)

    assert torch.equal(before[:, :, :7], after[:, :, :7])
    assert not torch.equal(before[:, :, 7], after[:, :, 7])


@pytest.mark.parametrize(("kernel_size", "num_levels", "segment_length"), SETTINGS)
def test_the_last_place_sees_the_stated_receptive_field_and_no_row_more(
    kernel_size: int, num_levels: int, segment_length: int
):
    torch.manual_seed(0)
    model = TCN(
        WindowShape(48, 4),
        kernel_size=kernel_size,
        num_levels=num_levels,
        segment_length=segment_length,
        readout="last",
    ).eval()
    context_BLC = torch.randn(64, 48, 1, requires_grad=True)

    model(context_BLC).square().sum().backward()

    assert context_BLC.grad is not None
    seen_L = context_BLC.grad.abs().sum((0, 2)) > 0
    assert model.receptive_field == (1 + 2 * (kernel_size - 1) * (2**num_levels - 1)) * segment_length
    assert seen_L.tolist() == [row >= 48 - model.receptive_field for row in range(48)]


@pytest.mark.parametrize("kernel_size", [2, 3, 7])
@pytest.mark.parametrize("context_length", [1, 2, 24, 29, 96, 168, 336])
def test_by_default_there_are_as_many_levels_as_the_context_needs_and_no_more(context_length: int, kernel_size: int):
    model = TCN(WindowShape(context_length, 4, seasonality=24), kernel_size=kernel_size, segment_length=1)
    levels = len(model.blocks)

    assert model.receptive_field >= context_length
    assert levels == 1 or 1 + 2 * (kernel_size - 1) * (2 ** (levels - 1) - 1) < context_length


@torch.no_grad()
def test_a_block_is_two_dilated_convolutions_beside_a_shortcut():
    torch.manual_seed(0)
    block = ResidualBlock(2, 3, kernel_size=3, dilation=2, dropout=0.0)
    values_BDN = torch.randn(1, 2, 9)

    def convolve(convolution: torch.nn.Conv1d, values_DN: torch.Tensor) -> torch.Tensor:
        output = convolution.bias[:, None].repeat(1, 9)
        for place in range(9):
            for tap in range(3):
                source = place - 2 * (2 - tap)  # the last tap lies on the place itself
                if source >= 0:
                    output[:, place] += convolution.weight[:, :, tap] @ values_DN[:, source]
        return output.relu()

    hidden_DN = convolve(block.second, convolve(block.first, values_BDN[0]))
    shortcut_DN = block.shortcut.weight[:, :, 0] @ values_BDN[0] + block.shortcut.bias[:, None]

    torch.testing.assert_close(block(values_BDN)[0], (hidden_DN + shortcut_DN).relu())
