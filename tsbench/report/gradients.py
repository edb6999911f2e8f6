"""The picture of gradients: how large they are in each layer, and how far into the past they reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tsbench.bench.records import GradientPoint
from tsbench.report.figures import MOST_IN_A_TITLE, WIDTH, Pen, Picture, drawn, printable
from tsbench.report.labels import TEXT_HEIGHT, spread, text_width
from tsbench.report.svg import house_style, to_svg
from tsbench.report.tables import TaskResults
from tsbench.report.wording import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_COLUMNS = 3
"""Models side by side; more go below."""
NUM_NAMED_LAYERS = 6
NAME_LENGTH = 18
"""Characters from which on a layer's name is shortened."""
DEPTH = 1e-10
"""Of the largest gradient: what is smaller leaves the picture, or one model that forgets would flatten the others."""

_NAME_GAP = 14
"""Points between the end of a line and its name."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Looks = list[GradientPoint]


def gradient_norms(results: TaskResults, pens: dict[str, Pen], prefix: str = "") -> Picture | None:
    """Two panels per model: norms by layer over steps, and norms by row of the context at the first and last look.

    Of each label's first finished seed that has recorded them.
    """
    recorded = {
        entry.label: looks
        for entry in results.entries
        if (looks := next((record.gradients for record in entry.finished if record.gradients), None))
    }
    if not recorded:
        return None
    columns = min(NUM_COLUMNS, len(recorded))
    bands = math.ceil(len(recorded) / columns)
    with house_style():
        figure = Figure(figsize=(WIDTH, 4.4 * bands + 0.2), dpi=72, layout="constrained")
        grid = figure.subplots(2 * bands, columns, squeeze=False)
        above, below = list(grid[::2].flat), list(grid[1::2].flat)
        for axes in above[len(recorded) :] + below[len(recorded) :]:
            axes.remove()
        above, below = above[: len(recorded)], below[: len(recorded)]
        for upper, lower, (label, looks) in zip(above, below, recorded.items(), strict=True):
            upper.set_title(drawn(label, MOST_IN_A_TITLE), fontsize=10)
            _draw_layers(upper, looks, pens[label])
            _draw_rows(lower, looks, pens[label])
        _share_scale(above, columns, "norm by layer")
        _share_scale(below, columns, "norm by row")
        _name_layers(figure, above, list(recorded.values()))
        caption = _caption(recorded)
        sentences = tuple(line for label, looks in recorded.items() if (line := _about_reach(label, looks)))
        name = f"{prefix}gradients"
        return Picture(name, caption, to_svg(figure, name, printable(f"{results.task}. {caption}")), sentences)


def _draw_layers(axes: Axes, looks: Looks, pen: Pen) -> None:
    steps = [point.step for point in looks]
    for layer in looks[-1].by_layer:
        norms = [point.by_layer.get(layer, math.nan) for point in looks]
        marker = "o" if len(looks) == 1 else "none"
        axes.plot(steps, norms, color=pen.colour, linewidth=1.2, marker=marker, markersize=4)
    axes.set_xlabel("optimizer steps")


def _draw_rows(axes: Axes, looks: Looks, pen: Pen) -> None:
    for point, style in zip(reversed(_ends(looks)), "-:", strict=False):
        axes.plot(range(-len(point.by_row), 0), point.by_row, color=pen.colour, linestyle=style, linewidth=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_xlabel("rows before the forecast")
    axes.margins(x=0.02)


def _ends(looks: Looks) -> Looks:
    """The first and the last look; one where there is no other."""
    return looks[:1] + looks[1:][-1:]


def _share_scale(panels: Sequence[Axes], columns: int, title: str) -> None:
    """One logarithmic axis for all panels of a kind, written at the left ones."""
    norms = np.array([norm for axes in panels for line in axes.lines for norm in np.ravel(line.get_ydata())])
    seen = norms[(norms > 0) & np.isfinite(norms)]
    high, low = (seen.max(), max(seen.min(), DEPTH * seen.max())) if len(seen) else (1.0, 0.1)
    margin = 1.2 * (high / low) ** 0.05
    for place, axes in enumerate(panels):
        for line in axes.lines:  # zero has no place on such an axis: it is drawn as far down as can no longer be seen
            line.set_ydata(np.maximum(np.asarray(line.get_ydata(), dtype=float), low / margin**3))
        axes.set(yscale="log", ylim=(low / margin, high * margin))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0), numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.yaxis.set_minor_formatter(NullFormatter())
        if place % columns:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(title)


def _tick(value: float, _: Any) -> str:
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    return f"10{str(round(math.log10(value))).translate(_SUPERSCRIPTS)}"


def _name_layers(figure: Figure, panels: Sequence[Axes], recorded: Sequence[Looks]) -> None:
    """Names of layers beside the right ends of their lines, moved apart."""
    names = [_named(looks) for looks in recorded]
    figure.draw_without_rendering()  # so that the layout is known
    _make_room(
        panels, recorded, _NAME_GAP + max((text_width(name) for named in names for name in named.values()), default=0)
    )
    for axes, named in zip(panels, names, strict=True):
        ends = [np.asarray(axes.lines[place].get_xydata())[-1] for place in named]
        area = axes.get_window_extent()
        heights = [float(axes.transData.transform(end)[1]) for end in ends]
        moved = spread(heights, TEXT_HEIGHT, area.y0 + TEXT_HEIGHT / 2, area.y1 - TEXT_HEIGHT / 2)
        for name, end, height, place in zip(named.values(), ends, heights, moved, strict=True):
            axes.annotate(
                name,
                tuple(end),
                (_NAME_GAP, place - height),
                textcoords="offset points",
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": axes.lines[0].get_color(), "shrinkA": 1, "shrinkB": 0},
            )


def _named(looks: Looks) -> dict[int, str]:
    """Place and name of layers: of all, or of some that are evenly spaced over the depth."""
    layers = list(looks[-1].by_layer)
    places = np.linspace(0, len(layers) - 1, NUM_NAMED_LAYERS).round().astype(int).tolist() if layers else []
    return {place: _shortened(printable(layers[place])) for place in places}


def _make_room(panels: Sequence[Axes], recorded: Sequence[Looks], room: float) -> None:
    """The same steps in all panels, with so many points free behind the last of them."""
    first, last = min(looks[0].step for looks in recorded), max(looks[-1].step for looks in recorded)
    width, length = panels[0].get_window_extent().width, max(last - first, 1)
    ticks = [step for step in MaxNLocator(4, integer=True).tick_values(first, last) if first <= step <= last]
    for axes in panels:
        axes.set_xlim(first - 0.04 * length, last + 1.08 * length * room / (width - room))
        axes.set_xticks(ticks)


def _shortened(name: str) -> str:
    """Words of a long name become their first letters, from the left: e.l.0.s.out_proj."""
    words = name.split(".")
    for place in range(len(words) - 1):
        if len(".".join(words)) > NAME_LENGTH:
            words[place] = words[place][:1]
    return ".".join(words)


def _caption(recorded: dict[str, Looks]) -> str:
    return (
        "Norms of the gradient of the training loss, first finished seed, on logarithmic scales that all models share. "
        "Above: by the weights of a layer, before clipping, mean over the steps since the look before. Below: by the "
        "rows of the context as the model sees it, mean over the windows of the first step; dotted at the first look "
        f"(step {min(looks[0].step for looks in recorded.values())}), solid at the last. Lines that leave a panel at "
        f"the bottom fall below {power(DEPTH)} of the largest gradient in the row of panels."
    )


def _about_reach(label: str, looks: Looks) -> str:
    """How much of the gradient arrives at the oldest rows; empty where the newest get none to compare with."""
    shares = [share for point in _ends(looks) if (share := _reach(point.by_row)) is not None]
    if not shares:
        return ""
    earlier = f", {power(shares[0])} at the first" if len(shares) > 1 else ""
    zero = "; 0 is less than the smallest number of its precision" if 0 in shares else ""
    return (
        f"{label}: the gradient at the oldest tenth of the context is {power(shares[-1])} of that at the newest tenth "
        f"at the last look{earlier}{zero}."
    )


def _reach(by_row: list[float]) -> float | None:
    """Mean norm over the oldest tenth of the rows, divided by that over the newest."""
    tenth = max(1, len(by_row) // 10)
    oldest, newest = sum(by_row[:tenth]), sum(by_row[-tenth:])
    return oldest / newest if newest > 0 and math.isfinite(oldest) and math.isfinite(newest) else None
