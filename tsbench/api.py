"""The whole road for scripts and for the command line: from a target to a plan, to records, to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tsbench.bench.estimate import Estimate
from tsbench.bench.experiment import (
    Experiment,
    list_experiments,
    load_experiment,
    make_plan,
    override,
    parse_experiment,
)
from tsbench.bench.explanations import NUM_WINDOWS, explain_runs, first_seeds
from tsbench.bench.observer import Observer
from tsbench.bench.packing import PACKS
from tsbench.bench.records import Plan, PlannedRun, RecordStore, load_records
from tsbench.bench.workers import MEASURES, number_of_workers, run_in_workers
from tsbench.data.cards import list_cards
from tsbench.data.catalogue import GROUP, groups, is_group
from tsbench.data.datasets import is_card, load_dataset, looks_like_file
from tsbench.data.files import plain_name
from tsbench.data.panel import Panel
from tsbench.errors import ConfigError, nearest, unknown
from tsbench.models.registry import model_specs
from tsbench.training.loggers import check_loggers
from tsbench.training.recipe import Recipe


@dataclass(frozen=True)
class Matrix:
    """A plan with everything that is needed to carry it out."""

    plan: Plan
    panels: Mapping[str, Panel]
    folder: Path
    notes: tuple[str, ...] = ()
    """What must be said of the target itself, before a run starts."""

    def missing(self, only: Mapping[str, Any] | None = None, *, force: bool = False) -> list[PlannedRun]:
        """The planned runs without a record, narrowed by `only`; with `force`, those with one as well."""
        _check_keys(only or {})
        store = RecordStore(self.folder)
        chosen = [planned for planned in self.plan.runs if _is_chosen(planned, only or {}, store)]
        if not chosen and only and "status" not in only:
            asked = ", ".join(f"{key}={value}" for key, value in only.items())
            labels = ", ".join(dict.fromkeys(planned.label for planned in self.plan.runs))
            raise ConfigError(f"--only {asked}: no planned run is meant by that; planned are {labels}")
        return [planned for planned in chosen if force or planned.run.key() not in store]

    def set_aside_unreadable(self, runs: list[PlannedRun]) -> list[Path]:
        """Make room for runs that are forced: nothing is lost, and nothing reads what no version can."""
        return RecordStore(self.folder).set_aside_unreadable(planned.run.key() for planned in runs)


def plan_experiment(
    target: str | Path | Experiment = "default",
    *,
    horizons: Sequence[int] = (),
    context_lengths: Sequence[int] = (),
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    data_dirs: Sequence[str | Path] = (),
    output: str | Path | None = None,
    command: str = "",
) -> Matrix:
    """What `tsbench run` would do. Raises ConfigError and DataError; writes nothing.

    target: an experiment's name or TOML file, a dataset's or a group's name or a file (then `horizons` are needed), or
    an Experiment. A name of an experiment and of a group means the experiment; `group:NAME` means the group.
    settings: as `--set`, such as `{"max_steps": 500, "gru.hidden_size": [64, 128]}`.
    output: the folder for records and report; `reports/<experiment>` when not given.
    """
    if isinstance(target, Experiment):
        name, experiment = "experiment", target
    else:
        name, experiment = _experiment_of(str(target), horizons)
    experiment = override(
        experiment,
        horizons=horizons,
        context_lengths=context_lengths,
        models=models,
        seeds=seeds,
        settings=settings,
    )
    plan, panels = make_plan(name, experiment, lambda dataset: load_dataset(dataset, data_dirs=data_dirs), command)
    notes = [f"{target}: the experiment; the group of datasets is {GROUP}{target}"] if _is_both(target) else []
    return Matrix(plan, panels, Path(output) if output else Path("reports") / name, tuple(notes))


def _is_both(target: str | Path | Experiment) -> bool:
    return target in list_experiments() and target in groups()


def _experiment_of(target: str, horizons: Sequence[int]) -> tuple[str, Experiment]:
    if target in list_experiments() or (target.endswith(".toml") and not is_card(Path(target))):
        return load_experiment(target)
    if target not in list_cards() and not looks_like_file(target) and not is_group(target):
        names = [*list_experiments(), *list_cards(), *groups()]
        raise ConfigError(f"no experiment, dataset or file is called {target!r}; {nearest(target, names)}")
    if not horizons:
        raise ConfigError(f"{target}: how many rows ahead? add --horizon, such as --horizon 24")
    name = plain_name(Path(target)).replace(":", "_")
    content = {"title": f"Sequence models on {name}", "datasets": [target], "horizons": list(horizons)}
    return name, parse_experiment(content, target)


def carry_out(
    matrix: Matrix,
    runs: list[PlannedRun],
    *,
    device: str = "auto",
    workers: int | str = 1,
    measure: str = "alone",
    pack: str = "auto",
    observer: Observer | None = None,
    estimate: Estimate | None = None,
    keep_forecasters: bool = False,
    loggers: Sequence[str] = (),
) -> Path:
    """Execute these runs of a matrix and write its report. Returns the report's path.

    workers: processes that share the runs, or `auto`, see `number_of_workers`; 1 is this process.
    measure: `alone` reads each model's speed again when no other worker or seed runs, `shared` leaves it.
    pack: when the seeds of a run are trained in one step: `auto` where a short measurement says that it pays, `never`,
    or `always`, wherever it is possible.
    estimate: what is known of the time of each run, for the order in which workers take them.
    keep_forecasters: keep what is trained in `forecasters/<key>.pt`, for `Forecaster.load`.
    loggers: trackers that follow every run, in `logs`: csv, tensorboard, mlflow, wandb.

    Raises MachineError when the device is not here or the folder cannot be written.
    """
    from tsbench.report.build import build

    if measure not in MEASURES:
        raise unknown("word", measure, MEASURES, where="--measure")
    if pack not in PACKS:
        raise unknown("word", pack, PACKS, where="--pack")
    names = check_loggers(loggers)
    num_workers = number_of_workers(workers, matrix.plan, device)
    observer = observer or Observer()
    if num_workers == 1:
        _carry_out_here(matrix, runs, device, observer, keep_forecasters, pack, measure == "alone", names)
    else:
        matrix.plan.save(matrix.folder)
        run_in_workers(
            matrix.plan,
            matrix.panels,
            matrix.folder,
            device,
            runs,
            observer,
            num_workers=num_workers,
            estimate=estimate or Estimate.from_folder(matrix.folder),
            measure_alone=measure == "alone",
            keep_forecasters=keep_forecasters,
            pack=pack,
            loggers=names,
        )
    return build(matrix.folder)


def _carry_out_here(
    matrix: Matrix,
    runs: list[PlannedRun],
    device: str,
    observer: Observer,
    keep_forecasters: bool,
    pack: str,
    measure_alone: bool,
    loggers: Sequence[str],
) -> None:
    from tsbench.bench.runner import run_plan
    from tsbench.training.devices import resolve_device

    where = resolve_device(device)
    matrix.plan.save(matrix.folder)
    run_plan(
        matrix.plan,
        dict(matrix.panels),
        matrix.folder,
        where,
        runs,
        observer,
        keep_forecasters=keep_forecasters,
        pack=pack,
        measure_alone=measure_alone,
        loggers=loggers,
    )


def run_experiment(
    target: str | Path | Experiment = "default",
    *,
    device: str = "auto",
    workers: int | str = 1,
    measure: str = "alone",
    pack: str = "auto",
    force: bool = False,
    keep_forecasters: bool = False,
    loggers: Sequence[str] = (),
    **options: Any,
) -> pd.DataFrame:
    """What `tsbench run` does, from Python: one row per run, see `load_records`.

    workers, measure, pack, loggers: as for `carry_out`. options: as for `plan_experiment`.
    """
    matrix = plan_experiment(target, **{"command": f"tsbench.run_experiment({str(target)!r})", **options})
    runs = matrix.missing(force=force)
    matrix.set_aside_unreadable(runs)
    carry_out(
        matrix,
        runs,
        device=device,
        workers=workers,
        measure=measure,
        pack=pack,
        keep_forecasters=keep_forecasters,
        loggers=loggers,
    )
    return load_records(matrix.folder)


def carry_out_explanations(
    matrix: Matrix,
    runs: list[PlannedRun],
    *,
    device: str = "auto",
    num_windows: int = NUM_WINDOWS,
    force: bool = False,
    tell: Callable[[PlannedRun, str], None] | None = None,
) -> Path:
    """Explain of every label and task the first of these runs, and write the report. Returns the report's path.

    tell: is told what becomes of each run. Raises MachineError where captum is missing.
    """
    from tsbench.report.build import build
    from tsbench.training.devices import resolve_device

    where, is_planned_there = resolve_device(device), _is_planned_there(matrix)
    explain_runs(
        first_seeds(runs), matrix.panels, matrix.folder, where, num_windows=num_windows, force=force, tell=tell
    )
    if not is_planned_there:  # else the report keeps all that was asked for in the folder
        matrix.plan.save(matrix.folder)
    return build(matrix.folder)


def _is_planned_there(matrix: Matrix) -> bool:
    if not (matrix.folder / "plan.json").is_file():
        return False
    return set(_names(matrix.plan)) <= set(_names(Plan.load(matrix.folder)))


def _names(plan: Plan) -> list[tuple[str, str]]:
    return [(planned.label, planned.run.key()) for planned in plan.runs]


def explain_experiment(
    target: str | Path | Experiment = "default",
    *,
    num_windows: int = NUM_WINDOWS,
    device: str = "auto",
    force: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """What `tsbench explain` does, from Python: one row per task, model and method.

    Columns: `dataset, context_length, horizon, label, method`, the `lag` with the greatest importance, its `share`, and
    `points_at_season`: whether that lag is the season or a multiple of it.

    options: as for `plan_experiment`.
    """
    from tsbench.report.peaks import peaks
    from tsbench.report.tables import read_results

    matrix = plan_experiment(target, **{"command": f"tsbench.explain_experiment({str(target)!r})", **options})
    carry_out_explanations(matrix, matrix.plan.runs, device=device, num_windows=num_windows, force=force)
    return peaks(read_results(matrix.folder))


_RUN_KEYS = ("dataset", "model", "context_length", "horizon", "seed")


def _is_chosen(planned: PlannedRun, only: Mapping[str, Any], store: RecordStore) -> bool:
    """Whether a planned run has one of the wanted values under every key; a model without the keyword has not."""
    run = planned.run
    facts: dict[str, Any] = {**run.recipe.model_dump(), **run.arguments, "label": planned.label}
    facts |= {key: getattr(run, key) for key in _RUN_KEYS}
    if "status" in only:
        facts["status"] = store.read(run.key()).status if run.key() in store else "missing"
    wanted = {key: value if isinstance(value, list) else [value] for key, value in only.items()}
    return all(key in facts and facts[key] in values for key, values in wanted.items())


def _check_keys(only: Mapping[str, Any]) -> None:
    keywords = (name for spec in model_specs().values() for name in spec.arguments)
    known = {*_RUN_KEYS, "label", "status", *Recipe.model_fields, *keywords}
    for key in only:
        if key not in known:
            raise ConfigError(f"--only {key}=...: unknown key; {nearest(key, known)}")
