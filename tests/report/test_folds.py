"""Folds of a cross-validation: as tables of their own, and joined into one result with one verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev, variance

import numpy as np
import pandas as pd
import pytest
from made_up import Write
from scipy.stats import t

from tsbench import report
from tsbench.bench import runner
from tsbench.bench.experiment import make_plan, parse_experiment
from tsbench.bench.merging import merge
from tsbench.bench.observer import Observer
from tsbench.bench.records import Plan, Record, RecordStore, load_records
from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByOrigins
from tsbench.data.synthetic import synthetic_panel
from tsbench.evaluation.throughput import measure_inference
from tsbench.report.build import build
from tsbench.report.folds import joined, with_joined
from tsbench.report.recommendation import recommend
from tsbench.report.tables import TaskResults, leaderboard, read_results
from tsbench.report.verdict import overall_verdict
from tsbench.training.devices import resolve_device

FOLDS = ("shops_fold1", "shops_fold2", "shops_fold3")
SPLIT = SplitByOrigins(horizon=12, windows=3, refit=True)
CONTEXT_LENGTH, HORIZON, SEEDS = 48, 6, (0, 1)
"""Half of the split's horizon: each fold has seven windows."""


@pytest.fixture(scope="module")
def panel() -> Panel:
    return replace(synthetic_panel(num_rows=400, num_channels=2, seed=3), name="shops", split=SPLIT)


@pytest.fixture(scope="module")
def folder(panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a real run leaves: three folds, four models, two seeds."""
    content = {
        "datasets": "synthetic",
        "context_lengths": CONTEXT_LENGTH,
        "horizons": HORIZON,
        "seeds": list(SEEDS),
        "models": {"mlp": {}},
        "recipe": {"max_steps": 20, "validate_every": 10, "batch_size": 16},
    }
    plan, panels = make_plan("folds", parse_experiment(content, "folds.toml"), lambda name: panel)
    place = tmp_path_factory.mktemp("folds")
    plan.save(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "measure_inference", partial(measure_inference, seconds=0))
        runner.run_plan(plan, panels, place, resolve_device("cpu"), plan.runs, Observer())
    build(place)
    return place


@pytest.fixture(scope="module")
def task(folder: Path) -> TaskResults:
    (task,) = joined(read_results(folder)).tasks
    return task


def losses_by_fold(folder: Path, label: str, seed: int) -> list[list[float]]:
    """Read from the files, one by one."""
    planned = {(p.label, p.run.dataset, p.run.seed): p.run.key() for p in Plan.load(folder).runs}
    store = RecordStore(folder)
    return [store.arrays(planned[label, fold, seed])["squared_loss"].tolist() for fold in FOLDS]


def test_the_error_of_naive_is_the_mean_over_folds_of_what_its_forecasts_miss(panel: Panel, task: TaskResults) -> None:
    errors = []
    for end in (376, 388, 400):
        train = panel.values[: end - 24].astype(np.float64)
        mean, std = train.mean(0), train.std(0)
        scaled = (panel.values - mean) / std
        squared = [
            (scaled[origin + step, channel] - scaled[origin - 1, channel]) ** 2
            for origin in range(end - 12, end - HORIZON + 1)
            for step in range(HORIZON)
            for channel in range(2)
        ]
        errors.append(fmean(squared))

    naive = task.of_model("naive")
    assert naive
    assert naive.errors == pytest.approx([fmean(errors)] * len(SEEDS), rel=1e-5)
    assert naive.fold_spread == pytest.approx(stdev(errors), rel=1e-5)
    assert naive.num_scored_windows == 3 * 7


def test_a_seed_is_one_observation_and_so_is_each_window_of_each_fold(folder: Path, task: TaskResults) -> None:
    """The paired comparison worked out by loops: noise of both seeds, and of 21 windows, of which six share a row."""
    one, other = task.of_model("mlp"), task.of_model("linear")
    assert one
    assert other
    samples = [[losses_by_fold(folder, entry.label, seed) for seed in SEEDS] for entry in (one, other)]
    errors = [[fmean(map(fmean, folds)) for folds in of_seed] for of_seed in samples]
    difference = [
        fmean(first) - fmean(second)
        for fold in range(3)
        for first, second in zip(
            zip(*(seed[fold] for seed in samples[0]), strict=True),
            zip(*(seed[fold] for seed in samples[1]), strict=True),
            strict=True,
        )
    ]
    number, overlap, waves = 21, 6, 1  # half of 21 / 6 is less than two
    wave = [math.sqrt(2 / number) * math.cos(math.pi * (m + 0.5) / number) for m in range(number)]
    damped = math.sin(math.pi * overlap / (2 * number)) / (math.pi * overlap / (2 * number))
    by_windows = (sum(w * d for w, d in zip(wave, difference, strict=True)) / damped) ** 2 / waves / number
    by_seeds = [variance(of_model) / len(SEEDS) for of_model in errors]
    total = by_windows + sum(by_seeds)
    freedom = total**2 / (by_windows**2 / waves + sum(v**2 / (len(SEEDS) - 1) for v in by_seeds))
    distance = fmean(errors[0]) - fmean(errors[1])

    places = task.place(one), task.place(other)
    assert one.errors == pytest.approx(errors[0], rel=1e-5)
    assert task.comparison.means[list(places)] == pytest.approx([fmean(e) for e in errors], rel=1e-5)
    assert task.comparison.raw_p[places] == pytest.approx(2 * t.sf(abs(distance) / math.sqrt(total), freedom), rel=1e-3)


def test_the_folds_keep_their_tables_and_the_joined_one_stands_before_them(folder: Path) -> None:
    frame = report.leaderboard(folder)
    by_itself = leaderboard(read_results(folder))

    assert frame["dataset"].unique().tolist() == ["shops", *FOLDS]
    folds = frame[frame["num_folds"] == 0].drop(columns=["num_folds", "mse_scaled_std_folds"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(folds, by_itself)
    assert pd.read_csv(folder / "leaderboard.csv")["mse_scaled"].tolist() == frame["mse_scaled"].tolist()
    whole = frame[frame["num_folds"] == 3].set_index("label")
    means = folds.groupby("label")[["mse_scaled", "mae_scaled", "mase"]].mean()
    for name in means:
        assert whole[name].to_dict() == pytest.approx(means[name].to_dict())
    assert whole["mse_scaled_std_folds"].to_dict() == pytest.approx(
        folds.groupby("label")["mse_scaled"].std().to_dict()
    )
    assert whole["rank"].tolist() == [1, 2, 3, 4]
    assert whole["seeds_ok"].tolist() == whole["seeds_planned"].tolist() == [2] * 4


def test_all_formats_speak_of_the_dataset_as_one(folder: Path) -> None:
    page, text, tex = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md", "leaderboard.tex")
    )
    verdict = page.split('<section id="verdict"')[1].split("</section>")[0]

    assert verdict.count('class="headline"') == 1
    assert "Every error is a mean over 3 folds" in verdict
    assert "21 scored windows" in verdict
    assert text.index("### shops, 48 → 6 steps") < text.index("### shops_fold1, 48 → 6 steps")
    assert "the means over shops_fold1, shops_fold2 and shops_fold3" in text
    assert "shops, 48 $\\to$ 6 steps: MSE and MAE on scaled values, mean over 2 seeds and 3 folds." in tex
    assert set(report.comparisons(folder)["dataset"]) == {"shops", *FOLDS}


def test_folds_are_not_taken_for_tasks_of_their_own(folder: Path) -> None:
    assert overall_verdict(joined(read_results(folder))) is None
    assert report.ranking(folder)["num_tasks"].tolist() == [1] * 4
    assert [found.dataset for found in recommend(folder)] == ["shops"]


def test_load_records_says_which_fold_of_what_a_run_is(folder: Path, write: Write) -> None:
    frame = load_records(folder)

    assert frame.groupby(["fold_of", "fold"])["dataset"].unique().map(list).to_dict() == {
        ("shops", number): [f"shops_fold{number}"] for number in (1, 2, 3)
    }
    others = load_records(write({"gru": [0.4]}))
    assert (others["fold_of"].tolist(), others["fold"].tolist()) == (["streets"], [0])


def test_folds_stay_folds_when_folders_are_put_together(folder: Path, tmp_path: Path) -> None:
    merge([folder], tmp_path / "merged")

    assert [task.task.dataset for task in joined(read_results(tmp_path / "merged")).tasks] == ["shops"]


# Made-up records


def as_folds(folder: Path, names: list[str]) -> Path:
    plan = Plan.load(folder)
    plan.model_copy(update={"folds": {"shops": names}}).save(folder)
    return folder


def test_a_seed_that_lacks_a_fold_does_not_count_and_a_failed_one_ranks_below(write: Write) -> None:
    def one_fails(record: Record) -> Record:
        if record.run.dataset != "b" or record.run.model != "gru" or record.run.seed != 1:
            return record
        return record.model_copy(update={"status": "diverged", "reason": "why", "metrics": None})

    folder = as_folds(write({"gru": [0.2, 0.1], "mlp": [0.5, 0.6]}, datasets=["a", "b"], edit=one_fails), ["a", "b"])
    (task,) = joined(read_results(folder)).tasks

    assert [entry.label for entry in task.entries] == ["mlp", "gru"]
    assert task.entries[1].errors == pytest.approx([fmean([0.2, 0.2 * 1.1])])
    assert task.entries[1].status == "3 of 4 ok, 1 diverged"


def test_folds_that_share_rows_overlap_as_their_windows_do(write: Write) -> None:
    starts = {"a": 1, "b": 2, "c": 8}

    def a_day_later(record: Record) -> Record:
        day = starts[record.run.dataset]
        split = record.data.split | {"test": ["48", f"2024-01-{day:02d} 00:00:00", f"2024-01-{day + 1:02d} 23:00:00"]}
        return record.model_copy(update={"data": record.data.model_copy(update={"split": split})})

    folder = as_folds(
        write({"gru": [0.2, 0.1], "mlp": [0.5, 0.6]}, datasets=list("abc"), edit=a_day_later), list("abc")
    )
    (task,) = joined(read_results(folder)).tasks

    assert len(task.comparison.samples[0].losses_M) == 3 * 777
    assert task.comparison.overlap == 777 + 24  # all windows of the next fold, and a horizon of its own


def test_a_model_that_was_not_planned_in_every_fold_is_left_out(write: Write) -> None:
    folder = as_folds(write({"gru": [0.2], "mlp": [0.5]}, datasets=["a", "b"]), ["a", "b"])
    plan = Plan.load(folder)
    runs = [planned for planned in plan.runs if (planned.label, planned.run.dataset) != ("gru", "b")]
    plan.model_copy(update={"runs": runs}).save(folder)

    whole, *folds = with_joined(read_results(folder)).tasks

    assert [entry.label for entry in whole.entries] == ["mlp"]
    assert sum(len(fold.entries) for fold in folds) == 3
