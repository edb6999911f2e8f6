"""What the report says in words, case by case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from made_up import REALISTIC, Write

from tsbench.api import run_experiment
from tsbench.bench.records import Plan, PlannedRun, Record
from tsbench.report.tables import read_results
from tsbench.report.verdict import Verdict, overall_verdict, task_verdict


def verdict_of(folder: object) -> Verdict:
    return task_verdict(read_results(str(folder)).tasks[0])


def test_a_network_that_is_ahead_of_all_is_named_with_its_gains(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "linear": [0.62] * 3, "seasonal_naive": [0.5] * 3}))
    assert verdict.headline == "gru forecasts streets best."
    assert "38.0% below seasonal_naive and 50.0% below linear" in verdict.sentences[0]
    assert verdict.sentences[1] == (
        "No other model is within the noise of seeds and test windows of it (a paired test over windows and seeds, "
        "after Holm's correction for 3 pairs, p < 0.05 against each)."
    )
    assert verdict.sentences[2] == "The model confidence set, which holds the best with 90%: gru."


def test_models_within_the_noise_of_the_best_are_named(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.34, 0.32], "tcn": [0.31, 0.35, 0.33], "naive": [0.9] * 3}))
    assert verdict.headline == "gru forecasts streets best, but tcn cannot be told from it."
    assert verdict.sentences[1] == (
        "The noise of seeds and test windows alone could explain its distance to tcn (+3.1%), by a paired test over "
        "windows and seeds, after Holm's correction for 3 pairs, p ≥ 0.05; the distance to naive is larger than that."
    )


def test_overlap_few_seeds_and_many_pairs_are_stated_beside_the_claim(write: Write) -> None:
    caveat = verdict_of(write({"gru": [0.30, 0.31, 0.32], "tcn": [0.5] * 3})).sentences[3]
    assert "777 of them, whose targets overlap by up to 23 steps, tell as much as 17 independent ones" in caveat
    assert "3 seeds say little of how trainings vary" in caveat
    assert "all pairs are corrected for, because the best is known only after looking at all" in caveat


def test_records_without_losses_by_window_are_judged_by_seeds_and_that_is_said(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "linear": [0.62] * 3, "naive": [0.9] * 3}, losses=False))
    assert "No other model is within seed noise of it (Welch's t-test over seeds, after Holm's" in verdict.sentences[1]
    assert "The test speaks of seeds only, because these records keep no loss of each window" in verdict.sentences[2]
    assert not any("confidence set" in sentence for sentence in verdict.sentences)


def test_no_network_is_worth_it_where_a_simple_model_has_the_lowest_error(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.6, 0.61], "seasonal_naive": [0.5, 0.5]}))
    assert verdict.headline == "No network is worth it on streets: seasonal_naive has the lowest error."


def test_no_network_is_worth_it_where_a_simple_model_cannot_be_told_from_the_best(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.40, 0.35], "linear": [0.36, 0.37, 0.36]}))
    assert verdict.headline == "No network is worth it on streets: linear does as well as gru."


def test_networks_are_not_judged_where_none_took_part(write: Write) -> None:
    verdict = verdict_of(write({"profile": [0.3] * 2, "naive": [0.5] * 2}))
    assert verdict.headline == "Simple is best on streets: profile has the lowest error."


def test_naive_that_is_as_good_as_the_best_is_said_to_be_unbeaten(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.300, 0.301, 0.302], "naive": [0.303] * 3}))
    assert verdict.headline == "No model beats naive on streets: it does as well as gru, by all that can be told."


def test_a_simple_model_far_behind_is_not_said_to_do_as_well_because_there_is_too_little_to_tell_by(
    write: Write,
) -> None:
    verdict = verdict_of(write({"gru": [0.3, 0.5], "naive": [0.6, 0.6]}))
    assert verdict.headline == "gru forecasts streets best, but naive cannot be told from it."


def test_no_model_beats_naive_on_a_random_walk(tmp_path: Path) -> None:
    steps = np.random.default_rng(5).normal(size=(1200, 2))
    stamps = pd.date_range("2024-01-01", periods=len(steps), freq="h")
    path = tmp_path / "walk.csv"
    pd.DataFrame(steps.cumsum(0), columns=["a", "b"]).assign(time=stamps).to_csv(path, index=False)

    run_experiment(
        str(path),
        horizons=[6],
        context_lengths=[24],
        models=["naive", "seasonal_naive", "linear", "mlp"],
        seeds=[0, 1, 2],
        settings={"max_steps": 60, "batch_size": 16},
        output=tmp_path / "out",
        device="cpu",
    )

    verdict = verdict_of(tmp_path / "out")
    assert verdict.headline.startswith("No model beats naive on ")


def test_one_configuration_under_two_names_and_other_seeds_is_not_told_apart(tmp_path: Path) -> None:
    halves = []
    for name, seeds in (("first", [0, 1, 2]), ("second", [3, 4, 5])):
        run_experiment(
            "auckland_pedestrians_tiny",
            horizons=[12],
            context_lengths=[48],
            models=["linear"],
            seeds=seeds,
            settings={"max_steps": 40, "batch_size": 16},
            output=tmp_path,
            device="cpu",
        )
        halves += [PlannedRun(label=name, run=planned.run) for planned in Plan.load(tmp_path).runs]
    Plan(title="", experiment="", command="", runs=halves).save(tmp_path)

    (task,) = read_results(tmp_path).tasks
    assert [entry.label for entry in task.ranked if task.same_as_best(entry)] == [e.label for e in task.ranked]
    assert len(task.ranked) == 2


def test_one_seed_says_nothing_about_certainty(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.3], "tcn": [0.4]}, losses=False))
    assert verdict.headline == "gru forecasts streets best."
    assert any("nothing can be said about certainty" in sentence for sentence in verdict.sentences)
    assert next(fact.answer for fact in verdict.facts if fact.question == "How sure") == "unknown"


def test_one_seed_of_an_untrained_model_is_exact(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "naive": [0.9]}))
    assert "No other model is within the noise of seeds and test windows" in verdict.sentences[1]


def test_one_seed_of_a_trained_model_leaves_it_open_whether_it_is_worse(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "tcn": [0.6], "naive": [0.9]}))
    assert "naive is not within the noise of seeds and test windows of it" in verdict.sentences[1]
    assert "Of tcn nothing certain can be said: fewer than two seeds finished." in verdict.sentences


def test_two_seeds_are_said_to_show_hardly_anything(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31], "tcn": [0.35, 0.55]}))
    assert "its distance to tcn (+47.5%)" in verdict.sentences[1]
    assert any("2 seeds say hardly anything of how trainings vary" in sentence for sentence in verdict.sentences)


def test_the_certainty_is_limited_to_the_test_period_in_words(write: Write) -> None:
    verdict = verdict_of(write(REALISTIC))
    assert any("A period unlike the test part may have another order." in sentence for sentence in verdict.sentences)


def test_the_cheapest_of_the_level_set_is_named_with_its_price(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.40, 0.35], "linear": [0.36, 0.37, 0.36]}))
    assert verdict.sentences[-1].startswith(
        "linear is the cheapest of these: it forecasts 4.7 times and trains 4.7 times as fast as gru, with "
    )


def test_many_that_cannot_be_told_from_the_best_are_named_in_part(write: Write) -> None:
    close = {f"gru hidden_size={size}": [0.3 + size / 10_000, 0.31] for size in range(12)}
    sentences = verdict_of(write(close)).sentences
    assert "hidden_size=7 (+" in sentences[1]
    assert "hidden_size=8 (+" not in sentences[1]
    assert " and 4 more, by a paired test" in sentences[1]


def test_costs_of_different_machines_are_not_compared(write: Write) -> None:
    def by_seed(record: Record) -> Record:
        machine = record.machine.model_copy(update={"device_name": f"CPU {record.run.seed}"})
        return record.model_copy(update={"machine": machine})

    verdict = verdict_of(write({"gru": [0.30, 0.40], "linear": [0.36, 0.37]}, edit=by_seed))
    assert any("costs cannot be compared" in sentence for sentence in verdict.sentences)


def test_a_failed_model_that_would_lead_is_not_hidden(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.1, 0.1, "failed: x"], "tcn": [0.3, 0.31, 0.3]}))
    assert verdict.headline.startswith("tcn forecasts streets best")
    assert "gru would lead by the seeds that finished." in verdict.sentences


def test_where_all_failed_nobody_wins(write: Write) -> None:
    verdict = verdict_of(write({"gru": ["failed: x"], "tcn": ["diverged: y", None]}))
    assert verdict.headline == "No model has a result on streets."
    assert verdict.trouble == "Of 3 planned runs 2 failed and 1 has no record yet."


def test_where_nothing_finished_the_first_words_say_why_and_what_to_do(write: Write) -> None:
    failing = {"gru": ["diverged: loss left the numbers"] * 2, "tcn": ["failed: head_size 7", None]}
    for verdict in (
        verdict_of(write(failing)),
        overall_verdict(read_results(write(failing, datasets=["a", "b"]))),
    ):
        assert verdict is not None
        assert verdict.sentences[0].startswith("Why, the most frequent first: loss left the numbers (")
        assert "--force --only status=failed" in verdict.sentences[1]
        assert verdict.sentences[2].endswith("makes the runs that have no record yet.")


def test_networks_that_all_failed_are_not_called_unneeded(write: Write) -> None:
    verdict = verdict_of(write({"seasonal_naive": [0.5], "naive": [0.9], "gru": ["failed: x"]}))

    assert verdict.headline == "seasonal_naive has the lowest error on streets; no network has a result."


def test_no_network_is_worth_it_over_tasks_that_a_simple_model_leads(write: Write) -> None:
    verdict = overall_verdict(
        read_results(write({"gru": [0.6, 0.61], "seasonal_naive": [0.5, 0.5]}, datasets=["a", "b"]))
    )

    assert verdict is not None
    assert verdict.headline == "No network is worth it over 2 tasks: seasonal_naive ranks best."
    assert "of seasonal naive's" not in verdict.sentences[0]
    assert [fact.answer for fact in verdict.facts if fact.question == "Gain over seasonal naive"] == ["none"]


def test_several_tasks_are_summed_up(write: Write) -> None:
    folder = write({"gru": [0.4, 0.41], "seasonal_naive": [0.5, 0.5]}, datasets=["a", "b"])
    verdict = overall_verdict(read_results(folder))
    assert verdict is not None
    assert verdict.headline == "gru ranks best over 2 tasks."
    assert "leads on 2 of 2 tasks, and its error is 0.81 of seasonal naive's" in verdict.sentences[0]
    assert "2 tasks are too few to test the order of 2 models over tasks: below 6 not even" in verdict.sentences[2]
    assert verdict.sentences[3].endswith("with so few there are no intervals over tasks.")
    answers = {fact.question: (fact.answer, fact.detail) for fact in verdict.facts}
    assert answers["Best mean rank"] == ("gru", "1.0 of 2, leads on 2")
    assert answers["Gain over seasonal naive"][0] == "19.0%"
    assert answers["How sure"] == ("not tested", "too few to test: 2 tasks, 2 seeds each")
    assert answers["On what data"] == ("2 datasets", "a and b; 1,554 scored windows")


def test_who_ranks_best_without_beating_seasonal_naive_is_told_so(write: Write) -> None:
    def worse_on_b(record: Record) -> Record:
        if record.run.dataset != "b" or record.run.model != "gru" or record.metrics is None:
            return record
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"mse_scaled": 0.9})})

    outcomes = {"gru": [0.49, 0.49], "seasonal_naive": [0.5, 0.5]}
    folder = write(outcomes, datasets=["a", "b", "c"], edit=worse_on_b)
    verdict = overall_verdict(read_results(folder))
    assert verdict is not None
    assert verdict.headline == "gru ranks best over 3 tasks, but no better than seasonal naive over all."


def test_failures_on_any_task_are_counted_on_the_first_screen(write: Write) -> None:
    verdict = overall_verdict(read_results(write({"gru": [0.4, "failed: x"], "tcn": [0.5, None]}, datasets=["a", "b"])))
    assert verdict is not None
    assert verdict.trouble == "Of 8 planned runs 2 failed and 2 have no record yet."
