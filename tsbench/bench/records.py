"""The run and its record: the question, the answer, and the folder that keeps them.

One JSON file per run is the truth. It is written to a temporary name, flushed and renamed, so a kill at any
moment leaves either the whole record or none; several processes can write side by side, and merging two folders is
copying files.
Forecasts of a few windows, and the losses of all, lie beside it in an `.npz` of the same name, written first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from tsbench.errors import ConfigError, MachineError
from tsbench.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PROTOCOL_VERSION = 1
"""Raised whenever a change can alter the numbers of an existing record (docs/protocol.md)."""

Status = Literal["ok", "failed", "diverged", "out_of_memory"]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Value):
    """The question: one model, on one dataset, at one context length and horizon, with one seed, fully resolved."""

    dataset: str
    fingerprint: str
    """Of the data: values, clock, channels, seasonality, split, covariates."""
    context_length: int
    horizon: int
    seed: int
    model: str
    arguments: dict[str, Any]
    """Every keyword of the model, defaults included."""
    recipe: Recipe
    pretrained_digest: str = ""
    """Of the file that the recipe starts from."""

    def key(self) -> str:
        """Sixteen hex digits that change with anything that could change the answer."""
        question = {"protocol": PROTOCOL_VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def task(self) -> tuple[str, int, int]:
        """What a run may be compared within: dataset, context length, horizon."""
        return self.dataset, self.context_length, self.horizon


def written(value: Any, *, full: bool = False) -> str:
    """A keyword's value for a reader: a list joined by plus signs, a layer by its kind; in full, with its keywords."""
    match value:
        case []:
            return "none"
        case list():
            return (" + " if full else "+").join(written(element, full=full) for element in value)
        case {"kind": kind, **keywords} if full:
            return f"{kind}({', '.join(f'{key}={written(inner, full=True)}' for key, inner in keywords.items())})"
        case {"kind": kind, "layers": layers}:
            return f"{kind}({written(layers)})"
        case {"kind": kind}:
            return str(kind)
        case _:
            return str(value)


class DataFacts(_Value):
    """What the report must say of the data without having them."""

    title: str
    source: str
    license: str
    attribution: str
    units: str
    channels: list[str]
    covariates: dict[str, list[str]] = {}
    """By role: past, known, calendar, static."""
    num_items: int
    num_rows: int
    freq: str
    seasonality: int
    split: dict[str, list[str]]
    """For train, validation and test: number of rows, first and last timestamp of the first item."""
    notes: list[str]
    """What was inferred, and what is known to be wrong with these data."""


class QuantileMetrics(_Value):
    """Quantile forecasts on the test split, over every window, step and channel."""

    levels: list[float]
    pinball: list[float]
    """Mean pinball loss of each level on the scaled values."""
    below: list[float]
    """Share of the targets that are not above each quantile: the level itself, if it is right."""
    wql: float | None
    """Weighted quantile loss: 2 * sum of pinball losses / sum of absolute targets, original units, mean over levels."""
    crps_scaled: float
    """2 * mean pinball loss over levels on the scaled values: the CRPS, as nearly as the levels tell."""
    nominal: list[float]
    """Of the intervals between each level and its partner, the widest first: the share of targets they should hold."""
    coverage: list[float]
    """The share that they hold."""
    width: list[float]
    """Their mean width on the scaled values."""
    pinball_by_step: list[float]
    """Mean over levels, one value per step ahead."""
    coverage_by_step: list[list[float]]
    """By interval, one value per step ahead."""

    @property
    def in_the_table(self) -> dict[str, float | None]:
        """One number each, by column; coverage and width are those of the widest interval."""
        widest = {"coverage": self.coverage[0], "width": self.width[0]} if self.coverage else {}
        return {"wql": self.wql, "crps_scaled": self.crps_scaled, **widest}


class Metrics(_Value):
    """Accuracy on the test split: every window, step and channel. Smaller is better; of bias, nearer to zero."""

    mse_scaled: float
    mae_scaled: float | None = None
    """This and what follows may be unknown of a result that was imported."""
    rmse_scaled: float | None = None
    mse: float | None = None
    mae: float | None = None
    rmse: float | None = None
    smape: float | None = None
    """Percent, 200 |y - f| / (|y| + |f|), 0 where both are zero, in original units (M4)."""
    mase: float | None = None
    """Mean over items of MAE / in-sample mean absolute difference at the seasonal lag, mean over channels."""
    rmsse: float | None = None
    """The same with squares, and a root for each item and channel."""
    owa: float | None = None
    """Mean of sMAPE and MASE, each as a share of Naive2's; for one forecast per item."""
    wape: float | None = None
    """Sum of absolute errors / sum of absolute targets, in original units; also called ND."""
    bias: float | None = None
    """Sum of forecast - target / sum of absolute targets: greater than zero where forecasts are too high."""
    note: str = ""
    """Why a metric is blank."""
    num_scored_windows: int
    num_scored_points: int | None = None
    """Windows times steps times channels, without those that are masked; unknown of older records."""
    num_masked_points: int = 0
    """Missing values at the places of these windows, and of those that hold no value at all."""
    points_digest: str
    """Of the scored (item, timestamp, step) set; runs are compared only when it is the same."""
    by_step: dict[str, list[float]] = {}
    """mse_scaled, mae_scaled, mse, mae: one value per step ahead."""
    by_channel: dict[str, list[float]] = {}
    """The same, one value per channel."""
    quantiles: QuantileMetrics | None = None
    """Where the recipe has quantiles."""

    @property
    def masked(self) -> str:
        """What is missing of the scored points, in words; empty where nothing is."""
        if not self.num_masked_points or self.num_scored_points is None:
            return ""
        total = self.num_scored_points + self.num_masked_points
        return f"{self.num_scored_points:,} of {total:,} points, the others masked"


class CurvePoint(_Value):
    """One look at the validation split."""

    step: int
    train_loss: float
    """Mean over the steps since the look before."""
    val_loss: float
    seconds: float
    """Since the start of training, validation included."""


class GradientPoint(_Value):
    """The gradients at one look at the validation split."""

    model_config = ConfigDict(ser_json_inf_nan="strings")  # an exploding gradient may be neither

    step: int
    by_layer: dict[str, float]
    """Norm of the loss's gradient with respect to a layer's weights, before clipping: mean over the steps since the
    look before."""
    by_row: list[float]
    """Norm of the gradient of a window's loss with respect to each row of its context, as the model sees it, oldest
    first: mean over the windows of the first step."""


class Cost(_Value):
    """What the forecaster costs. Warm-up is excluded and the device synchronised before a clock is read.

    The bare limit, inference and latency are those of the model, not of a seed: they are read of one seed, and blank in
    the others.
    """

    num_parameters: int
    flops_per_window: int
    """Of a forward pass over one window of all channels, multiplication and addition counted apart."""
    train_windows_per_second: float | None
    """Median over chunks of steps, validation excluded; None for a model that is not trained."""
    train_step_ms: list[float]
    """Mean milliseconds of a step, one sample per chunk of steps."""
    bare_step_ms: float | None = None
    """The bare limit: median milliseconds of forward pass, backward pass and optimizer step for one batch that is
    ready. None for a model that is not trained in steps."""
    predict_windows_per_second: float | None = None
    predict_samples: list[float] = []
    """Windows per second, one sample per repeat."""
    predict_batch_size: int | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    """Of one window, forecast alone."""
    predict_by_batch_size: dict[int, float] = {}
    """Windows per second in batches of this many windows."""
    latency_quantiles_ms: list[float] = []
    """Of one window, from the fastest call to the slowest, in steps of a twentieth."""
    num_workers: int = 1
    """Worker processes that shared the machine while throughput and latency were read; 1: the model was alone."""
    packed: int = 1
    """Seeds that trained in one step while training throughput and memory were read; throughput is that of all."""
    step_graph: str = ""
    """On a GPU: "captured" where a training step was one CUDA graph, else why it was not; empty on a CPU."""
    train_joules: float | None = None
    predict_joules: float | None = None
    """Energy of the whole GPU per 1,000 windows; training with its looks at the validation part."""
    gpu_busy_percent: float | None = None
    """Of the last second of the training, as the driver reads it."""
    energy_note: str = ""
    """Why these are blank."""
    peak_memory_mib: float
    peak_memory_kind: str
    steps: int
    best_step: int
    windows_seen: int
    seconds: dict[str, float]
    """Wall clock of each phase: build, train, validate, evaluate, measure; and gradients, where they were recorded. Of
    seeds that trained together, a share."""

    @property
    def is_timed(self) -> bool:
        """Whether inference was read of this seed."""
        return self.predict_windows_per_second is not None

    @property
    def shared_by(self) -> int:
        """Runs that shared the machine while speeds were read; 1: alone."""
        return self.num_workers * self.packed

    @property
    def share_of_bare_limit(self) -> float | None:
        """How much of the bare limit's speed the training had. Of seeds that train together a seed's share of their
        step counts, against the bare step of one alone."""
        if self.bare_step_ms is None or not self.train_step_ms:
            return None
        return self.bare_step_ms / median(self.train_step_ms)

    @property
    def train_kilojoules(self) -> float | None:
        """Energy of the training, looks at the validation part included; of seeds that trained together a share."""
        return None if self.train_joules is None else self.train_joules * self.windows_seen / 1e6


class Machine(_Value):
    """Where a record was made."""

    device: str
    """cpu or cuda: what the model ran on."""
    device_name: str
    num_threads: int
    num_cores: int
    num_workers: int = 1
    """Worker processes that shared the machine while the run was carried out."""
    memory_gib: float
    system: str
    versions: dict[str, str]


class Packing(_Value):
    """Whether the seeds of a run were trained in one step, their weights stacked, and why."""

    seeds: int
    """Trained together, this one included; 1: it trained by itself."""
    speedup: float | None = None
    """Times as many windows per second as one seed after the other, by a few steps of both; None: not measured."""
    reason: str


class Pretrained(_Value):
    """What became of the tensors of the forecaster that a run started from."""

    taken: list[str]
    mismatched: list[str]
    """Same name, other shape: started anew."""
    skipped: list[str]
    """Only in the file."""
    new: list[str]
    """Only in the model: started anew."""


class ErrorTable(_Value):
    """Errors on scaled values in groups of the scored points."""

    names: list[str]
    mse_scaled: list[float]
    mae_scaled: list[float]


class Diagnostics(_Value):
    """Where the errors on the test split lie (`tsbench.evaluation.residuals`), to five digits, on scaled values."""

    errors_by: dict[str, ErrorTable]
    """By hour, weekday or month of the target, where the clock has them; by level: tenths of the windows, from the
    lowest mean of the truth to the highest."""
    bias_by_step: list[float]
    """Mean of forecast less truth."""
    histogram: list[float]
    """Shares of forecast less truth in bins of equal width from -4 to 4; the outermost hold what lies beyond."""
    autocorrelation: list[float]
    """Of the errors one step ahead, from lag 1 on."""


class Audit(_Value):
    """What was checked of one run (`tsbench.evaluation.audit`)."""

    scaler_is_blind: bool
    """It comes out the same when validation and test rows hold no numbers."""
    forecasts_are_blind: bool
    """They stay the same when the rows from their origin on hold no numbers."""
    targets_in_their_parts: bool
    num_windows: dict[str, int]
    """Of train, validation and test."""
    receptive_field: int
    """Rows of the context that can change the forecast, counted back from the last one, as the model alone sees it."""

    @property
    def findings(self) -> list[str]:
        """What is wrong, in words; none is what a run should have."""
        found = [] if self.scaler_is_blind else ["the scaler saw rows beyond the training part"]
        found += [] if self.targets_in_their_parts else ["targets lie outside their part"]
        found += [] if self.forecasts_are_blind else ["forecasts change when the future is hidden"]
        return found


class Record(_Value):
    """The answer to one run."""

    format: Literal[1] = 1
    protocol: int = PROTOCOL_VERSION
    key: str
    run: Run
    status: Status
    reason: str = ""
    """Why there are no metrics, in one line."""
    detail: str = ""
    """The traceback of a failure."""
    created: str
    data: DataFacts
    machine: Machine
    metrics: Metrics | None = None
    cost: Cost | None = None
    curve: list[CurvePoint] = []
    pretrained: Pretrained | None = None
    gradients: list[GradientPoint] = []
    """Where the recipe asks for `gradient_norms`."""
    packing: Packing | None = None
    """None where nobody asked: a seed alone, or a model that is not trained."""
    imported: str = ""
    """The file that it came from, where it was made elsewhere: then there is neither cost nor machine."""
    diagnostics: Diagnostics | None = None
    audit: Audit | None = None


class KeptLosses(NamedTuple):
    """The loss of each origin of the test part, in the order of time (`tsbench.evaluation.accuracy.kept_losses`)."""

    loss_M: np.ndarray
    """Squared error on scaled values, mean over steps, channels and items."""
    origins_per_loss: int
    """Consecutive origins that one value is the mean of."""
    overlap: int
    """Consecutive values whose targets share a row: a horizon, where every row is an origin and a value of its own."""

    @property
    def shape(self) -> tuple[int, int]:
        """Equal for runs of one task."""
        return len(self.loss_M), self.overlap


class RecordStore:
    """The records below one folder, `records/<two digits>/<key>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "records"

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def write(self, record: Record, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Keep a record for good: when this returns, it survives a kill."""
        beside = self.path(record.key).with_suffix(".npz")
        if arrays:
            import numpy as np

            def save(file: BinaryIO) -> None:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

            write_durably(beside, save)
        text = record.model_dump_json(indent=1).encode()
        write_durably(self.path(record.key), lambda file: file.write(text))
        if not arrays:  # those of an earlier record under this key
            beside.unlink(missing_ok=True)

    def read(self, key: str) -> Record:
        path = self.path(key)
        try:
            return Record.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{path}: not a record this version reads ({error.error_count()} findings); "
                "delete it, and the next `tsbench run` makes it anew"
            ) from error

    def set_aside_unreadable(self, keys: Iterable[str]) -> list[Path]:
        """Rename those of these records that cannot be read. Returns where they lie now."""
        aside = []
        for key in keys:
            try:
                if key in self:
                    self.read(key)
            except ConfigError:
                aside.append(self.path(key).replace(self.path(key).with_suffix(".unreadable")))
        return aside

    def keys(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("??/*.json"))

    def __iter__(self) -> Iterator[Record]:
        return map(self.read, self.keys())

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        """What is kept beside a record: forecasts of a few windows (`accuracy.sample_forecasts`), and losses."""
        import numpy as np

        path = self.path(key).with_suffix(".npz")
        if not path.is_file():
            return {}
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def losses(self, key: str) -> KeptLosses | None:
        """What paired tests rest on; None where the record was made by a version that did not keep it."""
        import numpy as np

        path = self.path(key).with_suffix(".npz")
        if not path.is_file():
            return None
        with np.load(path) as file:
            if "squared_loss" not in file.files:
                return None
            loss_M, together = file["squared_loss"].astype(np.float64), int(file["origins_per_loss"])
            if "overlap" in file.files:
                return KeptLosses(loss_M, together, int(file["overlap"]))
            every_row = 1 + (self.read(key).run.horizon + together - 2) // together  # what older records mean
            return KeptLosses(loss_M, together, min(every_row, len(loss_M)))


def forecaster_path(folder: Path, key: str) -> Path:
    """Where the trained forecaster of a run lies, if it was kept (`Forecaster.load`)."""
    return folder / "forecasters" / f"{key}.pt"


def write_durably(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a whole file or none: temporary name in the same folder, flush to the disk, rename."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); choose a folder with --output DIR"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class PlannedRun(_Value):
    """A run of an experiment, with the name it has in the tables."""

    label: str
    """The model's name and the keywords in which it differs from its siblings."""
    run: Run


class Plan(_Value):
    """What was asked last in a folder: written before the first run, read by the report."""

    title: str
    experiment: str
    command: str
    protocol: int = PROTOCOL_VERSION
    differences: list[str] = []
    """Sentences about models whose recipe is not the common one."""
    notes: list[str] = []
    """What was inferred rather than told."""
    folds: dict[str, list[str]] = {}
    """Datasets that are cross-validated with a training for each origin, and what their folds are called, in order."""
    runs: list[PlannedRun]

    def save(self, folder: Path) -> None:
        text = self.model_dump_json(indent=1).encode()
        write_durably(folder / "plan.json", lambda file: file.write(text))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        path = folder / "plan.json"
        if not path.is_file():
            raise ConfigError(f"{folder}: no plan.json, so no results; `tsbench run --output {folder}` makes them")
        try:
            return cls.model_validate_json(path.read_bytes()).with_imports(folder)
        except ValidationError as error:
            raise ConfigError(f"{path}: not a plan this version reads; run the experiment again to renew it") from error

    def with_imports(self, folder: Path) -> Plan:
        """With what was imported into a folder for the tasks of the plan: it stays when the experiment changes."""
        known = {planned.run.key() for planned in self.runs}
        questions = {(planned.run.task, planned.run.fingerprint) for planned in self.runs}
        added = [
            planned
            for planned in Imports.load(folder).runs
            if (planned.run.task, planned.run.fingerprint) in questions and planned.run.key() not in known
        ]
        labels = dict.fromkeys(planned.label for planned in added)
        notes = [f"{label} was imported: made elsewhere, neither trained nor timed here" for label in labels]
        return self.model_copy(update={"runs": [*self.runs, *added], "notes": [*self.notes, *notes]})


class Imports(_Value):
    """The runs of a folder whose results were made elsewhere, beside its plan: `imports.json`."""

    runs: list[PlannedRun] = []

    @classmethod
    def load(cls, folder: Path) -> Imports:
        path = folder / "imports.json"
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ConfigError(f"{path}: not imports this version reads; delete it and import again") from error

    def with_runs(self, runs: list[PlannedRun]) -> Imports:
        """With these in place of those of the same label and task."""
        renewed = {(planned.label, planned.run.task) for planned in runs}
        kept = [planned for planned in self.runs if (planned.label, planned.run.task) not in renewed]
        return Imports(runs=[*kept, *runs])

    def save(self, folder: Path) -> None:
        text = self.model_dump_json(indent=1).encode()
        write_durably(folder / "imports.json", lambda file: file.write(text))


def first_seeds(plan: Plan) -> frozenset[str]:
    """The key of the first run of every label and task: that of which the speed is read."""
    first: dict[tuple[Any, ...], str] = {}
    for planned in plan.runs:
        first.setdefault((planned.label, *planned.run.task), planned.run.key())
    return frozenset(first.values())


def not_timed_alone(plan: Plan, store: RecordStore) -> list[PlannedRun]:
    """The first finished seed of every label and task whose speed was not read, or beside other workers or seeds."""
    first: dict[tuple[Any, ...], PlannedRun] = {}
    alone = set()
    for planned in plan.runs:
        entry, key = (planned.label, *planned.run.task), planned.run.key()
        cost = store.read(key).cost if key in store else None
        if cost is not None:
            first.setdefault(entry, planned)
            if cost.is_timed and cost.shared_by == 1:
                alone.add(entry)
    return [planned for entry, planned in first.items() if entry not in alone]


def load_records(folder: str | Path, *, everything: bool = False) -> pd.DataFrame:
    """One row per run of the experiment that was last run in a folder, failures included.

    Columns: `dataset, label, model, context_length, horizon, seed, status, reason, imported`, then every metric and
    cost of `Metrics` and `Cost` that is one number, `fit_seconds`, `device`, and `argument.*` and `recipe.*` for every
    keyword, a list or a table in words. Where a run has quantiles, also `wql`, `crps_scaled`, and `coverage` and
    `width` of its widest interval. `fold` counts the folds of a cross-validation from 1 and `fold_of` is what they are
    folds of; elsewhere these are 0 and the dataset.
    A metric that a failed run does not have is NaN.

    everything: also the runs of earlier experiments that the folder still keeps; their label is their model's name.
    """
    import pandas as pd

    folder = Path(folder)
    store = RecordStore(folder)
    plan = Plan.load(folder)
    labels = {planned.run.key(): planned.label for planned in plan.runs}
    folds = {fold: (name, place) for name, folds in plan.folds.items() for place, fold in enumerate(folds, start=1)}
    keys: Iterable[str] = store.keys() if everything else (key for key in labels if key in store)
    frame = pd.DataFrame([_row(store.read(key), labels.get(key)) for key in keys])
    if not frame.empty:
        frame["fold_of"], frame["fold"] = zip(*(folds.get(name, (name, 0)) for name in frame["dataset"]), strict=True)
    return frame


def load_item_metrics(folder: str | Path) -> pd.DataFrame:
    """One row per item of each finished run of the experiment that was last run in a folder; none of datasets with one.

    Columns: `dataset, model, context_length, horizon, seed, label, item`, then `mae, rmse, smape, mase, rmsse, wape`
    and `bias`, means over channels in original units; NaN where an item has no window, or nothing to divide by.
    """
    import numpy as np
    import pandas as pd

    about = ("dataset", "model", "context_length", "horizon", "seed")
    store, frames = RecordStore(Path(folder)), []
    for planned in Plan.load(Path(folder)).runs:
        arrays = store.arrays(planned.run.key())
        found = {name.removeprefix("item_"): values for name, values in arrays.items() if name.startswith("item_")}
        if found:
            items = arrays.get("items", np.arange(len(found["mae"])))  # records of older versions do not name them
            run = {name: getattr(planned.run, name) for name in about}
            frames.append(pd.DataFrame({**run, "label": planned.label, "item": items, **found}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*about, "label", "item"])


_METRICS = (
    "mse_scaled",
    "mae_scaled",
    "rmse_scaled",
    "mse",
    "mae",
    "rmse",
    "mase",
    "rmsse",
    "smape",
    "owa",
    "wape",
    "bias",
    "num_scored_windows",
    "num_scored_points",
    "num_masked_points",
    "points_digest",
)
_COSTS = (
    "num_parameters",
    "flops_per_window",
    "train_windows_per_second",
    "bare_step_ms",
    "share_of_bare_limit",
    "predict_windows_per_second",
    "latency_p50_ms",
    "latency_p95_ms",
    "num_workers",
    "packed",
    "train_joules",
    "predict_joules",
    "gpu_busy_percent",
    "peak_memory_mib",
    "steps",
    "best_step",
    "windows_seen",
)


def _row(record: Record, label: str | None) -> dict[str, Any]:
    run = record.run
    row: dict[str, Any] = {
        "dataset": run.dataset,
        "label": label or run.model,
        "model": run.model,
        "context_length": run.context_length,
        "horizon": run.horizon,
        "seed": run.seed,
        "status": record.status,
        "reason": record.reason,
        "imported": record.imported,
    }
    for part, names in ((record.metrics, _METRICS), (record.cost, _COSTS)):
        values = {name: getattr(part, name, None) for name in names}
        row |= {name: math.nan if value is None else value for name, value in values.items()}
    if record.metrics and record.metrics.quantiles:
        table = record.metrics.quantiles.in_the_table
        row |= {name: math.nan if value is None else value for name, value in table.items()}
    seconds = record.cost.seconds if record.cost else {}
    row["fit_seconds"] = seconds.get("train", 0.0) + seconds.get("validate", 0.0) if seconds else math.nan
    row |= {"device": record.machine.device, "device_name": record.machine.device_name, "key": record.key}
    row |= {f"argument.{name}": _cell(value) for name, value in run.arguments.items()}
    row |= {f"recipe.{name}": _cell(value) for name, value in run.recipe.model_dump().items()}
    return row


def _cell(value: Any) -> Any:
    """A list or a table in words: a column of them could be neither grouped nor compared."""
    return written(value, full=True) if isinstance(value, list | dict) else value
