"""Where to write names in a picture so that none covers another. All lengths are in points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

TEXT_HEIGHT = 11.0
_CHARACTER_WIDTH = 5.6
_POINT_RADIUS = 5.0
# Right of its point is where a reader looks first, then left, then above and below, then the diagonals.
_ANGLES = (0, 180, 90, 270, 40, 140, 320, 220, 65, 115, 295, 245)
_DISTANCES = (9, 18, 30, 45, 65)

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""left, bottom, right, top"""


def text_width(text: str) -> float:
    """An estimate from above: the reader's font is not known when the picture is drawn."""
    return _CHARACTER_WIDTH * len(text) + 2


def place_labels(
    points: Sequence[Point], texts: Sequence[str], bounds: Box, line: Sequence[Point] = ()
) -> list[tuple[float, float]]:
    """The lower left corner of each text, near its point: the first free place, else the one that covers least.

    line: corners of a line that is not to be written over either.
    """
    taken = [_around(x, y) for x, y in [*points, *_along(line)]]
    corners = []
    for (x, y), text in zip(points, texts, strict=True):
        boxes = _candidates(x, y, text_width(text))
        costs = [_outside(box, bounds) + sum(_overlap(box, other) for other in taken) for box in boxes]
        box = boxes[costs.index(min(costs))]
        taken.append(box)
        corners.append(box[:2])
    return corners


def spread(positions: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """The positions moved apart to at least `gap`, in their order, with the least squared movement that fits.

    Isotonic regression (pool adjacent violators) of the positions less the room that their predecessors need.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    pools: list[tuple[float, int]] = []
    for place, index in enumerate(order):
        pools.append((positions[index] - place * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, few), (high, many) = pools.pop(), pools.pop()
            pools.append(((low * few + high * many) / (few + many), few + many))
    levels = [level for level, size in pools for _ in range(size)]
    highest = max(bottom, top - (len(order) - 1) * gap)
    result = [0.0] * len(positions)
    for place, (index, level) in enumerate(zip(order, levels, strict=True)):
        result[index] = min(max(level, bottom), highest) + place * gap
    return result


def _candidates(x: float, y: float, width: float) -> list[Box]:
    boxes = []
    for distance in _DISTANCES:
        for angle in _ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + distance * dx - width * (1 - dx) / 2
            bottom = y + distance * dy - TEXT_HEIGHT / 2
            boxes.append((left, bottom, left + width, bottom + TEXT_HEIGHT))
    return boxes


def _around(x: float, y: float) -> Box:
    return x - _POINT_RADIUS, y - _POINT_RADIUS, x + _POINT_RADIUS, y + _POINT_RADIUS


def _along(line: Sequence[Point]) -> list[Point]:
    """Points on a line, close enough that no text fits between two of them."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(line):
        count = 1 + int(math.dist((x0, y0), (x1, y1)) / _POINT_RADIUS)
        found += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count)]
    return found


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box, bounds: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, bounds)
