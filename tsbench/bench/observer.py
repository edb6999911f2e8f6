"""Who is told what happens while a matrix runs. Imports no torch."""

from __future__ import annotations

from tsbench.bench.records import PlannedRun, Record
from tsbench.training.progress import Progress


class Observer:
    """Is told what happens; this one does not mind."""

    def starts(self, planned: PlannedRun) -> None: ...

    def advances(self, planned: PlannedRun, progress: Progress) -> None: ...

    def starts_again(self, planned: PlannedRun, why: str) -> None: ...

    def ends(self, planned: PlannedRun, record: Record) -> None: ...

    def warns(self, planned: PlannedRun, what: str) -> None: ...

    def measures(self, planned: PlannedRun) -> None: ...
