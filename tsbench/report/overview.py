"""What is seen over all tasks at once: the critical-difference diagram and the heat map of skill."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.figure import Figure

from tsbench.report.across import Ranking, across_tasks
from tsbench.report.figures import MOST_DRAWN, WIDTH, Picture, drawn, printable
from tsbench.report.labels import text_width
from tsbench.report.svg import INK, house_style, to_svg
from tsbench.report.tables import Results, Task, TaskResults
from tsbench.report.wording import percent

MOST_DETAILED = 6
"""Tasks up to which every one has pictures of its own."""
_LINE = 17.0
"""Points between two names of the diagram."""
_SHADES = 5


def detailed_tasks(results: Results) -> tuple[TaskResults, ...]:
    """The tasks that have pictures: all where they are few, else three that no eye picked, in the order of the plan."""
    if len(results.tasks) <= MOST_DETAILED:
        return results.tasks
    leader = str(across_tasks(results)["label"].iloc[0])
    by_skill = sorted(results.tasks, key=lambda task: _skill(task, leader))
    wanted = [by_skill[place] for place in (0, len(by_skill) // 2, len(by_skill) - 1)]
    return tuple(task for task in results.tasks if task in wanted)


def detail_rule(results: Results) -> str:
    """Which tasks have pictures, in words; empty where all have."""
    if len(results.tasks) <= MOST_DETAILED:
        return ""
    leader = across_tasks(results)["label"].iloc[0]
    return (
        f"Of {len(results.tasks)} tasks three have pictures: those on which the skill of {leader}, the best by mean "
        "rank, is lowest, in the middle, and highest. The tables hold all."
    )


def _skill(task: TaskResults, label: str) -> float:
    entry = next((entry for entry in task.ranked if entry.label == label), None)
    skill = task.skill(entry) if entry else None
    return -math.inf if skill is None else skill


def critical_differences(ranking: Ranking) -> Picture | None:
    """Mean ranks on an axis, bars over those that cannot be told apart (Demšar 2006); None where nothing was tested."""
    if not ranking.enough:
        return None
    labels, ranks = ranking.labels[:MOST_DRAWN], ranking.mean_ranks[:MOST_DRAWN]
    groups = [group for group in ranking.level if group[0] in labels]
    width, margin = 72 * WIDTH, max(text_width(drawn(label)) for label in labels) + 60
    left_names = math.ceil(len(labels) / 2)
    axis = 34.0
    first_name = axis + 16 + 7 * len(groups) + 12
    height = first_name + _LINE * left_names
    low, high = math.floor(min(ranks)), max(math.ceil(max(ranks)), math.floor(min(ranks)) + 1)

    def place(rank: float) -> float:
        return margin + (rank - low) / (high - low) * (width - 2 * margin)

    with house_style():
        figure = Figure(figsize=(WIDTH, height / 72), dpi=72)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        axes.plot([place(low), place(high)], [axis, axis], color=INK, linewidth=1)
        axes.text(width / 2, 8, "mean rank over tasks (← lower is better)", ha="center", va="center")
        for tick in range(low, high + 1):
            axes.plot([place(tick), place(tick)], [axis - 4, axis], color=INK, linewidth=1)
            axes.text(place(tick), axis - 7, str(tick), ha="center", va="bottom")
        for number, group in enumerate(groups):
            ends = [ranks[labels.index(label)] for label in group if label in labels]
            depth = axis + 12 + 7 * number
            axes.plot([place(ends[0]) - 4, place(ends[-1]) + 4], [depth, depth], color=INK, linewidth=3.5)
        for number, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
            on_left = number < left_names
            line = first_name + _LINE * (number if on_left else len(labels) - 1 - number)
            end, side = (margin - 6, "right") if on_left else (width - margin + 6, "left")
            axes.plot([place(rank), place(rank), end], [axis, line, line], color=INK, linewidth=0.8)
            short = drawn(label)
            name = f"{short}  {rank:.1f}" if on_left else f"{rank:.1f}  {short}"
            axes.text(end + (-5 if on_left else 5), line, name, ha=side, va="center")
        caption = (
            f"Critical differences over {ranking.num_tasks} tasks: models under one bar cannot be told apart "
            "(Wilcoxon's signed-rank test of every pair, after Holm's correction)."
        )
        if ranking.left_out:
            caption += f" Left out, without a result on some task: {len(ranking.left_out)}."
        if len(ranking.labels) > len(labels):
            caption += f" Drawn: the {len(labels)} best of {len(ranking.labels)}."
        return Picture("critical-differences", caption, to_svg(figure, "critical-differences", printable(caption)))


@dataclass(frozen=True)
class HeatCell:
    text: str
    value: str
    """The unrounded skill, to sort by; empty where there is none."""
    shade: str
    """good1 to good5, bad1 to bad5, none."""
    best: bool


@dataclass(frozen=True)
class HeatMap:
    labels: list[str]
    """The columns, best mean rank first."""
    rows: list[tuple[Task, list[HeatCell]]]
    left_out: int
    """Models that have no column."""


def heat_map(results: Results) -> HeatMap | None:
    """Skill of every model on every task; None for a single task, whose leaderboard says it."""
    if len(results.tasks) < 2:
        return None
    labels = [str(label) for label in across_tasks(results)["label"]]
    shown = labels[:MOST_DRAWN]
    return HeatMap(shown, [(task.task, _heat_row(task, shown)) for task in results.tasks], len(labels) - len(shown))


def _heat_row(task: TaskResults, labels: list[str]) -> list[HeatCell]:
    entries = {entry.label: entry for entry in task.ranked}
    skills = [task.skill(entries[label]) if label in entries else None for label in labels]
    return [
        HeatCell(percent(skill), "" if skill is None else repr(skill), _shade(skill), bool(best))
        for label, skill in zip(labels, skills, strict=True)
        for best in [task.best is not None and task.best.label == label]
    ]


def _shade(skill: float | None) -> str:
    """In steps of a fifth of what can be gained, or lost: doubled errors have the darkest shade."""
    if skill is None:
        return "none"
    if abs(skill) < 0.0005:
        return ""
    return f"{'good' if skill > 0 else 'bad'}{min(_SHADES, 1 + int(abs(skill) * _SHADES))}"
