"""Experiments: the matrix of questions, where every list is an axis. Imports no torch.

A keyword whose value is a list itself, such as a stack's `layers`, has a list of lists for its axis.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from tsbench.bench.records import Plan, PlannedRun, Run, written
from tsbench.data.catalogue import members
from tsbench.data.covariates import Roles
from tsbench.data.datasets import known_dataset
from tsbench.data.panel import Panel
from tsbench.data.scaling import count_values
from tsbench.errors import ConfigError, DataError, from_validation, nearest, unknown
from tsbench.models.layer_kinds import Size, parse_layers, sizes_after
from tsbench.models.registry import ModelSpec, model_spec, model_specs
from tsbench.resources import resource_dir
from tsbench.training.recipe import Group, Recipe

OPPONENTS = ("naive", "seasonal_naive", "linear")
"""In every comparison, asked for or not: a network that does not beat them is not worth its cost."""

_PositiveInt = Annotated[int, Field(ge=1)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Experiment(BaseModel):
    """The matrix: every model on every dataset at every context length and horizon with every seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: str = ""
    datasets: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
    """Names of cards or of groups of them, or files."""
    context_lengths: Annotated[list[_PositiveInt], BeforeValidator(_as_list)] = []
    """None given: four seasons, or twice the horizon where that is longer."""
    horizons: Annotated[list[_PositiveInt], BeforeValidator(_as_list)] = []
    """None given: the one that each dataset's split is made for."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_as_list), Field(min_length=1)] = [0, 1, 2]
    models: dict[str, dict[str, Any]] = {}
    """A table per model with its keywords; a list is an axis (of lists, where a value is a list itself). `recipe` in it
    is for this model only; `model` names the model where the table has a name of its own. Without any: all models with
    their defaults."""
    recipe: dict[str, Any] = {}
    """Keys of `Recipe`, for all models; a list is an axis."""
    match: Literal["nothing", "parameters"] = "nothing"
    """parameters: every model that has a width gets the one with which it has `num_parameters` weights."""
    num_parameters: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _match_has_a_target(self) -> Experiment:
        if (self.match == "parameters") != (self.num_parameters is not None):
            raise ValueError("match = 'parameters' and num_parameters = 50000, or another target, go together")
        return self

    @field_validator("datasets", "context_lengths", "horizons", "seeds")
    @classmethod
    def _no_value_twice(cls, values: list[Any]) -> list[Any]:
        twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is there twice")
        return values


def list_experiments() -> list[str]:
    """The names of the experiments that come with the project."""
    return sorted(path.stem for path in resource_dir("experiments").glob("*.toml"))


def load_experiment(target: str | Path) -> tuple[str, Experiment]:
    """Name and content of an experiment, by name or from a TOML file. Raises ConfigError with the file and the key."""
    path = Path(target)
    if path.suffix != ".toml":
        if str(target) not in list_experiments():
            raise ConfigError(
                f"no experiment and no file is called {str(target)!r}; {nearest(str(target), list_experiments())}; "
                "or give a TOML or CSV file"
            )
        path = resource_dir("experiments") / f"{target}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such experiment file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return path.stem, parse_experiment(content, str(path))


def parse_experiment(content: Mapping[str, Any], where: str) -> Experiment:
    """Checked content of an experiment file. Raises ConfigError."""
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise from_validation(error, where, Experiment.model_fields) from error


def override(
    experiment: Experiment,
    *,
    horizons: Sequence[int] = (),
    context_lengths: Sequence[int] = (),
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment with what the command line says instead. Raises ConfigError."""
    content = experiment.model_dump()
    given = {"horizons": horizons, "context_lengths": context_lengths, "seeds": seeds}
    content |= {key: list(values) for key, values in given.items() if values}
    if models:
        content["models"] = {name: _section(content["models"], name) for name in models}
    for key, value in (settings or {}).items():
        _set(content, key, value)
    return parse_experiment(content, "command line")


def _section(sections: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in sections:
        model_spec(name, "--models")
    return dict(sections.get(name, {}))


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    """`max_steps`, `recipe.max_steps`, `gru.hidden_size` or `gru.recipe.max_steps`."""
    where = f"--set {key}"
    *path, last = key.split(".")
    if path in ([], ["recipe"]):
        if last not in Recipe.model_fields:
            names = [*Recipe.model_fields, "MODEL.KEYWORD"]
            raise unknown("recipe key", last, names, where)
        content["recipe"] = {**content["recipe"], last: value}
        return
    sections = _with_opponents(content["models"])
    if path[0] not in sections:
        raise unknown("model", path[0], sections, where)
    section = dict(sections[path[0]])
    if path[1:] == ["recipe"]:
        section["recipe"] = {**section.get("recipe", {}), last: value}
    elif len(path) == 1:
        section[last] = value
    else:
        raise ConfigError(f"{where}: write KEY, MODEL.KEYWORD or MODEL.recipe.KEY")
    content["models"] = {**(content["models"] or sections), path[0]: section}


def parse_setting(text: str, option: str) -> tuple[str, Any]:
    """`KEY=VALUE` from the command line: numbers and booleans as in TOML, `a,b` as a list, anything else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise ConfigError(f"{option} {text}: write {option} KEY=VALUE, such as {option} max_steps=500")
    if "," in value and not value.startswith("["):
        return key, [_literal(part) for part in value.split(",") if part]
    return key, _literal(value)


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def make_plan(
    name: str, experiment: Experiment, load: Callable[[str], Panel], command: str = ""
) -> tuple[Plan, dict[str, Panel]]:
    """Every run of an experiment, fully resolved, and the panels they need.

    Raises ConfigError for names, keys and values that do not exist, DataError when a dataset cannot hold a window.
    """
    datasets = [known_dataset(dataset) for dataset in members(experiment.datasets)]
    where = f"experiment {name!r}"
    rows = [row for section in _with_opponents(experiment.models).items() for row in _rows(*section, experiment, where)]
    _refuse_twins(rows, where)
    loaded = {dataset: load(dataset) for dataset in datasets}
    _refuse_namesakes(loaded, where)
    folds = {panel.name: panel.folds() for panel in loaded.values()}
    panels = [(fold, of_one[0]) for of_one in folds.values() for fold in of_one]
    notes, runs = [], []
    for panel, first_fold in panels:
        smallest = panel.train.smallest
        recipes = {row.label: _recipe_for(row, panel, smallest, where) for row in rows}
        notes += _of_items(panel, experiment.recipe, smallest)
        for horizon in experiment.horizons or [_own_horizon(panel, where)]:
            lengths = experiment.context_lengths
            if not lengths:
                lengths = [default_context_length(first_fold, horizon)]  # one question for all folds
                notes.append(
                    f"{panel.name}, horizon {horizon}: context length {lengths[0]} "
                    f"({'fourteen' if panel.has_items else 'four'} seasons or two horizons)"
                )
            for context_length in lengths:
                for part in (panel.train, panel.validation, panel.test):
                    part.window_starts(context_length, horizon)  # raises when there is no window
                _check_layers(rows, panel, context_length, where)
                notes += _left_out(panel, context_length, horizon)
                notes += _masked(panel, context_length, horizon) if panel.has_holes else []
                matched = _matched(rows, experiment, panel, context_length, horizon, where)
                notes += [_account(panel, context_length, horizon, matched)] if matched else []
                runs += [
                    PlannedRun(
                        label=row.label,
                        run=Run(
                            dataset=panel.name,
                            fingerprint=panel.fingerprint,
                            context_length=context_length,
                            horizon=horizon,
                            seed=seed,
                            model=row.model,
                            arguments=matched[row.label][0] if row.label in matched else row.arguments,
                            recipe=recipes[row.label],
                            pretrained_digest=row.pretrained_digest,
                        ),
                    )
                    for row in rows
                    for seed in experiment.seeds
                ]
    differences = _axes_in_words(experiment.recipe) + [
        line for line in dict.fromkeys(row.difference for row in rows) if line
    ]
    plan = Plan(
        title=experiment.title or name,
        experiment=name,
        command=command,
        differences=differences,
        notes=notes,
        folds={name: [fold.name for fold in of_one] for name, of_one in folds.items() if len(of_one) > 1},
        runs=runs,
    )
    return plan, {panel.name: panel for panel, _ in panels}


def _own_horizon(panel: Panel, where: str) -> int:
    if panel.split.own_horizon is None:
        raise ConfigError(
            f"{where}: the split of {panel.name} ({panel.split}) is made for no horizon; give horizons, or --horizon"
        )
    return panel.split.own_horizon


def _check_layers(rows: Sequence[_Row], panel: Panel, context_length: int, where: str) -> None:
    """Raises ConfigError where a layer of a stack cannot read what comes in: then none of its runs could succeed."""
    for row in rows:
        if "layers" in row.arguments:
            channels = panel.num_channels if row.recipe.channel_mode == "mixing" else 1
            channels += len(panel.roles.columns) if row.recipe.covariates == "all" else 0
            try:
                sizes_after(parse_layers(row.arguments["layers"]), Size(context_length, channels))
            except ConfigError as error:
                raise ConfigError(f"{where}, {row.label}, on {panel.name}: {error}") from error


def _recipe_for(row: _Row, panel: Panel, smallest: float, where: str) -> Recipe:
    recipe = row.recipe.for_panel(len(panel.items), smallest)
    if recipe.log and not (panel.has_items and smallest > 0):
        found = f"the smallest value of its training rows is {smallest:g}" if panel.has_items else "it has one item"
        raise ConfigError(
            f"{where}, [recipe] of {row.label}: log = true needs a panel of several items with values above zero, and "
            f"of {panel.name} {found}; leave log out"
        )
    return recipe


def _of_items(panel: Panel, said: Mapping[str, Any], smallest: float) -> list[str]:
    """The recipe's other defaults for panels of several items: no word is lost on them elsewhere."""
    if not panel.has_items:
        return []
    resolved = Recipe.model_validate({}).for_panel(len(panel.items), smallest)
    words = [f"{key} {getattr(resolved, key)}" for key in sorted(resolved.model_fields_set - said.keys())]
    return [
        f"{panel.name}: {len(panel.items):,} items, each scaled by its level; defaults for them: {', '.join(words)}"
    ]


def _matched(
    rows: Sequence[_Row], experiment: Experiment, panel: Panel, context_length: int, horizon: int, where: str
) -> dict[str, tuple[dict[str, Any], int]]:
    """Arguments and number of parameters of each row with a width, by label; nothing where nothing is to be matched."""
    if experiment.num_parameters is None:
        return {}
    from tsbench.bench.matching import match_parameters
    from tsbench.data.windows import WindowShape

    found = {}
    for row in rows:
        spec = model_spec(row.model)
        if spec.widths:
            shape = WindowShape.of(
                context_length,
                horizon,
                panel.seasonality,
                channels=panel.num_channels if row.recipe.channel_mode == "mixing" else 1,
                covariates=panel.roles if row.recipe.covariates == "all" else Roles(),
                quantiles=len(row.recipe.quantiles) or 1,
            )
            found[row.label] = match_parameters(spec, shape, row.arguments, experiment.num_parameters, where)
    return found


def _left_out(panel: Panel, context_length: int, horizon: int) -> list[str]:
    """Items that are too short for a window: no word is lost on them elsewhere."""
    notes = []
    for part in (panel.train, panel.validation, panel.test):
        items = part.without_window(context_length, horizon)
        if len(items):
            names = ", ".join(panel.items[item] for item in items[:8]) + (", ..." if len(items) > 8 else "")
            notes.append(
                f"{panel.name}, {context_length} → {horizon}: {len(items):,} of {len(panel.items):,} items are too "
                f"short for a window in the {part.name} part and are left out of it: {names}"
            )
    return notes


def _masked(panel: Panel, context_length: int, horizon: int) -> list[str]:
    """Windows that hold no value. Raises DataError where a series has no scale, or a step or channel no score."""
    count_values(panel, panel.train.bounds)
    rows_N = panel.test.starts(context_length, horizon) + context_length
    is_there_TC, is_target_T = ~np.isnan(panel.values[:]), np.zeros(len(panel.values), bool)
    for step in range(horizon):
        is_target_T[rows_N + step] = True
        if not is_there_TC[rows_N + step].any():
            raise DataError(
                f"{panel.name}: no test window has a value {step + 1} steps ahead, so nothing could be scored there; "
                "shorten --horizon, change the split, or fill the holes: missing = interpolate or forward_fill"
            )
    for name, is_scored in zip(panel.channels, is_there_TC[is_target_T].any(axis=0), strict=True):
        if not is_scored:
            raise DataError(
                f"{panel.name}: {name!r} has no value in any test window, so nothing could be scored; leave it out by "
                "naming the others in targets, or change the split"
            )
    notes = []
    for part in (panel.train, panel.validation, panel.test):
        count = part.empty_windows(context_length, horizon)
        if count:
            notes.append(
                f"{panel.name}, {context_length} → {horizon}: {count:,} windows of the {part.name} part hold no value "
                "to forecast and are none"
            )
    return notes


def _account(panel: Panel, context_length: int, horizon: int, matched: Mapping[str, tuple[dict[str, Any], int]]) -> str:
    counts = [count for _, count in matched.values()]
    return (
        f"{panel.name}, {context_length} → {horizon}: widths chosen for the same number of parameters, "
        f"{min(counts):,} to {max(counts):,}, in {', '.join(matched)}; the others have no width to choose"
    )


def _refuse_twins(rows: Sequence[_Row], where: str) -> None:
    """Two names for one question would be run twice and fill one record."""
    asked: dict[str, str] = {}
    for row in rows:
        question = row.model_dump_json(include={"model", "arguments", "recipe"})
        if question in asked:
            raise ConfigError(f"{where}: {asked[question]!r} and {row.label!r} ask the same; leave one out")
        asked[question] = row.label


def _refuse_namesakes(panels: Mapping[str, Panel], where: str) -> None:
    """Records and tables know a panel by its name alone."""
    first: dict[str, str] = {}
    for dataset, panel in panels.items():
        other = first.setdefault(panel.name, dataset)
        if other != dataset:
            raise ConfigError(
                f"{where}: datasets {other!r} and {dataset!r} have one name, {panel.name!r}; rename a file"
            )


def default_context_length(panel: Panel, horizon: int) -> int:
    """Four seasons or twice the horizon, in whole seasons, but at most a quarter of the training rows.

    Of several items, fourteen seasons (two weeks of hours), at most half of the shortest: they learn from each other.
    """
    season = panel.seasonality
    wanted, share = (14, 2) if panel.has_items else (4, 4)
    rows = max(wanted * season, 2 * horizon)
    shortest = int((panel.bounds["train"][:, 1] - panel.bounds["train"][:, 0]).min())
    seasons = min(-(-rows // season), max(shortest // share // season, 1))
    return seasons * season


class _Row(BaseModel):
    """A line of the leaderboard: one model with one setting of everything."""

    label: str
    model: str
    arguments: dict[str, Any]
    recipe: Recipe
    pretrained_digest: str
    difference: str


def _with_opponents(models: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    sections = dict(models) or {name: {} for name, spec in model_specs().items() if not spec.reads_history}
    present = {str(section.get("model", name)) for name, section in sections.items()}
    return {name: {} for name in OPPONENTS if name not in present} | sections


def _rows(name: str, section: Mapping[str, Any], experiment: Experiment, where: str) -> Iterable[_Row]:
    spec = model_spec(str(section.get("model", name)), f"{where}, [models.{name}]")
    if name in model_specs() and name != spec.name:
        raise ConfigError(f"{where}, [models.{name}]: {name!r} is a model itself; give the table a name of its own")
    _refuse_own_width(spec, section, experiment, f"{where}, [models.{name}]")
    own_recipe = section.get("recipe", {})
    if not isinstance(own_recipe, dict):
        raise ConfigError(f"{where}, [models.{name}]: recipe = {own_recipe!r}: write a table [models.{name}.recipe]")
    arguments = {key: value for key, value in section.items() if key not in ("recipe", "model")}
    recipe = {**experiment.recipe, **own_recipe}
    if not spec.learned and isinstance(recipe.get("covariates"), list):
        recipe["covariates"] = "none"  # it takes none: the rows of this axis would be the same
    if not spec.trained and isinstance(recipe.get("calibration"), list):
        recipe["calibration"] = "conformal"  # its quantiles come from the validation part in any case
    common = _common_recipe(experiment.recipe, where)
    types = {keyword: argument.type for keyword, argument in spec.arguments.items()}
    for chosen, varied in _settings(arguments, types, f"{where}, [models.{name}]"):
        for chosen_recipe, varied_recipe in _settings(recipe, _recipe_types(), f"{where}, [recipe] of {name}"):
            resolved = _recipe(chosen_recipe, f"{where}, [recipe] of {name}")
            yield _Row(
                label=" ".join([name, *(f"{key}={words}" for key, words in {**varied, **varied_recipe}.items())]),
                model=spec.name,
                arguments=spec.resolve(chosen, f"{where}, [models.{name}]"),
                recipe=resolved,
                pretrained_digest=_pretrained_digest(resolved.pretrained, f"{where}, [models.{name}.recipe]"),
                difference=_difference(name, own_recipe, common),
            )


def _refuse_own_width(spec: ModelSpec, section: Mapping[str, Any], experiment: Experiment, where: str) -> None:
    own = next((keyword for keyword in spec.widths if keyword in section), None)
    if own and experiment.match == "parameters":
        raise ConfigError(f"{where}: match = 'parameters' chooses {own}; leave it out")


def _settings(
    values: Mapping[str, Any], types: Mapping[str, Any], where: str
) -> Iterable[tuple[dict[str, Any], dict[str, str]]]:
    """Every choice of one value from each axis, and the words for what was chosen from one."""
    axes = _axes(values, types, where)
    for chosen in product(*(zip(axis, _told_apart(axis), strict=True) for axis in axes.values())):
        varied = dict(zip(axes, chosen, strict=True))
        settings = {**values, **{key: value for key, (value, _) in varied.items()}}
        yield settings, {key: words for key, (_, words) in varied.items()}


def _axes(values: Mapping[str, Any], types: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """The keys that hold a list of values. Where a value is a list itself, that is a list of lists.

    types: what one value is, by key.
    """
    axes = {}
    for key, value in values.items():
        if not isinstance(value, list):
            continue
        if holds_list(types.get(key)):
            are_lists = {isinstance(element, list) for element in value}
            if are_lists == {True, False}:
                raise ConfigError(
                    f"{where}: {key}: lists stand beside single values; write one list, or a list of lists as an axis"
                )
            if are_lists != {True}:
                continue
        if not value:
            raise ConfigError(f"{where}: {key} = []: an axis needs a value")
        axes[key] = value
    return axes


def holds_list(kind: Any) -> bool:
    """Whether values of a type are lists: of `list[str]`, with checks on it (`Annotated`) or with an alternative."""
    if get_origin(kind) in (Annotated, Union, UnionType):
        return any(map(holds_list, get_args(kind)))
    return list in (kind, get_origin(kind))


def _told_apart(values: list[Any]) -> list[str]:
    """The words for each value of an axis, numbered where two would be the same."""
    words = [written(value) for value in values]
    return [
        f"{word}#{words[: place + 1].count(word)}" if words.count(word) > 1 else word
        for place, word in enumerate(words)
    ]


def _recipe(values: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, where, Recipe.model_fields, {"groups": Group.model_fields}) from error


def _pretrained_digest(file: str, where: str) -> str:
    """Weights of another content are another question, whatever their file is called."""
    if not file:
        return ""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ConfigError(
            f"{where}: pretrained = {file!r}: cannot be read ({error.strerror}); Forecaster.save makes one"
        ) from error


def _recipe_types() -> dict[str, Any]:
    return {key: field.annotation for key, field in Recipe.model_fields.items()}


def _common_recipe(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The recipe of all models, keys that are axes left as lists."""
    if values.get("pretrained"):
        raise ConfigError(f"{where}, [recipe]: pretrained fits one model; write it under [models.NAME.recipe]")
    axes = _axes(values, _recipe_types(), f"{where}, [recipe]")
    alone = {key: value for key, value in values.items() if key not in axes}
    return _recipe(alone, f"{where}, [recipe]").model_dump() | axes


def _axes_in_words(recipe: Mapping[str, Any]) -> list[str]:
    return [
        f"rows differ in {key}: {', '.join(_told_apart(values))}"
        for key, values in _axes(recipe, _recipe_types(), "[recipe]").items()
    ]


def _difference(name: str, own: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    changed = [f"{key} {value} instead of {common.get(key)}" for key, value in own.items() if common.get(key) != value]
    return f"{name} has a recipe of its own: {', '.join(changed)}" if changed else ""
