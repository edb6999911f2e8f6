"""The rows of the table: what is measured against what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.data import CONTEXT_LENGTH, FAMILIES, HORIZON, loader, prepared, run_of, windows
from benchmarks.timing import Result, compare, compare_with_each, seconds_of
from tsbench.api import plan_experiment
from tsbench.bench.records import Record, RecordStore, Run
from tsbench.bench.runner import execute, fit_pack
from tsbench.bench.workers import ENVIRONMENT
from tsbench.data.windows import Windows, WindowShape, shuffled_picks
from tsbench.evaluation.accuracy import evaluate
from tsbench.models.tcn import TCN
from tsbench.training.forecaster import Forecaster

Rows = Iterator[Result]


_CHUNK_STEPS = 50


def inputs() -> Rows:
    """Batches of shuffled windows, nothing else: our gather against a Dataset of windows in a DataLoader."""
    for batch_size, goal in ((32, 10.0), (256, 18.0), (1024, None)):
        for num_workers in (0, 2):
            count = max(20, 4096 // batch_size)

            def gather(batch_size: int = batch_size, count: int = 10 * count) -> int:
                picks = shuffled_picks(len(windows("train")), batch_size, count, seed=0)
                while chunk := list(islice(picks, _CHUNK_STEPS)):  # as a training does
                    for _ in windows("train").batches(torch.stack(chunk)):
                        pass
                return count * batch_size

            def load(batch_size: int = batch_size, count: int = count, num_workers: int = num_workers) -> int:
                batches = loader("train", batch_size, shuffle=True, num_workers=num_workers)
                return sum(len(context_BLC) for context_BLC, _ in islice(batches, count))

            yield compare(
                "input",
                f"batch {batch_size}",
                seconds_of(gather),
                seconds_of(load),
                other_name=f"DataLoader, {num_workers} workers",
                unit="window",
                goal=goal if num_workers == 0 else None,
            )


def training() -> Rows:
    """Seconds of a training step: `fit`, all but validation, against forward, backward and optimizer on one batch."""
    for model in ("linear", *FAMILIES):
        for batch_size in (32, 256):
            step = bare_step(model, batch_size)
            seconds = min(step(5), step(5), step(5))  # the first ones are cold
            num_steps = int(min(max(1.5 / seconds, 10), 1000))
            yield compare(
                "training",
                f"{model}, batch {batch_size}",
                lambda model=model, batch_size=batch_size, num_steps=num_steps: fit_step(model, batch_size, num_steps),
                lambda step=step, num_steps=num_steps: step(num_steps),
                other_name="the bare step",
                unit="step",
                goal=0.97 if seconds > 0.004 else 0.90,
            )


def fit_step(model: str, batch_size: int, num_steps: int) -> float:
    recipe = {"batch_size": batch_size, "max_steps": num_steps, "validate_every": num_steps}
    forecaster = prepared().forecaster(run_of(model, recipe=recipe))
    forecaster.fit_windows(windows("train"), windows("validation").head(8), seed=0)
    log = forecaster.training_log
    return (log.curve[-1]["seconds"] - log.validate_seconds) / num_steps


def bare_step(model: str, batch_size: int) -> Callable[[int], float]:
    """Seconds of a step, over so many: the limit of what any loop around this forecaster can reach."""
    forecaster = prepared().forecaster(run_of(model)).build(seed=0).train()
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=1e-3, fused=True)
    context_BLC, target_BHC = (part.contiguous() for part in windows("train").batch(torch.arange(batch_size)))

    def steps(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad()
            with forecaster.fast_products(context_BLC):
                F.mse_loss(forecaster(context_BLC), target_BHC).backward()
            optimizer.step()
        return (time.perf_counter() - start) / count

    return steps


_PACKED_SEEDS = 5

_SMALL: dict[str, dict[str, Any]] = {
    "rnn": {"segment_length": 1, "hidden_size": 32, "decoder": "direct"},
    "gru": {"segment_length": 1, "hidden_size": 32, "decoder": "direct"},
    "tcn": {"segment_length": 1, "num_filters": 16, "readout": "last"},
}
"""Small and step by step: many operations with little to do in each."""


def packed() -> Rows:
    """A step of a seed, its share of a step of five seeds in one against a step of its own."""
    settings = [(model, "defaults", {}) for model in ("linear", *FAMILIES)]
    settings += [(model, "small, single steps", arguments) for model, arguments in _SMALL.items()]
    for model, words, arguments in settings:
        recipe = {"batch_size": 32, "max_steps": 15, "validate_every": 15, "channel_mode": "mixing"}
        runs = [run_of(model, seed=seed, recipe=recipe, **arguments) for seed in range(_PACKED_SEEDS)]
        few = {"train": windows("train"), "validation": windows("validation").head(1)}

        def together(runs: list[Run] = runs, few: dict[str, Windows] = few) -> float:
            return step_seconds(fit_pack(runs, prepared(), few)[0].forecaster)

        def alone(run: Run = runs[0], few: dict[str, Windows] = few) -> float:
            return step_seconds(prepared().forecaster(run).fit_windows(few["train"], few["validation"], seed=0))

        yield compare(
            "packed",
            f"{model}, {words}",
            together,
            alone,
            other_name="one seed after the other",
            unit="step of a seed",
        )


def step_seconds(forecaster: Forecaster) -> float:
    """Median over chunks of steps, the first left out."""
    return median(seconds / steps for steps, seconds in forecaster.training_log.chunks[1:])


def pruning() -> Rows:
    """A training step of a TCN whose head reads the last place: the places it needs against all places."""
    shape = WindowShape(CONTEXT_LENGTH, HORIZON, 1, 1, 24)
    pruned = TCN(shape, segment_length=1, num_filters=32, readout="last")
    plain = TCN(shape, segment_length=1, num_filters=32, readout="last")
    for level, block in enumerate(plain.blocks):
        block.reach *= 2**level
        block.first.dilation = block.second.dilation = (2**level,)
    plain.stride = 1
    context_BLC = torch.randn(64, CONTEXT_LENGTH, 1)

    def step(model: TCN) -> int:
        model(context_BLC).square().mean().backward()
        return 1

    yield compare(
        "pruned TCN",
        "batch 64, single steps",
        seconds_of(lambda: step(pruned)),
        seconds_of(lambda: step(plain)),
        other_name="all places",
        unit="step",
        goal=1.7,
    )


def evaluation() -> Rows:
    """Errors of every test window: `evaluate` against a DataLoader, all forecasts collected, then their mean error."""
    for model in ("linear", *FAMILIES):
        forecaster = prepared().forecaster(run_of(model)).build(seed=0).eval()

        def ours(forecaster: Forecaster = forecaster) -> int:
            return evaluate(forecaster, windows("test"), prepared().scaler).num_windows

        def collected(forecaster: Forecaster = forecaster) -> int:
            with torch.inference_mode():
                pairs = [(forecaster(context), target) for context, target in loader("test", 256)]
            forecast_NHC, target_NHC = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            F.mse_loss(forecast_NHC, target_NHC), F.l1_loss(forecast_NHC, target_NHC)
            return len(target_NHC)

        goal = {"linear": 1.8, "mlp": 1.8, "transformer": 1.0}.get(model, 1.2)
        yield compare(
            "evaluation",
            model,
            seconds_of(ours),
            seconds_of(collected),
            other_name="DataLoader and collect",
            unit="window",
            goal=goal,
        )


class Plain(pl.LightningModule):
    """The same network and loss as a user would write them: one step per batch, everything automatic."""

    def __init__(self, model: str, seed: int) -> None:
        super().__init__()
        self.forecaster = prepared().forecaster(run_of(model)).build(seed)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = F.mse_loss(self.forecaster(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", F.mse_loss(self.forecaster(batch[0]), batch[1]))

    def predict_step(self, batch: Any, _: int) -> torch.Tensor:
        return self.forecaster(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


_MATRIX_STEPS, _MATRIX_SEEDS = 200, 5


def matrix() -> Rows:
    """All families with five seeds, from nothing to scores: `tsbench run` against plain Lightning."""
    num_runs = len(FAMILIES) * _MATRIX_SEEDS

    def ours() -> float:
        start = time.perf_counter()
        steps = ["--set", f"max_steps={_MATRIX_STEPS}", "--set", f"validate_every={_MATRIX_STEPS // 2}"]
        seeds = ",".join(map(str, range(_MATRIX_SEEDS)))
        with tempfile.TemporaryDirectory() as folder:
            _command("run", "--models", ",".join(FAMILIES), "--seeds", seeds, *steps, "--output", folder)
        return (time.perf_counter() - start) / num_runs

    def one_process() -> float:
        start = time.perf_counter()
        _python(f"from benchmarks.rows import plain; plain([(m, s) for s in range(5) for m in {FAMILIES!r}])")
        return (time.perf_counter() - start) / num_runs

    def process_per_run() -> float:
        start = time.perf_counter()
        for model in FAMILIES:
            _python(f"from benchmarks.rows import plain; plain([({model!r}, 0)])")
        return (time.perf_counter() - start) / len(FAMILIES)

    others: dict[str, tuple[Callable[[], float], float | None]] = {
        "plain Lightning, one process": (one_process, 2.4),
        "plain Lightning, a process per run": (process_per_run, 8.0),
    }
    yield from compare_with_each("matrix", "7 families x 5 seeds", ours, others, unit="run")
    yield compare(
        "matrix",
        "training, two workers",
        lambda: _at_once(2),
        lambda: _at_once(1),
        other_name="one worker",
        unit="round of the families",
        goal=1.8,
    )


def _at_once(num_workers: int) -> float:
    """Seconds of `some_steps`, done by so many processes at once, for each time that it was done."""
    command = [sys.executable, "-W", "ignore", "-c", "from benchmarks.rows import some_steps; some_steps()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    workers = [subprocess.Popen(command, text=True, env=os.environ | ENVIRONMENT, **pipes) for _ in range(num_workers)]
    for worker in workers:
        worker.stdout.readline()
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.close()
    for worker in workers:
        worker.wait()
    return (time.perf_counter() - start) / num_workers


def some_steps() -> None:
    """Some training steps of each family, once the parent says so."""
    for model in FAMILIES:
        fit_step(model, 32, 5)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    for model in FAMILIES:
        fit_step(model, 32, 50)


_MANY = {
    "models": {
        "mlp": {"hidden_size": list(range(8, 88, 8)), "dropout": [0.0, 0.1, 0.2, 0.3, 0.4]},
        "gru": {"hidden_size": list(range(8, 88, 8)), "dropout": [0.0, 0.1, 0.2, 0.3, 0.4]},
    },
    "recipe": {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], "weight_decay": [0.0, 0.1]},
}


def commands() -> Rows:
    """Seconds of whole commands, start included, against a limit; ten thousand runs, ten thousand records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        experiment = folder / "many.toml"
        experiment.write_text(
            toml_of(datasets=["auckland_pedestrians"], horizons=[HORIZON], seeds=list(range(10)), **_MANY)
        )
        keep_many_records(str(experiment), folder / "out")
        for label, limit, arguments in (
            ("tsbench --help", 0.3, ["--help"]),
            ("tsbench plan, 10,000 runs", 2.0, ["plan", str(experiment), "--output", str(folder / "none")]),
            ("tsbench report, 10,000 records", 10.0, ["report", str(folder / "out")]),
        ):
            yield compare(
                "commands",
                label,
                seconds_of(lambda arguments=arguments: _command(*arguments)),
                lambda limit=limit: limit,
                other_name=f"{limit:g} s",
                unit="command",
                goal=1.0,
            )


def toml_of(models: dict[str, dict[str, list[float]]], recipe: dict[str, list[float]], **axes: Any) -> str:
    tables = {f"models.{name}": keywords for name, keywords in models.items()} | {"recipe": recipe}
    lines = [f"{key} = {json.dumps(value)}" for key, value in axes.items()]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines)


def keep_many_records(experiment: str, folder: Path) -> None:
    """One real record of each model for all runs of a plan, with the errors spread a little."""
    matrix = plan_experiment(experiment, output=folder)
    matrix.plan.save(folder)
    real: dict[str, Record] = {}
    generator = torch.Generator().manual_seed(0)
    for planned in matrix.plan.runs:
        model = planned.run.model
        if model not in real:
            real[model], _ = execute(run_of(model, recipe={"max_steps": 20, "validate_every": 10}), prepared())
        metrics = real[model].metrics
        assert metrics is not None
        error = metrics.mse_scaled * (1 + 0.1 * float(torch.rand((), generator=generator)))
        record = real[model].model_copy(
            update={
                "run": planned.run,
                "key": planned.run.key(),
                "metrics": metrics.model_copy(update={"mse_scaled": error}),
            }
        )
        path = RecordStore(folder).path(record.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.model_dump_json(indent=1))


def plain(runs: list[tuple[str, int]]) -> None:
    """Train, take the best weights and score, one run after the other, as a script of a user's would."""
    for model, seed in runs:
        module = Plain(model, seed)
        with tempfile.TemporaryDirectory() as folder:
            best = ModelCheckpoint(folder, monitor="val_loss", save_weights_only=True)
            trainer = pl.Trainer(
                max_steps=_MATRIX_STEPS,
                val_check_interval=_MATRIX_STEPS // 2,
                callbacks=[best, EarlyStopping("val_loss", patience=10)],
                logger=False,
                enable_progress_bar=False,
                accelerator="cpu",
            )
            validation: DataLoader[Any] = loader("validation", 256)
            trainer.fit(module, loader("train", 32, shuffle=True), validation)
            test: DataLoader[Any] = loader("test", 256)
            forecast = torch.cat(trainer.predict(module, test, ckpt_path="best"))
        target = torch.cat([target_BHC for _, target_BHC in test])
        F.mse_loss(forecast, target), F.l1_loss(forecast, target)


def _command(*arguments: str) -> int:
    subprocess.run([sys.executable, "-m", "tsbench", *arguments], check=True, capture_output=True)
    return 1


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)


SECTIONS = {
    "input": inputs,
    "training": training,
    "packed": packed,
    "pruning": pruning,
    "evaluation": evaluation,
    "matrix": matrix,
    "commands": commands,
}
