"""What got better, worse or slower between two folders of results, by the statistics of the report.

A pair is one model in both folders: the same task and label, or else the same task, model and arguments. Errors are
compared only on the same points of the same data, costs only on one machine; what differs is said first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsbench.bench.records import Plan, Record, written
from tsbench.errors import ConfigError
from tsbench.report.comparison import Comparison
from tsbench.report.statistics import SIGNIFICANCE, Interval, holm, ratio_interval
from tsbench.report.tables import (
    Entry,
    Results,
    Task,
    TaskResults,
    comparison_of,
    describe_machine,
    read_results,
)
from tsbench.report.wording import counted, listed

if TYPE_CHECKING:
    import pandas as pd

SLOWER = 0.05
"""A speed has changed where its whole interval lies beyond 5 %: samples of one process know nothing of the next one."""

SPEEDS = ("train_windows_per_second", "predict_windows_per_second")
_COSTS = (*SPEEDS, "latency_p50_ms", "latency_p95_ms", "peak_memory_mib", "num_parameters", "fit_seconds")


@dataclass(frozen=True)
class CostChange:
    """One cost of one model, before and after."""

    before: float
    after: float
    ratio: float
    """After to before."""
    lower: float | None = None
    upper: float | None = None
    """95 % of the ratio, where samples were kept: of speeds."""

    @property
    def word(self) -> str:
        """faster or slower, of a speed; empty where that is not clear."""
        if self.lower is None or self.upper is None:
            return ""
        return "faster" if self.lower > 1 + SLOWER else "slower" if self.upper < 1 - SLOWER else ""


@dataclass(frozen=True)
class Change:
    """One model of one task, before and after."""

    dataset: str
    context_length: int
    horizon: int
    label: str
    label_after: str
    outcome: str
    """better, worse, same (noise could explain the difference), unknown (fewer than two seeds), fails (runs failed that
    did not before), works (the other way), or not compared."""
    reason: str
    """Why it fails or was not compared."""
    settings: tuple[str, ...]
    """Arguments and recipe values that differ."""
    before: float | None
    after: float | None
    """Test MSE on scaled values, mean over seeds."""
    relative: float | None = None
    """after / before - 1: below zero is better."""
    lower: float | None = None
    upper: float | None = None
    """95 % of the same; None where records keep no loss of each window."""
    p_value: float | None = None
    """Paired over windows and seeds, after Holm's correction over all pairs of both folders."""
    costs: dict[str, CostChange] | None = None
    """By the columns of `leaderboard.csv`; None where they must not be compared."""

    @property
    def task(self) -> Task:
        return Task(self.dataset, self.context_length, self.horizon)

    @property
    def is_slower(self) -> bool:
        return any(change.word == "slower" for change in (self.costs or {}).values())


@dataclass(frozen=True)
class Changes:
    """Everything that is to say about two folders."""

    before: str
    after: str
    differences: tuple[str, ...]
    """Of the conditions: machines, versions, data, settings. Empty where only time has passed."""
    pairs: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    """Labels with their task."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row per pair; of costs the ratios, after to before, and their bounds."""
        import pandas as pd

        return pd.DataFrame([_row(change) for change in self.pairs])

    @property
    def summary(self) -> str:
        counts = Counter(change.outcome for change in self.pairs)
        said = {"same": "not told apart", "unknown": "unknown for want of seeds", "fails": "failing", "works": "mended"}
        order = ("better", "worse", "same", "unknown", "fails", "works", "not compared")
        parts = [f"{counts[name]} {said.get(name, name)}" for name in order if counts[name]]
        slower = sum(change.is_slower for change in self.pairs)
        return f"Of {counted(len(self.pairs), 'model')}: {', '.join(parts)}{f'; {slower} slower' if slower else ''}."

    def found(self, what: str) -> list[Change]:
        """The pairs that a check should fail on: `worse` (or failing), `slower`, or `any` of both."""
        worse = [change for change in self.pairs if change.outcome in ("worse", "fails")]
        slower = [change for change in self.pairs if change.is_slower]
        return {"worse": worse, "slower": slower, "any": [c for c in self.pairs if c in worse or c in slower]}[what]

    def knows(self, what: str) -> bool:
        """Whether something was compared at all that such a check could rest on."""
        has_errors = any(change.outcome != "not compared" for change in self.pairs)
        has_speeds = any(change.costs for change in self.pairs)
        return {"worse": has_errors, "slower": has_speeds, "any": has_errors and has_speeds}[what]


def compare(before: str | Path, after: str | Path, *, any_machine: bool = False) -> Changes:
    """What got better, worse or slower from one folder of results to another.

    any_machine: compare costs also where the machines differ.

    Raises ConfigError where the folders share no model of a task, or were made under different protocols.
    """
    _refuse_other_protocols(Path(before), Path(after))
    first, second = read_results(before), read_results(after)
    pairs = list(_pairs(first, second))
    if not pairs:
        raise ConfigError(
            f"{before} and {after} share no model of a task; there are {_tasks(first)} there and {_tasks(second)} here"
        )
    p_values = iter(_adjusted([pair.raw_p for pair in pairs]))
    paired = {id(entry) for pair in pairs for entry in (pair.before, pair.after)}
    return Changes(
        str(before),
        str(after),
        tuple(_differences(first, second, pairs, any_machine)),
        tuple(pair.change(next(p_values), any_machine) for pair in pairs),
        tuple(_others(first, paired)),
        tuple(_others(second, paired)),
    )


def _refuse_other_protocols(before: Path, after: Path) -> None:
    protocols = [Plan.load(folder).protocol for folder in (before, after)]
    if len(set(protocols)) > 1:
        raise ConfigError(
            f"{before} was made under protocol {protocols[0]} and {after} under protocol {protocols[1]}: nothing in "
            "them can be compared; `tsbench run` makes the older one anew"
        )


@dataclass(frozen=True)
class _Pair:
    """One model in both folders."""

    tasks: tuple[TaskResults, TaskResults]
    before: Entry
    after: Entry

    @property
    def both(self) -> tuple[Entry, Entry]:
        return self.before, self.after

    @property
    def why_not(self) -> str:
        """Why errors cannot be compared; empty where they can."""
        if any(entry.num_missing == len(entry.runs) for entry in self.both):
            return "not run " + ("before" if self.before.num_missing == len(self.before.runs) else "after")
        if self.before.runs[0].fingerprint != self.after.runs[0].fingerprint:
            return "made on other data"
        digests = [{r.metrics.points_digest for r in entry.finished if r.metrics} for entry in self.both]
        if all(digests) and digests[0] != digests[1]:
            return f"scored on other points ({listed(sorted(digests[0]))} and {listed(sorted(digests[1]))})"
        return "" if any(digests) else "failed in both"

    @property
    def failure(self) -> str:
        """fails or works, where runs failed on one side alone."""
        if self.why_not or self.before.standing[0] == self.after.standing[0]:
            return ""
        return "fails" if self.after.standing[0] > self.before.standing[0] else "works"

    @property
    def raw_p(self) -> float:
        if self.why_not or not (self.before.errors and self.after.errors):
            return math.nan
        return float(self._comparison.raw_p[0, 1])

    @cached_property
    def _comparison(self) -> Comparison:
        return comparison_of([(task.store, entry) for task, entry in zip(self.tasks, self.both, strict=True)])

    def change(self, p_value: float, any_machine: bool) -> Change:
        outcome, reason = self._outcome(p_value)
        errors = [entry.mse if entry.errors else None for entry in self.both]
        tested: dict[str, Any] = {}
        if not self.why_not and self.after.errors and self.before.errors and self.before.mse > 0:
            interval = self._comparison.interval(1, 0)
            tested = {
                "relative": self.after.mse / self.before.mse - 1,
                "lower": interval.lower / self.before.mse if interval else None,
                "upper": interval.upper / self.before.mse if interval else None,
                "p_value": None if math.isnan(p_value) else p_value,
            }
        return Change(
            **self.tasks[0].task._asdict(),
            label=self.before.label,
            label_after=self.after.label,
            outcome=outcome,
            reason=reason,
            settings=tuple(_settings(self)),
            before=errors[0],
            after=errors[1],
            **tested,
            costs=_costs(self) if any_machine or _same_machine(self) else None,
        )

    def _outcome(self, p_value: float) -> tuple[str, str]:
        if self.why_not:
            return "not compared", self.why_not
        if self.failure:
            troubled = self.after if self.failure == "fails" else self.before
            return self.failure, ": ".join(filter(None, (troubled.status, troubled.reason)))
        if math.isnan(p_value):
            return "unknown", "fewer than two seeds"
        if p_value >= SIGNIFICANCE:
            return "same", ""
        if not all(sample.knows_seeds for sample in self._comparison.samples):
            return "unknown", "fewer than two seeds"
        return ("better" if self.after.mse < self.before.mse else "worse"), ""


def _pairs(first: Results, second: Results) -> Iterator[_Pair]:
    """By label; then, of what is left, by model and arguments, where that is one of each."""
    others = {task.task: task for task in second.tasks}
    for task in first.tasks:
        if (other := others.get(task.task)) is None:
            continue
        before = {entry.label: entry for entry in task.entries}
        after = {entry.label: entry for entry in other.entries}
        for label in [label for label in before if label in after]:
            yield _Pair((task, other), before.pop(label), after.pop(label))
        for entry in before.values():
            alike = [e for e in after.values() if _question(e) == _question(entry)]
            if len(alike) == 1 == sum(_question(e) == _question(entry) for e in before.values()):
                yield _Pair((task, other), entry, alike[0])


def _question(entry: Entry) -> tuple[str, str]:
    return entry.model, str(sorted(entry.runs[0].arguments.items()))


def _adjusted(p_values: Sequence[float]) -> list[float]:
    return holm(np.array(p_values)).tolist()


def _others(results: Results, paired: set[int]) -> Iterator[str]:
    for task in results.tasks:
        yield from (f"{entry.label} on {task.task}" for entry in task.entries if id(entry) not in paired)


def _tasks(results: Results) -> str:
    return "; ".join(str(task.task) for task in results.tasks)


# Conditions


def _differences(first: Results, second: Results, pairs: list[_Pair], any_machine: bool) -> Iterator[str]:
    machines = [_machines(results.records) for results in (first, second)]
    if all(machines) and (machines[0] != machines[1] or len(machines[0]) > 1):
        consequence = (
            "their costs are compared all the same" if any_machine else "costs of different ones are not compared"
        )
        yield f"machines: {listed(machines[0])} before, {listed(machines[1])} after; {consequence}"
    shared = [listed([str(n) for n in sorted({p.both[side].num_runs_timed for p in pairs})]) for side in (0, 1)]
    if shared[0] != shared[1]:
        yield f"runs that shared the machine while speeds were read: {shared[0]} before, {shared[1]} after"
    versions = [_versions(results.records) for results in (first, second)]
    for name in sorted({*versions[0], *versions[1]}):
        before, after = (listed(found.get(name, ["none"])) for found in versions)
        if all(machines) and before != after:
            yield f"{name}: {before} before, {after} after"
    fingerprints = {(p.tasks[0].task.dataset, *(e.runs[0].fingerprint for e in p.both)) for p in pairs}
    for dataset, before_print, after_print in sorted(fingerprints):
        if before_print != after_print:
            yield f"{dataset}: other data, fingerprint {before_print} before, {after_print} after"
    changed = Counter(words for pair in pairs for words in _settings(pair))
    for words, count in changed.items():
        yield f"settings: {words} ({counted(count, 'model')})"


def _machines(records: list[Record]) -> list[str]:
    return sorted({describe_machine(record) for record in records if not record.imported})


def _versions(records: list[Record]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.machine.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(values) for name, values in found.items()}


def _settings(pair: _Pair) -> Iterator[str]:
    before, after = (
        {**entry.runs[0].recipe.model_dump(), **entry.runs[0].arguments, "model": entry.model} for entry in pair.both
    )
    for name in sorted({*before, *after}):
        values = [written(found[name], full=True) if name in found else "none" for found in (before, after)]
        if values[0] != values[1]:
            yield f"{name} {values[0]} before, {values[1]} after"


def _same_machine(pair: _Pair) -> bool:
    machines = {describe_machine(record) for entry in pair.both for record in entry.finished}
    return len(machines) <= 1 and pair.before.num_runs_timed == pair.after.num_runs_timed


# Costs


def _costs(pair: _Pair) -> dict[str, CostChange]:
    found = {}
    for name in _COSTS:
        before, after = (entry.fit_seconds if name == "fit_seconds" else entry.cost(name) for entry in pair.both)
        if before and after:
            interval = _interval(pair, name) if name in SPEEDS else None
            found[name] = CostChange(before, after, after / before, *(interval or (None, None)))
    return found


def _interval(pair: _Pair, name: str) -> Interval | None:
    before, after = (_samples(entry, name) for entry in pair.both)
    return ratio_interval(before, after) if before and after else None


def _samples(entry: Entry, name: str) -> list[list[float]]:
    """Of each run whose speeds stand in the table: windows per second."""
    found = []
    for record in entry.finished:
        cost = record.cost
        if cost is None or cost.shared_by != entry.num_runs_timed:
            continue
        rate = 1000 * record.run.recipe.batch_size
        samples = (
            cost.predict_samples if name == SPEEDS[1] else [rate / milliseconds for milliseconds in cost.train_step_ms]
        )
        found += [samples] if samples else []
    return found


def _row(change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {
        **change.task._asdict(),
        "label": change.label,
        "label_after": change.label_after,
        "outcome": change.outcome,
        "reason": change.reason,
        "settings": "; ".join(change.settings),
    }
    for name in ("before", "after", "relative", "lower", "upper", "p_value"):
        value = getattr(change, name)
        row[name] = math.nan if value is None else value
    for name in _COSTS:
        cost = (change.costs or {}).get(name)
        row[f"{name}_ratio"] = cost.ratio if cost else math.nan
        if name in SPEEDS:
            row[f"{name}_lower"] = cost.lower if cost and cost.lower is not None else math.nan
            row[f"{name}_upper"] = cost.upper if cost and cost.upper is not None else math.nan
    return row
