"""Folders of made-up results: no training, only what a report reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tsbench.bench.records import (
    Audit,
    Cost,
    CurvePoint,
    DataFacts,
    Diagnostics,
    ErrorTable,
    GradientPoint,
    Machine,
    Metrics,
    Plan,
    PlannedRun,
    QuantileMetrics,
    Record,
    RecordStore,
    Run,
)
from tsbench.training.recipe import Recipe

CONTEXT_LENGTH, HORIZON, CHANNELS = 48, 24, ["North", "South"]
NUM_WINDOWS = 777
UNTRAINED = ("naive", "seasonal_naive", "profile")
RATES = {"naive": 900_000, "seasonal_naive": 800_000, "profile": 300_000, "linear": 210_000, "dlinear": 120_000}
Write = Callable[..., Path]
"""Of the fixture `write`."""
Outcome = float | str | None
"""Of one seed: its scaled test MSE; or a failure, "status: reason"; or None for a run without a record."""

REALISTIC: dict[str, Sequence[Outcome]] = {
    "naive": [1.2104] * 3,
    "seasonal_naive": [0.5127] * 3,
    "profile": [0.4413] * 3,
    "linear": [0.3912, 0.3915, 0.3911],
    "dlinear": [0.3897, 0.3906, 0.3899],
    "mlp": [0.3724, 0.3741, 0.3709],
    "rnn": [0.3881, "diverged: the training loss became NaN at step 130", 0.3902],
    "lstm": [0.3692, 0.3733, 0.3701],
    "gru": [0.3671, 0.3702, 0.3690],
    "cnn": [0.3811, 0.3790, None],
    "tcn": [0.3731, 0.3764, 0.3722],
    "transformer": ["failed: head_size 7 does not divide 64", 0.3795, 0.3777],
}

DATA = DataFacts(
    title="Two streets",
    source="https://example.org/streets",
    license="CC BY 4.0",
    attribution="City of Example, street counters",
    units="people per hour",
    channels=CHANNELS,
    num_items=1,
    num_rows=4000,
    freq="h",
    seasonality=24,
    split={
        "train": ["2800", "2019-01-01 00:00", "2019-04-27 15:00"],
        "validation": ["400", "2019-04-27 16:00", "2019-05-14 07:00"],
        "test": ["800", "2019-05-14 08:00", "2019-06-16 15:00"],
    },
    notes=["clocks change twice a year"],
)
MACHINE = Machine(
    device="cpu",
    device_name="Example CPU 3000",
    num_threads=1,
    num_cores=2,
    memory_gib=7.8,
    system="Linux 6.1",
    versions={"python": "3.11.7", "tsbench": "0.1.0", "torch": "2.13.0"},
)


def write_experiment(
    folder: Path,
    outcomes: dict[str, Sequence[Outcome]],
    datasets: Sequence[str] = ("streets",),
    edit: Callable[[Record], Record] = lambda record: record,
    losses: bool = True,
) -> Path:
    """edit: a last change of each record before it is written. losses: keep the loss of each window, as records do."""
    planned = []
    for number, dataset in enumerate(datasets):
        for label, seeds in outcomes.items():
            for seed, outcome in enumerate(seeds):
                run = _run(dataset, label, seed)
                planned.append(PlannedRun(label=label, run=run))
                if outcome is not None:
                    record = edit(_record(run, outcome if isinstance(outcome, str) else outcome * (1 + number / 10)))
                    arrays = _arrays(run, outcome) if record.metrics else {}
                    if record.metrics and losses:
                        arrays |= _losses(run, record.metrics.mse_scaled)
                    RecordStore(folder).write(record, arrays)
    plan = Plan(
        title="Sequence models on street counts",
        experiment="streets",
        command="tsbench run streets --seeds 0,1,2",
        differences=["tcn: learning_rate 0.0005 instead of 0.001"] if "tcn" in outcomes else [],
        runs=planned,
    )
    plan.save(folder)
    return folder


def _run(dataset: str, label: str, seed: int) -> Run:
    model = label.split(" ")[0]
    return Run(
        dataset=dataset,
        fingerprint="f00d" * 4,
        context_length=CONTEXT_LENGTH,
        horizon=HORIZON,
        seed=seed,
        model=model,
        arguments={"hidden_size": 64, "label": label} if model not in UNTRAINED else {},
        recipe=Recipe(),
    )


def _record(run: Run, outcome: float | str) -> Record:
    base = {
        "key": run.key(),
        "run": run,
        "created": f"2026-01-02T03:04:{run.seed:02d}+00:00",
        "data": DATA,
        "machine": MACHINE,
    }
    if isinstance(outcome, str):
        status, reason = outcome.split(": ", 1)
        return Record(**base, status=status, reason=reason, detail=f"Traceback:\n  <model>\n{reason}")
    return Record(
        **base,
        status="ok",
        metrics=_metrics(outcome),
        cost=_cost(run),
        curve=_curve(run, outcome),
        diagnostics=_diagnostics(outcome),
        audit=_audit(run),
    )


def with_gradients(record: Record) -> Record:
    """As a recipe with `gradient_norms` records them. An rnn forgets: each row gets a third of what the next one gets.
    Four rows in five of a context get nothing from an mlp."""
    if not record.curve:
        return record
    factor = 1 / 3 if record.run.model == "rnn" else 0.99
    by_row = [0.1 * factor**age for age in reversed(range(CONTEXT_LENGTH))]
    if record.run.model == "mlp":
        by_row[: 4 * CONTEXT_LENGTH // 5] = [0.0] * (4 * CONTEXT_LENGTH // 5)
    layers = [f"encoder.layers.{depth}.linear" for depth in range(12)] if "former" in record.run.model else ["head"]
    looks = [
        GradientPoint(
            step=p.step, by_layer={name: 0.5**i * p.train_loss for i, name in enumerate(layers)}, by_row=by_row
        )
        for p in record.curve
    ]
    return record.model_copy(update={"gradients": looks})


def with_energy(record: Record) -> Record:
    """As a GPU's driver counts it: 4 joules for 1,000 forecasts of the largest model, nothing known of an rnn."""
    if record.cost is None or record.run.model == "rnn":
        return record
    size = record.cost.num_parameters / 40_000
    energy = {"predict_joules": 0.1 + size, "train_joules": 50 * size if record.cost.steps else None}
    return record.model_copy(update={"cost": record.cost.model_copy(update=energy)})


def _metrics(mse: float) -> Metrics:
    mae = 0.62 * mse**0.5
    ramp = np.linspace(0.6, 1.4, HORIZON)
    return Metrics(
        mse_scaled=mse,
        mae_scaled=mae,
        rmse_scaled=mse**0.5,
        mse=mse * 250_000,
        mae=mae * 500,
        rmse=mse**0.5 * 500,
        smape=60 * mae,
        mase=1.5 * mae,
        num_scored_windows=NUM_WINDOWS,
        points_digest="9a9a9a9a",
        by_step={"mse_scaled": (mse * ramp).tolist(), "mae_scaled": (mae * ramp).tolist()},
        by_channel={"mse_scaled": [mse * 0.8, mse * 1.2]},
    )


def _diagnostics(mse: float) -> Diagnostics:
    def table(names: Sequence[str]) -> ErrorTable:
        errors = (mse * np.linspace(0.7, 1.3, len(names))).round(5).tolist()
        return ErrorTable(names=list(names), mse_scaled=errors, mae_scaled=errors)

    hours, days = [str(hour) for hour in range(24)], ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    bell = np.exp(-(np.linspace(-4, 4, 41) ** 2))
    return Diagnostics(
        errors_by={"hour": table(hours), "weekday": table(days), "level": table([str(n) for n in range(1, 11)])},
        bias_by_step=np.linspace(-0.05, 0.05, HORIZON).round(5).tolist(),
        histogram=(bell / bell.sum()).round(5).tolist(),
        autocorrelation=(0.6 ** np.arange(1, 49)).round(5).tolist(),
    )


def _audit(run: Run) -> Audit:
    return Audit(
        scaler_is_blind=True,
        forecasts_are_blind=True,
        targets_in_their_parts=True,
        num_windows={"train": 2729, "validation": 377, "test": NUM_WINDOWS},
        receptive_field=CONTEXT_LENGTH // 2 if run.model == "tcn" else CONTEXT_LENGTH,
    )


def _cost(run: Run) -> Cost:
    trained = run.model not in UNTRAINED
    size = 1 + sum(map(ord, run.model)) % 9
    rate = RATES.get(run.model, 90_000 / size) * (1 + run.seed / 50)
    return Cost(
        num_parameters=4_200 * size if trained else 0,
        flops_per_window=81_000 * size,
        train_windows_per_second=rate / 3 if trained else None,
        train_step_ms=[2.0, 2.1] if trained else [],
        bare_step_ms=1.886 if trained else None,
        predict_windows_per_second=rate,
        predict_samples=[rate] * 3,
        predict_batch_size=256,
        predict_by_batch_size={1: rate / 20, 8: rate / 4, 64: rate / 1.2, 256: rate},
        latency_quantiles_ms=np.geomspace(1_900 / rate, 3_000 / rate, 21).tolist(),
        latency_p50_ms=2_000 / rate,
        latency_p95_ms=2_600 / rate,
        peak_memory_mib=310 + size,
        peak_memory_kind="rss",
        steps=500 if trained else 0,
        best_step=300 if trained else 0,
        windows_seen=32_000 if trained else 0,
        seconds={
            "build": 0.02,
            "train": 4.0 * size * trained,
            "validate": 0.4 * trained,
            "evaluate": 0.6,
            "measure": 0.9,
        },
    )


def _curve(run: Run, mse: float) -> list[CurvePoint]:
    if run.model in UNTRAINED:
        return []
    falling = [0.5 * np.exp(-step / 90) + 0.00002 * max(0, step - 300) for step in range(100, 600, 100)]
    return [
        CurvePoint(step=100 * (i + 1), train_loss=0.8 * mse + f, val_loss=0.9 * mse + 1.1 * f, seconds=i + 1.0)
        for i, f in enumerate(falling)
    ]


def _losses(run: Run, mse: float) -> dict[str, np.ndarray]:
    """Of windows that overlap: most of the weather is the same for all models, some is a model's own."""
    weather = _moving(0, 0.3) + _moving(sum(map(ord, run.model)), 0.05)
    squared = mse * (1 + weather - weather.mean())
    return {"squared_loss": squared.astype(np.float32), "origins_per_loss": np.array(1), "overlap": HORIZON}


def _moving(seed: int, size: float) -> np.ndarray:
    """Noise whose neighbours share all but one of their parts, as overlapping windows do."""
    parts = np.random.default_rng(seed).normal(0, size * HORIZON**0.5, NUM_WINDOWS + HORIZON - 1)
    return np.convolve(parts, np.full(HORIZON, 1 / HORIZON), mode="valid")


def _arrays(run: Run, outcome: Outcome) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    starts = np.datetime64("2019-05-14T08:00", "ns") + np.arange(0, 600, 100) * np.timedelta64(1, "h")
    clock = np.arange(-CONTEXT_LENGTH, HORIZON) + np.arange(0, 600, 100)[:, None]
    series = 900 + 700 * np.sin(2 * np.pi * clock / 24)[..., None] * [1.0, 0.6] + rng.normal(0, 60, (*clock.shape, 2))
    target = series[:, CONTEXT_LENGTH:]
    noise = np.random.default_rng(sum(map(ord, run.model))).normal(0, 250 * float(outcome or 0), target.shape)
    return {
        "context": series[:, :CONTEXT_LENGTH].astype(np.float32),
        "target": target.astype(np.float32),
        "forecast": (target + noise).astype(np.float32),
        "target_start": starts,
        "item": np.array([""] * 6),
        "channel": np.array([0, 1, 0, 0, 1, 0]),
        "chosen_as": np.array(["easiest", "median", "hardest"] + ["evenly spaced"] * 3),
    }


def with_quantiles(record: Record) -> Record:
    """As a recipe with three quantiles records them: an interval that promises 80 % and holds 76 %."""
    if record.metrics is None:
        return record
    quantiles = QuantileMetrics(
        levels=[0.1, 0.5, 0.9],
        pinball=[0.1, 0.2, 0.1],
        below=[0.13, 0.52, 0.89],
        wql=0.2 * record.metrics.mse_scaled,
        crps_scaled=0.27,
        nominal=[0.8],
        coverage=[0.76],
        width=[1.25],
        pinball_by_step=[0.13] * HORIZON,
        coverage_by_step=[[*np.linspace(0.8, 0.72, HORIZON)]],
    )
    return record.model_copy(update={"metrics": record.metrics.model_copy(update={"quantiles": quantiles})})
