"""Experiments: every list is an axis, and every mistake is told before the first run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from tsbench.bench.experiment import (
    Experiment,
    default_context_length,
    holds_list,
    list_experiments,
    load_experiment,
    make_plan,
    override,
    parse_experiment,
    parse_setting,
)
from tsbench.bench.records import Plan
from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByCounts, SplitByLast, SplitByOrigins
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError, DataError
from tsbench.models.layer_kinds import Layers
from tsbench.models.registry import model_specs
from tsbench.training.recipe import Recipe

PlanOf = Callable[..., Plan]

OPPONENTS = ["naive", "seasonal_naive", "linear"]
DEFAULTS = set(model_specs()) - {"naive2"}
"""What runs where no models are named."""


def labels(plan: Plan) -> list[str]:
    return list(dict.fromkeys(planned.label for planned in plan.runs))


def test_every_list_is_an_axis(plan_of: PlanOf):
    plan = plan_of(
        context_lengths=[24, 48],
        horizons=[6, 12],
        seeds=[0, 1, 2],
        models={"gru": {"hidden_size": [8, 16], "dropout": [0.0, 0.1]}},
        recipe={"learning_rate": [1e-3, 1e-2]},
    )

    runs = [planned.run for planned in plan.runs]
    assert len(runs) == len({run.key() for run in runs}) == 2 * 2 * 3 * (2 * 2 + 3) * 2  # three opponents
    assert {(run.context_length, run.horizon, run.seed) for run in runs} == {
        (length, horizon, seed) for length in (24, 48) for horizon in (6, 12) for seed in (0, 1, 2)
    }
    gru = [run for run in runs if run.model == "gru"]
    assert {(r.arguments["hidden_size"], r.arguments["dropout"], r.recipe.learning_rate) for r in gru} == {
        (size, dropout, rate) for size in (8, 16) for dropout in (0.0, 0.1) for rate in (1e-3, 1e-2)
    }


def test_a_label_names_the_keywords_in_which_siblings_differ_and_no_others(plan_of: PlanOf):
    plan = plan_of(
        models={"gru": {"hidden_size": [8, 16], "num_layers": 2, "recipe": {"batch_size": [4, 8]}}},
        recipe={"max_steps": 2},
    )

    assert labels(plan)[3:] == [
        "gru hidden_size=8 batch_size=4",
        "gru hidden_size=8 batch_size=8",
        "gru hidden_size=16 batch_size=4",
        "gru hidden_size=16 batch_size=8",
    ]


def test_a_run_holds_every_value_down_to_the_last_default(plan_of: PlanOf, tiny_panel: Panel):
    plan = plan_of(models={"gru": {"hidden_size": 8}}, recipe={"loss": "mae"})

    run = plan.runs[-1].run
    defaults = {name: argument.default for name, argument in model_specs()["gru"].arguments.items()}
    assert run.arguments == defaults | {"hidden_size": 8}
    assert run.recipe == Recipe(loss="mae")
    assert (run.dataset, run.fingerprint) == (tiny_panel.name, tiny_panel.fingerprint)


def test_naive_seasonal_naive_and_linear_are_in_every_comparison(plan_of: PlanOf):
    assert labels(plan_of(models={"gru": {}})) == [*OPPONENTS, "gru"]
    assert labels(plan_of(models={"gru": {}, "naive": {}})) == ["seasonal_naive", "linear", "gru", "naive"]
    assert labels(plan_of(models={"straight": {"model": "linear"}})) == ["naive", "seasonal_naive", "straight"]


def test_without_models_all_of_them_run(plan_of: PlanOf):
    assert set(labels(plan_of())) == DEFAULTS


def test_a_table_may_have_a_name_of_its_own(plan_of: PlanOf):
    plan = plan_of(models={"small": {"model": "gru", "hidden_size": 8}, "large": {"model": "gru", "hidden_size": 32}})

    sizes = {planned.label: planned.run.arguments.get("hidden_size") for planned in plan.runs}
    assert (sizes["small"], sizes["large"]) == (8, 32)
    assert {planned.run.model for planned in plan.runs} == {*OPPONENTS, "gru"}


def test_a_recipe_of_its_own_is_used_for_that_model_alone_and_stated(plan_of: PlanOf):
    common = {"learning_rate": 0.01, "batch_size": 16}
    plan = plan_of(models={"tcn": {"recipe": {"learning_rate": 5e-4, "batch_size": 16}}}, recipe=common)

    assert plan.differences == ["tcn has a recipe of its own: learning_rate 0.0005 instead of 0.01"]
    rates = {planned.label: planned.run.recipe.learning_rate for planned in plan.runs}
    assert rates == {"naive": 0.01, "seasonal_naive": 0.01, "linear": 0.01, "tcn": 5e-4}


def test_a_difference_from_a_default_is_stated_too(plan_of: PlanOf):
    plan = plan_of(models={"tcn": {"recipe": {"batch_size": 16}}}, recipe={})

    assert plan.differences == [
        f"tcn has a recipe of its own: batch_size 16 instead of {Recipe().batch_size}",
    ]


def test_without_a_context_length_one_is_chosen_and_stated(plan_of: PlanOf):
    plan = plan_of(context_lengths=[], horizons=[6, 60])

    assert {planned.run.context_length for planned in plan.runs} == {96}  # 384 training rows allow four days
    assert plan.notes == [
        "auckland_pedestrians_tiny, horizon 6: context length 96 (four seasons or two horizons)",
        "auckland_pedestrians_tiny, horizon 60: context length 96 (four seasons or two horizons)",
    ]


@pytest.mark.parametrize(
    ("seasonality", "train_rows", "horizon", "expected"),
    [
        (24, 2000, 12, 96),  # four seasons
        (24, 2000, 96, 192),  # two horizons
        (24, 2000, 49, 120),  # two horizons are 98 rows: five whole seasons
        (24, 200, 12, 48),  # a quarter of the training rows: two seasons
        (24, 50, 12, 24),  # one season at least
        (7, 2000, 1, 28),
        (1, 2000, 6, 12),
    ],
)
def test_the_default_context_is_four_seasons_or_two_horizons_within_a_quarter_of_the_training_rows(
    seasonality: int, train_rows: int, horizon: int, expected: int
):
    split = SplitByCounts(train=train_rows, validation=10, test=10)
    panel = synthetic_panel(num_rows=train_rows + 20, seasonality=seasonality, split=split)

    assert default_context_length(panel, horizon) == expected


# Keywords whose value is a list


def test_a_flat_list_is_the_value_of_a_keyword_that_takes_one(plan_of: PlanOf):
    layers = [{"kind": "conv1d", "num_filters": 8}, {"kind": "lstm", "hidden_size": 8}]

    plan = plan_of(models={"stack": {"layers": layers}})

    assert labels(plan) == [*OPPONENTS, "stack"]
    assert [layer["kind"] for layer in plan.runs[-1].run.arguments["layers"]] == ["conv1d", "lstm"]
    assert plan.runs[-1].run.arguments["layers"][1] == {**LSTM_DEFAULTS, "hidden_size": 8}


LSTM_DEFAULTS = {
    "kind": "lstm",
    "hidden_size": 64,
    "num_layers": 1,
    "bias": True,
    "dropout": 0.0,
    "bidirectional": False,
}


def test_a_list_of_lists_is_an_axis_beside_others_and_its_labels_say_the_kinds(plan_of: PlanOf):
    inner = [{"kind": "norm"}, {"kind": "attention"}]
    layers = [
        [{"kind": "conv1d"}, {"kind": "lstm"}],
        [{"kind": "linear"}, {"kind": "residual", "layers": inner}],
    ]

    plan = plan_of(models={"mine": {"model": "stack", "layers": layers, "readout": ["last", "mean"]}})

    assert labels(plan)[3:] == [
        "mine layers=conv1d+lstm readout=last",
        "mine layers=conv1d+lstm readout=mean",
        "mine layers=linear+residual(norm+attention) readout=last",
        "mine layers=linear+residual(norm+attention) readout=mean",
    ]


def test_values_that_a_label_cannot_tell_apart_are_numbered(plan_of: PlanOf):
    sizes = [[{"kind": "gru", "hidden_size": size}] for size in (8, 16)]

    plan = plan_of(models={"stack": {"layers": [sizes[0], [{"kind": "lstm"}], sizes[1]]}})

    assert labels(plan)[3:] == ["stack layers=gru#1", "stack layers=lstm", "stack layers=gru#2"]
    by_label = {planned.label: planned.run.arguments["layers"][0].get("hidden_size") for planned in plan.runs[3:]}
    assert (by_label["stack layers=gru#1"], by_label["stack layers=gru#2"]) == (8, 16)


def test_a_key_is_the_same_whether_a_layers_default_is_spelt_out_or_not(plan_of: PlanOf):
    short, long, other = (
        plan_of(models={"stack": {"layers": [layer]}}).runs[-1].run.key()
        for layer in ({"kind": "lstm"}, LSTM_DEFAULTS, {"kind": "lstm", "hidden_size": 65})
    )

    assert short == long
    assert short != other


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"kind": "lstn"}], r"\[models.stack\]: layer 1: unknown kind 'lstn'; did you mean 'lstm'"),
        ([[{"kind": "gru"}], [{"kind": "lstm", "size": 3}]], r"\[models.stack\]: layer 1 \(lstm\): unknown key 'size'"),
        (
            [[{"kind": "gru"}], {"kind": "lstm"}],
            r"\[models.stack\]: layers: lists stand beside single values; write one",
        ),
        ([], r"\[models.stack\]: layers = \[\]: write one at least"),
        ([[]], r"\[models.stack\]: layers = \[\]: write one at least"),
    ],
)
def test_a_mistake_in_a_list_is_found_by_the_plan(plan_of: PlanOf, layers: list[Any], message: str):
    with pytest.raises(ConfigError, match=message):
        plan_of(models={"stack": {"layers": layers}})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (list[str], True),
        (list[str] | None, True),
        (Annotated[list[int], "checked"], True),
        (Layers, True),
        (list, True),
        (int, False),
        (str | None, False),
        (Literal["list"], False),
        (None, False),
    ],
)
def test_whether_a_value_is_a_list_is_read_from_its_type(kind: Any, expected: bool):
    assert holds_list(kind) is expected


def test_a_recipe_key_may_hold_a_list_as_well(plan_of: PlanOf):
    one = plan_of(models={"gru": {"recipe": {"freeze": ["embed.*", "recurrence.*"]}}})
    several = plan_of(models={"gru": {}}, recipe={"freeze": [[], ["embed.*", "recurrence.*"]]})

    assert one.runs[-1].run.recipe.freeze == ["embed.*", "recurrence.*"]
    assert one.differences == ["gru has a recipe of its own: freeze ['embed.*', 'recurrence.*'] instead of []"]
    assert labels(several)[-2:] == ["gru freeze=none", "gru freeze=embed.*+recurrence.*"]


def test_an_axis_without_a_value_is_refused(plan_of: PlanOf):
    with pytest.raises(ConfigError, match=r"\[models.gru\]: hidden_size = \[\]: an axis needs a value"):
        plan_of(models={"gru": {"hidden_size": []}})


# Overrides from the command line

BASE = Experiment(datasets="synthetic", horizons=12, models={"gru": {"num_layers": 2}, "mlp": {}})


def test_axes_given_replace_the_experiments_own():
    changed = override(BASE, horizons=[6, 24], context_lengths=[48], seeds=[7])

    assert (changed.horizons, changed.context_lengths, changed.seeds) == ([6, 24], [48], [7])
    assert override(BASE) == BASE


def test_models_given_keep_the_tables_they_have():
    assert override(BASE, models=["gru", "cnn"]).models == {"gru": {"num_layers": 2}, "cnn": {}}


@pytest.mark.parametrize(
    ("key", "models", "recipe"),
    [
        ("max_steps", {}, {"max_steps": [5, 6]}),
        ("recipe.max_steps", {}, {"max_steps": [5, 6]}),
        ("gru.hidden_size", {"gru": {"num_layers": 2, "hidden_size": [5, 6]}}, {}),
        ("gru.recipe.max_steps", {"gru": {"num_layers": 2, "recipe": {"max_steps": [5, 6]}}}, {}),
    ],
)
def test_set_reaches_the_recipe_of_all_a_models_keyword_and_its_own_recipe(
    key: str, models: dict[str, Any], recipe: dict[str, Any]
):
    changed = override(BASE, settings={key: [5, 6]})

    assert changed.models == {**BASE.models, **models}
    assert changed.recipe == recipe


def test_set_reaches_a_model_where_the_experiment_names_none():
    changed = override(Experiment(datasets="synthetic", horizons=12), settings={"gru.hidden_size": 8})

    assert set(changed.models) == DEFAULTS
    assert changed.models["gru"] == {"hidden_size": 8}


def test_an_override_leaves_the_experiment_as_it_was():
    before = BASE.model_dump()

    override(BASE, settings={"gru.hidden_size": 8, "gru.recipe.max_steps": 1, "max_steps": 2}, models=["gru"])

    assert BASE.model_dump() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["gruu"]}, "--models: unknown model 'gruu'; did you mean 'gru'"),
        ({"settings": {"max_step": 1}}, "--set max_step: unknown recipe key 'max_step'; did you mean 'max_steps'"),
        ({"settings": {"gruu.hidden_size": 1}}, "--set gruu.hidden_size: unknown model 'gruu'; did you mean 'gru'"),
        ({"settings": {"gru.a.b": 1}}, "--set gru.a.b: write KEY, MODEL.KEYWORD or MODEL.recipe.KEY"),
        ({"seeds": [1, 1]}, "command line: seeds: 1 is there twice"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        override(BASE, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_steps=500", 500),
        ("learning_rate=1e-3", 0.001),
        ("instance_norm=none", "none"),
        ("flag=true", True),
        ("gru.hidden_size=64,128", [64, 128]),
        ("gru.hidden_size=[64, 128]", [64, 128]),
        ("loss=mse,mae", ["mse", "mae"]),
        ("precision='64'", "64"),
        ("title=a=b", "a=b"),
        ("stack.layers=[{kind='gru'}, {kind='lstm'}]", [{"kind": "gru"}, {"kind": "lstm"}]),
    ],
)
def test_values_are_read_as_in_toml_and_commas_make_a_list(text: str, expected: Any):
    assert parse_setting(text, "--set") == (text.partition("=")[0], expected)


@pytest.mark.parametrize("text", ["max_steps", "=5", "max_steps=", ""])
def test_a_setting_without_key_or_value_is_refused(text: str):
    with pytest.raises(ConfigError, match=f"--set {text}: write --set KEY=VALUE, such as --set max_steps=500"):
        parse_setting(text, "--set")


# Starting from a saved forecaster


def test_a_pretrained_file_of_other_content_is_another_question(plan_of: PlanOf, tmp_path: Path):
    path = tmp_path / "gru.pt"
    keys = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        plan = plan_of(models={"gru": {"recipe": {"pretrained": str(path)}}})
        keys.append({planned.label: planned.run.key() for planned in plan.runs})

    assert keys[0]["gru"] == keys[2]["gru"] != keys[1]["gru"]
    assert keys[0]["linear"] == keys[1]["linear"]


# Families at one parameter budget


def test_matched_families_differ_by_less_than_five_percent_on_every_task_and_the_plan_says_so(plan_of: PlanOf):
    plan = plan_of(context_lengths=[48, 96], horizons=[12, 24], match="parameters", num_parameters=30_000)

    with_width = [planned.run for planned in plan.runs if model_specs()[planned.run.model].widths]
    counts: dict[tuple[str, int, int], list[int]] = {}
    for run in with_width:
        shape = WindowShape(run.context_length, run.horizon, 1, 1, 24)
        built = model_specs()[run.model].build(shape, run.arguments)
        counts.setdefault(run.task, []).append(sum(weight.numel() for weight in built.parameters()))
    assert {run.model for run in with_width} == {name for name, spec in model_specs().items() if spec.widths}
    assert len(counts) == 4
    for task, found in counts.items():
        assert max(found) < 1.05 * min(found), task
        _, length, horizon = task
        note = next(note for note in plan.notes if f"{length} → {horizon}: widths chosen" in note)
        assert all(name in note for name in (f"{min(found):,} to {max(found):,}", "mlp", "gru"))


def test_models_without_a_width_are_left_as_they_are(plan_of: PlanOf):
    matched = {p.label: p.run for p in plan_of(match="parameters", num_parameters=30_000).runs}
    plain = {p.label: p.run for p in plan_of().runs}

    assert all((run == plain[label]) is not bool(model_specs()[run.model].widths) for label, run in matched.items())


def test_mixed_channels_are_matched_with_their_own_width(plan_of: PlanOf):
    plan = plan_of(
        models={"mlp": {}},
        recipe={"channel_mode": ["independent", "mixing"]},
        match="parameters",
        num_parameters=60_000,
    )

    independent, mixing = (p.run.arguments["hidden_size"] for p in plan.runs if p.run.model == "mlp")
    assert mixing < independent / 2  # three channels in and out


# Mistakes in an experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 12}, "tiny.toml: unknown key 'horizon'; did you mean 'horizons'"),
        ({"horizons": ["many"]}, r"tiny.toml: horizons.0 = 'many': input should be a valid integer"),
        ({"horizons": [0]}, "tiny.toml: horizons.0 = 0: input should be greater than or equal to 1"),
        ({"horizons": []}, r"the split of .* \(the first 384 .*\) is made for no horizon; give horizons, or --horizon"),
        ({"seeds": [-1]}, "tiny.toml: seeds.0 = -1"),
        ({"seeds": [3, 3]}, "tiny.toml: seeds: 3 is there twice"),
        ({"datasets": ["a.csv", "a.csv"]}, "tiny.toml: datasets: 'a.csv' is there twice"),
        ({"datasets": "etth11"}, "datasets: unknown dataset 'etth11'; did you mean 'etth1'"),
        ({"models": {"gruu": {}}}, r"experiment 'tiny', \[models.gruu\]: unknown model 'gruu'; did you mean 'gru'"),
        (
            {"models": {"gru": {"hiden_size": 8}}},
            r"\[models.gru\]: unknown key 'hiden_size'; did you mean 'hidden_size'",
        ),
        (
            {"models": {"gru": {"hidden_size": "big"}}},
            r"\[models.gru\]: hidden_size = 'big': input should be a valid int",
        ),
        (
            {"models": {"gru": {"recipe": {"pretrained": "no.pt"}}}},
            r"\[models.gru.recipe\]: pretrained = 'no.pt': cannot be",
        ),
        (
            {"recipe": {"pretrained": "no.pt"}},
            r"\[recipe\]: pretrained fits one model; write it under \[models.NAME.rec",
        ),
        ({"match": "parameters"}, "match = 'parameters' and num_parameters = 50000, or another target, go together"),
        ({"num_parameters": 9}, "match = 'parameters' and num_parameters = 50000, or another target, go together"),
        (
            {"match": "parameters", "num_parameters": 9000, "models": {"gru": {"hidden_size": [8, 16]}}},
            r"\[models.gru\]: match = 'parameters' chooses hidden_size; leave it out",
        ),
        (
            {"match": "parameters", "num_parameters": 50, "models": {"mlp": {}}},
            "no width gives mlp about 50 parameters for 12 rows from 48; the nearest is 73 with hidden_size = 1; ",
        ),
        ({"models": {"gru": {"recipe": 5}}}, r"recipe = 5: write a table \[models.gru.recipe\]"),
        ({"models": {"gru": {"recipe": {"los": 1}}}}, r"\[recipe\] of gru: unknown key 'los'; did you mean 'loss'"),
        ({"recipe": {"los": "mse"}}, r"experiment 'tiny', \[recipe\]: unknown key 'los'; did you mean 'loss'"),
        ({"recipe": {"loss": "mape"}}, "loss = 'mape': input should be 'mse', 'mae' or 'huber'"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_what_is_allowed(plan_of: PlanOf, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        plan_of(**changes)


def test_a_missing_key_is_told():
    with pytest.raises(ConfigError, match=r"mine.toml: key 'datasets' is missing"):
        parse_experiment({"horizons": [12]}, "mine.toml")


def test_an_experiment_that_is_nowhere_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="no experiment and no file is called 'defautl'; did you mean 'default'"):
        load_experiment("defautl")
    with pytest.raises(ConfigError, match=r"nowhere.toml: no such experiment file"):
        load_experiment(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("title = nothing")
    with pytest.raises(ConfigError, match=r"bad.toml: not valid TOML: .*line 1"):
        load_experiment(tmp_path / "bad.toml")


def test_a_dataset_that_cannot_hold_a_window_is_told_before_the_first_run(plan_of: PlanOf):
    with pytest.raises(DataError, match="too few rows: the validation part has 120"):
        plan_of(horizons=121)


def test_two_datasets_of_one_name_are_refused(tiny_panel: Panel, tmp_path: Path):
    """Records know a dataset by name: the second would be trained on under the fingerprint of the first."""
    panels = {"a/sales.csv": replace(tiny_panel, name="sales"), "b/sales.csv": synthetic_panel()}
    panels["b/sales.csv"] = replace(panels["b/sales.csv"], name="sales")
    experiment = Experiment(datasets=list(panels), horizons=12, context_lengths=48)

    with pytest.raises(ConfigError, match=r"'a/sales.csv' and 'b/sales.csv' have one name, 'sales'; rename a file"):
        make_plan("two", experiment, panels.__getitem__)


TWELVE = {"naive", "seasonal_naive", "profile", "linear", "dlinear", "mlp", "rnn", "lstm", "gru", "cnn", "tcn"}
TWELVE |= {"transformer"}
ASKED_FOR = {"default": TWELVE, "ltsf": TWELVE | {"nlinear", "ridge", "seasonal_ridge"}}
ASKED_FOR["long"] = ASKED_FOR["ltsf"] | {"transformer_encdec"}
ASKED_FOR["m4_hourly"] = TWELVE | {"nlinear", "ridge", "naive2"}
ASKED_FOR["fev"] = {"naive", "seasonal_naive", "linear"}
ASKED_FOR["ablation"] = TWELVE - {"profile", "dlinear"}
ASKED_FOR["quantiles"] = {"naive", "seasonal_naive", "linear", "ridge", "gru"}


@pytest.mark.parametrize("name", list_experiments())
def test_the_projects_own_experiments_can_be_planned(name: str, tiny_panel: Panel):
    loaded, experiment = load_experiment(name)

    # The longest horizon is of 720 rows, and one that is not named is the split's.
    panel = synthetic_panel(num_rows=10_000, split=SplitByLast(test=720))
    plan, _ = make_plan(loaded, experiment, lambda dataset: replace(panel, name=dataset))

    assert plan.title
    models = {planned.run.model for planned in plan.runs}
    assert models == ASKED_FOR.get(name, DEFAULTS)


def modules_after(code: str, wanted: Sequence[str]) -> list[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*[m for m in {wanted!r} if m in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()


def test_planning_imports_neither_torch_nor_lightning():
    code = "from tsbench.api import plan_experiment; plan_experiment('smoke')"

    assert modules_after(code, ["torch", "lightning"]) == []


TWINS = {
    "another name": {"gru": {}, "same": {"model": "gru"}},
    "a value that is there twice": {"gru": {"hidden_size": [64, 64]}},
    "a default that is spelt out": {"gru": {"hidden_size": 128}, "plain": {"model": "gru"}},
}


@pytest.mark.parametrize("models", TWINS.values(), ids=TWINS)
def test_two_names_for_one_question_are_refused(models: dict[str, Any]):
    experiment = Experiment(datasets=["synthetic"], horizons=[6], context_lengths=[24], models=models)

    with pytest.raises(ConfigError, match=r"'gru.*' and '.*' ask the same; leave one out"):
        make_plan("twins", experiment, lambda dataset: synthetic_panel())


def test_a_table_named_after_one_model_cannot_be_another():
    experiment = Experiment(datasets=["synthetic"], horizons=[6], models={"naive": {"model": "gru"}})

    with pytest.raises(ConfigError, match=r"\[models.naive\]: 'naive' is a model itself"):
        make_plan("masked", experiment, lambda dataset: synthetic_panel())


@pytest.mark.parametrize("content", [{"horizons": True}, {"horizons": ["6"]}, {"seeds": [1.5]}])
def test_what_only_looks_like_a_number_is_refused(content: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(content))):
        parse_experiment({"datasets": ["synthetic"], "horizons": [6], **content}, "lax.toml")


def test_set_reaches_an_opponent_that_nobody_named():
    experiment = Experiment(datasets=["synthetic"], horizons=[6], models={"gru": {}})

    changed = override(experiment, settings={"linear.recipe.max_steps": 7})

    assert changed.models["linear"] == {"recipe": {"max_steps": 7}}


# Panels of several items


def shops(lengths: Sequence[int] = (300, 400), low: float = 10.0) -> Panel:
    """Hourly items of positive values, the last 24 rows for testing."""
    whole = synthetic_panel(num_rows=sum(lengths), num_channels=1, seed=5)
    return replace(
        whole,
        name="shops",
        values=whole.values + low,
        items=tuple(f"shop {number}" for number in range(len(lengths))),
        offsets=np.cumsum([0, *lengths]),
        split=SplitByLast(test=24),
    )


def test_panels_of_several_items_have_defaults_of_their_own_and_what_is_said_stays(plan_of: PlanOf):
    plan = plan_of(shops(), recipe={"max_steps": 7, "loss": "huber"}, horizons=[], context_lengths=[])

    run = plan.runs[0].run
    assert (run.recipe.max_steps, run.recipe.loss) == (7, "huber")
    assert (run.recipe.loss_scale, run.recipe.log, run.recipe.batch_size) == ("spread", True, 128)
    assert (run.horizon, run.context_length) == (24, 120)  # half of the shortest, 252 rows, in whole days
    (note,) = [note for note in plan.notes if "2 items" in note]
    assert "loss_scale spread" in note
    assert "max_steps" not in note


def test_logarithms_are_taken_by_default_only_where_all_training_values_are_above_zero(plan_of: PlanOf):
    assert not plan_of(shops(low=0.0)).runs[0].run.recipe.log
    with pytest.raises(
        ConfigError, match="log = true needs a panel of several items with values above zero, and of shops"
    ):
        plan_of(shops(low=0.0), recipe={"log": True})
    with pytest.raises(ConfigError, match="and of auckland_pedestrians_tiny it has one item; leave log out"):
        plan_of(recipe={"log": True})


def test_each_fold_of_a_cross_validation_is_a_task_of_its_own():
    panel = replace(shops(), split=SplitByOrigins(horizon=24, windows=3, stride=12, refit=True))
    experiment = Experiment(datasets="synthetic", context_lengths=24, models={"naive": {}}, seeds=0)

    plan, panels = make_plan("folds", experiment, lambda name: panel)

    assert list(panels) == ["shops_fold1", "shops_fold2", "shops_fold3"]
    assert {planned.run.dataset for planned in plan.runs} == set(panels)
    assert len({planned.run.fingerprint for planned in plan.runs}) == 3
    assert {planned.run.horizon for planned in plan.runs} == {24}
    assert plan.folds == {"shops": list(panels)}


def test_all_folds_of_a_cross_validation_see_a_context_of_one_length():
    panel = replace(shops(), split=SplitByOrigins(horizon=24, windows=3, refit=True))
    experiment = Experiment(datasets="synthetic", models={"naive": {}}, seeds=0)

    plan, panels = make_plan("folds", experiment, lambda name: panel)

    by_itself = [default_context_length(fold, 24) for fold in panels.values()]
    assert by_itself == [96, 96, 120]
    assert {planned.run.context_length for planned in plan.runs} == {by_itself[0]}


def test_a_stack_that_cannot_be_built_is_refused_when_it_is_planned(plan_of: PlanOf):
    layers = [{"kind": "conv1d", "kernel_size": 49, "padding": "valid"}]

    with pytest.raises(
        ConfigError, match=r"stack, on auckland_pedestrians_tiny: stack: layer 1 \(conv1d\): 48 places x 1"
    ):
        plan_of(models={"stack": {"layers": layers}})
    assert plan_of(models={"stack": {"layers": layers}}, context_lengths=49).runs


def test_a_stack_is_planned_for_the_channels_that_it_will_be_given(covariate_panel: Panel, plan_of: PlanOf):
    layers = [{"kind": "attention", "num_heads": 6}]  # two targets and four covariates, side by side

    def plan(**recipe: Any) -> Plan:
        mixing = {"channel_mode": "mixing", **recipe}
        return plan_of(covariate_panel, models={"stack": {"layers": layers}}, context_lengths=24, recipe=mixing)

    assert plan().runs
    with pytest.raises(ConfigError, match="24 places x 2 channels come in, but num_heads = 6 must divide"):
        plan(covariates="none")
