"""Small matrices on the embedded tiny dataset, with as little timing as there can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tsbench.bench import runner
from tsbench.bench.experiment import make_plan, parse_experiment
from tsbench.bench.records import Plan, Record, RecordStore
from tsbench.bench.runner import Observer, run_plan
from tsbench.data.datasets import load_dataset
from tsbench.data.panel import Panel
from tsbench.evaluation.throughput import measure_inference
from tsbench.training.devices import resolve_device

TINY = {
    "datasets": "auckland_pedestrians_tiny",
    "context_lengths": 48,
    "horizons": 12,
    "seeds": 0,
    "recipe": {"max_steps": 4, "validate_every": 2, "batch_size": 8},
}


@pytest.fixture(scope="session")
def tiny_panel() -> Panel:
    return load_dataset("auckland_pedestrians_tiny")


@pytest.fixture(scope="session")
def plan_of(tiny_panel: Panel) -> Callable[..., Plan]:
    """The plan of a tiny experiment with these keys instead: `plan_of(models={"gru": {}}, seeds=[0, 1])`."""

    def make(panel: Panel = tiny_panel, **changes: Any) -> Plan:
        plan, _ = make_plan("tiny", parse_experiment({**TINY, **changes}, "tiny.toml"), lambda name: panel)
        return plan

    return make


@pytest.fixture(scope="module")
def carry_out(tiny_panel: Panel) -> Iterator[Callable[..., dict[str, Record]]]:
    """Execute all runs of a plan in a folder: `carry_out(plan, folder)` gives its records by label.

    Inference is timed by five samples instead of half a second of them: its clock is tested elsewhere.
    """

    def execute(plan: Plan, folder: Path, observer: Observer | None = None) -> dict[str, Record]:
        plan.save(folder)
        panels, device = {tiny_panel.name: tiny_panel}, resolve_device("cpu")
        run_plan(plan, panels, folder, device, plan.runs, observer or Observer())
        store = RecordStore(folder)
        return {planned.label: store.read(planned.run.key()) for planned in plan.runs}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "measure_inference", partial(measure_inference, seconds=0))
        yield execute
