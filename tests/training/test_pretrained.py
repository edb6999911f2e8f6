"""Starting from a saved forecaster: what is taken, what stays frozen, and what learns at a pace of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsbench.data.panel import Panel
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import ConfigError
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

SOLVED = ("ridge", "seasonal_ridge")
TRAINED = [name for name, spec in model_specs().items() if spec.learned and name not in SOLVED]
TINY = {"max_steps": 3, "validate_every": 3, "batch_size": 8}
SMALL = {"hidden_size": 8, "segment_length": 6, "decoder": "direct"}

Train = Callable[..., Forecaster]


@pytest.fixture
def kept(train: Train, tmp_path: Path) -> Path:
    """A small GRU that forecasts 6 rows from 24, saved."""
    train("gru", recipe=TINY, **SMALL).save(tmp_path / "gru.pt")
    return tmp_path / "gru.pt"


def started_from(path: Path, *, horizon: int = 6, **changes: Any) -> Forecaster:
    made = Forecaster("gru", context_length=24, horizon=horizon, recipe={"pretrained": str(path)}, **SMALL | changes)
    return made.build(seed=9)


def weights(forecaster: Forecaster) -> dict[str, Tensor]:
    assert forecaster.model is not None
    return {name: value.detach().clone() for name, value in forecaster.model.state_dict().items()}


# What is taken


@pytest.mark.parametrize("model", TRAINED)
def test_the_same_model_takes_every_tensor(model: str, train: Train, tmp_path: Path):
    source = train(model, recipe=TINY)
    source.save(tmp_path / "kept.pt")

    recipe = {"pretrained": str(tmp_path / "kept.pt")}
    made = Forecaster(model, context_length=24, horizon=6, seasonality=24, recipe=recipe).build(seed=9)

    assert made.transfer is not None
    assert set(made.transfer.taken) == set(weights(source))
    assert made.transfer.mismatched == made.transfer.skipped == made.transfer.new == ()
    assert all(torch.equal(value, weights(source)[name]) for name, value in weights(made).items())


def test_another_horizon_takes_all_but_the_head_and_says_so(kept: Path):
    made = started_from(kept, horizon=12)
    fresh = Forecaster("gru", context_length=24, horizon=12, **SMALL).build(seed=9)

    assert made.transfer is not None
    assert made.transfer.mismatched == (
        "decoder.linear.weight (6x8 there, 12x8 here)",
        "decoder.linear.bias (6 there, 12 here)",
    )
    source = weights(Forecaster.load(kept))
    for name, value in weights(made).items():
        assert torch.equal(value, source[name] if name in made.transfer.taken else weights(fresh)[name]), name


def test_what_only_one_of_the_two_has_is_told(kept: Path):
    transfer = started_from(kept, num_layers=2, bias=False).transfer

    assert transfer is not None
    assert transfer.new == ("recurrence.weight_ih_l1", "recurrence.weight_hh_l1")
    assert transfer.skipped == ("recurrence.bias_ih_l0", "recurrence.bias_hh_l0")
    assert str(transfer) == (
        "6 tensors taken; 2 in the file only, skipped: recurrence.bias_ih_l0, recurrence.bias_hh_l0; "
        "2 in the model only, started anew: recurrence.weight_ih_l1, recurrence.weight_hh_l1"
    )


def test_a_forecaster_of_another_kind_is_refused_with_the_account(kept: Path):
    with pytest.raises(ConfigError, match=r"no tensor fits this model \(0 tensors taken; .* trend.linear.weight"):
        Forecaster("dlinear", context_length=24, horizon=6, recipe={"pretrained": str(kept)}).build(seed=0)


def test_a_model_without_weights_has_nothing_to_take(small_panel: Panel, kept: Path):
    naive = Forecaster("naive", context_length=24, horizon=6, recipe={"pretrained": str(kept)})

    assert naive.fit(small_panel.train, small_panel.validation).transfer is None


def test_a_model_that_is_solved_for_is_refused(kept: Path):
    with pytest.raises(ConfigError, match="ridge is solved for, not trained; leave pretrained out"):
        Forecaster("ridge", context_length=24, horizon=6, recipe={"pretrained": str(kept)}).build(seed=0)


def test_a_file_that_is_no_forecaster_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere.pt: no such file; Forecaster.save\(path\) makes one"):
        Forecaster.load(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(ConfigError, match=r"text.pt: cannot be read as a forecaster"):
        Forecaster.load(tmp_path / "text.pt")
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"other.pt: not a forecaster that Forecaster.save made"):
        Forecaster.load(tmp_path / "other.pt")


def test_a_fine_tuned_forecaster_loads_without_the_file_it_started_from(
    train: Train, small_panel: Panel, kept: Path, tmp_path: Path
):
    tuned = train("gru", recipe={**TINY, "pretrained": str(kept), "freeze": ["embed.*"]}, **SMALL)
    tuned.save(tmp_path / "tuned.pt")
    kept.unlink()

    loaded = Forecaster.load(tmp_path / "tuned.pt")

    np.testing.assert_array_equal(loaded.predict(small_panel)["forecast"], tuned.predict(small_panel)["forecast"])


# Freezing


def test_frozen_weights_stay_to_the_last_bit_and_the_others_learn(train: Train, kept: Path):
    recipe = {**TINY, "pretrained": str(kept), "freeze": ["embed.*", "recurrence.bias*"], "weight_decay": 0.5}
    tuned = weights(train("gru", recipe=recipe, **SMALL))

    source = weights(Forecaster.load(kept))
    same = {name for name in source if torch.equal(source[name], tuned[name])}
    assert same == {"embed.0.weight", "embed.0.bias", "recurrence.bias_ih_l0", "recurrence.bias_hh_l0"}


def test_all_frozen_is_the_forecaster_of_another_series_as_it_was(train: Train, kept: Path):
    other = synthetic_panel(num_rows=300, num_channels=1, seed=8)
    recipe = {"pretrained": str(kept), "freeze": ["*"]}

    taken = Forecaster("gru", context_length=24, horizon=6, recipe=recipe, **SMALL).fit(other.train, other.validation)

    source = Forecaster.load(kept)
    assert taken.training_log.steps == 0
    context = torch.randn(4, 24, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(taken.infer(context), source.infer(context))


def test_a_pattern_without_a_weight_is_refused_with_the_names_there_are(train: Train):
    with pytest.raises(ConfigError, match=r"freeze: no weight is called 'embedding.\*'; there are embed.0.weight"):
        train("gru", recipe={**TINY, "freeze": ["embedding.*"]}, **SMALL)
    with pytest.raises(ConfigError, match=r"groups: no weight is called 'heat'; there are embed.0.weight"):
        train("gru", recipe={**TINY, "groups": {"heat": {"learning_rate": 0.1}}}, **SMALL)


# Groups


def test_the_first_group_that_fits_counts_and_the_rest_is_as_the_recipe_says(train: Train):
    groups = {"decoder.*": {"learning_rate": 0.5}, "*.bias*": {"weight_decay": 0.0}}
    forecaster = Forecaster(
        "gru", context_length=24, horizon=6, recipe={"groups": groups, "schedule": "constant"}, **SMALL
    ).build(seed=0)
    assert forecaster.model is not None
    names = {id(parameter): name for name, parameter in forecaster.model.named_parameters()}

    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in forecaster.configure_optimizers().param_groups
        for parameter in group["params"]
    }

    assert found == {
        "decoder.linear.weight": (0.5, 0.01),
        "decoder.linear.bias": (0.5, 0.01),
        "embed.0.bias": (1e-3, 0.0),
        "recurrence.bias_ih_l0": (1e-3, 0.0),
        "recurrence.bias_hh_l0": (1e-3, 0.0),
        "embed.0.weight": (1e-3, 0.01),
        "recurrence.weight_ih_l0": (1e-3, 0.01),
        "recurrence.weight_hh_l0": (1e-3, 0.01),
    }


def test_a_group_with_a_small_learning_rate_hardly_moves(train: Train, kept: Path):
    recipe = {**TINY, "pretrained": str(kept), "weight_decay": 0.0, "groups": {"embed.*": {"learning_rate": 1e-9}}}
    tuned, source = weights(train("gru", recipe=recipe, **SMALL)), weights(Forecaster.load(kept))

    moved = {name: float((tuned[name] - source[name]).abs().max()) for name in source}
    assert moved["embed.0.weight"] < 1e-7
    assert moved["decoder.linear.weight"] > 1e-4


def test_a_wrong_key_of_a_group_is_told():
    with pytest.raises(
        ConfigError, match=r"unknown key 'groups.embed.\*.rate'; .*allowed: learning_rate, weight_decay"
    ):
        Forecaster("gru", context_length=24, horizon=6, recipe={"groups": {"embed.*": {"rate": 1.0}}})
