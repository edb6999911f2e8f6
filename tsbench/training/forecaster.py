"""The forecaster: a model and a recipe, in one LightningModule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, cast

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from tsbench.data.clock import following
from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows, WindowShape
from tsbench.errors import ConfigError, DataError, Diverged, from_validation
from tsbench.models.linear import ClosedForm
from tsbench.models.registry import model_spec
from tsbench.training.devices import resolve_device, set_precision
from tsbench.training.fit import Chunk, Training, WholePart, train
from tsbench.training.gradients import GradientNorms
from tsbench.training.graphs import StepGraph, step_graph
from tsbench.training.pretrained import Transfer, freeze, named, take_weights
from tsbench.training.progress import Progress
from tsbench.training.recipe import Group, Recipe
from tsbench.training.trace import LayerTrace, traced_layers

_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

_SOLVE_BATCH_SIZE = 1024

_EPS = 1e-5
"""Added to a window's variance before the root (Kim et al. 2022): a constant window stays finite."""


class Forecaster(pl.LightningModule):
    """A model by name, with the recipe that trains it.

    In a script, `fit` and `predict` take panels and care for scaling. In any Lightning `Trainer`, it takes batches of
    `(context [B, L, C], target [B, H, C])` pairs from an ordinary DataLoader, on the scale they come in.

    channels: number of channels; needed only with `channel_mode = "mixing"` and a Trainer of your own.
    seasonality: rows in a season; `fit` takes it from the panel.
    arguments: keywords of the model, see `tsbench models NAME`.

    Raises ConfigError for an unknown model, keyword or recipe key.
    """

    def __init__(
        self,
        model: str,
        *,
        context_length: int,
        horizon: int,
        channels: int | None = None,
        seasonality: int = 1,
        recipe: Recipe | Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec = model_spec(model, "Forecaster")
        self.arguments = self.spec.resolve(arguments, f"Forecaster({model!r})")
        self.recipe = _as_recipe(recipe)
        self.context_length, self.horizon = context_length, horizon
        self.channels, self.seasonality = channels, seasonality
        self.model: nn.Module | None = None
        self.scaler: Scaler | None = None
        self.training_log = Training()
        self.transfer: Transfer | None = None
        """What was taken from the recipe's pretrained forecaster."""
        self._train_loss = torch.zeros((), dtype=torch.float64)
        self._steps_taken = self._steps_at_look = 0

    # The model

    def build(self, seed: int) -> Forecaster:
        """Make the model anew, its weights drawn from `seed`, then taken from the recipe's pretrained forecaster.

        The global random state is left alone. Raises ConfigError when the recipe names weights that are not there.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._make_model()
        return self

    def configure_model(self) -> None:
        """Lightning's hook: a forecaster that was not built yet is built when its training starts."""
        if self.model is None:
            self._make_model()

    def _make_model(self) -> None:
        recipe = self.recipe
        self.model = self.spec.build(self._shape(), self.arguments)
        if recipe.precision == "64":
            self.double()
        if recipe.pretrained and self.spec.learned:
            if isinstance(self.model, ClosedForm):
                raise ConfigError(f"pretrained: {self.spec.name} is solved for, not trained; leave pretrained out")
            kept = _read(recipe.pretrained)
            self.transfer = take_weights(self.model, kept["weights"], recipe.pretrained)
        freeze(self.model, recipe.freeze if self.spec.learned else ())

    def _shape(self) -> WindowShape:
        channels = 1
        if self.recipe.channel_mode == "mixing":
            if self.channels is None:
                raise ConfigError("Forecaster: channel_mode = 'mixing' needs the number of channels; give channels=")
            channels = self.channels
        return WindowShape(self.context_length, self.horizon, channels, channels, self.seasonality)

    def forward(self, context_BLC: Tensor) -> Tensor:
        """Forecast `[B, H, C]` from a context `[B, L, C]`, both on the scale of the context."""
        context_BCL = context_BLC.mT
        if not self.spec.learned:
            return self._apply_model(context_BCL).mT
        # Rows of one channel side by side: their mean and variance are four to eight times as fast that way.
        normalised, level, spread = self._normalise(context_BCL.contiguous())
        return (self._apply_model(normalised) * spread + level).mT

    @torch.inference_mode()
    def infer(self, context_BLC: Tensor) -> Tensor:
        """`forward` without gradients, in the recipe's precision."""
        half = {"bf16": torch.bfloat16, "16": torch.float16}.get(self.recipe.precision)
        with torch.autocast(context_BLC.device.type, half, enabled=half is not None):
            return self(context_BLC.to(self.dtype))

    def _normalise(self, context_BCL: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The context without its level and spread, and both, `[B, C, 1]`."""
        match self.recipe.instance_norm:
            case "none":
                return context_BCL, 0.0, 1.0
            case "last":
                level = context_BCL[:, :, -1:]
                return context_BCL - level, level, 1.0
            case "mean":
                level = context_BCL.mean(2, keepdim=True)
                return context_BCL - level, level, 1.0
            case "revin":
                level = context_BCL.mean(2, keepdim=True)
                centred = context_BCL - level
                spread = (centred.square().mean(2, keepdim=True) + _EPS).sqrt()
                return centred / spread, level, spread

    def _apply_model(self, context_BCL: Tensor) -> Tensor:
        assert self.model is not None, "build() comes first"
        forecast = self.model(self._arranged(context_BCL))
        return forecast.mT if self.mixes_channels else forecast.reshape(*context_BCL.shape[:2], self.horizon)

    def _arranged(self, values_BCL: Tensor) -> Tensor:
        """As the model takes its windows: all channels in one, or each channel in a window of its own."""
        return values_BCL.mT if self.mixes_channels else values_BCL.reshape(-1, values_BCL.shape[2], 1)

    def model_input(self, context_BLC: Tensor) -> Tensor:
        """What the model itself is given for these windows: `[B, L, C]`, or `[B * C, L, 1]` with independent channels.

        Without level and spread, unless it is a model that takes the values as they are.
        """
        context_BCL = context_BLC.mT.contiguous()
        return self._arranged(self._normalise(context_BCL)[0] if self.spec.learned else context_BCL)

    @property
    def mixes_channels(self) -> bool:
        return self.recipe.channel_mode == "mixing" and self.spec.learned

    # Training, as Lightning calls it

    def configure_callbacks(self) -> list[Callback]:
        """What the recipe asks to have recorded; it goes into `training_log`, in any Trainer."""
        return [GradientNorms(self.training_log, self.row_gradients)] if self.recipe.gradient_norms else []

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.recipe, self.parameter_groups(), self.device)
        if self.recipe.schedule == "constant":
            return optimizer
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self._num_steps())]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The weights to train, each in the recipe's first group whose pattern fits, or in the common one."""
        assert self.model is not None, "configure_model() comes first"
        left = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        groups = []
        for pattern, group in self.recipe.groups.items():
            members = [left.pop(name) for name in named(self.model, pattern, "groups") if name in left]
            if members:
                groups.append({"params": members, **group.model_dump(exclude_none=True)})
        groups += [{"params": list(left.values())}] if left else []
        return [{**group, "lr": group.pop("learning_rate", self.recipe.learning_rate)} for group in groups]

    def _num_steps(self) -> int:
        """Where the schedule ends: with the recipe's budget, or with what a Trainer of the user's own will do."""
        steps = self.trainer.estimated_stepping_batches
        # Of a loader without a length Lightning says -1 or infinity.
        return int(steps) if 0 < steps < np.inf else self.recipe.max_steps

    def on_train_start(self) -> None:
        self._train_loss = torch.zeros((), device=self.device, dtype=torch.float64)
        self._steps_taken = self._steps_at_look = 0
        self._scheduler = cast(LRScheduler | None, self.lr_schedulers())
        self._gradient_scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self._trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self._graph: StepGraph | None = None

    def training_step(self, batch: Chunk | tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One optimizer step for a pair of tensors, or one for each batch of a chunk; the device is not waited for."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        if not isinstance(batch, Chunk):
            loss = self._step(*batch, optimizer, self.manual_backward)
            self._count_step()
            return {"loss": loss}
        # In a chunk, Lightning's hooks around each backward and step have nobody to serve and would cost more than the
        # step of a small model; but half precision's scaler and the recording of gradients work through them.
        if self._gradient_scaler is None and not self.recipe.gradient_norms:
            take = partial(self._step, optimizer=optimizer.optimizer, backward=Tensor.backward)
            why_not = ""
        else:
            take = partial(self._step, optimizer=optimizer, backward=self.manual_backward)
            why_not = "the gradient scaler and the norms of gradients work step by step"
        if self._graph is None:
            windows = batch.windows
            self._graph = step_graph(lambda picks_B: take(*windows.batch(picks_B)), self.device, why_not)
        for picks_B in batch.picks_KB:
            loss = self._graph(picks_B)
            self._count_step()
        self.training_log.graph = self._graph.state
        return {"loss": loss}

    def _step(
        self,
        context_BLC: Tensor,
        target_BHC: Tensor,
        optimizer: LightningOptimizer | torch.optim.Optimizer,
        backward: Callable[[Tensor], Any],
    ) -> Tensor:
        """All of a step that is done on the device, which is not waited for."""
        loss = self.loss(context_BLC, target_BHC)
        for parameter in self._trained:
            parameter.grad = None
        backward(loss)
        if self.recipe.gradient_clip is not None:
            if self._gradient_scaler is not None:  # half precision: the norm must be the true gradient's
                self._gradient_scaler.unscale_(cast(LightningOptimizer, optimizer).optimizer)
            _clip([p.grad for p in self._trained if p.grad is not None], self.recipe.gradient_clip)
        optimizer.step()
        loss = loss.detach()
        self._train_loss.add_(loss)  # not +=, which a module takes for a new attribute
        return loss

    def _count_step(self) -> None:
        """What is left of a step for the host."""
        if self._scheduler is not None:
            self._scheduler.step()
        self._steps_taken += 1

    def loss(self, context_BLC: Tensor, target_BHC: Tensor, reduction: str = "mean") -> Tensor:
        """Of the forecast on scaled values, as the recipe wants it."""
        dtype = self.dtype  # float64 with precision 64, whatever the panel holds
        forecast_BHC = self(context_BLC.to(dtype))
        return _LOSSES[self.recipe.loss](forecast_BHC, target_BHC.to(dtype), reduction=reduction)

    def on_train_end(self) -> None:
        self._graph = None  # its memory on the GPU

    def on_validation_start(self) -> None:
        self._val_loss = torch.zeros((), device=self.device, dtype=torch.float64)
        self._val_count = 0

    def validation_step(self, batch: WholePart | tuple[Tensor, Tensor], batch_idx: int) -> None:
        batches = batch.batches() if isinstance(batch, WholePart) else [batch]
        for context_BLC, target_BHC in batches:
            self._val_loss += self.loss(context_BLC, target_BHC, reduction="sum")
            self._val_count += target_BHC.numel()

    def on_validation_epoch_end(self) -> None:
        losses = {"val_loss": self.validation_loss()}
        steps = self._steps_taken - self._steps_at_look
        if steps:  # none in a Trainer's sanity check, which comes before the training
            losses["train_loss"] = float(self._train_loss) / steps
        check_finite(losses, self._steps_taken)
        self.log_dict(losses)
        self._train_loss.zero_()
        self._steps_at_look = self._steps_taken

    def validation_loss(self) -> float:
        """Mean over all values since `on_validation_start`."""
        return float(self._val_loss) / self._val_count

    # In a script

    def fit(
        self,
        train_part: Part,
        validation_part: Part,
        *,
        seed: int = 0,
        device: str = "auto",
        tell: Callable[[Progress], None] | None = None,
    ) -> Forecaster:
        """Build the model from `seed`, train it, and keep the weights that were best on the validation part.

        The scaler sees the training part only. Fitting again starts anew.

        Raises DataError when a part is too short for a window, Diverged when the loss leaves the finite numbers,
        MachineError when the device is not here.
        """
        panel = train_part.panel
        self.channels, self.seasonality = panel.num_channels, panel.seasonality
        self.scaler = Scaler.fit(train_part)
        target = resolve_device(device)
        values_TC = torch.from_numpy(self.scaler.apply(panel.values)).to(target)
        return self.fit_windows(
            Windows.of(train_part, values_TC, self.context_length, self.horizon),
            Windows.of(validation_part, values_TC, self.context_length, self.horizon),
            seed=seed,
            tell=tell,
        )

    def fit_windows(
        self, windows: Windows, validation: Windows, *, seed: int, tell: Callable[[Progress], None] | None = None
    ) -> Forecaster:
        """What `fit` does with windows of scaled values that lie on the device already."""
        device = windows.starts_N.device
        set_precision(self.recipe, device)
        self.training_log = Training()
        self.build(seed).to(device)
        if isinstance(self.model, ClosedForm):
            self._solve(self.model, windows)
        elif any(parameter.requires_grad for parameter in self.parameters()):
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed)  # for dropout; the order of the windows has a generator of its own
                train(self, self.training_log, self.recipe, windows, validation, seed=seed, device=device, tell=tell)
        self.to(device)  # the Trainer leaves a module on the CPU
        return self.eval()

    def _solve(self, model: ClosedForm, windows: Windows) -> None:
        """Give a closed-form model its equations: its forecast, times the spread, plus the level, is the target."""
        for context_BLC, target_BHC in windows.in_order(_SOLVE_BATCH_SIZE):
            normalised, level, spread = self._normalise(context_BLC.double().mT.contiguous())
            target_BCH = target_BHC.double().mT - level
            spread_BC1 = torch.as_tensor(spread).to(normalised).expand(*target_BCH.shape[:2], 1)
            model.add(*map(self._arranged, (normalised, target_BCH, spread_BC1)))
        model.solve()

    def predict(self, panel: Panel) -> pd.DataFrame:
        """The forecast of the `horizon` rows after the panel's last, in original units.

        One row per item, timestamp and channel: columns `item, timestamp, channel, forecast`.

        Raises ConfigError before `fit`, DataError when the panel has other channels or too few rows for a context.
        """
        if self.scaler is None:
            raise ConfigError(
                "Forecaster.predict: nothing was fitted yet; call fit(panel.train, panel.validation) first"
            )
        if panel.num_channels != self.channels:
            raise DataError(
                f"{panel.name}: {panel.num_channels} channels; the forecaster was fitted on {self.channels}"
            )
        shortest = int(np.diff(panel.offsets).min())
        if shortest < self.context_length:
            raise DataError(f"{panel.name}: {shortest} rows; a context needs {self.context_length}")
        rows = panel.offsets[1:, None] + np.arange(-self.context_length, 0)
        context_ILC = torch.from_numpy(self.scaler.apply(panel.values[rows])).to(self.device)
        forecast_IHC = self.scaler.invert(self.infer(context_ILC).double().cpu().numpy())
        frames = [
            pd.DataFrame(forecast_HC, columns=list(panel.channels))
            .assign(item=item, timestamp=following(panel.timestamps[stop - 1], panel.freq, self.horizon))
            .melt(["item", "timestamp"], var_name="channel", value_name="forecast")
            for item, stop, forecast_HC in zip(panel.items, panel.offsets[1:], forecast_IHC, strict=True)
        ]
        return pd.concat(frames, ignore_index=True)

    def trace(self, context_BLC: Tensor, target_BHC: Tensor | None = None) -> dict[str, LayerTrace]:
        """Activations and gradients of every layer for some windows, by layer name in order of use.

        context_BLC: scaled values. target_BHC: what the recipe's loss compares with; zeros when left out.

        Weights and their gradients are left as they were; hooks are removed, also after an exception.
        """
        if self.model is None:
            raise ConfigError("Forecaster.trace: the model is not built yet; call fit() or build(seed) first")
        parameters = list(self.parameters())
        kept = [parameter.grad for parameter in parameters]
        context_BLC = context_BLC.detach().to(self.device).to(self.dtype).requires_grad_()
        was_training = self.training
        self.eval()
        try:
            with traced_layers(self.model) as layers, torch.backends.cudnn.flags(enabled=False):
                forecast_BHC = self(context_BLC)
                target_BHC = torch.zeros_like(forecast_BHC) if target_BHC is None else target_BHC.to(forecast_BHC)
                _LOSSES[self.recipe.loss](forecast_BHC, target_BHC).backward()
                return layers
        finally:
            self.train(was_training)
            for parameter, gradient in zip(parameters, kept, strict=True):
                parameter.grad = gradient

    def row_gradients(self, context_BLC: Tensor, target_BHC: Tensor) -> Tensor:
        """Norm of the gradient of a window's loss at each row of the context, oldest first, mean over windows, `[L]`.

        context_BLC, target_BHC: scaled values, on the forecaster's device. The context is taken as the model sees it,
        after instance normalisation, and without dropout. Autocast is not used: half precision would round to zero
        what is to be seen.
        """
        seen_BCL, level, spread = self._normalise(context_BLC.detach().to(self.dtype).mT.contiguous())
        was_training = self.training
        self.eval()
        try:
            with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient outside training
                forecast_BHC = (self._apply_model(seen_BCL.requires_grad_()) * spread + level).mT
                loss = _LOSSES[self.recipe.loss](forecast_BHC, target_BHC.to(self.dtype), reduction="sum")
                (gradient_BCL,) = torch.autograd.grad(loss / target_BHC[0].numel(), seen_BCL, materialize_grads=True)
        finally:
            self.train(was_training)
        return gradient_BCL.double().norm(dim=1).mean(0)

    def save(self, path: str | Path | BinaryIO) -> None:
        """Keep configuration, scaler and weights in one file, by its path or open for writing."""
        if self.model is None or self.scaler is None:
            raise ConfigError("Forecaster.save: nothing was fitted yet; call fit(panel.train, panel.validation) first")
        settings = {
            "model": self.spec.name,
            "context_length": self.context_length,
            "horizon": self.horizon,
            "channels": self.channels,
            "seasonality": self.seasonality,
            "recipe": self.recipe.model_dump(),
            **self.arguments,
        }
        scale = torch.from_numpy(np.stack([self.scaler.mean, self.scaler.std]))
        torch.save({"settings": json.dumps(settings), "scale": scale, "weights": self.model.state_dict()}, path)

    @classmethod
    def load(cls, path: str | Path) -> Forecaster:
        """A forecaster that `save` kept, on the CPU. Nothing in the file is executed.

        Raises ConfigError when the file is missing or something else.
        """
        kept = _read(path)
        settings = json.loads(kept["settings"])
        # What the weights started from is in them: the file need not be here.
        settings["recipe"]["pretrained"] = ""
        forecaster = cls(**settings).build(seed=0)
        assert forecaster.model is not None
        forecaster.model.load_state_dict(kept["weights"])
        forecaster.scaler = Scaler(*kept["scale"].numpy())
        return forecaster.eval()


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Raises Diverged."""
    if not np.isfinite(list(losses.values())).all():
        shown = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())
        raise Diverged(f"loss left the finite numbers before step {step} ({shown}); try a smaller learning_rate")


def make_optimizer(recipe: Recipe, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """On a GPU with all that changes from step to step in tensors, so that a step can be captured."""
    common: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    capturable = device.type == "cuda"
    if capturable:
        groups = [{**group, "lr": torch.tensor(group["lr"], device=device)} for group in groups]
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, capturable=capturable, **common)
        case "adam":
            return torch.optim.Adam(groups, capturable=capturable, **common)
        case "sgd":
            return torch.optim.SGD(groups, momentum=0.9, nesterov=True, **common)


def _clip(gradients: list[Tensor], largest: float) -> None:
    """Scale gradients down to a norm of `largest`: `nn.utils.clip_grad_norm_`, in half its time for a small model."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))


def _read(path: str | Path) -> dict[str, Any]:
    """What `Forecaster.save` kept."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; Forecaster.save(path) makes one") from None
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read as a forecaster ({str(error).splitlines()[0]})") from error
    if not isinstance(kept, dict) or not {"settings", "scale", "weights"} <= kept.keys():
        raise ConfigError(f"{path}: not a forecaster that Forecaster.save made")
    return kept


def _as_recipe(recipe: Recipe | Mapping[str, Any] | None) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    try:
        return Recipe.model_validate(dict(recipe or {}))
    except ValidationError as error:
        raise from_validation(error, "recipe", Recipe.model_fields, {"groups": Group.model_fields}) from error
