"""What is shown while a matrix runs: bars and tables to a person; a line for each event to a log or a program."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tsbench.bench.estimate import Estimate
from tsbench.bench.observer import Observer
from tsbench.bench.records import PlannedRun, Record
from tsbench.errors import unknown
from tsbench.report.folds import with_joined
from tsbench.report.tables import Results, leaderboard
from tsbench.report.terminal import leaderboard_tables
from tsbench.report.wording import counted
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

    def warns(self, planned: PlannedRun, what: str) -> None:
        self.console.print(f"{_name(planned)}  [yellow]{escape(what)}[/yellow]", highlight=False)

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


class Screen:
    """What `tsbench run` says to a person."""

    def __init__(self) -> None:
        self.console = Console(soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False, markup=False)

    def plan(self, folder: Path, planned: int, runs: list[PlannedRun], estimate: Estimate, num_workers: int) -> None:
        """How many runs, how long they will take, and where their records go."""
        seconds = estimate.total(runs, num_workers)
        about = f", about {in_words(seconds)}" if runs and seconds is not None else ""
        about += f" with {num_workers} workers" if min(num_workers, len(runs)) > 1 else ""
        self.console.print(f"{planned} runs planned, {len(runs)} to do{about}; records in {folder}", markup=False)

    def watch(self, runs: list[PlannedRun], estimate: Estimate, num_workers: int) -> Display:
        return Display(self.console, runs, estimate, num_workers)

    def stopped(self, done: int, planned: int) -> None:
        self.console.print(f"\nstopped; {done} of {planned} runs are recorded, the same command does the rest")

    def leaderboard(self, results: Results) -> None:
        for table in leaderboard_tables(results):
            self.console.print(table)

    def report(self, path: Path) -> None:
        self.console.print(f"report: {path}", highlight=False, markup=False)


LOG_FORMATS = ("plain", "json")


class Log:
    """The same to a log or a program: one line per event. As JSON, its keys are what a program may rely on.

    Every line has `time` (UTC) and `event`: note, plan, start, retry, warning, end, measure, stopped,
    leaderboard or report.
    """

    def __init__(self, format: str) -> None:
        """Raises ConfigError for an unknown format."""
        if format not in LOG_FORMATS:
            raise unknown("format", format, LOG_FORMATS, where="--log-format")
        self.as_json = format == "json"

    def write(self, event: str, words: str, **values: Any) -> None:
        """words: what a plain line says of the values."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if self.as_json:
            content = {"time": now, "event": event, **values}
            line = json.dumps({k: None if v != v else v for k, v in content.items()}, ensure_ascii=False)
        else:
            line = " ".join(f"{now} {event} {words}".split())
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        self.write("note", text, text=text)

    def plan(self, folder: Path, planned: int, runs: list[PlannedRun], estimate: Estimate, num_workers: int) -> None:
        values, words = time_left(runs, estimate, num_workers)
        self.write(
            "plan",
            f"{planned} runs planned, {len(runs)} to do by {counted(num_workers, 'worker')}, {words}; in {folder}",
            planned=planned,
            to_do=len(runs),
            workers=num_workers,
            folder=str(folder),
            **values,
        )

    def watch(self, runs: list[PlannedRun], estimate: Estimate, num_workers: int) -> LoggedEvents:
        return LoggedEvents(self, runs, estimate, num_workers)

    def stopped(self, done: int, planned: int) -> None:
        self.write("stopped", f"{done} of {planned} runs are recorded", done=done, planned=planned)

    def leaderboard(self, results: Results) -> None:
        """One line for every row, best first: also of a matrix that was stopped, as far as it came."""
        names = ("dataset", "context_length", "horizon", "rank", "label", "mse_scaled", "mse_scaled_std", "skill")
        for row in leaderboard(with_joined(results)).to_dict("records"):
            error = "-" if math.isnan(row["mse_scaled"]) else f"{row['mse_scaled']:.4f}"
            self.write(
                "leaderboard",
                f"{row['dataset']} {row['context_length']}→{row['horizon']}: {row['rank']} {row['label']} "
                f"MSE {error} (scaled), {row['status']}",
                **{name: row[name] for name in names},
                same_as_best=row["same_as_best"],
                status=row["status"],
            )

    def report(self, path: Path) -> None:
        self.write("report", str(path), path=str(path))


class LoggedEvents(Observer):
    """Writes a line when something happens to a run; steps within one are no event."""

    def __init__(self, log: Log, runs: list[PlannedRun], estimate: Estimate, num_workers: int) -> None:
        self.log, self.estimate, self.num_workers = log, estimate, num_workers
        self.waiting = list(runs)
        self.total, self.done = len(runs), 0

    def __enter__(self) -> LoggedEvents:
        return self

    def __exit__(self, *error: object) -> None: ...

    def starts(self, planned: PlannedRun) -> None:
        self._write("start", planned, "")

    def starts_again(self, planned: PlannedRun, why: str) -> None:
        self._write("retry", planned, f": {why}", reason=why)

    def warns(self, planned: PlannedRun, what: str) -> None:
        self._write("warning", planned, f": {what}", reason=what)

    def measures(self, planned: PlannedRun) -> None:
        self._write("measure", planned, ": timed alone")

    def ends(self, planned: PlannedRun, record: Record) -> None:
        self.done += 1
        self.waiting.remove(planned)
        self.estimate.learn(record)
        seconds = sum(record.cost.seconds.values()) if record.cost else math.nan
        error = record.metrics.mse_scaled if record.metrics else math.nan
        outcome = (
            f"MSE {error:.4f} (scaled), {seconds:.1f} s"
            if record.status == "ok"
            else f"{record.status}: {record.reason}"
        )
        values, words = time_left(self.waiting, self.estimate, self.num_workers)
        self._write(
            "end",
            planned,
            f": {outcome}; {self.done} of {self.total} done, {words}",
            status=record.status,
            reason=record.reason,
            mse_scaled=error,
            seconds=seconds,
            done=self.done,
            total=self.total,
            **values,
        )

    def _write(self, event: str, planned: PlannedRun, words: str, **values: Any) -> None:
        run = planned.run
        dataset, context_length, horizon = run.task
        name = f"{planned.label} on {dataset} {context_length}→{horizon}, seed {run.seed}{words}"
        question = {"label": planned.label, "model": run.model, "dataset": dataset, "context_length": context_length}
        self.log.write(event, name, **question, horizon=horizon, seed=run.seed, key=run.key(), **values)


def time_left(runs: Sequence[PlannedRun], estimate: Estimate, num_workers: int) -> tuple[dict[str, Any], str]:
    """Seconds left and what that rests on, as values and in words."""
    seconds, basis = estimate.total(runs, num_workers), estimate.basis(runs)
    values = {"seconds_left": seconds, "seconds_left_basis": basis}
    if seconds is None:
        return values, "time left: known after the first run"
    return values, f"about {in_words(seconds)} left" + (f" (from {basis})" if basis else "")


def open_output(log_format: str) -> Screen | Log:
    """A log where a format is asked for, else the screen."""
    return Log(log_format) if log_format else Screen()


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
