"""What a model is made of, before it is trained: layers with shapes, weights, operations, receptive field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsbench.evaluation.throughput import flops_per_window
from tsbench.training.forecaster import Forecaster
from tsbench.training.trace import is_layer


@dataclass(frozen=True)
class LayerFacts:
    """One layer, with the weights that are its own and not its children's."""

    name: str
    kind: str
    shape_in: tuple[int, ...] | None
    shape_out: tuple[int, ...] | None
    num_parameters: int
    num_trainable: int
    num_buffers: int
    dtype: str


@dataclass(frozen=True)
class WeightFacts:
    """How one weight starts."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    largest: float


@dataclass(frozen=True)
class Inspection:
    """All of it. Shapes are those of a batch of two windows; independent channels count as windows."""

    layers: list[LayerFacts]
    weights: list[WeightFacts]
    num_parameters: int
    flops_per_window: int
    receptive_field: int
    """Rows of the context that can change the forecast, counted back from the last one."""


def inspect_model(forecaster: Forecaster, channels: int) -> Inspection:
    """Look at a forecaster that has been built."""
    assert forecaster.model is not None, "build() comes first"
    generator = torch.Generator().manual_seed(0)
    context_BLC = torch.randn(2, forecaster.context_length, channels, generator=generator)
    rows = forecaster.context_length + forecaster.horizon
    covariates_BMK = torch.randn(2, rows, forecaster.roles.width, generator=generator)
    traces = forecaster.trace(context_BLC, covariates_BMK=covariates_BMK)
    layers = []
    for name, module in forecaster.model.named_modules():
        if is_layer(name, module):
            layer = traces.get(name)
            layers.append(
                LayerFacts(
                    name=name,
                    kind=type(module).__name__,
                    shape_in=_shape(layer.inputs) if layer else None,
                    shape_out=_shape(layer.activation) if layer else None,
                    num_parameters=_count(_own_parameters(module)),
                    num_trainable=_count(p for p in _own_parameters(module) if p.requires_grad),
                    num_buffers=_count(module.buffers(recurse=False)),
                    dtype=_dtype(module),
                )
            )
    return Inspection(
        layers=layers,
        weights=[_weight_facts(name, weight) for name, weight in forecaster.model.named_parameters()],
        num_parameters=_count(forecaster.model.parameters()),
        flops_per_window=flops_per_window(forecaster, channels),
        receptive_field=receptive_field(forecaster),
    )


def receptive_field(forecaster: Forecaster) -> int:
    """Rows of the context that can change the forecast, counted back from the last one: by gradients, not by formula.

    Of the model alone: instance normalisation lets every row of the context in.
    """
    assert forecaster.model is not None
    generator = torch.Generator().manual_seed(0)
    # Several windows: one alone may leave a rectifier shut.
    shape = forecaster.shape
    context_BLC = torch.randn(16, shape.context_length, shape.channels_in, generator=generator)
    context_BLC = context_BLC.to(forecaster.device).to(forecaster.dtype)
    was_training = forecaster.training
    forecaster.eval()
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient outside training
        forecast = forecaster.model(context_BLC.requires_grad_())
    forecaster.train(was_training)
    if not forecast.requires_grad:
        return 0
    (gradient_BLC,) = torch.autograd.grad(forecast.square().sum(), context_BLC)
    rows = gradient_BLC.abs().sum((0, 2)).nonzero()
    return forecaster.context_length - int(rows.min()) if len(rows) else 0


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Those of the module that are not a child's; a weight norm's direction and size count as the layer's own."""
    inside = getattr(module, "parametrizations", None)
    return [*module.parameters(recurse=False), *(inside.parameters() if inside is not None else ())]


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _count(tensors: object) -> int:
    return sum(tensor.numel() for tensor in tensors)  # type: ignore[attr-defined]


def _dtype(module: nn.Module) -> str:
    kinds = {str(p.dtype).removeprefix("torch.") for p in (*module.parameters(False), *module.buffers(False))}
    return ", ".join(sorted(kinds))


def _weight_facts(name: str, weight: Tensor) -> WeightFacts:
    values = weight.detach().double()
    return WeightFacts(
        name,
        tuple(weight.shape),
        float(values.mean()),
        float(values.std(correction=0)),
        float(values.abs().max()),
    )
