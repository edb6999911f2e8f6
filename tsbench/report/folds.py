"""The folds of a cross-validation as one task: of each seed the mean over the folds, and the origins of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev

import numpy as np

from tsbench.bench.records import KeptLosses, Record, RecordStore
from tsbench.report.tables import Entry, Results, Task, TaskResults, mean_losses


@dataclass(frozen=True)
class JoinedEntry(Entry):
    """A model over all folds, trained anew in each.

    A seed has one error, its mean over the folds: whatever the trainings of one seed share, seeds stay independent.
    """

    folds: tuple[str, ...]

    @cached_property
    def by_seed(self) -> list[list[Record]]:
        """The records of each seed that finished in every fold, in the order of the folds."""
        found: dict[int, dict[str, Record]] = defaultdict(dict)
        for record in self.finished:
            found[record.run.seed][record.run.dataset] = record
        complete = [of_seed for _, of_seed in sorted(found.items()) if len(of_seed) == len(self.folds)]
        return [[of_seed[fold] for fold in self.folds] for of_seed in complete]

    @property
    def scored(self) -> list[Record]:
        return [record for records in self.by_seed for record in records]

    @property
    def fold_spread(self) -> float | None:
        if not self.by_seed:
            return None
        return stdev(
            fmean(r.metrics.mse_scaled for r in records if r.metrics) for records in zip(*self.by_seed, strict=True)
        )

    @property
    def num_scored_windows(self) -> int:
        return sum(r.metrics.num_scored_windows for records in self.by_seed[:1] for r in records if r.metrics)

    def metric(self, name: str) -> list[float]:
        values = [[getattr(record.metrics, name) for record in records] for records in self.by_seed]
        return [fmean(of_seed) for of_seed in values if None not in of_seed]

    def losses(self, store: RecordStore) -> KeptLosses | None:
        """Those of the folds, one after the other."""
        kept = [mean_losses(store, list(records)) for records in zip(*self.by_seed, strict=True)]
        known = [losses for losses in kept if losses]
        if not known or len(known) < len(kept) or len({losses.shape for losses in known}) > 1:
            return None
        within, size = known[0].overlap, len(known[0].loss_M)
        across = size * (_most_at_a_time(self.by_seed[0]) - 1)
        return KeptLosses(np.concatenate([k.loss_M for k in known]), known[0].origins_per_loss, within + across)


def _most_at_a_time(folds: Iterable[Record]) -> int:
    """Consecutive folds whose test rows have a row in common: 1 where the stride is not below the horizon."""
    spans = [record.data.split["test"][1:] for record in folds]
    first, last = np.array(spans, dtype="datetime64[ns]").T
    return int((np.searchsorted(first, last, side="right") - np.arange(len(first))).max())


def joined(results: Results) -> Results:
    """The results with one task in the place of the folds of a dataset: what statistics over tasks must see.

    A model that was not planned in all folds is left out of it.
    """
    return replace(results, tasks=tuple(task for task, _ in _in_order(results)))


def with_joined(results: Results) -> Results:
    """The results with such a task before the folds that it is made of: what tables show."""
    return replace(results, tasks=tuple(task for whole, parts in _in_order(results) for task in (whole, *parts)))


def _in_order(results: Results) -> list[tuple[TaskResults, list[TaskResults]]]:
    """Every task with the folds that it is made of, in the order of the plan; a dataset by itself has none."""
    dataset_of = {fold: dataset for dataset, folds in results.plan.folds.items() for fold in folds}
    asked = {task.task for task in results.tasks}
    groups: dict[Task, list[TaskResults]] = defaultdict(list)
    for task in results.tasks:
        whole = task.task._replace(dataset=dataset_of.get(task.task.dataset, task.task.dataset))
        groups[task.task if whole in asked else whole].append(task)
    return [(_join(whole, parts), parts) if len(parts) > 1 else (parts[0], []) for whole, parts in groups.items()]


def _join(whole: Task, parts: list[TaskResults]) -> TaskResults:
    found: dict[str, list[Entry]] = defaultdict(list)
    for part in parts:
        for entry in part.entries:
            found[entry.label].append(entry)
    folds = tuple(part.task.dataset for part in parts)
    entries = [
        JoinedEntry(
            label,
            tuple(run for entry in entries for run in entry.runs),
            tuple(record for entry in entries for record in entry.records),
            folds,
        )
        for label, entries in found.items()
        if len(entries) == len(parts)
    ]
    return TaskResults(whole, tuple(sorted(entries, key=lambda entry: entry.standing)), parts[0].store, folds)
