"""Pictures of what accuracy costs: in latency, memory, training and size, and how soon a training gets there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from tsbench.bench.records import Cost, Record
from tsbench.report.figures import Pen, Picture, as_picture, ceiling_of, pareto_front, round_tick, strip
from tsbench.report.svg import INK, house_style
from tsbench.report.tables import Entry, TaskResults
from tsbench.report.wording import compact

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ENERGY = ("predict_joules", "train_kilojoules")
_COSTS = (
    ("latency_p50_ms", "latency, p50 ms"),
    ("fit_seconds", "training, seconds"),
    ("peak_memory_mib", "peak memory, MiB"),
    ("num_parameters", "parameters"),
    ("predict_joules", "J per 1,000 windows"),
    ("train_kilojoules", "training, kJ"),
)


def accuracy_against_costs(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Test MSE against latency, training seconds, memory, parameters and energy, each with its Pareto front."""
    found = [(name, title, _with_cost(results, name)) for name, title in _COSTS]
    found = [(name, title, costs) for name, title, costs in found if len({cost for _, cost in costs}) > 1]
    if not found:
        return None
    entries = results.ranked
    ceiling = ceiling_of([entry.mse for entry in entries])
    with house_style():
        figure, grid = strip(len(found), 128, [entry.label for entry in entries], pens, points=True)
        for place, (axes, (_, title, costs)) in enumerate(zip(grid, found, strict=True)):
            for entry, cost in costs:
                pen, beyond = pens[entry.label], entry.mse > ceiling
                height, marker = (ceiling, "^") if beyond else (entry.mse, pen.marker)
                axes.plot(cost, height, marker, color=pen.colour, markersize=6, clip_on=False)
            front = pareto_front([-cost for _, cost in costs], [entry.mse for entry, _ in costs])
            drawn = [costs[i] for i in front if costs[i][0].mse <= ceiling]
            line = [cost for _, cost in drawn], [entry.mse for entry, _ in drawn]
            axes.plot(*line, color=INK, alpha=0.35, linewidth=1, zorder=0)
            _logarithmic(axes, [cost for _, cost in costs])
            axes.margins(y=0.1)
            axes.set_xlabel(f"{title}  (← less is better)")
            axes.set_ylabel("test MSE, scaled" if place % 2 == 0 else "")
        caption = (
            "Accuracy against what else it costs, best at the lower left; medians over seeds. Lines: the Pareto "
            "fronts, which no model is below on both axes. What costs nothing, such as the training of naive models, "
            "has no place on a logarithmic axis and is left out."
        )
        if any(name in _ENERGY for name, _, _ in found):
            caption += " Joules are those of the whole GPU by its driver's counter, forecasting in batches."
        if max(entry.mse for entry in entries) > ceiling:
            caption += " Triangles at the upper edge stand for errors beyond it."
        return as_picture(figure, f"{prefix}accuracy-costs", results, caption)


def _with_cost(results: TaskResults, name: str) -> list[tuple[Entry, float]]:
    costs = [(entry, entry.fit_seconds if name == "fit_seconds" else entry.cost(name)) for entry in results.ranked]
    return [(entry, cost) for entry, cost in costs if cost]


def time_to_quality(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """The best validation loss so far against optimizer steps and against seconds, mean over seeds."""
    curves = {entry.label: curve for entry in results.ranked if len(curve := _best_so_far(entry.finished)) > 1}
    if not curves:
        return None
    losses = np.concatenate([curve[:, 2] for curve in curves.values()])
    low, high = losses.min(), float(np.quantile(losses, 0.97))
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    with house_style():
        figure, grid = strip(2, 190, list(curves), pens)
        for axes, column, title in zip(grid, (0, 1), ("optimizer steps", "seconds"), strict=True):
            for label, curve in curves.items():
                pen = pens[label]
                axes.plot(curve[:, column], curve[:, 2], color=pen.colour, linestyle=pen.dash)
                axes.plot(curve[-1, column], curve[-1, 2], pen.marker, color=pen.colour, markersize=5)
            if column:
                _logarithmic(axes, [value for curve in curves.values() for value in curve[:, 1]])
            axes.set(xlabel=title, ylabel="" if column else "best validation loss so far", ylim=(low - margin, high))
            axes.xaxis.set_major_formatter(FuncFormatter(round_tick))
        caption = (
            "Time to quality: the best validation loss that a training had reached after so many optimizer steps, and "
            "after so many seconds, validation included; mean over seeds, from the first look at the validation split. "
            "The lower and the further to the left, the better. Seconds are as they were during the run, beside other "
            "workers if there were any."
        )
        return as_picture(figure, f"{prefix}time-to-quality", results, caption)


def _best_so_far(records: Sequence[Record]) -> np.ndarray:
    """`[looks, 3]`: step, seconds, lowest loss, mean over seeds; as many looks as all of them had."""
    curves = [[(point.step, point.seconds, point.val_loss) for point in record.curve] for record in records]
    looks = min((len(curve) for curve in curves), default=0)
    if not looks:
        return np.empty((0, 3))
    stacked = np.array([curve[:looks] for curve in curves])
    stacked[:, :, 2] = np.minimum.accumulate(stacked[:, :, 2], axis=1)
    return np.asarray(stacked.mean(0))


def speed(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Windows per second by batch size, and how the latency of single windows is distributed."""
    timed = {entry.label: cost for entry in results.ranked if (cost := _timed(entry))}
    if not timed:
        return None
    with house_style():
        figure, (by_size, latency) = strip(2, 190, list(timed), pens)
        sizes = sorted({size for cost in timed.values() for size in cost.predict_by_batch_size})
        for label, cost in timed.items():
            pen, rates = pens[label], cost.predict_by_batch_size
            by_size.plot(list(rates), list(rates.values()), pen.marker, color=pen.colour, ls=pen.dash, markersize=4)
            quantiles = cost.latency_quantiles_ms
            shares = np.linspace(0, 100, len(quantiles))
            latency.plot(quantiles, shares, color=pen.colour, linestyle=pen.dash)
        by_size.set(xscale="log", yscale="log", xlabel="windows in a batch", ylabel="windows forecast per second")
        by_size.xaxis.set_major_locator(FixedLocator(sizes))
        by_size.xaxis.set_major_formatter(FuncFormatter(round_tick))
        by_size.xaxis.set_minor_locator(NullLocator())
        by_size.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        by_size.yaxis.set_minor_formatter(NullFormatter())
        _logarithmic(latency, [value for cost in timed.values() for value in cost.latency_quantiles_ms])
        latency.set(xlabel="milliseconds for one window alone", ylabel="percent of calls that took no longer")
        caption = (
            "Speed of forecasting, data on the device already. Left: windows per second by batch size, medians; where "
            "a line is level, larger batches gain nothing. Right: how long single windows took; the steeper, the "
            "steadier."
        )
        return as_picture(figure, f"{prefix}speed", results, caption)


def _timed(entry: Entry) -> Cost | None:
    """The cost of the first seed that was timed beside the fewest workers."""
    costs = [record.cost for record in entry.finished if record.cost and record.cost.predict_by_batch_size]
    return next((cost for cost in costs if cost.shared_by == entry.num_runs_timed), None)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """With round numbers on it, and at least half a decade."""
    positive = [value for value in values if value > 0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    margin = max(0.05 * (high - low), (0.5 - (high - low)) / 2)
    axes.set(xscale="log", xlim=(10 ** (low - margin), 10 ** (high + margin)))
    subs = (1.0,) if high - low > 2 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(round_tick))
    axes.xaxis.set_minor_formatter(NullFormatter())
