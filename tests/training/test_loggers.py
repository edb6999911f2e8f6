"""Loggers that follow a training: what they are told, and that they cost nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

from tsbench.api import carry_out, plan_experiment, run_experiment
from tsbench.bench.experiment import parse_experiment
from tsbench.bench.observer import Observer
from tsbench.bench.records import PlannedRun, RecordStore
from tsbench.errors import ConfigError, MachineError
from tsbench.training import loggers
from tsbench.training.loggers import LOGGERS, Place, RunLog, check_loggers

CONTENT = {
    "datasets": ["synthetic"],
    "horizons": [3],
    "context_lengths": [24],
    "seeds": [0],
    "models": {"naive": {}, "mlp": {}},
    "recipe": {"max_steps": 40, "validate_every": 20},
}


def run(folder: Path, **options: object) -> RecordStore:
    run_experiment(parse_experiment(CONTENT, "test"), output=folder, device="cpu", **options)
    return RecordStore(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_csv_of_a_run_holds_its_curve_and_its_test_error(tmp_path: Path, workers: int) -> None:
    store = run(tmp_path, loggers=["csv"], workers=workers)

    (record,) = (record for record in store if record.run.model == "mlp")
    (path,) = (tmp_path / "logs" / "csv" / "synthetic-24-3").glob(f"mlp-seed0-{record.key}/metrics.csv")
    frame = pd.read_csv(path)
    curve = frame.dropna(subset=["val_loss"])
    assert curve["step"].tolist() == [point.step for point in record.curve] == [20, 40]
    assert curve["val_loss"].tolist() == pytest.approx([point.val_loss for point in record.curve])
    assert curve["train_loss"].tolist() == pytest.approx([point.train_loss for point in record.curve])
    assert curve["learning_rate"].iloc[0] > curve["learning_rate"].iloc[1]
    assert frame["test_mse_scaled"].dropna().tolist() == pytest.approx([record.metrics.mse_scaled])
    assert "max_steps: '40'" in (path.parent / "hparams.yaml").read_text()


def test_a_training_is_the_same_with_and_without_loggers(tmp_path: Path) -> None:
    with_logger, without = run(tmp_path / "a", loggers=["csv"]), run(tmp_path / "b")

    assert {r.key: r.metrics for r in with_logger} == {r.key: r.metrics for r in without}
    assert not (tmp_path / "b" / "logs").exists()


def test_what_loggers_take_is_in_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that takes half a second at every call does not make a training of milliseconds slower."""
    import time

    class Slow:
        def log_hyperparams(self, values: dict) -> None: ...

        def log_metrics(self, values: dict, step: int) -> None:
            time.sleep(0.5)

        def finalize(self, status: str) -> None: ...

    monkeypatch.setitem(loggers._MAKERS, "csv", lambda place: Slow())

    (record,) = (record for record in run(tmp_path, loggers=["csv"]) if record.run.model == "mlp")

    assert sum(record.cost.seconds[phase] for phase in ("build", "train", "validate")) < 1.0
    assert record.curve[-1].seconds < 1.0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_logger_that_fails_costs_no_run_and_is_said(tmp_path: Path, workers: int) -> None:
    class Told(Observer):
        words: ClassVar[list[str]] = []

        def warns(self, planned: PlannedRun, what: str) -> None:
            self.words.append(f"{planned.label}: {what}")

    Told.words.clear()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "csv").write_text("a file where the folder should be")
    matrix = plan_experiment(parse_experiment(CONTENT, "test"), output=tmp_path)

    carry_out(matrix, matrix.missing(), device="cpu", workers=workers, observer=Told(), loggers=["csv"])

    assert {record.status for record in RecordStore(tmp_path)} == {"ok"}
    assert len(Told.words) == len(matrix.plan.runs)
    assert all("--logger csv: " in words and "the run went on without it" in words for words in Told.words)


def test_a_run_that_is_repeated_starts_its_track_anew(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        log = RunLog(["csv"], Place(tmp_path, "group", "name"), {"model": "x"})
        log.look(10, {"val_loss": value})
        log.end(10, {"test_mse_scaled": value}, "ok")

    frame = pd.read_csv(tmp_path / "csv" / "group" / "name" / "metrics.csv")
    assert frame["val_loss"].dropna().tolist() == [2.0]
    assert log.seconds > 0


def test_an_unknown_logger_is_named_and_a_missing_one_said_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"--logger: unknown logger 'wandbb'; did you mean 'wandb'?"):
        check_loggers(["wandbb"])
    for name in LOGGERS[1:]:
        with pytest.raises(MachineError, match=rf"type: pip install 'tsbench\[{name}\]'"):
            check_loggers([name])
    assert check_loggers(["csv", "csv"]) == ("csv",)
