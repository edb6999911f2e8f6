"""A training's curve on its way into loggers."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from tsbench.training.fit import Training
from tsbench.training.loggers import RunLog


class Tracks(Callback):
    """Tells a run's loggers what the stopwatch has just written down, between its clocks."""

    def __init__(self, training: Training, log: RunLog) -> None:
        self.training, self.run_log = training, log  # `log` is a method of callbacks

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.training.curve:  # a Trainer of the user's own has no stopwatch
            return
        point = self.training.curve[-1]
        steps, seconds = self.training.chunks[-1]
        before = self.run_log.seconds
        self.run_log.look(
            int(point["step"]),
            {
                "train_loss": point["train_loss"],
                "val_loss": point["val_loss"],
                "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),  # a tensor on a GPU
                "steps_per_second": steps / seconds,
            },
        )
        self.training.log_seconds += self.run_log.seconds - before
