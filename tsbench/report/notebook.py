"""The report's tables as DataFrames and its pictures as matplotlib figures: what `tsbench.report` offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tsbench.errors import ConfigError, unknown
from tsbench.report import costs, figures, residuals, tables
from tsbench.report.across import across_tasks
from tsbench.report.folds import joined, with_joined
from tsbench.report.svg import kept_figures
from tsbench.report.tables import Results, TaskResults, read_results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tsbench.report.figures import Pen, Picture

_DRAWN: dict[str, Callable[[Results, TaskResults, dict[str, Pen]], Picture | None]] = {
    "cost": lambda results, task, pens: figures.accuracy_against_throughput(task, pens),
    "costs": lambda results, task, pens: costs.accuracy_against_costs(task, pens),
    "quality": lambda results, task, pens: costs.time_to_quality(task, pens),
    "speed": lambda results, task, pens: costs.speed(task, pens),
    "steps": lambda results, task, pens: figures.error_by_step(task, pens),
    "forecasts": lambda results, task, pens: figures.forecasts(task, task.store, pens),
    "errors": lambda results, task, pens: residuals.where_errors_lie(task, pens),
    "residuals": lambda results, task, pens: residuals.residuals(task, pens),
    "training": lambda results, task, pens: figures.training_curves(task, pens),
}


def leaderboard(folder: str | Path) -> pd.DataFrame:
    """What `leaderboard.csv` holds: one row per task and label, best first, costs and errors unrounded."""
    return tables.leaderboard(with_joined(read_results(folder)))


def comparisons(folder: str | Path) -> pd.DataFrame:
    """What `comparisons.csv` holds: every model against the best and seasonal naive, with intervals and tests."""
    return tables.comparisons(with_joined(read_results(folder)))


def ranking(folder: str | Path) -> pd.DataFrame:
    """One row per label over all tasks: mean rank, win rate, error relative to seasonal naive, with intervals."""
    return across_tasks(joined(read_results(folder)))


def figure(folder: str | Path, name: str, *, task: int = 0) -> Figure:
    """One picture of the report, to show or to save: cost, costs, quality, speed, steps, forecasts, errors, residuals
    or training.

    task: its number in the order of the report, from 0.

    Raises ConfigError where there is no such picture or task, or nothing to draw.
    """
    if name not in _DRAWN:
        raise unknown("picture", name, _DRAWN, where="report.figure")
    results = read_results(folder)
    if not 0 <= task < len(results.tasks):
        raise ConfigError(f"report.figure: task = {task}: {folder} has {len(results.tasks)}; count them from 0")
    with kept_figures() as kept:
        _DRAWN[name](results, figures.legible(results.tasks[task]), figures.choose_pens(results))
    if not kept:
        raise ConfigError(f"report.figure: nothing to draw: no finished run of {folder} holds what {name!r} needs")
    return kept[-1]
