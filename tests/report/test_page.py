"""What the templates are filled with: audits, budgets, downloads."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from made_up import CONTEXT_LENGTH, REALISTIC, Write

from tsbench.bench.records import Record
from tsbench.report import page
from tsbench.report.build import build
from tsbench.report.page import audit_rows, audit_summary, budget_notes, records_download, table_download
from tsbench.report.tables import read_results

# Audit


def leaking(record: Record) -> Record:
    if record.run.model != "tcn" or record.audit is None:
        return record
    return record.model_copy(update={"audit": record.audit.model_copy(update={"forecasts_are_blind": False})})


def test_all_runs_passed_and_it_is_said_of_how_many(write: Write) -> None:
    results = read_results(write(REALISTIC))
    assert audit_summary(results) == ("33 of 33 finished runs passed every leakage check.", True)
    first = audit_rows(results.tasks[0])[0]
    assert (first.label, first.checks, first.windows) == ("gru", "passed", "2,729 / 377 / 777")


def test_a_leak_is_named_with_its_model_and_stands_on_the_first_screen(write: Write) -> None:
    folder = write(REALISTIC, edit=leaking)
    results = read_results(folder)

    assert audit_summary(results) == ("30 of 33 finished runs passed every leakage check.", False)
    rows = {row.label: row for row in audit_rows(results.tasks[0])}
    assert rows["tcn"].checks == "forecasts change when the future is hidden"
    assert not rows["tcn"].passed
    assert rows["gru"].passed
    text = build(folder).read_text(encoding="utf-8")
    assert text.index("30 of 33 finished runs passed") < text.index("<h2>Leaderboard")


def test_records_without_an_audit_are_not_said_to_have_passed(write: Write) -> None:
    def old(record: Record) -> Record:
        return record.model_copy(update={"audit": None}) if record.run.seed == 0 else record

    results = read_results(write({"gru": [0.3, 0.31], "tcn": [0.4, 0.41]}, edit=old))
    assert (
        audit_summary(results)[0] == "2 of 2 finished runs passed every leakage check; 2 older ones were not checked."
    )
    assert [row.checks for row in audit_rows(results.tasks[0])] == ["not checked"] * 2


# What each model was given


def test_a_receptive_field_shorter_than_the_context_and_unequal_sizes_are_noted(write: Write) -> None:
    def large(record: Record) -> Record:
        if record.run.model != "lstm" or record.cost is None:
            return record
        return record.model_copy(
            update={"cost": record.cost.model_copy(update={"num_parameters": 900_000, "steps": 80})}
        )

    notes = budget_notes(read_results(write(REALISTIC, edit=large)).tasks[0])

    assert notes[0].startswith("Parameter counts differ widely: lstm has 900k, ")
    assert notes[1] == "Trainings took up to 500 steps; fewer, median over seeds: lstm (80)."
    assert notes[2].startswith(f"Of {CONTEXT_LENGTH} rows of context not all reach the forecast of tcn (24)")


def test_of_equals_nothing_is_noted(write: Write) -> None:
    assert budget_notes(read_results(write({"gru": [0.3], "naive": [1.0]})).tasks[0]) == []


# Downloads


def content(address: str) -> bytes:
    return base64.b64decode(address.split("base64,")[1])


def test_records_are_one_list_compressed_where_it_is_long(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    results = read_results(write({"gru": [0.3, 0.31]}))

    plain = records_download(results)
    monkeypatch.setattr(page, "MOST_BYTES", 15_000)
    packed = records_download(results)

    assert (plain.name, packed.name) == ("records.json", "records.json.gz")
    keys = [record.key for record in results.records]
    assert [record["key"] for record in json.loads(content(plain.address))] == keys
    assert gzip.decompress(content(packed.address)) == content(plain.address)


def test_what_is_too_large_is_named_and_not_embedded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    results = read_results(write({"gru": [0.3, 0.31]}))
    monkeypatch.setattr(page, "MOST_RECORDS", 1)

    assert records_download(results).address == ""
    assert table_download("a.csv", "much", "x" * (page.MOST_BYTES + 1)).address == ""
    assert content(table_download("a.csv", "little", "a,b\n").address) == b"a,b\n"
