"""How long the missing runs of a plan will take: from records of the same question, else from their operations or from
a few timed steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tsbench.bench.records import PlannedRun, Record, RecordStore, Run
from tsbench.data.panel import Panel

MOST_PROBES = 24
"""Where more configurations are unknown, none is timed: a plan should answer in seconds."""


def _question(run: Run) -> str:
    """Everything but the seed: runs that share it take the same time, unless one stops early."""
    return json.dumps(run.model_dump(mode="json", exclude={"seed"}), sort_keys=True)


def _architecture(run: Run) -> str:
    """What the operations on one window depend on."""
    chosen = {"channel_mode": run.recipe.channel_mode, "covariates": run.recipe.covariates}
    return json.dumps(run.model_dump(mode="json", exclude={"seed", "recipe"}) | chosen, sort_keys=True)


@dataclass(frozen=True)
class _Usual:
    """Medians over what was timed; None before the first."""

    seconds: float | None
    seconds_per_operation: float | None


class Estimate:
    """Seconds by question, learned from records as they come."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}
        self._runs: dict[str, Run] = {}
        """One run of each question with samples."""
        self._flops: dict[str, int] = {}
        """Of one window, by architecture."""
        self._kept: _Usual | None = None
        """What is usual, until something is learned."""

    @classmethod
    def from_folder(cls, folder: Path) -> Estimate:
        estimate, store = cls(), RecordStore(folder)
        for record in store:
            estimate.learn(record)
        return estimate

    def learn(self, record: Record) -> None:
        if record.cost:
            self.learn_seconds(record.run, sum(record.cost.seconds.values()))
            self.learn_flops(record.run, record.cost.flops_per_window)

    def learn_seconds(self, run: Run, seconds: float) -> None:
        self._samples.setdefault(_question(run), []).append(seconds)
        self._runs.setdefault(_question(run), run)
        self._kept = None

    def learn_flops(self, run: Run, flops_per_window: int) -> None:
        self._flops[_architecture(run)] = flops_per_window
        self._kept = None

    def knows(self, run: Run) -> bool:
        return _question(run) in self._samples

    def without_flops(self, runs: Iterable[PlannedRun]) -> list[Run]:
        """One run of each architecture whose operations nobody has counted, where the seconds are not known either."""
        unknown = {
            _architecture(planned.run): planned.run for planned in reversed(list(runs)) if not self.knows(planned.run)
        }
        return [run for architecture, run in reversed(unknown.items()) if architecture not in self._flops]

    def seconds(self, run: Run) -> float | None:
        """The median of what the same question took. Of a new one: what its operations would take at the usual speed;
        the median of all questions where they were not counted; None at the very start."""
        samples = self._samples.get(_question(run))
        if samples:
            return median(samples)
        usual, operations = self._usual(), self._operations(run)
        if usual.seconds_per_operation is None or operations is None:
            return usual.seconds
        return usual.seconds_per_operation * operations

    def total(self, runs: Iterable[PlannedRun], num_workers: int = 1) -> float | None:
        """Of these runs together, done by so many workers; None when nothing at all is known."""
        seconds = [self.seconds(planned.run) for planned in runs]
        if None in seconds:
            return None
        known = [s or 0.0 for s in seconds]
        return max(sum(known) / num_workers, max(known, default=0.0))

    def basis(self, runs: Iterable[PlannedRun]) -> str:
        """What `total` rests on, in words; empty when nothing at all is known."""
        ways = {self._way(planned.run) for planned in runs}
        return "" if "" in ways else " and ".join(sorted(ways))

    def _way(self, run: Run) -> str:
        if self.knows(run):
            return "records of the same questions"
        usual = self._usual()
        if usual.seconds is None:
            return ""
        known = usual.seconds_per_operation is not None and self._operations(run) is not None
        return "operations at the usual speed" if known else "the median of other runs"

    def longest_first(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """By seconds; before the first record by operations. Equals stay as they are."""
        nothing_timed = self._usual().seconds is None

        def size(planned: PlannedRun) -> float:
            return (self._operations(planned.run) if nothing_timed else self.seconds(planned.run)) or 0.0

        return sorted(runs, key=size, reverse=True)

    def _usual(self) -> _Usual:
        if self._kept is None:
            pairs = [(median(self._samples[question]), self._operations(run)) for question, run in self._runs.items()]
            speeds = [seconds / operations for seconds, operations in pairs if operations]
            every = [s for samples in self._samples.values() for s in samples]
            self._kept = _Usual(median(every) if every else None, median(speeds) if speeds else None)
        return self._kept

    def _operations(self, run: Run) -> int | None:
        """A number that grows with those of the training: forward passes over all windows that it sees at most."""
        flops = self._flops.get(_architecture(run))
        return None if flops is None else flops * run.recipe.batch_size * run.recipe.max_steps


def probe(
    estimate: Estimate, runs: Iterable[PlannedRun], panels: Mapping[str, Panel], *, one_thread: bool = False
) -> int:
    """Time a few steps of each configuration that the estimate does not know, on this machine's default device.

    one_thread: as a worker would do them. Returns the number of configurations that were timed: none where they are
    more than `MOST_PROBES`.
    """
    unknown = list({_question(p.run): p.run for p in runs if not estimate.knows(p.run)}.values())
    if not 0 < len(unknown) <= MOST_PROBES:
        return 0
    import torch

    from tsbench.bench.runner import PreparedPanels, seconds_by_probe
    from tsbench.training.devices import resolve_device

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1 if one_thread else num_threads)
    prepared_for = PreparedPanels(panels, resolve_device("auto"))
    try:
        for run in unknown:
            estimate.learn_seconds(run, seconds_by_probe(run, prepared_for(run)))
    finally:
        torch.set_num_threads(num_threads)
    return len(unknown)
