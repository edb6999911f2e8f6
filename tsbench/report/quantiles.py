"""Quantiles in a report: fan charts, what each level holds, and the table of coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tsbench.bench.records import QuantileMetrics, RecordStore
from tsbench.models.registry import model_specs
from tsbench.report.figures import MOST_IN_A_TITLE, WIDTH, Pen, Picture, drawn, panels, printable
from tsbench.report.svg import INK, house_style, to_svg
from tsbench.report.tables import Entry, TaskResults
from tsbench.report.wording import fixed, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUM_MODELS = 3
_WINDOWS = ("median", "hardest")
"""Of those that are kept (`tsbench.evaluation.accuracy.chosen_windows`)."""


@dataclass(frozen=True)
class CoverageRow:
    """One interval of one model."""

    label: str
    source: str
    nominal: str
    coverage: str
    by_step: str
    width: str


def coverage_rows(task: TaskResults) -> list[CoverageRow]:
    """Every interval of every model, the best model first and its widest interval first."""
    return [row for entry in task.ranked for row in _intervals(entry)]


def fan_charts(results: TaskResults, store: RecordStore, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Intervals of the leaders and of seasonal naive around their medians, in test windows, in original units."""
    shown = [entry for entry in results.ranked if _metrics(entry)][:_NUM_MODELS]
    baseline = results.of_model("seasonal_naive")
    shown += [baseline] if baseline and baseline not in shown and _metrics(baseline) else []
    arrays = [(entry, store.arrays(entry.finished[0].key)) for entry in shown]
    arrays = [(entry, found) for entry, found in arrays if "quantiles" in found]
    if not arrays:
        return None
    data, levels = arrays[0][0].finished[0].data, _metrics(arrays[0][0])[0].levels
    with house_style():
        figure = Figure(figsize=(WIDTH, 2.1 * len(arrays) + 0.4), dpi=72, layout="constrained")
        grid = figure.subplots(len(arrays), len(_WINDOWS), sharex=True, sharey="col", squeeze=False)
        for row, (entry, found) in zip(grid, arrays, strict=True):
            for axes, chosen_as in zip(row, _WINDOWS, strict=True):
                window = list(found["chosen_as"]).index(chosen_as)
                channel = int(found["channel"][window])
                _draw_fan(axes, found, pens[entry.label], window, channel)
                start = str(found["target_start"][window].astype("datetime64[m]")).replace("T", " ")
                about = f"{data.channels[channel]}, from {start}, {chosen_as}"
                axes.set_title(f"{drawn(entry.label, 20)}: {printable(about)}")
        figure.supxlabel("steps from the first forecast", fontsize=10)
        figure.supylabel(printable(data.units) or "original units", fontsize=10)
        caption = (
            f"Fan charts of {listed([entry.label for entry, _ in arrays])}, first finished seed: the median and the "
            f"intervals between each level and its partner, the widest from {levels[0]:g} to {levels[-1]:g}; dark "
            "line: the truth. Of all test windows the one that seasonal naive forecasts in the middle, and its worst. "
            "Nothing was picked by eye."
        )
        return _picture(figure, f"{prefix}fans", results, caption)


def calibration(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Share of the targets below each quantile against its level, one small panel per model, one line per seed."""
    entries = [entry for entry in results.ranked if _metrics(entry)]
    if not entries:
        return None
    with house_style():
        figure, grid = panels(len(entries), sharey=True)
        for axes, entry in zip(grid, entries, strict=True):
            pen = pens[entry.label]
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, alpha=0.4)
            for found in _metrics(entry):
                axes.plot(found.levels, found.below, color=pen.colour, marker="o", markersize=3.5, linewidth=1.2)
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.set_title(drawn(entry.label, MOST_IN_A_TITLE), fontsize=10)
        figure.supxlabel("level of the quantile", fontsize=10)
        figure.supylabel("share of the targets below it", fontsize=10)
        caption = (
            "Calibration: the share of the test targets that are not above each quantile, one line per seed. On the "
            "thin line a quantile holds what it promises; flatter than it, intervals are too narrow."
        )
        return _picture(figure, f"{prefix}calibration", results, caption)


def _metrics(entry: Entry) -> list[QuantileMetrics]:
    """Of the finished seeds that have quantiles."""
    return [record.metrics.quantiles for record in entry.finished if record.metrics and record.metrics.quantiles]


def _intervals(entry: Entry) -> list[CoverageRow]:
    found = _metrics(entry)
    return [
        CoverageRow(
            entry.label,
            _source(entry),
            percent(nominal),
            percent(fmean(each.coverage[number] for each in found)),
            _range_of([each.coverage_by_step[number] for each in found]),
            fixed(fmean(each.width[number] for each in found), 3),
        )
        for number, nominal in enumerate(found[0].nominal if found else ())
    ]


def _source(entry: Entry) -> str:
    """Where the quantiles come from."""
    if not model_specs()[entry.model].trained:
        return "errors on the validation split"
    return "learned, conformal" if entry.runs[0].recipe.calibration == "conformal" else "learned"


def _range_of(by_step: Sequence[Sequence[float]]) -> str:
    means = np.mean(by_step, axis=0)
    return f"{percent(means.min())} to {percent(means.max())}"


def _draw_fan(axes: Axes, found: dict[str, Any], pen: Pen, window: int, channel: int) -> None:
    target, quantiles = found["target"][window, :, channel], found["quantiles"][window, :, channel]
    context = found["context"][window, -len(target) :, channel]
    steps, num_intervals = np.arange(1, len(target) + 1), quantiles.shape[-1] // 2
    for number in range(num_intervals):  # one upon the other: the nearer to the median, the darker
        lower, upper = quantiles[:, number], quantiles[:, -1 - number]
        axes.fill_between(steps, lower, upper, color=pen.colour, alpha=0.5 / num_intervals, linewidth=0)
    axes.plot(steps, quantiles[:, num_intervals], color=pen.colour, linewidth=1.5)
    axes.axvline(0.5, color=INK, linewidth=0.6, alpha=0.4)
    axes.plot(np.arange(1 - len(context), len(target) + 1), np.concatenate([context, target]), color=INK, linewidth=1.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.margins(x=0.01)


def _picture(figure: Figure, name: str, results: TaskResults, caption: str) -> Picture:
    return Picture(name, caption, to_svg(figure, name, printable(f"{results.task}. {caption}")))
