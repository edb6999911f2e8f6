"""Results in the columns of other benchmarks: evaluation summaries of fev, and rows of GIFT-Eval's leaderboard.

Columns as in fev 0.10 (`Task.evaluation_summary`) and in GIFT-Eval's `all_results.csv`. What we do not know stays
empty, and a note says why: no score is made up, and none of another protocol is claimed. `fev.leaderboard` reads the
rows, and refuses any without a version that it can parse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsbench.errors import unknown
from tsbench.report.tables import Entry, Results, TaskResults, read_results

if TYPE_CHECKING:
    import pandas as pd

FEV_VERSION = "0.10+tsbench"
"""A local version (PEP 440): columns of that release, rows of ours."""

FEV = (
    "model_name", "dataset_path", "dataset_config", "horizon", "num_windows", "initial_cutoff", "window_step_size",
    "min_context_length", "max_context_length", "seasonality", "eval_metric", "extra_metrics", "quantile_levels",
    "id_column", "timestamp_column", "target", "generate_univariate_targets_from", "known_dynamic_columns",
    "past_dynamic_columns", "static_columns", "task_name", "test_error", "training_time_s", "inference_time_s",
    "num_forecasts", "dataset_fingerprint", "trained_on_this_dataset", "fev_version", "SQL", "MASE", "WAPE", "WQL",
)  # fmt: skip

GIFT_EVAL = (
    "dataset", "model", "eval_metrics/MSE[mean]", "eval_metrics/MSE[0.5]", "eval_metrics/MAE[0.5]",
    "eval_metrics/MASE[0.5]", "eval_metrics/MAPE[0.5]", "eval_metrics/sMAPE[0.5]", "eval_metrics/MSIS",
    "eval_metrics/RMSE[mean]", "eval_metrics/NRMSE[mean]", "eval_metrics/ND[0.5]",
    "eval_metrics/mean_weighted_sum_quantile_loss", "domain", "num_variates",
)  # fmt: skip

GIFT_EVAL_LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]

_NOTES = {
    "fev": (
        "test_error is MASE as defined here: over all windows, steps and channels, scaled by the training rows",
        "SQL, WAPE and WQL are empty: theirs are means over windows and columns, ours are of sums over all of them",
        f"fev_version is {FEV_VERSION}: fev's leaderboard reads these rows, but its tasks have other windows",
    ),
    "gift-eval": (
        "dataset is name/freq/horizon: the windows are not those of GIFT-Eval's short, medium and long terms",
        "the one forecast of a model stands for its mean and its median",
        "MAPE, MSIS, NRMSE and the domain are empty: they are not measured here",
        "the quantile loss is there where the quantiles are theirs: 0.1 to 0.9",
    ),
}


def export(folder: str | Path, format: str) -> pd.DataFrame:
    """The finished models of a folder as rows of another benchmark: `fev` or `gift-eval`. Means over seeds.

    `frame.attrs["notes"]` says what is empty and why. Raises ConfigError for an unknown format.
    """
    import pandas as pd

    if format not in _ROWS:
        raise unknown("format", format, _ROWS, where="--format")
    columns, row = _ROWS[format]
    results = read_results(folder)
    rows = [row(results, task, entry) for task in results.tasks for entry in task.ranked]
    frame = pd.DataFrame(rows, columns=list(columns))
    frame.attrs["notes"] = list(_NOTES[format])
    return frame


def _fev_row(results: Results, task: TaskResults, entry: Entry) -> dict[str, Any]:
    record = entry.finished[0]
    data, metrics = record.data, record.metrics
    assert metrics
    origins, rest = divmod(metrics.num_scored_windows, data.num_items)
    seconds = [found.cost.seconds.get("evaluate") for found in entry.finished if found.cost]
    mase = _mean(entry, "mase")
    return {
        "model_name": entry.label,
        "dataset_path": data.source,
        "dataset_config": task.task.dataset,
        "horizon": task.task.horizon,
        "num_windows": None if rest else origins,
        "initial_cutoff": data.split["validation"][-1] if "validation" in data.split else None,
        "window_step_size": 1,
        "min_context_length": 1,
        "max_context_length": task.task.context_length,
        "seasonality": data.seasonality,
        "eval_metric": "MASE",
        "extra_metrics": [],
        "quantile_levels": [],
        "id_column": "id",
        "timestamp_column": "timestamp",
        "target": data.channels if len(data.channels) > 1 else data.channels[0],
        "known_dynamic_columns": [],
        "past_dynamic_columns": [],
        "static_columns": [],
        "task_name": f"{task.task.dataset}_{task.task.context_length}_{task.task.horizon}",
        "test_error": mase,
        "training_time_s": entry.fit_seconds,
        "inference_time_s": seconds[0] if seconds else None,
        "num_forecasts": metrics.num_scored_windows * len(data.channels),
        "dataset_fingerprint": record.run.fingerprint,
        "trained_on_this_dataset": None if entry.is_imported else bool(entry.cost("num_parameters")),
        "fev_version": FEV_VERSION,
        "MASE": mase,
    }


def _gift_row(results: Results, task: TaskResults, entry: Entry) -> dict[str, Any]:
    data = entry.finished[0].data
    lengths = {other.task.context_length for other in results.tasks if _is_same_but_context(other, task)}
    smape = _mean(entry, "smape")
    return {
        "dataset": f"{task.task.dataset}/{data.freq}/{task.task.horizon}",
        "model": entry.label + (f" from {task.task.context_length}" if len(lengths) > 1 else ""),
        "eval_metrics/MSE[mean]": _mean(entry, "mse"),
        "eval_metrics/MSE[0.5]": _mean(entry, "mse"),
        "eval_metrics/MAE[0.5]": _mean(entry, "mae"),
        "eval_metrics/MASE[0.5]": _mean(entry, "mase"),
        "eval_metrics/sMAPE[0.5]": None if smape is None else smape / 100,
        "eval_metrics/RMSE[mean]": _mean(entry, "rmse"),
        "eval_metrics/ND[0.5]": _mean(entry, "wape"),
        "eval_metrics/mean_weighted_sum_quantile_loss": _weighted_quantile_loss(entry),
        "num_variates": len(data.channels),
    }


def _weighted_quantile_loss(entry: Entry) -> float | None:
    """Over the nine levels of GIFT-Eval; None where others were asked for."""
    found = [record.metrics.quantiles for record in entry.finished if record.metrics]
    if any(quantiles is None or quantiles.levels != GIFT_EVAL_LEVELS for quantiles in found):
        return None
    return entry.quantile_metric("wql")


def _is_same_but_context(one: TaskResults, other: TaskResults) -> bool:
    return (one.task.dataset, one.task.horizon) == (other.task.dataset, other.task.horizon)


def _mean(entry: Entry, name: str) -> float | None:
    values = entry.metric(name)
    return math.fsum(values) / len(values) if values else None


_ROWS: dict[str, tuple[tuple[str, ...], Callable[[Results, TaskResults, Entry], dict[str, Any]]]] = {
    "fev": (FEV, _fev_row),
    "gift-eval": (GIFT_EVAL, _gift_row),
}
