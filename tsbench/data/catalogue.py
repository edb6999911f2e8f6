"""The datasets that have a card: their groups, and the list of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from textwrap import wrap

from tsbench.data.cards import DatasetCard, list_cards, load_card
from tsbench.data.unpacking import in_bytes
from tsbench.errors import unknown

GROUP = "group:"
"""Before a name: the group is meant, even where an experiment or a folder has its name."""


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """The datasets of each group, by its name."""
    found: dict[str, list[str]] = {}
    for card in map(load_card, list_cards()):
        for group in card.groups:
            found.setdefault(group, []).append(card.name)
    return {group: tuple(found[group]) for group in sorted(found)}


def is_group(name: str) -> bool:
    """Whether a name, with or without `group:` before it, stands for several datasets."""
    return name.startswith(GROUP) or (name not in list_cards() and name in groups())


def members(names: Iterable[str]) -> list[str]:
    """The names, with its datasets in the place of each group; each once. Raises ConfigError for an unknown group."""
    return list(dict.fromkeys(member for name in names for member in _members(name)))


def _members(name: str) -> Sequence[str]:
    if not is_group(name):
        return (name,)
    group = name.removeprefix(GROUP)
    if group not in groups():
        raise unknown("group", group, groups(), where="datasets")
    return groups()[group]


def listing(cards: Sequence[DatasetCard], here: Collection[str], width: int | None) -> Iterator[str]:
    """The lines that `tsbench datasets list` prints.

    here: the names of the cards whose files are here. width: of the terminal; None where there is none. Where licences
    and titles do not fit beside the other columns, they get lines of their own: nothing is ever cut.
    """
    lines = list(_aligned([_HEADER, *(_row(card, card.name in here) for card in cards)]))
    beside = [*_aligned([("licence",), *((card.license,) for card in cards)])]
    titles = ["title", *(card.title for card in cards)]
    wide = [f"{line}  {licence}  {title}" for line, licence, title in zip(lines, beside, titles, strict=True)]
    if width is None or max(map(len, wide)) <= width:
        yield from wide
        return
    yield lines[0]
    for line, card in zip(lines[1:], cards, strict=True):
        yield line
        yield from wrap(f"{card.title} ({card.license})", width, initial_indent="  ", subsequent_indent="  ")


_HEADER = ("name", "freq", "items", "rows", "size", "here")
_TO_RIGHT = {"items", "rows", "size"}


def _row(card: DatasetCard, is_here: bool) -> tuple[str, ...]:
    sizes = [part.size for part in card.each_file()]
    counts = [f"{count:,}" if count else "" for count in (card.num_items, card.num_rows)]
    size = "" if None in sizes else in_bytes(sum(size for size in sizes if size))
    return card.name, card.freq or "", *counts, size, "yes" if is_here else "no"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of cells, the first of which is the header, as lines with columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(rows[0], row, widths, strict=True)
        yield "  ".join(cell.rjust(size) if head in _TO_RIGHT else cell.ljust(size) for head, cell, size in cells)
