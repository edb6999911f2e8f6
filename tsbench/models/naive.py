"""Forecasters without a parameter: the opponents that every network has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


@register("naive2", learned=False, history=True)
class Naive2(nn.Module):
    """Repeats the last value without its season, times the season, where a series has one (M4's Naive2).

    It reads all rows of an item before the forecast, in original units. A series has a season where its autocorrelation
    at the seasonal lag is significant at 90 %, it is three seasons long, and all its values are greater than zero.
    Makridakis, Spiliotis and Assimakopoulos 2020; the decomposition is the classical one, multiplicative.
    """

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.season, self.horizon = shape.seasonality, shape.horizon

    def forward(self, context_BLC: Tensor) -> Tensor:
        """Shorter series begin with NaN."""
        history_NT = context_BLC.mT.flatten(0, 1).double()
        index_NM = torch.ones_like(history_NT[:, :1]).expand(-1, self.season)
        if self.season > 1 and history_NT.shape[1] >= 3 * self.season:
            is_seasonal_N = _is_seasonal(history_NT, self.season)
            index_NM = torch.where(is_seasonal_N[:, None], _seasonal_indices(history_NT, self.season), index_NM)
        # The phases are counted back from the last row: it has the last one.
        step_H = torch.arange(self.horizon, device=history_NT.device) % self.season
        forecast_NH = (history_NT[:, -1:] / index_NM[:, -1:]) * index_NM[:, step_H]
        return forecast_NH.unflatten(0, (len(context_BLC), -1)).mT.to(context_BLC.dtype)


def _is_seasonal(history_NT: Tensor, season: int) -> Tensor:
    """Whether the autocorrelation at the seasonal lag is beyond its limit (Bartlett's) at 90 %, `[N]`."""
    is_there_NT = ~history_NT.isnan()
    length_N = is_there_NT.sum(1)
    mean_N1 = history_NT.nansum(1, keepdim=True) / length_N[:, None]
    centred_NT = torch.where(is_there_NT, history_NT - mean_N1, 0.0)
    power_N = centred_NT.square().sum(1)
    products = [(centred_NT[:, lag:] * centred_NT[:, :-lag]).sum(1) for lag in range(1, season + 1)]
    correlation_NM = torch.stack(products, dim=1) / power_N[:, None]
    limit_N = 1.645 * ((1 + 2 * correlation_NM[:, :-1].square().sum(1)) / length_N).sqrt()
    is_positive_N = torch.where(is_there_NT, history_NT, 1.0).gt(0).all(1)
    return (correlation_NM[:, -1].abs() > limit_N) & (length_N >= 3 * season) & is_positive_N


def _seasonal_indices(history_NT: Tensor, season: int) -> Tensor:
    """How far each phase lies above the moving average of a season, mean 1, `[N, season]`; the last row's is last."""
    half = season // 2
    weights_K = torch.ones(2 * half + 1, dtype=history_NT.dtype, device=history_NT.device)
    if season % 2 == 0:
        weights_K[[0, -1]] = 0.5
    length = history_NT.shape[1]
    trend_NT = F.conv1d(history_NT[:, None], weights_K.view(1, 1, -1) / season)[:, 0]
    ratio_NT = torch.full_like(history_NT, torch.nan)
    ratio_NT[:, half : length - half] = history_NT[:, half : length - half] / trend_NT
    whole_NT = F.pad(ratio_NT, (-length % season, 0), value=torch.nan)
    index_NM = whole_NT.unflatten(1, (-1, season)).nanmean(1)
    return index_NM / index_NM.mean(1, keepdim=True)
