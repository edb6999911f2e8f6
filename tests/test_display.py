"""What the terminal shows while a matrix runs."""

from __future__ import annotations

import io
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


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")])
def test_a_duration_is_said_as_a_person_would(seconds: float, words: str):
    assert in_words(seconds) == words
