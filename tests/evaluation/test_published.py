"""Figures that others published for seasonal naive and Naive2, reproduced on the real files by the project's cards.

M4: the competition's evaluation. fev-bench's ETT_1H:
`benchmarks/fev_bench/results/seasonal_naive.csv` of autogluon/fev.
Chronos' ETTh and exchange_rate: `scripts/evaluation/results/seasonal-naive-zero-shot.csv` of chronos-forecasting.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.bench.experiment import load_experiment, make_plan
from tsbench.bench.records import Metrics, Record
from tsbench.bench.runner import Prepared, execute
from tsbench.data.datasets import load_dataset


def records(experiment: str, shared_data: Path, models: set[str]) -> dict[tuple[str, str], Record]:
    """Of these models of an experiment that comes with the project, by dataset and model."""
    name, content = load_experiment(experiment)
    plan, panels = make_plan(name, content, lambda dataset: load_dataset(dataset, data_dirs=[shared_data]))
    prepared = {dataset: Prepared.on(panel, torch.device("cpu")) for dataset, panel in panels.items()}
    runs = [planned.run for planned in plan.runs if planned.run.model in models]
    return {(run.dataset, run.model): execute(run, prepared[run.dataset])[0] for run in runs}


def metrics_of(record: Record) -> Metrics:
    assert record.metrics, record.detail
    return record.metrics


def test_m4_hourly_has_the_competitions_figures(shared_data: Path):
    found = records("m4_hourly", shared_data, {"seasonal_naive", "naive2"})

    seasonal = metrics_of(found["m4_hourly", "seasonal_naive"])
    naive2 = metrics_of(found["m4_hourly", "naive2"])
    assert [seasonal.smape, seasonal.mase, seasonal.owa] == pytest.approx([13.912, 1.193, 0.6275], abs=1e-3)
    assert [naive2.smape, naive2.mase, naive2.owa] == pytest.approx([18.383, 2.395, 1.000], abs=1e-3)
    assert seasonal.num_scored_windows == 414


def test_m4_hourly_is_tested_on_the_test_file_and_on_nothing_else(shared_data: Path):
    panel = load_dataset("m4_hourly", data_dirs=[shared_data])
    official = pd.read_csv(next(shared_data.rglob("Hourly-test.csv*"))).set_index("V1")

    assert panel.items == tuple(official.index)
    assert panel.test.values.reshape(414, 48) == pytest.approx(official.to_numpy(), rel=1e-6)
    lengths = np.diff(panel.offsets)
    assert (lengths.min(), lengths.max()) == (748, 1008)


@pytest.mark.parametrize(
    ("dataset", "mase"), [("fev_ett_1h", 1.3227), ("chronos_etth", 0.9316), ("chronos_exchange_rate", 1.7402)]
)
def test_seasonal_naive_has_the_mase_that_fev_and_chronos_published(dataset: str, mase: float, shared_data: Path):
    (record,) = [
        record
        for (name, _), record in records("fev", shared_data, {"seasonal_naive"}).items()
        if name == dataset
    ]  # fmt: skip

    assert round(metrics_of(record).mase or 0, 4) == mase
