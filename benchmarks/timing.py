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
    (result,) = compare_with_each(section, name, ours, {other_name: (other, goal)}, unit=unit, repeats=repeats)
    return result


def compare_with_each(
    section: str,
    name: str,
    ours: Callable[[], float],
    others: dict[str, tuple[Callable[[], float], float | None]],
    *,
    unit: str,
    repeats: int = 5,
) -> list[Result]:
    """The same for several others by name, each with its goal: A B C A B C."""
    turns = [(ours(), *(other() for other, _ in others.values())) for _ in range(1 + repeats)][1:]
    our_seconds, *seconds_of_others = map(list, zip(*turns, strict=True))
    return [
        Result(
            section=section,
            name=name,
            other=other_name,
            goal=goal,
            ratios=[theirs / mine for mine, theirs in zip(our_seconds, other_seconds, strict=True)],
            our_seconds=our_seconds,
            other_seconds=other_seconds,
            unit=unit,
        )
        for (other_name, (_, goal)), other_seconds in zip(others.items(), seconds_of_others, strict=True)
    ]


def seconds_of(work: Callable[[], int]) -> Callable[[], float]:
    """Seconds per unit of something that returns how many units it did."""

    def timed() -> float:
        start = time.perf_counter()
        units = work()
        return (time.perf_counter() - start) / units

    return timed
