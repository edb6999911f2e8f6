"""The pictures of a report, each as an inline SVG with a caption. None where there is nothing to draw.

A label has one colour, dash and marker in every picture. Every colour has a contrast of at least 3 on light and on dark
paper; names stand beside what they name, so that no reader depends on telling colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tsbench.bench.records import Record, RecordStore
from tsbench.report.labels import TEXT_HEIGHT, place_labels, spread, text_width
from tsbench.report.svg import INK, house_style, to_svg
from tsbench.report.tables import NAIVE, SIMPLE, Entry, Results, TaskResults
from tsbench.report.wording import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.5
"""Inches of 72 points: what the page shows at full width."""
MOST_DRAWN = 24
LEGIBLE = f"the {MOST_DRAWN} best, with the best row of each model that is no network"
NUM_SHOWN_MODELS = 3
MOST_SEEDS_DRAWN = 5
MOST_CHARACTERS, MOST_IN_A_TITLE = 40, 32
"""Of a name in a picture, and above one of its small panels."""

_COLOURS = (
    "#0f7fc4",
    "#d55e00",
    "#0a9370",
    "#c2589b",
    "#8763d0",
    "#a97f0a",
    "#d8435a",
    "#558b2f",
    "#1592a5",
    "#a5602f",
)
ON_TOP: dict[str, Any] = {
    "loc": "upper left",
    "bbox_to_anchor": (0, 1),
    "ncols": 10,
    "frameon": False,
    "borderpad": 0,
    "borderaxespad": 0,
    "columnspacing": 1.2,
    "handlelength": 2.4,
}
"""A legend in the upper left corner of a picture."""
_BELOW, _BESIDE = 40, 54
"""Points around a panel of a strip: for its axis below, and its axis on the left."""
_GREY = "#80858c"
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Pen:
    """How a label is drawn."""

    colour: str
    dash: Any
    marker: str


@dataclass(frozen=True)
class Picture:
    name: str
    """Unique within a report, and a file name."""
    caption: str
    svg: str
    sentences: tuple[str, ...] = ()
    """What it shows, in words, for each model."""


def choose_pens(results: Results) -> dict[str, Pen]:
    """A pen for every label: grey for naive models, then the colours in the order of the plan, then dashed ones."""
    models = {planned.label: planned.run.model for planned in results.plan.runs}
    greys = cycle(Pen(_GREY, dash, marker) for dash, marker in zip(_DASHES[1:], "sDv", strict=True))
    colours = cycle(
        Pen(colour, dash, marker) for dash, marker in zip(_DASHES, "oP^X", strict=True) for colour in _COLOURS
    )
    return {label: next(greys if model in NAIVE else colours) for label, model in models.items()}


def legible(task: TaskResults) -> TaskResults:
    """The task with as many entries as a picture has room for, see `LEGIBLE`; all where they are few."""
    if len(task.entries) <= MOST_DRAWN:
        return task
    yardsticks = [entry for model in SIMPLE if (entry := task.of_model(model))]
    best = [entry for entry in task.entries if entry not in yardsticks][: MOST_DRAWN - len(yardsticks)]
    return replace(task, entries=tuple(entry for entry in task.entries if entry in best or entry in yardsticks))


def accuracy_against_throughput(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Test MSE against windows forecast per second; the front joins the models that no other beats in both."""
    entries = [entry for entry in results.ranked if entry.cost("predict_windows_per_second")]
    if len(entries) < 2:  # a single point says nothing
        return None
    rates = [entry.cost("predict_windows_per_second") or 0.0 for entry in entries]
    errors = [entry.mse for entry in entries]
    ceiling = ceiling_of(errors)
    with house_style():
        figure, axes = _figure(4.9)
        _rate_axis(axes, rates)
        points = []
        for entry, rate in zip(entries, rates, strict=True):
            pen, beyond = pens[entry.label], entry.mse > ceiling
            height, marker = (ceiling, "^") if beyond else (entry.mse, pen.marker)
            bar = 0 if beyond else entry.spread or 0
            axes.errorbar(rate, height, bar, fmt=marker, color=pen.colour, markersize=7, elinewidth=1.2)
            points.append((f"{entry.label} ({entry.mse:.3g})" if beyond else entry.label, rate, height))
        front = pareto_front(rates, errors)
        drawn = [index for index in front if errors[index] <= ceiling]
        axes.plot([rates[i] for i in drawn], [errors[i] for i in drawn], color=INK, alpha=0.35, linewidth=1, zorder=0)
        axes.set(
            xlabel="windows forecast per second  (more is better →)", ylabel="test MSE, scaled  (lower is better ↓)"
        )
        axes.margins(y=0.12)
        _label_points(figure, axes, points, [(rates[i], errors[i]) for i in drawn])
        names = listed([entries[i].label for i in front])
        caption = (
            "Accuracy against throughput, best at the lower right. Bars: ± one standard deviation over seeds. "
            f"The line is the Pareto front: no model is both faster and more accurate than {names}."
        )
        caption += _about_ceiling(
            errors, ceiling, "Triangles at the upper edge stand for errors beyond it, given in brackets."
        )
        return as_picture(figure, f"{prefix}accuracy-throughput", results, caption)


def error_by_step(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Test MSE of each step ahead, mean over seeds."""
    entries = [entry for entry in results.ranked if any(_by_step(record) for record in entry.finished)]
    if not entries:
        return None
    curves = [np.mean([_by_step(record) for record in entry.finished], axis=0) for entry in entries]
    steps = np.arange(1, len(curves[0]) + 1)
    peaks = [float(curve.max()) for curve in curves]
    ceiling = ceiling_of(peaks)
    with house_style():
        figure, axes = _figure(max(4.4, 0.19 * len(entries) + 1))
        for index, (entry, curve) in reversed(list(enumerate(zip(entries, curves, strict=True)))):
            draw_steps(axes, steps, curve, pens[entry.label], 2.4 if index == 0 else 1.3)
        low = min(float(curve.min()) for curve in curves)
        high = max(peak for peak in peaks if peak <= ceiling)
        margin = 0.05 * (high - low) or 0.1 * high or 1.0
        axes.set(xlim=(steps[0] - 0.02 * len(steps), steps[-1]), ylim=(low - margin, high + margin))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set(xlabel="steps ahead", ylabel="test MSE, scaled  (lower is better ↓)")
        _label_ends(
            figure, axes, [(e.label, float(c[-1]), pens[e.label]) for e, c in zip(entries, curves, strict=True)]
        )
        caption = f"Error by step ahead, mean over seeds; {entries[0].label}, the leader, is drawn thick."
        caption += _about_ceiling(peaks, ceiling, "Lines that leave the picture have larger errors than it shows.")
        return as_picture(figure, f"{prefix}error-by-step", results, caption)


def forecasts(results: TaskResults, store: RecordStore, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """A few test windows: the truth and what the leaders and seasonal naive forecast, in original units."""
    shown = leaders(results, NUM_SHOWN_MODELS)
    arrays = {entry.label: store.arrays(entry.finished[0].key) for entry in shown}
    arrays = {label: found for label, found in arrays.items() if "chosen_as" in found}
    if not arrays:
        return None
    first = next(iter(arrays.values()))
    arrays = {label: a for label, a in arrays.items() if np.array_equal(a["target_start"], first["target_start"])}
    data, legend = shown[0].finished[0].data, Legend.of(["truth", *arrays])
    windows = [window for window, why in enumerate(first["chosen_as"]) if why != "evenly spaced"]
    windows += [window for window, why in enumerate(first["chosen_as"]) if why == "evenly spaced"]
    with house_style():
        figure, grid = panels(len(windows), sharey=False, header=legend.height + 14)
        for axes, window in zip(grid, windows, strict=True):
            channel = int(first["channel"][window])
            _draw_window(axes, arrays, pens, window, channel)
            start = str(first["target_start"][window].astype("datetime64[m]")).replace("T", " ")
            series = ", ".join(part for part in (str(first["item"][window]), data.channels[channel]) if part)
            axes.set_title(f"{first['chosen_as'][window]}: {printable(_short(series, 20))}\nfrom {start}", fontsize=10)
        figure.supxlabel("steps from the first forecast", fontsize=10)
        figure.supylabel(printable(data.units) or "original units", fontsize=10)
        handles = [Line2D([], [], color=INK, linewidth=1.8, label="truth")]
        handles += [handle(label, pens[label]) for label in arrays]
        legend.draw(figure, handles)
        caption = (
            f"Forecasts of {listed(list(arrays))} against the truth, first finished seed. Which windows: of all "
            "windows and channels of the test split, those that repeating the last season forecasts best (easiest), in "
            "the middle (median) and worst (hardest); and three evenly spaced, the channels in turn. The same for "
            "every model, and no model had a part in the choice."
        )
        return as_picture(figure, f"{prefix}forecasts", results, caption)


def leaders(results: TaskResults, count: int) -> list[Entry]:
    """The best entries, and seasonal naive to compare them with."""
    shown = results.ranked[:count]
    baseline = results.of_model("seasonal_naive")
    return shown + ([baseline] if baseline and baseline not in shown else [])


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def training_curves(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Training and validation loss against optimizer steps, one small panel per model, one line per seed."""
    entries = [entry for entry in results.entries if any(record.curve for record in entry.records)]
    if not entries:
        return None
    with house_style():
        figure, grid = panels(len(entries), sharey=True)
        for axes, entry in zip(grid, entries, strict=True):
            _draw_curves(axes, entry, pens[entry.label])
        grid[0].set_ylim(*_loss_limits(entries))
        grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        figure.supxlabel("optimizer steps", fontsize=10)
        figure.supylabel("loss", fontsize=10)
        caption = (
            f"Training curves, one line per seed, of at most {MOST_SEEDS_DRAWN} seeds. Solid: validation loss, the dot "
            "marks the kept weights. Dotted: "
            "training loss since the look before. All panels share their axes; the highest values may be cut off."
        )
        return as_picture(figure, f"{prefix}training", results, caption)


def panels(count: int, *, sharey: bool, header: float = 0) -> tuple[Figure, Any]:
    """Small panels, one beside the other, with as few empty places as possible; they share their horizontal axis.

    header: points above them, for a legend. As in `strip`, nothing searches for a layout.
    """
    columns = min(min((4, 5, 3), key=lambda columns: (-count % columns, abs(columns - 4))), count)
    rows = math.ceil(count / columns)
    width, height, between, gap = 72 * WIDTH, 92.0, 36.0, 10.0 if sharey else 40.0
    total = header + 20 + rows * height + (rows - 1) * between + 40
    panel_width = (width - 64 - 8 - (columns - 1) * gap) / columns
    figure = Figure(figsize=(WIDTH, total / 72), dpi=72)
    room = {
        "left": 64 / width,
        "right": 1 - 8 / width,
        "bottom": 40 / total,
        "top": 1 - (header + 20) / total,
        "wspace": gap / panel_width,
        "hspace": between / height,
    }
    grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False, gridspec_kw=room).ravel()
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[max(0, count - columns) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, grid[:count]


def strip(
    count: int,
    height: float,
    labels: Sequence[str],
    pens: dict[str, Pen],
    *,
    titled: bool = False,
    points: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Panels of this height in points, two or three abreast, with one legend above, and no search for a layout.

    Such a search draws everything three times, and these pictures are many. titled: with room for titles. points: the
    legend shows markers.
    """
    columns = min(count, 2 if count in (2, 4) else 3)
    rows = math.ceil(count / columns)
    width, legend = 72 * WIDTH, Legend.of(labels)
    above = 24 if titled else 10
    total = legend.height + rows * (height + above + _BELOW)
    figure = Figure(figsize=(WIDTH, total / 72), dpi=72)
    grid = []
    for place in range(count):
        row, column = divmod(place, columns)
        left = column * width / columns + _BESIDE
        bottom = total - legend.height - (row + 1) * (height + above + _BELOW) + _BELOW
        size = (width / columns - _BESIDE - 10) / width, height / total
        grid.append(figure.add_axes((left / width, bottom / total, *size)))
    legend.draw(figure, [handle(label, pens[label], points=points) for label in labels])
    return figure, grid


class Legend(NamedTuple):
    """Names above a picture, as many abreast as there is room for."""

    abreast: int
    height: float
    """Points."""

    @classmethod
    def of(cls, labels: Sequence[str]) -> Legend:
        widest = max(text_width(drawn(label)) for label in labels) + 38
        abreast = min(max(1, int(72 * WIDTH / widest)), len(labels))
        return cls(abreast, 17 * math.ceil(len(labels) / abreast) + 6)

    def draw(self, figure: Figure, handles: Sequence[Line2D]) -> None:
        figure.legend(handles=list(handles), **ON_TOP | {"ncols": self.abreast})


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), dpi=72, layout="constrained")
    return figure, figure.add_subplot()


def as_picture(figure: Figure, name: str, results: TaskResults, caption: str) -> Picture:
    """With its caption as the text for those who cannot see it."""
    return Picture(name, caption, to_svg(figure, name, printable(f"{results.task}. {caption}")))


def printable(text: str) -> str:
    """Without control characters, which no SVG may hold."""
    return "".join(character for character in text if character.isprintable())


def drawn(label: str, most: int = MOST_CHARACTERS) -> str:
    """A name as a picture has room for: of a long one the beginning and the end, where siblings differ."""
    text = printable(label)
    head = most // 3
    return text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"


def _rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """Logarithmic, with room at both ends, and at least a decade."""
    low, high = math.log10(min(rates)), math.log10(max(rates))
    margin = max(0.07 * (high - low), (1 - (high - low)) / 2)
    axes.set(xscale="log", xlim=(10 ** (low - margin), 10 ** (high + margin)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high - low > 3 else (1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(round_tick))
    axes.xaxis.set_minor_formatter(NullFormatter())


def round_tick(value: float, _: Any) -> str:
    """Round values on axes: 20k, not 20.0k."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:g}{prefix}"
    return f"{value:,g}".replace("-", "−")


def ceiling_of(values: Sequence[float]) -> float:
    """Where to cut an axis so that a few hopeless models do not flatten the differences between the others."""
    low, middle, high = min(values), float(np.median(values)), max(values)
    limit = middle + 8 * max(middle - low, 0.1 * middle)
    return high if high <= limit else max(value for value in values if value <= limit)


def _about_ceiling(values: Sequence[float], ceiling: float, words: str) -> str:
    return f" {words}" if max(values) > ceiling else ""


def draw_steps(axes: Axes, x: Any, y: Any, pen: Pen, width: float) -> None:
    """A line; a point where there is a single step."""
    marker = pen.marker if len(x) == 1 else "none"
    axes.plot(x, y, marker=marker, linestyle=pen.dash, color=pen.colour, linewidth=width, clip_on=len(x) > 1)


def pareto_front(rates: Sequence[float], errors: Sequence[float]) -> list[int]:
    """Indices of the points that no other is both faster and more accurate than, from fast to slow."""
    front: list[int] = []
    for index in sorted(range(len(rates)), key=lambda i: (-rates[i], errors[i])):
        if not front or errors[index] < errors[front[-1]]:
            front.append(index)
    return front


def _label_points(
    figure: Figure, axes: Axes, points: list[tuple[str, float, float]], line: list[tuple[float, float]]
) -> None:
    figure.draw_without_rendering()  # so that the layout is known
    places = [tuple(axes.transData.transform((x, y))) for _, x, y in points]
    corners_of_line = [tuple(axes.transData.transform(corner)) for corner in line]
    area = axes.get_window_extent()
    names = [drawn(name) for name, _, _ in points]
    corners = place_labels(places, names, (area.x0, area.y0, area.x1, area.y1), corners_of_line)
    for name, (_, x, y), place, corner in zip(names, points, places, corners, strict=True):
        offset = corner[0] - place[0], corner[1] - place[1]
        nearest = min(max(place[0], corner[0]), corner[0] + text_width(name)), corner[1] + TEXT_HEIGHT / 2
        far = math.dist(place, nearest) > 14
        axes.annotate(
            name,
            (x, y),
            offset,
            textcoords="offset points",
            va="bottom",
            fontsize=10,
            annotation_clip=False,
        )
        if far:
            end = axes.transData.inverted().transform(nearest)
            axes.plot(
                [x, end[0]], [y, end[1]], color=INK, alpha=0.3, linewidth=0.6, zorder=0, scalex=False, scaley=False
            )


def _label_ends(figure: Figure, axes: Axes, lines: list[tuple[str, float, Pen]]) -> None:
    """Names at the right ends of lines, moved apart, each tied to its line by a stroke of the same colour."""
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    room = max(text_width(drawn(name)) for name, _, _ in lines) + 20
    layout.set(rect=(0, 0, 1 - room / (72 * WIDTH), 1))
    figure.draw_without_rendering()
    area = axes.get_window_extent()
    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    ends = [min(end, top) for _, end, _ in lines]
    heights = [float(axes.transData.transform((right, end))[1]) for end in ends]
    places = spread(heights, TEXT_HEIGHT + 1, area.y0 - 12, area.y1 - 4)
    for (name, _, pen), end, height, place in zip(lines, ends, heights, places, strict=True):
        text = axes.annotate(
            drawn(name),
            (right, end),
            (20, place - height),
            textcoords="offset points",
            va="center",
            fontsize=10,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": pen.colour, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
        )
        text.set_in_layout(False)


def handle(label: str, pen: Pen, *, points: bool = False) -> Line2D:
    name = " " + drawn(label)
    if points:
        return Line2D([], [], color=pen.colour, marker=pen.marker, linestyle="none", label=name)
    return Line2D([], [], color=pen.colour, linestyle=pen.dash, linewidth=1.6, label=name)


def _by_step(record: Record) -> list[float]:
    return record.metrics.by_step.get("mse_scaled", []) if record.metrics else []


def _draw_window(axes: Axes, arrays: dict[str, Any], pens: dict[str, Pen], window: int, channel: int) -> None:
    first = next(iter(arrays.values()))
    target = first["target"][window, :, channel]
    context = first["context"][window, -2 * len(target) :, channel]
    steps = np.arange(1, len(target) + 1)
    axes.axvline(0.5, color=INK, linewidth=0.6, alpha=0.4)
    axes.plot(np.arange(1 - len(context), len(target) + 1), np.concatenate([context, target]), color=INK, linewidth=1.6)
    for label, found in arrays.items():
        draw_steps(axes, steps, found["forecast"][window, :, channel], pens[label], 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(round_tick))
    axes.margins(x=0.01)


def _draw_curves(axes: Axes, entry: Entry, pen: Pen) -> None:
    for record in entry.records[:MOST_SEEDS_DRAWN]:
        steps = [point.step for point in record.curve]
        losses = [point.val_loss for point in record.curve]
        axes.plot(steps, [point.train_loss for point in record.curve], color=pen.colour, linestyle=":", linewidth=1)
        axes.plot(steps, losses, color=pen.colour, linewidth=1.3)
        if record.cost and record.cost.best_step in steps:
            axes.plot(
                record.cost.best_step, losses[steps.index(record.cost.best_step)], "o", color=pen.colour, markersize=4
            )
    failed = f"  ({len(entry.failed)} failed)" if entry.failed else ""
    axes.set_title(drawn(entry.label, MOST_IN_A_TITLE) + failed, fontsize=10)


def _loss_limits(entries: list[Entry]) -> tuple[float, float]:
    """Room for all but the first look at the slowest starters, so that one high start does not flatten the rest."""
    points = [point for entry in entries for record in entry.records for point in record.curve]
    losses = [loss for point in points for loss in (point.train_loss, point.val_loss) if math.isfinite(loss)]
    if not losses:
        return 0.0, 1.0
    low, high = min(losses), float(np.quantile(losses, 0.97))
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    return low - margin, high + margin
