"""Results that were made elsewhere: scored on the same points or refused, and shown as what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.api import run_experiment
from tsbench.bench.experiment import parse_experiment
from tsbench.bench.imports import import_results
from tsbench.bench.records import Imports, Plan, RecordStore, load_records
from tsbench.bench.runner import Prepared
from tsbench.data.datasets import load_dataset
from tsbench.data.panel import Panel
from tsbench.errors import ConfigError, DataError, TsbenchError
from tsbench.report.build import build
from tsbench.report.tables import leaderboard, read_results

CONTENT = {
    "datasets": ["synthetic"],
    "horizons": [3],
    "context_lengths": [24, 48],
    "seeds": [0],
    "models": {"naive": {}, "linear": {}},
    "recipe": {"max_steps": 5},
}


def run(folder: Path) -> pd.DataFrame:
    return run_experiment(parse_experiment(CONTENT, "test"), output=folder, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def panel() -> Panel:
    return load_dataset("synthetic")


def of_model(panel: Panel, folder: Path, model: str) -> pd.DataFrame:
    """What a model of the folder forecasts for every test window, as somebody elsewhere would write it down."""
    planned = next(p.run for p in Plan.load(folder).runs if p.run.model == model and p.run.context_length == 24)
    prepared = Prepared.on(panel, torch.device("cpu"))
    windows = prepared.windows(planned)
    forecaster = prepared.forecaster(planned).fit_windows(windows["train"], windows["validation"], seed=0)
    context, _ = windows["test"].batch(torch.arange(len(windows["test"])))
    forecast_NHC = prepared.scaler.invert(forecaster.infer(context).double().numpy())
    targets = panel.test.starts(24, 3) + 24
    item = np.searchsorted(panel.offsets, targets, side="right") - 1
    n, h, c = (index.ravel() for index in np.indices(forecast_NHC.shape))
    return pd.DataFrame(
        {
            "item": np.array(panel.items)[item[n]],
            "origin": panel.timestamps[targets[n]],
            "timestamp": panel.timestamps[targets[n] + h],
            "step": h + 1,
            "channel": np.array(panel.channels)[c],
            "forecast": forecast_NHC.ravel(),
        }
    )


@pytest.fixture(scope="module")
def forecasts(panel: Panel, finished: Path) -> pd.DataFrame:
    return of_model(panel, finished, "linear")


@pytest.fixture
def bring(folder: Path, tmp_path: Path) -> Callable[..., list]:
    """`bring(frame)`: import it from a CSV file."""

    def importing(frame: pd.DataFrame, name: str = "theirs", **options: str) -> list:
        frame.to_csv(tmp_path / "theirs.csv", index=False)
        return import_results(tmp_path / "theirs.csv", folder, name, **options)

    return importing


@pytest.mark.parametrize("left_out", [["timestamp"], ["origin"], ["timestamp", "item"]])
def test_imported_forecasts_score_as_the_model_that_made_them(
    bring: Callable, folder: Path, forecasts: pd.DataFrame, left_out: list[str]
) -> None:
    own = next(r for r in RecordStore(folder) if r.run.model == "linear" and r.run.context_length == 24)

    records = bring(forecasts.drop(columns=left_out).sample(frac=1, random_state=0))

    assert {record.run.context_length for record in records} == {24, 48}  # the points are the same
    for record in records:
        assert record.metrics.mse_scaled == pytest.approx(own.metrics.mse_scaled, rel=1e-6)
        assert record.metrics.smape == pytest.approx(own.metrics.smape, rel=1e-5)
        assert record.metrics.points_digest == own.metrics.points_digest
        for name, table in own.diagnostics.errors_by.items():
            assert record.diagnostics.errors_by[name].names == table.names
            assert record.diagnostics.errors_by[name].mse_scaled == pytest.approx(table.mse_scaled, rel=1e-3)
        assert record.diagnostics.bias_by_step == pytest.approx(own.diagnostics.bias_by_step, abs=1e-4)
        assert record.diagnostics.autocorrelation == pytest.approx(own.diagnostics.autocorrelation, abs=1e-3)
        kept, expected = (RecordStore(folder).losses(key) for key in (record.key, own.key))
        np.testing.assert_allclose(kept.loss_M, expected.loss_M, rtol=1e-4)
    arrays = RecordStore(folder).arrays(records[0].key)
    np.testing.assert_allclose(
        arrays["forecast"], RecordStore(folder).arrays(own.key)["forecast"], rtol=1e-4, atol=1e-4
    )


def test_what_is_imported_stands_in_the_leaderboard_as_imported_and_without_cost(
    bring: Callable, folder: Path, forecasts: pd.DataFrame
) -> None:
    bring(forecasts)

    build(folder)

    rows = leaderboard(read_results(folder)).query("label == 'theirs'")
    assert rows["status"].tolist() == ["imported", "imported"]
    assert rows[["latency_p50_ms", "fit_seconds", "num_parameters"]].isna().all(axis=None)
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "theirs was imported: made elsewhere, neither trained nor timed here" in page
    assert len(read_results(folder).machines) == 1
    frame = load_records(folder).query("label == 'theirs'")
    assert frame["imported"].str.startswith("theirs.csv, sha256 ").all()


def test_a_report_that_an_imported_model_leads_says_nothing_of_its_cost(bring: Callable, folder: Path) -> None:
    digest = load_records(folder)["points_digest"].iloc[0]
    bring(pd.DataFrame({"dataset": ["synthetic"], "horizon": [3], "mse_scaled": [1e-6], "points_digest": [digest]}))

    build(folder)

    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "theirs was imported: nothing is known of its cost here." in page


def test_what_was_imported_stays_when_the_experiment_is_run_again(
    bring: Callable, folder: Path, forecasts: pd.DataFrame
) -> None:
    bring(forecasts)

    frame = run(folder)

    assert frame["label"].tolist().count("theirs") == 2
    assert {"naive", "linear"} <= set(frame["label"])


def test_another_file_under_the_same_name_replaces_the_first(
    bring: Callable, folder: Path, forecasts: pd.DataFrame
) -> None:
    bring(forecasts)
    bring(forecasts.assign(forecast=0.0))

    assert len(Imports.load(folder).runs) == 2
    assert load_records(folder)["label"].tolist().count("theirs") == 2


def test_several_seeds_are_several_runs(bring: Callable, folder: Path, forecasts: pd.DataFrame) -> None:
    both = [forecasts.assign(seed=seed, forecast=forecasts["forecast"] + seed) for seed in (0, 1)]

    records = bring(pd.concat(both))

    assert [record.run.seed for record in records] == [0, 1, 0, 1]
    assert leaderboard(read_results(folder)).query("label == 'theirs'")["seeds_ok"].tolist() == [2, 2]


def test_scores_on_the_same_points_are_taken(bring: Callable, folder: Path) -> None:
    digest = load_records(folder)["points_digest"].iloc[0]
    row = {"dataset": "synthetic", "horizon": 3, "points_digest": digest, "mse_scaled": 0.25, "mae_scaled": 0.4}

    (record,) = bring(pd.DataFrame([row | {"context_length": 48}]))

    assert (record.metrics.mse_scaled, record.metrics.rmse_scaled, record.metrics.mase) == (0.25, 0.5, None)
    assert record.run.context_length == 48
    build(folder)
    assert leaderboard(read_results(folder)).query("label == 'theirs'")["mae_scaled"].tolist() == [0.4]


def missing_windows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["origin"] > frame["origin"].min()]


WRONG = {
    "incomplete": (missing_windows, r"are missing, in 1 windows; the first is at origin .*, step 1, channel"),
    "one cell": (lambda f: f.iloc[:-1], r"1 are missing, in 1 windows; .* every test window is needed once"),
    "shifted": (lambda f: f.assign(origin=f["origin"] - pd.Timedelta("1h")), r"are missing, in 1 windows"),
    "twice": (lambda f: pd.concat([f, f.iloc[:2]]), "2 are there twice"),
    "not finite": (lambda f: f.assign(forecast=np.inf), "are not finite"),
    "unknown channel": (lambda f: f.assign(channel="x"), r"theirs.csv, line 2: unknown channel 'x'; there are"),
    "no channel": (lambda f: f.drop(columns="channel"), "column 'channel' is missing; there are"),
    "no step": (lambda f: f.drop(columns="step"), "column 'step': numbers are needed"),
    "step from 0": (lambda f: f.assign(step=f["step"] - 1), "column 'step': whole numbers from 1 are needed"),
    "no time": (lambda f: f.drop(columns=["origin", "timestamp"]), "no column 'origin'"),
    "no stamps": (lambda f: f.assign(origin="x"), "column 'origin': not timestamps"),
    "other horizon": (lambda f: f[f["step"] < 3], "forecasts of 2 steps; of which task"),
    "neither": (lambda f: f.rename(columns={"forecast": "y"}), "neither forecasts nor scores; a column 'forecast' or"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    bring: Callable, folder: Path, forecasts: pd.DataFrame, kind: str
) -> None:
    change, words = WRONG[kind]
    before = RecordStore(folder).keys()

    with pytest.raises(TsbenchError, match=words):
        bring(change(forecasts.copy()))

    assert RecordStore(folder).keys() == before
    assert not (folder / "imports.json").exists()


WRONG_SCORES = {
    "other points": ({"points_digest": "beef"}, "scored on other points: points_digest beef, here"),
    "other dataset": ({"dataset": "etth1"}, r"no task of the folder has dataset etth1, horizon 3; there are synthetic"),
    "other context": ({"context_length": 7}, "no task of the folder has .*context_length 7"),
    "negative": ({"mse_scaled": -1.0}, "mse_scaled = -1.0: write a number from 0"),
    "blank": ({"mse_scaled": np.nan}, "mse_scaled = nan: write a number from 0"),
}


@pytest.mark.parametrize("kind", WRONG_SCORES)
def test_scores_that_do_not_fit_are_refused_with_their_line(bring: Callable, folder: Path, kind: str) -> None:
    change, words = WRONG_SCORES[kind]
    good = {"dataset": "synthetic", "horizon": 3, "mse_scaled": 0.1}
    good["points_digest"] = load_records(folder)["points_digest"].iloc[0]

    with pytest.raises(DataError, match=rf"theirs.csv, line 2: .*{words}|{words}"):
        bring(pd.DataFrame([good | change]))


def test_scores_need_the_digest_of_their_points(bring: Callable) -> None:
    with pytest.raises(DataError, match="column 'points_digest' is missing; needed are dataset, horizon"):
        bring(pd.DataFrame({"dataset": ["synthetic"], "horizon": [3], "mse_scaled": [0.1]}))


@pytest.mark.parametrize("name", ["linear", "gru", " "])
def test_a_name_that_is_taken_is_refused(bring: Callable, forecasts: pd.DataFrame, name: str) -> None:
    with pytest.raises(ConfigError, match="is taken or empty; give the model a name of its own"):
        bring(forecasts, name=name)


def test_other_data_are_refused_by_their_fingerprint(bring: Callable, forecasts: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="auckland_pedestrians_tiny: not the data of this folder"):
        bring(forecasts, data="auckland_pedestrians_tiny")


def test_a_file_that_is_no_table_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")

    for name in ("empty.csv", "none.csv"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as CSV"):
            import_results(tmp_path / name, folder, "theirs")
