"""Pictures of errors: where they lie, and what is left in them that a better model could still learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tsbench.bench.records import Diagnostics, ErrorTable, Record
from tsbench.report.figures import Pen, Picture, as_picture, draw_steps, leaders, printable, strip
from tsbench.report.svg import INK, house_style
from tsbench.report.tables import Entry, TaskResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_SHOWN = 5
"""The best; and seasonal naive."""
REACH = 4.0
"""Of the histogram, see `Diagnostics.histogram`."""
MOST_NAMED = 12
"""Channels; of more, the names would cover each other."""

_TITLES = {
    "channel": "by channel",
    "hour": "by hour of the target",
    "weekday": "by weekday of the target",
    "month": "by month of the target",
    "level": "by level of the series",
}

Group = tuple[list[str], dict[str, list[float]]]
"""Names, and for each label an error for each name."""


def error_groups(entries: Sequence[Entry]) -> dict[str, Group]:
    """By channel, hour, weekday, month and level, as far as they are known: mean test MSE over seeds."""
    found: dict[str, Group] = {}
    if not entries:
        return found
    channels = entries[0].finished[0].data.channels
    if len(channels) > 1:
        by_channel = {entry.label: _mean([_by_channel(record) for record in entry.finished]) for entry in entries}
        found["channel"] = channels, {label: errors for label, errors in by_channel.items() if errors}
    kinds = {kind: table for entry in entries for record in entry.finished for kind, table in _tables(record).items()}
    for kind in (kind for kind in _TITLES if kind in kinds):
        names, errors = kinds[kind].names, {}
        for entry in entries:
            tables = [table for record in entry.finished if (table := _tables(record).get(kind))]
            if tables and all(table.names == names for table in tables):
                errors[entry.label] = _mean([table.mse_scaled for table in tables])
        found[kind] = names, errors
    return {kind: (names, errors) for kind, (names, errors) in found.items() if errors}


def where_errors_lie(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Test MSE by channel, by the clock of the target, and by level of the series."""
    groups = error_groups(leaders(results, NUM_SHOWN))
    if not groups:
        return None
    labels = list(dict.fromkeys(label for _, errors in groups.values() for label in errors))
    with house_style():
        figure, grid = strip(len(groups), 130, labels, pens, titled=True)
        for axes, (kind, (names, errors)) in zip(grid, groups.items(), strict=True):
            order = np.arange(len(names))
            if kind == "channel":
                order = np.argsort(next(iter(errors.values())), kind="stable")
            for place, (label, values) in reversed(list(enumerate(errors.items()))):
                draw_steps(
                    axes, np.arange(len(names)), np.array(values)[order], pens[label], 2.2 if place == 0 else 1.2
                )
            axes.set_ylim(bottom=0, top=1.08 * max(max(values) for values in errors.values()) or 1.0)
            axes.set_title(_TITLES[kind])
            _name_places(axes, kind, [names[place] for place in order])
        for axes in grid[::2] if len(grid) in (2, 4) else grid[:1]:
            axes.set_ylabel("test MSE, scaled")
        caption = f"Where the errors lie, mean over seeds; {labels[0]}, the leader, is drawn thick."
        if "channel" in groups:
            caption += " Channels are in the order of its error."
        if "level" in groups:
            caption += (
                " Level: tenths of the test windows, by the mean of the truth over steps and channels, low to high."
            )
        if len(results.ranked) > len(labels):
            caption += f" Drawn: the {NUM_SHOWN} best and seasonal naive; all models are in errors.csv."
        return as_picture(figure, f"{prefix}errors", results, caption)


def residuals(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Bias by step, distribution, and autocorrelation of the errors."""
    looked_at = {
        entry.label: (entry.finished[0], found)
        for entry in leaders(results, NUM_SHOWN)
        if (found := entry.finished[0].diagnostics)
    }
    if not looked_at:
        return None
    record, _ = next(iter(looked_at.values()))
    known = any(found.autocorrelation for _, found in looked_at.values())
    with house_style():
        figure, grid = strip(3 if known else 2, 150, list(looked_at), pens, titled=True)
        for label, (_, found) in looked_at.items():
            _draw_residuals(grid, found, pens[label])
        for axes in (grid[0], *grid[2:]):
            axes.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
        grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        grid[0].set(title="bias by step ahead", xlabel="steps ahead", ylabel="forecast less truth, scaled")
        grid[1].set(title="distribution", xlabel="forecast less truth, scaled", ylabel="share of errors")
        grid[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        caption = (
            "What is left in the errors, first finished seed. Bias: above zero, forecasts are too high. Distribution: "
            "the outermost points hold all errors beyond them."
        )
        if known:
            _frame_autocorrelation(grid[2], record)
            caption += (
                " Autocorrelation of errors one step ahead: what lies outside the band, which chance alone would leave "
                "in one lag of 20, is pattern that the model did not learn; an upright line marks the season."
            )
        return as_picture(figure, f"{prefix}residuals", results, caption)


def _draw_residuals(grid: Sequence[Axes], found: Diagnostics, pen: Pen) -> None:
    draw_steps(grid[0], np.arange(1, len(found.bias_by_step) + 1), found.bias_by_step, pen, 1.3)
    width = 2 * REACH / len(found.histogram)
    centres = -REACH + width * (np.arange(len(found.histogram)) + 0.5)
    grid[1].plot(centres, found.histogram, color=pen.colour, linestyle=pen.dash, linewidth=1.3)
    if found.autocorrelation:
        lags = np.arange(1, len(found.autocorrelation) + 1)
        draw_steps(grid[2], lags, found.autocorrelation, pen, 1.3)


def _frame_autocorrelation(axes: Axes, record: Record) -> None:
    num_windows = record.metrics.num_scored_windows if record.metrics else 1
    bound = 1.96 / math.sqrt(num_windows)
    axes.axhspan(-bound, bound, color=INK, alpha=0.1, linewidth=0)
    if 1 < record.data.seasonality <= axes.get_xlim()[1]:
        axes.axvline(record.data.seasonality, color=INK, linewidth=0.6, alpha=0.4)
    axes.set(title="autocorrelation, one step ahead", xlabel="lag")


def _name_places(axes: Axes, kind: str, names: list[str]) -> None:
    if kind == "channel" and len(names) > MOST_NAMED:
        axes.set_xlabel(f"{len(names)} channels")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return
    every = 4 if kind == "hour" else 1
    shown = [printable(name) for name in names]
    if kind == "channel":
        longest = max(3, int(300 / len(names) / 5.6))
        shown = [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in shown]
    axes.set_xticks(np.arange(len(names))[::every], shown[::every])


def _tables(record: Record) -> dict[str, ErrorTable]:
    return record.diagnostics.errors_by if record.diagnostics else {}


def _by_channel(record: Record) -> list[float]:
    return record.metrics.by_channel.get("mse_scaled", []) if record.metrics else []


def _mean(columns: Sequence[Sequence[float]]) -> list[float]:
    """Of values that belong together, place by place."""
    return [fmean(values) for values in zip(*columns, strict=True)]
