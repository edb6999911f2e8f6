"""What the terminal shows while a matrix runs."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tsbench.api import plan_experiment
from tsbench.bench.estimate import Estimate
from tsbench.bench.experiment import parse_experiment
from tsbench.bench.records import DataFacts, PlannedRun, Record
from tsbench.bench.runner import describe_machine
from tsbench.display import Display, Log, Screen, in_words, open_output
from tsbench.errors import ConfigError
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


# A line per event


def events(planned: PlannedRun, log: Log, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is written of a run that is tried again, fails, and is the only one."""
    with log.watch([planned], Estimate(), 1) as watching:
        watching.starts(planned)
        watching.advances(planned, Progress(25, 1000, 0.5, 300))
        watching.starts_again(planned, "the worker process died (signal 9)")
        watching.measures(planned)
        watching.ends(planned, failure(planned, "it broke"))
    return capsys.readouterr().out.splitlines()


def test_as_json_every_event_is_a_line_with_the_keys_that_were_promised(
    planned: PlannedRun, capsys: pytest.CaptureFixture[str]
):
    lines = [json.loads(line) for line in events(planned, Log("json"), capsys)]

    question = ["label", "model", "dataset", "context_length", "horizon", "seed", "key"]
    assert [line["event"] for line in lines] == ["start", "retry", "measure", "end"]
    assert [list(line) for line in lines[:3]] == [
        ["time", "event", *question],
        ["time", "event", *question, "reason"],
        ["time", "event", *question],
    ]
    outcome = ["status", "reason", "mse_scaled", "seconds", "done", "total", "seconds_left", "seconds_left_basis"]
    assert list(lines[3]) == ["time", "event", *question, *outcome]
    assert (lines[3]["status"], lines[3]["mse_scaled"], lines[3]["done"]) == ("failed", None, 1)
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo == UTC


def test_as_plain_text_every_event_is_a_line_of_words(planned: PlannedRun, capsys: pytest.CaptureFixture[str]):
    start, retry, _, end = events(planned, Log("plain"), capsys)

    assert start.endswith("start [/bold] net on synthetic 24→6, seed 0")
    assert retry.endswith("seed 0: the worker process died (signal 9)")
    assert "seed 0: failed: it broke; 1 of 1 done" in end


def test_a_matrix_that_was_stopped_is_logged_with_what_is_done(capsys: pytest.CaptureFixture[str]):
    log = Log("json")
    log.note("a\nb")
    log.stopped(3, 12)
    log.report(Path("reports/x/report.html"))

    note, stopped, report = map(json.loads, capsys.readouterr().out.splitlines())
    assert (note["text"], stopped["done"], stopped["planned"], report["path"]) == (
        "a\nb",
        3,
        12,
        "reports/x/report.html",
    )


def test_without_a_format_a_person_is_spoken_to():
    assert isinstance(open_output(""), Screen)
    with pytest.raises(ConfigError, match=r"--log-format: unknown format 'xml'; .*allowed: json, plain"):
        open_output("xml")
