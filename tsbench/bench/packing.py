"""Whether the seeds of a run are trained together, as a few steps of both ways say. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from statistics import median
from typing import Any

from tsbench.bench.records import Packing, PlannedRun, Run, write_durably
from tsbench.data.files import cache_dir
from tsbench.errors import MachineError
from tsbench.models.registry import model_spec

PACKS = ("auto", "never", "always")
"""When seeds are trained together: where a measurement says that it pays, never, or wherever it is possible."""

PAYS = 1.1
"""So many times as fast it must be: less would be lost in the noise of the measurement."""

FEW_STEPS = 500
"""With fewer steps in a run the measurement, of 16 steps, would cost more than a thirtieth of the training."""

_TURNS, _LONG_SECONDS = 3, 2.0
"""Turns of both ways, and the seconds after which no further turn begins."""


def grouped(runs: Iterable[PlannedRun], pack: str) -> list[list[PlannedRun]]:
    """Runs that differ in their seed alone, each group at the place of its first; every run by itself with `never`."""
    groups: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        run = planned.run
        alone = pack == "never" or not model_spec(run.model).learned
        groups.setdefault(run.key() if alone else run.model_copy(update={"seed": 0}).key(), []).append(planned)
    return list(groups.values())


def decide(
    runs: list[Run], pack: str, where: dict[str, Any], together: Callable[[], float], alone: Callable[[], float]
) -> Packing:
    """Whether these runs, which differ in their seed alone, are to be trained together.

    where: the machine, and what else the answer depends on; what was measured there once is not measured again.
    together, alone: take a few steps, and return the seconds of a step, and of a seed's share in a step of all.

    Raises what they raise.
    """
    if pack == "always":
        return Packing(seeds=len(runs), reason="--pack always")
    if runs[0].recipe.max_steps < FEW_STEPS:
        return Packing(seeds=1, reason=f"not measured: fewer than {FEW_STEPS} steps")
    path = cache_dir() / "packing" / f"{_question(runs, where)}.json"
    try:
        speedup = float(json.loads(path.read_bytes())["speedup"])
    except (OSError, ValueError, KeyError, TypeError):  # never asked, or something else
        speedup = _ratio(alone, together)
        text = json.dumps({"speedup": speedup}).encode()
        with suppress(MachineError):  # a cache that cannot be written: it will be measured again
            write_durably(path, lambda file: file.write(text))
    pays = speedup >= PAYS
    reason = "it pays" if pays else f"it does not pay: less than {PAYS:g} times as fast"
    return Packing(seeds=len(runs) if pays else 1, speedup=speedup, reason=reason)


def _question(runs: list[Run], where: dict[str, Any]) -> str:
    """Sixteen hex digits of all that the answer could depend on."""
    run = runs[0].model_dump(mode="json", exclude={"seed", "dataset", "fingerprint", "pretrained_digest"})
    for key in ("max_steps", "validate_every", "patience", "learning_rate", "pretrained"):
        del run["recipe"][key]
    asked = {"run": run, "seeds": len(runs), **where}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _ratio(alone: Callable[[], float], together: Callable[[], float]) -> float:
    """The median of turns of both, so that what disturbs the machine disturbs both."""
    start = time.perf_counter()
    ratios: list[float] = []
    while len(ratios) < _TURNS and (not ratios or time.perf_counter() - start < _LONG_SECONDS):
        seconds = together()
        ratios.append(alone() / seconds)
    return round(median(ratios), 3)
