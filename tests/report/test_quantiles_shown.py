"""Quantiles in a report: there where a run has them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import REALISTIC, with_quantiles, write_experiment

from tsbench.bench.records import Plan, RecordStore, load_records
from tsbench.report.build import build
from tsbench.report.quantiles import coverage_rows
from tsbench.report.tables import read_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_experiment(tmp_path_factory.mktemp("quantiles"), REALISTIC, edit=with_quantiles)
    store = RecordStore(folder)
    for planned in Plan.load(folder).runs:
        key = planned.run.key()
        if arrays := store.arrays(key):
            spread = 300 * np.array([-1, 0, 1])
            store.write(store.read(key), arrays | {"quantiles": arrays["forecast"][..., None] + spread})
    build(folder)
    return folder


def test_the_table_of_coverage_says_what_was_promised_and_what_was_held(folder: Path):
    rows = {row.label: row for row in coverage_rows(read_results(folder).tasks[0])}

    assert next(iter(rows)) == "gru"
    assert (rows["gru"].nominal, rows["gru"].coverage, rows["gru"].by_step) == ("80.0%", "76.0%", "72.0% to 80.0%")
    assert (rows["gru"].source, rows["naive"].source) == ("learned", "errors on the validation split")
    for name in ("report.html", "report.md"):
        assert "Coverage of intervals" in (folder / name).read_text()
    assert "| gru | learned | 80.0% | 76.0% | 72.0% to 80.0% | 1.250 |" in (folder / "report.md").read_text()


def test_the_leaderboard_and_the_records_have_a_column_each(folder: Path):
    frame = pd.read_csv(folder / "leaderboard.csv").set_index("label")
    records = load_records(folder)

    finished = [value for value in REALISTIC["gru"] if isinstance(value, float)]
    assert frame["wql"]["gru"] == pytest.approx(0.2 * np.mean(finished))
    assert frame["coverage"]["gru"] == pytest.approx(0.76)
    assert records.query("status == 'ok'")[["wql", "crps_scaled", "coverage", "width"]].notna().all(axis=None)
    assert ">WQL</th>" in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["fans", "calibration"])
def test_the_pictures_are_drawn(folder: Path, name: str):
    assert "<svg" in (folder / "figures" / f"{name}.svg").read_text()


def test_without_quantiles_nothing_of_it_is_there(tmp_path: Path):
    folder = write_experiment(tmp_path, {"gru": [0.4, 0.5], "naive": [1.2, 1.2]})
    page = build(folder).read_text()

    assert "WQL" not in page
    assert "Coverage of intervals" not in page
    assert "wql" not in load_records(folder)
