"""What to take under limits: held to a search over all records, and said in words."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import REALISTIC, Outcome, Write, with_energy, write_experiment

from tsbench.bench.records import Record, load_records
from tsbench.errors import ConfigError
from tsbench.report.recommendation import Recommendation, recommend
from tsbench.report.tables import read_results

LABELS = ("naive", "seasonal_naive", "linear", "mlp", "gru", "tcn")
COLUMNS = {"max_latency_ms": "latency_p95_ms", "max_memory_mib": "peak_memory_mib", "max_parameters": "num_parameters"}
COLUMNS |= {"max_train_seconds": "fit_seconds"}

errors = st.floats(0.1, 2.0)
seeds = st.lists(errors, min_size=3, max_size=3) | st.tuples(errors, errors, st.just("failed: x"))
costs = st.fixed_dictionaries(
    {column: st.integers(0, 6).map(float) for column in COLUMNS.values()}
    | {"predict_windows_per_second": st.integers(1, 6).map(float)}
)


@st.composite
def experiments(draw: st.DrawFn) -> tuple[dict[str, Sequence[Outcome]], dict[str, dict[str, float]]]:
    labels = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=6, unique=True))
    return {label: draw(seeds) for label in labels}, {label: draw(costs) for label in labels}


limits = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 7) for name in (*COLUMNS, "min_predict_windows_per_second")}
)


def with_costs(record: Record, by_label: dict[str, dict[str, float]]) -> Record:
    if record.cost is None:
        return record
    update = dict(by_label[record.run.model])
    update["seconds"] = {"train": update.pop("fit_seconds")}
    update["num_parameters"] = int(update["num_parameters"])
    return record.model_copy(update={"cost": record.cost.model_copy(update=update)})


def by_brute_force(folder: Path, asked: dict[str, float], within: float, tasks: int) -> tuple[str | None, str | None]:
    """The best label and the one with the lowest latency near it: every label, every record, in plain loops."""
    frame = load_records(folder)
    found = []
    for label in dict.fromkeys(frame["label"]):
        rows = frame[frame["label"] == label]
        finished = rows[rows["status"] == "ok"]
        keeps = all(
            finished[finished["dataset"] == dataset][column].median() <= asked.get(option, float("inf"))
            for dataset in set(rows["dataset"])
            for option, column in COLUMNS.items()
        )
        keeps &= finished["predict_windows_per_second"].min() >= asked.get("min_predict_windows_per_second", 0)
        means = finished.groupby("dataset")["mse_scaled"].mean()
        error = means.prod() ** (1 / tasks)
        if keeps:
            found.append((len(finished) < len(rows), error, finished["latency_p95_ms"].max(), label))
    if not found:
        return None, None
    best = min(found, key=lambda row: row[:2])
    near = [row for row in found if row[0] == best[0] and row[1] <= (1 + within) * best[1] * (1 + 1e-12)]
    return best[3], min(near, key=lambda row: (row[2], row[1]))[3]


@settings(max_examples=40, deadline=None)
@given(experiments(), limits, st.sampled_from([0.0, 0.02, 0.5, 5.0]), st.sampled_from([1, 2]))
def test_the_answer_is_that_of_a_search_over_all_records(
    made_up: tuple[dict[str, Sequence[Outcome]], dict[str, dict[str, float]]],
    asked: dict[str, float],
    within: float,
    tasks: int,
) -> None:
    outcomes, by_label = made_up
    with tempfile.TemporaryDirectory() as name:
        folder = write_experiment(
            Path(name), outcomes, ["streets", "roads"][:tasks], lambda record: with_costs(record, by_label)
        )

        *_, found = recommend(folder, **asked, within=within)

        expected = by_brute_force(folder, asked, within, tasks)
    assert (found.best and found.best.label, found.cheapest and found.cheapest.label) == expected
    assert (found.nearest is None) == (found.best is not None)


def only(folder: Path, **asked: object) -> Recommendation:
    (found,) = recommend(folder, **asked)
    return found


def test_without_limits_it_says_what_the_report_says(write: Write) -> None:
    folder = write(REALISTIC)
    task = read_results(folder).tasks[0]

    found = only(folder)

    assert found.best
    assert task.best
    assert (found.best.label, found.best.mse_scaled) == (task.best.label, task.best.mse)
    assert found.level == tuple(entry.label for entry in task.peers)
    assert found.best.gain_over_seasonal_naive == task.skill(task.best)
    assert found.best.gain_over_linear == pytest.approx(1 - 0.36877 / 0.39127, abs=1e-4)


def test_the_words_name_the_limits_the_choice_and_what_it_gains(write: Write) -> None:
    found = only(write(REALISTIC), max_latency_ms=0.06, max_parameters=9000, within=0.02)

    assert found.headline == "gru forecasts streets best, but tcn cannot be told from it."
    assert found.sentences == (
        "6 of 12 models keep to p95 latency at most 0.06 ms and size at most 9000 parameters.",
        "Take gru: test MSE (scaled) 0.3688, 28.1% below seasonal_naive, 5.8% below linear; p95 latency 0.0566 ms, "
        "peak memory 312 MiB, size 8,400 parameters, training 8.40 s, throughput 45.9k windows/s.",
        "tcn cannot be told from gru within the noise of seeds and test windows.",
        "Nothing within 2.0% of its error has a better p95 latency.",
    )


def test_a_cheaper_model_near_the_best_is_named(write: Write) -> None:
    folder = write({"gru": [0.300] * 2, "linear": [0.303] * 2, "seasonal_naive": [0.5] * 2})

    found = only(folder, within=0.02, cheapest="latency")

    assert found.cheapest
    assert found.cheapest.label == "linear"
    assert found.sentences[-1].startswith("Cheapest by p95 latency within 2.0% of its error is linear: test MSE")
    assert only(folder, within=0.005, cheapest="latency").sentences[-1].startswith("Nothing within 0.5%")


def test_what_comes_nearest_is_said_where_nothing_fits(write: Write) -> None:
    found = only(write(REALISTIC), max_memory_mib=100, max_parameters=9000)

    assert found.best is None
    assert found.nearest
    assert found.headline == (
        "Nothing fits on streets: no model keeps to peak memory at most 100 MiB and size at most 9000 parameters."
    )
    assert found.sentences[0].endswith(" comes nearest: peak memory 311 MiB instead of 100.")


def test_no_network_is_worth_it_where_a_simple_model_is_as_good(write: Write) -> None:
    simple = {"gru": [0.40, 0.41], "linear": [0.40, 0.41], "seasonal_naive": [0.5, 0.5]}

    one, two, over = recommend(write(simple, datasets=["streets", "roads"]))

    assert one.headline.startswith("No network is worth it on streets: ")
    assert two.headline.startswith("No network is worth it on roads: ")
    assert "2 tasks are too few to test" in " ".join(over.sentences)
    (alone,) = recommend(write({"gru": [0.6, 0.61], "seasonal_naive": [0.5, 0.5]}), datasets=["streets"])
    assert alone.headline == "No network is worth it on streets: seasonal_naive has the lowest error."


def test_no_network_is_worth_it_over_tasks_where_a_simple_model_leads(write: Write) -> None:
    *_, over = recommend(write({"gru": [0.6, 0.61], "linear": [0.4, 0.41]}, datasets=["streets", "roads"]))

    assert over.headline == "No network is worth it over 2 tasks: linear has the lowest error."
    assert over.title == "over all tasks"


def test_over_many_tasks_what_cannot_be_told_apart_is_tested_over_tasks(write: Write) -> None:
    near, far = {"gru": [0.40] * 2, "linear": [0.9] * 2}, [f"d{number}" for number in range(8)]

    *_, over = recommend(write(near, datasets=far))

    assert over.level == ()
    assert over.headline == "gru forecasts best over 8 tasks."


def test_a_model_with_failed_runs_is_taken_only_where_no_other_keeps_the_limits(write: Write) -> None:
    folder = write({"gru": [0.3, "failed: x"], "seasonal_naive": [0.5, 0.5]})

    assert only(folder).best.label == "seasonal_naive"  # type: ignore[union-attr]
    fast = only(write({"gru": [0.3, "failed: x"], "tcn": ["failed: x"]}))
    assert fast.headline == "gru is the only model with a result on streets."
    assert "It has failed runs." in fast.sentences[0]


def test_one_seed_is_too_few_to_say_what_is_as_good(write: Write) -> None:
    found = only(write({"gru": [0.3], "tcn": [0.31]}, losses=False))

    assert found.level is None
    assert "Fewer than two seeds finished" in " ".join(found.sentences)


def test_without_any_result_nothing_can_be_taken(write: Write) -> None:
    found = only(write({"gru": ["failed: x"]}))

    assert (found.best, found.nearest, found.headline) == (None, None, "No model has a result on streets.")


def test_different_machines_are_said(write: Write) -> None:
    def elsewhere(record: Record) -> Record:
        machine = record.machine.model_copy(update={"device_name": f"CPU {record.run.seed}"})
        return record.model_copy(update={"machine": machine})

    found = only(write({"gru": [0.3, 0.31]}, edit=elsewhere), max_parameters=10**6)

    assert found.sentences[-1].startswith("The runs were made on different machines")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cheapest": "memry"}, "--cheapest: unknown cost 'memry'; did you mean 'memory'?"),
        ({"datasets": ["street"]}, "--dataset street: not in .*did you mean 'streets'?"),
        ({"horizons": [6]}, "--horizon 6: not in .*allowed: 24"),
        ({"max_latency_ms": -1.0}, "limit of p95 latency: -1: write a number from 0"),
        ({"max_latency_ms": float("nan")}, "limit of p95 latency: nan"),
        ({"within": -0.1}, "--within -0.1"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(write: Write, asked: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recommend(write({"gru": [0.3]}), **asked)


def test_energy_is_a_limit_that_only_holds_where_it_was_read(write: Write) -> None:
    folder = write({"gru": [0.3, 0.31], "linear": [0.4, 0.41], "rnn": [0.2, 0.21], "naive": [1.2]}, edit=with_energy)

    found = only(folder, max_joules=0.2)

    assert found.best
    assert (found.best.label, found.best.costs["energy"]) == ("naive", 0.1)
    assert "1 of 4 models keeps to energy at most 0.2 J per 1,000 windows; no network does." in found.sentences
    assert "What rnn would cost is not known" in " ".join(found.sentences)
    assert "energy 0.310 J per 1,000 windows" in " ".join(only(folder, max_joules=0.35).sentences)


def test_a_choice_is_plain_values_for_a_script(write: Write) -> None:
    frame = pd.DataFrame([only(write(REALISTIC)).best])

    assert frame.loc[0, "label"] == "gru"
