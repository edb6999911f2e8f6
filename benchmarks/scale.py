"""How the toolkit grows: with values, channels and series of a panel, and with records in a folder.

Each size of a panel is measured in a process of its own, because a peak of memory belongs to a process:
`python -m benchmarks.scale '{"values": 100000000, ...}'` prints what it read as JSON. Files lie in a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rows import keep_many_records, toml_of
from benchmarks.timing import Result
from tsbench.bench.records import Run
from tsbench.bench.runner import Prepared, execute
from tsbench.data.mapped import MappedRows, RegularStamps, stretches
from tsbench.data.panel import Panel
from tsbench.data.windows import Windows
from tsbench.evaluation.throughput import PeakMemory
from tsbench.models.registry import model_spec
from tsbench.training.devices import keep_freed_memory
from tsbench.training.recipe import Recipe

CONTEXT_LENGTH, HORIZON = 96, 24
MODEL = "mlp"
BATCH_SIZE = 64
MAPPED_FROM = 10**7
"""Values from which a panel is mapped."""
MEMORY_MIB = 1024 + 64
"""What a process may take: 1 GiB, and a chest of blocks."""
_SECONDS = 3.0


@dataclass(frozen=True)
class Size:
    """Of a panel."""

    values: int
    channels: int = 1
    items: int = 1
    whole_run: bool = False
    """Whether all of a run is done, every test window scored, or training alone."""

    @property
    def offsets(self) -> np.ndarray:
        rows = self.values // self.channels
        return np.linspace(0, rows, self.items + 1).astype(np.int64)

    def __str__(self) -> str:
        shape = f"{self.values:,} values"
        shape += f", {self.channels:,} channels" if self.channels > 1 else ""
        shape += f", {self.items:,} series" if self.items > 1 else ""
        return f"{shape}, {'mapped' if self.values >= MAPPED_FROM else 'in memory'}"


def scale(quick: bool = False) -> Iterator[Result]:
    """quick: to 10^6 values and 10^3 records."""
    largest = 6 if quick else 8
    base = Size(10**5)
    yield from _training(base, [Size(10**power) for power in range(4, largest + 1) if power != 5])
    wide, many = max(10 ** (largest - 1), 10**6), 10**largest  # long enough for a window in each part
    yield from _training(Size(wide), [Size(wide, channels=channels) for channels in (32, 862)])
    yield from _training(Size(many), [Size(many, items=items) for items in (100, many // 2000)])
    yield _memory(Size(10**largest, whole_run=True))
    yield from _records([10**2, 10**3] if quick else [10**2, 10**3, 10**4, 10**5])


def _training(base: Size, sizes: list[Size], turns: int = 3) -> Iterator[Result]:
    """A value's share of a training step, per window and channel, against that of another size; then the peak of memory
    and, of mapped panels, what it takes to fill a chest."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            pairs = [(_measured(size, folder), _measured(base, folder)) for _ in range(turns)]
        yield Result(
            section="scale",
            name=f"training, {size}",
            other=str(base),
            goal=0.9 if size.channels == size.items == 1 else None,
            ratios=[theirs["step"] / mine["step"] for mine, theirs in pairs],
            our_seconds=[mine["step"] for mine, _ in pairs],
            other_seconds=[theirs["step"] for _, theirs in pairs],
            unit="window and channel",
        )
        yield _peak(size, [mine["mib"] for mine, _ in pairs])
        if pairs[0][0]["fill"]:
            yield Result(
                section="scale",
                name=f"filling a chest, {size}",
                other="a training step's share",
                goal=10.0,
                ratios=[mine["step"] * size.channels / mine["fill"] for mine, _ in pairs],
                our_seconds=[mine["fill"] for mine, _ in pairs],
                other_seconds=[mine["step"] * size.channels for mine, _ in pairs],
                unit="window",
            )


def _memory(size: Size) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return _peak(size, [_measured(size, folder)["mib"]])


def _peak(size: Size, mibs: list[float]) -> Result:
    return Result(
        section="scale",
        name=f"peak memory, {'a whole run' if size.whole_run else 'training'}, {size}",
        other="1 GiB and a chest",
        goal=1.0 if size.values >= MAPPED_FROM else None,
        ratios=[MEMORY_MIB / mib for mib in mibs],
        our_seconds=mibs,
        other_seconds=[float(MEMORY_MIB)] * len(mibs),
        unit="MiB",
    )


def _measured(size: Size, folder: str) -> dict[str, float]:
    """In a process of its own."""
    question = json.dumps({**asdict(size), "folder": folder})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", question]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(size: Size, folder: Path) -> dict[str, float]:
    """Seconds of a step for a window's channel, seconds of filling a chest for a window, and the peak of memory."""
    panel = _panel(size, folder)
    with PeakMemory(torch.device("cpu")) as memory:
        prepared = Prepared.on(panel, torch.device("cpu"))
        windows = prepared.windows(_run(panel, 1))
        if size.whole_run:
            record, _ = execute(_run(panel, 200), prepared)
            assert record.status == "ok", record.reason
        step = _step(prepared, windows)
        fill = _fill(windows["train"]) if panel.is_mapped else 0.0
    return {"step": step / BATCH_SIZE / size.channels, "fill": fill, "mib": memory.mib}


def _panel(size: Size, folder: Path) -> Panel:
    """Noise around a day of 24 rows; its file is made once."""
    offsets = size.offsets
    shape, path = (int(offsets[-1]), size.channels), folder / f"{size.values}-{size.channels}-{size.items}"
    if not path.exists():
        generator = np.random.default_rng(0)
        with path.open("wb") as file:
            for low, high in stretches(*shape):
                noise = generator.normal(size=(high - low, size.channels))
                (10 + noise + np.sin(np.arange(low, high) / 24 * 2 * np.pi)[:, None]).astype(np.float32).tofile(file)
    values: Any = MappedRows(path, shape)
    stamps: Any = RegularStamps("min", np.full(size.items, np.datetime64("2000-01-01", "ns")), offsets)
    if size.values < MAPPED_FROM:
        values, stamps = values[:], stamps[:]
    names = tuple(map(str, range(size.items))) if size.items > 1 else ("",)
    channels = tuple(map(str, range(size.channels)))
    return Panel("scale", values, stamps, channels, "min", seasonality=24, items=names, offsets=offsets)


def _run(panel: Panel, num_steps: int) -> Run:
    recipe = Recipe(max_steps=num_steps, validate_every=num_steps, batch_size=BATCH_SIZE)
    arguments = model_spec(MODEL).resolve({}, "benchmarks")
    return Run(
        dataset=panel.name,
        fingerprint=panel.fingerprint,
        context_length=CONTEXT_LENGTH,
        horizon=HORIZON,
        seed=0,
        model=MODEL,
        arguments=arguments,
        recipe=recipe,
    )


def _step(prepared: Prepared, windows: dict[str, Windows]) -> float:
    """Median seconds of a step over chunks, the first left out: what a record calls its training speed."""
    few = {"train": windows["train"], "validation": windows["validation"].head(8)}

    def samples(num_steps: int) -> list[float]:
        forecaster = prepared.forecaster(_run(prepared.panel, num_steps))
        forecaster.fit_windows(few["train"], few["validation"], seed=0)
        chunks = forecaster.training_log.chunks
        return [seconds / steps for steps, seconds in chunks[1:] or chunks]

    return float(np.median(samples(max(20, int(_SECONDS / np.median(samples(20)))))))


def _fill(windows: Windows) -> float:
    start = time.perf_counter()
    chest, _ = next(windows.shuffled(BATCH_SIZE, 10**9, seed=1))
    chest.open()
    return (time.perf_counter() - start) / len(chest)


def _records(counts: list[int]) -> Iterator[Result]:
    """Seconds per record of a plan, a report and `load_records`, start included, against those of the fewest."""
    base: dict[str, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder, experiment = Path(name), Path(name) / "many.toml"
            widths = {"hidden_size": list(range(8, 88, 8)), "dropout": [0.0, 0.1, 0.2, 0.3, 0.4]}
            experiment.write_text(
                toml_of(
                    {"mlp": widths, "gru": widths},
                    {},
                    datasets=["auckland_pedestrians"],
                    horizons=[24],
                    seeds=list(range(count // 100)),
                )
            )
            keep_many_records(str(experiment), folder / "out")
            load = f"import tsbench; tsbench.load_records({str(folder / 'out')!r})"
            commands = {
                "plan": ["-m", "tsbench", "plan", str(experiment), "--output", str(folder / "none")],
                "load_records": ["-c", load],
            }
            if count < 10**5:  # minutes for a page that nobody reads
                commands["report"] = ["-m", "tsbench", "report", str(folder / "out")]
            for what, arguments in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                seconds = (time.perf_counter() - start) / count
                base.setdefault(what, seconds)
                yield Result(
                    section="scale",
                    name=f"{what}, {count:,} records",
                    other=f"{counts[0]:,} records",
                    goal=None,
                    ratios=[base[what] / seconds],
                    our_seconds=[seconds],
                    other_seconds=[base[what]],
                    unit="record",
                )


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    asked = json.loads(sys.argv[1])
    where = Path(asked.pop("folder"))
    print(json.dumps(measure(Size(**asked), where)))  # noqa: T201
