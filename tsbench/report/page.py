"""What the templates of a report are filled with: cells, conditions, failures. All of it plain values and strings."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tsbench.bench.records import DataFacts, Pretrained, Record, written
from tsbench.report.across import across_tasks
from tsbench.report.comparison import CONFIDENCE
from tsbench.report.tables import SIMPLE, Entry, Results, Task, TaskResults
from tsbench.report.wording import BLANK, compact, counted, decimals_for, fixed, listed, percent, whole

if TYPE_CHECKING:
    import pandas as pd

Writer = Callable[[Sequence[float]], list[str]]


def _errors(values: Sequence[float]) -> list[str]:
    decimals = decimals_for(values)
    return [fixed(value, decimals) for value in values]


def _one_by_one(write: Callable[[float], str]) -> Writer:
    return lambda values: [write(value) for value in values]


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard."""

    name: str
    """As in `leaderboard.csv`."""
    title: str
    group: str
    write: Writer
    better: str
    """lower or higher; empty where neither is better in itself."""
    meaning: str


_SCALED, _ORIGINAL, _COST = "Scaled values", "Original units", "Cost"
COLUMNS = (
    Column("mse_scaled", "MSE", _SCALED, _errors, "lower", "mean squared error; ± one standard deviation over seeds"),
    Column("mae_scaled", "MAE", _SCALED, _errors, "lower", "mean absolute error"),
    Column(
        "skill",
        "Skill",
        _SCALED,
        _one_by_one(percent),
        "higher",
        "1 − MSE / MSE of seasonal naive: 0% is no better than repeating the last season, 100% is perfect",
    ),
    Column("mse", "MSE", _ORIGINAL, _errors, "lower", "mean squared error"),
    Column("mae", "MAE", _ORIGINAL, _errors, "lower", "mean absolute error"),
    Column("rmse", "RMSE", _ORIGINAL, _errors, "lower", "square root of the mean squared error"),
    Column("smape", "sMAPE", _ORIGINAL, _errors, "lower", "percent: mean of 200 |y − f| / (|y| + |f|)"),
    Column(
        "mase",
        "MASE",
        _ORIGINAL,
        _errors,
        "lower",
        "MAE / mean absolute seasonal difference of the training rows, mean over channels",
    ),
    Column(
        "train_windows_per_second",
        "Train w/s",
        _COST,
        _one_by_one(compact),
        "higher",
        "windows trained on per second, validation excluded; blank for a model that is not trained",
    ),
    Column(
        "predict_windows_per_second",
        "Predict w/s",
        _COST,
        _one_by_one(compact),
        "higher",
        "windows forecast per second, in large batches",
    ),
    Column(
        "latency_p50_ms", "p50 ms", _COST, _one_by_one(compact), "lower", "median time to forecast one window alone"
    ),
    Column("latency_p95_ms", "p95 ms", _COST, _one_by_one(compact), "lower", "95th percentile of the same"),
    Column("peak_memory_mib", "MiB", _COST, _one_by_one(whole), "lower", "peak memory"),
    Column("num_parameters", "Params", _COST, _one_by_one(whole), "", "trained parameters"),
    Column(
        "flops_per_window",
        "FLOPs",
        _COST,
        _one_by_one(compact),
        "lower",
        "operations of a forward pass over one window of all channels; multiplication and addition counted apart",
    ),
    Column("fit_seconds", "Fit s", _COST, _one_by_one(compact), "lower", "seconds of training and validation"),
)


_FOLDS = Column(
    "mse_scaled_std_folds",
    "± folds",
    _SCALED,
    _errors,
    "",
    "standard deviation over folds of the MSE, mean over seeds; where the errors of folds were joined",
)

_QUANTILES = "Quantiles"
QUANTILE_COLUMNS = (
    Column(
        "wql",
        "WQL",
        _QUANTILES,
        _errors,
        "lower",
        "2 × sum of pinball losses / sum of absolute targets, in original units, mean over levels",
    ),
    Column(
        "coverage",
        "Coverage",
        _QUANTILES,
        _one_by_one(percent),
        "",
        "share of the targets within the widest interval; the nearer to what the interval promises, the better",
    ),
    Column("width", "Width", _QUANTILES, _errors, "lower", "mean width of the same interval on scaled values"),
)


def columns_of(frame: pd.DataFrame) -> tuple[Column, ...]:
    """Of the frame of `leaderboard`; those of folds and quantiles only where there are some."""
    folds = [_FOLDS] if _FOLDS.name in frame else []
    return (COLUMNS[0], *folds, *COLUMNS[1:], *(column for column in QUANTILE_COLUMNS if column.name in frame))


@dataclass(frozen=True)
class Cell:
    text: str
    value: str
    """The unrounded number, to sort by and to check; empty where there is none."""


@dataclass(frozen=True)
class Row:
    rank: int
    label: str
    standing: str
    """best, same, unknown or empty."""
    cells: tuple[Cell, ...]
    """One per column."""
    status: str
    reason: str


@dataclass(frozen=True)
class Failure:
    task: str
    label: str
    seed: int
    status: str
    reason: str
    detail: str


def leaderboard_rows(frame: pd.DataFrame, task: TaskResults) -> list[Row]:
    """Of the frame of `leaderboard`, the rows of one task; without cells where nothing has a result."""
    rows = _of_task(frame, task)
    columns = [_cells(column, rows) for column in columns_of(frame)] if task.ranked else []
    return [
        Row(
            row["rank"],
            row["label"],
            _standing(task, row),
            tuple(cells[place] for cells in columns),
            row["status"],
            row["reason"],
        )
        for place, row in enumerate(rows)
    ]


def _of_task(frame: pd.DataFrame, task: TaskResults) -> list[dict[Hashable, Any]]:
    wanted = (frame["dataset"] == task.task.dataset) & (frame["context_length"] == task.task.context_length)
    return frame[wanted & (frame["horizon"] == task.task.horizon)].to_dict("records")


def _cells(column: Column, rows: list[dict[Hashable, Any]]) -> list[Cell]:
    values = [row[column.name] for row in rows]
    texts = column.write(values)
    if column.name == "mse_scaled":
        decimals = decimals_for(values)
        spreads = [row["mse_scaled_std"] for row in rows]
        texts = [
            f"{text} ± {fixed(spread, decimals)}" if spread > 0 else text  # without noise, or with one seed: no spread
            for text, spread in zip(texts, spreads, strict=True)
        ]
    return [
        Cell(text, "" if math.isnan(value) else repr(float(value))) for text, value in zip(texts, values, strict=True)
    ]


def _standing(task: TaskResults, row: dict[Hashable, Any]) -> str:
    if task.best and row["label"] == task.best.label:
        return "best"
    if row["same_as_best"] is None:
        return "unknown"
    return "same" if row["same_as_best"] else ""


def across_rows(results: Results) -> list[dict[str, str]]:
    return [
        {
            "label": row["label"],
            "mean_rank": f"{row['mean_rank']:.1f}{_interval(row, 'mean_rank', '.1f')}",
            "win_rate": BLANK
            if math.isnan(row["win_rate"])
            else f"{row['win_rate']:.2f}{_interval(row, 'win_rate', '.2f')}",
            "wins": str(row["wins"]),
            "num_tasks": f"{row['num_tasks']} of {len(results.tasks)}",
            "relative_error": f"{fixed(row['relative_error'], 3)}{_interval(row, 'relative_error', '.3f')}",
        }
        for row in across_tasks(results).to_dict("records")
    ]


def _interval(row: dict[Hashable, Any], name: str, digits: str) -> str:
    lower, upper = row[f"{name}_lower"], row[f"{name}_upper"]
    return "" if math.isnan(lower) else f" ({lower:{digits}} to {upper:{digits}})"


PAIRED_NOTE = (
    "Differences are of the test MSE on scaled values, below zero where the model is better than the one that it is "
    "compared with. Their noise has three parts: the seeds of the one, the seeds of the other, and the test windows, "
    "which both share and which overlap. p (Holm) counts all three and is corrected for all pairs of the task; the "
    "intervals count all three too, by block bootstrap, and are not corrected. p (windows only): Diebold-Mariano test "
    "with the correction of Harvey, Leybourne and Newbold, of the trained forecasters as they are; too sure of itself "
    "where the test part is short against the horizon. Confidence set: the models that are left when the clearly worse "
    f"ones have gone (Hansen, Lunde and Nason); it holds the best one with {CONFIDENCE:.0%}."
)


@dataclass(frozen=True)
class Paired:
    """One forecaster against another of its task."""

    label: str
    reference: str
    relative: str
    """The unrounded distance, to sort by; empty where there is none."""
    distance: str
    interval: str
    p_value: str
    by_the_book: str
    conclusion: str
    in_set: str


def paired_rows(frame: pd.DataFrame, task: TaskResults) -> list[Paired]:
    """Of the frame of `comparisons`, the rows of one task."""
    if frame.empty:
        return []
    rows = _of_task(frame, task)
    return [_paired(row) for row in rows if row["reference"] == "best" or row["reference_label"] != _best_of(task)]


def _best_of(task: TaskResults) -> str:
    return task.best.label if task.best else ""


def _paired(row: dict[Hashable, Any]) -> Paired:
    against = row["difference"] / row["relative"] if row["relative"] else math.nan
    bounds = [percent(row[name] / against) for name in ("lower", "upper")]
    word = "better" if row["difference"] < 0 else "worse"
    member = BLANK if math.isnan(row["confidence_p"]) else "yes" if row["confidence_p"] >= 1 - CONFIDENCE else "no"
    return Paired(
        row["label"],
        row["reference_label"],
        "" if math.isnan(row["relative"]) else repr(float(row["relative"])),
        percent(row["relative"]),
        BLANK if BLANK in bounds else f"{bounds[0]} to {bounds[1]}",
        _probability(row["p_value"]),
        _probability(row["p_diebold_mariano"]),
        {True: "cannot be told apart", False: word, None: "not known"}[row["same"]],
        member,
    )


def _probability(p_value: float) -> str:
    return BLANK if math.isnan(p_value) else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def failures(results: Results) -> list[Failure]:
    return [
        Failure(
            str(task.task), entry.label, record.run.seed, record.status.replace("_", " "), record.reason, record.detail
        )
        for task in results.tasks
        for entry in task.entries
        for record in entry.failed
    ]


def missing(results: Results) -> list[tuple[str, str, str]]:
    """Task, label and seeds of planned runs without a record."""
    found = []
    for task in results.tasks:
        for entry in task.entries:
            done = {record.key for record in entry.records}
            seeds = [str(run.seed) for run in entry.runs if run.key() not in done]
            if seeds:
                found.append((str(task.task), entry.label, ", ".join(seeds)))
    return found


@dataclass(frozen=True)
class DataConditions:
    """What a data set is, for every data set that has a record."""

    name: str
    fingerprint: str
    facts: DataFacts

    @property
    def split(self) -> list[tuple[str, str, str, str]]:
        """Part, rows, first and last timestamp."""
        padded = {part: [*values, "", "", ""] for part, values in self.facts.split.items()}
        return [(part, _thousands(values[0]), values[1], values[2]) for part, values in padded.items()]

    @property
    def size(self) -> str:
        items = f" in {counted(self.facts.num_items, 'item')}" if self.facts.num_items > 1 else ""
        return f"{counted(self.facts.num_rows, 'row')}{items} × {counted(len(self.facts.channels), 'channel')}"


def _thousands(number: str) -> str:
    return f"{int(number):,}" if number.isdigit() else number


def data_conditions(results: Results) -> list[DataConditions]:
    found: dict[str, DataConditions] = {}
    for record in results.records:
        found.setdefault(record.run.dataset, DataConditions(record.run.dataset, record.run.fingerprint, record.data))
    return list(found.values())


def scoring(task: TaskResults) -> str:
    """What every finished run of a task was scored on."""
    if task.folds:
        return f"the means over {listed(task.folds)}, each scored by itself"
    metrics = next((record.metrics for entry in task.ranked for record in entry.finished), None)
    if metrics is None:
        return "nothing was scored"
    masked = f", {metrics.masked}" if metrics.masked else ""
    return f"{counted(metrics.num_scored_windows, 'window')}{masked}, points digest {metrics.points_digest}"


def metric_notes(task: TaskResults) -> list[str]:
    """Why something is blank, once each."""
    notes = [record.metrics.note for entry in task.ranked for record in entry.finished if record.metrics]
    return list(dict.fromkeys(note for note in [task.no_skill_because, *notes] if note)) if task.ranked else []


def common_recipe(results: Results) -> dict[str, str]:
    """The recipe that most runs have; `Plan.differences` names the others."""
    recipes = Counter(planned.run.recipe.model_dump_json() for planned in results.plan.runs)
    most = json.loads(recipes.most_common(1)[0][0]) if recipes else {}
    return {name: written(value) if value not in ("", {}) else "none" for name, value in most.items()}


def pretrained(results: Results) -> list[str]:
    """A sentence for each model that started from a saved forecaster: what was taken of it, and what was not."""
    return [
        f"{entry.label} on {task.task} started from {record.run.recipe.pretrained}: {_account(record.pretrained)}."
        for task in results.tasks
        for entry in task.entries
        for record in entry.finished[:1]
        if record.pretrained
    ]


def _account(tensors: Pretrained) -> str:
    parts = [f"{counted(len(tensors.taken), 'tensor')} taken"]
    for names, words in (
        (tensors.mismatched, "of another shape and started anew"),
        (tensors.new, "not in it and started anew"),
        (tensors.skipped, "only in it and skipped"),
    ):
        parts += [f"{len(names)} {words} ({', '.join(names)})"] if names else []
    return "; ".join(parts)


def model_arguments(results: Results) -> list[tuple[str, str]]:
    """Label and keywords; by task where they differ, as they do when widths are matched."""
    found: dict[str, dict[str, str]] = {}
    for planned in results.plan.runs:
        words = ", ".join(f"{name} = {written(value, full=True)}" for name, value in planned.run.arguments.items())
        found.setdefault(planned.label, {}).setdefault(str(Task(*planned.run.task)), words or "none")
    rows = []
    for label, by_task in found.items():
        if len(set(by_task.values())) == 1:
            rows.append((label, next(iter(by_task.values()))))
        else:
            rows += [(f"{label} on {task}", words) for task, words in by_task.items()]
    return rows


def versions(results: Results) -> list[tuple[str, str]]:
    """Every value that a version has in the records: more than one means that runs were made in different places."""
    found: dict[str, set[str]] = {}
    for record in results.records:
        for name, version in record.machine.versions.items():
            found.setdefault(name, set()).add(version)
    return [(name, " and ".join(sorted(values))) for name, values in sorted(found.items())]


def phases(task: TaskResults) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the phases, and for each label the median seconds over seeds that each of them took."""
    names = list(dict.fromkeys(name for entry in task.ranked for record in entry.finished for name in _clock(record)))
    return names, [(entry.label, [compact(_phase(entry, name)) for name in names]) for entry in task.ranked]


BARE_LIMIT_NOTE = (
    "The bare limit is what forward pass, backward pass and optimizer step of the same forecaster reach on one batch "
    "that is ready; the share is what the training keeps of it beside choosing and gathering windows, clipping and the "
    "schedule. Both are read in short stretches, so a few percent are noise; far above 100% are steps that one CUDA "
    "graph launches, or that several seeds take together."
)


@dataclass(frozen=True)
class TrainingSpeed:
    """How fast a model trains, and how fast it could."""

    label: str
    rate: Cell
    limit: Cell
    share: Cell


def training_speeds(task: TaskResults) -> list[TrainingSpeed]:
    """Of every label whose bare limit was measured, best first."""
    return [
        TrainingSpeed(
            entry.label,
            _cell(entry.cost("train_windows_per_second"), compact),
            _cell(1000 * entry.runs[0].recipe.batch_size / step_ms, compact),
            _cell(entry.cost("share_of_bare_limit"), "{:.0%}".format),
        )
        for entry in task.ranked
        if (step_ms := entry.cost("bare_step_ms"))
    ]


def _cell(value: float | None, write: Callable[[float], str]) -> Cell:
    return Cell(BLANK, "") if value is None else Cell(write(value), repr(value))


def _clock(record: Record) -> dict[str, float]:
    return record.cost.seconds if record.cost else {}


def _phase(entry: Entry, name: str) -> float | None:
    values = [_clock(record)[name] for record in entry.finished if name in _clock(record)]
    return median(values) if values else None


@dataclass(frozen=True)
class Audited:
    """What was checked of one row of a leaderboard, over its finished seeds."""

    label: str
    checks: str
    """passed, or what is wrong."""
    passed: bool
    windows: str
    """Of train, validation and test."""
    receptive_field: str
    steps: str
    windows_seen: str
    num_parameters: str


def audit_rows(task: TaskResults) -> list[Audited]:
    """One per label with a result; empty where no record holds an audit, and where the folds have theirs."""
    if task.folds or not any(record.audit for entry in task.ranked for record in entry.finished):
        return []
    return [_audited(task, entry) for entry in task.ranked]


def _audited(task: TaskResults, entry: Entry) -> Audited:
    audits = [record.audit for record in entry.finished if record.audit]
    found = list(dict.fromkeys(finding for audit in audits for finding in audit.findings))
    unknown = len(entry.finished) - len(audits)
    checks = "; ".join(found) or ("not checked" if unknown else "passed")
    field = audits[0].receptive_field if audits else None
    return Audited(
        entry.label,
        checks,
        checks == "passed",
        " / ".join(f"{number:,}" for number in audits[0].num_windows.values()) if audits else BLANK,
        BLANK if field is None else f"{field:,} of {task.task.context_length:,}",
        whole(entry.cost("steps")),
        whole(entry.cost("windows_seen")),
        whole(entry.cost("num_parameters")),
    )


WIDE = 4
"""Parameter counts of networks that differ by more than this factor are worth a warning."""


def budget_notes(task: TaskResults) -> list[str]:
    """Where models of a task did not get the same: parameters, steps, rows of the context. Folds have their own."""
    if task.folds:
        return []
    networks = [entry for entry in task.ranked if entry.model not in SIMPLE and entry.cost("num_parameters")]
    notes = []
    if len(networks) > 1:
        sizes = {entry.label: entry.cost("num_parameters") or 1 for entry in networks}
        small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        if sizes[large] > WIDE * sizes[small]:
            notes.append(
                f"Parameter counts differ widely: {large} has {whole(sizes[large])}, {small} {whole(sizes[small])}. "
                'An experiment with match = "parameters" gives all families the same number.'
            )
    steps = {entry.label: entry.cost("steps") for entry in task.ranked if entry.cost("steps")}
    if len(set(steps.values())) > 1:
        most = max(value for value in steps.values() if value)
        fewer = [f"{label} ({whole(value)})" for label, value in steps.items() if value and value < most]
        notes.append(f"Trainings took up to {whole(most)} steps; fewer, median over seeds: {', '.join(fewer)}.")
    short = [
        f"{entry.label} ({audit.receptive_field:,})"
        for entry in task.ranked
        if entry.model not in SIMPLE
        and (audit := entry.finished[0].audit)
        and 0 < audit.receptive_field < task.task.context_length
    ]
    if short:
        notes.append(
            f"Of {task.task.context_length:,} rows of context not all reach the forecast of {', '.join(short)}: in "
            "brackets the rows that do, but for the instance normalisation, which sees all."
        )
    return notes


def audit_summary(results: Results) -> tuple[str, bool]:
    """What the checks found over all runs, and whether all is well; empty where nothing was checked."""
    finished = [record for record in results.records if record.status == "ok"]
    audits = [record.audit for record in finished if record.audit]
    if not audits:
        return "", True
    passed = sum(not audit.findings for audit in audits)
    unchecked = len(finished) - len(audits)
    words = f"{passed:,} of {counted(len(audits), 'finished run')} passed every leakage check"
    return words + (f"; {unchecked:,} older ones were not checked." if unchecked else "."), passed == len(audits)


MOST_BYTES, MOST_RECORDS = 1_000_000, 1000
"""What is embedded for downloading at most: of one file, and records."""


@dataclass(frozen=True)
class Download:
    """A file that the page carries within itself, or only names."""

    name: str
    what: str
    address: str
    """A data: address; empty where the file is too large to be carried twice."""
    size: str


def table_download(name: str, what: str, text: str) -> Download:
    data = text.encode()
    address = _data_address("text/csv", data) if len(data) <= MOST_BYTES else ""
    return Download(name, what, address, _size(len(data)))


def records_download(results: Results) -> Download:
    """All records of the plan as one JSON list, compressed where it is long."""
    name, number = "records.json", counted(len(results.records), "record")
    if not results.records or len(results.records) > MOST_RECORDS:
        return Download("records/", number, "", "one file for each run")
    data = f"[{','.join(record.model_dump_json() for record in results.records)}]".encode()
    kind = "application/json"
    if len(data) > MOST_BYTES // 2:
        name, kind, data = f"{name}.gz", "application/gzip", gzip.compress(data, mtime=0)
    address = _data_address(kind, data) if len(data) <= MOST_BYTES else ""
    return Download(name if address else "records/", number, address, _size(len(data)))


def _data_address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _size(num_bytes: int) -> str:
    return f"{max(1, round(num_bytes / 1000)):,} kB"


def cost_notes(results: Results) -> list[str]:
    """How the cost columns were read, and when they must not be compared."""
    costs = [record.cost for record in results.records if record.cost]
    sizes = [str(size) for size in sorted({cost.predict_batch_size for cost in costs if cost.predict_batch_size})]
    notes = [f"Throughput in batches of {listed(sizes)}."] if sizes else []
    notes += [f"Memory: {kind}." for kind in sorted({cost.peak_memory_kind for cost in costs if cost.peak_memory_kind})]
    if any(record.gradients for record in results.records):
        notes.append("Where norms of gradients were recorded, the timed steps took them too, and were slower for it.")
    if len(results.machines) > 1:
        notes.append("These runs were made on different machines: errors may be compared, the cost columns may not.")
    return notes + _about_packs(results) + _about_workers(results)


def _about_packs(results: Results) -> list[str]:
    """Whose seeds were trained together."""
    packed = {
        entry.label: max(record.packing.seeds for record in entry.finished if record.packing)
        for task in results.tasks
        for entry in task.entries
        if any(record.packing and record.packing.seeds > 1 for record in entry.finished)
    }
    if not packed:
        return []
    shown = listed([f"{label} ({seeds})" for label, seeds in packed.items()])
    return [f"Seeds that were trained together in one step, and their number: {shown}. Fit s is a seed's share."]


def _about_workers(results: Results) -> list[str]:
    """What was read while workers shared the machine."""
    most = max((record.machine.num_workers for record in results.records), default=1)
    if most == 1:
        return []
    beside = [entry.label for task in results.tasks for entry in task.entries if entry.num_runs_timed > 1]
    shared = f"Up to {most} workers made these runs side by side, and Fit s was read then"
    if not beside:
        return [f"{shared}; throughput and latency were read afterwards, one model at a time on a quiet machine."]
    names = listed(list(dict.fromkeys(beside)))
    return [f"{shared}. So were throughput and latency of {names}: on a quiet machine they are better."]
