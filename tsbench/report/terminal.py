"""The leaderboard, and what the forecasts rest on, in a terminal, at most 100 columns wide."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from tsbench.report.changes import SPEEDS, Change, Changes
from tsbench.report.folds import with_joined
from tsbench.report.page import COLUMNS, leaderboard_rows
from tsbench.report.peaks import METHODS, task_peaks
from tsbench.report.tables import Results, TaskResults, leaderboard
from tsbench.report.wording import BLANK, fixed, percent

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = {"mse_scaled": "MSE (scaled)", "skill": "skill", "train_windows_per_second": "train/s"}
_SHOWN |= {"predict_windows_per_second": "predict/s", "num_parameters": "params"}
_STYLES = {"best": "bold green", "same": "green"}


def leaderboard_table(frame: pd.DataFrame, task: TaskResults) -> Table:
    """One task's leaderboard, of the frame of `leaderboard`. `*` marks the best, `=` what cannot be told from it."""
    table = Table(title=Text(str(task.task)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption = Text("* best, = not told apart from it; train/s, predict/s: windows")
    table.caption_justify = "left"
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("model", overflow="fold", min_width=16, max_width=24)
    for title in _SHOWN.values():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold", max_width=11)
    places = [[column.name for column in COLUMNS].index(name) for name in _SHOWN]
    for row in leaderboard_rows(frame, task):
        mark = {"best": " *", "same": " ="}.get(row.standing, "")
        # Text, not str: a name in square brackets is no markup.
        cells = [str(row.rank), row.label + mark, *(row.cells[place].text for place in places), row.status]
        table.add_row(*map(Text, cells), style=_STYLES.get(row.standing, ""))
    return table


def leaderboard_tables(results: Results) -> list[Table]:
    """One table per task, in the order of the plan; joined folds before each of them."""
    results = with_joined(results)
    frame = leaderboard(results)
    return [leaderboard_table(frame, task) for task in results.tasks]


def changes_table(changes: Changes) -> Table:
    """One row per model: its error before and after, how sure the change is, and the ratio of its speeds."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption = Text("test MSE (scaled); change with its 95% interval; speeds: after / before")
    table.caption_justify = "left"
    several = len({change.task for change in changes.pairs}) > 1
    if several:
        table.add_column("task", overflow="fold", max_width=20)
    table.add_column("model", overflow="fold", min_width=14)
    for header in ("before", "after", "change", "train", "predict"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold", min_width=14)
    for change in changes.pairs:
        label = change.label if change.label == change.label_after else f"{change.label} / {change.label_after}"
        error = fixed(change.before, 4), fixed(change.after, 4), _with_bounds(change)
        cells = label, *error, *(_ratio(change, name) for name in SPEEDS), _outcome(change)
        table.add_row(*map(Text, (str(change.task), *cells) if several else cells), style=_COLOURS[change.outcome])
    return table


_COLOURS = defaultdict(str, better="green", worse="red", fails="red")


def _with_bounds(change: Change) -> str:
    if change.lower is None or change.upper is None:
        return percent(change.relative)
    return f"{percent(change.relative)} ({100 * change.lower:.1f} to {100 * change.upper:.1f})".replace("-", "−")


def _ratio(change: Change, name: str) -> str:
    cost = (change.costs or {}).get(name)
    return BLANK if cost is None else f"{cost.ratio:.2f}"


def _outcome(change: Change) -> str:
    words = "not told apart" if change.outcome == "same" else change.outcome
    said = [f"{words}: {change.reason}" if change.reason else words]
    for name, cost in (change.costs or {}).items():
        if cost.word and cost.lower is not None and cost.upper is not None:
            said.append(f"{name.split('_')[0]}s {cost.word} ({cost.lower:.2f} to {cost.upper:.2f})")
    return ", ".join(said)


def peak_tables(results: Results) -> list[Table]:
    """One table per task that was explained: for every model and method the lag with the greatest importance."""
    tables = []
    for task in results.tasks:
        table = Table(title=Text(str(task.task)), title_justify="left", box=box.SIMPLE_HEAD)
        table.caption = Text("lag: with the greatest importance; at season: whether that is the season or a multiple")
        table.caption_justify = "left"
        table.add_column("model", overflow="fold", min_width=16, max_width=36)
        table.add_column("method", no_wrap=True)
        for header in ("lag", "share", "at season"):
            table.add_column(header, justify="right", no_wrap=True)
        for peak in task_peaks(results.folder, task):
            at_season = BLANK if peak.points_at_season is None else "yes" if peak.points_at_season else "no"
            cells = peak.label, METHODS[peak.method], str(peak.lag), percent(peak.share), at_season
            table.add_row(*map(Text, cells))
        if table.row_count:
            tables.append(table)
    return tables
