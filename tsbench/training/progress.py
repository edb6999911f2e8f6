"""Where a training stands, as its observers are told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Told after each chunk of steps."""

    step: int
    max_steps: int
    loss: float
    windows_per_second: float
