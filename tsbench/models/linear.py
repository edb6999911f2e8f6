"""Linear forecasters: one direct map from context to horizon, trained like the networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.layers import DirectHead
from tsbench.models.naive import need_one_season
from tsbench.models.registry import register


@register("linear")
class Linear(nn.Module):
    """One linear map from the context to all steps of the horizon (Zeng et al. 2023, Linear)."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.head = DirectHead(shape.context_length * shape.channels_in, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.head(context_BLC.flatten(1))


@register("nlinear")
class NLinear(nn.Module):
    """One linear map from the context less its last value, which is added again (Zeng et al. 2023, NLinear)."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.targets, self.quantiles = shape.targets, shape.quantiles
        self.head = DirectHead(shape.context_length * shape.channels_in, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        last_B1C = context_BLC[:, -1:]
        forecast_BHC = self.head((context_BLC - last_B1C).flatten(1))
        return forecast_BHC + last_B1C[:, :, : self.targets].repeat_interleave(self.quantiles, 2)


@register("dlinear")
class DLinear(nn.Module):
    """Two linear maps, one for the moving average of the context and one for the rest (Zeng et al. 2023, DLinear).

    kernel_size: rows in the moving average; odd, the ends are repeated.
    """

    def __init__(self, shape: WindowShape, *, kernel_size: int = 25) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"dlinear: kernel_size = {kernel_size}: allowed are odd numbers, such as 25")
        self.kernel_size = kernel_size
        width = shape.context_length * shape.channels_in
        self.trend = DirectHead(width, shape)
        self.rest = DirectHead(width, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        half = self.kernel_size // 2
        # Replicate padding on both ends keeps the moving average as long as the context.
        padded_BCL = F.pad(context_BLC.mT, (half, half), mode="replicate")
        trend_BLC = F.avg_pool1d(padded_BCL, self.kernel_size, stride=1).mT
        return self.trend(trend_BLC.flatten(1)) + self.rest((context_BLC - trend_BLC).flatten(1))


class ClosedForm(nn.Module):
    """A model whose weights are solved for, not trained: it sees every training window once, then solves."""

    def add(self, context_BLC: Tensor, target_BHC: Tensor, spread_B1C: Tensor, ahead_BHA: Tensor | None = None) -> None:
        """Windows in float64. The forecast, times the spread of its window, should be the target."""
        raise NotImplementedError

    def solve(self) -> None:
        """Set the weights from all windows that were added."""
        raise NotImplementedError


class LinearAhead(nn.Module):
    """Adds to a forecast a linear map of all values that are known of its steps."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        width, outputs = shape.horizon * shape.ahead, shape.horizon * shape.channels_out
        self.weight_DO = nn.Parameter(torch.zeros(width, outputs), requires_grad=False)

    def forward(self, forecast_BHC: Tensor, ahead_BHA: Tensor) -> Tensor:
        return forecast_BHC + (ahead_BHA.flatten(1) @ self.weight_DO).unflatten(1, forecast_BHC.shape[1:])


@register("ridge", solved=True)
class Ridge(ClosedForm):
    """The linear map with the least squared error over all training windows, in closed form (ridge regression).

    penalty: added to the diagonal of the normal equations, per training window; 0 is ordinary least squares.
    """

    def __init__(self, shape: WindowShape, *, penalty: float = 0.0) -> None:
        super().__init__()
        width, outputs = shape.context_length * shape.channels_in, shape.horizon * shape.channels_out
        self.penalty, self.shape = penalty, shape
        # Parameters without a gradient: counted as weights, left alone by training.
        self.weight_DO = nn.Parameter(torch.zeros(width, outputs), requires_grad=False)
        self.bias_O = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        self.ahead = LinearAhead(shape) if shape.ahead else None
        self._equations: tuple[Tensor, Tensor, int] | None = None

    def forward(self, context_BLC: Tensor) -> Tensor:
        return (context_BLC.flatten(1) @ self.weight_DO + self.bias_O).unflatten(1, (-1, self.shape.channels_out))

    def add(self, context_BLC: Tensor, target_BHC: Tensor, spread_B1C: Tensor, ahead_BHA: Tensor | None = None) -> None:
        # Least squares on the scale of the target: a row of the equations is multiplied by its window's spread. With
        # mixed channels each output has a spread of its own; their mean keeps one system for all outputs.
        spread_B1 = spread_B1C.mean(2)
        own_BHC = target_BHC / spread_B1C * spread_B1.unsqueeze(2)
        known = [] if ahead_BHA is None else [ahead_BHA.flatten(1)]
        rows_BD = torch.cat([context_BLC.flatten(1), *known, torch.ones_like(spread_B1)], 1) * spread_B1
        square, cross, count = self._equations or (0, 0, 0)
        self._equations = square + rows_BD.mT @ rows_BD, cross + rows_BD.mT @ own_BHC.flatten(1), count + len(rows_BD)

    def solve(self) -> None:
        assert self._equations is not None, "add() comes first"
        square, cross, count = self._equations
        penalties = torch.full((len(square),), self.penalty * count, dtype=square.dtype, device=square.device)
        penalties[-1] = 0  # the bias is free
        # The pseudo-inverse: a window less its last value has a column of zeros.
        solution = torch.linalg.pinv(square + penalties.diag(), hermitian=True) @ cross
        width = len(self.weight_DO)
        self.weight_DO.copy_(solution[:width])
        if self.ahead is not None:
            self.ahead.weight_DO.copy_(solution[width:-1])
        self.bias_O.copy_(solution[-1])
        self._equations = None


_Sums = tuple[Any, Any, Any]
_NOTHING: _Sums = (0, 0, 0)
"""Before the first window: squares, products with the target, number of rows."""


def _added(one: _Sums, other: _Sums) -> _Sums:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


class _Seasons:
    """Windows as rows of one phase each: the values of a phase in all seasons side by side."""

    def __init__(self, shape: WindowShape) -> None:
        self.season, self.horizon = shape.seasonality, shape.horizon
        self.ahead = -(-shape.horizon // shape.seasonality)
        self.last_phases = shape.horizon - (self.ahead - 1) * shape.seasonality
        """Phases that the last season ahead still holds."""

    def of_context(self, values_BLC: Tensor) -> Tensor:
        """The last whole seasons, `[B, phases, seasons * C]`."""
        whole_BLC = values_BLC[:, values_BLC.shape[1] % self.season :]
        return whole_BLC.unflatten(1, (-1, self.season)).transpose(1, 2).flatten(2)

    def of_horizon(self, values_BHC: Tensor) -> Tensor:
        """The seasons ahead, noughts where the horizon ends within one, `[B, phases, seasons * C]`."""
        return self.of_context(F.pad(values_BHC, (0, 0, 0, self.season - self.last_phases)))

    def to_horizon(self, phases_BPO: Tensor) -> Tensor:
        """`of_horizon` turned back, `[B, H, C]`."""
        seasons_BSPC = phases_BPO.unflatten(2, (self.ahead, -1)).transpose(1, 2)
        return seasons_BSPC.flatten(1, 2)[:, : self.horizon]


class SeasonalAhead(nn.Module):
    """Adds to a forecast a linear map of what is known of its phase in all seasons ahead."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.seasons = _Seasons(shape)
        width, outputs = self.seasons.ahead * shape.ahead, self.seasons.ahead * shape.channels_out
        self.weight_DO = nn.Parameter(torch.zeros(width, outputs), requires_grad=False)

    def forward(self, forecast_BHC: Tensor, ahead_BHA: Tensor) -> Tensor:
        return forecast_BHC + self.seasons.to_horizon(self.seasons.of_horizon(ahead_BHA) @ self.weight_DO)


@register("seasonal_ridge", solved=True)
class SeasonalRidge(ClosedForm):
    """Each season ahead a weighted sum of the context's seasons; the same weights for every phase, in closed form.

    For hourly data: tomorrow at nine from the nine o'clocks of the last days. The map is that of SparseTSF (Lin et al.
    2024) without its smoothing; the weights are those of least squares, shrunk towards equal ones, which are `profile`.

    penalty: of the squared distance of the weights from equal ones, as a share of the inputs' mean square; the larger,
        the nearer to `profile`.

    Raises ConfigError for a context shorter than a season.
    """

    def __init__(self, shape: WindowShape, *, penalty: float = 0.3) -> None:
        super().__init__()
        need_one_season(shape, "seasonal_ridge")
        self.penalty, self.channels, self.seasons = penalty, shape.channels_out, _Seasons(shape)
        num_seasons = shape.context_length // shape.seasonality
        # Channel by channel the mean of all seasons, whatever the season ahead.
        own_CC = torch.eye(shape.channels_in, shape.channels_out) / num_seasons
        self.weight_DO = nn.Parameter(own_CC.repeat(num_seasons, self.seasons.ahead), requires_grad=False)
        self.ahead = SeasonalAhead(shape) if shape.ahead else None
        self._sums = [_NOTHING, _NOTHING]

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.seasons.to_horizon(self.seasons.of_context(context_BLC) @ self.weight_DO)

    def add(self, context_BLC: Tensor, target_BHC: Tensor, spread_B1C: Tensor, ahead_BHA: Tensor | None = None) -> None:
        spread_B11 = spread_B1C.mean(2, keepdim=True)  # as in `ridge`
        known = [] if ahead_BHA is None else [self.seasons.of_horizon(ahead_BHA)]
        rows_BPD = torch.cat([self.seasons.of_context(context_BLC), *known], 2) * spread_B11
        own_BPO = self.seasons.of_horizon(target_BHC / spread_B1C * spread_B11)
        seen = self.seasons.last_phases
        for part, phases in enumerate((slice(0, seen), slice(seen, None))):
            rows_ND, own_NO = rows_BPD[:, phases].flatten(0, 1), own_BPO[:, phases].flatten(0, 1)
            more = (rows_ND.mT @ rows_ND, rows_ND.mT @ own_NO, len(rows_ND))
            self._sums[part] = _added(self._sums[part], more)

    def solve(self) -> None:
        seen, unseen = self._sums
        last = self.weight_DO.shape[1] - self.channels
        # The last season ahead is known by the phases within the horizon only, the seasons before it by all.
        self._solve(slice(last, None), *seen)
        self._solve(slice(0, last), *_added(seen, unseen))
        self._sums = [_NOTHING, _NOTHING]

    def _solve(self, outputs: slice, square: Tensor, cross: Tensor, count: int) -> None:
        """Set the weights of these outputs, which are still where the penalty draws them."""
        weights = [self.weight_DO] if self.ahead is None else [self.weight_DO, self.ahead.weight_DO]
        drawn_DO = torch.cat([weight[:, outputs] for weight in weights]).to(square)
        penalties = self.penalty * square.diagonal().mean() * torch.eye(len(square)).to(square)
        solution = torch.linalg.pinv(square + penalties, hermitian=True) @ (cross[:, outputs] + penalties @ drawn_DO)
        for weight, solved in zip(weights, solution.split([len(weight) for weight in weights]), strict=True):
            weight[:, outputs] = solved
