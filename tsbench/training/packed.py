"""Several seeds of one run, trained together: one step for all, their weights stacked.

Every seed keeps its own start, order of windows, dropout, clipping, best weights and early stopping: what comes out is
what its own run would give, but for rounding. A seed that stops or diverges leaves, and the others go on.

Letters: S seeds that still train, P weights of one seed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from tsbench.data.blocks import BlockedWindows
from tsbench.data.windows import Batch, Windows, shuffled_picks
from tsbench.errors import Diverged, TsbenchError
from tsbench.models.linear import ClosedForm
from tsbench.training.devices import set_precision
from tsbench.training.fit import Chunk, ChunkStream, Stopwatch, Training, WholePart, run_trainer
from tsbench.training.forecaster import Forecaster, check_finite
from tsbench.training.graphs import StepGraph, step_graph
from tsbench.training.optimizers import DirectStep, make_optimizer
from tsbench.training.progress import Progress
from tsbench.training.recipe import Recipe
from tsbench.training.stacked import Stacked


class PackingError(TsbenchError):
    """These seeds can only be trained one after the other."""


def fit_together(
    forecasters: Sequence[Forecaster],
    windows: Windows,
    validation: Windows,
    *,
    seeds: Sequence[int],
    tell: Callable[[Progress], None] | None = None,
) -> list[Diverged | None]:
    """`Forecaster.fit_windows` for forecasters that differ in nothing, each with a seed of its own.

    Returns of each what its own training would have raised. The seconds in a log are that seed's share.

    Raises PackingError with the reason; nothing is trained then.
    """
    members = [Member(forecaster, seed) for forecaster, seed in zip(forecasters, seeds, strict=True)]
    device, recipe = windows.device, forecasters[0].recipe
    for member in members:
        member.forecaster.training_log = Training()
        member.forecaster.has_holes = windows.has_holes or validation.has_holes
        member.forecaster.build(member.seed).to(device)
    if reason := _why_alone(forecasters[0], windows):
        raise PackingError(reason)
    set_precision(recipe, device)
    try:
        pack = Pack(members, PackStream(windows, recipe, seeds), device)
        run_trainer(pack, recipe, pack.stream, validation, [PackWatch(pack, tell)], device)
    except Exception as error:  # no rule in vmap, not enough memory for all: one after the other they may still train
        raise PackingError(f"{type(error).__name__}: {str(error).strip().partition('. ')[0]}") from error
    for member in members:
        if member.error is None:
            member.forecaster.load_state_dict(member.best)
            member.forecaster.eval().calibrate(validation)
        member.forecaster.eval()
    return [member.error for member in members]


def _why_alone(forecaster: Forecaster, windows: Windows) -> str:
    """What is known against training the seeds of this forecaster together; empty: nothing."""
    if isinstance(windows, BlockedWindows):
        return "the panel is mapped: the blocks in memory are those of one seed's order"
    if isinstance(forecaster.model, ClosedForm):
        return "the model is solved for, not trained"
    if not any(parameter.requires_grad for parameter in forecaster.parameters()):
        return "there is nothing to train"
    if forecaster.recipe.gradient_norms:
        return "gradient_norms are read from one seed at a time"
    if forecaster.recipe.precision == "16":
        return "one gradient scaler would couple the seeds"
    return ""


@dataclass
class Member:
    """One seed of a pack."""

    forecaster: Forecaster
    seed: int
    smallest: float = float("inf")
    best: dict[str, Tensor] = field(default_factory=dict)
    looks_since_best: int = 0
    error: Diverged | None = None

    @property
    def goes_on(self) -> bool:
        return self.error is None and self.looks_since_best < self.forecaster.recipe.patience

    def look(self, part: WholePart, state: dict[str, Tensor], train_loss: float, step: int) -> None:
        """At the validation part, with the ordinary forecaster: a seed's batch of 256 windows fills the machine alone.

        state: weights and buffers by name. train_loss: mean over the steps since the look before.
        """
        self.forecaster.load_state_dict(state)
        self.forecaster.eval().on_validation_start()
        self.forecaster.validation_step(part, 0)
        losses = {"val_loss": self.forecaster.validation_loss(), "train_loss": train_loss}
        losses = {name: float(np.float32(loss)) for name, loss in losses.items()}  # as Lightning keeps what is logged
        try:
            check_finite(losses, step)
        except Diverged as error:
            self.error = error
            return
        log = self.forecaster.training_log
        log.curve.append({"step": step, **losses, "seconds": 0.0})
        self.looks_since_best += 1
        if losses["val_loss"] < self.smallest:
            self.smallest, self.looks_since_best, log.best_step = losses["val_loss"], 0, step
            self.best = {name: value.detach().clone() for name, value in state.items()}


class PackChunk(Chunk):
    """Some optimizer steps of all seeds: picks are `[K, S, B]`, a batch is of tensors `[S, B, ...]`."""

    def batch(self, picks_SB: Tensor) -> Batch:
        return tuple(part.unflatten(0, picks_SB.shape) for part in self.windows.batch(picks_SB.flatten()))


class PackStream(ChunkStream):
    """What the Trainer iterates over: the windows of each seed's own stream, side by side."""

    chunk = PackChunk

    def __init__(self, windows: Windows, recipe: Recipe, seeds: Sequence[int]) -> None:
        super().__init__(windows, recipe, seeds[0])
        self._orders = [shuffled_picks(len(windows), recipe.batch_size, recipe.max_steps, seed) for seed in seeds]
        self.keep(range(len(seeds)))

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the seeds at these places."""
        self._orders = [self._orders[place] for place in places]
        self._picks = map(torch.stack, zip(*self._orders, strict=True))


class _Loss(nn.Module):
    """A forecaster's loss as a forward pass, which is what `functional_call` calls."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        self.forecaster = forecaster

    def forward(self, *batch: Tensor) -> Tensor:
        return self.forecaster.loss(batch)


class Pack(pl.LightningModule):
    """Forecasters that train together.

    For each group of the optimizer their weights lie in one tensor `[S, P]`: clipping and the optimizer's step are a
    few operations on it, however many layers there are.
    """

    def __init__(self, members: Sequence[Member], stream: PackStream, device: torch.device) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.stream = stream
        self.members = list(members)
        """Those that still train, in the order of the rows."""
        first = members[0].forecaster
        self.recipe = first.recipe
        self._stacked = Stacked(_Loss(first), [torch.Generator(device).manual_seed(member.seed) for member in members])
        self._groups = first.parameter_groups()
        names = {parameter: name for name, parameter in first.named_parameters()}
        self._names = [[names[parameter] for parameter in group.pop("params")] for group in self._groups]
        trained = {name for group in self._names for name in group}
        states = [member.forecaster.state_dict() for member in members]
        self._shapes = {name: value.shape for name, value in states[0].items()}
        self.weights_SP = nn.ParameterList(
            torch.stack([torch.cat([state[name].flatten() for name in group]) for state in states])
            for group in self._names
        )
        # Weights that are frozen, and buffers.
        self._others = {name: torch.stack([s[name] for s in states]) for name in self._shapes if name not in trained}

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and buffers by name, `[S, ...]`; those that are trained are views of `weights_SP`."""
        tensors = dict(self._others)
        for weights_SP, names in zip(self.weights_SP, self._names, strict=True):
            parts = weights_SP.split([self._shapes[name].numel() for name in names], 1)
            tensors |= {name: part.view(-1, *self._shapes[name]) for name, part in zip(names, parts, strict=True)}
        return tensors

    def configure_optimizers(self) -> Any:
        groups = [{**group, "params": [weights]} for group, weights in zip(self._groups, self.weights_SP, strict=True)]
        optimizer = make_optimizer(self.recipe, groups, self.device)
        if self.recipe.schedule == "constant":
            return optimizer
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.recipe.max_steps)]

    def on_train_start(self) -> None:
        self._steps = self._steps_at_look = 0
        self._train_loss_S = torch.zeros(len(self.members), device=self.device, dtype=torch.float64)
        self._scheduler = cast(LRScheduler | None, self.lr_schedulers())
        self._optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        self._direct_step = DirectStep(self._optimizer)
        self._graph: StepGraph | None = None

    def on_train_epoch_start(self) -> None:
        """Those that have stopped leave: here, because weights that are made at a look, in inference mode, have no
        gradient."""
        places = [place for place, member in enumerate(self.members) if member.goes_on]
        if len(places) == len(self.members):
            return
        for weights_SP in self.weights_SP:
            weights_SP.grad, weights_SP.data = None, weights_SP.data[places]
            for name, value in self._optimizer.state[weights_SP].items():
                if name != "step":
                    self._optimizer.state[weights_SP][name] = value[places]
        self._direct_step = DirectStep(self._optimizer)
        self._others = {name: value[places] for name, value in self._others.items()}
        self._train_loss_S = self._train_loss_S[places]
        self._stacked.keep(places)
        self._graph = None  # of as many rows as there were
        self.stream.keep(places)
        self.members = [self.members[place] for place in places]

    def training_step(self, chunk: PackChunk, batch_idx: int) -> dict[str, Tensor]:
        if self._graph is None:
            self._graph = step_graph(partial(self._step, chunk), self.device, generators=self._stacked.generators)
        for picks_SB in chunk.picks_KB:
            losses_S = self._graph(picks_SB)
            if self._scheduler is not None:
                self._scheduler.step()
            self._steps += 1
        for member in self.members:
            member.forecaster.training_log.graph = self._graph.state
        return {"loss": losses_S.mean()}

    def _step(self, chunk: PackChunk, picks_SB: Tensor) -> Tensor:
        """All of a step that is done on the device, which is not waited for."""
        weights_and_buffers = {f"forecaster.{name}": tensor for name, tensor in self._tensors().items()}
        batch = chunk.batch(picks_SB)
        with self.members[0].forecaster.fast_products(batch[0][0]):
            losses_S = self._stacked(weights_and_buffers, batch)
            for weights_SP in self.weights_SP:
                weights_SP.grad = None
            losses_S.sum().backward()
        if self.recipe.gradient_clip is not None:
            _clip([cast(Tensor, weights_SP.grad) for weights_SP in self.weights_SP], self.recipe.gradient_clip)
        self._direct_step()
        losses_S = losses_S.detach()
        self._train_loss_S.add_(losses_S)
        return losses_S

    def on_train_end(self) -> None:
        self._graph = None  # its memory on the GPU

    def validation_step(self, part: WholePart, batch_idx: int) -> None:
        tensors = self._tensors()
        train_losses = (self._train_loss_S / (self._steps - self._steps_at_look)).tolist()
        for place, (member, train_loss) in enumerate(zip(self.members, train_losses, strict=True)):
            member.look(part, {name: value[place] for name, value in tensors.items()}, train_loss, self._steps)
        self._train_loss_S.zero_()
        self._steps_at_look = self._steps
        self.trainer.should_stop = not any(member.goes_on for member in self.members)


class PackWatch(Stopwatch):
    """Clocks of a pack: each seed that trains is charged an equal share."""

    def __init__(self, pack: Pack, tell: Callable[[Progress], None] | None) -> None:
        super().__init__(Training(), pack.stream, pack.recipe, tell)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds, members = self._lap(pl_module.device), cast(Pack, pl_module).members
        for member in members:
            log = member.forecaster.training_log
            log.chunks += [(steps, spent / len(members)) for steps, spent in self.training.chunks]
            log.steps = self.training.steps
            log.windows_seen += self.training.windows_seen // len(members)
            log.train_seconds += self.training.train_seconds / len(members)
            log.validate_seconds += seconds / len(members)
            if member.error is None:
                log.curve[-1]["seconds"] = self.mark - self.start
        # What was shared out; the number of steps goes on.
        self.training = Training(steps=self.training.steps)


def _clip(gradients_SP: list[Tensor], largest: float) -> None:
    """Scale each seed's gradients down to a norm of `largest`."""
    norms_S1 = torch.stack([torch.linalg.vector_norm(g, dim=1, keepdim=True) for g in gradients_SP]).norm(dim=0)
    torch._foreach_mul_(gradients_SP, [(largest / (norms_S1 + 1e-6)).clamp(max=1.0)] * len(gradients_SP))
