"""What the terminal shows while a matrix runs."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
import torch
from rich.console import Console

from tsbench.api import plan_experiment
from tsbench.bench.estimate import Estimate
from tsbench.bench.experiment import parse_experiment
from tsbench.bench.records import DataFacts, PlannedRun, Record
from tsbench.bench.runner import describe_machine
from tsbench.display import Display, in_words
from tsbench.training.progress import Progress


@pytest.fixture(name="planned")
def _planned() -> PlannedRun:
    content = {"datasets": ["synthetic"], "horizons": [6], "context_lengths": [24], "seeds": [0]}
    plan = plan_experiment(parse_experiment({**content, "models": {"[/bold] net": {"model": "gru"}}}, "test")).plan
    return plan.runs[-1]


def failure(planned: PlannedRun, reason: str) -> Record:
    data = DataFacts(
        title="t", source="s", license="l", attribution="", units="", channels=["a"], num_items=1, num_rows=9,
        freq="h", seasonality=1, split={}, notes=[],
    )  # fmt: skip
    machine = describe_machine(torch.device("cpu"))
    created = datetime.now(UTC).isoformat()
    return Record(key="k", run=planned.run, status="failed", reason=reason, created=created, data=data, machine=machine)


def test_square_brackets_in_names_and_reasons_are_shown_as_they_are(planned: PlannedRun):
    shown = io.StringIO()
    reason = "[models.gru]: sizes [/5] and [red] do not fit"

    with Display(Console(file=shown, width=200), [planned], Estimate()) as display:
        display.starts(planned)
        display.ends(planned, failure(planned, reason))

    assert f"[/bold] net on synthetic 24→6, seed 0  failed: {reason}" in shown.getvalue()


def test_a_run_that_is_tried_again_is_said_with_its_reason(planned: PlannedRun):
    shown = io.StringIO()

    with Display(Console(file=shown, width=200), [planned], Estimate(), num_workers=2) as display:
        display.starts(planned)
        display.starts_again(planned, "the worker process died (signal 9)")
        display.starts(planned)
        display.ends(planned, failure(planned, "it died"))

    again, end = shown.getvalue().splitlines()
    assert again.endswith("seed 0  the worker process died (signal 9); it is tried once more")
    assert end.endswith("failed: it died")


def test_each_worker_has_a_bar_of_its_own(planned: PlannedRun):
    other = PlannedRun(label="other", run=planned.run.model_copy(update={"seed": 1}))
    shown = io.StringIO()

    with Display(Console(file=shown, width=200, force_terminal=True), [planned, other], Estimate(), 2) as display:
        display.starts(planned)
        display.starts(other)
        display.advances(planned, Progress(25, 1000, 0.5, 300))
        display.advances(other, Progress(50, 1000, 0.25, 600))
        display._bars.refresh()
        both = shown.getvalue()
        display.ends(planned, failure(planned, "it died"))

    for name, note in (("net", "loss 0.5000  300 windows/s"), ("other", "loss 0.2500  600 windows/s")):
        assert re.search(f"{name} on synthetic.*{note}", both)
    last = shown.getvalue().rsplit("matrix", 1)[1]
    assert "other on synthetic" in last
    assert "net on synthetic" not in last


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")])
def test_a_duration_is_said_as_a_person_would(seconds: float, words: str):
    assert in_words(seconds) == words
