"""How long the missing runs of a plan will take: from records of the same question, else from a few timed steps."""

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


class Estimate:
    """Seconds by question, learned from records as they come."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    @classmethod
    def from_folder(cls, folder: Path) -> Estimate:
        estimate, store = cls(), RecordStore(folder)
        for record in store:
            estimate.learn(record)
        return estimate

    def learn(self, record: Record) -> None:
        if record.cost:
            self.learn_seconds(record.run, sum(record.cost.seconds.values()))

    def learn_seconds(self, run: Run, seconds: float) -> None:
        self._samples.setdefault(_question(run), []).append(seconds)

    def knows(self, run: Run) -> bool:
        return _question(run) in self._samples

    def seconds(self, run: Run) -> float | None:
        """The median of what the same question took; of all questions where this one is new; None at the very start."""
        samples = self._samples.get(_question(run)) or [s for samples in self._samples.values() for s in samples]
        return median(samples) if samples else None

    def total(self, runs: Iterable[PlannedRun]) -> float | None:
        """Of these runs together; None when nothing at all is known."""
        seconds = [self.seconds(planned.run) for planned in runs]
        return None if None in seconds else sum(s or 0.0 for s in seconds)


def probe(estimate: Estimate, runs: Iterable[PlannedRun], panels: Mapping[str, Panel]) -> int:
    """Time a few steps of each configuration that the estimate does not know, on this machine's default device.

    Returns the number of configurations that were timed.
    """
    from tsbench.bench.runner import Prepared, seconds_by_probe
    from tsbench.training.devices import resolve_device

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
    return timed
