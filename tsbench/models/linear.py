"""Linear forecasters: one direct map from context to horizon, trained like the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.layers import DirectHead
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
        self.channels = shape.channels_out
        self.head = DirectHead(shape.context_length * shape.channels_in, shape)

    def forward(self, context_BLC: Tensor) -> Tensor:
        last_B1C = context_BLC[:, -1:]
        return self.head((context_BLC - last_B1C).flatten(1)) + last_B1C[:, :, : self.channels]


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


@register("ridge", init=False)
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
