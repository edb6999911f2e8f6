"""The leaderboard, and what the forecasts rest on, in a terminal, at most 100 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from tsbench.report.page import COLUMNS, leaderboard_rows
from tsbench.report.peaks import METHODS, task_peaks
from tsbench.report.tables import Results, TaskResults, leaderboard
from tsbench.report.wording import BLANK, percent

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
    """One table per task, in the order of the plan."""
    frame = leaderboard(results)
    return [leaderboard_table(frame, task) for task in results.tasks]


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
