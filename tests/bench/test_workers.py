"""Several worker processes on one matrix: the same records, sooner, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tsbench.bench import workers
from tsbench.bench.estimate import Estimate
from tsbench.bench.observer import Observer
from tsbench.bench.records import Plan, PlannedRun, Record, RecordStore, forecaster_path
from tsbench.bench.workers import number_of_workers, run_in_workers, visible_gpus
from tsbench.data.panel import Panel
from tsbench.errors import ConfigError
from tsbench.training import devices
from tsbench.training.forecaster import Forecaster
from tsbench.training.progress import Progress

PlanOf = Callable[..., Plan]


class Diary(Observer):
    """Writes down what it is told, and what is on the disk then."""

    def __init__(self, folder: Path) -> None:
        self.store = RecordStore(folder)
        self.started: list[str] = []
        self.measured: list[str] = []
        self.again: list[tuple[str, str]] = []
        self.ended: dict[str, bool] = {}
        """Whether its record was there already."""

    def starts(self, planned: PlannedRun) -> None:
        self.started.append(planned.label)

    def starts_again(self, planned: PlannedRun, why: str) -> None:
        self.again.append((planned.label, why))

    def measures(self, planned: PlannedRun) -> None:
        self.measured.append(f"{planned.label} {planned.run.seed}")

    def ends(self, planned: PlannedRun, record: Record) -> None:
        self.ended[planned.run.key()] = self.store.read(planned.run.key()) == record


def execute(
    plan: Plan, panel: Panel, folder: Path, observer: Observer | None = None, runs: list[PlannedRun] | None = None,
    num_workers: int = 2, measure_alone: bool = False, keep_forecasters: bool = False,
) -> dict[str, Record]:  # fmt: skip
    """The records by label and seed."""
    run_in_workers(
        plan, {panel.name: panel}, folder, "cpu", plan.runs if runs is None else runs, observer or Observer(),
        num_workers=num_workers, estimate=Estimate(), measure_alone=measure_alone,
        keep_forecasters=keep_forecasters,
    )  # fmt: skip
    store = RecordStore(folder)
    return {f"{planned.label} {planned.run.seed}": store.read(planned.run.key()) for planned in plan.runs}


# A matrix in which all is well


@pytest.fixture(scope="module")
def plan(plan_of: PlanOf) -> Plan:
    return plan_of(models={"linear": {}, "gru": {}}, seeds=[0, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def diary(plan: Plan, tiny_panel: Panel, folder: Path) -> Diary:
    """Of two workers, who leave their records in `folder`."""
    diary = Diary(folder)
    execute(plan, tiny_panel, folder, diary, keep_forecasters=True)
    return diary


@pytest.fixture(scope="module")
def records(plan: Plan, diary: Diary) -> dict[str, Record]:
    return {f"{planned.label} {planned.run.seed}": diary.store.read(planned.run.key()) for planned in plan.runs}


def test_workers_keep_what_they_train_on_request(tiny_panel: Panel, records: dict[str, Record], folder: Path):
    for record in records.values():
        forecaster = Forecaster.load(forecaster_path(folder, record.key))

        assert forecaster.spec.name == record.run.model
        assert forecaster.predict(tiny_panel)["forecast"].notna().all()


def test_workers_answer_to_the_last_bit_what_one_process_answers(
    plan: Plan, records: dict[str, Record], folder: Path, carry_out: Callable[..., Any], tmp_path: Path
):
    carry_out(plan, tmp_path)

    for record in records.values():
        alone = RecordStore(tmp_path).read(record.key)
        assert (record.status, record.metrics) == (alone.status, alone.metrics)
        assert [(p.step, p.train_loss, p.val_loss) for p in record.curve] == [
            (p.step, p.train_loss, p.val_loss) for p in alone.curve
        ]
        kept, kept_alone = (RecordStore(place).arrays(record.key) for place in (folder, tmp_path))
        assert kept
        assert {name: array.tobytes() for name, array in kept.items()} == {
            name: array.tobytes() for name, array in kept_alone.items()
        }


def test_the_longest_runs_start_first(diary: Diary):
    assert diary.started == ["gru", "gru", "linear", "linear", "naive", "naive", "seasonal_naive", "seasonal_naive"]


def test_every_record_is_on_the_disk_when_its_end_is_told(plan: Plan, diary: Diary):
    assert diary.ended == {planned.run.key(): True for planned in plan.runs}


def test_records_say_how_many_workers_shared_the_machine(records: dict[str, Record]):
    assert {(record.machine.num_workers, record.machine.num_threads) for record in records.values()} == {(2, 1)}
    assert {record.cost.num_workers for record in records.values()} == {2}


def test_speeds_are_read_again_alone_once_for_each_model_also_later(
    plan: Plan, tiny_panel: Panel, records: dict[str, Record], folder: Path
):
    arrays = {record.key: RecordStore(folder).arrays(record.key) for record in records.values()}
    diary = Diary(folder)

    again = execute(plan, tiny_panel, folder, diary, runs=[], measure_alone=True)

    assert diary.measured == ["naive 0", "seasonal_naive 0", "linear 0", "gru 0"]
    assert {name for name, record in again.items() if record.cost.num_workers == 1} == set(diary.measured)
    assert again["gru 0"].cost.predict_samples != records["gru 0"].cost.predict_samples
    assert len(again["gru 0"].cost.train_step_ms) >= 2
    for name, record in again.items():
        untouched = record.model_copy(update={"cost": records[name].cost})
        assert untouched == records[name]
        assert record.cost.seconds == records[name].cost.seconds
        assert RecordStore(folder).arrays(record.key).keys() == arrays[record.key].keys()


def test_a_device_that_cannot_do_a_recipe_is_refused_before_the_first_run(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    with pytest.raises(ConfigError, match="--precision 16 needs a GPU"):
        execute(plan_of(models={"mlp": {"recipe": {"precision": "16"}}}), tiny_panel, tmp_path, num_workers=1)

    assert RecordStore(tmp_path).keys() == []


# A matrix in which workers die


class Killer(Diary):
    """Sends a signal to the worker of these runs when they have trained for a while, as often as is told."""

    def __init__(self, folder: Path, victims: dict[str, tuple[signal.Signals, int]], crew: list[Any]) -> None:
        super().__init__(folder)
        self.victims, self.crew = victims, crew
        self.deaths: Counter[str] = Counter()

    def advances(self, planned: PlannedRun, progress: Progress) -> None:
        sent, times = self.victims.get(planned.label, (signal.SIGKILL, 0))
        busy = [worker for worker in self.crew if planned in worker.busy_with and worker._process.poll() is None]
        if busy and self.deaths[planned.label] < times:
            self.deaths[planned.label] += 1
            busy[0]._process.send_signal(sent)
            busy[0]._process.wait()


def test_a_death_costs_one_run_which_is_tried_once_more_and_then_failed(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    crew: list[Any] = []

    class Seen(workers._Worker):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            crew.append(self)

    monkeypatch.setattr(workers, "_Worker", Seen)
    diary = Killer(tmp_path, {"lstm": (signal.SIGKILL, 1), "gru": (signal.SIGSEGV, 2)}, crew)

    long_enough = {"max_steps": 300, "validate_every": 100, "batch_size": 8}
    plan = plan_of(models={"lstm": {}, "gru": {}}, recipe=long_enough)

    records = execute(plan, tiny_panel, tmp_path, diary)

    assert {name: record.status for name, record in records.items()} == {
        "lstm 0": "ok", "gru 0": "failed", "naive 0": "ok", "seasonal_naive 0": "ok", "linear 0": "ok"
    }  # fmt: skip
    assert records["gru 0"].reason == "the worker process died (signal 11) twice"
    assert "Fatal Python error: Segmentation fault" in records["gru 0"].detail
    assert sorted(diary.again) == [
        ("gru", "the worker process died (signal 11)"),
        ("lstm", "the worker process died (signal 9)"),
    ]
    assert Counter(diary.started) == {"lstm": 2, "gru": 2, "naive": 1, "seasonal_naive": 1, "linear": 1}


# The command


NUM_RUNS = 16  # the longest first: when one of four is done, enough is left to be interrupted


def command(folder: Path) -> list[str]:
    """`tsbench run` with two workers; its last line on stderr says whether the parent has loaded torch."""
    code = "import sys\ntry:\n    from tsbench.cli import main; main()\nfinally:\n    "
    code += "print('torch' in sys.modules, file=sys.stderr)"
    asked = "run auckland_pedestrians_tiny --horizon 12 --context-length 48 --models gru --seeds 0,1,2,3"
    options = "--set max_steps=200 --set validate_every=50 --device cpu --workers 2 --output"
    return [sys.executable, "-c", code, *asked.split(), *options.split(), str(folder)]


def start(folder: Path) -> subprocess.Popen[str]:
    """In a process group of its own and with Ctrl-C heard, as a shell does; tests in the background ignore it."""
    return subprocess.Popen(
        command(folder),
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_a_record(folder: Path, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers, after their first record and busy with the rest."""
    end = time.monotonic() + 150
    while not RecordStore(folder).keys() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    crew = psutil.Process(process.pid).children()
    assert len(crew) == 2
    return crew


def test_ctrl_c_ends_all_workers_and_the_same_command_does_the_rest_without_torch_in_the_parent(tmp_path: Path):
    folder = tmp_path / "out"
    process = start(folder)
    crew = wait_for_a_record(folder, process)

    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)

    done = {path: path.read_bytes() for path in (folder / "records").rglob("*.json")}
    assert process.returncode == 130
    assert f"stopped; {len(done)} of {NUM_RUNS} runs are recorded, the same command does the rest" in out
    assert err == "False\n"
    assert not any(worker.is_running() for worker in crew)
    assert 1 <= len(done) < NUM_RUNS
    assert all(RecordStore(folder).read(path.stem).status == "ok" for path in done)

    process = start(folder)
    out, err = process.communicate(timeout=150)

    assert (process.returncode, err) == (0, "False\n")
    assert f"{NUM_RUNS} runs planned, {NUM_RUNS - len(done)} to do" in out
    store = RecordStore(folder)
    for path, before in done.items():  # those that were done are as they were, but for their speed
        assert Record.model_validate_json(before).created == store.read(path.stem).created
    assert [record.status for record in store] == ["ok"] * NUM_RUNS
    assert sum(record.cost.num_workers == 1 for record in store) == 4  # a seed of each model
    assert "shared by 2 workers" in (folder / "report.md").read_text()


def test_workers_of_a_killed_parent_end_themselves(tmp_path: Path):
    process = start(tmp_path / "out")
    crew = wait_for_a_record(tmp_path / "out", process)

    process.kill()
    process.communicate()

    assert psutil.wait_procs(crew, timeout=20)[1] == []


# Where memory is short


def test_a_run_that_finds_no_memory_beside_others_is_tried_again_alone(
    plan_of: PlanOf, tiny_panel: Panel, tmp_path: Path
):
    plan = plan_of(models={"linear": {}, "tcn": {"num_filters": 5 * 10**6}})

    diary = Diary(tmp_path)
    records = execute(plan, tiny_panel, tmp_path, diary)

    assert [label for label, why in diary.again if "no memory" in why] == ["tcn"]
    assert records["tcn 0"].status == "out_of_memory", "nor is there any alone"
    assert records["linear 0"].status == "ok"
    assert diary.ended == {planned.run.key(): True for planned in plan.runs}, "each ends once"
    assert Counter(diary.started) == Counter(planned.label for planned in plan.runs) + Counter(["tcn"])


# How many


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_num_cores", lambda: 4)
    monkeypatch.setattr(workers, "WORKER_GIB", 0.001)


@pytest.mark.usefixtures("four_cores")
def test_auto_is_a_worker_per_core_but_not_for_few_steps(plan_of: PlanOf):
    large = plan_of(models={"gru": {}}, seeds=[0, 1], recipe={"max_steps": 600})

    assert number_of_workers("auto", large, "cpu") == 4
    assert number_of_workers("auto", plan_of(models={"gru": {}}), "cpu") == 1
    assert number_of_workers("auto", plan_of(models={"naive": {}}, recipe={"max_steps": 1500}), "cpu") == 1


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("gpus", "expected"), [(["0"], 1), (["2", "5"], 2), ([str(n) for n in range(99)], 8)])
def test_auto_is_a_worker_per_gpu(gpus: list[str], expected: int, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "visible_gpus", lambda device: gpus)
    plan = plan_of(models={"gru": {}}, seeds=[0, 1], recipe={"max_steps": 1000})

    assert len(plan.runs) == 8, "no more workers than runs"
    assert number_of_workers("auto", plan, "auto") == expected
    assert number_of_workers(3, plan, "auto") == 3


@pytest.mark.parametrize(
    ("variable", "expected"), [(None, ["0", "1"]), ("3,1", ["3", "1"]), ("GPU-a,GPU-b,GPU-gone", ["GPU-a", "GPU-b"])]
)
def test_gpus_have_the_names_by_which_a_worker_is_given_one(
    variable: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    monkeypatch.setattr(devices, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)

    assert visible_gpus("cuda") == expected


def test_on_a_cpu_there_are_no_gpus_to_share():
    assert visible_gpus("cpu") == []


def test_workers_spread_over_the_gpus(plan: Plan, tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = []

    class Watched(workers._Worker):
        def __init__(self, inbox: Any, gpu: str | None) -> None:
            given.append(gpu)
            super().__init__(inbox, gpu)

    monkeypatch.setattr(workers, "_Worker", Watched)
    monkeypatch.setattr(workers, "visible_gpus", lambda device: ["0", "1"])

    records = execute(plan, tiny_panel, tmp_path, num_workers=3)

    assert given == ["0", "1", "0"]
    assert {record.status for record in records.values()} == {"ok"}


@pytest.mark.usefixtures("four_cores")
def test_auto_leaves_memory_for_every_worker(plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch):
    free_gib = psutil.virtual_memory().available / 2**30
    monkeypatch.setattr(workers, "WORKER_GIB", free_gib / 2.5)

    assert number_of_workers("auto", plan_of(models={"gru": {}}, recipe={"max_steps": 3000}), "cpu") == 2


@pytest.mark.parametrize("asked", [0, -1, "many", "2.5", ""])
def test_a_number_that_is_none_is_refused_with_what_to_write(asked: int | str, plan_of: PlanOf):
    with pytest.raises(ConfigError, match=r"--workers .*: write auto or a whole number from 1, such as --workers 2"):
        number_of_workers(asked, plan_of(), "cpu")
