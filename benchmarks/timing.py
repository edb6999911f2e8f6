"""Two ways of doing the same, timed in turns: A B A B, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Result:
    """How many times as fast ours is as the other."""

    section: str
    name: str
    other: str
    goal: float | None
    ratios: list[float]
    """Other's seconds / our seconds, one per turn."""
    our_seconds: list[float]
    other_seconds: list[float]
    """Per unit of work: a window, a step, a run. With the unit MiB both are memory."""
    unit: str

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def reached(self) -> bool:
        return self.goal is None or self.ratio >= self.goal


def compare(
    section: str,
    name: str,
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    other_name: str,
    unit: str,
    goal: float | None = None,
    repeats: int = 5,
) -> Result:
    """Both return the seconds of one unit of work. One turn of each goes first and is forgotten."""
    ours(), other()
    pairs = [(ours(), other()) for _ in range(repeats)]
    return Result(
        section=section,
        name=name,
        other=other_name,
        goal=goal,
        ratios=[theirs / mine for mine, theirs in pairs],
        our_seconds=[mine for mine, _ in pairs],
        other_seconds=[theirs for _, theirs in pairs],
        unit=unit,
    )


def seconds_of(work: Callable[[], int]) -> Callable[[], float]:
    """Seconds per unit of something that returns how many units it did."""

    def timed() -> float:
        start = time.perf_counter()
        units = work()
        return (time.perf_counter() - start) / units

    return timed
