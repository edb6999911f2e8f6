"""From a folder of records to values: what was asked, what came of it, and who is ahead.

A *task* is a dataset at one context length and horizon; an *entry* is one row of its leaderboard: a model in one
configuration, over its seeds. The model with the lowest mean test MSE on scaled values leads.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tsbench.bench.records import PROTOCOL_VERSION, KeptLosses, Plan, Record, RecordStore, Run
from tsbench.errors import ConfigError
from tsbench.report.comparison import Comparison, Sample
from tsbench.report.wording import counted

if TYPE_CHECKING:
    import pandas as pd

RANKING_RULE = (
    "Ranked by mean test MSE on scaled values over the seeds that finished; a model with failed runs is ranked below "
    "those without, by the seeds it has; one without any result comes last."
)
NAIVE = ("naive", "seasonal_naive", "profile", "naive2")
SIMPLE = (*NAIVE, "linear", "nlinear", "dlinear", "ridge", "seasonal_ridge")
"""Models that are no networks: what a network has to beat."""


class Task(NamedTuple):
    """What forecasts are compared within."""

    dataset: str
    context_length: int
    horizon: int

    def __str__(self) -> str:
        return f"{self.dataset}, {self.context_length} → {self.horizon} steps"


@dataclass(frozen=True)
class Entry:
    """A model in one configuration within one task: what was planned and what came of it."""

    label: str
    runs: tuple[Run, ...]
    """As planned, one per seed."""
    records: tuple[Record, ...]
    """Of those runs that have one, by seed."""

    @property
    def model(self) -> str:
        return self.runs[0].model

    @cached_property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.status == "ok" and record.metrics]

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status != "ok"]

    @property
    def num_missing(self) -> int:
        return len(self.runs) - len(self.records)

    @property
    def scored(self) -> list[Record]:
        """Those whose metrics count."""
        return self.finished

    @cached_property
    def errors(self) -> list[float]:
        """Test MSE on scaled values, one per finished seed."""
        return self.metric("mse_scaled")

    @property
    def mse(self) -> float:
        """Mean test MSE on scaled values: what is ranked. Only for an entry with a finished seed."""
        return fmean(self.errors)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None with fewer than two."""
        return stdev(self.errors) if len(self.errors) > 1 else None

    @property
    def fold_spread(self) -> float | None:
        """Standard deviation over folds (ddof 1) of the mean over seeds; None where there are no folds."""
        return None

    @property
    def has_seed_noise(self) -> bool:
        """False for a model that is not trained: its one value is exact, however many seeds were asked for."""
        return any(record.cost is None or record.cost.steps > 0 for record in self.finished)

    @property
    def num_scored_windows(self) -> int:
        """Of each seed."""
        return next((record.metrics.num_scored_windows for record in self.scored if record.metrics), 0)

    def metric(self, name: str) -> list[float]:
        """One value per finished seed that has it."""
        values = [getattr(record.metrics, name) for record in self.scored]
        return [value for value in values if value is not None]

    def losses(self, store: RecordStore) -> KeptLosses | None:
        """Mean over seeds of the loss of each origin; None where one of the seeds lacks them."""
        return mean_losses(store, self.scored)

    def quantile_metric(self, name: str) -> float:
        """Mean over the finished seeds of a column of `QuantileMetrics.in_the_table`; NaN where there is none."""
        metrics = [record.metrics for record in self.scored if record.metrics]
        values = [each.quantiles.in_the_table.get(name) for each in metrics if each.quantiles]
        return fmean(value for value in values if value is not None) if any(v is not None for v in values) else math.nan

    @property
    def num_runs_timed(self) -> int:
        """Runs that shared the machine while the speeds in the table were read: 1 is alone."""
        costs = [record.cost for record in self.finished if record.cost]
        timed = [cost for cost in costs if cost.is_timed]
        return min((cost.shared_by for cost in timed or costs), default=1)

    def cost(self, name: str) -> float | None:
        """Median over the finished seeds; None where nobody measured it.

        Of speeds, only over the seeds that were timed beside the fewest others.
        """
        costs = [record.cost for record in self.finished if record.cost]
        if name in (*_SPEEDS, "bare_step_ms", "predict_joules"):
            costs = [cost for cost in costs if cost.shared_by == self.num_runs_timed]
        values = [getattr(cost, name) for cost in costs]
        values = [value for value in values if value is not None]
        return float(median(values)) if values else None

    @property
    def fit_seconds(self) -> float | None:
        """Training and validation, median over the finished seeds."""
        clocks = [record.cost.seconds for record in self.finished if record.cost and record.cost.seconds]
        values = [clock.get("train", 0.0) + clock.get("validate", 0.0) for clock in clocks]
        return median(values) if values else None

    @cached_property
    def standing(self) -> tuple[int, float]:
        """The ranking rule as a key: smaller is better."""
        if not self.errors:
            return 2, math.inf
        return int(bool(self.failed)), self.mse

    @property
    def status(self) -> str:
        """ok, imported, or what is wrong in a few words: "2 of 3 ok, 1 diverged"."""
        counts = Counter(record.status.replace("_", " ") for record in self.failed)
        troubles = [f"{count} {status}" for status, count in sorted(counts.items())]
        troubles += [f"{self.num_missing} not run"] if self.num_missing else []
        if troubles:
            return ", ".join([f"{len(self.finished)} of {len(self.runs)} ok", *troubles])
        return "imported" if self.is_imported else "ok"

    @property
    def is_imported(self) -> bool:
        """Made elsewhere: nothing is known of its cost."""
        return any(record.imported for record in self.records)

    @property
    def reason(self) -> str:
        return "; ".join(dict.fromkeys(record.reason for record in self.failed if record.reason))


@dataclass(frozen=True)
class TaskResults:
    """One task and its entries, best first."""

    task: Task
    entries: tuple[Entry, ...]
    store: RecordStore
    """Where the losses by window lie; they are read when something is compared."""
    folds: tuple[str, ...] = ()
    """The datasets that were joined in it, see `tsbench.report.folds`; empty for a dataset by itself."""

    @cached_property
    def ranked(self) -> list[Entry]:
        """The entries with a result, best first."""
        return [entry for entry in self.entries if entry.errors]

    @property
    def best(self) -> Entry | None:
        return next(iter(self.ranked), None)

    def of_model(self, model: str) -> Entry | None:
        """The best entry of a model, if it has a result."""
        return next((entry for entry in self.ranked if entry.model == model), None)

    def rank(self, entry: Entry) -> int:
        """From 1; equals share a rank."""
        return 1 + sum(other.standing < entry.standing for other in self.entries)

    def skill(self, entry: Entry) -> float | None:
        """1 - MSE / MSE of seasonal naive: 0 is as good, 1 is perfect; None where there is nothing to divide by."""
        baseline = self.of_model("seasonal_naive")
        if not (entry.errors and baseline and baseline.mse > 0):
            return None
        return 1 - entry.mse / baseline.mse

    @property
    def no_skill_because(self) -> str:
        """Why the skill column is blank; empty where it is not."""
        baseline = self.of_model("seasonal_naive")
        if baseline is None:
            return "Skill is blank: seasonal_naive has no result on this task to compare with."
        return "" if baseline.mse > 0 else "Skill is blank: seasonal_naive makes no error on this task."

    @cached_property
    def compared(self) -> list[Entry]:
        """Those that are tested against each other, best first: with failed runs only where the best has some."""
        return [entry for entry in self.ranked if self.best and entry.standing[0] == self.best.standing[0]]

    @cached_property
    def comparison(self) -> Comparison:
        """Of `compared`, in that order."""
        return comparison_of([(self.store, entry) for entry in self.compared])

    def place(self, entry: Entry) -> int | None:
        """In `compared`; None for one that is not in it."""
        return self._places.get(entry.label)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {entry.label: place for place, entry in enumerate(self.compared)}

    def same(self, one: Entry, other: Entry) -> bool | None:
        """Whether noise could explain the distance of two entries; None where nobody can say.

        False where one of them was not compared, because it has failed runs or no result.
        """
        first, second = self.place(one), self.place(other)
        return False if first is None or second is None else self.comparison.same(first, second)

    def same_as_best(self, entry: Entry) -> bool | None:
        """Whether noise could explain the distance to the best, which itself is."""
        return False if self.best is None else self.same(entry, self.best)

    @cached_property
    def peers(self) -> list[Entry]:
        """The others that cannot be told from the best."""
        return [entry for entry in self.ranked if entry is not self.best and self.same_as_best(entry)]

    @property
    def machines(self) -> list[str]:
        """Where the finished runs were made, in words; more than one makes the costs incomparable."""
        return _machines(record for entry in self.entries for record in entry.finished)


@dataclass(frozen=True)
class Results:
    """What a folder holds of the experiment that was last asked for in it."""

    folder: Path
    plan: Plan
    tasks: tuple[TaskResults, ...]

    @cached_property
    def records(self) -> list[Record]:
        return [record for task in self.tasks for entry in task.entries for record in entry.records]

    @property
    def num_missing(self) -> int:
        return len(self.plan.runs) - len(self.records)

    @property
    def machines(self) -> list[str]:
        return _machines(self.records)

    @cached_property
    def labels(self) -> list[str]:
        """Every label once, as planned."""
        return list(dict.fromkeys(planned.label for planned in self.plan.runs))


def read_results(folder: str | Path) -> Results:
    """Read the plan of a folder and the records it names.

    Raises ConfigError where these do not answer the same question: other protocol, other data, other scored points.
    """
    folder = Path(folder)
    plan = Plan.load(folder)
    _check_protocol(folder / "plan.json", plan.protocol)
    store = RecordStore(folder)
    rows: dict[Task, dict[str, list[tuple[Run, Record | None]]]] = defaultdict(lambda: defaultdict(list))
    for planned in plan.runs:
        key = planned.run.key()
        record = store.read(key) if key in store else None
        if record is not None:
            _check_protocol(store.path(key), record.protocol)
        rows[Task(*planned.run.task)][planned.label].append((planned.run, record))
    tasks = [_task_results(store, task, entries) for task, entries in rows.items()]
    for task in tasks:
        _check_same_points(folder, task)
    return Results(folder, plan, tuple(tasks))


def has_quantiles(records: Iterable[Record]) -> bool:
    """Whether any of these records tells of quantiles."""
    return any(record.metrics and record.metrics.quantiles for record in records)


def has_energy(records: Iterable[Record]) -> bool:
    """Whether the energy of any of these runs was read."""
    return any(record.cost and record.cost.predict_joules is not None for record in records)


def leaderboard(results: Results) -> pd.DataFrame:
    """One row per task and label, best first: errors as means over seeds, costs as medians over seeds.

    What a failed model does not have is NaN. `same_as_best` is None where seeds are too few to say. Where folds were
    joined, `num_folds` says how many, and `mse_scaled_std_folds` how their errors spread.
    """
    import pandas as pd

    rows = [(task, entry, _row(task, entry)) for task in results.tasks for entry in task.entries]
    if any(task.folds for task in results.tasks):
        for task, entry, row in rows:
            spread = math.nan if entry.fold_spread is None else entry.fold_spread
            row |= {"num_folds": len(task.folds), "mse_scaled_std_folds": spread}
    return pd.DataFrame([row for _, _, row in rows])


def comparisons(results: Results) -> pd.DataFrame:
    """Every forecaster that was compared, against the best one and against seasonal naive of its task.

    difference, lower, upper: of the test MSE on scaled values, less than zero where the label is better, and its 95 %
    interval. p_value: paired over windows and seeds, after Holm's correction over all pairs of the task; p_uncorrected:
    before it; p_diebold_mariano: of windows alone, with the correction of Harvey, Leybourne and Newbold. confidence_p:
    of the model confidence set. NaN where the records hold too little to say.
    """
    import pandas as pd

    rows = []
    for task in results.tasks:
        for name, reference in (("best", task.best), ("seasonal_naive", task.of_model("seasonal_naive"))):
            if reference is not None and task.place(reference) is not None:
                rows += _paired_rows(task, name, reference)
    return pd.DataFrame(rows)


def _paired_rows(results: TaskResults, name: str, reference: Entry) -> list[dict[str, Any]]:
    found, second = results.comparison, results.place(reference)
    assert second is not None
    by_the_book = found.by_the_book(second)
    rows = []
    for place, entry in enumerate(results.compared):
        if entry is reference:
            continue
        interval = found.interval(place, second)
        rows.append(
            {
                **results.task._asdict(),
                "label": entry.label,
                "reference": name,
                "reference_label": reference.label,
                "difference": entry.mse - reference.mse,
                "lower": interval.lower if interval else math.nan,
                "upper": interval.upper if interval else math.nan,
                "relative": entry.mse / reference.mse - 1 if reference.mse > 0 else math.nan,
                "p_value": float(found.p_values[place, second]),
                "p_uncorrected": float(found.raw_p[place, second]),
                "p_diebold_mariano": float(by_the_book[place]),
                "same": found.same(place, second),
                "confidence_p": float(found.confidence_p[place]),
            }
        )
    return rows


def _machines(records: Iterable[Record]) -> list[str]:
    """Every machine once, with the most workers that shared it."""
    num_workers: dict[str, int] = defaultdict(int)
    for record in records:
        if record.imported:
            continue
        name = describe_machine(record)
        num_workers[name] = max(num_workers[name], record.machine.num_workers)
    return sorted(
        f"{name}, shared by {counted(number, 'worker')}" if number > 1 else name for name, number in num_workers.items()
    )


def describe_machine(record: Record) -> str:
    machine = record.machine
    threads = f"{counted(machine.num_threads, 'thread')} on {counted(machine.num_cores, 'core')}"
    return f"{machine.device_name} ({machine.device}), {threads}, {machine.memory_gib:.0f} GiB, {machine.system}"


def comparison_of(entries: Sequence[tuple[RecordStore, Entry]]) -> Comparison:
    """All pairs of entries that were scored on the same points, with the store that keeps the losses of each."""
    kept = [entry.losses(store) for store, entry in entries]
    # Of another shape only where a record and what lies beside it are of different making.
    shape = next((losses.shape for losses in kept if losses), (0, 1))
    samples = [
        Sample(entry.errors, not entry.has_seed_noise, losses.loss_M if losses and losses.shape == shape else None)
        for (_, entry), losses in zip(entries, kept, strict=True)
    ]
    return Comparison(tuple(samples), shape[1])


def mean_losses(store: RecordStore, records: Sequence[Record]) -> KeptLosses | None:
    """The loss of each origin, mean over these records; None where one of them lacks it."""
    kept = [losses for record in records if (losses := store.losses(record.key))]
    if not kept or len(kept) < len(records) or len({losses.shape for losses in kept}) > 1:
        return None
    return kept[0]._replace(loss_M=np.mean([losses.loss_M for losses in kept], axis=0))


def _task_results(store: RecordStore, task: Task, rows: dict[str, list[tuple[Run, Record | None]]]) -> TaskResults:
    entries = [
        Entry(
            label,
            tuple(run for run, _ in pairs),
            tuple(sorted((record for _, record in pairs if record), key=lambda record: record.run.seed)),
        )
        for label, pairs in rows.items()
    ]
    return TaskResults(task, tuple(sorted(entries, key=lambda entry: entry.standing)), store)


def _check_protocol(path: Path, protocol: int) -> None:
    if protocol != PROTOCOL_VERSION:
        raise ConfigError(
            f"{path}: made under protocol {protocol}, this tsbench compares protocol {PROTOCOL_VERSION}, and "
            "numbers of different protocols cannot stand in one table; `tsbench run` makes the runs anew"
        )


def _check_same_points(folder: Path, results: TaskResults) -> None:
    """Errors on different points, or on different data of the same name, say nothing about who is better."""
    finished = [(entry.label, record) for entry in results.entries for record in entry.finished]
    digests = _labels_by(((label, record.metrics.points_digest) for label, record in finished if record.metrics))
    prints = _labels_by((label, record.run.fingerprint) for label, record in finished)
    for what, groups in (("scored on different points", digests), ("made on different data", prints)):
        if len(groups) > 1:
            found = " but ".join(f"{', '.join(sorted(labels))} on {value}" for value, labels in sorted(groups.items()))
            raise ConfigError(
                f"{folder}: runs of {results.task} were {what} ({found}), so their errors cannot be compared; "
                f"`tsbench run --force` makes them anew, or compare them in separate folders with --output DIR"
            )


def _labels_by(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for label, value in pairs:
        groups[value].add(label)
    return groups


_SPEEDS = (
    "train_windows_per_second",
    "share_of_bare_limit",
    "predict_windows_per_second",
    "latency_p50_ms",
    "latency_p95_ms",
)
_ENERGY = ("predict_joules", "train_kilojoules")
_METRICS = ("mae_scaled", "mse", "mae", "rmse", "smape", "mase", "rmsse", "owa", "wape", "bias")
_QUANTILE_METRICS = ("wql", "coverage", "width")
_COSTS = (*_SPEEDS, "peak_memory_mib", "num_parameters", "flops_per_window")


def _row(results: TaskResults, entry: Entry) -> dict[str, Any]:
    nan = math.nan
    row: dict[str, Any] = {
        **results.task._asdict(),
        "rank": results.rank(entry),
        "label": entry.label,
        "model": entry.model,
        "seeds_ok": len(entry.errors),
        "seeds_planned": len({run.seed for run in entry.runs}),
        "mse_scaled": entry.mse if entry.errors else nan,
        "mse_scaled_std": nan if entry.spread is None else entry.spread,
    }
    for name in _METRICS:
        values = entry.metric(name)
        row[name] = fmean(values) if values else nan
    if has_quantiles(entry.records):
        row |= {name: entry.quantile_metric(name) for name in _QUANTILE_METRICS}
    skill = results.skill(entry)
    row["skill"] = nan if skill is None else skill
    row["same_as_best"] = results.same_as_best(entry)
    for name in _COSTS:
        value = entry.cost(name)
        row[name] = nan if value is None else value
    if has_energy(entry.records):
        row |= {name: nan if (value := entry.cost(name)) is None else value for name in _ENERGY}
    row["fit_seconds"] = nan if entry.fit_seconds is None else entry.fit_seconds
    row["steps"] = nan if (steps := entry.cost("steps")) is None else steps
    return row | {"status": entry.status, "reason": entry.reason}
