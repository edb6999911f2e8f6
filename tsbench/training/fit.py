"""Training: Lightning's Trainer around chunks of optimizer steps.

One batch of the Trainer is a chunk of steps, and one epoch is the stretch between two looks at the validation part.
That leaves loops, callbacks, precision and devices to Lightning, at a cost that is divided by the length of a chunk.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from tsbench.data.windows import Batch, Windows
from tsbench.training.devices import synchronise
from tsbench.training.progress import Progress
from tsbench.training.recipe import Recipe

CHUNK_SECONDS = 0.1
"""How long a chunk should take: the Trainer's cost of a batch, up to a millisecond, is lost in it, and a progress line
still moves."""

_FIRST_CHUNK_STEPS = 5

_PRECISIONS: dict[str, Any] = {
    "32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
    "64": "64-true",
}


class Chunk:
    """Some optimizer steps: the windows of each step's batch.

    No dataclass: Lightning looks into those for tensors to convert, and refuses frozen ones, in double precision.
    """

    def __init__(self, windows: Windows, picks_KB: Tensor) -> None:
        self.windows, self.picks_KB = windows, picks_KB

    def to(self, device: torch.device, **_: Any) -> Chunk:
        return type(self)(self.windows, self.picks_KB.to(device))

    def batches(self) -> Iterator[Batch]:
        self.windows.open()
        return self.windows.batches(self.picks_KB)


class WholePart:
    """All windows of a part: a data loader whose one batch is itself. No dataclass, see `Chunk`."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __iter__(self) -> Iterator[WholePart]:
        yield self

    def to(self, device: torch.device, **_: Any) -> WholePart:
        return self

    def batches(self) -> Iterator[Batch]:
        return self.windows.in_order(self.windows.at_a_time)


class ChunkStream:
    """What the Trainer iterates over: each pass goes on where the one before ended, for `validate_every` steps."""

    chunk = Chunk

    def __init__(self, windows: Windows, recipe: Recipe, seed: int) -> None:
        self.windows, self.interval = windows, recipe.validate_every
        self.chunk_steps = _FIRST_CHUNK_STEPS
        self._sources = windows.shuffled(recipe.batch_size, recipe.max_steps, seed)
        self._source, self._picks = next(self._sources)

    def __iter__(self) -> Iterator[Chunk]:
        left = self.interval
        while left:
            if picks := list(islice(self._picks, min(self.chunk_steps, left))):
                left -= len(picks)
                yield self.chunk(self._source, torch.stack(picks))
            elif (source := next(self._sources, None)) is not None:
                self._source, self._picks = source
            else:
                return

    def pace(self, seconds_per_step: float) -> None:
        """Make the next chunks so long that they take `CHUNK_SECONDS`; what is trained on does not depend on it."""
        self.chunk_steps = max(1, round(CHUNK_SECONDS / max(seconds_per_step, 1e-6)))


@dataclass
class Training:
    """What happened in one training."""

    steps: int = 0
    best_step: int = 0
    windows_seen: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """step, train_loss, val_loss, seconds of each look at the validation split."""
    gradients: list[dict[str, Any]] = field(default_factory=list)
    """step, by_layer, by_row of each look, where the recipe asks for `gradient_norms`."""
    chunks: list[tuple[int, float]] = field(default_factory=list)
    """Steps and seconds of each chunk, device synchronised."""
    train_seconds: float = 0.0
    validate_seconds: float = 0.0
    graph: str = ""
    """On a GPU: whether a step was captured as a CUDA graph, or why not."""
    gradient_seconds: float = 0.0
    """What `gradients` took at looks; in no other clock."""
    log_seconds: float = 0.0
    """What loggers took at looks; in no clock."""


def train(
    forecaster: pl.LightningModule,
    training: Training,
    recipe: Recipe,
    windows: Windows,
    validation: Windows,
    *,
    seed: int,
    device: torch.device,
    tell: Callable[[Progress], None] | None = None,
) -> None:
    """Train a forecaster in place and leave it with its best weights; what happened is written into `training`.

    Raises Diverged when the loss leaves the finite numbers.
    """
    stream = ChunkStream(windows, recipe, seed)
    callbacks = [
        BestWeights(training),
        EarlyStopping("val_loss", patience=recipe.patience, check_finite=False),
        Stopwatch(training, stream, recipe, tell),
    ]
    run_trainer(forecaster, recipe, stream, validation, callbacks, device)


def run_trainer(
    module: pl.LightningModule,
    recipe: Recipe,
    stream: ChunkStream,
    validation: Windows,
    callbacks: list[Callback],
    device: torch.device,
) -> None:
    """Lightning's Trainer with all but the loop left out."""
    with _Quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision=_PRECISIONS[recipe.precision],
            max_epochs=-(-recipe.max_steps // recipe.validate_every),
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, stream, WholePart(validation))
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error


class BestWeights(Callback):
    """Keeps the weights with the smallest validation loss in memory, on the device, and puts them back at the end."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.smallest = float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.smallest:
            self.smallest, self.training.best_step = loss, self.training.steps
            self.weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.load_state_dict(self.weights)


class Stopwatch(Callback):
    """Separate clocks for training chunks and validation, and the curve of both losses."""

    def __init__(
        self, training: Training, stream: ChunkStream, recipe: Recipe, tell: Callable[[Progress], None] | None
    ) -> None:
        self.training, self.stream, self.recipe, self.tell = training, stream, recipe, tell
        self.start = self.mark = time.perf_counter()

    def _lap(self, device: torch.device) -> float:
        synchronise(device)
        now = time.perf_counter()
        seconds, self.mark = now - self.mark, now
        return seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._lap(pl_module.device)
        self.start = self.mark

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._lap(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seconds, steps = self._lap(pl_module.device), len(batch.picks_KB)
        training = self.training
        training.chunks.append((steps, seconds))
        training.steps += steps
        training.windows_seen += batch.picks_KB.numel()
        training.train_seconds += seconds
        self.stream.pace(seconds / steps)
        if self.tell:
            speed = batch.picks_KB.numel() / seconds
            self.tell(Progress(training.steps, self.recipe.max_steps, float(outputs["loss"]), speed))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._lap(pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.training.validate_seconds += self._lap(pl_module.device)
        metrics = trainer.callback_metrics
        self.training.curve.append(
            {
                "step": self.training.steps,
                "train_loss": float(metrics["train_loss"]),
                "val_loss": float(metrics["val_loss"]),
                "seconds": self.mark - self.start - self.training.gradient_seconds - self.training.log_seconds,
            }
        )


class _Quiet:
    """Keeps Lightning's device lines, advertisements and hints about data loaders out of the terminal."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.WARNING)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module="lightning")

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(None, None, None)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
