"""One worker process: takes a run, writes its record, takes the next. The parent's side is `workers.py`."""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO

from tsbench.errors import TsbenchError

if TYPE_CHECKING:
    from tsbench.bench.records import Packing, Record, Run
    from tsbench.bench.runner import Fitted
    from tsbench.bench.workers import Setting
    from tsbench.training.progress import Progress

Tell = Callable[[str, Any], None]

_SECONDS_BETWEEN_TALES = 0.1
"""A display shows no more; a fast model has sixty chunks a second."""


def main() -> None:
    """Serve the parent at the other end of standard input and output until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a model prints must not get between the answers

    def tell(event: str, content: Any = None) -> None:
        pickle.dump((event, content), answers)
        answers.flush()

    requests: SimpleQueue[Any] = SimpleQueue()
    setting = pickle.load(sys.stdin.buffer)
    Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    try:
        _serve(setting, requests, tell)
    except TsbenchError as error:  # a folder that cannot be written is no matter of one run
        tell("raises", error)


def _listen(parent: BinaryIO, requests: SimpleQueue[Any]) -> None:
    """A thread of its own, so that the end of the parent, by kill or by Ctrl-C, ends a run in the middle."""
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            requests.put(pickle.load(parent))
    os._exit(0)


def _serve(setting: Setting, requests: SimpleQueue[Any], tell: Tell) -> None:
    import torch

    from tsbench.bench.records import RecordStore, forecaster_path
    from tsbench.bench.runner import (
        PreparedPanels,
        execute,
        fit_if_it_pays,
        flops_before,
        measured_alone,
        open_log,
        record_of,
    )
    from tsbench.training.devices import check_precision, give_memory_back, resolve_device

    torch.set_num_threads(1)  # where OMP_NUM_THREADS is not read
    gc.freeze()  # what was imported stays: to look through it before each run would take a fifth of a second
    device, store = resolve_device(setting.device), RecordStore(setting.folder)
    for recipe in setting.recipes:
        check_precision(recipe, device)
    prepared_for = PreparedPanels(setting.panels, device)
    tell("ready", [flops_before(run, prepared_for(run)) for run in setting.to_count])

    def carry_out(run: Run, packing: Packing | None, fitted: Fitted | None = None) -> None:
        keep = forecaster_path(setting.folder, run.key()) if setting.keep_forecasters else None
        here = prepared_for(run)
        log = open_log(setting.loggers, setting.folder, run)
        is_timed = run.key() in setting.timed
        record, arrays = execute(
            run, here, _now_and_then(tell), keep, log, fitted=fitted, packing=packing, is_timed=is_timed
        )
        store.write(_beside(record, setting.num_workers), arrays)
        for problem in log.problems if log else ():
            tell("warns", problem)
        tell("recorded", run.key())

    while True:
        give_memory_back()
        match requests.get():
            case "run", run, packing:
                carry_out(run, packing)
            case "together", runs:
                here, starts = prepared_for(runs[0]), partial(tell, "packs")
                packing, pack = fit_if_it_pays(
                    runs, here, setting.pack, _now_and_then(tell), starts, followed=bool(setting.loggers)
                )
                if pack is None:
                    tell("unpacks", packing)
                else:
                    for run, fitted in zip(runs, pack, strict=True):
                        carry_out(run, packing, fitted)
            case "give up", run, reason, detail:
                record = record_of(run, prepared_for(run), status="failed", reason=reason, detail=detail)
                store.write(_beside(record, setting.num_workers))
                tell("recorded", run.key())
            case "measure", run:
                with suppress(Exception):  # the speeds that were read beside other workers stay
                    record = measured_alone(store.read(run.key()), prepared_for(run))
                    store.write(record, store.arrays(run.key()))
        tell("done", None)


def _now_and_then(tell: Tell) -> Callable[[Progress], None]:
    last = 0.0

    def advance(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_TALES:
            last = time.monotonic()
            tell("advances", progress)

    return advance


def _beside(record: Record, num_workers: int) -> Record:
    """The record with the number of workers that shared the machine."""
    update: dict[str, Any] = {"machine": record.machine.model_copy(update={"num_workers": num_workers})}
    if record.cost:
        update["cost"] = record.cost.model_copy(update={"num_workers": num_workers})
    return record.model_copy(update=update)
