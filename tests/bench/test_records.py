"""Records: one whole file per run or none, under a key that changes with anything that could change the answer."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsbench.bench import records
from tsbench.bench.records import (
    Cost,
    CurvePoint,
    DataFacts,
    GradientPoint,
    Machine,
    Metrics,
    Plan,
    PlannedRun,
    Record,
    RecordStore,
    Run,
    load_records,
    write_durably,
    written,
)
from tsbench.errors import ConfigError, MachineError
from tsbench.training.recipe import Recipe

RUN = Run(
    dataset="streets",
    fingerprint="f00d",
    context_length=48,
    horizon=12,
    seed=0,
    model="gru",
    arguments={"hidden_size": 64, "dropout": 0.1},
    recipe=Recipe(),
)

DATA = DataFacts(
    title="Streets", source="made up", license="none", attribution="", units="people", channels=["a", "b"],
    num_items=1, num_rows=600, freq="h", seasonality=24, split={}, notes=[],
)  # fmt: skip
MACHINE = Machine(
    device="cpu", device_name="a processor", num_threads=1, num_cores=2, memory_gib=8.0, system="Linux", versions={}
)
METRICS = Metrics(
    mse_scaled=0.1 + 0.2, mae_scaled=0.4, rmse_scaled=0.5, mse=30.0, mae=4.0, rmse=5.5, smape=12.5, mase=None,
    num_scored_windows=157, points_digest="abc", by_step={"mse": [1 / 3]}, by_channel={"mse": [2 / 3, 1e-300]},
)  # fmt: skip
COST = Cost(
    num_parameters=1000, flops_per_window=2000, train_windows_per_second=None, train_step_ms=[], predict_batch_size=256,
    predict_windows_per_second=1e5, predict_samples=[1e5], latency_p50_ms=0.2, latency_p95_ms=0.3, steps=40,
    peak_memory_kind="process RSS", peak_memory_mib=300.0, best_step=20, windows_seen=320,
    seconds={"build": 0.25, "train": 1.5, "validate": 0.5, "evaluate": 0.125, "measure": 0.625},
)  # fmt: skip


def record_of(run: Run = RUN, **changes: Any) -> Record:
    answer = {"status": "ok", "metrics": METRICS, "cost": COST, **changes}
    point = CurvePoint(step=20, train_loss=0.9, val_loss=0.8, seconds=1.0)
    return Record(
        key=run.key(), run=run, created="2026-01-01T00:00:00+00:00", data=DATA, machine=MACHINE, curve=[point], **answer
    )


def failed(run: Run) -> Record:
    return record_of(run, status="failed", reason="it broke", metrics=None, cost=None)


def keep(folder: Path, *kept: Record, labels: dict[str, str] | None = None) -> RecordStore:
    """Records in a folder, with the plan that asked for them."""
    planned = [PlannedRun(label=(labels or {}).get(r.key, r.run.model), run=r.run) for r in kept]
    Plan(title="t", experiment="e", command="c", runs=planned).save(folder)
    store = RecordStore(folder)
    for record in kept:
        store.write(record)
    return store


# The key


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "roads"},
        {"fingerprint": "beef"},
        {"context_length": 49},
        {"horizon": 13},
        {"seed": 1},
        {"pretrained_digest": "beef"},
        {"model": "lstm"},
        {"arguments": {"hidden_size": 65, "dropout": 0.1}},
        {"arguments": {"hidden_size": 64, "dropout": 0.1, "num_layers": 1}},
        *({"recipe": Recipe(**change)} for change in (
            {"loss": "mae"}, {"optimizer": "adam"}, {"learning_rate": 0.1234}, {"schedule": "constant"},
            {"weight_decay": 0.5}, {"batch_size": 7}, {"max_steps": 7}, {"validate_every": 7}, {"patience": 7},
            {"gradient_clip": None}, {"precision": "64"}, {"instance_norm": "none"}, {"channel_mode": "mixing"},
            {"covariates": "none"},
            {"loss_scale": "spread"}, {"log": True},
            {"pretrained": "gru.pt"}, {"freeze": ["embed.*"]}, {"groups": {"head.*": {"learning_rate": 0.1}}},
            {"gradient_norms": True}, {"quantiles": [0.1, 0.5, 0.9]}, {"calibration": "conformal"},
        )),
    ],
    ids=str,
)  # fmt: skip
def test_the_key_changes_with_the_question(changes: dict[str, Any]):
    assert RUN.model_copy(update=changes).key() != RUN.key()


def test_no_value_of_a_recipe_is_forgotten_above():
    tested = {"loss", "optimizer", "learning_rate", "schedule", "weight_decay", "batch_size", "max_steps"}
    tested |= {
        "validate_every",
        "patience",
        "gradient_clip",
        "precision",
        "instance_norm",
        "channel_mode",
        "covariates",
    }
    tested |= {"pretrained", "freeze", "groups"}
    tested |= {"gradient_norms", "loss_scale", "log", "quantiles", "calibration"}

    assert set(Recipe.model_fields) == tested


def test_the_key_changes_with_the_protocol(monkeypatch: pytest.MonkeyPatch):
    before = RUN.key()
    monkeypatch.setattr(records, "PROTOCOL_VERSION", records.PROTOCOL_VERSION + 1)

    assert RUN.key() != before


def test_the_key_does_not_change_with_the_order_of_keywords():
    turned = RUN.model_copy(update={"arguments": {"dropout": 0.1, "hidden_size": 64}})

    assert turned.key() == RUN.key()
    assert len(RUN.key()) == 16


# The folder


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    store, arrays = RecordStore(tmp_path), {"forecast": np.arange(6, dtype=np.float32).reshape(1, 3, 2)}

    store.write(record_of(), arrays)

    assert store.read(RUN.key()) == record_of()
    assert RUN.key() in store
    assert store.keys() == [RUN.key()]
    kept = store.arrays(RUN.key())
    assert list(kept) == ["forecast"]
    assert np.array_equal(kept["forecast"], arrays["forecast"])


def test_losses_are_read_where_a_record_kept_them(tmp_path: Path):
    store = RecordStore(tmp_path)
    assert store.losses(RUN.key()) is None

    store.write(record_of(), {"forecast": np.zeros(3)})
    assert store.losses(RUN.key()) is None

    losses = np.array([0.5, 0.25], dtype=np.float32)
    kept = {"squared_loss": losses, "absolute_loss": losses, "origins_per_loss": np.array(3), "overlap": np.array(2)}
    store.write(record_of(), kept)
    found = store.losses(RUN.key())
    assert found is not None
    assert (found.loss_M.tolist(), found.origins_per_loss, found.shape) == ([0.5, 0.25], 3, (2, 2))


@pytest.mark.parametrize(("together", "overlap"), [(1, 12), (10, 3), (100, 2)])
def test_losses_that_do_not_say_how_they_overlap_are_those_of_every_row(together: int, overlap: int, tmp_path: Path):
    store = RecordStore(tmp_path)
    losses = np.ones(50, dtype=np.float32)
    store.write(record_of(), {"squared_loss": losses, "origins_per_loss": np.array(together)})

    assert store.losses(RUN.key()) == (pytest.approx(losses), together, overlap)


def test_gradients_are_read_as_they_were_written_even_beyond_the_finite_numbers(tmp_path: Path):
    look = GradientPoint(step=2, by_layer={"embed.0": 1e-30}, by_row=[0.0, 5e-324, math.inf])

    store = keep(tmp_path, record_of(gradients=[look]))

    assert store.read(RUN.key()).gradients == [look]


def test_what_was_never_written_is_not_there(tmp_path: Path):
    store = RecordStore(tmp_path)

    assert RUN.key() not in store
    assert store.keys() == []
    assert store.arrays(RUN.key()) == {}


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", ["fsync of the arrays", "rename of the arrays", "fsync of the record", "rename"])
def test_a_kill_while_writing_leaves_no_record_and_the_next_try_a_whole_one(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, arrays = RecordStore(tmp_path), {"forecast": np.zeros((1, 3, 2), dtype=np.float32)}
    place = "fsync" if "fsync" in moment else "replace"
    calls = iter(["arrays"] if "arrays" in moment else ["go on", "record"])
    owner, real = (os, os.fsync) if place == "fsync" else (Path, Path.replace)

    def kill(*args: Any) -> Any:
        if next(calls) == "go on":
            return real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, kill)
        with pytest.raises(Killed):
            store.write(record_of(), arrays)

    assert RUN.key() not in store
    assert store.keys() == []
    store.write(record_of(), arrays)
    assert store.read(RUN.key()) == record_of()


def test_what_a_kill_leaves_lying_about_is_no_record(tmp_path: Path):
    store = keep(tmp_path, record_of())
    half = store.path(RUN.key()).with_name(f".{RUN.key()}.json.k1ll3d")
    half.write_text('{"format": 1, "ke')

    assert store.keys() == [RUN.key()]
    assert len(load_records(tmp_path, everything=True)) == 1


def test_a_failure_in_writing_leaves_the_record_before_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = keep(tmp_path, record_of())
    before = store.path(RUN.key()).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"cannot be written \(No space left on device\)"):
        store.write(failed(RUN))

    assert store.path(RUN.key()).read_bytes() == before
    assert [path.name for path in store.path(RUN.key()).parent.iterdir()] == [f"{RUN.key()}.json"]


def test_forecasts_of_an_earlier_try_do_not_stay_beside_a_failure(tmp_path: Path):
    store = RecordStore(tmp_path)
    store.write(record_of(), {"forecast": np.zeros((1, 3, 2), dtype=np.float32)})

    store.write(failed(RUN))

    assert store.arrays(RUN.key()) == {}


def test_a_folder_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(
        MachineError, match=r"file/plan.json: cannot be written \(.*\); choose a folder with --output DIR"
    ):
        write_durably(tmp_path / "file" / "plan.json", lambda file: file.write(b""))


def test_a_damaged_record_is_told_with_its_path_and_the_remedy(tmp_path: Path):
    store = keep(tmp_path, record_of())
    store.path(RUN.key()).write_text('{"format": 2}')

    with pytest.raises(ConfigError, match=rf"{RUN.key()}.json: not a record .*; delete it, and the next `tsbench run`"):
        store.read(RUN.key())


def test_merging_two_folders_is_copying_files(tmp_path: Path):
    other = RUN.model_copy(update={"seed": 1})
    here, there = keep(tmp_path / "here", record_of()), keep(tmp_path / "there", record_of(other))
    target = here.path(other.key())
    target.parent.mkdir(exist_ok=True)

    target.write_bytes(there.path(other.key()).read_bytes())

    assert {record.run.seed for record in here} == {0, 1}


# The table

ISSUE_2 = """dataset, model, context_length, horizon, seed, status, reason, mse_scaled, mae_scaled, mse, mae, rmse,
mase, smape, owa, num_scored_windows, points_digest, num_parameters, flops_per_window, train_windows_per_second,
predict_windows_per_second, latency_p50_ms, latency_p95_ms, peak_memory_mib, fit_seconds, steps, windows_seen, device"""


def test_the_table_has_the_columns_that_were_promised(tmp_path: Path):
    keep(tmp_path, record_of())

    assert set(ISSUE_2.replace(",", " ").split()) <= set(load_records(tmp_path).columns)


def test_a_row_holds_the_run_its_metrics_and_its_cost(tmp_path: Path):
    keep(tmp_path, record_of(), labels={RUN.key(): "gru hidden_size=64"})

    (row,) = load_records(tmp_path).to_dict("records")

    assert {key: row[key] for key in ("dataset", "label", "model", "context_length", "horizon", "seed", "status")} == {
        "dataset": "streets", "label": "gru hidden_size=64", "model": "gru", "context_length": 48, "horizon": 12,
        "seed": 0, "status": "ok",
    }  # fmt: skip
    assert (row["mse_scaled"], row["points_digest"], row["num_scored_windows"]) == (0.1 + 0.2, "abc", 157)
    assert (row["fit_seconds"], row["steps"], row["windows_seen"], row["device"]) == (2.0, 40, 320, "cpu")
    assert (row["argument.hidden_size"], row["recipe.loss"]) == (64, "mse")
    assert pd.isna(row["mase"])
    assert pd.isna(row["train_windows_per_second"])


LAYERS = [
    {"kind": "conv1d", "num_filters": 8},
    {"kind": "residual", "layers": [{"kind": "norm", "function": "layer"}]},
]


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [
        (LAYERS, "conv1d+residual(norm)", "conv1d(num_filters=8) + residual(layers=norm(function=layer))"),
        (["embed", "head"], "embed+head", "embed + head"),
        ([], "none", "none"),
        (0.001, "0.001", "0.001"),
        (None, "None", "None"),
        ("relu", "relu", "relu"),
    ],
)
def test_a_value_is_written_short_for_a_label_and_in_full_for_the_conditions(value: Any, short: str, full: str):
    assert (written(value), written(value, full=True)) == (short, full)


def test_lists_are_written_out_in_the_table_so_that_rows_can_be_grouped(tmp_path: Path):
    keep(tmp_path, record_of(RUN.model_copy(update={"arguments": {"layers": LAYERS, "readout": "all"}})))

    frame = load_records(tmp_path)

    assert frame.groupby("argument.layers").size().to_dict() == {written(LAYERS, full=True): 1}
    assert frame["argument.readout"].tolist() == ["all"]


def test_a_failed_run_has_a_row_with_its_reason_and_no_numbers(tmp_path: Path):
    other = RUN.model_copy(update={"seed": 1})
    keep(tmp_path, record_of(), failed(other))

    frame = load_records(tmp_path).set_index("seed")

    assert (frame.loc[1, "status"], frame.loc[1, "reason"]) == ("failed", "it broke")
    for name in ("mse_scaled", "mae_scaled", "mse", "mae", "rmse", "smape", "fit_seconds", "num_parameters"):
        assert np.isnan(frame.loc[1, name])
        assert not np.isnan(frame.loc[0, name])


def test_blank_numbers_are_nan_even_where_every_run_failed(tmp_path: Path):
    keep(tmp_path, failed(RUN))

    frame = load_records(tmp_path)

    assert np.isnan(frame[["mse_scaled", "mase", "owa", "fit_seconds", "num_parameters"]].to_numpy()).all()


def test_the_table_holds_the_runs_of_the_last_plan_unless_all_are_asked_for(tmp_path: Path):
    other = RUN.model_copy(update={"seed": 1})
    keep(tmp_path, record_of(other))
    keep(tmp_path, record_of())

    assert load_records(tmp_path)["seed"].tolist() == [0]
    assert sorted(load_records(tmp_path, everything=True)["seed"]) == [0, 1]


def test_planned_runs_without_a_record_have_no_row(tmp_path: Path):
    store = keep(tmp_path, record_of(), record_of(RUN.model_copy(update={"seed": 1})))
    store.path(RUN.key()).unlink()

    assert load_records(tmp_path)["seed"].tolist() == [1]


def test_a_folder_without_results_is_told_with_the_remedy(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no plan.json, so no results; `tsbench run --output .*` makes them"):
        load_records(tmp_path)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path):
    plan = Plan(
        title="t", experiment="e", command="tsbench run", differences=["d"], notes=["n"],
        runs=[PlannedRun(label="gru", run=RUN)],
    )  # fmt: skip

    plan.save(tmp_path)

    assert Plan.load(tmp_path) == plan
