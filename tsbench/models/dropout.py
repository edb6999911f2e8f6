"""Dropout at a quarter of its price on a CPU.

PyTorch decides on each value with a random number of its own: 4.7 ns a value, two fifths of the training step of an MLP
or a Transformer. Here one number of 64 bits decides on four: 1 ns a value with the product (AMD EPYC, one thread).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHANCES = 2**16
"""A value is decided on by 16 bits: a rate is kept to a 65,536th."""


class Dropout(nn.Dropout):
    """`nn.Dropout`: in training each value is zero at a rate of p, and the others are larger, so that the mean stays.

    What it draws comes from torch's generator, in the order of the values in memory.
    """

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or values.device.type != "cpu":
            return super().forward(values)
        noise = torch.empty_like(values)
        order = sorted(range(noise.dim()), key=noise.stride, reverse=True)
        fill_with_noise(noise.permute(order), self.p)
        return values * noise


def fill_with_noise(noise: Tensor, rate: float, generator: torch.Generator | None = None) -> None:
    """Zeros at this rate, and between them what makes the mean one. noise: contiguous."""
    dropped = min(round(rate * _CHANCES), _CHANCES - 1)
    drawn = torch.empty(-(-noise.numel() // 4), dtype=torch.int64, device=noise.device)
    drawn.random_(torch.iinfo(torch.int64).min, None, generator=generator)  # all 64 bits
    chances = drawn.view(torch.int16)[: noise.numel()].view(noise.shape)
    torch.ge(chances, dropped - _CHANCES // 2, out=noise)
    noise.mul_(_CHANCES / (_CHANCES - dropped))
