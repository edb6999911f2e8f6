"""Holes on the whole road: from a card to records, an import and the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsbench.api import plan_experiment, run_experiment
from tsbench.bench.experiment import Experiment
from tsbench.bench.imports import import_results
from tsbench.bench.records import RecordStore
from tsbench.data.datasets import load_dataset
from tsbench.errors import DataError
from tsbench.report.build import build

CardOf = Callable[..., Path]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Two channels of 400 hours: every ninth value of one is missing, seven rows of the test part are not there."""
    rng, stamps = np.random.default_rng(0), pd.date_range("2024-01-01", periods=400, freq="h")
    frame = pd.DataFrame({"date": stamps, "a": rng.normal(10, 1, 400), "b": rng.normal(50, 2, 400)})
    frame.loc[::9, "a"] = np.nan
    return frame.drop(range(360, 367)).reset_index(drop=True)


@pytest.fixture(scope="module")
def card_of(tmp_path_factory: pytest.TempPathFactory) -> CardOf:
    def write(frame: pd.DataFrame, split: str = "") -> Path:
        folder = tmp_path_factory.mktemp("sensors")
        frame.to_csv(folder / "sensors.csv", index=False)
        card = 'name = "sensors"\ntitle = "Sensors"\nsource = "made up"\nlicense = "CC0-1.0"\nfile = "sensors.csv"\n'
        (folder / "sensors.toml").write_text(f'{card}sha256 = ""\nmissing = "mask"\n{split}', encoding="utf-8")
        return folder / "sensors.toml"

    return write


def experiment(card: Path) -> Experiment:
    content = {
        "datasets": [str(card)], "context_lengths": [24, 48], "horizons": [6], "seeds": [0, 1],
        "models": {"linear": {}, "ridge": {}}, "recipe": {"max_steps": 4, "validate_every": 2},
    }  # fmt: skip
    return Experiment.model_validate(content)


@pytest.fixture(scope="module")
def finished(card_of: CardOf, frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    card, folder = card_of(frame), tmp_path_factory.mktemp("finished")
    records = run_experiment(experiment(card), output=folder, device="cpu", pack="always")
    assert (records["status"] == "ok").all(), records["reason"].tolist()
    return card, folder


def test_records_say_how_many_points_were_scored_of_all(finished: tuple[Path, Path]) -> None:
    card, folder = finished
    panel = load_dataset(str(card))
    low, high = panel.test.bounds[0]
    starts = [row for row in range(low, high - 5) if not np.isnan(panel.values[row : row + 6]).all()]
    scored = sum(int((~np.isnan(panel.values[row : row + 6])).sum()) for row in starts)

    metrics = [record.metrics for record in RecordStore(folder)]

    assert {each.num_scored_windows for each in metrics} == {len(starts)}
    assert len(starts) == high - 5 - low - 2  # two windows lie within the seven rows
    assert {each.num_scored_points for each in metrics} == {scored}
    assert {each.num_masked_points for each in metrics} == {(high - 5 - low) * 6 * 2 - scored}
    assert len({each.points_digest for each in metrics}) == 1
    assert all(not record.audit.findings for record in RecordStore(folder))
    assert any(note.startswith("mask: ") for note in RecordStore(folder).read(RecordStore(folder).keys()[0]).data.notes)


def test_the_report_says_how_many_points_were_scored_of_all(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    metrics = next(iter(RecordStore(folder))).metrics

    build(folder)

    words = f"{metrics.num_scored_points} of {metrics.num_scored_points + metrics.num_masked_points} points, the others"
    for name in ("report.html", "report.md", "leaderboard.tex"):
        assert words in (folder / name).read_text(encoding="utf-8"), name


def test_the_plan_counts_windows_that_hold_no_value(finished: tuple[Path, Path]) -> None:
    notes = plan_experiment(experiment(finished[0])).plan.notes

    assert "sensors, 24 → 6: 2 windows of the test part hold no value to forecast and are none" in notes


def test_a_channel_that_could_not_be_scored_is_refused_before_anything_runs(
    card_of: CardOf, frame: pd.DataFrame
) -> None:
    ended = frame.copy()
    ended.loc[300:, "a"] = np.nan

    with pytest.raises(DataError, match="'a' has no value in any test window, so nothing could be scored"):
        plan_experiment(experiment(card_of(ended)))


def test_a_channel_without_a_training_value_is_refused_before_anything_runs(
    card_of: CardOf, frame: pd.DataFrame
) -> None:
    late = frame.copy()
    late.loc[:290, "a"] = np.nan

    with pytest.raises(DataError, match="sensors: a has no value in the rows that its scale is taken from"):
        plan_experiment(experiment(card_of(late)))


def test_a_step_that_could_not_be_scored_is_refused_before_anything_runs(card_of: CardOf, frame: pd.DataFrame) -> None:
    """Of a single test window."""
    holed = frame.copy()
    holed.loc[len(holed) - 5, ["a", "b"]] = np.nan

    with pytest.raises(DataError, match="no test window has a value 2 steps ahead, so nothing could be scored there"):
        plan_experiment(experiment(card_of(holed, '[split]\nby = "last"\ntest = 6\n')))


def test_imported_forecasts_need_none_where_the_truth_is_missing(finished: tuple[Path, Path], tmp_path: Path) -> None:
    card, folder = finished
    panel = load_dataset(str(card))
    rows = [
        (panel.timestamps[first], step + 1, name, 0.0 if np.isnan(truth) else truth + 1)
        for first in panel.test.starts(24, 6) + 24
        for step in range(6)
        for name, truth in zip(panel.channels, panel.values[first + step], strict=True)
    ]
    theirs = pd.DataFrame(rows, columns=["origin", "step", "channel", "forecast"])
    theirs.query("forecast != 0").to_csv(tmp_path / "theirs.csv", index=False)

    records = import_results(tmp_path / "theirs.csv", folder, "theirs", data=str(card))

    own = next(record for record in RecordStore(folder) if not record.imported).metrics
    for record in records:
        assert record.metrics.mae == pytest.approx(1, rel=1e-5)
        assert record.metrics.num_scored_points == own.num_scored_points
        assert record.metrics.points_digest == own.points_digest
    theirs.query("forecast != 0").iloc[1:].to_csv(tmp_path / "theirs.csv", index=False)
    with pytest.raises(DataError, match="1 are missing"):
        import_results(tmp_path / "theirs.csv", folder, "others", data=str(card))
