"""The report as files: a page that opens offline, the same in Markdown, and the tables for other programs."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from tsbench.bench.records import RecordStore, write_durably
from tsbench.report import page
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
from tsbench.report.gradients import gradient_norms
from tsbench.report.importance import attention_maps, importance_by_lag
from tsbench.report.peaks import explained_entries
from tsbench.report.quantiles import calibration, coverage_rows, fan_charts
from tsbench.report.svg import standalone
from tsbench.report.tables import (
    RANKING_RULE,
    Results,
    TaskResults,
    comparisons,
    has_quantiles,
    leaderboard,
    read_results,
)
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
_SECTIONS = ("Accuracy against throughput", "Error by step ahead", "Forecasts against the truth", "Training curves")


def build(folder: str | Path) -> Path:
    """Write `report.html`, `report.md` with `figures/`, and the tables as CSV files into a folder of results.

    Returns the page's path. The same records give the same bytes. Raises ConfigError where the folder holds no plan, or
    records that must not stand in one table.
    """
    folder = Path(folder)
    results = read_results(folder)
    pictures = _pictures(results)
    paired = comparisons(results)
    context = _context(results, pictures, paired)
    for picture in (picture for section in pictures.values() for _, picture in section if picture):
        _write(folder / "figures" / f"{picture.name}.svg", standalone(picture.svg))
    _write(folder / "leaderboard.csv", leaderboard(results).to_csv(index=False))
    _write(folder / "comparisons.csv", paired.to_csv(index=False))
    _write(folder / "report.md", _markdown_environment().get_template("report.md.j2").render(context))
    path = folder / "report.html"
    _write(path, _html_environment().get_template("report.html.j2").render(context))
    return path


def _write(path: Path, text: str) -> None:
    write_durably(path, lambda file: file.write(text.encode()))


def _pictures(results: Results) -> dict[str, list[tuple[str, Picture | None]]]:
    """For every section: the task's name and its picture."""
    pens, store = choose_pens(results), RecordStore(results.folder)
    sections: dict[str, list[tuple[str, Picture | None]]] = {title: [] for title in _SECTIONS}
    prefixes = [f"task{number}-" if len(results.tasks) > 1 else "" for number in range(1, len(results.tasks) + 1)]
    tasks = [legible(task) for task in results.tasks]
    for task, prefix in zip(tasks, prefixes, strict=True):
        drawn = (
            accuracy_against_throughput(task, pens, prefix),
            error_by_step(task, pens, prefix),
            forecasts(task, store, pens, prefix),
            training_curves(task, pens, prefix),
        )
        for title, picture in zip(_SECTIONS, drawn, strict=True):
            sections[title].append((str(task.task), picture))
    if any(record.gradients for record in results.records):
        sections["Gradients"] = [
            (str(task.task), gradient_norms(task, pens, prefix)) for task, prefix in zip(tasks, prefixes, strict=True)
        ]
    if has_quantiles(results.records):
        pairs = list(zip(tasks, prefixes, strict=True))
        sections["Fan charts"] = [(str(task.task), fan_charts(task, store, pens, prefix)) for task, prefix in pairs]
        sections["Calibration of quantiles"] = [
            (str(task.task), calibration(task, pens, prefix)) for task, prefix in pairs
        ]
    explained = [explained_entries(results.folder, task) for task in tasks]
    for title, draw in (("What the forecasts rest on", importance_by_lag), ("Attention maps", attention_maps)):
        pictures = [
            (str(task.task), draw(task, found, pens, prefix))
            for task, found, prefix in zip(tasks, explained, prefixes, strict=True)
        ]
        if any(picture for _, picture in pictures):
            sections[title] = pictures
    if tasks != list(results.tasks):
        return {title: [(name, _with_note(picture)) for name, picture in found] for title, found in sections.items()}
    return sections


def _with_note(picture: Picture | None) -> Picture | None:
    return picture and replace(picture, caption=f"{picture.caption} Drawn: {LEGIBLE}.")


def _context(
    results: Results, pictures: dict[str, list[tuple[str, Picture | None]]], paired: pd.DataFrame
) -> dict[str, Any]:
    """All that the templates name."""
    return {
        "plan": results.plan,
        "newest": max((record.created for record in results.records), default=""),
        "num_runs": len(results.plan.runs),
        "num_missing": results.num_missing,
        "overall": overall_verdict(results),
        "across": page.across_rows(results) if len(results.tasks) > 1 else [],
        "tasks": [_task_context(results, task, paired) for task in results.tasks],
        "columns": page.columns_of(results),
        "coverage": [(str(task.task), coverage_rows(task)) for task in results.tasks if coverage_rows(task)],
        "ranking_rule": RANKING_RULE,
        "paired_note": page.PAIRED_NOTE,
        "sections": pictures,
        "failures": page.failures(results),
        "missing": page.missing(results),
        "data": page.data_conditions(results),
        "recipe": page.common_recipe(results),
        "pretrained": page.pretrained(results),
        "arguments": page.model_arguments(results),
        "machines": results.machines,
        "versions": page.versions(results),
        "cost_notes": page.cost_notes(results),
    }


def _task_context(results: Results, task: TaskResults, paired: pd.DataFrame) -> dict[str, Any]:
    phase_names, phase_rows = page.phases(task)
    return {
        "name": str(task.task),
        "verdict": task_verdict(task),
        "rows": page.leaderboard_rows(results, task),
        "paired": page.paired_rows(paired, task),
        "notes": page.metric_notes(task),
        "scoring": page.scoring(task),
        "phase_names": phase_names,
        "phases": phase_rows,
    }


def _html_environment() -> Environment:
    environment = Environment(
        autoescape=True,
        **_SETTINGS,
    )
    script = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")
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
