"""What the report says in words, case by case."""

from __future__ import annotations

from made_up import REALISTIC, Write

from tsbench.bench.records import Record
from tsbench.report.tables import read_results
from tsbench.report.verdict import Verdict, overall_verdict, task_verdict


def verdict_of(folder: object) -> Verdict:
    return task_verdict(read_results(str(folder)).tasks[0])


def test_a_network_that_is_ahead_of_all_is_named_with_its_gains(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "linear": [0.62] * 3, "seasonal_naive": [0.5] * 3}))
    assert verdict.headline == "gru forecasts streets best."
    assert "38.0% below seasonal_naive and 50.0% below linear" in verdict.sentences[0]
    assert "No other model is within seed noise of it" in verdict.sentences[1]


def test_models_within_seed_noise_of_the_best_are_named(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.34, 0.32], "tcn": [0.31, 0.35, 0.33], "naive": [0.9] * 3}))
    assert verdict.headline == "gru forecasts streets best, but tcn cannot be told from it."
    assert "its distance to tcn (+3.1%), by Welch's t-test over 3 seeds, p ≥ 0.05" in verdict.sentences[1]
    assert "the distance to naive is larger than that" in verdict.sentences[1]


def test_no_network_is_worth_it_where_a_simple_model_has_the_lowest_error(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.6, 0.61], "seasonal_naive": [0.5, 0.5]}))
    assert verdict.headline == "No network is worth it on streets: seasonal_naive has the lowest error."


def test_no_network_is_worth_it_where_a_simple_model_cannot_be_told_from_the_best(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.40, 0.35], "linear": [0.36, 0.37, 0.36]}))
    assert verdict.headline == "No network is worth it on streets: linear does as well as gru."


def test_networks_are_not_judged_where_none_took_part(write: Write) -> None:
    verdict = verdict_of(write({"profile": [0.3] * 2, "naive": [0.5] * 2}))
    assert verdict.headline == "Simple is best on streets: profile has the lowest error."


def test_one_seed_says_nothing_about_certainty(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.3], "tcn": [0.4]}))
    assert verdict.headline == "gru forecasts streets best."
    assert any("nothing can be said about certainty" in sentence for sentence in verdict.sentences)
    assert next(fact.answer for fact in verdict.facts if fact.question == "How sure") == "unknown"


def test_one_seed_of_an_untrained_model_is_exact(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31, 0.32], "naive": [0.9]}))
    assert "No other model is within seed noise" in verdict.sentences[1]


def test_two_seeds_are_said_to_show_hardly_anything(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.31], "tcn": [0.35, 0.55]}))
    assert "its distance to tcn (+47.5%)" in verdict.sentences[1]
    assert any("with two seeds it hardly sees any difference" in sentence for sentence in verdict.sentences)


def test_the_certainty_is_limited_to_seeds_in_words(write: Write) -> None:
    verdict = verdict_of(write(REALISTIC))
    assert any("speaks of seeds only" in sentence and "test period" in sentence for sentence in verdict.sentences)


def test_the_cheapest_of_the_level_set_is_named_with_its_price(write: Write) -> None:
    verdict = verdict_of(write({"gru": [0.30, 0.40, 0.35], "linear": [0.36, 0.37, 0.36]}))
    assert any("linear is the cheapest of these: it forecasts 4.7 times as fast as gru" in s for s in verdict.sentences)


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


def test_several_tasks_are_summed_up(write: Write) -> None:
    folder = write({"gru": [0.4, 0.41], "seasonal_naive": [0.5, 0.5]}, datasets=["a", "b"])
    verdict = overall_verdict(read_results(folder))
    assert verdict is not None
    assert verdict.headline == "gru ranks best over 2 tasks."
    assert "leads on 2 of 2 tasks, and its error is 0.81 of seasonal naive's" in verdict.sentences[0]
