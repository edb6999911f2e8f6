"""Seeds trained together in a matrix: which, when it pays, and what their records say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tsbench.bench import packing, runner
from tsbench.bench.estimate import Estimate
from tsbench.bench.observer import Observer
from tsbench.bench.packing import decide, grouped
from tsbench.bench.records import Plan, PlannedRun, Record, RecordStore, Run
from tsbench.bench.runner import run_plan
from tsbench.bench.workers import run_in_workers
from tsbench.data.panel import Panel
from tsbench.evaluation.throughput import measure_inference
from tsbench.models.mlp import MLP
from tsbench.training.forecaster import Forecaster

PlanOf = Callable[..., Plan]

THREE = {"models": {"linear": {}, "gru": {"hidden_size": 8}}, "seeds": [0, 1, 2]}


@pytest.fixture(autouse=True)
def _hardly_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "measure_inference", partial(measure_inference, seconds=0))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packing"


def records_of(plan: Plan, folder: Path) -> dict[str, Record]:
    store = RecordStore(folder)
    return {f"{planned.label} {planned.run.seed}": store.read(planned.run.key()) for planned in plan.runs}


def execute(
    plan: Plan, panel: Panel, folder: Path, pack: str, observer: Observer | None = None, **options: Any
) -> dict[str, Record]:
    panels, device = {panel.name: panel}, torch.device("cpu")
    run_plan(plan, panels, folder, device, plan.runs, observer or Observer(), pack=pack, **options)
    return records_of(plan, folder)


class Diary(Observer):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def starts(self, planned: PlannedRun) -> None:
        self.lines.append(f"start {planned.label} {planned.run.seed}")

    def ends(self, planned: PlannedRun, record: Record) -> None:
        self.lines.append(f"end {planned.label} {planned.run.seed}")

    def measures(self, planned: PlannedRun) -> None:
        self.lines.append(f"measure {planned.label} {planned.run.seed}")


# Which


def test_runs_that_differ_in_their_seed_alone_belong_together(plan_of: PlanOf):
    plan = plan_of(models={"gru": {"hidden_size": [8, 16]}, "linear": {}}, seeds=[0, 1])

    groups = [[f"{one.label} {one.run.seed}" for one in group] for group in grouped(plan.runs, "auto")]

    assert ["gru hidden_size=8 0", "gru hidden_size=8 1"] in groups
    assert ["gru hidden_size=16 0", "gru hidden_size=16 1"] in groups
    assert ["linear 0", "linear 1"] in groups
    assert ["naive 0"] in groups, "nothing is trained there"
    assert all(len(group) == 1 for group in grouped(plan.runs, "never"))


# When


def runs_of(plan_of: PlanOf, **recipe: Any) -> list[Run]:
    plan = plan_of(**THREE, recipe={"max_steps": 600, **recipe})
    return [planned.run for planned in plan.runs if planned.label == "gru"]


def asked(runs: list[Run], together: float, where: dict[str, Any] | None = None, pack: str = "auto") -> Any:
    """The decision when a step of a seed takes a second alone and so many together, and how often that was timed."""
    times: list[str] = []

    def timed(name: str, seconds: float) -> Callable[[], float]:
        return lambda: times.append(name) or seconds

    return decide(runs, pack, where or {}, timed("together", together), timed("alone", 1.0)), times


@pytest.mark.parametrize(
    ("seconds", "seeds", "speedup", "words"),
    [
        (0.5, 3, 2.0, "it pays"),
        (0.95, 1, 1.053, "it does not pay: less than 1.1 times as fast"),
        (2.0, 1, 0.5, "not pay"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_seeds_are_trained_together_where_a_measurement_says_that_it_pays(
    seconds: float, seeds: int, speedup: float, words: str, plan_of: PlanOf
):
    decision, times = asked(runs_of(plan_of), seconds)

    assert (decision.seeds, decision.speedup) == (seeds, speedup)
    assert words in decision.reason
    assert times == ["together", "alone"] * 3


def test_what_was_measured_once_is_remembered_until_something_changes(plan_of: PlanOf, cache: Path):
    first, _ = asked(runs_of(plan_of), 0.5)

    again, times = asked(runs_of(plan_of, max_steps=900, learning_rate=0.1), 2.0)
    assert (again, times) == (first, [])
    assert len(list(cache.glob("*.json"))) == 1

    for runs, where in (
        (runs_of(plan_of)[:2], {}),
        (runs_of(plan_of, batch_size=16), {}),
        (runs_of(plan_of), {"machine": "another"}),
    ):
        assert asked(runs, 2.0, where)[0].seeds == 1


@pytest.mark.parametrize("damage", ["", "{}", "[1]", "no json"])
def test_a_damaged_memory_is_measured_again(damage: str, plan_of: PlanOf, cache: Path):
    asked(runs_of(plan_of), 0.5)
    for path in cache.glob("*.json"):
        path.write_text(damage)

    decision, times = asked(runs_of(plan_of), 2.0)

    assert decision.speedup == 0.5
    assert times


def test_few_steps_are_not_worth_a_measurement(plan_of: PlanOf):
    decision, times = asked(runs_of(plan_of, max_steps=499), 0.5)

    assert (decision.seeds, decision.speedup, times) == (1, None, [])
    assert "fewer than 500 steps" in decision.reason


def test_always_asks_nobody(plan_of: PlanOf):
    decision, times = asked(runs_of(plan_of, max_steps=1), 2.0, pack="always")

    assert (decision.seeds, decision.reason, times) == (3, "--pack always", [])


def test_the_measurement_itself_takes_steps_of_both_ways(
    plan_of: PlanOf, tiny_panel: Panel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "FEW_STEPS", 1)

    records = execute(plan_of(**THREE), tiny_panel, tmp_path, "auto")

    decisions = {name: record.packing for name, record in records.items()}
    assert decisions["naive 0"] is None
    for name in ("linear 0", "gru 2"):
        assert decisions[name].speedup > 0
        assert decisions[name].seeds == (3 if decisions[name].speedup >= 1.1 else 1)
    assert len(list(cache.glob("*.json"))) == 2


# What records say


def test_records_of_seeds_that_were_trained_together_are_those_of_their_own_runs(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(**THREE)

    packed = execute(plan, tiny_panel, tmp_path / "packed", "always")
    alone = execute(plan, tiny_panel, tmp_path / "alone", "never")

    for name, record in packed.items():
        own = alone[name]
        assert record.run == own.run
        assert record.status == own.status == "ok"
        assert record.metrics.mse_scaled == pytest.approx(own.metrics.mse_scaled, rel=1e-5)
        assert [(p.step, p.train_loss, p.val_loss) for p in record.curve] == [
            (p.step, pytest.approx(p.train_loss, rel=1e-5), pytest.approx(p.val_loss, rel=1e-5)) for p in own.curve
        ]
        assert (record.cost.steps, record.cost.best_step, record.cost.windows_seen) == (
            own.cost.steps,
            own.cost.best_step,
            own.cost.windows_seen,
        )
        learned = record.run.model in ("linear", "gru")
        assert record.cost.packed == (3 if learned else 1)
        assert own.packing is None
        assert (record.packing.seeds if learned else record.packing) == (3 if learned else None)


def test_the_speed_of_seeds_trained_together_is_read_again_from_one_of_them(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    diary = Diary()

    records = execute(plan_of(**THREE), tiny_panel, tmp_path, "always", diary, measure_alone=True)

    assert diary.lines[-2:] == ["measure linear 0", "measure gru 0"]
    assert {name: record.cost.packed for name, record in records.items() if record.packing} == {
        "linear 0": 1, "linear 1": 3, "linear 2": 3, "gru 0": 1, "gru 1": 3, "gru 2": 3
    }  # fmt: skip
    assert records["gru 0"].packing.seeds == 3, "that it was trained together stays"


def test_all_start_together_and_each_is_on_the_disk_when_its_end_is_told(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    diary = Diary()

    execute(plan_of(models={"linear": {}}, seeds=[0, 1]), tiny_panel, tmp_path, "always", diary)

    assert diary.lines[-4:] == ["start linear 0", "start linear 1", "end linear 0", "end linear 1"]


def test_what_cannot_be_packed_is_trained_seed_by_seed_and_the_record_says_why(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    forward = MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda self, context: forward(self, context + torch.rand_like(context)))
    models = {"ridge": {}, "mlp": {"hidden_size": 8}}

    records = execute(plan_of(models=models, seeds=[0, 1]), tiny_panel, tmp_path, "always")

    assert {record.status for record in records.values()} == {"ok"}
    assert records["ridge 1"].packing.reason == "the model is solved for, not trained"
    assert "vmap: called random operation" in records["mlp 0"].packing.reason
    assert {record.packing.seeds for record in records.values() if record.packing} - {2} == {1}


def test_seeds_whose_training_is_followed_by_loggers_train_one_by_one(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(models={"linear": {}}, seeds=[0, 1])

    records = execute(plan, tiny_panel, tmp_path, "always", loggers=["csv"])

    assert records["linear 1"].packing.reason == "loggers follow one training at a time"
    tracks = list(tmp_path.glob("logs/csv/*/linear-seed*/metrics.csv"))
    assert len(tracks) == 2
    assert all("val_loss" in track.read_text() for track in tracks)


def test_a_seed_that_diverges_does_not_take_the_others_with_it(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build = Forecaster.build

    def one_explodes(self: Forecaster, seed: int) -> Forecaster:
        build(self, seed)
        if seed == 1 and self.spec.name == "linear":
            self.model.head.linear.weight.data.fill_(torch.inf)
        return self

    monkeypatch.setattr(Forecaster, "build", one_explodes)

    records = execute(plan_of(**THREE), tiny_panel, tmp_path, "always")

    status = {name: record.status for name, record in records.items() if "linear" in name}
    assert status == {"linear 0": "ok", "linear 1": "diverged", "linear 2": "ok"}
    assert "loss left the finite numbers" in records["linear 1"].reason


# With workers


@pytest.mark.parametrize("pack", ["always", "auto"])
def test_workers_train_seeds_together_or_share_them_out(pack: str, plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path):
    plan = plan_of(**THREE)
    diary = Diary()

    run_in_workers(
        plan, {tiny_panel.name: tiny_panel}, tmp_path, "cpu", plan.runs, diary,
        num_workers=2, estimate=Estimate(), measure_alone=True, pack=pack,
    )  # fmt: skip

    records = records_of(plan, tmp_path)
    assert {record.status for record in records.values()} == {"ok"}
    learned = [name for name, record in records.items() if record.packing]
    assert {records[name].packing.seeds for name in learned} == ({3} if pack == "always" else {1})
    assert len(learned) == 6
    assert records["gru 0"].cost.shared_by == 1
    assert records["gru 1"].cost.shared_by == (6 if pack == "always" else 2)
    for name in records:
        assert diary.lines.count(f"start {name}") == diary.lines.count(f"end {name}") == 1
