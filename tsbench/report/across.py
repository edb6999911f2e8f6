"""Forecasters over several tasks: ranks, wins and errors relative to seasonal naive, and whether their order is real.

One observation is one task. Tasks that share a dataset are not independent, so intervals and tests over them promise
more than they hold; the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsbench.report.statistics import (
    SIGNIFICANCE,
    friedman,
    mean_ranks,
    percentile_interval,
    task_draws,
    tasks_needed,
    wilcoxon_holm,
)
from tsbench.report.tables import Entry, Results, TaskResults
from tsbench.report.wording import counted, listed

if TYPE_CHECKING:
    import pandas as pd

TASKS_FOR_AN_INTERVAL = 5
"""Drawing from fewer tasks gives intervals that are far too narrow."""


def across_tasks(results: Results) -> pd.DataFrame:
    """One row per label, best mean rank first: how it did over all tasks that asked for it.

    mean_rank: 1 is best. win_rate: share of the other labels that it is ahead of, mean over tasks; equals count a half.
    relative_error: geometric mean over tasks of MSE / MSE of seasonal naive, over the tasks where both have a result;
    skill is 1 less that. `*_lower` and `*_upper`: 95 % by bootstrap over tasks, NaN with fewer than five.
    """
    import pandas as pd

    ranks, wins, ratios = (_table(results, value) for value in (_rank, _win_rate, _log_ratio))
    frame = pd.DataFrame({"label": results.labels})
    for name, table in (("mean_rank", ranks), ("win_rate", wins), ("relative_error", ratios)):
        change = np.exp if name == "relative_error" else np.asarray
        frame[name] = change(_means(table))
        lower, upper = _intervals(table)
        frame[f"{name}_lower"], frame[f"{name}_upper"] = change(lower), change(upper)
    frame["skill"] = 1 - frame["relative_error"]
    has_result = _table(results, lambda task, entry: float(bool(entry.errors)))
    frame["wins"] = (np.nan_to_num(has_result) * (ranks == 1)).sum(0).astype(int)
    frame["num_tasks"] = np.nansum(has_result, axis=0).astype(int)
    return frame.sort_values("mean_rank", kind="stable", ignore_index=True)


def _table(results: Results, value: Callable[[TaskResults, Entry], float]) -> np.ndarray:
    """`[N, K]`: a value of every task and label; NaN where a task did not ask for a label."""
    places = {label: place for place, label in enumerate(results.labels)}
    table = np.full((len(results.tasks), len(places)), np.nan)
    for row, task in enumerate(results.tasks):
        for entry in task.entries:
            table[row, places[entry.label]] = value(task, entry)
    return table


def _rank(task: TaskResults, entry: Entry) -> float:
    return task.rank(entry)


def _win_rate(task: TaskResults, entry: Entry) -> float:
    others = [other.standing for other in task.entries if other is not entry]
    if not others:
        return math.nan
    points = sum(1.0 if entry.standing < other else 0.5 if entry.standing == other else 0.0 for other in others)
    return points / len(others)


def _log_ratio(task: TaskResults, entry: Entry) -> float:
    skill = task.skill(entry)
    if skill is None:
        return math.nan
    return math.log(1 - skill) if skill < 1 else -math.inf


def _means(table_NK: np.ndarray) -> np.ndarray:
    """Over the tasks that have a value."""
    known = ~np.isnan(table_NK)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, table_NK, 0).sum(0) / known.sum(0))


def _intervals(table_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.full((2, table_NK.shape[1]), np.nan)
    for place, values in enumerate(table_NK.T):
        known = values[~np.isnan(values)]
        if len(known) >= TASKS_FOR_AN_INTERVAL:
            bounds[:, place] = percentile_interval(known[task_draws(len(known))].mean(1))
    return bounds[0], bounds[1]


@dataclass(frozen=True)
class Ranking:
    """Whether the order of mean ranks is real, and what a critical-difference diagram draws (Demšar 2006)."""

    labels: tuple[str, ...]
    """With a result on every task, best mean rank first."""
    mean_ranks: tuple[float, ...]
    """Among these labels alone."""
    num_tasks: int
    left_out: tuple[str, ...]
    """Without a result on some task."""
    friedman_p: float | None = None
    """Of "all are equally good"; None with fewer than three labels, or too few tasks."""
    p_values: np.ndarray | None = None
    """`[K, K]` of every pair, by Wilcoxon's signed-rank test after Holm; None with too few tasks."""
    level: tuple[tuple[str, ...], ...] = ()
    """Groups of neighbours that cannot be told apart: the bars of the diagram."""

    @property
    def enough(self) -> bool:
        return self.p_values is not None

    @property
    def sentence(self) -> str:
        """What the tests over tasks say, or why there is none."""
        if len(self.labels) < 2:
            return "No two models have a result on every task, so nothing is tested over tasks."
        needed = tasks_needed(len(self.labels))
        if not self.enough:
            return (
                f"{counted(self.num_tasks, 'task')} are too few to test the order of {len(self.labels)} models over "
                f"tasks: below {needed} not even the clearest order would be significant."
            )
        test = f"Wilcoxon's signed-rank test after Holm, {self.num_tasks} tasks"
        if self.friedman_p is not None and self.friedman_p >= SIGNIFICANCE:
            return f"The order could be chance: Friedman's test over {self.num_tasks} tasks, p = {self.friedman_p:.2g}."
        first = next((group for group in self.level if self.labels[0] in group), (self.labels[0],))
        if len(first) == 1:
            return f"{first[0]} ranks before every other model beyond chance ({test}, p < {SIGNIFICANCE:g})."
        return f"Over tasks {listed(first[1:])} cannot be told from {first[0]} ({test}, p ≥ {SIGNIFICANCE:g})."


def ranking(results: Results) -> Ranking:
    """Friedman's test, then Wilcoxon's of every pair with Holm's correction, where there are enough tasks for them."""
    errors = _table(results, lambda task, entry: entry.mse if entry.errors and not entry.failed else math.nan)
    complete = np.flatnonzero(~np.isnan(errors).any(0))
    errors, labels = errors[:, complete], [results.labels[place] for place in complete]
    left_out = tuple(label for label in results.labels if label not in labels)
    num_tasks = len(results.tasks)
    if not labels:
        return Ranking((), (), num_tasks, left_out)
    means = mean_ranks(errors)
    order = np.argsort(means, kind="stable")
    sorted_labels, sorted_means = tuple(labels[place] for place in order), tuple(means[order].tolist())
    if len(labels) < 2 or num_tasks < tasks_needed(len(labels)):
        return Ranking(sorted_labels, sorted_means, num_tasks, left_out)
    errors = errors[:, order]
    overall = friedman(errors) if len(labels) > 2 else None
    p_values = wilcoxon_holm(errors)
    alike = (
        p_values >= SIGNIFICANCE if overall is None or overall < SIGNIFICANCE else np.ones_like(p_values, dtype=bool)
    )
    level = tuple(sorted_labels[low:high] for low, high in _cliques(alike))
    return Ranking(sorted_labels, sorted_means, num_tasks, left_out, overall, p_values, level)


def _cliques(alike_KK: np.ndarray) -> list[tuple[int, int]]:
    """The longest stretches of neighbours, all of whose pairs are alike; not those within another."""
    stretches: list[tuple[int, int]] = []
    for low in range(len(alike_KK)):
        high = low + 1
        while high < len(alike_KK) and alike_KK[low : high + 1, low : high + 1].all():
            high += 1
        if high - low > 1 and not (stretches and stretches[-1][1] >= high):
            stretches.append((low, high))
    return stretches
