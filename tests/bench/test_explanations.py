"""Explaining the runs of a plan: with what was kept, once, and without the targets of the test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tsbench.bench import runner
from tsbench.bench.explanations import ExplanationStore, context_windows, explain_runs, first_seeds
from tsbench.bench.records import Plan, Record, RecordStore, forecaster_path
from tsbench.bench.runner import Observer, Prepared, run_plan
from tsbench.data.panel import Panel
from tsbench.evaluation.importance import Explanation
from tsbench.evaluation.throughput import measure_inference
from tsbench.training.forecaster import Forecaster

pytest.importorskip("captum", reason="captum is the extra 'explain'")

PlanOf = Callable[..., Plan]
CarryOut = Callable[..., dict[str, Record]]
CPU = torch.device("cpu")


def explained(plan: Plan, panel: Panel, folder: Path, **options: object) -> dict[str, str]:
    """What became of each run, by its label."""
    told: dict[str, str] = {}
    explain_runs(
        first_seeds(plan.runs), {panel.name: panel}, folder, CPU,
        tell=lambda planned, what: told.update({planned.label: what}), **{"num_windows": 3, **options},
    )  # fmt: skip
    return told


def arrays_of(folder: Path) -> dict[str, dict[str, bytes]]:
    store = ExplanationStore(folder)
    return {
        path.stem: {name: array.tobytes() for name, array in store.read(path.stem).to_arrays().items()}
        for path in store.folder.iterdir()
    }


@pytest.fixture
def keep(tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan, Path], None]:
    """`tsbench run --keep-forecasters` on the tiny panel."""
    monkeypatch.setattr(runner, "measure_inference", lambda *words: measure_inference(*words, seconds=0))

    def run(plan: Plan, folder: Path) -> None:
        run_plan(plan, {tiny_panel.name: tiny_panel}, folder, CPU, plan.runs, Observer(), keep_forecasters=True)

    return run


def test_a_kept_forecaster_is_explained_as_one_that_is_trained_again(
    plan_of: PlanOf, carry_out: CarryOut, keep: Callable[[Plan, Path], None], tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(models={"gru": {}, "cnn": {}, "transformer": {}})
    keep(plan, tmp_path / "kept")
    carry_out(plan, tmp_path / "not")

    kept, trained = (explained(plan, tiny_panel, tmp_path / folder) for folder in ("kept", "not"))

    assert set(kept.values()) == {"explained on 3 test windows, kept forecaster"}
    assert set(trained.values()) == {"explained on 3 test windows, trained again"}
    assert arrays_of(tmp_path / "kept") == arrays_of(tmp_path / "not") != {}
    assert all(forecaster_path(tmp_path / "not", planned.run.key()).is_file() for planned in plan.runs)


def test_keeping_forecasters_changes_no_record(
    plan_of: PlanOf, carry_out: CarryOut, keep: Callable[[Plan, Path], None], tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(models={"mlp": {}})
    keep(plan, tmp_path / "kept")
    usual = carry_out(plan, tmp_path / "not")["mlp"]

    kept = RecordStore(tmp_path / "kept").read(usual.key)

    assert kept.metrics == usual.metrics
    assert not (tmp_path / "not" / "forecasters").exists()
    forecast = Forecaster.load(forecaster_path(tmp_path / "kept", usual.key)).predict(tiny_panel)
    assert len(forecast) == 12 * 3


def test_of_every_label_the_first_seed_is_explained(plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path):
    plan = plan_of(models={"mlp": {"hidden_size": [4, 8]}}, seeds=[3, 1])

    told = explained(plan, tiny_panel, tmp_path)

    assert set(told) == {"naive", "seasonal_naive", "linear", "mlp hidden_size=4", "mlp hidden_size=8"}
    first = {planned.run.key() for planned in plan.runs if planned.run.seed == 3}
    assert {path.stem for path in (tmp_path / "explanations").iterdir()} == first


def test_what_was_explained_is_left_unless_forced_or_asked_for_other_windows(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    plan, store = plan_of(models={"naive": {}}), ExplanationStore(tmp_path)
    explained(plan, tiny_panel, tmp_path)
    marked = Explanation(np.array([1]), {}, {}, num_windows=3, num_channels=1)
    for planned in plan.runs:
        store.write(planned.run.key(), marked)

    assert set(explained(plan, tiny_panel, tmp_path).values()) == {"explained before"}
    assert all(store.read(planned.run.key()).importance == {} for planned in plan.runs)
    for options in ({"force": True}, {"num_windows": 4}):
        told = explained(plan, tiny_panel, tmp_path, **options)
        assert all(what.endswith("kept forecaster") for what in told.values())
    assert all(store.read(planned.run.key()).num_windows == 4 for planned in plan.runs)


def test_more_windows_than_there_are_means_all_of_them(plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path):
    plan = plan_of(models={"naive": {}}, horizons=120)  # of 168 test rows

    for expected in ("explained on 49 test windows, trained again", "explained before"):
        assert set(explained(plan, tiny_panel, tmp_path, num_windows=99).values()) == {expected}


def test_a_failed_run_is_passed_over_with_its_reason(
    plan_of: PlanOf, carry_out: CarryOut, tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(context_lengths=12, models={"linear": {}})  # shorter than a season
    carry_out(plan, tmp_path / "run")

    recorded, new = (explained(plan, tiny_panel, tmp_path / folder) for folder in ("run", "new"))

    reason = "seasonal_naive needs a context of at least one season: 24 rows, got 12"
    assert recorded["seasonal_naive"].startswith(f"skipped, its run is recorded as failed: {reason}")
    assert new["seasonal_naive"].startswith(f"skipped, it cannot be trained: {reason}")
    assert recorded["linear"] == new["linear"] == "explained on 3 test windows, trained again"


@pytest.mark.parametrize("count", [1, 3])
def test_contexts_come_from_all_over_the_test_part_and_no_target_is_gathered(
    count: int, plan_of: PlanOf, tiny_panel: Panel
):
    run = plan_of(models={"naive": {}}).runs[0].run  # 12 rows from 48
    first_test_row = 384 + 120
    last_rows = [first_test_row, first_test_row + 78, first_test_row + 156][:count]  # rows after the contexts
    values = np.full_like(tiny_panel.values, np.nan)
    for row in last_rows:
        values[row - 48 : row] = tiny_panel.values[row - 48 : row]
    blank = Prepared.on(tiny_panel, CPU)
    blank = replace(blank, values_TC=torch.from_numpy(blank.scaler.apply(values)))

    (context_WLC,) = context_windows(run, blank, count)

    assert context_WLC.shape == (count, 48, 3)
    assert context_WLC.isfinite().all()
    expected = Prepared.on(tiny_panel, CPU).values_TC[last_rows[-1] - 48 : last_rows[-1]]
    assert torch.equal(context_WLC[-1], expected)
