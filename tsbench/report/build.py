"""The report as files: a page that opens offline, the same in Markdown, and the tables for other programs."""

from __future__ import annotations

import base64
import gc
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from tsbench.bench.records import RecordStore, write_durably
from tsbench.report import page
from tsbench.report.across import ranking
from tsbench.report.costs import accuracy_against_costs, speed, time_to_quality
from tsbench.report.figures import (
    LEGIBLE,
    Picture,
    accuracy_against_throughput,
    choose_pens,
    error_by_step,
    forecasts,
    legible,
    training_curves,
)
from tsbench.report.folds import joined, with_joined
from tsbench.report.gradients import gradient_norms
from tsbench.report.importance import attention_maps, importance_by_lag
from tsbench.report.latex import leaderboard_tex
from tsbench.report.overview import critical_differences, detail_rule, detailed_tasks, heat_map
from tsbench.report.peaks import explained_entries
from tsbench.report.quantiles import calibration, coverage_rows, fan_charts
from tsbench.report.residuals import error_groups, residuals, where_errors_lie
from tsbench.report.svg import standalone
from tsbench.report.tables import RANKING_RULE, Results, Task, TaskResults, comparisons, leaderboard, read_results
from tsbench.report.verdict import overall_verdict, task_verdict

if TYPE_CHECKING:
    import pandas as pd

_TEMPLATES = Path(__file__).parent / "templates"
_SETTINGS: dict[str, Any] = {
    "loader": FileSystemLoader(_TEMPLATES),
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}


def build(folder: str | Path) -> Path:
    """Write `report.html`, `report.md` with `figures/`, and the tables as CSV and LaTeX into a folder of results.

    Returns the page's path. The same records give the same bytes. Raises ConfigError where the folder holds no plan, or
    records that must not stand in one table.
    """
    with _collector_at_rest():
        return _build(Path(folder))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Python's garbage collector would walk through all records again and again: a third of the time with 10,000."""
    awake = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if awake:
            gc.enable()


def _build(folder: Path) -> Path:
    results = read_results(folder)
    shown, whole = with_joined(results), joined(results)
    order = ranking(whole) if len(whole.tasks) > 1 else None
    tables = {"leaderboard": leaderboard(shown), "comparisons": comparisons(shown), "errors": errors(results)}
    texts = {f"{name}.csv": frame.to_csv(index=False) for name, frame in tables.items() if not frame.empty}
    sections = _sections(results)
    overview = critical_differences(order) if order else None
    context = _context(results, sections) | {
        "overview": overview,
        "downloads": _downloads(results, texts),
        "overall": overall_verdict(whole),
        "across": page.across_rows(whole) if len(whole.tasks) > 1 else [],
        "heat_map": heat_map(whole),
        "tasks": [_task_context(task, tables) for task in shown.tasks],
        "leading": [task.task for task in whole.tasks],
        "columns": page.columns_of(tables["leaderboard"]),
    }
    pictures = [picture for section in sections for _, found in section.tasks for picture in found]
    for picture in pictures + ([overview] if overview else []):
        _write(folder / "figures" / f"{picture.name}.svg", standalone(picture.svg))
    _write(folder / "leaderboard.tex", leaderboard_tex(shown))
    for name, text in texts.items():
        _write(folder / name, text)
    _write(folder / "report.md", _markdown_environment().get_template("report.md.j2").render(context))
    path = folder / "report.html"
    _write(path, _html_environment().get_template("report.html.j2").render(context))
    return path


def _write(path: Path, text: str) -> None:
    write_durably(path, lambda file: file.write(text.encode()))


@dataclass(frozen=True)
class Section:
    """Pictures that answer one question."""

    title: str
    tasks: list[tuple[Task, list[Picture]]]
    """Without the tasks that have nothing to show."""


def _sections(results: Results) -> list[Section]:
    """In the order of the page; those without a picture are left out."""
    pens, store = choose_pens(results), RecordStore(results.folder)
    detailed = detailed_tasks(results)
    numbers = [results.tasks.index(task) + 1 for task in detailed]
    prefixes = [f"task{number}-" if len(results.tasks) > 1 else "" for number in numbers]
    tasks = [legible(task) for task in detailed]
    explained = [explained_entries(results.folder, task) for task in tasks]
    kinds: dict[str, list[Callable[[int], Picture | None]]] = {
        "Accuracy against cost": [
            lambda i: accuracy_against_throughput(tasks[i], pens, prefixes[i]),
            lambda i: accuracy_against_costs(tasks[i], pens, prefixes[i]),
            lambda i: time_to_quality(tasks[i], pens, prefixes[i]),
        ],
        "Error by step ahead": [lambda i: error_by_step(tasks[i], pens, prefixes[i])],
        "Where the errors lie": [lambda i: where_errors_lie(tasks[i], pens, prefixes[i])],
        "Forecasts against the truth": [lambda i: forecasts(tasks[i], store, pens, prefixes[i])],
        "Quantiles": [
            lambda i: fan_charts(tasks[i], store, pens, prefixes[i]),
            lambda i: calibration(tasks[i], pens, prefixes[i]),
        ],
        "What is left in the errors": [lambda i: residuals(tasks[i], pens, prefixes[i])],
        "Training curves": [lambda i: training_curves(tasks[i], pens, prefixes[i])],
        "Gradients": [lambda i: gradient_norms(tasks[i], pens, prefixes[i])],
        "What the forecasts rest on": [lambda i: importance_by_lag(tasks[i], explained[i], pens, prefixes[i])],
        "Attention maps": [lambda i: attention_maps(tasks[i], explained[i], pens, prefixes[i])],
        "Speed": [lambda i: speed(tasks[i], pens, prefixes[i])],
    }
    found = []
    for title, drawers in kinds.items():
        drawn = [(task.task, _drawn(drawers, i, tasks[i] is not detailed[i])) for i, task in enumerate(tasks)]
        if any(pictures for _, pictures in drawn):
            found.append(Section(title, [(task, pictures) for task, pictures in drawn if pictures]))
    return found


def _drawn(drawers: list[Callable[[int], Picture | None]], place: int, cut: bool) -> list[Picture]:
    pictures = [picture for draw in drawers if (picture := draw(place))]
    return (
        [replace(picture, caption=f"{picture.caption} Drawn: {LEGIBLE}.") for picture in pictures] if cut else pictures
    )


def errors(results: Results) -> pd.DataFrame:
    """Test MSE on scaled values, mean over seeds, by channel, hour, weekday, month and level: a row for each."""
    import pandas as pd

    rows = [
        {**task.task._asdict(), "label": label, "by": kind, "name": name, "mse_scaled": error}
        for task in map(legible, results.tasks)
        for kind, (names, found) in error_groups(task.ranked).items()
        for label, values in found.items()
        for name, error in zip(names, values, strict=True)
    ]
    return pd.DataFrame(rows)


def _downloads(results: Results, texts: dict[str, str]) -> list[page.Download]:
    what = {
        "leaderboard.csv": "every number of the leaderboard, unrounded",
        "comparisons.csv": "every pair against the best and seasonal naive",
        "errors.csv": f"errors by channel, clock and level: {LEGIBLE}",
    }
    return [page.table_download(name, what[name], text) for name, text in texts.items()] + [
        page.records_download(results)
    ]


def _context(results: Results, sections: list[Section]) -> dict[str, Any]:
    """What the templates name of the runs, whether or not they are folds."""
    audit, audit_passed = page.audit_summary(results)
    return {
        "plan": results.plan,
        "newest": max((record.created for record in results.records), default=""),
        "num_runs": len(results.plan.runs),
        "num_missing": results.num_missing,
        "detail_rule": detail_rule(results),
        "coverage": [(str(task.task), rows) for task in results.tasks if (rows := coverage_rows(task))],
        "ranking_rule": RANKING_RULE,
        "paired_note": page.PAIRED_NOTE,
        "bare_limit_note": page.BARE_LIMIT_NOTE,
        "sections": sections,
        "failures": page.failures(results),
        "missing": page.missing(results),
        "audit": audit,
        "audit_passed": audit_passed,
        "data": page.data_conditions(results),
        "recipe": page.common_recipe(results),
        "pretrained": page.pretrained(results),
        "arguments": page.model_arguments(results),
        "machines": results.machines,
        "versions": page.versions(results),
        "cost_notes": page.cost_notes(results),
    }


def _task_context(task: TaskResults, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    phase_names, phase_rows = ([], []) if task.folds else page.phases(task)
    return {
        "task": task.task,
        "name": str(task.task),
        "verdict": task_verdict(task),
        "columns": page.columns_of(tables["leaderboard"]) if task.ranked else (),
        "rows": page.leaderboard_rows(tables["leaderboard"], task),
        "paired": page.paired_rows(tables["comparisons"], task),
        "notes": page.metric_notes(task),
        "scoring": page.scoring(task),
        "audit": page.audit_rows(task),
        "budget": page.budget_notes(task),
        "training_speeds": page.training_speeds(task),
        "phase_names": phase_names,
        "phases": phase_rows,
    }


def _html_environment() -> Environment:
    environment = Environment(
        autoescape=True,
        **_SETTINGS,
    )
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page may run this one script and nothing else, whatever a data set is called.
    environment.globals |= {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    environment.globals["style"] = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    environment.filters["svg"] = Markup
    return environment


def _markdown_environment() -> Environment:
    """Every value is escaped on its way out, unless it is marked as safe."""
    environment = Environment(
        autoescape=False,
        finalize=escape_markdown,
        **_SETTINGS,
    )
    environment.filters["code"] = lambda text: Markup(" ".join(text.split()))
    return environment


def escape_markdown(value: Any) -> Any:
    """Text that stays text in Markdown: no table cell, emphasis, link or HTML element can begin in it."""
    if isinstance(value, Markup):
        return value
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"\s*[\r\n]+\s*", " ", text)
    return re.sub(r"([\\`*|\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
