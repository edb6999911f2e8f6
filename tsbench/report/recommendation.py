"""Which model to take when it must not cost more than so much: the verdict under limits.

A limit is kept when the figure in the leaderboard keeps it: a median over seeds, of latency the 95th percentile of one
window alone. Over several tasks the most expensive one counts, and the error is the geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tsbench.errors import ConfigError, nearest, unknown
from tsbench.report.across import ranking
from tsbench.report.folds import joined
from tsbench.report.statistics import SIGNIFICANCE, geometric_mean
from tsbench.report.tables import SIMPLE, Entry, Results, Task, TaskResults, read_results
from tsbench.report.verdict import CLOSE, headline
from tsbench.report.wording import compact, counted, decimals_for, fixed, listed, percent, whole


class Cost(NamedTuple):
    """Something that a limit can be set on, or that can be cheapest."""

    column: str
    """As in `leaderboard.csv`."""
    words: str
    unit: str
    more_is_better: bool = False

    def ratio(self, value: float, limit: float) -> float:
        """Above 1 where the limit is broken, by how much."""
        over, under = (limit, value) if self.more_is_better else (value, limit)
        return over / under if under else (math.inf if over else 1.0)

    def written(self, value: float | None) -> str:
        number = whole(value) if self.column in ("peak_memory_mib", "num_parameters") else compact(value)
        return f"{number} {self.unit}"


COSTS = {
    "latency": Cost("latency_p95_ms", "p95 latency", "ms"),
    "memory": Cost("peak_memory_mib", "peak memory", "MiB"),
    "parameters": Cost("num_parameters", "size", "parameters"),
    "training": Cost("fit_seconds", "training", "s"),
    "energy": Cost("predict_joules", "energy", "J per 1,000 windows"),
    "throughput": Cost("predict_windows_per_second", "throughput", "windows/s", more_is_better=True),
}


@dataclass(frozen=True)
class Choice:
    """A model that may be taken, with what it gains and costs."""

    label: str
    model: str
    mse_scaled: float
    """Mean over seeds; over several tasks the geometric mean."""
    gain_over_seasonal_naive: float | None
    """1 - error / error of seasonal naive; None where it has no result, or no error."""
    gain_over_linear: float | None
    costs: dict[str, float | None]
    """By the names of `COSTS`; None where nobody measured it."""


@dataclass(frozen=True)
class Recommendation:
    """The answer for one task, or over all of them."""

    dataset: str | None
    """None over several tasks."""
    context_length: int | None
    horizon: int | None
    num_allowed: int
    """Models that keep all limits, out of `num_models` with a result."""
    num_models: int
    best: Choice | None
    """With the lowest error among those that keep all limits."""
    level: tuple[str, ...] | None
    """The others of those that cannot be told from it; None where there is too little to test by."""
    cheapest: Choice | None
    """Within the asked distance of the best: the cheapest."""
    nearest: Choice | None
    """Where nothing keeps the limits: what breaks them least."""
    headline: str
    sentences: tuple[str, ...]

    @property
    def title(self) -> str:
        if self.dataset is None or self.context_length is None or self.horizon is None:
            return "over all tasks"
        return str(Task(self.dataset, self.context_length, self.horizon))


@dataclass(frozen=True)
class _Candidate:
    """A label with a result on every task that is asked about."""

    entries: tuple[Entry, ...]
    """One per task."""

    @property
    def label(self) -> str:
        return self.entries[0].label

    @property
    def is_simple(self) -> bool:
        return self.entries[0].model in SIMPLE

    @property
    def error(self) -> float:
        errors = [entry.mse for entry in self.entries]
        return errors[0] if len(errors) == 1 else geometric_mean(errors)

    @property
    def standing(self) -> tuple[int, float]:
        """As a leaderboard ranks: those with failed runs below those without."""
        return max(entry.standing[0] for entry in self.entries), self.error

    def cost(self, name: str) -> float | None:
        """Where it is highest; None where one task does not know it."""
        kind = COSTS[name]
        values = [entry.fit_seconds if name == "training" else entry.cost(kind.column) for entry in self.entries]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return min(known) if kind.more_is_better else max(known)

    def excess(self, limits: Mapping[str, float]) -> float | None:
        """How far the most broken limit is exceeded, as a factor, at most 1 where all are kept; None if not known."""
        worst = 0.0
        for name, limit in limits.items():
            value = self.cost(name)
            if value is None:
                return None
            worst = max(worst, COSTS[name].ratio(value, limit))
        return worst


def recommend(
    folder: str | Path,
    *,
    max_latency_ms: float | None = None,
    max_memory_mib: float | None = None,
    max_parameters: float | None = None,
    max_train_seconds: float | None = None,
    max_joules: float | None = None,
    min_predict_windows_per_second: float | None = None,
    within: float | None = None,
    cheapest: str = "latency",
    datasets: Sequence[str] = (),
    horizons: Sequence[int] = (),
    context_lengths: Sequence[int] = (),
) -> list[Recommendation]:
    """What to take under limits, for every task of a folder of results, and over all of them where there are several.

    within: also the cheapest model whose error is at most this fraction above the best one's; 0.02 is 2 %.
    cheapest: by which cost: latency, memory, parameters, training, energy or throughput.
    max_joules: to forecast 1,000 windows; known of runs on a GPU alone.
    datasets, horizons, context_lengths: of the tasks, these only.

    Raises ConfigError where the folder has no such task.
    """
    limits = {
        "latency": max_latency_ms,
        "memory": max_memory_mib,
        "parameters": max_parameters,
        "training": max_train_seconds,
        "energy": max_joules,
        "throughput": min_predict_windows_per_second,
    }
    if cheapest not in COSTS:
        raise unknown("cost", cheapest, COSTS, where="--cheapest")
    asked = _Asked({name: limit for name, limit in limits.items() if limit is not None}, within, cheapest)
    results = _narrowed(joined(read_results(folder)), datasets, horizons, context_lengths)
    found = [_recommend(replace(results, tasks=(task,)), asked) for task in results.tasks]
    return found if len(found) == 1 else [*found, _recommend(results, asked)]


@dataclass(frozen=True)
class _Asked:
    limits: dict[str, float]
    within: float | None
    cheapest: str

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if not 0 <= limit < math.inf:
                raise ConfigError(f"limit of {COSTS[name].words}: {limit:g}: write a number from 0")
        if self.within is not None and not 0 <= self.within < math.inf:
            raise ConfigError(f"--within {self.within:g}: write a part of the error from 0, such as 2% or 0.02")

    @property
    def words(self) -> str:
        sides = {True: "at least", False: "at most"}
        return listed([f"{c.words} {sides[c.more_is_better]} {v:g} {c.unit}" for c, v in self._by_cost()])

    def _by_cost(self) -> list[tuple[Cost, float]]:
        return [(COSTS[name], limit) for name, limit in self.limits.items()]


def _narrowed(
    results: Results, datasets: Sequence[str], horizons: Sequence[int], context_lengths: Sequence[int]
) -> Results:
    """The results of some tasks alone."""
    tasks = results.tasks
    for option, name, wanted in (
        ("--dataset", "dataset", datasets),
        ("--horizon", "horizon", horizons),
        ("--context-length", "context_length", context_lengths),
    ):
        known = {getattr(task.task, name) for task in results.tasks}
        for value in wanted:
            if value not in known:
                raise ConfigError(f"{option} {value}: not in {results.folder}; {nearest(value, map(str, known))}")
        tasks = tuple(task for task in tasks if not wanted or getattr(task.task, name) in wanted)
    if not tasks:
        there = "; ".join(str(task.task) for task in results.tasks)
        raise ConfigError(f"{results.folder}: no task is all of that at once; it has {there}")
    return replace(results, tasks=tasks)


def _recommend(results: Results, asked: _Asked) -> Recommendation:
    candidates = _candidates(results.tasks)
    excess = {candidate.label: candidate.excess(asked.limits) for candidate in candidates}
    allowed = sorted(
        (c for c in candidates if (worst := excess[c.label]) is not None and worst <= 1), key=lambda c: c.standing
    )
    known = [candidate for candidate in candidates if excess[candidate.label] is not None]
    base: dict[str, Any] = {
        **(results.tasks[0].task._asdict() if len(results.tasks) == 1 else _NO_TASK),
        "num_allowed": len(allowed),
        "num_models": len(candidates),
    }
    notes = _notes(results, candidates, known)
    if not allowed:
        least = min(known, key=lambda c: (excess[c.label] or 0.0, c.standing), default=None)
        said = _nothing_fits(results, candidates, least, asked)
        choice = _choice(least, results.tasks) if least else None
        return Recommendation(
            **base, best=None, level=(), cheapest=None, nearest=choice, headline=said[0], sentences=(*said[1:], *notes)
        )
    labels = {candidate.label for candidate in allowed}
    under = replace(results, tasks=tuple(_only(task, labels) for task in results.tasks))
    best, level = allowed[0], _level(under, allowed[0], labels)
    cheap = _cheapest(allowed, asked)
    sentences = (
        *_about_limits(allowed, candidates, asked),
        _describe("Take", best, results.tasks),
        *_about_level(under, best, level),
        *_about_cheapest(best, cheap, results.tasks, asked),
        *notes,
    )
    return Recommendation(
        **base,
        best=_choice(best, results.tasks),
        level=level,
        cheapest=_choice(cheap, results.tasks) if cheap else None,
        nearest=None,
        headline=_headline(under, allowed, level, len(candidates)),
        sentences=sentences,
    )


_NO_TASK = {"dataset": None, "context_length": None, "horizon": None}


def _candidates(tasks: Sequence[TaskResults]) -> list[_Candidate]:
    by_task = [{entry.label: entry for entry in task.ranked} for task in tasks]
    return [
        _Candidate(tuple(entries[label] for entries in by_task))
        for label in by_task[0]
        if all(label in entries for entries in by_task)
    ]


def _only(task: TaskResults, labels: set[str]) -> TaskResults:
    """The task as if nothing else had been asked for: what is told apart is corrected for these pairs alone."""
    return replace(task, entries=tuple(entry for entry in task.entries if entry.label in labels))


def _level(under: Results, best: _Candidate, labels: set[str]) -> tuple[str, ...] | None:
    if len(under.tasks) == 1:
        task = under.tasks[0]
        others = [entry for entry in task.ranked if entry is not task.best]
        if others and all(task.same_as_best(entry) is None for entry in others):
            return None
        return tuple(entry.label for entry in task.peers)
    if len(labels) == 1:
        return ()
    order = ranking(under)
    if order.p_values is None or best.label not in order.labels:
        return None
    chance = order.friedman_p is not None and order.friedman_p >= SIGNIFICANCE
    p_values = order.p_values[order.labels.index(best.label)]
    alike = [label for label, p in zip(order.labels, p_values, strict=True) if chance or p >= SIGNIFICANCE]
    return tuple(label for label in alike if label != best.label)


def _cheapest(allowed: list[_Candidate], asked: _Asked) -> _Candidate | None:
    """Of those as close to the best as was asked, and with as few failures; among equals the more accurate."""
    if asked.within is None:
        return None
    best, kind = allowed[0], COSTS[asked.cheapest]
    close = [
        (candidate, value)
        for candidate in allowed
        if candidate.standing[0] == best.standing[0]
        and candidate.error <= (1 + asked.within) * best.error
        and (value := candidate.cost(asked.cheapest)) is not None
    ]
    sign = -1 if kind.more_is_better else 1
    return min(close, key=lambda pair: sign * pair[1])[0] if close else None


def _choice(candidate: _Candidate, tasks: Sequence[TaskResults]) -> Choice:
    return Choice(
        label=candidate.label,
        model=candidate.entries[0].model,
        mse_scaled=candidate.error,
        gain_over_seasonal_naive=_gain(candidate, tasks, "seasonal_naive"),
        gain_over_linear=_gain(candidate, tasks, "linear"),
        costs={name: candidate.cost(name) for name in COSTS},
    )


def _gain(candidate: _Candidate, tasks: Sequence[TaskResults], model: str) -> float | None:
    """Limits do not hold for whom it is compared with."""
    others = [entry for task in tasks if (entry := task.of_model(model))]
    if len(others) < len(tasks) or any(entry.mse == 0 for entry in others):
        return None
    other = _Candidate(tuple(others))
    return 1 - candidate.error / other.error


# In words


def _headline(under: Results, allowed: list[_Candidate], level: tuple[str, ...] | None, num_models: int) -> str:
    best = allowed[0]
    where = _where(under)
    if len(allowed) == 1 < num_models:
        return f"{best.label} is the only model that keeps to the limits on {where}."
    if len(under.tasks) == 1:
        task = under.tasks[0]
        assert task.best
        return headline(task, task.best)
    close = [
        c.label for c in allowed if c.is_simple and c.label in (level or ()) and c.error <= (1 + CLOSE) * best.error
    ]
    if best.is_simple:
        return f"No network is worth it over {where}: {best.label} has the lowest error."
    if close:
        return f"No network is worth it over {where}: {listed(close)} cannot be told from {best.label}."
    return f"{best.label} forecasts best over {where}."


def _where(results: Results) -> str:
    return results.tasks[0].task.dataset if len(results.tasks) == 1 else counted(len(results.tasks), "task")


def _about_limits(allowed: list[_Candidate], candidates: list[_Candidate], asked: _Asked) -> list[str]:
    if not asked.limits:
        return []
    keep = "keeps" if len(allowed) == 1 else "keep"
    without = "" if any(not c.is_simple for c in allowed) else "; no network does"
    return [f"{len(allowed)} of {counted(len(candidates), 'model')} {keep} to {asked.words}{without}."]


def _describe(verb: str, candidate: _Candidate, tasks: Sequence[TaskResults]) -> str:
    choice = _choice(candidate, tasks)
    mean = "" if len(tasks) == 1 else "geometric mean of the "
    gains = [
        f"{percent(abs(gain))} {'below' if gain > 0 else 'above'} {model}"
        for model, gain in (
            ("seasonal_naive", choice.gain_over_seasonal_naive),
            ("linear", choice.gain_over_linear),
        )
        if gain is not None and choice.model != model and abs(gain) >= 0.0005
    ]
    error = fixed(choice.mse_scaled, decimals_for([choice.mse_scaled]))
    failed = " It has failed runs." if candidate.standing[0] else ""
    about = ", ".join([f"{mean}test MSE (scaled) {error}", *gains])
    return f"{verb} {choice.label}: {about}; {_costs(choice)}.{failed}"


def _costs(choice: Choice) -> str:
    known = {name: value for name, value in choice.costs.items() if value is not None}
    if not known:
        return "nothing is known of its cost"
    if known.get("training") == 0:
        del known["training"]
    return ", ".join(f"{COSTS[name].words} {COSTS[name].written(value)}" for name, value in known.items())


def _about_level(under: Results, best: _Candidate, level: tuple[str, ...] | None) -> list[str]:
    if level is None:
        if len(under.tasks) == 1:
            return ["Fewer than two seeds finished: whether others are as good cannot be said."]
        return [ranking(under).sentence]
    if not level:
        return []
    noise = "over these tasks" if len(under.tasks) > 1 else "within the noise of seeds and test windows"
    return [f"{listed(level)} cannot be told from {best.label} {noise}."]


def _about_cheapest(
    best: _Candidate, cheap: _Candidate | None, tasks: Sequence[TaskResults], asked: _Asked
) -> list[str]:
    if asked.within is None:
        return []
    kind = COSTS[asked.cheapest]
    if cheap is None:
        return [f"Of nothing within {percent(asked.within)} of its error the {kind.words} is known."]
    if cheap is best:
        return [f"Nothing within {percent(asked.within)} of its error has a better {kind.words}."]
    return [_describe(f"Cheapest by {kind.words} within {percent(asked.within)} of its error is", cheap, tasks)]


def _nothing_fits(
    results: Results, candidates: list[_Candidate], least: _Candidate | None, asked: _Asked
) -> tuple[str, ...]:
    if not candidates:
        each = "" if len(results.tasks) == 1 else "every one of "
        return (f"No model has a result on {each}{_where(results)}.",)
    said = f"Nothing fits on {_where(results)}: no model keeps to {asked.words}."
    if least is None:
        return (said,)
    broken = []
    for name, limit in asked.limits.items():
        value, kind = least.cost(name), COSTS[name]
        if value is not None and kind.ratio(value, limit) > 1:
            broken.append(f"{kind.words} {kind.written(value)} instead of {limit:g}")
    return said, f"{least.label} comes nearest: {listed(broken)}.", _describe("It would be", least, results.tasks)


def _notes(results: Results, candidates: list[_Candidate], known: list[_Candidate]) -> list[str]:
    notes = []
    unknown_cost = [candidate.label for candidate in candidates if candidate not in known]
    if unknown_cost:
        notes.append(f"What {listed(unknown_cost)} would cost is not known, so no limit can be said to hold.")
    if any(len(task.machines) > 1 for task in results.tasks):
        notes.append("The runs were made on different machines, and each limit was checked where a run was made.")
    return notes
