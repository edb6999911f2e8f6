"""The runner: every run becomes a record, whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsbench.api import Matrix
from tsbench.bench.experiment import Experiment, make_plan
from tsbench.bench.records import Plan, PlannedRun, Record, RecordStore, load_item_metrics, load_records
from tsbench.bench.runner import Observer, Prepared, execute, run_plan, seconds_by_probe
from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByLast
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import Windows
from tsbench.errors import ConfigError
from tsbench.evaluation.accuracy import evaluate
from tsbench.models.mlp import MLP
from tsbench.models.naive import Naive
from tsbench.models.registry import model_specs
from tsbench.training.fit import Progress
from tsbench.training.forecaster import Forecaster

PlanOf = Callable[..., Plan]
CarryOut = Callable[..., dict[str, Record]]

UNTRAINED = ("naive", "seasonal_naive", "profile")
SOLVED = ("ridge", "seasonal_ridge")
DEFAULTS = sorted(set(model_specs()) - {"naive2"})
"""What runs where no models are named."""


@pytest.fixture(scope="module")
def smoke_folder(plan_of: PlanOf, carry_out: CarryOut, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model once, for four steps."""
    folder = tmp_path_factory.mktemp("smoke")
    carry_out(plan_of(), folder)
    return folder


@pytest.fixture(scope="module")
def smoke(smoke_folder: Path) -> dict[str, Record]:
    """The records of every model, by its name."""
    return {record.run.model: record for record in RecordStore(smoke_folder)}


def test_a_record_says_what_was_taken_from_a_pretrained_forecaster(
    plan_of: PlanOf, carry_out: CarryOut, tiny_panel: Panel, tmp_path: Path
):
    small = {"hidden_size": 8, "decoder": "direct"}
    source = Forecaster("gru", context_length=48, horizon=24, recipe={"max_steps": 2, "batch_size": 8}, **small)
    source.fit(tiny_panel.train, tiny_panel.validation).save(tmp_path / "gru.pt")

    plan = plan_of(models={"gru": {**small, "recipe": {"pretrained": str(tmp_path / "gru.pt")}}})
    record = carry_out(plan, tmp_path)["gru"]

    assert record.pretrained is not None
    assert len(record.pretrained.taken) == 6
    assert record.pretrained.mismatched == [
        "decoder.linear.weight (24x8 there, 12x8 here)",
        "decoder.linear.bias (24 there, 12 here)",
    ]


# A matrix in which all is well


def test_the_losses_beside_a_record_have_its_error_as_their_mean(smoke: dict[str, Record], smoke_folder: Path):
    for record in smoke.values():
        losses = RecordStore(smoke_folder).losses(record.key)

        assert losses is not None
        assert losses.shape == (157, 12)
        assert losses.loss_M.mean() == pytest.approx(record.metrics.mse_scaled, rel=1e-5)


def test_every_model_has_a_record_of_success(smoke: dict[str, Record]):
    assert set(smoke) == set(DEFAULTS)
    assert {(record.status, record.reason) for record in smoke.values()} == {("ok", "")}


def test_all_models_were_asked_about_the_same_points(smoke: dict[str, Record]):
    scored = {(record.metrics.points_digest, record.metrics.num_scored_windows) for record in smoke.values()}

    assert len(scored) == 1
    assert scored.pop()[1] == 168 - 12 + 1  # test rows, horizon


@pytest.mark.parametrize("model", ["naive", "linear", "gru"])
def test_a_record_says_what_a_script_would_find(model: str, smoke: dict[str, Record], tiny_panel: Panel):
    forecaster = Forecaster(model, context_length=48, horizon=12, recipe=smoke[model].run.recipe)
    forecaster.fit(tiny_panel.train, tiny_panel.validation, seed=0, device="cpu")
    values_TC = torch.from_numpy(forecaster.scaler.apply(tiny_panel.values))

    totals = evaluate(forecaster, Windows.of(tiny_panel.test, values_TC, 48, 12), forecaster.scaler)

    assert smoke[model].metrics.mse_scaled == (totals.squared_HC / totals.num_windows).mean()


def test_what_training_took_is_counted(smoke: dict[str, Record]):
    for name, record in smoke.items():
        trained = name not in (*UNTRAINED, *SOLVED)
        assert (record.cost.steps, record.cost.windows_seen) == ((4, 4 * 8) if trained else (0, 0))
        assert [look.step for look in record.curve] == ([2, 4] if trained else [])
        assert (record.cost.train_windows_per_second is not None) == trained
        assert (record.cost.share_of_bare_limit is not None) == trained
        assert (record.cost.num_parameters > 0) == (name not in UNTRAINED)
    assert smoke["linear"].cost.num_parameters == 48 * 12 + 12
    assert smoke["linear"].cost.flops_per_window == 3 * 2 * 48 * 12  # three channels


def test_each_phase_has_its_clock(smoke: dict[str, Record]):
    for record in smoke.values():
        assert set(record.cost.seconds) == {"build", "train", "validate", "evaluate", "measure"}
        assert all(seconds >= 0 for seconds in record.cost.seconds.values())
        assert record.cost.peak_memory_mib > 0
        assert record.cost.predict_batch_size == min(256, 120 - 12 + 1)  # validation windows


def test_the_data_are_described_for_the_report(smoke: dict[str, Record], tiny_panel: Panel):
    facts = smoke["gru"].data

    assert facts.channels == ["queen_45", "k_road_183", "shortland_19"]
    assert (facts.num_rows, facts.num_items, facts.freq, facts.seasonality) == (672, 1, "h", 24)
    assert facts.split["train"] == ["384", "2024-02-05 00:00:00", "2024-02-20 23:00:00"]
    assert [facts.split[part][0] for part in ("validation", "test")] == ["120", "168"]
    assert facts.attribution == tiny_panel.about.attribution != ""


def test_some_forecasts_are_kept_beside_the_record(smoke: dict[str, Record], smoke_folder: Path, tiny_panel: Panel):
    arrays = RecordStore(smoke_folder).arrays(smoke["seasonal_naive"].key)

    first_test_row = 384 + 120
    assert arrays["forecast"].shape == (6, 12, 3)
    first = list(arrays["chosen_as"]).index("evenly spaced")
    assert arrays["target_start"][first] == tiny_panel.timestamps[first_test_row]
    a_day_before = tiny_panel.values[first_test_row - 24 : first_test_row - 12]
    np.testing.assert_allclose(arrays["forecast"][first], a_day_before, rtol=1e-4, atol=1e-3)


def test_every_model_is_shown_on_the_same_windows(smoke: dict[str, Record], smoke_folder: Path):
    shown = {
        tuple(RecordStore(smoke_folder).arrays(record.key)[name].tobytes() for name in ("target_start", "channel"))
        for record in smoke.values()
    }

    assert len(shown) == 1


def test_every_run_is_asked_again_with_the_future_hidden(smoke: dict[str, Record]):
    for record in smoke.values():
        assert record.audit is not None
        assert record.audit.findings == []
        assert record.audit.num_windows == {"train": 325, "validation": 109, "test": 157}
    assert [smoke[model].audit.receptive_field for model in ("naive", "seasonal_naive", "gru")] == [1, 24, 48]


def test_where_the_errors_lie_adds_up_to_the_error(smoke: dict[str, Record]):
    for record in smoke.values():
        tables = record.diagnostics.errors_by
        assert set(tables) == {"hour", "weekday", "level"}
        # Tenths of 157 windows differ by one window at most.
        assert np.mean(tables["level"].mse_scaled) == pytest.approx(record.metrics.mse_scaled, rel=0.02)
        assert sum(record.diagnostics.histogram) == pytest.approx(1, abs=1e-4)


def comparable(folder: Path) -> dict[str, Any]:
    """Everything in the records that is not a clock, by model."""
    store = RecordStore(folder)
    return {
        record.run.model: (
            record.metrics,
            [(look.step, look.train_loss, look.val_loss) for look in record.curve],
            {name: array.tobytes() for name, array in store.arrays(record.key).items()},
            (record.cost.best_step, record.cost.flops_per_window),
        )
        for record in store
    }


def test_the_same_seed_gives_the_same_record_bit_for_bit(
    plan_of: PlanOf, carry_out: CarryOut, smoke_folder: Path, tmp_path: Path
):
    carry_out(plan_of(), tmp_path)

    assert comparable(tmp_path) == comparable(smoke_folder)


def test_another_seed_gives_another_record_where_there_is_chance(
    plan_of: PlanOf, carry_out: CarryOut, smoke: dict[str, Record], tmp_path: Path
):
    others = carry_out(plan_of(seeds=1), tmp_path)

    same = [name for name in smoke if others[name].metrics == smoke[name].metrics]
    assert sorted(same) == sorted([*UNTRAINED, *SOLVED])  # solved, not drawn


# A matrix in which something happens


def breaks_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The perceptron raises this."""

    def forward(self: MLP, context_BLC: Tensor) -> Tensor:
        raise error

    monkeypatch.setattr(MLP, "forward", forward)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("shapes do not match\nhere is a long story"), "failed", "RuntimeError: shapes do not match"),
        (ConfigError("mlp: it cannot be"), "failed", "mlp: it cannot be"),
        (KeyError(), "failed", "KeyError: KeyError"),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), "out_of_memory", "tried to allocate 9 GiB"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_model_that_raises_is_recorded_with_its_reason_and_the_others_go_on(
    error: Exception, status: str, reason: str,
    plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    breaks_with(monkeypatch, error)

    records = carry_out(plan_of(models={"naive": {}, "mlp": {}, "linear": {}}), tmp_path)

    assert (records["mlp"].status, records["mlp"].reason) == (status, reason)
    assert (records["mlp"].metrics, records["mlp"].cost) == (None, None)
    assert {records[name].status for name in ("naive", "seasonal_naive", "linear")} == {"ok"}
    assert load_records(tmp_path).set_index("model").loc["mlp", "reason"] == reason


def test_the_speed_of_a_model_is_read_of_one_seed(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    plan = plan_of(models={"linear": {}}, seeds=[3, 4, 5])

    carry_out(plan, tmp_path)

    table = load_records(tmp_path).query("model == 'linear'").set_index("seed")
    assert table["train_windows_per_second"].notna().all()
    speeds = table[["predict_windows_per_second", "latency_p50_ms", "latency_p95_ms", "bare_step_ms"]]
    assert speeds.notna().all(axis=1).to_dict() == {3: True, 4: False, 5: False}
    assert speeds.drop(index=3).isna().all(axis=None)


def test_where_the_first_seed_fails_the_speed_is_read_of_the_next_at_the_end(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build = Forecaster.build

    def without_memory(self: Forecaster, seed: int) -> Forecaster:
        if self.spec.name == "linear" and seed == 3:
            raise MemoryError
        return build(self, seed)

    monkeypatch.setattr(Forecaster, "build", without_memory)
    plan = plan_of(models={"linear": {}}, seeds=[3, 4, 5])
    plan.save(tmp_path)

    run_plan(
        plan, {tiny_panel.name: tiny_panel}, tmp_path, torch.device("cpu"), plan.runs, Observer(), measure_alone=True
    )

    table = load_records(tmp_path).query("model == 'linear'").set_index("seed")
    assert table["status"].to_dict() == {3: "out_of_memory", 4: "ok", 5: "ok"}
    assert table["latency_p50_ms"].notna().to_dict() == {3: False, 4: True, 5: False}


def test_a_bug_leaves_its_traceback_in_the_record(
    plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    breaks_with(monkeypatch, RuntimeError("shapes do not match"))

    detail = carry_out(plan_of(models={"mlp": {}}), tmp_path)["mlp"].detail

    assert detail.startswith("Traceback")
    assert "in forward" in detail


def test_training_that_diverges_is_recorded_as_such(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    wild = {"optimizer": "sgd", "learning_rate": 1e30}

    record = carry_out(plan_of(models={"mlp": {"recipe": wild}}), tmp_path)["mlp"]

    assert (record.status, record.metrics) == ("diverged", None)
    assert "try a smaller learning_rate" in record.reason


def test_forecasts_that_are_no_numbers_are_recorded_as_diverged_and_the_record_can_be_read(
    plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Naive, "forward", lambda self, context_BLC: context_BLC[:, :12] * torch.nan)

    records = carry_out(plan_of(models={"naive": {}}), tmp_path)

    assert (records["naive"].status, records["linear"].status) == ("diverged", "ok")


def test_a_context_shorter_than_a_season_fails_with_the_remedy(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    records = carry_out(plan_of(context_lengths=12, models={"linear": {}}), tmp_path)

    assert records["seasonal_naive"].status == "failed"
    assert records["seasonal_naive"].reason == (
        "seasonal_naive needs a context of at least one season: 24 rows, got 12; give a longer --context-length"
    )
    assert records["linear"].status == "ok"


def test_half_precision_on_a_cpu_is_refused_before_the_first_run(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    plan = plan_of(models={"mlp": {"recipe": {"precision": "16"}}})

    with pytest.raises(ConfigError, match="--precision 16 needs a GPU"):
        carry_out(plan, tmp_path)

    assert RecordStore(tmp_path).keys() == []


class Diary(Observer):
    """Writes down what it is told, and what is on the disk then."""

    def __init__(self, folder: Path, stop_after: int = 99) -> None:
        self.store, self.stop_after = RecordStore(folder), stop_after
        self.told: list[str] = []

    def starts(self, planned: PlannedRun) -> None:
        self.told.append(f"{planned.label} starts, {len(self.store.keys())} kept")

    def advances(self, planned: PlannedRun, progress: Progress) -> None:
        self.told.append(f"{planned.label} at step {progress.step}")

    def ends(self, planned: PlannedRun, record: Record) -> None:
        self.told.append(f"{planned.label} {record.status}, {len(self.store.keys())} kept")
        if len(self.store.keys()) == self.stop_after:
            raise KeyboardInterrupt


def test_a_record_is_on_the_disk_before_the_next_run_starts(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    diary = Diary(tmp_path)

    carry_out(plan_of(models={"linear": {}}), tmp_path, diary)

    assert diary.told == [
        "naive starts, 0 kept",
        "naive ok, 1 kept",
        "seasonal_naive starts, 1 kept",
        "seasonal_naive ok, 2 kept",
        "linear starts, 2 kept",
        "linear at step 2",
        "linear at step 4",
        "linear ok, 3 kept",
    ]


def test_an_interrupt_keeps_what_was_finished(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan_of(models={"linear": {}}), tmp_path, Diary(tmp_path, stop_after=2))

    assert load_records(tmp_path)["model"].tolist() == ["naive", "seasonal_naive"]


# What is missing


def missing(plan: Plan, folder: Path, **options: Any) -> list[str]:
    return [planned.label for planned in Matrix(plan, {}, folder).missing(**options)]


def test_finished_runs_are_not_missing_unless_forced(plan_of: PlanOf, smoke_folder: Path, tmp_path: Path):
    assert missing(plan_of(), smoke_folder) == []
    assert len(missing(plan_of(), smoke_folder, force=True)) == len(DEFAULTS)
    assert len(missing(plan_of(), tmp_path)) == len(DEFAULTS)


def test_a_changed_keyword_makes_that_model_missing_alone(plan_of: PlanOf, smoke_folder: Path):
    sections: dict[str, Any] = {name: {} for name in DEFAULTS}

    assert missing(plan_of(models={**sections, "gru": {"hidden_size": 64}}), smoke_folder) == ["gru"]
    assert missing(plan_of(models={**sections, "tcn": {"recipe": {"loss": "mae"}}}), smoke_folder) == ["tcn"]


def test_a_changed_recipe_seed_or_number_in_the_data_makes_all_missing(
    plan_of: PlanOf, smoke_folder: Path, tiny_panel: Panel
):
    values = tiny_panel.values.copy()
    values[17, 1] += 1

    for plan in (plan_of(recipe={"max_steps": 5}), plan_of(seeds=1), plan_of(replace(tiny_panel, values=values))):
        assert len(missing(plan, smoke_folder)) == len(DEFAULTS)


def test_a_failure_counts_as_done(plan_of: PlanOf, carry_out: CarryOut, tmp_path: Path):
    plan = plan_of(context_lengths=12, models={"linear": {}})
    carry_out(plan, tmp_path)

    assert missing(plan, tmp_path) == []
    assert missing(plan, tmp_path, only={"status": "failed"}, force=True) == ["seasonal_naive"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"model": "gru"}, ["gru hidden_size=8", "gru hidden_size=16"]),
        ({"label": "gru hidden_size=8"}, ["gru hidden_size=8"]),
        ({"hidden_size": [16, 256]}, ["gru hidden_size=16"]),
        ({"model": ["naive", "linear"], "seed": 0}, ["naive", "linear"]),
        ({"max_steps": 4, "model": "naive"}, ["naive"]),
    ],
)
def test_only_narrows_what_is_missing(only: dict[str, Any], expected: list[str], plan_of: PlanOf, tmp_path: Path):
    assert missing(plan_of(models={"gru": {"hidden_size": [8, 16]}}), tmp_path, only=only) == expected


def test_only_with_a_value_that_no_planned_run_has_is_refused_with_those_that_are(plan_of: PlanOf, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--only model=xyz: no planned run .* planned are .*gru"):
        missing(plan_of(), tmp_path, only={"model": "xyz"})


def test_only_with_an_unknown_key_is_refused_with_the_nearest(plan_of: PlanOf, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--only modle=\.\.\.: unknown key; did you mean 'model'"):
        missing(plan_of(), tmp_path, only={"modle": "gru"})


# The probe


def probe(plan: Plan, panel: Panel) -> dict[str, float]:
    prepared = Prepared.on(panel, torch.device("cpu"))
    return {planned.label: seconds_by_probe(planned.run, prepared) for planned in plan.runs}


def test_a_probe_grows_with_the_budget(plan_of: PlanOf, tiny_panel: Panel):
    short, long = (
        probe(plan_of(models={"mlp": {}}, recipe={"max_steps": steps}), tiny_panel)["mlp"] for steps in (100, 100_000)
    )

    assert 0 < short < long
    assert long > 1


def test_a_probe_of_a_run_that_will_fail_says_nothing(
    plan_of: PlanOf, tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch
):
    breaks_with(monkeypatch, RuntimeError("shapes do not match"))

    seconds = probe(plan_of(context_lengths=12, models={"mlp": {}}), tiny_panel)

    assert seconds["mlp"] == seconds["seasonal_naive"] == 0
    assert seconds["linear"] > 0


def test_metrics_of_each_item_are_kept_beside_the_record(tmp_path: Path):
    whole = synthetic_panel(num_rows=600, num_channels=1, seed=2)
    panel = replace(
        whole, values=whole.values + 9, items=("x", "y"), offsets=np.array([0, 280, 600]), split=SplitByLast(test=12)
    )
    plan, panels = make_plan(
        "items",
        Experiment(datasets="synthetic", context_lengths=48, models={"naive2": {}}, seeds=0),
        lambda name: panel,
    )
    prepared = Prepared.on(panels[panel.name], torch.device("cpu"))

    found = {
        planned.run.model: execute(planned.run, prepared) for planned in plan.runs if planned.run.model != "linear"
    }

    for record, arrays in found.values():
        assert record.metrics
        assert record.metrics.mase == pytest.approx(arrays["item_mase"].mean())
        assert record.metrics.wape
        assert record.metrics.owa
        assert arrays["item_wape"].shape == (2,)
        RecordStore(tmp_path).write(record, arrays)
    assert found["naive2"][0].metrics.owa == pytest.approx(1)

    plan.save(tmp_path)
    frame = load_item_metrics(tmp_path).set_index(["dataset", "model", "seed", "item"]).sort_index()
    assert len(frame) == 2 * len(found)
    for model, (record, arrays) in found.items():
        of_model = frame.loc[(panel.name, model, 0)]
        assert of_model.index.tolist() == ["x", "y"]
        assert of_model["mase"].tolist() == arrays["item_mase"].tolist()
        assert record.metrics.mase == pytest.approx(of_model["mase"].mean())


def test_a_dataset_of_one_item_has_no_metrics_by_item(plan_of: Callable[..., Plan], tmp_path: Path):
    plan_of().save(tmp_path)

    assert load_item_metrics(tmp_path).empty
