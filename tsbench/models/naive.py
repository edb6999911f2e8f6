"""Forecasters without a parameter: the opponents that every network has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.registry import register


def need_one_season(shape: WindowShape, name: str) -> None:
    """Raises ConfigError where the context is shorter than a season."""
    if shape.context_length < shape.seasonality:
        raise ConfigError(
            f"{name} needs a context of at least one season: {shape.seasonality} rows, got {shape.context_length}; "
            "give a longer --context-length"
        )


@register("naive", learned=False)
class Naive(nn.Module):
    """Repeats the last value of the context."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.horizon = shape.horizon

    def forward(self, context_BLC: Tensor) -> Tensor:
        return context_BLC[:, -1:].expand(-1, self.horizon, -1)


@register("seasonal_naive", learned=False)
class SeasonalNaive(nn.Module):
    """Repeats the last season of the context."""

    row_H: Tensor

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        need_one_season(shape, "seasonal_naive")
        step_H = torch.arange(shape.horizon) % shape.seasonality
        self.register_buffer("row_H", shape.context_length - shape.seasonality + step_H, persistent=False)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return context_BLC.index_select(1, self.row_H)


@register("profile", learned=False)
class Profile(nn.Module):
    """Repeats the mean season of the context: the mean day of hourly data."""

    mean_HL: Tensor

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        need_one_season(shape, "profile")
        length, season = shape.context_length, shape.seasonality
        # Row l of the context is in phase l - L of the season that starts with the forecast.
        phase_L = (torch.arange(length) - length) % season
        phase_H = torch.arange(shape.horizon) % season
        same_HL = (phase_H[:, None] == phase_L[None, :]).float()
        self.register_buffer("mean_HL", same_HL / same_HL.sum(dim=1, keepdim=True), persistent=False)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return torch.einsum("hl,blc->bhc", self.mean_HL.to(context_BLC.dtype), context_BLC)
