"""The runner: the one place that sees the whole road, from a plan to its records."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsbench.bench.machine import describe_machine
from tsbench.bench.observer import Observer
from tsbench.bench.packing import decide, grouped
from tsbench.bench.records import (
    Audit,
    Cost,
    CurvePoint,
    DataFacts,
    Diagnostics,
    GradientPoint,
    Metrics,
    Packing,
    Plan,
    PlannedRun,
    Pretrained,
    Record,
    RecordStore,
    Run,
    Status,
    first_seeds,
    forecaster_path,
    not_timed_alone,
    write_durably,
    written,
)
from tsbench.data.blocks import ScaledRows, scaled_rows, windows_of
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import PARTS
from tsbench.data.windows import CovariateRows, Windows
from tsbench.errors import Diverged, TsbenchError
from tsbench.evaluation.accuracy import (
    Forecasts,
    JoinedLosses,
    evaluate,
    kept_losses,
    points_digest,
    sample_forecasts,
)
from tsbench.evaluation.audit import forecasts_are_blind, scaler_is_blind, targets_lie_in_their_parts
from tsbench.evaluation.energy import GpuMeter
from tsbench.evaluation.inspection import receptive_field
from tsbench.evaluation.metrics import ErrorTotals, item_metrics, metrics, seasonal_errors
from tsbench.evaluation.residuals import Residuals
from tsbench.evaluation.throughput import (
    MEASURE_SECONDS,
    PeakMemory,
    flops_per_window,
    measure_bare_step,
    measure_inference,
)
from tsbench.models.registry import model_spec
from tsbench.training.devices import check_precision, give_memory_back, keep_freed_memory
from tsbench.training.forecaster import Forecaster
from tsbench.training.loggers import Place, RunLog
from tsbench.training.packed import PackingError, fit_together
from tsbench.training.progress import Progress

FEW_WINDOWS = 256
"""Of the validation part, where only speed is read."""

ALONE_SECONDS = 0.5
"""Of training, where only speed is read."""


def run_plan(
    plan: Plan,
    panels: Mapping[str, Panel],
    folder: Path,
    device: torch.device,
    runs: list[PlannedRun],
    observer: Observer,
    *,
    keep_forecasters: bool = False,
    pack: str = "never",
    measure_alone: bool = False,
    loggers: Sequence[str] = (),
) -> None:
    """Execute these runs of a plan, one after the other; each record is on the disk before the next run starts.

    A run that fails leaves a record that says why, and the matrix goes on. keep_forecasters: also what was trained.
    pack: when seeds are trained together (`PACKS`). measure_alone: read the speed of a model whose seeds were trained
    together again, from one of them, and of one whose first seed failed.
    loggers: names of trackers that follow every run.
    """
    for planned in plan.runs:
        check_precision(planned.run.recipe, device)
    keep_freed_memory()
    store, timed, prepared_for = RecordStore(folder), first_seeds(plan), PreparedPanels(panels, device)
    for group in grouped(runs, pack):
        give_memory_back()
        here = prepared_for(group[0].run)
        packing, fits = None, None
        if len(group) > 1:
            told, group_runs = _ToAll(observer, group), [one.run for one in group]
            packing, fits = fit_if_it_pays(group_runs, here, pack, told.advances, told.start, followed=bool(loggers))
        for place, planned in enumerate(group):
            fitted = fits[place] if fits else None
            if fitted is None:
                observer.starts(planned)
            keep = forecaster_path(folder, planned.run.key()) if keep_forecasters else None
            log = open_log(loggers, folder, planned.run)
            tell = partial(observer.advances, planned)
            is_timed = planned.run.key() in timed
            record, arrays = execute(
                planned.run, here, tell, keep, log, fitted=fitted, packing=packing, is_timed=is_timed
            )
            store.write(record, arrays)
            for problem in log.problems if log else ():
                observer.warns(planned, problem)
            observer.ends(planned, record)
    if measure_alone:
        for planned in not_timed_alone(plan, store):
            observer.measures(planned)
            key = planned.run.key()
            with suppress(Exception):  # the speeds that were read of several seeds together stay
                store.write(measured_alone(store.read(key), prepared_for(planned.run)), store.arrays(key))


@dataclass
class _ToAll:
    """Tells an observer of runs that are trained together."""

    observer: Observer
    group: list[PlannedRun]

    def start(self) -> None:
        for planned in self.group:
            self.observer.starts(planned)

    def advances(self, progress: Progress) -> None:
        for planned in self.group:
            self.observer.advances(planned, progress)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A panel, its scalers, and its scaled values on the device, or what reads them there."""

    panel: Panel
    scaler: Scaler
    values_TC: torch.Tensor | ScaledRows
    scaler_is_blind: bool
    covariate_scaler: Scaler | None
    covariates: CovariateRows | None
    references: dict[tuple[int, int], ErrorTotals | None] = field(default_factory=dict)
    """Naive2's totals by context length and horizon, None where an item has several windows; filled when needed."""

    @classmethod
    def on(cls, panel: Panel, device: torch.device) -> Prepared:
        scaler, covariate_scaler = Scaler.fit(panel.train), Scaler.fit_covariates(panel.train)
        return cls(
            panel,
            scaler,
            scaled_rows(panel, scaler, device),
            scaler_is_blind(scaler, panel),
            covariate_scaler,
            CovariateRows.of(panel, covariate_scaler, device),
        )

    def windows(self, run: Run) -> dict[str, Windows]:
        """By part: train, validation, test."""
        parts = {part: getattr(self.panel, part) for part in PARTS}
        covariates = self.covariates_for(run)
        return {
            name: windows_of(part, self.values_TC, run.context_length, run.horizon, covariates)
            for name, part in parts.items()
        }

    def covariates_for(self, run: Run) -> CovariateRows | None:
        """None where the run is to do without."""
        return self.covariates if run.recipe.covariates == "all" and model_spec(run.model).learned else None

    def forecaster(self, run: Run) -> Forecaster:
        forecaster = Forecaster(
            run.model,
            context_length=run.context_length,
            horizon=run.horizon,
            channels=self.panel.num_channels,
            seasonality=self.panel.seasonality,
            covariates=self.panel.roles,
            recipe=run.recipe,
            **run.arguments,
        )
        forecaster.scaler = self.scaler
        forecaster.covariate_scaler = self.covariate_scaler if forecaster.covariates else None
        return forecaster

    def score(
        self, forecaster: Forecasts, windows: Windows, look: Callable[[torch.Tensor, torch.Tensor], None] | None = None
    ) -> ErrorTotals:
        """On the test part."""
        test, lengths = self.panel.test, (windows.context_length, windows.horizon)
        joined = JoinedLosses(test, *lengths) if self.panel.is_mapped else None
        return evaluate(forecaster, windows, self.scaler, seasonal_errors(test, *lengths), look=look, joined=joined)

    def naive2(self, run: Run) -> ErrorTotals | None:
        """What OWA compares with. It is defined for one forecast per item, as in M4."""
        task = run.context_length, run.horizon
        if task not in self.references:
            points = run.recipe.model_copy(update={"quantiles": []})
            question = run.model_copy(update={"model": "naive2", "arguments": {}, "recipe": points})
            windows, reference = self.windows(question)["test"], self.forecaster(question).build(0).eval()
            each_I = self.panel.test.window_starts(*task).counts_I
            is_defined = each_I.max() == 1 and not self.panel.is_mapped
            self.references[task] = self.score(reference, windows) if is_defined else None
        return self.references[task]


class PreparedPanels:
    """Prepares the panel of a run when it is asked for, and keeps the last one: runs come dataset by dataset."""

    def __init__(self, panels: Mapping[str, Panel], device: torch.device) -> None:
        self._panels, self._device = panels, device
        self._last: Prepared | None = None

    def __call__(self, run: Run) -> Prepared:
        panel = self._panels[run.dataset]
        if self._last is None or self._last.panel is not panel:
            self._last = Prepared.on(panel, self._device)
        return self._last


@dataclass
class Fitted:
    """A forecaster after its training, and what that took."""

    forecaster: Forecaster
    seconds: float
    memory: PeakMemory
    """Of the training alone."""
    meter: GpuMeter
    packed: int = 1
    """Seeds that were trained together; the seconds are a share of theirs, the memory is that of all."""
    error: Diverged | None = None


def fit(run: Run, prepared: Prepared, tell: Callable[[Progress], None] | None, log: RunLog | None) -> Fitted:
    windows, forecaster, clock = prepared.windows(run), prepared.forecaster(run), Clock()
    forecaster.run_log = log
    device = prepared.values_TC.device
    with PeakMemory(device) as memory, GpuMeter(device) as meter, clock("fit"):
        forecaster.fit_windows(windows["train"], windows["validation"], seed=run.seed, tell=tell)
    return Fitted(forecaster, clock.seconds["fit"], memory, meter)


def fit_pack(
    runs: list[Run], prepared: Prepared, windows: dict[str, Windows], tell: Callable[[Progress], None] | None = None
) -> list[Fitted]:
    """Train runs together that differ in their seed alone. Raises PackingError where that cannot be."""
    forecasters, clock = [prepared.forecaster(run) for run in runs], Clock()
    seeds, device = [run.seed for run in runs], prepared.values_TC.device
    with PeakMemory(device) as memory, GpuMeter(device) as meter, clock("fit"):
        errors = fit_together(forecasters, windows["train"], windows["validation"], seeds=seeds, tell=tell)
    share = clock.seconds["fit"] / len(runs)
    return [
        Fitted(forecaster, share, memory, meter, len(runs), error)
        for forecaster, error in zip(forecasters, errors, strict=True)
    ]


def fit_if_it_pays(
    runs: list[Run],
    prepared: Prepared,
    pack: str,
    tell: Callable[[Progress], None] | None = None,
    starts: Callable[[], None] | None = None,
    *,
    followed: bool = False,
) -> tuple[Packing, list[Fitted] | None]:
    """Train runs together that differ in their seed alone, where that pays; None: they are to be trained one by one.

    starts: is told when the decision is for it. followed: whether loggers follow each run.
    """
    try:
        if followed:
            raise PackingError("loggers follow one training at a time")
        packing = _decide(runs, prepared, pack)
        if packing.seeds == 1:
            return packing, None
        if starts:
            starts()
        return packing, fit_pack(runs, prepared, prepared.windows(runs[0]), tell)
    except PackingError as error:
        return Packing(seeds=1, reason=str(error)), None
    except Exception as error:  # each run will say so itself
        return Packing(seeds=1, reason=f"{type(error).__name__}: {_first_line(error)}"), None


def _decide(runs: list[Run], prepared: Prepared, pack: str) -> Packing:
    few = {"max_steps": 8, "validate_every": 8}
    short = [run.model_copy(update={"recipe": run.recipe.model_copy(update=few)}) for run in runs]
    windows = prepared.windows(runs[0])
    windows["validation"] = windows["validation"].head(1)

    def together() -> float:
        return _quickest_step(fit_pack(short, prepared, windows)[0].forecaster)

    def alone() -> float:
        forecaster = prepared.forecaster(short[0])
        return _quickest_step(forecaster.fit_windows(windows["train"], windows["validation"], seed=short[0].seed))

    machine = describe_machine(prepared.values_TC.device).model_dump(mode="json")
    roles = prepared.panel.roles
    where = {
        "channels": prepared.panel.num_channels,
        "covariates": [len(roles.columns), roles.num_ahead],
        "machine": machine,
    }
    return decide(runs, pack, where, together, alone)


def _quickest_step(forecaster: Forecaster) -> float:
    """Seconds; the first chunk warms up."""
    return min(seconds / steps for steps, seconds in forecaster.training_log.chunks[1:])


def execute(
    run: Run,
    prepared: Prepared,
    tell: Callable[[Progress], None] | None = None,
    keep: Path | None = None,
    log: RunLog | None = None,
    *,
    fitted: Fitted | None = None,
    packing: Packing | None = None,
    is_timed: bool = True,
) -> tuple[Record, dict[str, np.ndarray]]:
    """One run, from weights to record, and what is kept beside it. A failure is a record, too.

    keep: the file for the trained forecaster, if it is wanted. log: the loggers that follow it. fitted: what was
    trained already, together with other seeds; packing: the decision about that. is_timed: read the bare limit,
    inference and latency.
    """
    answer: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    status: Status = "ok"
    reason = detail = ""
    try:
        fitted = fitted or fit(run, prepared, tell, log)
        answer, arrays = _answer(run, prepared, fitted, is_timed)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except TsbenchError as error:
        status, reason = "failed", str(error)
    except Exception as error:  # a bug in a model must not cost the other runs; the record keeps the traceback
        if _finds_no_memory(error):
            status, reason = "out_of_memory", _first_line(error)
        else:
            status, reason, detail = "failed", f"{type(error).__name__}: {_first_line(error)}", traceback.format_exc()
    if keep is not None and fitted is not None and answer:
        write_durably(keep, fitted.forecaster.save)
    record = record_of(run, prepared, status=status, reason=reason, detail=detail, packing=packing, **answer)
    if log is not None:
        _end_log(log, record)
    return record, arrays


def open_log(names: Sequence[str], folder: Path, run: Run) -> RunLog | None:
    """The loggers of one run, in `logs` below a folder of results."""
    if not names:
        return None
    group = f"{run.dataset}-{run.context_length}-{run.horizon}"
    settings = run.model_dump(mode="json", exclude={"arguments", "recipe"})
    settings |= {name: written(value, full=True) for name, value in run.arguments.items()}
    settings |= {f"recipe.{name}": written(value, full=True) for name, value in run.recipe.model_dump().items()}
    return RunLog(names, Place(folder / "logs", group, f"{run.model}-seed{run.seed}-{run.key()}"), settings)


def _end_log(log: RunLog, record: Record) -> None:
    """The errors of the test part, which no look at the validation part has."""
    errors = {} if record.metrics is None else record.metrics.model_dump(include={"mse_scaled", "mae_scaled"})
    step = record.cost.steps if record.cost else 0
    log.end(step, {f"test_{name}": value for name, value in errors.items() if value is not None}, record.status)


def record_of(run: Run, prepared: Prepared, **outcome: Any) -> Record:
    """A record of this outcome with all that is known without it: data, machine, time."""
    return Record(
        key=run.key(),
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=data_facts(prepared.panel),
        machine=describe_machine(prepared.values_TC.device),
        **outcome,
    )


def _answer(
    run: Run, prepared: Prepared, fitted: Fitted, is_timed: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluate, measure: the parts of a record that only a finished run has."""
    if fitted.error:
        raise fitted.error
    panel, scaler, forecaster = prepared.panel, prepared.scaler, fitted.forecaster
    windows, clock = prepared.windows(run), Clock({"fit": fitted.seconds})
    residuals = Residuals(panel.test, windows["test"])
    with PeakMemory(prepared.values_TC.device) as memory, clock("evaluate"):
        totals = prepared.score(forecaster, windows["test"], residuals.look)
    memory.mib = max(memory.mib, fitted.memory.mib)
    speed = _training_speed(forecaster)
    with clock("measure"):
        if is_timed:
            speed |= _speed_of_model(forecaster, windows)
    answer = {
        "metrics": scores(totals, prepared, run),
        "cost": _cost(fitted, panel.num_channels, speed, memory, clock.seconds),
        "curve": [CurvePoint.model_validate(point) for point in forecaster.training_log.curve],
        "pretrained": Pretrained(**asdict(forecaster.transfer)) if forecaster.transfer else None,
        "gradients": [GradientPoint.model_validate(point) for point in forecaster.training_log.gradients],
        "diagnostics": Diagnostics.model_validate(residuals.tables()),
        "audit": _audit(run, prepared, windows, forecaster),
    }
    arrays = sample_forecasts(forecaster, panel.test, windows["test"], scaler)
    arrays |= kept_losses(totals, panel.test, run.context_length, run.horizon)
    if panel.has_items:
        arrays |= {f"item_{name}": values_I for name, values_I in item_metrics(totals).items()}
        arrays["items"] = np.array(panel.items)
    return answer, arrays


def scores(totals: ErrorTotals, prepared: Prepared, run: Run) -> Metrics:
    """All metrics of a run, with what it was scored on."""
    test = prepared.panel.test
    by_name = metrics(totals, prepared.panel, prepared.naive2(run))
    digest = points_digest(test, run.context_length, run.horizon)
    num_scored = int(totals.count_HC.sum())
    num_windows = totals.num_windows + test.empty_windows(run.context_length, run.horizon)
    return Metrics(
        **by_name,
        num_scored_windows=totals.num_windows,
        num_scored_points=num_scored,
        num_masked_points=num_windows * totals.count_HC.size - num_scored,
        points_digest=digest,
    )


def _audit(run: Run, prepared: Prepared, windows: dict[str, Windows], forecaster: Forecaster) -> Audit:
    panel = prepared.panel
    parts = [getattr(panel, part) for part in PARTS]
    return Audit(
        scaler_is_blind=prepared.scaler_is_blind,
        forecasts_are_blind=forecasts_are_blind(forecaster, windows["test"], prepared.scaler),
        targets_in_their_parts=targets_lie_in_their_parts(parts, run.context_length, run.horizon),
        num_windows={part: len(found) for part, found in windows.items()},
        receptive_field=receptive_field(forecaster),
    )


def _cost(fitted: Fitted, channels: int, speed: dict[str, Any], memory: PeakMemory, seconds: dict[str, float]) -> Cost:
    forecaster, log = fitted.forecaster, fitted.forecaster.training_log
    in_clocks = log.train_seconds + log.validate_seconds + log.gradient_seconds + log.log_seconds
    building = max(seconds["fit"] - in_clocks, 0.0)
    return Cost(
        num_parameters=sum(parameter.numel() for parameter in forecaster.parameters()),
        flops_per_window=flops_per_window(forecaster, channels),
        **speed,
        packed=fitted.packed,
        step_graph=log.graph,
        # Of seeds that were trained together: an equal share, as if all had seen as many windows.
        train_joules=fitted.meter.per_thousand(log.windows_seen * fitted.packed),
        gpu_busy_percent=fitted.meter.busy_percent,
        energy_note=fitted.meter.note,
        peak_memory_mib=memory.mib,
        peak_memory_kind=memory.kind,
        steps=log.steps,
        best_step=log.best_step,
        windows_seen=log.windows_seen,
        seconds={
            "build": building,
            "train": log.train_seconds,
            "validate": log.validate_seconds,
            **({"gradients": log.gradient_seconds} if log.gradients else {}),
            "evaluate": seconds["evaluate"],
            "measure": seconds["measure"],
        },
    )


def _training_speed(forecaster: Forecaster) -> dict[str, Any]:
    chunks = forecaster.training_log.chunks
    samples = [seconds / steps for steps, seconds in chunks[1:] or chunks]  # the first warms up
    return {
        "train_windows_per_second": forecaster.recipe.batch_size / float(np.median(samples)) if samples else None,
        "train_step_ms": [1000 * sample for sample in samples],
    }


def _speed_of_model(forecaster: Forecaster, windows: dict[str, Windows]) -> dict[str, Any]:
    """What is read in repeats of its own."""
    inference = measure_inference(forecaster, windows["validation"])
    return {
        "bare_step_ms": measure_bare_step(forecaster, windows["train"]),
        "predict_windows_per_second": inference.median_windows_per_second,
        "predict_samples": inference.windows_per_second,
        "predict_batch_size": inference.batch_size,
        "predict_by_batch_size": inference.by_batch_size,
        "latency_quantiles_ms": inference.latency_quantiles_ms,
        "latency_p50_ms": inference.latency_ms(50),
        "latency_p95_ms": inference.latency_ms(95),
        "predict_joules": inference.joules,
    }


def measured_alone(record: Record, prepared: Prepared) -> Record:
    """The record with its speeds read anew, from half a second of training without validation and from inference; and
    its memory, where that was read of several seeds together.

    For when nothing else runs here. The record stays as it is where it was made on another machine.
    """
    here = describe_machine(prepared.values_TC.device)
    cost, recipe = record.cost, record.run.recipe
    if cost is None or record.machine != here.model_copy(update={"num_workers": record.machine.num_workers}):
        return record
    step_ms = float(np.median(cost.train_step_ms or [np.inf]))
    steps = int(np.clip(1000 * ALONE_SECONDS / step_ms, 8, 2000))
    short = recipe.model_copy(update={"max_steps": steps, "validate_every": steps})
    windows = prepared.windows(record.run)
    forecaster = prepared.forecaster(record.run.model_copy(update={"recipe": short}))
    with PeakMemory(prepared.values_TC.device) as memory:
        forecaster.fit_windows(windows["train"], windows["validation"].head(FEW_WINDOWS), seed=record.run.seed)
    speed = _training_speed(forecaster) | _speed_of_model(forecaster, windows)
    anew = speed | {"num_workers": 1, "packed": 1}
    if cost.packed > 1:
        anew["peak_memory_mib"] = memory.mib
    return record.model_copy(update={"cost": cost.model_copy(update=anew)})


def flops_before(run: Run, prepared: Prepared) -> int:
    """`Cost.flops_per_window` of a run that is still to come; 0 where the model cannot be built."""
    try:
        return flops_per_window(prepared.forecaster(run), prepared.panel.num_channels)
    except Exception:  # the run will say so itself
        return 0


def seconds_by_probe(run: Run, prepared: Prepared) -> float:
    """What a run will take if it does not stop early, judged by two timed steps and one batch of validation."""
    short = run.model_copy(update={"recipe": run.recipe.model_copy(update={"max_steps": 4, "validate_every": 2})})
    windows = prepared.windows(run)
    one_batch = windows["validation"].head(FEW_WINDOWS)
    try:
        forecaster = prepared.forecaster(short).fit_windows(windows["train"], one_batch, seed=run.seed)
    except Exception:  # the run will say so itself
        return 0.0
    log = forecaster.training_log
    if not log.chunks:
        return 2 * MEASURE_SECONDS
    steps, seconds = log.chunks[-1]
    per_window = log.validate_seconds / 2 / len(one_batch)
    looks = -(-run.recipe.max_steps // run.recipe.validate_every)
    inference = per_window * (looks * len(windows["validation"]) + len(windows["test"]))
    return run.recipe.max_steps * seconds / steps + inference + 2 * MEASURE_SECONDS


@dataclass
class Clock:
    """Wall clock of named phases."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - start


def _finds_no_memory(error: Exception) -> bool:
    """Torch's allocator for the CPU has no kind of error of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def data_facts(panel: Panel) -> DataFacts:
    """What a record says of the data."""

    def span(part: str) -> list[str]:
        low, high = panel.bounds[part][0]
        first, last = pd.Timestamp(panel.timestamps[low]), pd.Timestamp(panel.timestamps[high - 1])
        return [str(high - low), str(first), str(last)]

    about = panel.about
    return DataFacts(
        title=about.title or panel.name,
        source=about.source,
        license=about.license,
        attribution=about.attribution,
        units=about.units,
        channels=list(panel.channels),
        covariates=panel.roles.by_name(),
        num_items=len(panel.items),
        num_rows=len(panel.values),
        freq=panel.freq,
        seasonality=panel.seasonality,
        split={part: span(part) for part in PARTS},
        notes=list(panel.notes),
    )
