"""What the forecasts rest on, in words and as a table, where somebody asked (`tsbench explain`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tsbench.bench.explanations import ExplanationStore
from tsbench.evaluation.importance import Explanation
from tsbench.report.tables import Entry, Results, Task, TaskResults
from tsbench.report.wording import listed, percent

if TYPE_CHECKING:
    import pandas as pd

METHODS = {"integrated_gradients": "integrated gradients", "occlusion": "occlusion", "grad_cam": "Grad-CAM"}
_FOR_ALL = ("integrated_gradients", "occlusion")


@dataclass(frozen=True)
class Explained:
    """A row of the leaderboard, and what its first explained seed rests on."""

    entry: Entry
    explanation: Explanation

    @property
    def label(self) -> str:
        return self.entry.label

    @property
    def seasonality(self) -> int:
        """Rows in a season; 1 where there is none, or where no record says."""
        return next((record.data.seasonality for record in self.entry.records), 1)


def explained_entries(folder: Path, task: TaskResults) -> list[Explained]:
    """Those entries of a task that have an explanation, best first."""
    store, found = ExplanationStore(folder), []
    for entry in task.entries:
        key = next((run.key() for run in entry.runs if run.key() in store), None)
        if key is not None:
            found.append(Explained(entry, store.read(key)))
    return found


class Peak(NamedTuple):
    """Where one method finds the greatest importance."""

    label: str
    method: str
    lag: int
    share: float
    points_at_season: bool | None
    """None where there is no season."""


def task_peaks(folder: Path, task: TaskResults) -> list[Peak]:
    """Of every explained entry of a task and every method."""
    found = []
    for explained in explained_entries(folder, task):
        explanation, season = explained.explanation, explained.seasonality
        for method in explanation.importance:
            points = explanation.points_at(method, season) if season > 1 else None
            found.append(Peak(explained.label, method, *explanation.peak(method), points))
    return found


def peaks(results: Results) -> pd.DataFrame:
    """One row per task, label and method: the lag with the greatest importance.

    Columns: `dataset, context_length, horizon` and the fields of `Peak`.
    """
    import pandas as pd

    rows = [(*task.task, *peak) for task in results.tasks for peak in task_peaks(results.folder, task)]
    return pd.DataFrame(rows, columns=[*Task._fields, *Peak._fields])


def sentence(found: Explained) -> str:
    """Where the greatest importance lies by either method, and whether that is at the season."""
    explanation = found.explanation
    (first, share), (second, other_share) = (explanation.peak(method) for method in _FOR_ALL)
    if share == other_share == 0:
        return f"{found.label}: nothing in the context moves its forecasts."
    names = [METHODS[method] for method in _FOR_ALL]
    elsewhere = f" at lag {second}" if second != first else ""
    words = f"{found.label}: {percent(share)} of the importance lies at lag {first} ({names[0]}), "
    words += f"{percent(other_share)}{elsewhere} ({names[1]})."
    return words + _about_season(explanation, found.seasonality) + _about_row(explanation)


def _about_season(explanation: Explanation, season: int) -> str:
    if season == 1:
        return ""
    pointing = [METHODS[method] for method in _FOR_ALL if explanation.points_at(method, season)]
    at_season = listed([percent(explanation.share_at(method, season)) for method in _FOR_ALL])
    total = f"lag {season} and its multiples hold {at_season}"
    match len(pointing):
        case 0:
            return f" It does not point at the season: {total}."
        case 1:
            return f" Only {pointing[0]} points at the season: {total}."
        case _:
            return f" It points at the season: {total}."


def _about_row(explanation: Explanation) -> str:
    """A model that rests on the same row for every step has no lag: its importance is spread over many."""
    (row, share), (_, by_lag) = explanation.peak_row("occlusion"), explanation.peak("occlusion")
    if share <= by_lag or len(explanation.steps_S) == 1:
        return ""
    where = "the last row" if row == 1 else f"row {row} before the forecast"
    return f" It rests on a row rather than on a lag: {where} holds {percent(share)} over all steps (occlusion)."
