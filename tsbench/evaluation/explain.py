"""Which part of the context a forecast rests on: the same methods, for every family, on the same windows.

What is explained is the model itself, inside the instance normalisation: the level and spread of a window, which every
row moves a little, would blur it. Single steps ahead are explained, because in their sum signs cancel. Where a method
needs a context in which nothing happens, it is the window's mean in every row. Covariates of a row are part of it; what
is known ahead stays as it is.

Beside the letters of the project: N windows as the model takes them (with independent channels, one for each).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsbench.errors import MachineError
from tsbench.evaluation.importance import Explanation
from tsbench.models.ahead import forecast_with
from tsbench.models.attention import RotaryAttention
from tsbench.training.forecaster import Forecaster

MOST_STEPS = 24
"""Steps ahead that are explained at most, evenly spaced, the first and the last among them."""
MOST_CHANNELS = 8
"""Channels that are explained at most, evenly spaced: hundreds would take hours and say the same."""
NUM_POINTS = 16
"""Between the window's mean and the window, for integrated gradients: they then sum to what they explain within 2 % of
it (MLP, GRU, CNN and TCN on the pedestrian counts; 1 % with 32, at twice the time)."""
ROWS_AT_ONCE = 2**14
"""Of all windows in a batch: long contexts go in small batches, since attention grows with their square."""
_WINDOWS_AT_ONCE = 16
"""For occlusion, whose effects are kept for every window, step and row of a batch."""

Target = tuple[int, int]
"""A step ahead, from 0, and a channel of the model's output: with quantiles, one of several for each channel."""


def require_captum() -> None:
    """Raises MachineError, with the command that installs it, where captum is missing."""
    try:
        import captum.attr  # noqa: F401  (two seconds)
    except ImportError as error:
        raise MachineError(
            "explaining needs the package captum, which is not here; type: pip install 'tsbench[explain]'"
        ) from error


def explain(forecaster: Forecaster, context_WLC: Tensor, covariates_WMK: Tensor | None = None) -> Explanation:
    """What the forecasts of these windows (scaled values) rest on. Training mode and gradients are left as they were.

    Integrated gradients and occlusion for every model, Grad-CAM where there is a convolution, attention maps where
    there is attention. Raises MachineError where captum is missing.
    """
    require_captum()
    model = forecaster.model
    assert model is not None, "fit() comes first"
    num_windows, _, num_channels = context_WLC.shape
    channels = evenly_spaced(num_channels, MOST_CHANNELS)
    if not forecaster.mixes_channels:
        context_WLC = context_WLC[:, :, channels]
    given = forecaster.model_input(context_WLC.to(forecaster.device).to(forecaster.dtype), covariates_WMK)
    inputs_NLC, ahead_NHA = (None if part is None else part.detach() for part in given)
    assert inputs_NLC is not None
    steps = evenly_spaced(forecaster.horizon, MOST_STEPS)
    outputs = forecaster.num_outputs  # of a channel; of its quantiles the median is explained
    explained = [channel * outputs + outputs // 2 for channel in (channels if forecaster.mixes_channels else [0])]
    targets = [(step, output) for step in steps for output in explained]
    with _ready(forecaster):
        by_target = {
            "integrated_gradients": _summed_gradients(model, inputs_NLC, targets, ahead_NHA),
            "occlusion": _summed_occlusion(model, inputs_NLC, targets, ahead_NHA),
        }
        layer = last_convolution(model)
        if layer is not None:
            by_target["grad_cam"] = _summed_grad_cam(model, layer, inputs_NLC, targets, ahead_NHA)
        attention = attention_maps(model, inputs_NLC)
    return Explanation(
        steps_S=np.array(steps) + 1,
        importance={method: _shares(moved_TL, len(steps)) for method, moved_TL in by_target.items()},
        attention={name: weights.double().cpu().numpy() for name, weights in attention.items()},
        num_windows=num_windows,
        num_channels=len(channels),
    )


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


# The methods. Each gives what captum does, with its sign.


def integrated_gradients(
    model: nn.Module, inputs_NLC: Tensor, target: Target, ahead_NHA: Tensor | None = None
) -> Tensor:
    """What each value of the context adds to one forecast, `[N, L, C]` (Sundararajan et al. 2017).

    Completeness: a window's values sum to the forecast less the forecast of the window's mean.
    """
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(partial(forecast_with, model))
    at_once = max(1, ROWS_AT_ONCE // inputs_NLC.shape[1])
    return torch.cat(
        [
            method.attribute(
                windows,
                baselines=_mean_window(windows),
                target=target,
                additional_forward_args=ahead,
                n_steps=NUM_POINTS,
                internal_batch_size=max(at_once, len(windows)),
            )
            for windows, ahead in _in_parts(max(1, at_once // NUM_POINTS), inputs_NLC, ahead_NHA)
        ]
    )


def occlusion(
    model: nn.Module, inputs_NLC: Tensor, targets: Sequence[Target], ahead_NHA: Tensor | None = None
) -> Tensor:
    """What each forecast loses when a row of the context is replaced by the window's mean, `[N, targets, L]`.

    Occlusion by a window of one row (Zeiler and Fergus 2014).
    """
    from captum.attr import FeatureAblation

    steps, channels = zip(*targets, strict=True)

    def with_rows(is_there_NL: Tensor, windows: Tensor, ahead: Tensor | None) -> Tensor:
        mean = _mean_window(windows)
        return forecast_with(model, mean + (windows - mean) * is_there_NL.unsqueeze(2), ahead)[:, steps, channels]

    method, length, parts = FeatureAblation(with_rows), inputs_NLC.shape[1], []
    for windows, ahead in _in_parts(_WINDOWS_AT_ONCE, inputs_NLC, ahead_NHA):
        # One switch for each row: all channels of a row go together. Gives every switch's effect on every output.
        effect = method.attribute(
            windows.new_ones(len(windows), length),
            additional_forward_args=(windows, ahead),
            perturbations_per_eval=max(1, ROWS_AT_ONCE // (len(windows) * length)),
        )
        parts.append(effect.unflatten(0, (len(windows), len(targets))))
    return torch.cat(parts)


def last_convolution(model: nn.Module) -> nn.Conv1d | None:
    """The last convolution wider than a place: one over a single place only mixes filters."""
    found = [module for module in model.modules() if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1]
    return found[-1] if found else None


def grad_cam(
    model: nn.Module, layer: nn.Conv1d, inputs_NLC: Tensor, target: Target, ahead_NHA: Tensor | None = None
) -> Tensor:
    """Grad-CAM in one dimension (Selvaraju et al. 2017), `[N, L]`: a row has the value of the place over it.

    Each filter's output, weighted by the mean over its places of the forecast's gradient. Without the paper's
    rectifier: what lowers a forecast is evidence, too.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    method, parts = LayerGradCam(partial(forecast_with, model), layer), []
    for windows, ahead in _in_parts(max(1, ROWS_AT_ONCE // inputs_NLC.shape[1]), inputs_NLC, ahead_NHA):
        map_N1P = method.attribute(windows.clone().requires_grad_(), target=target, additional_forward_args=ahead)
        parts.append(LayerAttribution.interpolate(map_N1P, (windows.shape[1],), "nearest").squeeze(1).detach())
    return torch.cat(parts)


def attention_maps(model: nn.Module, inputs_NLC: Tensor) -> dict[str, Tensor]:
    """By layer, how tokens share their attention, `[tokens that ask, tokens of the context]`; rows sum to one.

    Mean over windows and heads. Of a decoder, what its queries read of the context, not what they read of each other.
    """
    names = _attention_layers(model)
    if not names:
        return {}
    sums: dict[str, Tensor] = {}

    def keep(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if isinstance(module, RotaryAttention):
            weights_NQK = module.weights(*arguments)
        else:  # forward, not a call: a call would come back here
            weights_NQK = module.forward(*arguments, **{**keywords, "need_weights": True})[1]
        name = names[module]
        sums[name] = sums.get(name, 0) + weights_NQK.sum(0)

    with ExitStack() as hooks, torch.no_grad():
        for module in names:
            hooks.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        for windows in inputs_NLC.split(max(1, ROWS_AT_ONCE // inputs_NLC.shape[1])):
            model(windows)
    return {name: weights / len(inputs_NLC) for name, weights in sums.items()}


def _attention_layers(model: nn.Module) -> dict[nn.Module, str]:
    """Those over the context: encoder 1, encoder 2, decoder 1; in a stack layer 1, layer 2."""
    found: dict[nn.Module, str] = {}
    for path, module in model.named_modules():
        part, _, inner = path.partition(".")
        is_attention = isinstance(module, nn.MultiheadAttention | RotaryAttention)
        if is_attention and not (part == "decoder" and inner.endswith("self_attn")):
            kind = part.removesuffix("s")
            found[module] = f"{kind} {1 + sum(name.startswith(kind) for name in found.values())}"
    return found


# From values with a sign to shares


def _summed_gradients(model: nn.Module, inputs_NLC: Tensor, targets: Sequence[Target], ahead: Tensor | None) -> Tensor:
    return torch.stack([integrated_gradients(model, inputs_NLC, target, ahead).abs().sum((0, 2)) for target in targets])


def _summed_occlusion(model: nn.Module, inputs_NLC: Tensor, targets: Sequence[Target], ahead: Tensor | None) -> Tensor:
    return occlusion(model, inputs_NLC, targets, ahead).abs().sum(0)


def _summed_grad_cam(
    model: nn.Module, layer: nn.Conv1d, inputs_NLC: Tensor, targets: Sequence[Target], ahead: Tensor | None
) -> Tensor:
    return torch.stack([grad_cam(model, layer, inputs_NLC, target, ahead).abs().sum(0) for target in targets])


def _in_parts(size: int, inputs_NLC: Tensor, ahead_NHA: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """So many windows at a time, each with what is known ahead of it."""
    parts = inputs_NLC.split(size)
    return zip(parts, [None] * len(parts) if ahead_NHA is None else ahead_NHA.split(size), strict=True)


def _shares(moved_TL: Tensor, num_steps: int) -> np.ndarray:
    """`[targets, L]` to `[S, L]`: over all output channels of a step, as shares of the step's sum."""
    moved_SL = moved_TL.double().unflatten(0, (num_steps, -1)).sum(1)
    total_S1 = moved_SL.sum(1, keepdim=True)
    return torch.where(total_S1 > 0, moved_SL / total_S1, 0.0).cpu().numpy()


def _mean_window(windows_NLC: Tensor) -> Tensor:
    return windows_NLC.mean(1, keepdim=True).expand_as(windows_NLC)


@contextmanager
def _ready(forecaster: Forecaster) -> Iterator[None]:
    """In evaluation mode, with gradients, and put back as it was."""
    was_training = forecaster.training
    forecaster.eval()
    try:
        # cuDNN's recurrences have no gradient outside training.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        forecaster.train(was_training)
