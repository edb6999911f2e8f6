"""Gradients while a forecaster trains: how large they are in each layer, and how far into the past they reach."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tsbench.data.windows import Batch
from tsbench.training.devices import synchronise
from tsbench.training.fit import Chunk, Training


class GradientNorms(Callback):
    """Writes the norms of gradients into a training's log at each look at the validation part.

    row_gradients: of a batch, given as its parts, the norm at each row of the context, `[L]`. The batch is that of the
    first step, so models that train with one seed are asked about the same windows.

    What needs a pass of its own is done at looks, on a clock of its own; a step only adds up norms, on the device.
    """

    def __init__(self, training: Training, row_gradients: Callable[..., Tensor]) -> None:
        self.training, self.row_gradients = training, row_gradients
        self.first_batch: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.layers = LayerNorms(pl_module.named_parameters())

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, _: int) -> None:
        if self.first_batch is None:
            self.first_batch = batch

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.layers.add(getattr(trainer.precision_plugin, "scaler", None))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.first_batch is None:  # a Trainer's sanity check, or validation alone: no step was taken
            return
        synchronise(pl_module.device)
        start = time.perf_counter()
        # Lightning validates in inference mode, where nothing has a gradient.
        with torch.inference_mode(False), torch.enable_grad():
            by_row = self.row_gradients(*_windows(self.first_batch)).tolist()
        point = {"step": trainer.global_step, "by_layer": self.layers.means(), "by_row": by_row}
        self.training.gradients.append(point)
        self.training.gradient_seconds += time.perf_counter() - start


def _windows(batch: Any) -> Batch:
    """Those of one step: the first of a chunk, or the batch of a Trainer of the user's own."""
    return next(batch.batches()) if isinstance(batch, Chunk) else batch


class LayerNorms:
    """Norms of the gradient of each layer's weights, added up over steps on the device."""

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        named = [(layer_of(name), weight) for name, weight in named_parameters if weight.requires_grad]
        self.names = list(dict.fromkeys(layer for layer, _ in named))
        self.weights = [weight for _, weight in named]
        device = self.weights[0].device
        self.layer_of_P = torch.tensor([self.names.index(layer) for layer, _ in named], device=device)
        self.no_gradient = torch.zeros(1, device=device)
        self.sums_N = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self.counts_N = torch.zeros_like(self.sums_N)

    def add(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Add the norms of the gradients that the weights hold now; the device is not waited for.

        scaler: what the loss was multiplied by in half precision. It skips steps whose gradient is not finite, and so
        do the sums.
        """
        gradients = [self.no_gradient if weight.grad is None else weight.grad for weight in self.weights]
        # In double precision: the squares of a vanishing gradient are too small for a single one.
        norms_P = torch.stack(torch._foreach_norm(gradients, 2, torch.float64))
        norms_N = torch.zeros_like(self.sums_N).index_add_(0, self.layer_of_P, norms_P.square()).sqrt()
        if scaler is not None:
            norms_N /= scaler.scale(torch.ones_like(self.no_gradient))
        finite_N = norms_N.isfinite()
        self.sums_N += norms_N.where(finite_N, 0.0)
        self.counts_N += finite_N

    def means(self) -> dict[str, float]:
        """By layer, over the steps since the last call; a layer without a finite gradient is left out."""
        means = zip(self.names, (self.sums_N / self.counts_N).tolist(), self.counts_N.tolist(), strict=True)
        found = {name: mean for name, mean, count in means if count}
        self.sums_N.zero_()
        self.counts_N.zero_()
        return found


def layer_of(parameter: str) -> str:
    """The layer that a weight of a forecaster belongs to, by the name that `trace` and `tsbench inspect` give it.

    The levels of a recurrent stack, which is one layer for PyTorch, are told apart: `recurrence.l0`, `recurrence.l1`.
    The parts of a weight norm belong to the layer that it is of; a weight of the model itself is a layer of its own.
    """
    layer, _, weight = parameter.removeprefix("model.").rpartition(".")
    level = re.search(r"_(l\d+)(_reverse)?$", weight)
    if level:
        return f"{layer}.{level[1]}"
    return layer.partition(".parametrizations")[0] or weight
