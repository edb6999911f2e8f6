"""How long the missing runs of a plan will take: from records of the same question, else from their operations or from
a few timed steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from tsbench.bench.records import PlannedRun, Record, RecordStore, Run
from tsbench.data.panel import Panel

MOST_PROBES = 24
"""Configurations that are timed at most: a plan should answer in seconds."""


def _question(run: Run) -> str:
    """Everything but the seed: runs that share it take the same time, unless one stops early."""
    return json.dumps(run.model_dump(mode="json", exclude={"seed"}), sort_keys=True)


def _architecture(run: Run) -> str:
    """What the operations on one window depend on."""
    parts = run.model_dump(mode="json", exclude={"seed", "recipe"}) | {"channel_mode": run.recipe.channel_mode}
    return json.dumps(parts, sort_keys=True)


class Estimate:
    """Seconds by question, learned from records as they come."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}
        self._runs: dict[str, Run] = {}
        """One run of each question with samples."""
        self._flops: dict[str, int] = {}
        """Of one window, by architecture."""

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

    def learn_flops(self, run: Run, flops_per_window: int) -> None:
        self._flops[_architecture(run)] = flops_per_window

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
        return self._seconds(run, self._seconds_per_operation())

    def total(self, runs: Iterable[PlannedRun], num_workers: int = 1) -> float | None:
        """Of these runs together, done by so many workers; None when nothing at all is known."""
        speed = self._seconds_per_operation()
        seconds = [self._seconds(planned.run, speed) for planned in runs]
        if None in seconds:
            return None
        known = [s or 0.0 for s in seconds]
        return max(sum(known) / num_workers, max(known, default=0.0))

    def longest_first(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """By seconds; before the first record by operations. Equals stay as they are."""
        speed = self._seconds_per_operation() or 1.0  # of no record: any unit will do
        return sorted(runs, key=lambda planned: self._seconds(planned.run, speed) or 0.0, reverse=True)

    def _seconds(self, run: Run, seconds_per_operation: float | None) -> float | None:
        samples = self._samples.get(_question(run))
        if samples is None and seconds_per_operation is not None:
            operations = self._operations(run)
            if operations is not None:
                return seconds_per_operation * operations
        samples = samples or [s for samples in self._samples.values() for s in samples]
        return median(samples) if samples else None

    def _seconds_per_operation(self) -> float | None:
        """The median over questions; None where no question with operations was timed."""
        pairs = [(median(self._samples[question]), self._operations(run)) for question, run in self._runs.items()]
        speeds = [seconds / operations for seconds, operations in pairs if operations]
        return median(speeds) if speeds else None

    def _operations(self, run: Run) -> int | None:
        """A number that grows with those of the training: forward passes over all windows that it sees at most."""
        flops = self._flops.get(_architecture(run))
        return None if flops is None else flops * run.recipe.batch_size * run.recipe.max_steps


def probe(
    estimate: Estimate, runs: Iterable[PlannedRun], panels: Mapping[str, Panel], *, one_thread: bool = False
) -> int:
    """Time a few steps of each configuration that the estimate does not know, on this machine's default device.

    one_thread: as a worker would do them. Returns the number of configurations that were timed.
    """
    import torch

    from tsbench.bench.runner import Prepared, seconds_by_probe
    from tsbench.training.devices import resolve_device

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1 if one_thread else num_threads)
    timed = 0
    prepared: Prepared | None = None
    for planned in runs:
        if timed == MOST_PROBES:
            break
        if estimate.knows(planned.run):
            continue
        panel = panels[planned.run.dataset]
        if prepared is None or prepared.panel is not panel:
            prepared = Prepared.on(panel, resolve_device("auto"))
        estimate.learn_seconds(planned.run, seconds_by_probe(planned.run, prepared))
        timed += 1
    torch.set_num_threads(num_threads)
    return timed
