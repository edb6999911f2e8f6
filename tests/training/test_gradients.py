"""Norms of gradients: those of autograd, of the layers and rows they are said to be of, without effect on training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows, shuffled_picks
from tsbench.models.registry import model_specs
from tsbench.training import fit, gradients
from tsbench.training.forecaster import Forecaster
from tsbench.training.gradients import LayerNorms, layer_of

LEARNED = [name for name in model_specs() if name not in ("naive", "seasonal_naive", "profile", "naive2")]
STILL = {"learning_rate": 1e-20, "optimizer": "sgd", "schedule": "constant", "batch_size": 8, "gradient_norms": True}
"""The weights stay as they start: every gradient can be computed again."""

Train = Callable[..., Forecaster]


def weights(forecaster: Forecaster) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in forecaster.parameters()])


def batches(panel: Panel, count: int) -> list[tuple[Tensor, Tensor]]:
    """What the first steps of a training with seed 0 and a batch size of 8 are given."""
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    windows = Windows.of(panel.train, values_TC, 24, 6)
    return [windows.batch(picks_B) for picks_B in shuffled_picks(len(windows), 8, count, seed=0)]


def norm_of(forecaster: Forecaster, parameters: list[str], batch: tuple[Tensor, Tensor]) -> float:
    """Of the gradient of these weights together, by autograd."""
    context_BLC, target_BHC = batch
    loss, named = F.mse_loss(forecaster(context_BLC), target_BHC), dict(forecaster.model.named_parameters())
    found = torch.autograd.grad(loss, [named[name] for name in parameters])
    return float(torch.cat([gradient.flatten() for gradient in found]).norm())


# By layer


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_the_norm_of_a_layer_is_that_of_its_weights_before_clipping(
    clip: float | None, small_panel: Panel, train: Train
):
    forecaster = train("mlp", dropout=0.0, recipe={**STILL, "max_steps": 1, "gradient_clip": clip})

    (look,), (batch,) = forecaster.training_log.gradients, batches(small_panel, 1)
    assert look["step"] == 1
    assert list(look["by_layer"]) == ["body.0", "head.linear"]
    for layer, norm in look["by_layer"].items():
        by_hand = norm_of(forecaster, [f"{layer}.weight", f"{layer}.bias"], batch)
        assert norm == pytest.approx(by_hand, rel=1e-5)
        assert norm > 1e-3, "the clip is to take hold"


def test_norms_by_layer_are_means_over_the_steps_since_the_look_before(small_panel: Panel, train: Train):
    forecaster = train("linear", recipe={**STILL, "max_steps": 5, "validate_every": 3})

    steps = [
        norm_of(forecaster, ["head.linear.weight", "head.linear.bias"], batch) for batch in batches(small_panel, 5)
    ]
    told = {look["step"]: look["by_layer"]["head.linear"] for look in forecaster.training_log.gradients}
    assert told == pytest.approx({3: sum(steps[:3]) / 3, 5: sum(steps[3:]) / 2}, rel=1e-5)


def test_the_levels_of_a_recurrent_stack_are_told_apart(small_panel: Panel, train: Train):
    forecaster = train("gru", num_layers=2, dropout=0.0, recipe={**STILL, "max_steps": 1})

    (look,), (batch,) = forecaster.training_log.gradients, batches(small_panel, 1)
    assert list(look["by_layer"]) == ["embed.0", "recurrence.l0", "recurrence.l1", "decoder", "decoder.linear"]
    upper = [f"recurrence.{kind}_l1" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert look["by_layer"]["recurrence.l1"] == pytest.approx(norm_of(forecaster, upper, batch), rel=1e-5)


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("model.head.linear.weight", "head.linear"),
        ("model.recurrence.weight_hh_l1", "recurrence.l1"),
        ("model.recurrence.bias_ih_l0_reverse", "recurrence.l0"),
        ("model.levels.0.first.parametrizations.weight.original1", "levels.0.first"),
        ("model.position_ND", "position_ND"),
    ],
)
def test_a_weight_belongs_to_its_layer(parameter: str, layer: str):
    assert layer_of(parameter) == layer


@pytest.mark.parametrize("model", [name for name in LEARNED if "ridge" not in name])
def test_layers_have_the_names_that_trace_gives_them(model: str, train: Train):
    forecaster = train(model, recipe={**STILL, "max_steps": 1})

    own = {name for name, _ in forecaster.model.named_parameters(recurse=False)}
    known = {name for name, _ in forecaster.model.named_modules()} | own
    for layer in forecaster.training_log.gradients[0]["by_layer"]:
        assert re.sub(r"\.l\d+$", "", layer) in known


def test_a_gradient_too_small_to_be_squared_in_single_precision_has_a_norm():
    weight = torch.nn.Parameter(torch.zeros(3))
    norms = LayerNorms([("model.embed.weight", weight)])
    weight.grad = torch.tensor([0.0, 3e-30, 4e-30])

    norms.add()

    assert norms.means() == {"embed": pytest.approx(5e-30)}


def test_steps_whose_gradient_is_not_finite_are_left_out_of_the_mean():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    norms = LayerNorms([("model.embed.weight", weights[0]), ("model.head.weight", weights[1])])
    for first, second in ((3.0, torch.inf), (5.0, torch.nan)):
        weights[0].grad, weights[1].grad = torch.tensor([0.0, first]), torch.tensor([0.0, second])
        norms.add()

    assert norms.means() == {"embed": 4.0}


def test_a_weight_without_a_gradient_counts_as_zero_and_a_frozen_one_not_at_all():
    unused, frozen = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    norms = LayerNorms([("model.unused.weight", unused), ("model.frozen.weight", frozen)])

    norms.add()

    assert norms.means() == {"unused": 0.0}


# By row of the context


@pytest.mark.parametrize("channel_mode", ["independent", "mixing"])
@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_the_norm_of_a_row_is_the_mean_over_windows_of_that_of_each_windows_own_loss(
    channel_mode: str, loss: str, small_panel: Panel, train: Train
):
    recipe = {**STILL, "max_steps": 1, "instance_norm": "mean", "channel_mode": channel_mode, "loss": loss}
    forecaster = train("mlp", recipe=recipe)

    norms = []
    for context_LC, target_HC in zip(*batches(small_panel, 1)[0], strict=True):
        level_1C = context_LC.mean(0, keepdim=True)
        seen_LC = (context_LC - level_1C).requires_grad_()
        windows = seen_LC.T.unsqueeze(2) if channel_mode == "independent" else seen_LC.unsqueeze(0)
        forecast_BHC = forecaster.model(windows)
        forecast_HC = forecast_BHC.squeeze(2).T if channel_mode == "independent" else forecast_BHC[0]
        error_HC = forecast_HC + level_1C - target_HC
        own_loss = error_HC.square().mean() if loss == "mse" else error_HC.abs().mean()
        own_loss.backward()
        norms.append(seen_LC.grad.norm(dim=1))
    told = torch.tensor(forecaster.training_log.gradients[0]["by_row"])
    torch.testing.assert_close(told, torch.stack(norms).mean(0), rtol=1e-4, atol=1e-8)


def test_rows_are_looked_at_without_dropout_and_in_the_mode_that_was_found(small_panel: Panel):
    forecaster, (batch,) = (
        Forecaster("mlp", context_length=24, horizon=6, dropout=0.9).build(0),
        batches(small_panel, 1),
    )
    dropout = next(module for module in forecaster.modules() if isinstance(module, torch.nn.Dropout))

    once, again = forecaster.row_gradients(*batch), forecaster.row_gradients(*batch)

    assert torch.equal(once, again)
    assert dropout.training
    assert all(parameter.grad is None for parameter in forecaster.parameters())


def test_the_first_row_is_the_oldest(small_panel: Panel, train: Train):
    """The last value alone decides what nlinear adds to its forecast."""
    recipe = {**STILL, "max_steps": 1, "instance_norm": "none"}

    by_row = train("nlinear", recipe=recipe).training_log.gradients[0]["by_row"]

    assert by_row.index(max(by_row)) == 23


def test_all_looks_and_all_models_are_about_the_windows_of_the_first_step(small_panel: Panel, train: Train):
    log = train("linear", recipe={**STILL, "max_steps": 6, "validate_every": 2}).training_log

    first, *others = (look["by_row"] for look in log.gradients)
    assert len(others) == 2
    assert all(by_row == first for by_row in others)  # of weights that stand still


# No effect on training


@pytest.mark.parametrize("model", LEARNED)
def test_training_is_the_same_to_the_last_bit_with_and_without(model: str, train: Train):
    recipe = {"max_steps": 6, "validate_every": 2, "batch_size": 8}

    without, recorded = (train(model, recipe={**recipe, "gradient_norms": norms}) for norms in (False, True))

    assert torch.equal(weights(without), weights(recorded))
    looks = [
        [(look["step"], look["train_loss"], look["val_loss"]) for look in forecaster.training_log.curve]
        for forecaster in (without, recorded)
    ]
    assert looks[0] == looks[1]
    assert without.training_log.gradients == []
    assert [look["step"] for look in recorded.training_log.gradients] == ([2, 4, 6] if "ridge" not in model else [])


def test_without_it_nothing_listens_to_the_steps(train: Train):
    callbacks = train(recipe={"max_steps": 1}).trainer.callbacks

    assert not any("on_after_backward" in vars(type(callback)) for callback in callbacks)


def test_looking_at_rows_is_on_no_other_clock(small_panel: Panel, monkeypatch: pytest.MonkeyPatch):
    """Time passes only while rows are looked at."""
    now = 0.0

    class Slow(Forecaster):
        def row_gradients(self, context_BLC: Tensor, target_BHC: Tensor) -> Tensor:
            nonlocal now
            now += 10.0
            return super().row_gradients(context_BLC, target_BHC)

    for module in (fit, gradients):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    recipe = {"max_steps": 4, "validate_every": 2, "gradient_norms": True}
    log = Slow("linear", context_length=24, horizon=6, recipe=recipe).fit(
        small_panel.train, small_panel.validation, device="cpu"
    ).training_log  # fmt: skip

    assert log.gradient_seconds == 20.0
    assert (log.train_seconds, log.validate_seconds) == (0.0, 0.0)
    assert [look["seconds"] for look in log.curve] == [0.0, 0.0]


@pytest.mark.parametrize("precision", ["64", "bf16"])
def test_norms_are_recorded_in_every_precision(precision: str, train: Train):
    recipe = {"max_steps": 2, "gradient_norms": True}
    single, other = (
        train("gru", dropout=0.0, recipe={**recipe, "precision": p}).training_log.gradients for p in ("32", precision)
    )

    assert other[0]["by_layer"] == pytest.approx(single[0]["by_layer"], rel=0.05)
    assert other[0]["by_row"] == pytest.approx(single[0]["by_row"], rel=0.05)


# In a Trainer of the user's own


def trained_elsewhere(tmp_path: Path, *, validate: bool = True, half: bool = False, **recipe: Any) -> Forecaster:
    """Four steps from ordinary loaders of pairs, and a look, with weights that stand still."""
    runs = torch.randn(32, 30, 2, generator=torch.Generator().manual_seed(0))
    pairs = TensorDataset(runs[:, :24], runs[:, 24:])
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))] if half else None
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, plugins=plugins, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    forecaster = Forecaster("linear", context_length=24, horizon=6, recipe={**STILL, **recipe}).build(0)
    loaders = [DataLoader(pairs, batch_size=8)] + [DataLoader(pairs, batch_size=16)] * validate
    trainer.fit(forecaster, *loaders)
    return forecaster


quiet_lightning = pytest.mark.filterwarnings("ignore:::lightning.*")


@quiet_lightning
def test_in_any_trainer_a_look_is_the_end_of_a_validation(tmp_path: Path):
    forecaster = trained_elsewhere(tmp_path)

    (look,) = forecaster.training_log.gradients  # none at the sanity check
    assert look["step"] == 4
    assert look["by_layer"]["head.linear"] > 0
    assert len(look["by_row"]) == 24


@quiet_lightning
def test_without_a_validation_loader_there_is_no_look(tmp_path: Path):
    assert trained_elsewhere(tmp_path, validate=False).training_log.gradients == []


@quiet_lightning
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_half_precision_gives_the_norms_of_the_true_gradient(clip: float | None, tmp_path: Path):
    """Its loss is multiplied by 65,536 before the gradient is taken."""
    single, half = (
        trained_elsewhere(tmp_path, half=half, gradient_clip=clip).training_log.gradients[0] for half in (False, True)
    )

    assert half["by_layer"] == pytest.approx(single["by_layer"], rel=1e-2)
    assert half["by_row"] == pytest.approx(single["by_row"], rel=1e-2)
