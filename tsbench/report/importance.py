"""The pictures of what the forecasts rest on: importance by lag, and where a Transformer's layers look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tsbench.report.figures import MOST_IN_A_TITLE, ON_TOP, WIDTH, Pen, Picture, drawn, panels, printable
from tsbench.report.peaks import METHODS, Explained, sentence
from tsbench.report.svg import INK, house_style, to_svg
from tsbench.report.tables import Task, TaskResults
from tsbench.report.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SEASONS = 16
"""That are marked; of more, the first alone."""
_MOST_CELLS = 24
"""Along a side of an attention map."""
_METHOD_DASHES: dict[str, Any] = {"integrated_gradients": "-", "occlusion": (0, (4, 1.5)), "grad_cam": (0, (1.2, 1.2))}


def importance_by_lag(
    results: TaskResults, explained: Sequence[Explained], pens: dict[str, Pen], prefix: str = ""
) -> Picture | None:
    """Share of each lag in what moves a forecast, one small panel per model, one line per method."""
    if not explained:
        return None
    methods = [name for name in METHODS if any(name in found.explanation.importance for found in explained)]
    with house_style():
        figure, grid = panels(len(explained), sharey=False, header=20)
        for axes, found in zip(grid, explained, strict=True):
            _draw_lags(axes, found, pens[found.label])
        grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        figure.supxlabel("lag: forecast row less context row", fontsize=10)
        figure.supylabel("share of the importance", fontsize=10)
        handles = [
            Line2D([], [], color=INK, linestyle=_METHOD_DASHES[name], linewidth=1.4, label=METHODS[name])
            for name in methods
        ]
        figure.legend(handles=handles, **ON_TOP)
        first, numbers = explained[0].explanation, sorted({found.explanation.num_windows for found in explained})
        fewer = f"{numbers[0]} to " if len(numbers) > 1 else ""
        caption = (
            f"Importance by lag, first seed, {fewer}{counted(numbers[-1], 'test window')} and "
            f"{counted(first.num_channels, 'channel')}, mean over {counted(len(first.steps_S), 'step')} ahead. How "
            "much each row of the context moves a forecast, without sign; rows are compared with the window's mean, "
            "inside the instance normalisation. Each panel has a scale of its own."
        )
        season = max(found.seasonality for found in explained)
        if season > 1:
            caption += f" Upright lines: the season of {season} rows and its multiples."
        if "grad_cam" in methods:
            caption += " Grad-CAM shows where the filters of the last convolution that matter are active."
        description = printable(f"{results.task}. {caption}")
        name = f"{prefix}importance"
        return Picture(name, caption, to_svg(figure, name, description), tuple(map(sentence, explained)))


def attention_maps(
    results: TaskResults, explained: Sequence[Explained], pens: dict[str, Pen], prefix: str = ""
) -> Picture | None:
    """Which rows of the context a Transformer's tokens attend to, one panel per layer."""
    explained = [found for found in explained if found.explanation.attention]
    if not explained:
        return None
    columns = max(4, *(len(found.explanation.attention) for found in explained))
    with house_style():
        figure = Figure(figsize=(WIDTH, 2.6 * len(explained) + 0.4), dpi=72, layout="constrained")
        for part, found in zip(figure.subfigures(len(explained), 1, squeeze=False)[:, 0], explained, strict=True):
            part.suptitle(printable(found.label), x=0.02, horizontalalignment="left", fontsize=10.5)
            row = part.subplots(1, columns)
            layers = found.explanation.attention.items()
            for axes, (layer, weights) in zip(row, layers, strict=False):
                _draw_attention(axes, layer, weights, results.task, pens[found.label].colour)
            for axes in row[len(layers) :]:
                axes.remove()
        figure.supxlabel("rows attended to; the forecast starts at 0", fontsize=10)
        figure.supylabel("rows of the token that attends", fontsize=10)
        caption = (
            "Attention maps, mean over windows, channels and heads: the darker, the more attention; each line of a map "
            "sums to one. Decoder layers: what the queries of the horizon read of the context; all others: tokens of "
            "the context among themselves. Attention is where a layer looks, not what its forecast rests on."
        )
        description = printable(f"{results.task}. {caption}")
        name = f"{prefix}attention"
        return Picture(name, caption, to_svg(figure, name, description))


def _draw_lags(axes: Axes, found: Explained, pen: Pen) -> None:
    explanation, season = found.explanation, found.seasonality
    for method in explanation.importance:
        shares_K = explanation.by_lag(method)
        axes.plot(
            range(1, len(shares_K)), shares_K[1:], color=pen.colour, linestyle=_METHOD_DASHES[method], linewidth=1.2
        )
    seasons = range(season, len(shares_K), season) if season > 1 else ()
    for lag in seasons if len(seasons) <= _MOST_SEASONS else seasons[:1]:
        axes.axvline(lag, color=INK, linewidth=0.6, alpha=0.3, zorder=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    axes.set_xlim(0, len(shares_K))
    axes.set_ylim(bottom=0)
    axes.set_title(drawn(found.label, MOST_IN_A_TITLE), fontsize=10)


def _draw_attention(axes: Axes, layer: str, weights: np.ndarray, task: Task, colour: str) -> None:
    weights = _coarser(weights)
    asking = (0, task.horizon) if layer.startswith("decoder") else (-task.context_length, 0)
    edges = (
        np.linspace(*span, count + 1)
        for span, count in zip(((-task.context_length, 0), asking), weights.shape[::-1], strict=True)
    )
    # From nothing to the colour: it works on light and on dark paper.
    shades = LinearSegmentedColormap.from_list("attention", [to_rgba(colour, 0.0), to_rgba(colour, 1.0)])
    axes.pcolormesh(*edges, weights, cmap=shades, vmin=0, vmax=weights.max(), clip_on=False)
    axes.set_title(layer, fontsize=10)
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))


def _coarser(weights: np.ndarray) -> np.ndarray:
    """At most `_MOST_CELLS` a side, so that a token per row makes no picture of megabytes; rows still sum to one."""
    heights, widths = (-(-size // _MOST_CELLS) for size in weights.shape)
    summed = np.add.reduceat(weights, range(0, weights.shape[1], widths), axis=1)
    rows = range(0, weights.shape[0], heights)
    return np.add.reduceat(summed, rows, axis=0) / np.diff([*rows, len(weights)])[:, None]
