"""From a matplotlib figure to an SVG that lives in a page, takes its ink, and has the same bytes for the same input."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn in this, shown in the colour of the surrounding text: dark on light paper, light on dark."""

_NAMESPACE = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tsbench",
    "text.parse_math": False,  # a model's name with two dollar signs is no formula
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.4,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "axes.titlecolor",
            "grid.color",
            "xtick.color",
            "ytick.color",
        ),
        INK,
    ),
}
_LONG_FRACTION = re.compile(r"-?\d+\.\d{3,}")
"""Of a coordinate: a hundredth of a point is finer than any screen, and half the bytes of a line."""
# A picture in a Markdown page is a document of its own: it follows the reader's colour scheme by itself.
_STANDALONE = "svg{color:#1c2024;font-family:system-ui,sans-serif}@media(prefers-color-scheme:dark){svg{color:#e8e6e1}}"


@contextmanager
def house_style() -> Iterator[None]:
    """Draw within this: matplotlib reads its settings when things are made, not when they are saved."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


_kept: ContextVar[list[Figure] | None] = ContextVar("kept", default=None)


@contextmanager
def kept_figures() -> Iterator[list[Figure]]:
    """What is drawn within, as figures; a report lets go of them, because hundreds would fill the memory."""
    found: list[Figure] = []
    token = _kept.set(found)
    try:
        yield found
    finally:
        _kept.reset(token)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one `<svg>` element.

    name: prefixes every id, so that many figures can share a page. description: what a reader who cannot see it gets.
    """
    if (kept := _kept.get()) is not None:
        kept.append(figure)
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    ElementTree.register_namespace("", _NAMESPACE)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    _adopt(root, name)
    root.set("role", "img")
    root.set("aria-label", description)
    title = ElementTree.Element(f"{{{_NAMESPACE}}}title")
    title.text = description
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def standalone(svg: str) -> str:
    """The same picture as a file of its own."""
    head, rest = svg.split(">", 1)
    return f"{head}><style>{_STANDALONE}</style>{rest}\n"


def _adopt(root: ElementTree.Element, name: str) -> None:
    """Make ids unique to this figure, colours and fonts those of the page, and drop what nobody refers to."""
    used = {match for element in root.iter() for match in _references(element)}
    for element in root.iter():
        if (identity := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{identity}")
        for key, value in element.attrib.items():
            element.set(key, _adopted(key, value, name))
        if element.tag == f"{{{_NAMESPACE}}}text":
            element.set("style", re.sub(r"font-family: [^;]*;? ?", "", element.get("style", "")))
        element.tail = None
        if element.tag != f"{{{_NAMESPACE}}}text" and element.text and not element.text.strip():
            element.text = None


def _references(element: ElementTree.Element) -> Iterator[str]:
    link = element.get(f"{{{_XLINK}}}href", "")
    if link.startswith("#"):
        yield link[1:]
    yield from re.findall(r"url\(#([^)]*)\)", element.get("clip-path", ""))


def _adopted(key: str, value: str, name: str) -> str:
    if key == "style":
        return value.replace(INK, "currentColor")
    if key == f"{{{_XLINK}}}href":
        return value.replace("#", f"#{name}-", 1)
    if key == "clip-path":
        return value.replace("url(#", f"url(#{name}-")
    if key in ("d", "x", "y", "transform"):
        return _LONG_FRACTION.sub(lambda number: f"{float(number[0]):.2f}", " ".join(value.split()))
    return value
