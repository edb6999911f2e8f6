"""The project from a script: what the README promises."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tsbench
from tsbench.api import plan_experiment
from tsbench.bench.experiment import Experiment
from tsbench.bench.records import RecordStore
from tsbench.errors import ConfigError, DataError

TOML = """
title = "Tiny"
datasets = "auckland_pedestrians_tiny"
context_lengths = [48]
horizons = [6, 12]
seeds = [0]

[models.gru]
hidden_size = [8, 16]

[recipe]
max_steps = 2
"""


@pytest.fixture(autouse=True)
def _little_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five samples of inference instead of half a second of them."""
    from tsbench.bench import runner
    from tsbench.evaluation.throughput import measure_inference

    monkeypatch.setattr(runner, "measure_inference", partial(measure_inference, seconds=0))


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TOML)
    return tmp_path / "tiny.toml"


def test_an_experiment_gives_a_row_per_run(experiment: Path):
    frame = tsbench.run_experiment(experiment, device="cpu")

    labels = ["naive", "seasonal_naive", "linear", "gru hidden_size=8", "gru hidden_size=16"]
    assert frame[["horizon", "label"]].to_numpy().tolist() == [
        [horizon, label] for horizon in (6, 12) for label in labels
    ]
    assert set(frame["status"]) == {"ok"}
    assert frame["mse_scaled"].gt(0).all()


def test_records_and_report_lie_in_a_folder_of_the_experiments_name(experiment: Path):
    frame = tsbench.run_experiment(experiment, device="cpu")

    pd.testing.assert_frame_equal(tsbench.load_records("reports/tiny"), frame)
    assert Path("reports/tiny/report.html").is_file()


def test_what_is_done_is_not_done_again(experiment: Path, monkeypatch: pytest.MonkeyPatch):
    from tsbench.bench import runner

    frame = tsbench.run_experiment(experiment, device="cpu")
    done: list[Any] = []
    real = runner.execute
    monkeypatch.setattr(runner, "execute", lambda *asked, **more: done.append(asked[0]) or real(*asked, **more))

    again = tsbench.run_experiment(experiment, device="cpu")
    assert done == []
    pd.testing.assert_frame_equal(again, frame)

    tsbench.run_experiment(experiment, device="cpu", settings={"gru.hidden_size": [16, 32]})
    assert [(run.horizon, run.arguments["hidden_size"]) for run in done] == [(6, 32), (12, 32)]


def test_an_experiment_can_be_a_value(tmp_path: Path):
    asked = Experiment(
        datasets="auckland_pedestrians_tiny", horizons=6, context_lengths=24, seeds=0, models={"linear": {}},
        recipe={"max_steps": 2},
    )  # fmt: skip

    frame = tsbench.run_experiment(asked, device="cpu", output=tmp_path / "out")

    assert frame["model"].tolist() == ["naive", "seasonal_naive", "linear"]


def test_an_experiment_is_explained_by_a_row_per_model_and_method(experiment: Path):
    pytest.importorskip("captum", reason="captum is the extra 'explain'")
    tsbench.run_experiment(experiment, device="cpu", keep_forecasters=True)
    planned = Path("reports/tiny/plan.json").read_bytes()

    frame = tsbench.explain_experiment(experiment, device="cpu", num_windows=2, horizons=[6])

    assert len(list(Path("reports/tiny/forecasters").iterdir())) == 10
    assert list(frame.columns) == [
        "dataset", "context_length", "horizon", "label", "method", "lag", "share", "points_at_season"
    ]  # fmt: skip
    season = frame[(frame["label"] == "seasonal_naive") & (frame["method"] == "occlusion")]
    assert season[["horizon", "lag", "points_at_season"]].to_numpy().tolist() == [[6, 24, True]]
    assert season["share"].item() == pytest.approx(1)
    assert Path("reports/tiny/plan.json").read_bytes() == planned  # the report still shows both horizons


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Ten weeks of daily sales of two shops, with a weekly pattern."""
    days = pd.date_range("2024-01-01", periods=70, freq="D")
    rng = np.random.default_rng(0)
    weekly = 10 + np.sin(2 * np.pi * np.arange(70) / 7)
    frame = pd.DataFrame(
        {"day": days, "north": weekly + rng.normal(size=70), "south": 2 * weekly + rng.normal(size=70)}
    )
    path = tmp_path / "sales.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_file_needs_nothing_but_a_horizon(sales: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    frame = tsbench.run_experiment(
        sales, horizons=[3], models=["mlp"], seeds=[0], settings={"max_steps": 2}, device="cpu"
    )

    assert frame["model"].tolist() == ["naive", "seasonal_naive", "linear", "mlp"]
    assert set(frame["status"]) == {"ok"}
    assert set(frame["dataset"]) == {"sales"}
    assert set(frame["context_length"]) == {7}  # a quarter of 49 training rows: one week
    assert tsbench.load_records("reports/sales").shape == frame.shape


def test_a_file_without_a_horizon_is_told_what_to_add(sales: Path):
    with pytest.raises(ConfigError, match=r"sales.csv: how many rows ahead\? add --horizon, such as --horizon 24"):
        plan_experiment(sales)


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        ("defualt", ConfigError, "no experiment, dataset or file is called 'defualt'; did you mean 'default'"),
        ("etth", ConfigError, "no experiment, dataset or file is called 'etth'; did you mean"),
        ("nowhere.csv", DataError, "nowhere.csv: no such file"),
        ("nowhere.toml", ConfigError, "nowhere.toml: no such experiment file"),
    ],
)
def test_a_target_that_is_nowhere_is_told(target: str, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        plan_experiment(target, horizons=[6])


def test_planning_writes_nothing(experiment: Path):
    plan_experiment(experiment)

    assert [path.name for path in experiment.parent.iterdir()] == ["tiny.toml"]


def test_the_script_of_the_design_works(tmp_path: Path):
    panel = tsbench.load_dataset("auckland_pedestrians")
    forecaster = tsbench.Forecaster("lstm", context_length=168, horizon=24, hidden_size=64, recipe={"max_steps": 5})
    forecaster.fit(panel.train, panel.validation, seed=0)
    frame = forecaster.predict(panel)

    assert list(frame.columns) == ["item", "timestamp", "channel", "forecast"]
    assert len(frame) == 24 * 8
    assert frame["timestamp"].min() == pd.Timestamp(panel.timestamps[-1]) + pd.Timedelta("1h")
    assert frame["forecast"].notna().all()


def test_every_public_name_is_there():
    for name in tsbench.__all__:
        assert getattr(tsbench, name).__doc__
    assert set(tsbench.__all__) <= set(dir(tsbench))
    with pytest.raises(AttributeError, match="module 'tsbench' has no attribute 'forecaster_'"):
        _ = tsbench.forecaster_


FORGETFUL = """
datasets = "auckland_pedestrians_tiny"
context_lengths = [192]
horizons = [12]
seeds = [0]

[models.rnn]
hidden_size = 16
segment_length = 1
decoder = "direct"

[models.lstm]
hidden_size = 16
segment_length = 1
decoder = "direct"
forget_bias = 3.0

[recipe]
max_steps = 4
validate_every = 2
batch_size = 8
gradient_norms = true
"""


def test_the_report_shows_that_a_long_plain_rnn_forgets_and_an_lstm_less(tmp_path: Path):
    """Old rows get no gradient through 192 steps of a plain recurrence (Bengio et al. 1994)."""
    (tmp_path / "forgetful.toml").write_text(FORGETFUL)
    frame = tsbench.run_experiment(tmp_path / "forgetful.toml", device="cpu", output=tmp_path / "out")
    store = RecordStore(tmp_path / "out")

    def reach(model: str) -> list[float]:
        """At each look, the gradient at the oldest tenth of the context in units of that at the newest."""
        record = store.read(frame.set_index("model")["key"][model])
        assert set(record.cost.seconds) == {"build", "train", "validate", "gradients", "evaluate", "measure"}
        return [sum(look.by_row[:19]) / sum(look.by_row[-19:]) for look in record.gradients]

    assert len(reach("rnn")) == len(reach("lstm")) == 2
    assert max(reach("rnn")) < 1e-20
    assert min(reach("lstm")) > 1e-6
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "Where norms of gradients were recorded, the timed steps took them too" in text
        for model in ("rnn", "lstm"):
            (said,) = re.findall(rf"{model}: the gradient at the oldest tenth of the context is (\S+) of that at", text)
            assert float(said) == pytest.approx(reach(model)[-1], rel=0.05)
    picture = (tmp_path / "out" / "figures" / "gradients.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in picture for name in ("rnn", "lstm", "linear", "recurrence.l0", "head.linear"))
