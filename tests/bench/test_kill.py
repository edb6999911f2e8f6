"""A matrix that is killed in the middle: nothing finished is lost, and the restart does the rest as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tsbench.bench.records import RecordStore

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Two threads that wait for each other on a busy machine were seen to take forty times as long."""

NUM_RUNS = 8
"""Four models, two seeds; the recurrent ones come last."""


def command(folder: Path) -> list[str]:
    asked = "auckland_pedestrians_tiny --horizon 12 --context-length 48 --models naive,linear,seasonal_naive,gru"
    options = "--seeds 0,1 --set max_steps=60 --set validate_every=20 --device cpu --output"
    return [sys.executable, "-m", "tsbench", "run", *asked.split(), *options.split(), str(folder)]


def run_to_the_end(folder: Path) -> None:
    ended = subprocess.run(
        command(folder), cwd=folder.parent, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def run_until(folder: Path, num_records: int) -> None:
    """Kill the command as soon as it has written so many records."""
    with subprocess.Popen(command(folder), cwd=folder.parent, env=ONE_THREAD, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 150
        while len(RecordStore(folder).keys()) < num_records and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def answers(folder: Path) -> dict[str, Any]:
    """Everything in the records that is not a clock, by key."""
    store = RecordStore(folder)
    return {
        record.key: (
            record.status,
            record.metrics,
            [(look.step, look.train_loss, look.val_loss) for look in record.curve],
            {name: array.tobytes() for name, array in store.arrays(record.key).items()},
        )
        for record in store
    }


def test_a_killed_matrix_goes_on_where_it_was_and_ends_in_the_same_records(tmp_path: Path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    run_until(killed, num_records=2)
    store = RecordStore(killed)
    finished = {record.key: store.path(record.key).read_bytes() for record in store}
    assert 2 <= len(finished) < NUM_RUNS
    assert all(store.read(key).status == "ok" for key in finished)

    run_to_the_end(killed)
    run_to_the_end(undisturbed)

    # A run that was done again would have another time stamp and other clocks.
    assert {key: store.path(key).read_bytes() for key in finished} == finished
    assert len(store.keys()) == NUM_RUNS
    assert answers(killed) == answers(undisturbed)
