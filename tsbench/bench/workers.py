"""Worker processes: several runs of a plan at a time, each on one thread. This side, the parent's, imports no torch.

Two one-thread workers do 1.8 to 1.9 times the work of one; two threads in one process 0.5 (RNN) to 1.6 times (CNN).

A worker is a fresh interpreter in `tsbench.bench.worker`: not a fork, which torch's threads do not survive, and not one
of multiprocessing's, which imports the user's script again and takes no environment of its own. Pickles go through its
pipes: a `Setting`, then one request at a time; back come pairs of an event's name and what belongs to it. The data
travel once in a worker's life. A file or shared memory would stay behind after a kill and save little: each worker
keeps a scaled copy of its own.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import psutil

from tsbench.bench.estimate import Estimate
from tsbench.bench.observer import Observer
from tsbench.bench.packing import grouped
from tsbench.bench.records import Packing, Plan, PlannedRun, RecordStore, Run, first_seeds, not_timed_alone
from tsbench.data.panel import Panel
from tsbench.errors import ConfigError, MachineError, TsbenchError
from tsbench.models.registry import model_spec
from tsbench.training.progress import Progress
from tsbench.training.recipe import Recipe

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # As `keep_freed_memory` does: an LSTM (batch 1,024, 96 rows, 64 wide) then takes 50 page faults a step instead of
    # 200,000.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
}

FEW_STEPS = 2000
"""A plan with fewer optimizer steps takes seconds: workers would have nothing to gain."""

WORKER_GIB = 0.75
"""Memory of a worker with a small model."""

MEASURES = ("alone", "shared")
"""When the speed of a model is read for good: when nothing else runs, or beside other workers."""


@dataclass(frozen=True)
class Setting:
    """What a worker must know before its first run."""

    panels: dict[str, Panel]
    folder: Path
    device: str
    gpus: list[str]
    """See `visible_gpus`."""
    num_workers: int
    to_count: list[Run]
    """Runs whose operations the parent, without torch, cannot count."""
    recipes: list[Recipe]
    """Of the whole plan: one that the device cannot do is refused before the first run."""
    timed: frozenset[str]
    """Keys of the runs whose speed is read beside the other workers, see `first_seeds`."""
    keep_forecasters: bool
    pack: str
    """When seeds are trained together, see `PACKS`."""
    loggers: Sequence[str] = ()


def number_of_workers(asked: int | str, plan: Plan, device: str) -> int:
    """How many worker processes a plan gets; with 1, everything stays in this process.

    auto: one per core and `WORKER_GIB` of free memory, or one per GPU; 1 for a plan with few steps. What is done
    already does not matter: a matrix goes on after an interruption with as many threads per run as before.

    Raises ConfigError for what is no number, and for a device as `resolve_device` does.
    """
    gpus = visible_gpus(device)
    if asked != "auto":
        if not isinstance(asked, int) or asked < 1:
            raise ConfigError(f"--workers {asked}: write auto or a whole number from 1, such as --workers 2")
        return asked
    trained = (planned.run for planned in plan.runs if model_spec(planned.run.model).learned)
    if sum(run.recipe.max_steps for run in trained) < FEW_STEPS:
        return 1
    if gpus:
        return min(len(gpus), len(plan.runs))
    free_gib = psutil.virtual_memory().available / 2**30
    return max(1, min(_num_cores(), int(free_gib / WORKER_GIB), len(plan.runs)))


def _num_cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus(device: str) -> list[str]:
    """The GPUs that runs may go to, as `CUDA_VISIBLE_DEVICES` names them; none where they stay on the CPU.

    Torch is asked only where it might say yes: its import alone takes longer than everything else here. Raises
    ConfigError and MachineError as `resolve_device` does.
    """
    if device == "cpu" or (device == "auto" and not _has_cuda_driver()):
        return []
    from tsbench.training.devices import count_gpus, resolve_device

    if resolve_device(device).type != "cuda":
        return []
    count, named = count_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _has_cuda_driver() -> bool:
    with suppress(OSError):
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return True
    return False


def run_in_workers(
    plan: Plan,
    panels: Mapping[str, Panel],
    folder: Path,
    device: str,
    runs: list[PlannedRun],
    observer: Observer,
    *,
    num_workers: int,
    estimate: Estimate,
    measure_alone: bool,
    keep_forecasters: bool = False,
    pack: str = "never",
    loggers: Sequence[str] = (),
) -> None:
    """Execute these runs of a plan, longest first, in so many processes; each record is on the disk before its worker
    takes the next run.

    A worker's death costs one run, or the seeds that it trained together. Each is tried once more, by itself; after a
    second death it is recorded as failed. A run that finds no memory beside others is tried again at the end, when
    nothing else runs. Of several GPUs each worker has one, in turn.

    measure_alone: read each model's speed again when nothing else runs, from its first finished seed; also what an
    interrupted matrix did not come to. keep_forecasters: also what was trained. loggers: trackers of every run.
    """
    setting = Setting(
        panels=dict(panels),
        folder=folder,
        device=device,
        num_workers=min(num_workers, max(len(runs), 1)),
        gpus=visible_gpus(device),
        to_count=estimate.without_flops(runs),
        recipes=list({planned.run.recipe.model_dump_json(): planned.run.recipe for planned in plan.runs}.values()),
        timed=first_seeds(plan),
        keep_forecasters=keep_forecasters,
        pack=pack,
        loggers=loggers,
    )
    with _Pool(setting, observer, estimate) as pool:
        pool.carry_out(runs, setting.num_workers)
        if measure_alone:
            pool.measure(not_timed_alone(plan, RecordStore(folder)))


class _Worker:
    """One worker process, seen from here."""

    def __init__(self, inbox: SimpleQueue[tuple[_Worker, str, Any]], gpu: str | None) -> None:
        self.ready = False
        self.gpu = gpu
        self.busy_with: list[PlannedRun] = []
        """One run, or several that differ in their seed alone; those of them without a record."""
        self.is_busy = False
        # It finds what this process finds, a notebook's changes of sys.path included.
        code = f"import sys; sys.path[:] = {sys.path!r}; from tsbench.bench.worker import main; main()"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | ENVIRONMENT | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}),
        )
        self._listener = Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()

    def _listen(self, inbox: SimpleQueue[tuple[_Worker, str, Any]]) -> None:
        with suppress(EOFError, pickle.UnpicklingError):  # cut off: it died
            while True:
                inbox.put((self, *pickle.load(self._process.stdout)))  # type: ignore[arg-type]
        inbox.put((self, "died", None))

    def tell(self, message: object) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it died, as its listener is about to say
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def last_words(self) -> tuple[str, str]:
        """Of a dead worker: how it died, and the end of what it printed."""
        code = self._process.wait()
        self._stderr.seek(0)
        said, *_ = self._stderr.read().decode(errors="replace").split("\nExtension modules:")  # a long list of names
        return f"signal {-code}" if code < 0 else f"exit code {code}", said[-10_000:]

    def kill(self) -> None:
        """Whatever it is doing: what counts is on the disk."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(OSError):  # of what was written but never read
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._stderr.close()


class _Pool:
    """The workers, what waits for them, and what they say."""

    def __init__(self, setting: Setting, observer: Observer, estimate: Estimate) -> None:
        self.setting, self.observer, self.estimate = setting, observer, estimate
        self.store = RecordStore(setting.folder)
        self.workers: list[_Worker] = []
        self.inbox: SimpleQueue[tuple[_Worker, str, Any]] = SimpleQueue()
        self.waiting: deque[list[PlannedRun]] = deque()
        """In the portions in which workers take them."""
        self.measures = False
        self.deaths: dict[str, list[str]] = defaultdict(list)
        """How workers died, by the key of the run they were busy with."""
        self.packings: dict[str, Packing] = {}
        """Why a run is done by itself that might be trained with its siblings, by its key."""
        self.crowded: list[PlannedRun] = []
        """Runs that found no memory beside others."""
        self.last_print = ""

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.kill()

    def carry_out(self, runs: list[PlannedRun], num_workers: int) -> None:
        """Longest first, from when the first worker is ready and has counted their operations."""
        self._work_off(runs, num_workers)
        crowded, self.crowded = self.crowded, []
        if crowded:  # else all workers would be dismissed, and one is needed to measure
            self._work_off(crowded, 1)

    def measure(self, runs: list[PlannedRun]) -> None:
        self.measures = True
        self._work_off(runs, 1)

    def _work_off(self, runs: list[PlannedRun], num_workers: int) -> None:
        self.waiting = deque(self._portions(runs, num_workers))
        self._resize(min(num_workers, len(runs)))
        for worker in self.workers:
            self._give(worker)
        while self.waiting or any(worker.is_busy for worker in self.workers):
            worker, event, content = self.inbox.get()
            if worker in self.workers:  # not dismissed
                getattr(self, f"_{event}")(worker, content)

    def _portions(self, runs: list[PlannedRun], num_workers: int) -> list[list[PlannedRun]]:
        """Seeds that may be trained together side by side, unless a worker would then have nothing to do.

        Those that are known to be better off alone, or were in the hands of a worker that died, are by themselves.
        """
        tried = [run for run in runs if run.run.key() in self.packings or self.deaths.get(run.run.key())]
        portions = grouped(tried, "never") + grouped((run for run in runs if run not in tried), self.setting.pack)
        return grouped(runs, "never") if self.measures or len(portions) < num_workers else portions

    def _resize(self, num_workers: int) -> None:
        """Keep those that are ready, dismiss who is too many, start who is missing."""
        self.workers.sort(key=lambda worker: not worker.ready)
        while len(self.workers) > num_workers:
            self.workers.pop().kill()
        new = []
        for _ in range(num_workers - len(self.workers)):
            new.append(_Worker(self.inbox, self._idlest_gpu()))
            self.workers.append(new[-1])
        for worker in new:  # after all have started: a long message waits until it is read
            worker.tell(self.setting)

    def _idlest_gpu(self) -> str | None:
        """The one with the fewest workers."""
        taken = [worker.gpu for worker in self.workers]
        return min(self.setting.gpus, key=taken.count, default=None)

    def _give(self, worker: _Worker) -> None:
        """The next run, if the worker is ready for one and one is waiting."""
        if not (worker.ready and self.waiting):
            return
        worker.busy_with, worker.is_busy = self.waiting.popleft(), True
        portion = worker.busy_with
        if len(portion) > 1:  # it is told of them that they start when it is known that they do so together
            worker.tell(("together", [planned.run for planned in portion]))
            return
        (planned,) = portion
        key = planned.run.key()
        if self.measures:
            self.observer.measures(planned)
            worker.tell(("measure", planned.run))
        elif len(self.deaths[key]) < 2:
            self.observer.starts(planned)
            worker.tell(("run", planned.run, self.packings.get(key)))
        else:
            worker.tell(("give up", planned.run, _died_twice(*self.deaths[key]), self.last_print))

    # What workers say

    def _ready(self, worker: _Worker, flops: list[int]) -> None:
        """flops: of the runs in `Setting.to_count`; every worker has counted them, waiting for the others' import."""
        if not any(other.ready for other in self.workers):
            for run, count in zip(self.setting.to_count, flops, strict=True):
                self.estimate.learn_flops(run, count)
            if not self.measures:
                runs = self.estimate.longest_first(planned for portion in self.waiting for planned in portion)
                self.waiting = deque(self._portions(runs, len(self.workers)))
        worker.ready = True
        self._give(worker)

    def _advances(self, worker: _Worker, progress: Progress) -> None:
        for planned in worker.busy_with:
            self.observer.advances(planned, progress)

    def _packs(self, worker: _Worker, _: None) -> None:
        for planned in worker.busy_with:
            self.observer.starts(planned)

    def _unpacks(self, worker: _Worker, packing: Packing) -> None:
        """It does not pay: its runs are for all workers, one by one."""
        self.packings |= {planned.run.key(): packing for planned in worker.busy_with}
        self.waiting.extendleft([planned] for planned in reversed(worker.busy_with))
        worker.busy_with = []
        for idle in self.workers:
            if not idle.is_busy:
                self._give(idle)

    def _recorded(self, worker: _Worker, key: str) -> None:
        (planned,) = (planned for planned in worker.busy_with if planned.run.key() == key)
        worker.busy_with = [other for other in worker.busy_with if other is not planned]
        record = self.store.read(key)
        if record.status == "out_of_memory" and len(self.workers) > 1:
            self.crowded.append(planned)
            self.observer.starts_again(planned, "no memory beside the other workers; once more at the end, alone")
        else:
            self.observer.ends(planned, record)

    def _warns(self, worker: _Worker, what: str) -> None:
        (planned,) = worker.busy_with  # loggers follow no seeds that train together
        self.observer.warns(planned, what)

    def _done(self, worker: _Worker, _: None) -> None:
        worker.busy_with, worker.is_busy = [], False
        self._give(worker)

    def _raises(self, worker: _Worker, error: TsbenchError) -> None:
        raise error

    def _died(self, worker: _Worker, _: None) -> None:
        self.workers.remove(worker)
        how, self.last_print = worker.last_words()
        worker.kill()
        if not worker.ready and not self.workers:
            last_line = (self.last_print.strip().splitlines() or ["it said nothing"])[-1]
            raise MachineError(f"no worker process could start ({how}: {last_line}); try --workers 1")
        if not worker.is_busy:
            return
        if not self.measures:  # else the speeds that were read beside others stay
            for planned in reversed(worker.busy_with):
                self._try_again(planned, how)
        self._replace()

    def _try_again(self, planned: PlannedRun, how: str) -> None:
        deaths = self.deaths[planned.run.key()]
        deaths.append(how)
        if len(deaths) > 2:  # not even the failure could be recorded
            raise MachineError(f"worker processes die whatever they do ({', '.join(deaths)}); try --workers 1")
        self.waiting.appendleft([planned])
        if len(deaths) == 1:
            self.observer.starts_again(planned, f"the worker process died ({how})")

    def _replace(self) -> None:
        idle = next((worker for worker in self.workers if worker.ready and not worker.is_busy), None)
        if idle:
            self._give(idle)
        elif self.waiting:
            self._resize(len(self.workers) + 1)


def _died_twice(first: str, second: str) -> str:
    both = f"({first}) twice" if first == second else f"twice ({first}, {second})"
    return f"the worker process died {both}"
