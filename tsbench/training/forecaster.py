"""The forecaster: a model and a recipe, in one LightningModule."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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

from tsbench.data.blocks import scaled_rows, windows_of
from tsbench.data.clock import following_each
from tsbench.data.covariates import Roles, rows_ahead
from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import Scaler, seen
from tsbench.data.windows import Batch, CovariateRows, Windows, WindowShape, histories, refuse_histories
from tsbench.errors import ConfigError, DataError, Diverged, from_validation
from tsbench.models.ahead import forecast_with
from tsbench.models.attention import largest_head_product
from tsbench.models.linear import ClosedForm
from tsbench.models.registry import model_spec
from tsbench.training.devices import LARGEST_WITHIN_ATTENTION, fast_products, resolve_device, set_precision, synchronise
from tsbench.training.fit import Chunk, Training, WholePart, train
from tsbench.training.gradients import GradientNorms
from tsbench.training.graphs import StepGraph, step_graph
from tsbench.training.loggers import RunLog
from tsbench.training.optimizers import DirectStep, make_optimizer
from tsbench.training.pretrained import Transfer, freeze, named, take_weights
from tsbench.training.progress import Progress
from tsbench.training.quantiles import outward, pinball, shifts
from tsbench.training.recipe import Group, Recipe
from tsbench.training.trace import LayerTrace, traced_layers
from tsbench.training.tracks import Tracks

_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

_SOLVE_BATCH_SIZE = 1024

_PREDICT_BATCH_SIZE = 1024

_CALIBRATION_BATCH_SIZE = 256
_MOST_RESIDUALS = 2**26
"""Kept for calibration, 256 MiB: of more validation windows, as many as fit, evenly spaced."""

_EPS = 1e-5
"""Added to a window's variance before the root (Kim et al. 2022): a constant window stays finite."""

_FAR = 5.0
"""Where covariates end, in spreads of their context: what never moved in the context has none to speak of."""
_SMALLEST = 1e-4
"""What logarithms are taken of at least: a ten-thousandth of an item's level."""


class Forecaster(pl.LightningModule):
    """A model by name, with the recipe that trains it.

    In a script, `fit` and `predict` take panels and care for scaling. In any Lightning `Trainer`, it takes batches of
    `(context [B, L, C], target [B, H, C])` pairs from an ordinary DataLoader, on the scale they come in. Covariates are
    a third part of the batch, `[B, L + H, K]`; past ones are not read beyond the context. Where `has_holes` is set, NaN
    in the target is in no loss.

    channels: number of channels; needed only with `channel_mode = "mixing"` and a Trainer of your own.
    seasonality: rows in a season; `fit` takes it from the panel.
    covariates: names by role, such as `{"past": ["wind"], "known": ["price"]}`, in the order of their columns; needed
        only with a Trainer of your own, `fit` takes them from the panel.
    arguments: keywords of the model, see `tsbench models NAME`.

    Raises ConfigError for an unknown model, keyword or recipe key.
    """

    levels_Q: Tensor
    shifts_HCQ: Tensor | None

    def __init__(
        self,
        model: str,
        *,
        context_length: int,
        horizon: int,
        channels: int | None = None,
        seasonality: int = 1,
        covariates: Roles | Mapping[str, Any] | None = None,
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
        self.roles = covariates if isinstance(covariates, Roles) else Roles.of(dict(covariates or {}))
        """What the data bring; the model is given `covariates`."""
        self.model: nn.Module | None = None
        self.register_buffer("levels_Q", torch.tensor(self.recipe.quantiles, dtype=torch.float64), persistent=False)
        # What calibration adds to the quantiles, in spreads of the window's context.
        self.register_buffer("shifts_HCQ", None, persistent=False)
        self._largest_matrix = 0
        self.scaler: Scaler | None = None
        self.covariate_scaler: Scaler | None = None
        self.training_log = Training()
        self.transfer: Transfer | None = None
        """What was taken from the recipe's pretrained forecaster."""
        self.run_log: RunLog | None = None
        """Loggers that follow the next training."""
        self.has_holes = False
        """Whether targets may hold NaN. `fit` knows it from the panel; without holes, a step spends nothing on them."""
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
        self.shifts_HCQ = None
        self.model = self.spec.build(self.shape, self.arguments)
        if recipe.precision == "64":
            self.double()
        if recipe.pretrained and self.spec.learned:
            if isinstance(self.model, ClosedForm):
                raise ConfigError(f"pretrained: {self.spec.name} is solved for, not trained; leave pretrained out")
            kept = _read(recipe.pretrained)
            self.transfer = take_weights(self.model, kept["weights"], recipe.pretrained)
        freeze(self.model, recipe.freeze if self.spec.learned else ())
        self._largest_matrix = max(
            (weight.numel() for weight in self.model.parameters() if weight.dim() == 2), default=0
        )
        if largest_head_product(self.model) > LARGEST_WITHIN_ATTENTION:
            self._largest_matrix = 0  # no product counts as large

    @property
    def covariates(self) -> Roles:
        """Those that the model is given."""
        return self.roles if self.spec.learned and self.recipe.covariates == "all" else Roles()

    @property
    def shape(self) -> WindowShape:
        """Of the windows as the model takes them."""
        channels = 1
        if self.recipe.channel_mode == "mixing":
            if self.channels is None:
                raise ConfigError("Forecaster: channel_mode = 'mixing' needs the number of channels; give channels=")
            channels = self.channels
        return WindowShape.of(
            self.context_length,
            self.horizon,
            self.seasonality,
            channels=channels,
            covariates=self.covariates,
            quantiles=self.num_outputs,
        )

    @property
    def num_outputs(self) -> int:
        """Values that the model forecasts of each step and channel: one, or the quantiles that it learns."""
        return len(self.recipe.quantiles) or 1 if self.spec.trained else 1

    def forward(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """Forecast `[B, H, C]` from a context `[B, L, C]`, both on the scale of the context; of quantiles the median.

        covariates_BMK: of the rows of context and horizon; left alone by a model that is given none.
        """
        forecast = self._unseen(self._forecast(self._seen(context_BLC), covariates_BMK))
        return forecast[..., self.num_outputs // 2] if self._learns_quantiles else forecast

    def quantiles(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """The recipe's quantiles `[B, H, C, Q]`, which never cross, on the scale of the context.

        The one in the middle is the forecast; without quantiles in the recipe it is the only one. Raises ConfigError
        where they come from the validation part and `fit` or `calibrate` was not called.
        """
        seen_BLC = self._seen(context_BLC)
        quantiles_BHCQ = self._quantiles(seen_BLC, covariates_BMK)
        if self._is_calibrated:
            if self.shifts_HCQ is None:
                raise ConfigError(
                    "Forecaster: quantiles come from the validation part; call fit(train, validation) or "
                    "calibrate(windows) first"
                )
            quantiles_BHCQ = outward(quantiles_BHCQ + self._size_of(seen_BLC).unsqueeze(-1) * self.shifts_HCQ)
        return self._unseen(quantiles_BHCQ)

    @property
    def _learns_quantiles(self) -> bool:
        return bool(self.recipe.quantiles) and self.spec.trained

    @property
    def _is_calibrated(self) -> bool:
        """Whether the quantiles are moved by what the validation part says."""
        return bool(self.recipe.quantiles) and (not self.spec.trained or self.recipe.calibration == "conformal")

    def _unseen(self, values: Tensor) -> Tensor:
        """`_seen` undone."""
        return values.exp() if self.recipe.log and self.spec.learned else values

    def _quantiles(self, seen_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """Before calibration, as `_seen`; `[B, H, C, 1]` of a model that forecasts points."""
        forecast = self._forecast(seen_BLC, covariates_BMK)
        return forecast if self._learns_quantiles else forecast.unsqueeze(-1)

    def _size_of(self, context_BLC: Tensor) -> Tensor:
        """Standard deviation of each window's context, `[B, 1, C]`; histories begin with NaN."""
        rows = context_BLC[:, -self.context_length :]
        return ((rows - rows.nanmean(1, keepdim=True)).square().nanmean(1, keepdim=True) + _EPS).sqrt()

    def _seen(self, values_BTC: Tensor) -> Tensor:
        """On the scale that the model sees and forecasts, before instance normalisation."""
        is_logged = self.recipe.log and self.spec.learned
        return values_BTC.clamp(min=_SMALLEST).log() if is_logged else values_BTC

    def _forecast(self, seen_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """Forecast `[B, H, C]`, both as `_seen`; learned quantiles `[B, H, C, Q]`, in order."""
        if not self.spec.learned:
            return self._apply_model(seen_BLC.mT).mT
        # Rows of one channel side by side: their mean and variance are four to eight times as fast that way.
        normalised, level, spread = self._normalise(seen_BLC.mT.contiguous())
        return self._in_order(self._apply_model(normalised, covariates_BMK) * spread + level)

    def _in_order(self, forecast: Tensor) -> Tensor:
        """From `[B, C, H]` to `[B, H, C]`, or from `[B, C, H * Q]` to `[B, H, C, Q]`.

        Quantiles are sorted: rearranged ones are no worse (Chernozhukov, Fernández-Val and Galichon 2010).
        """
        if not self._learns_quantiles:
            return forecast.mT
        return forecast.unflatten(2, (self.horizon, -1)).sort(-1).values.transpose(1, 2)

    @torch.inference_mode()
    def infer(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """`forward` without gradients, in the recipe's precision."""
        with self.in_its_precision(context_BLC.device), self.fast_products(context_BLC):
            return self(context_BLC.to(self.dtype), covariates_BMK)

    @torch.inference_mode()
    def infer_quantiles(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """`quantiles` without gradients, in the recipe's precision."""
        with self.in_its_precision(context_BLC.device), self.fast_products(context_BLC):
            return self.quantiles(context_BLC.to(self.dtype), covariates_BMK)

    def in_its_precision(self, device: torch.device) -> torch.autocast:
        """Around a forward pass: half precision where the recipe has it."""
        half = {"bf16": torch.bfloat16, "16": torch.float16}.get(self.recipe.precision)
        return torch.autocast(device.type, half, enabled=half is not None)

    def fast_products(self, context_BLC: Tensor) -> AbstractContextManager[None]:
        """Around passes over contexts of this shape, where `devices.fast_products` pays."""
        series = len(context_BLC) * (1 if self.mixes_channels else context_BLC.shape[2])
        return fast_products(series * self._largest_matrix, context_BLC.device)

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

    def _apply_model(self, context_BCL: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """Forecast `[B, C, H]`; of a model that learns quantiles `[B, C, H * Q]`, those of a step side by side."""
        assert self.model is not None, "build() comes first"
        forecast = forecast_with(self.model, *self._with_covariates(self._arranged(context_BCL), covariates_BMK))
        if not self.mixes_channels:
            return forecast.reshape(*context_BCL.shape[:2], -1)
        if not self._learns_quantiles:
            return forecast.mT
        return forecast.unflatten(2, (-1, self.num_outputs)).transpose(1, 2).flatten(2)

    def _arranged(self, values_BCL: Tensor) -> Tensor:
        """As the model takes its windows: all channels in one, or each channel in a window of its own."""
        return values_BCL.mT if self.mixes_channels else values_BCL.reshape(-1, values_BCL.shape[2], 1)

    def _with_covariates(
        self, inputs_NLC: Tensor, covariates_BMK: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """A model's windows with the covariates of their rows as further channels, and what is known ahead `[N, H, A]`.

        Here, and nowhere else, covariates meet a model: past ones end with the context.
        """
        roles, length = self.covariates, self.context_length
        if self.recipe.covariates == "none" or (covariates_BMK is None and not roles):
            return inputs_NLC, None
        if covariates_BMK is None or covariates_BMK.shape[1:] != (length + self.horizon, roles.width):
            shape = "none" if covariates_BMK is None else " x ".join(map(str, covariates_BMK.shape))
            raise ConfigError(
                f"Forecaster: covariates of this shape: {shape}; it was told of {roles.width} "
                f"({', '.join((*roles.columns, *roles.static))}) for each of {length + self.horizon} rows of a window; "
                "give it covariates = {...} and batches with as many columns"
            )
        given_BMK = self._normalise_covariates(covariates_BMK.to(inputs_NLC))
        seen_BLK, ahead_BHA = given_BMK[:, :length, : len(roles.columns)], given_BMK[:, length:, len(roles.past) :]
        each = len(inputs_NLC) // len(given_BMK)  # with independent channels the windows of all of them
        seen_NLK, ahead_NHA = (part.repeat_interleave(each, 0) if each > 1 else part for part in (seen_BLK, ahead_BHA))
        return torch.cat([inputs_NLC, seen_NLK], 2), ahead_NHA if roles.num_ahead else None

    def _normalise_covariates(self, covariates_BMK: Tensor) -> Tensor:
        """Measured ones in the manner of the targets, by level and spread of their own context; others as they are."""
        if self.recipe.instance_norm == "none":
            return covariates_BMK
        measured, rest = covariates_BMK.tensor_split([self.covariates.num_measured], 2)
        measured_BKM = measured.mT.contiguous()
        _, level, spread = self._normalise(measured_BKM[:, :, : self.context_length])
        return torch.cat([((measured_BKM - level) / spread).clamp(-_FAR, _FAR).mT, rest], 2)

    def model_input(self, context_BLC: Tensor, covariates_BMK: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the model itself is given for these windows: `[B, L, C]`, or `[B * C, L, 1]` with independent channels.

        Without level and spread, unless it is a model that takes the values as they are. Covariates are further
        channels; the second value is what is known ahead, `[B or B * C, H, A]`, if anything is.
        """
        context_BCL = self._seen(context_BLC).mT.contiguous()
        inputs_NLC = self._arranged(self._normalise(context_BCL)[0] if self.spec.learned else context_BCL)
        return self._with_covariates(inputs_NLC, covariates_BMK)

    @property
    def reads_history(self) -> bool:
        return self.spec.reads_history

    @property
    def levels(self) -> list[float]:
        """Of the quantiles that it forecasts; empty where it forecasts points."""
        return self.recipe.quantiles

    @property
    def mixes_channels(self) -> bool:
        return self.recipe.channel_mode == "mixing" and self.spec.learned

    # Training, as Lightning calls it

    def configure_callbacks(self) -> list[Callback]:
        """What the recipe asks to have recorded goes into `training_log`, in any Trainer; and from there to loggers."""
        callbacks: list[Callback] = []
        if self.recipe.gradient_norms:
            callbacks.append(GradientNorms(self.training_log, self.row_gradients))
        if self.run_log is not None:
            callbacks.append(Tracks(self.training_log, self.run_log))
        return callbacks

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
        self._direct_step = DirectStep(cast(LightningOptimizer, self.optimizers()).optimizer)
        self._graph: StepGraph | None = None

    def training_step(self, batch: Chunk | Batch, batch_idx: int) -> dict[str, Tensor]:
        """One optimizer step for a batch of windows, or one for each of a chunk; the device is not waited for."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        if not isinstance(batch, Chunk):
            loss = self._step(batch, optimizer.step, self.manual_backward)
            self._count_step()
            return {"loss": loss}
        # In a chunk, Lightning's hooks around each backward and step have nobody to serve and would cost more than the
        # step of a small model; but half precision's scaler and the recording of gradients work through them.
        if self._gradient_scaler is None and not self.recipe.gradient_norms:
            take = partial(self._step, update=self._direct_step, backward=Tensor.backward)
            why_not = ""
        else:
            take = partial(self._step, update=optimizer.step, backward=self.manual_backward)
            why_not = "the gradient scaler and the norms of gradients work step by step"
        batch.windows.open()
        if self._graph is None:
            windows = batch.windows
            self._graph = step_graph(lambda picks_B: take(windows.batch(picks_B)), self.device, why_not)
        # A graph gathers inside, from picks; else a gather for several steps costs hardly more than one for each.
        losses = map(self._graph, batch.picks_KB) if self._graph.capturer else map(take, batch.batches())
        for loss in losses:  # noqa: B007  (the last one is shown)
            self._count_step()
        self.training_log.graph = self._graph.state
        return {"loss": loss}

    def _step(self, batch: Batch, update: Callable[[], Any], backward: Callable[[Tensor], Any]) -> Tensor:
        """All of a step that is done on the device, which is not waited for."""
        with self.fast_products(batch[0]):
            loss = self.loss(batch)
            for parameter in self._trained:
                parameter.grad = None
            backward(loss)
        if self.recipe.gradient_clip is not None:
            if self._gradient_scaler is not None:  # half precision: the norm must be the true gradient's
                self._gradient_scaler.unscale_(self._direct_step.optimizer)
            _clip([p.grad for p in self._trained if p.grad is not None], self.recipe.gradient_clip)
        update()
        loss = loss.detach()
        self._train_loss.add_(loss)  # not +=, which a module takes for a new attribute
        return loss

    def _count_step(self) -> None:
        """What is left of a step for the host."""
        if self._scheduler is not None:
            self._scheduler.step()
        self._steps_taken += 1

    def loss(self, batch: Batch, reduction: str = "mean") -> Tensor:
        """Of the forecast on scaled values, as the recipe wants it."""
        context_BLC, target_BHC, *covariates = batch
        dtype = self.dtype  # float64 with precision 64, whatever the panel holds
        seen_BLC, target_BHC = self._seen(context_BLC.to(dtype)), self._seen(target_BHC.to(dtype))
        forecast = self._forecast(seen_BLC, *covariates)
        if self.recipe.loss_scale == "spread":
            size_B1C = _spread(seen_BLC)
            target_BHC = target_BHC / size_B1C
            forecast = forecast / (size_B1C.unsqueeze(-1) if self._learns_quantiles else size_B1C)
        return self._error(forecast, target_BHC, reduction)

    def _error(self, forecast: Tensor, target_BHC: Tensor, reduction: str = "mean") -> Tensor:
        """The recipe's loss of forecasts `[B, H, C]`, the mean pinball loss of learned quantiles `[B, H, C, Q]`."""
        if self.has_holes:
            is_there_BHC = ~target_BHC.isnan()
            # No NaN may meet the forecast: nought times its gradient would be NaN, too.
            each_BHC = self._each_error(forecast, target_BHC.where(is_there_BHC, 0.0)).where(is_there_BHC, 0.0)
            return each_BHC.sum() / is_there_BHC.sum().clamp(min=1) if reduction == "mean" else each_BHC.sum()
        if not self._learns_quantiles:
            return _LOSSES[self.recipe.loss](forecast, target_BHC, reduction=reduction)
        loss_BHC = self._each_error(forecast, target_BHC)
        return loss_BHC.mean() if reduction == "mean" else loss_BHC.sum()

    def _each_error(self, forecast: Tensor, target_BHC: Tensor) -> Tensor:
        """`[B, H, C]`"""
        if self._learns_quantiles:
            return pinball(forecast, target_BHC, self.levels_Q.to(forecast)).mean(-1)
        return _LOSSES[self.recipe.loss](forecast, target_BHC, reduction="none")

    def on_train_end(self) -> None:
        self._graph = None  # its memory on the GPU

    def on_validation_start(self) -> None:
        self._val_loss = torch.zeros((), device=self.device, dtype=torch.float64)
        self._val_count: int | Tensor = 0

    def validation_step(self, batch: WholePart | Batch, batch_idx: int) -> None:
        for windows in batch.batches() if isinstance(batch, WholePart) else [batch]:
            with self.fast_products(windows[0]):
                self._val_loss += self.loss(windows, reduction="sum")
            self._val_count += (~windows[1].isnan()).sum() if self.has_holes else windows[1].numel()

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
        """Mean over all values since `on_validation_start`. Raises DataError where there was none."""
        if not self._val_count:
            raise _nothing_to_validate()
        return float(self._val_loss) / int(self._val_count)

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
        self.channels, self.seasonality, self.roles = panel.num_channels, panel.seasonality, panel.roles
        self.recipe = self.recipe.for_panel(len(panel.items), train_part.smallest)
        self.scaler = Scaler.fit(train_part)
        self.covariate_scaler = Scaler.fit_covariates(train_part) if self.covariates else None
        target = resolve_device(device)
        values_TC = scaled_rows(panel, self.scaler, target)
        covariates = CovariateRows.of(panel, self.covariate_scaler, target)
        return self.fit_windows(
            windows_of(train_part, values_TC, self.context_length, self.horizon, covariates),
            windows_of(validation_part, values_TC, self.context_length, self.horizon, covariates),
            seed=seed,
            tell=tell,
        )

    def fit_windows(
        self, windows: Windows, validation: Windows, *, seed: int, tell: Callable[[Progress], None] | None = None
    ) -> Forecaster:
        """What `fit` does with windows of scaled values that lie on the device already."""
        device = windows.device
        set_precision(self.recipe, device)
        self.training_log = Training()
        self.has_holes = windows.has_holes or validation.has_holes
        self.build(seed).to(device)
        if isinstance(self.model, ClosedForm):
            self._solve(self.model, windows)
        elif any(parameter.requires_grad for parameter in self.parameters()):
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed)  # for dropout; the order of the windows has a generator of its own
                train(self, self.training_log, self.recipe, windows, validation, seed=seed, device=device, tell=tell)
        self.to(device)  # the Trainer leaves a module on the CPU
        return self.eval().calibrate(validation)

    def calibrate(self, validation: Windows) -> Forecaster:
        """Take from these windows, of scaled values, what the quantiles need of them, if anything; `fit` does it.

        For a model that forecasts points, the quantiles of its errors; for learned ones, with conformal calibration,
        what has to be added to each. By step and channel, in spreads of the context, so that intervals are as wide as
        their window is restless; see `tsbench.training.quantiles.shifts`.
        """
        if not self._is_calibrated:
            return self
        start = time.perf_counter()
        most = max(_MOST_RESIDUALS // (self.horizon * validation.channels * self.num_outputs), 1)
        picks_N = torch.linspace(0, len(validation) - 1, min(most, len(validation)), dtype=torch.float64).round().long()
        parts = picks_N.to(validation.device).split(_CALIBRATION_BATCH_SIZE)
        residual_NHCQ = torch.cat([self._residuals(validation, picks_B) for picks_B in parts])
        if validation.has_holes and residual_NHCQ.isnan().all():
            raise _nothing_to_validate()
        self.shifts_HCQ = shifts(residual_NHCQ, self.levels_Q)
        synchronise(residual_NHCQ.device)
        self.training_log.validate_seconds += time.perf_counter() - start
        return self

    @torch.inference_mode()
    def _residuals(self, windows: Windows, picks_B: Tensor) -> Tensor:
        """Target less quantile, or less point, in spreads of the context, as `_seen`, `[B, H, C, Q or 1]`."""
        context_BLC, target_BHC, *covariates = windows.batch(picks_B)
        if self.spec.reads_history:
            assert self.scaler is not None, "it says what the original units are"
            items_B1 = windows.items_N[picks_B][:, None].cpu().numpy()
            mean, std = (torch.as_tensor(part).to(context_BLC.device) for part in self.scaler.at(items_B1))
            context_BLC, target_BHC = windows.histories(picks_B).double() * std + mean, target_BHC * std + mean
        seen_BLC, target_BHC = (self._seen(part.to(self.dtype)) for part in (context_BLC, target_BHC))
        with self.in_its_precision(seen_BLC.device), self.fast_products(seen_BLC):
            quantiles_BHCQ = self._quantiles(seen_BLC, *covariates)
        return (target_BHC.unsqueeze(-1) - quantiles_BHCQ) / self._size_of(seen_BLC).unsqueeze(-1)

    def _solve(self, model: ClosedForm, windows: Windows) -> None:
        """Give a closed-form model its equations: its forecast, times the spread, plus the level, is the target.

        Each is divided by what the loss is divided by. The steps share their equations, so a window is left out where a
        value of its target is missing. Raises DataError where none is left.
        """
        num_windows = 0
        for context_BLC, target_BHC, *covariates in windows.in_order(_SOLVE_BATCH_SIZE):
            seen_BLC = self._seen(context_BLC.double())
            normalised, level, spread = self._normalise(seen_BLC.mT.contiguous())
            size = _spread(seen_BLC).mT if self.recipe.loss_scale == "spread" else 1.0
            target_BCH = (self._seen(target_BHC.double()).mT - level) / size
            spread_BC1 = torch.as_tensor(spread / size).to(normalised).expand(*target_BCH.shape[:2], 1)
            inputs, target, spread = map(self._arranged, (normalised, target_BCH, spread_BC1))
            inputs, ahead = self._with_covariates(inputs, *covariates)
            if self.has_holes:
                whole_N = ~target.isnan().any((1, 2))
                inputs, target, spread = inputs[whole_N], target[whole_N], spread[whole_N]
                ahead = None if ahead is None else ahead[whole_N]
            num_windows += len(inputs)
            model.add(inputs, target, spread, ahead)
        if not num_windows:
            raise DataError(
                f"{self.spec.name}: a value is missing in the target of every training window; shorten --horizon, or "
                "leave the model out"
            )
        model.solve()

    def predict(self, panel: Panel, future: Any = None) -> pd.DataFrame:
        """The forecast of the `horizon` rows after the panel's last, in original units.

        One row per item, timestamp and channel: columns `item, timestamp, channel, forecast`, then one for each of the
        recipe's quantiles, `q0.1` and so on.

        future: the known covariates of these rows, a frame of a row for each with `timestamp` on the panel's clock (UTC
        where stamps had a zone), a column for each covariate, and `item` where there are several; further rows and
        columns are left alone.

        Raises ConfigError before `fit`, DataError when the panel has other channels or too few rows for a context, or
        the future lacks a value.
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
        stamps_IH = following_each(panel.timestamps[panel.offsets[1:] - 1], panel.freq, self.horizon)
        quantiles_QIHC = self._after(panel, stamps_IH, future)
        forecast_IHC = quantiles_QIHC[len(quantiles_QIHC) // 2]
        sizes = forecast_IHC.shape[0], forecast_IHC.shape[2], forecast_IHC.shape[1]
        named = {f"q{level:g}": each for level, each in zip(self.recipe.quantiles, quantiles_QIHC, strict=False)}
        return pd.DataFrame(
            {
                "item": np.array(panel.items, dtype=object).repeat(sizes[1] * sizes[2]),
                "timestamp": np.broadcast_to(stamps_IH[:, None], sizes).ravel(),
                "channel": np.tile(np.array(panel.channels, dtype=object).repeat(sizes[2]), sizes[0]),
                **{name: each.swapaxes(1, 2).ravel() for name, each in {"forecast": forecast_IHC, **named}.items()},
            }
        )

    def _after(self, panel: Panel, stamps_IH: np.ndarray, future: Any) -> np.ndarray:
        """Quantiles of the rows after each item's last, `[Q, items, H, C]`, float64, in original units.

        Without quantiles in the recipe there is one: the forecast.
        """
        assert self.scaler is not None
        scaler, values, parts = self.scaler.for_items_of(panel), seen(panel), []
        covariates = self._covariates_of(panel, stamps_IH, future)
        for ends in np.split(panel.offsets[1:], range(_PREDICT_BATCH_SIZE, len(panel.items), _PREDICT_BATCH_SIZE)):
            items = panel.item_of(ends - 1)
            if self.reads_history:
                if panel.is_mapped:
                    raise refuse_histories()
                firsts = (panel.offsets[:-1] + panel.padded)[items]
                history = histories(torch.from_numpy(values), torch.from_numpy(firsts), torch.from_numpy(ends))
                parts.append(_in_front(self.infer_quantiles(history.to(self.device))))
                continue
            context = values[ends[:, None] + np.arange(-self.context_length, 0)]
            context_BLC = torch.from_numpy(scaler.apply(context, items[:, None])).to(self.device)
            quantiles = self.infer_quantiles(context_BLC, None if covariates is None else covariates[items])
            parts.append(scaler.invert(_in_front(quantiles), items[:, None]))
        return np.concatenate(parts, axis=1)

    def _covariates_of(self, panel: Panel, stamps_IH: np.ndarray, future: Any) -> Tensor | None:
        """Scaled covariates of the last rows of a panel and of the horizon after them, `[I, L + H, K]`."""
        if not self.covariates:
            return None
        if panel.covariates is None or panel.roles != self.covariates:
            raise DataError(
                f"{panel.name}: covariates {panel.roles.by_name() or 'none'}; the forecaster was fitted with "
                f"{self.covariates.by_name()}; read the panel with the same roles"
            )
        assert self.covariate_scaler is not None, "fit() comes first"
        rows_IL = panel.offsets[1:, None] + np.arange(-self.context_length, 0)
        ahead_IHK = rows_ahead(panel.covariates.roles, panel.items, list(map(pd.DatetimeIndex, stamps_IH)), future)
        rows_IMK = np.concatenate([panel.covariates.rows[rows_IL], ahead_IHK], axis=1)
        static_IMS = np.repeat(panel.covariates.static[:, None], rows_IMK.shape[1], axis=1)
        values = self.covariate_scaler.apply(np.concatenate([rows_IMK, static_IMS], axis=2))
        return torch.from_numpy(values).to(self.device)

    def trace(
        self, context_BLC: Tensor, target_BHC: Tensor | None = None, covariates_BMK: Tensor | None = None
    ) -> dict[str, LayerTrace]:
        """Activations and gradients of every layer for some windows, by layer name in order of use.

        context_BLC, covariates_BMK: scaled values. target_BHC: what the recipe's loss compares with; zeros when left
        out.

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
                forecast = self._unseen(self._forecast(self._seen(context_BLC), covariates_BMK))
                if target_BHC is None:
                    target_BHC = torch.zeros_like(forecast[..., 0] if self._learns_quantiles else forecast)
                self._error(forecast, target_BHC.to(forecast)).backward()
                return layers
        finally:
            self.train(was_training)
            for parameter, gradient in zip(parameters, kept, strict=True):
                parameter.grad = gradient

    def row_gradients(self, context_BLC: Tensor, target_BHC: Tensor, covariates_BMK: Tensor | None = None) -> Tensor:
        """Norm of the gradient of a window's loss at each row of the context, oldest first, mean over windows, `[L]`.

        Scaled values, on the forecaster's device. The context is taken as the model sees it, after instance
        normalisation, and without dropout; its covariates have gradients that are not counted. Autocast is not used:
        half precision would round to zero what is to be seen.
        """
        context_BLC, target_BHC = (self._seen(part.detach().to(self.dtype)) for part in (context_BLC, target_BHC))
        seen_BCL, level, spread = self._normalise(context_BLC.mT.contiguous())
        was_training = self.training
        self.eval()
        try:
            with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient outside training
                forecast = self._apply_model(seen_BCL.requires_grad_(), covariates_BMK) * spread + level
                loss = self._error(self._in_order(forecast), target_BHC, reduction="sum")
                (gradient_BCL,) = torch.autograd.grad(loss / target_BHC[0].numel(), seen_BCL, materialize_grads=True)
        finally:
            self.train(was_training)
        if self.has_holes:
            share_B = (~target_BHC.isnan()).double().mean((1, 2))
            gradient_BCL = gradient_BCL / share_B.where(share_B > 0, 1.0)[:, None, None]
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
            "covariates": self.covariates.as_dict(),
            "recipe": self.recipe.model_dump(),
            **self.arguments,
        }
        kept = {"settings": json.dumps(settings), "scale": _kept(self.scaler), "weights": self.model.state_dict()}
        if self.covariate_scaler is not None:
            kept["covariate_scale"] = _kept(self.covariate_scaler)
        if self.shifts_HCQ is not None:
            kept["shifts"] = self.shifts_HCQ
        torch.save(kept, path)

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
        if "covariate_scale" in kept:
            forecaster.covariate_scaler = Scaler(*kept["covariate_scale"].numpy())
        forecaster.shifts_HCQ = kept.get("shifts")
        return forecaster.eval()


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Raises Diverged."""
    if not np.isfinite(list(losses.values())).all():
        shown = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())
        raise Diverged(f"loss left the finite numbers before step {step} ({shown}); try a smaller learning_rate")


def _nothing_to_validate() -> DataError:
    return DataError(
        "validation part: no value is there that follows a context with one; give a longer --context-length, or change "
        "the split"
    )


def _kept(scaler: Scaler) -> Tensor:
    return torch.from_numpy(np.stack([scaler.mean, scaler.std]))


def _in_front(quantiles_BHCQ: Tensor) -> np.ndarray:
    """`[Q, B, H, C]`, float64."""
    return quantiles_BHCQ.double().cpu().numpy().transpose(3, 0, 1, 2)


def _spread(seen_BLC: Tensor) -> Tensor:
    """Standard deviation of each window, `[B, 1, C]`."""
    return (seen_BLC.var(1, keepdim=True, correction=0) + _EPS).sqrt()


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
