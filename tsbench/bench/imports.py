"""Results that were made elsewhere, brought into a folder beside our own: scores, or forecasts that are scored here.

What is imported stands on the same points as everything else of its task, or is refused. It has no cost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsbench.bench.records import Diagnostics, Imports, Machine, Metrics, Plan, PlannedRun, Record, RecordStore, Run
from tsbench.errors import ConfigError, DataError
from tsbench.models.registry import model_specs
from tsbench.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from tsbench.data.panel import Panel

ELSEWHERE = Machine(
    device="", device_name="elsewhere", num_threads=0, num_cores=0, memory_gib=0, system="", versions={}
)

_NAMES = ("item", "channel", "dataset", "points_digest")
"""Columns of text, whatever it looks like: a digest may be all digits."""

_POINTS = ("num_scored_windows", "num_scored_points", "num_masked_points", "points_digest")
"""What a score stands on: taken from a run that was made here."""

_SCORES = ("mse_scaled", "mae_scaled", "mse", "mae", "smape", "mase")


def import_results(
    file: str | Path,
    into: str | Path,
    name: str,
    *,
    dataset: str = "",
    data: str = "",
    data_dirs: Sequence[str | Path] = (),
) -> list[Record]:
    """Bring the results of a model that was run elsewhere into a folder, under a name. Returns its new records.

    A file of scores has the columns `dataset, horizon, mse_scaled, points_digest`, and may have `context_length, seed`
    and more metrics. A file of forecasts is long: `step, forecast` with `origin` (the timestamp of step 1) or
    `timestamp` (of the row that is forecast), `item` and `channel` where there are several, and maybe `seed`; every
    test window must be in it.

    dataset: of the folder's tasks, which one the forecasts are of; needed where there are several. data: the file or
    card to read it from, where that is not the dataset's name.

    Raises ConfigError and DataError where a file, a point or a name does not fit; then nothing is written.
    """
    import pandas as pd

    path, folder = Path(file), Path(into)
    plan = Plan.load(folder)
    _check_name(name, plan, Imports.load(folder))
    try:
        content = path.read_bytes()
        frame = pd.read_csv(path, dtype=dict.fromkeys(_NAMES, str))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); write one with a header line") from error
    source = _Source(path, f"{path.name}, sha256 {hashlib.sha256(content).hexdigest()[:12]}", name)
    if "forecast" in frame:
        answers = list(_from_forecasts(frame, plan, source, dataset, data, data_dirs))
    elif "mse_scaled" in frame:
        answers = list(_from_scores(frame, plan, RecordStore(folder), source))
    else:
        raise DataError(
            f"{path}: neither forecasts nor scores; a column 'forecast' or 'mse_scaled' is needed, there are "
            f"{', '.join(map(str, frame.columns))}"
        )
    for record, arrays in answers:
        RecordStore(folder).write(record, arrays)
    planned = [PlannedRun(label=name, run=record.run) for record, _ in answers]
    Imports.load(folder).with_runs(planned).save(folder)
    return [record for record, _ in answers]


@dataclass(frozen=True)
class _Source:
    path: Path
    origin: str
    """For the record: name and digest."""
    name: str

    def run(self, like: Run, seed: int) -> Run:
        """The digest of the file is in the question: another file is another answer."""
        return Run(
            dataset=like.dataset,
            fingerprint=like.fingerprint,
            context_length=like.context_length,
            horizon=like.horizon,
            seed=seed,
            model=self.name,
            arguments={"imported": self.origin},
            recipe=Recipe(),
        )

    def record(self, run: Run, data: Any, metrics: Metrics, diagnostics: Diagnostics | None = None) -> Record:
        return Record(
            key=run.key(),
            run=run,
            status="ok",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            data=data,
            machine=ELSEWHERE,
            metrics=metrics,
            diagnostics=diagnostics,
            imported=self.origin,
        )


Answers = Iterator[tuple[Record, dict[str, "np.ndarray"]]]


def _check_name(name: str, plan: Plan, imports: Imports) -> None:
    own = {planned.label for planned in plan.runs} - {planned.label for planned in imports.runs}
    if not name.strip() or name in own or name in model_specs():
        taken = ", ".join(sorted(own))
        raise ConfigError(f"--as {name!r}: is taken or empty; give the model a name of its own, not one of {taken}")


def _tasks(plan: Plan) -> dict[tuple[str, int, int], Run]:
    """One run of every task."""
    return {planned.run.task: planned.run for planned in reversed(plan.runs)}


def _names(tasks: Sequence[tuple[str, int, int]]) -> str:
    return "; ".join(f"{dataset}, {context_length} → {horizon}" for dataset, context_length, horizon in sorted(tasks))


# Scores


def _from_scores(frame: pd.DataFrame, plan: Plan, store: RecordStore, source: _Source) -> Answers:
    needed = ("dataset", "horizon", "mse_scaled", "points_digest")
    missing = [column for column in needed if column not in frame]
    if missing:
        raise DataError(
            f"{source.path}: column {missing[0]!r} is missing; needed are {', '.join(needed)} (a report names the "
            "points digest of every task)"
        )
    seen: dict[str, int] = {}
    for number, row in enumerate(frame.to_dict("records"), start=2):
        where = f"{source.path}, line {number}"
        for task in _meant(row, plan, where):
            like = _tasks(plan)[task]
            reference = _finished(plan, store, task, where)
            metrics = _scores(row, reference, where)
            run = source.run(like, int(row.get("seed", 0)))
            if run.key() in seen:
                raise DataError(
                    f"{where}: the same task and seed as line {seen[run.key()]}; give each a seed of its own"
                )
            seen[run.key()] = number
            yield source.record(run, reference.data, metrics), {}


def _meant(row: dict[Any, Any], plan: Plan, where: str) -> list[tuple[str, int, int]]:
    """The tasks of the folder that a row is about: of every context length, where it names none."""
    asked = {"dataset": row["dataset"], "horizon": row["horizon"]}
    if not _blank(row.get("context_length")):
        asked["context_length"] = row["context_length"]
    names = ("dataset", "context_length", "horizon")
    found = [task for task in _tasks(plan) if asked.items() <= dict(zip(names, task, strict=True)).items()]
    if not found:
        said = ", ".join(f"{key} {value}" for key, value in asked.items())
        raise DataError(f"{where}: no task of the folder has {said}; there are {_names(list(_tasks(plan)))}")
    return found


def _finished(plan: Plan, store: RecordStore, task: tuple[str, int, int], where: str) -> Record:
    """A run that was made here: what it was scored on is what counts."""
    for planned in plan.runs:
        key = planned.run.key()
        if planned.run.task == task and key in store and (record := store.read(key)).metrics and not record.imported:
            return record
    raise DataError(
        f"{where}: no run of {_names([task])} has finished, so there is nothing to check the points against"
    )


def _scores(row: dict[Any, Any], reference: Record, where: str) -> Metrics:
    own = reference.metrics
    assert own
    if str(row["points_digest"]) != own.points_digest:
        raise DataError(
            f"{where}: scored on other points: points_digest {row['points_digest']}, here {own.points_digest}; only "
            "errors on the same points can be compared (or import forecasts, to be scored here)"
        )
    values = {name: float(row[name]) for name in _SCORES if name in row and not _blank(row[name])}
    wrong = next((name for name, value in values.items() if not 0 <= value < math.inf), None)
    if wrong or "mse_scaled" not in values:
        raise DataError(f"{where}: {wrong or 'mse_scaled'} = {row[wrong or 'mse_scaled']}: write a number from 0")
    roots = {f"r{name}": math.sqrt(values[name]) for name in ("mse_scaled", "mse") if name in values}
    points = {name: getattr(own, name) for name in _POINTS}
    return Metrics(**values, **roots, **points, note=_NOTE)


_NOTE = "What an imported result does not hold is blank"


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# Forecasts


def _from_forecasts(
    frame: pd.DataFrame, plan: Plan, source: _Source, dataset: str, data: str, data_dirs: Sequence[str | Path]
) -> Answers:
    import torch

    from tsbench.bench.runner import Prepared, data_facts, scores
    from tsbench.data.datasets import load_dataset
    from tsbench.evaluation.accuracy import chosen_windows, kept_losses, sample_forecasts
    from tsbench.evaluation.residuals import Residuals

    horizon = _horizon(frame, source.path)
    tasks = [task for task in _tasks(plan) if task[2] == horizon and dataset in ("", task[0])]
    if len({task[0] for task in tasks}) != 1:
        raise ConfigError(
            f"{source.path}: forecasts of {horizon} steps; of which task? --dataset NAME says it; there are "
            f"{_names(list(_tasks(plan)))}"
        )
    panel = load_dataset(data or tasks[0][0], data_dirs=data_dirs)
    if panel.is_mapped:
        raise ConfigError(f"{source.path}: forecasts of a mapped panel cannot be imported; import scores")
    prepared = Prepared.on(panel, torch.device("cpu"))
    for task in tasks:
        like = _tasks(plan)[task]
        if panel.fingerprint != like.fingerprint:
            raise DataError(
                f"{panel.name}: not the data of this folder (fingerprint {panel.fingerprint}, there "
                f"{like.fingerprint}); name the file with --data"
            )
        windows = prepared.windows(like)["test"]
        items_N1 = windows.items_N[:, None].numpy()
        for seed in sorted(set(frame["seed"])) if "seed" in frame else [0]:
            rows = frame[frame["seed"] == seed] if "seed" in frame else frame
            forecast_NHC = prepared.scaler.apply(_laid_out(rows, panel, like, source.path), items_N1)
            run = source.run(like, int(seed))
            residuals = Residuals(panel.test, windows)
            totals = prepared.score(_Told(torch.from_numpy(forecast_NHC)), windows, residuals.look)
            _, picks, _ = chosen_windows(windows, panel.seasonality)
            picked = _Told(torch.from_numpy(forecast_NHC[picks]))
            arrays = sample_forecasts(picked, panel.test, windows, prepared.scaler)
            arrays |= kept_losses(totals, panel.test, run.context_length, run.horizon)
            diagnostics = Diagnostics.model_validate(residuals.tables())
            yield source.record(run, data_facts(panel), scores(totals, prepared, run), diagnostics), arrays


class _Told:
    """Forecasts that are known already, in the order in which they are asked for."""

    reads_history = False
    levels = ()

    def __init__(self, forecast_NHC: torch.Tensor) -> None:
        self._forecast_NHC, self._next = forecast_NHC, 0

    def infer_quantiles(self, context_BLC: torch.Tensor, covariates_BMK: torch.Tensor | None = None) -> torch.Tensor:
        first, self._next = self._next, self._next + len(context_BLC)
        return self._forecast_NHC[first : self._next].unsqueeze(-1)


def _horizon(frame: pd.DataFrame, path: Path) -> int:
    import pandas as pd

    for column in ("step", "forecast"):
        if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
            raise DataError(f"{path}: column {column!r}: numbers are needed; columns are {', '.join(map(str, frame))}")
    if not {"origin", "timestamp"} & set(frame):
        raise DataError(f"{path}: no column 'origin' (the timestamp of step 1) or 'timestamp' (of the forecast row)")
    if frame.empty or frame["step"].min() < 1 or (frame["step"] % 1).any():
        raise DataError(f"{path}: column 'step': whole numbers from 1 are needed")
    return int(frame["step"].max())


def _laid_out(rows: pd.DataFrame, panel: Panel, run: Run, path: Path) -> np.ndarray:
    """Forecasts `[N, H, C]` of every test window in original units, float32.

    Raises DataError where one is missing, with counts, is there twice, or is no number. Rows of other points are passed
    over; where the truth is missing, none is needed.
    """
    import numpy as np

    targets = panel.test.starts(run.context_length, run.horizon) + run.context_length
    window, step, channel = _places(rows, panel, targets, path)
    known = (window >= 0) & (step < run.horizon)
    shape = len(targets), run.horizon, panel.num_channels
    flat = np.ravel_multi_index((window[known], step[known], channel[known]), shape)
    counts = np.bincount(flat, minlength=math.prod(shape))
    values = np.zeros(math.prod(shape), dtype=np.float64)
    values[flat] = rows["forecast"].to_numpy(np.float64)[known]
    if panel.has_holes:
        is_masked = np.isnan(panel.values[targets[:, None] + np.arange(run.horizon)]).ravel()
        values[is_masked], counts[is_masked] = 0.0, 1
    for what, wrong in {"missing": counts == 0, "there twice": counts > 1, "not finite": ~np.isfinite(values)}.items():
        if wrong.any():
            n, h, c = np.unravel_index(int(wrong.argmax()), shape)
            item = panel.items[int(np.searchsorted(panel.offsets, targets[n], side="right") - 1)]
            origin, windows = panel.timestamps[targets[n]].astype("datetime64[s]"), wrong.reshape(shape).any((1, 2))
            raise DataError(
                f"{path}: of {len(values):,} forecasts ({shape[0]:,} test windows x {shape[1]} steps x {shape[2]} "
                f"channels) {int(wrong.sum()):,} are {what}, in {int(windows.sum()):,} windows; the first is "
                f"at {f'item {item}, ' if item else ''}origin {origin}, step {h + 1}, channel "
                f"{panel.channels[c]}; every test window is needed once"
            )
    return values.reshape(shape).astype(np.float32)


def _places(
    rows: pd.DataFrame, panel: Panel, targets: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window (-1 where it is none of the test part), step from 0, and channel of every row."""
    import numpy as np
    import pandas as pd

    item = _codes(rows, "item", panel.items, path)
    channel = _codes(rows, "channel", panel.channels, path)
    step = rows["step"].to_numpy(np.int64) - 1
    column = "origin" if "origin" in rows else "timestamp"
    try:
        stamps = pd.to_datetime(rows[column]).to_numpy("datetime64[ns]")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: column {column!r}: not timestamps ({error}); write them like 2024-01-31 13:00"
        ) from error
    clock = pd.MultiIndex.from_arrays(
        [np.repeat(np.arange(len(panel.items)), np.diff(panel.offsets)), panel.timestamps[:].astype("datetime64[ns]")]
    )
    row = clock.get_indexer(pd.MultiIndex.from_arrays([item, stamps]))
    first = np.where(row >= 0, row - (0 if column == "origin" else step), -1)
    place = np.searchsorted(targets, first).clip(max=len(targets) - 1)
    return np.where(targets[place] == first, place, -1), step, channel


def _codes(rows: pd.DataFrame, column: str, names: Sequence[str], path: Path) -> np.ndarray:
    """The number of each cell's name."""
    import numpy as np
    import pandas as pd

    if column not in rows:
        if len(names) > 1:
            raise DataError(f"{path}: column {column!r} is missing; there are {len(names)}: {', '.join(names[:5])}")
        return np.zeros(len(rows), dtype=np.int64)
    cells = rows[column].fillna("")
    codes = pd.Index([str(name) for name in names]).get_indexer(pd.Index(cells))
    if (codes < 0).any():
        place = int((codes < 0).argmax())
        raise DataError(
            f"{path}, line {rows.index[place] + 2}: unknown {column} {cells.iloc[place]!r}; there are "
            f"{', '.join(names[:5])}"
        )
    return np.asarray(codes)
