"""What the terminal shows while a matrix runs: a live line on a terminal, a plain line per run in a log."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tsbench.bench.estimate import Estimate
from tsbench.bench.observer import Observer
from tsbench.bench.records import PlannedRun, Record
from tsbench.training.progress import Progress as StepProgress


class Display(Observer):
    """One bar for the matrix with the time left, one for the steps of each run that is being trained."""

    def __init__(self, console: Console, runs: list[PlannedRun], estimate: Estimate, num_workers: int = 1) -> None:
        self.console, self.estimate, self.num_workers = console, estimate, num_workers
        self.waiting = list(runs)
        self.total, self.done = len(runs), 0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._matrix = self._bars.add_task("matrix", total=self.total, note="")
        self._running: dict[str, TaskID] = {}
        """By the run's key."""

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def starts(self, planned: PlannedRun) -> None:
        run = planned.run
        self._bars.update(self._matrix, note=self._time_left())
        self._running[run.key()] = self._bars.add_task(_name(planned), total=run.recipe.max_steps, note="")

    def advances(self, planned: PlannedRun, progress: StepProgress) -> None:
        note = f"loss {progress.loss:.4f}  {progress.windows_per_second:,.0f} windows/s"
        self._bars.update(self._running[planned.run.key()], completed=progress.step, note=note)

    def starts_again(self, planned: PlannedRun, why: str) -> None:
        if planned.run.key() in self._running:
            self._bars.remove_task(self._running.pop(planned.run.key()))
        self.console.print(f"{_name(planned)}  [red]{escape(why)}[/red]; it is tried once more", highlight=False)

    def measures(self, planned: PlannedRun) -> None:
        self._bars.update(self._matrix, note=f"timed alone: {_name(planned)}")

    def ends(self, planned: PlannedRun, record: Record) -> None:
        self._bars.remove_task(self._running.pop(planned.run.key()))
        self.done += 1
        self.waiting.remove(planned)
        self.estimate.learn(record)
        self._bars.update(self._matrix, completed=self.done, note=self._time_left())
        if record.status == "ok" and record.metrics and record.cost:
            outcome = f"MSE {record.metrics.mse_scaled:.4f} (scaled)  {sum(record.cost.seconds.values()):.1f} s"
        else:
            outcome = f"[red]{record.status}[/red]: {escape(record.reason)}"
        self.console.print(f"[dim]{self.done:>4}/{self.total}[/dim]  {_name(planned)}  {outcome}", highlight=False)

    def _time_left(self) -> str:
        seconds = self.estimate.total(self.waiting, self.num_workers)
        return "time left: known after the first run" if seconds is None else f"about {in_words(seconds)} left"


def _name(planned: PlannedRun) -> str:
    dataset, context_length, horizon = planned.run.task
    # Labels and datasets are called what users call them: square brackets in them are no markup.
    return escape(f"{planned.label} on {dataset} {context_length}→{horizon}, seed {planned.run.seed}")


def in_words(seconds: float) -> str:
    """A duration as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
