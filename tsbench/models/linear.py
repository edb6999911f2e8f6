"""Linear forecasters: one direct map from context to horizon, trained like the networks."""

from __future__ import annotations

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
