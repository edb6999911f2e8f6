"""Over tasks: ranks, wins, relative errors, their intervals, and when their order may be tested."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from made_up import Write

from tsbench.report.across import Ranking, across_tasks, ranking
from tsbench.report.tables import read_results

TASKS = [f"d{number}" for number in range(8)]
THREE = {"gru": [0.4, 0.41], "linear": [0.45, 0.45], "seasonal_naive": [0.5, 0.5]}


def test_ranks_are_averaged_and_errors_taken_relative_to_seasonal_naive(write: Write) -> None:
    folder = write({"seasonal_naive": [0.5], "gru": [0.4]}, datasets=["a", "b"])
    row = across_tasks(read_results(folder)).iloc[0]
    assert (row["label"], row["mean_rank"], row["wins"], row["num_tasks"]) == ("gru", 1.0, 2, 2)
    assert row["relative_error"] == pytest.approx(math.exp(fmean([math.log(0.8)] * 2)))
    assert row["skill"] == pytest.approx(0.2)


def test_the_win_rate_counts_the_others_that_are_behind_and_ties_half(write: Write) -> None:
    folder = write({"gru": [0.4], "naive": [0.5], "seasonal_naive": [0.5], "tcn": ["failed: x"]}, datasets=["a", "b"])
    frame = across_tasks(read_results(folder)).set_index("label")
    assert frame["win_rate"].to_dict() == pytest.approx(
        {"gru": 1.0, "naive": 1.5 / 3, "seasonal_naive": 1.5 / 3, "tcn": 0.0}
    )


def test_there_are_intervals_from_five_tasks_on(write: Write) -> None:
    def worse_on_the_first(record):  # type: ignore[no-untyped-def]
        if record.run.dataset != "d0" or record.run.model != "gru":
            return record
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"mse_scaled": 0.6})})

    few = across_tasks(read_results(write(THREE, datasets=TASKS[:4], edit=worse_on_the_first)))
    row = across_tasks(read_results(write(THREE, datasets=TASKS, edit=worse_on_the_first))).iloc[0]

    assert few["mean_rank_lower"].isna().all()
    assert row["label"] == "gru"
    for name in ("mean_rank", "win_rate", "relative_error"):
        assert row[f"{name}_lower"] < row[name] < row[f"{name}_upper"]


def test_intervals_over_tasks_are_percentiles_of_means_over_drawn_tasks(write: Write) -> None:
    def varied(record):  # type: ignore[no-untyped-def]
        error = 0.3 + 0.02 * (TASKS.index(record.run.dataset) ** 2 % 7) if record.run.model == "gru" else 0.5
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"mse_scaled": error})})

    row = across_tasks(read_results(write(THREE, datasets=TASKS, edit=varied))).set_index("label").loc["gru"]

    logs = [math.log((0.3 + 0.02 * (number**2 % 7)) / 0.5) for number in range(8)]
    rng = np.random.default_rng(0)
    draws = [math.exp(fmean(logs[i] for i in rng.integers(8, size=8))) for _ in range(20_000)]
    assert row["relative_error"] == pytest.approx(math.exp(fmean(logs)))
    assert row["relative_error_lower"] == pytest.approx(np.quantile(draws, 0.025), rel=0.01)
    assert row["relative_error_upper"] == pytest.approx(np.quantile(draws, 0.975), rel=0.01)


# Tests of the order


def ranked(write: Write, outcomes: dict, num_tasks: int) -> Ranking:
    return ranking(read_results(write(outcomes, datasets=TASKS[:num_tasks])))


def test_too_few_tasks_are_not_tested_and_a_sentence_says_how_many_it_takes(write: Write) -> None:
    found = ranked(write, THREE, 3)
    assert not found.enough
    assert found.sentence == (
        "3 tasks are too few to test the order of 3 models over tasks: below 7 not even the clearest order would be "
        "significant."
    )


def test_the_same_order_on_every_task_is_found(write: Write) -> None:
    found = ranked(write, THREE, 8)
    assert found.labels == ("gru", "linear", "seasonal_naive")
    assert found.mean_ranks == (1.0, 2.0, 3.0)
    assert found.friedman_p == 0.0
    assert found.level == ()
    assert found.sentence.startswith("gru ranks before every other model beyond chance (Wilcoxon's signed-rank test")


def test_models_that_take_turns_are_joined_by_a_bar(write: Write) -> None:
    def turns(record):  # type: ignore[no-untyped-def]
        place = TASKS.index(record.run.dataset)
        error = {"gru": 0.4 + 0.01 * (place % 2), "linear": 0.405, "seasonal_naive": 0.5 + 0.01 * place}[
            record.run.model
        ]
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"mse_scaled": error})})

    found = ranking(read_results(write(THREE, datasets=TASKS, edit=turns)))
    assert found.level == (("gru", "linear"),)
    assert found.sentence.startswith("Over tasks linear cannot be told from gru")


def test_a_model_without_a_result_on_every_task_is_left_out(write: Write) -> None:
    found = ranked(write, {**THREE, "tcn": ["failed: x", 0.3]}, 8)
    assert found.left_out == ("tcn",)
    assert "tcn" not in found.labels
