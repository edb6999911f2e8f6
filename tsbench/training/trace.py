"""Looking inside a forecaster: what each layer is given, makes, and gets back as a gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class LayerTrace:
    """One layer during one forward and backward pass. Tensors are detached copies."""

    kind: str
    """Class of the layer."""
    inputs: Tensor | None = None
    """Its first tensor argument."""
    activation: Tensor | None = None
    """Its first output tensor."""
    gradient: Tensor | None = None
    """Of the loss, with respect to `activation`; None where none arrives."""
    input_gradient: Tensor | None = None
    """Of the loss, with respect to `inputs`; None where none is needed."""


@contextmanager
def traced_layers(model: nn.Module) -> Iterator[dict[str, LayerTrace]]:
    """Fill a dict, layer by layer in order of use, while the context is open.

    Hooks are gone when it closes, also after an exception. Containers without a parameter or function of their own are
    left out, and so are parts that a fused kernel computes in one piece.
    """
    layers: dict[str, LayerTrace] = {}
    with ExitStack() as hooks, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # a layer of constants: no matter
        for name, module in model.named_modules():
            if is_layer(name, module):
                _hook(hooks, layers, name, module)
        yield layers


def is_layer(name: str, module: nn.Module) -> bool:
    """Whether a module is shown: neither the model itself, nor a mere container, nor the inside of a weight norm."""
    return name != "" and not isinstance(module, nn.Sequential | nn.ModuleList) and "parametrizations" not in name


def _hook(hooks: ExitStack, layers: dict[str, LayerTrace], name: str, module: nn.Module) -> None:
    def before(module: nn.Module, arguments: Any) -> None:
        # Order of use; a layer that is used twice keeps its last use.
        layers.pop(name, None)
        layers[name] = LayerTrace(type(module).__name__, inputs=_copy(_first_tensor(arguments)))

    def after(module: nn.Module, arguments: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        layers[name].activation = _copy(tensor)
        if tensor is not None and tensor.requires_grad:
            hooks.callback(tensor.register_hook(_keep(layers[name])).remove)

    def backward(module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        layers[name].input_gradient = _copy(_first_tensor(grad_input))

    for handle in (
        module.register_forward_pre_hook(before),
        module.register_forward_hook(after),
        module.register_full_backward_hook(backward),
    ):
        hooks.callback(handle.remove)


def _keep(layer: LayerTrace) -> Callable[[Tensor], None]:
    def keep(gradient: Tensor) -> None:
        layer.gradient = _copy(gradient)

    return keep


def _first_tensor(values: Any) -> Tensor | None:
    if isinstance(values, Tensor):
        return values
    if isinstance(values, tuple | list):
        return next((tensor for value in values if (tensor := _first_tensor(value)) is not None), None)
    return None


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
