"""Seeds that train together: what comes out is what each seed's own run gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import CovariateRows, Windows
from tsbench.errors import Diverged
from tsbench.models.mlp import MLP
from tsbench.training.forecaster import Forecaster
from tsbench.training.packed import PackingError, fit_together
from tsbench.training.progress import Progress

SEEDS = [0, 1, 2]

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("nlinear", {}),
    ("dlinear", {}),
    ("mlp", {}),
    ("mlp", {"dropout_kind": "alpha", "activation": "selu", "norm": "layer"}),
    ("cnn", {}),
    ("cnn", {"dropout_kind": "channel", "norm": "batch"}),
    ("tcn", {}),
    ("tcn", {"segment_length": 1, "readout": "last"}),
    ("rnn", {}),
    ("rnn", {"num_layers": 2, "nonlinearity": "relu", "decoder": "rolled"}),
    ("rnn", {"segment_length": 1, "decoder": "direct"}),
    ("gru", {}),
    ("gru", {"num_layers": 2, "bidirectional": True, "decoder": "direct"}),
    ("lstm", {}),
    ("lstm", {"num_layers": 2, "bias": False}),
    ("transformer", {}),
    ("transformer", {"norm_first": False, "position": "sinusoidal"}),
    ("transformer_encdec", {}),
    ("stack", {}),
]


@pytest.fixture(scope="module")
def panel() -> Panel:
    return synthetic_panel(num_rows=600, num_channels=2)


def windows_of(panel: Panel, part: str) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply_to(panel))
    covariates = CovariateRows.of(panel, Scaler.fit_covariates(panel.train), values_TC.device)
    return Windows.of(getattr(panel, part), values_TC, 48, 12, covariates)


def together(
    panel: Panel, model: str, recipe: dict[str, Any], seeds: list[int] = SEEDS, **arguments: Any
) -> tuple[list[Forecaster], list[Diverged | None]]:
    pack = [forecaster(model, recipe, **arguments) for _ in seeds]
    return pack, fit_together(pack, windows_of(panel, "train"), windows_of(panel, "validation"), seeds=seeds)


def alone(panel: Panel, model: str, recipe: dict[str, Any], seed: int, **arguments: Any) -> Forecaster:
    return forecaster(model, recipe, **arguments).fit_windows(
        windows_of(panel, "train"), windows_of(panel, "validation"), seed=seed
    )


def forecaster(model: str, recipe: dict[str, Any], **arguments: Any) -> Forecaster:
    common = {"batch_size": 8, "learning_rate": 3e-3}
    return Forecaster(
        model, context_length=48, horizon=12, seasonality=24, recipe=common | recipe, **{"channels": 2, **arguments}
    )


def losses(forecaster: Forecaster) -> list[float]:
    return [look[name] for look in forecaster.training_log.curve for name in ("train_loss", "val_loss")]


@pytest.mark.parametrize(("model", "arguments"), SETTINGS, ids=str)
def test_every_loss_of_sixty_steps_is_that_of_the_seeds_own_run(model: str, arguments: dict[str, Any], panel: Panel):
    recipe = {"max_steps": 60, "validate_every": 10, "patience": 99, "precision": "64"}

    pack, _ = together(panel, model, recipe, **arguments)

    for packed, seed in zip(pack, SEEDS, strict=True):
        own = alone(panel, model, recipe, seed, **arguments)
        assert losses(packed) == pytest.approx(losses(own), rel=1e-6)
        assert packed.training_log.best_step == own.training_log.best_step
        for name, value in own.state_dict().items():
            torch.testing.assert_close(packed.state_dict()[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recipe", [{}, {"channel_mode": "mixing"}], ids=str)
@pytest.mark.parametrize("model", ["linear", "gru", "transformer_encdec"])
def test_seeds_take_covariates_together(model: str, recipe: dict[str, Any], covariate_panel: Panel):
    recipe = {"max_steps": 20, "validate_every": 10, "precision": "64", **recipe}
    given = {"covariates": covariate_panel.roles, "channels": covariate_panel.num_channels}

    pack, _ = together(covariate_panel, model, recipe, **given)

    for packed, seed in zip(pack, SEEDS, strict=True):
        assert losses(packed) == pytest.approx(losses(alone(covariate_panel, model, recipe, seed, **given)), rel=1e-6)


def test_seeds_learn_quantiles_together_and_each_is_calibrated(panel: Panel):
    recipe = {"max_steps": 4, "validate_every": 2, "precision": "64"}
    recipe |= {"quantiles": [0.1, 0.5, 0.9], "calibration": "conformal"}

    pack, _ = together(panel, "gru", recipe)

    for seed, one in zip(SEEDS, pack, strict=True):
        own = alone(panel, "gru", recipe, seed)
        torch.testing.assert_close(one.shifts_HCQ, own.shifts_HCQ, rtol=1e-6, atol=1e-9)
        assert one.shifts_HCQ.abs().max() > 0


def test_seeds_of_several_items_train_together_on_logarithms_by_spread(covariate_panel: Panel):
    panel = replace(covariate_panel, values=np.exp(covariate_panel.values / 5), covariates=None)
    recipe = {"max_steps": 20, "validate_every": 10, "precision": "64", "log": True, "loss_scale": "spread"}

    pack, _ = together(panel, "mlp", recipe)

    for packed, seed in zip(pack, SEEDS, strict=True):
        assert losses(packed) == pytest.approx(losses(alone(panel, "mlp", recipe, seed)), rel=1e-6)


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn", "tcn", "rnn", "gru", "lstm", "transformer"])
def test_in_single_precision_nothing_but_rounding_lies_between(model: str, panel: Panel):
    """An LSTM's 60 steps carry the last bit of a float32 to 1.2e-6 of a loss, the others stay below 1e-6."""
    recipe = {"max_steps": 60, "validate_every": 20}

    pack, _ = together(panel, model, recipe)

    for packed, seed in zip(pack, SEEDS, strict=True):
        assert losses(packed) == pytest.approx(losses(alone(panel, model, recipe, seed)), rel=3e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd", "weight_decay": 0.1},
        {"optimizer": "adam", "schedule": "constant", "loss": "huber"},
        {"gradient_clip": 0.01},
        {"gradient_clip": None},
        {"channel_mode": "mixing", "instance_norm": "last"},
        {"freeze": ["body.0.*"], "groups": {"head.*": {"learning_rate": 1e-2}}},
    ],
    ids=str,
)
def test_the_recipe_holds_for_each_seed(recipe: dict[str, Any], panel: Panel):
    recipe = {"max_steps": 30, "validate_every": 10, "precision": "64", **recipe}

    pack, _ = together(panel, "mlp", recipe)

    for packed, seed in zip(pack, SEEDS, strict=True):
        assert losses(packed) == pytest.approx(losses(alone(panel, "mlp", recipe, seed)), rel=1e-6)


def test_seeds_train_in_half_precision(panel: Panel):
    recipe = {"max_steps": 10, "precision": "bf16"}

    pack, _ = together(panel, "mlp", recipe)

    assert losses(pack[1]) == pytest.approx(losses(alone(panel, "mlp", recipe, 1)), rel=1e-2)


def test_each_seed_stops_when_it_would_by_itself_and_keeps_its_best_weights(panel: Panel):
    recipe = {"max_steps": 120, "validate_every": 4, "patience": 2, "learning_rate": 0.03, "schedule": "constant"}
    recipe["precision"] = "64"

    pack, _ = together(panel, "mlp", recipe, seeds=[0, 1, 2, 3])
    own = [alone(panel, "mlp", recipe, seed) for seed in range(4)]

    steps = [packed.training_log.steps for packed in pack]
    assert len(set(steps)) > 1, "all stop together: this would show nothing"
    assert steps == [single.training_log.steps for single in own]
    for packed, single in zip(pack, own, strict=True):
        assert losses(packed) == pytest.approx(losses(single), rel=1e-6)
        assert packed.training_log.best_step == single.training_log.best_step < packed.training_log.steps
        assert packed.training_log.windows_seen == single.training_log.windows_seen
        for name, value in single.state_dict().items():
            torch.testing.assert_close(packed.state_dict()[name], value)


class Explosive(Forecaster):
    """Its second seed starts where the loss is infinite."""

    def build(self, seed: int) -> Forecaster:
        super().build(seed)
        if seed == 1:
            self.model.head.linear.weight.data.fill_(torch.inf)
        return self


def test_a_seed_that_diverges_leaves_the_others_as_they_are(panel: Panel):
    recipe = {"max_steps": 30, "validate_every": 10, "batch_size": 8, "learning_rate": 3e-3, "precision": "64"}
    pack = [Explosive("mlp", context_length=48, horizon=12, recipe=recipe) for _ in SEEDS]

    errors = fit_together(pack, windows_of(panel, "train"), windows_of(panel, "validation"), seeds=SEEDS)

    assert [type(error) for error in errors] == [type(None), Diverged, type(None)]
    assert "loss left the finite numbers before step 10 (val_loss" in str(errors[1])
    for place in (0, 2):
        assert losses(pack[place]) == pytest.approx(losses(alone(panel, "mlp", recipe, place)), rel=1e-6)


def test_the_shares_of_the_seeds_add_up_to_the_time_of_the_pack(panel: Panel):
    told: list[Progress] = []
    pack = [forecaster("linear", {"max_steps": 40, "validate_every": 20}) for _ in SEEDS]
    fit_together(pack, windows_of(panel, "train"), windows_of(panel, "validation"), seeds=SEEDS, tell=told.append)

    logs = [packed.training_log for packed in pack]
    assert {sum(steps for steps, _ in log.chunks) for log in logs} == {40}
    assert {log.steps for log in logs} == {40}
    assert sum(log.train_seconds + log.validate_seconds for log in logs) < logs[0].curve[-1]["seconds"]
    assert sum(log.train_seconds for log in logs) == pytest.approx(3 * sum(seconds for _, seconds in logs[0].chunks))
    assert told[-1].step == 40


@pytest.mark.parametrize(
    ("model", "arguments", "recipe", "reason"),
    [
        ("ridge", {}, {}, "solved for, not trained"),
        ("seasonal_ridge", {}, {}, "solved for, not trained"),
        ("naive", {}, {}, "nothing to train"),
        ("mlp", {}, {"gradient_norms": True}, "gradient_norms"),
        ("mlp", {}, {"precision": "16"}, "one gradient scaler would couple the seeds"),
    ],
)
def test_what_cannot_be_packed_says_why(
    model: str, arguments: dict[str, Any], recipe: dict[str, Any], reason: str, panel: Panel
):
    with pytest.raises(PackingError, match=reason):
        together(panel, model, {"max_steps": 2, **recipe}, **arguments)


def test_a_model_that_draws_in_a_way_of_its_own_is_not_packed(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    forward = MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda self, context: forward(self, context + torch.rand_like(context)))

    with pytest.raises(PackingError, match="RuntimeError: vmap: called random operation"):
        together(panel, "mlp", {"max_steps": 2})


def test_the_global_random_state_is_left_alone(panel: Panel):
    before = torch.random.get_rng_state()

    together(panel, "mlp", {"max_steps": 2})

    assert torch.equal(torch.random.get_rng_state(), before)
