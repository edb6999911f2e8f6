"""Estimates of what is left, from what the same questions took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tsbench.bench import runner
from tsbench.bench.estimate import MOST_PROBES, Estimate, probe
from tsbench.bench.records import Plan, Record
from tsbench.data.panel import Panel

PlanOf = Callable[..., Plan]


def test_a_question_takes_the_median_of_what_it_took_with_other_seeds(plan_of: PlanOf):
    runs = [
        planned.run for planned in plan_of(models={"linear": {}}, seeds=[0, 1, 2, 3]).runs if planned.label == "linear"
    ]
    estimate = Estimate()
    for run, seconds in zip(runs, (10.0, 1.0, 3.0), strict=False):
        estimate.learn_seconds(run, seconds)

    assert estimate.seconds(runs[3]) == 3.0
    assert estimate.knows(runs[3])


def test_a_new_question_takes_the_median_of_all_and_the_first_is_not_known(plan_of: PlanOf):
    naive, seasonal, linear = (planned.run for planned in plan_of(models={"linear": {}}).runs)
    estimate = Estimate()
    assert estimate.seconds(linear) is None

    estimate.learn_seconds(naive, 1.0)
    estimate.learn_seconds(seasonal, 3.0)

    assert estimate.seconds(linear) == 2.0
    assert not estimate.knows(linear)


def test_what_a_total_rests_on_is_said(plan_of: PlanOf):
    naive, seasonal, linear = plan_of(models={"linear": {}}).runs
    estimate = Estimate()
    assert estimate.basis([naive]) == ""

    estimate.learn_seconds(naive.run, 1.0)
    assert estimate.basis([naive]) == "records of the same questions"
    assert estimate.basis([linear]) == "the median of other runs"

    estimate.learn_flops(naive.run, 10)
    estimate.learn_flops(linear.run, 20)
    assert estimate.basis([linear]) == "operations at the usual speed"
    assert estimate.basis([naive, seasonal]) == "records of the same questions and the median of other runs"


def test_the_total_is_the_sum_over_runs(plan_of: PlanOf):
    plan = plan_of(models={"linear": {}}, seeds=[0, 1])
    estimate = Estimate()
    assert estimate.total(plan.runs) is None
    assert estimate.total([]) == 0

    for planned in plan.runs:
        estimate.learn_seconds(planned.run, {"naive": 1.0, "seasonal_naive": 2.0, "linear": 5.0}[planned.label])

    assert estimate.total(plan.runs) == 2 * (1 + 2 + 5)


def test_workers_share_the_total_but_not_the_longest_run(plan_of: PlanOf):
    plan = plan_of(models={"linear": {}}, seeds=[0, 1])
    estimate = Estimate()
    for planned in plan.runs:
        estimate.learn_seconds(planned.run, {"naive": 1.0, "seasonal_naive": 2.0, "linear": 5.0}[planned.label])

    assert estimate.total(plan.runs, num_workers=2) == 1 + 2 + 5
    assert estimate.total(plan.runs, num_workers=16) == 5


def test_the_longest_are_those_with_the_most_operations_until_seconds_are_known(plan_of: PlanOf):
    plan = plan_of(models={"gru": {}, "tcn": {}, "mlp": {"recipe": {"max_steps": 1000}}}, seeds=[0, 1])
    flops = {"naive": 0, "seasonal_naive": 0, "linear": 1, "mlp": 10, "gru": 100, "tcn": 200}
    estimate = Estimate()
    for run in estimate.without_flops(plan.runs):
        estimate.learn_flops(run, flops[run.model])

    order = [planned.label for planned in estimate.longest_first(plan.runs)]
    assert order[::2] == order[1::2] == ["mlp", "tcn", "gru", "linear", "naive", "seasonal_naive"]

    gru = next(planned.run for planned in plan.runs if planned.label == "gru")
    estimate.learn_seconds(gru, 6.0)
    assert estimate.seconds(next(planned.run for planned in plan.runs if planned.label == "tcn")) == 12.0
    estimate.learn_seconds(plan.runs[0].run, 99.0)  # naive
    assert estimate.longest_first(plan.runs)[2].label == "naive"  # after two times mlp: 150 seconds


def test_operations_are_asked_for_once_per_architecture_and_not_where_something_is_known(plan_of: PlanOf):
    plan = plan_of(models={"gru": {"recipe": {"max_steps": [2, 4]}}}, seeds=[0, 1])
    estimate = Estimate()
    estimate.learn_seconds(plan.runs[0].run, 1.0)  # naive

    assert [run.model for run in estimate.without_flops(plan.runs)] == ["seasonal_naive", "linear", "gru"]


def test_records_teach_what_all_their_phases_took(
    plan_of: PlanOf, carry_out: Callable[..., dict[str, Record]], tmp_path: Path
):
    plan = plan_of(context_lengths=12, models={"linear": {}})
    records = carry_out(plan, tmp_path)

    estimate = Estimate.from_folder(tmp_path)

    assert estimate.seconds(records["linear"].run) == pytest.approx(sum(records["linear"].cost.seconds.values()))
    assert not estimate.knows(records["seasonal_naive"].run)  # it failed


def test_a_probe_times_each_unknown_question_once(plan_of: PlanOf, tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch):
    timed: list[str] = []
    monkeypatch.setattr(runner, "seconds_by_probe", lambda run, prepared: timed.append(run.model) or 7.0)
    plan = plan_of(models={"linear": {}}, seeds=[0, 1, 2])
    estimate = Estimate()
    estimate.learn_seconds(plan.runs[0].run, 1.0)  # naive

    count = probe(estimate, plan.runs, {tiny_panel.name: tiny_panel})

    assert (count, timed) == (2, ["seasonal_naive", "linear"])
    assert estimate.total(plan.runs) == 3 * (1 + 7 + 7)


@pytest.mark.parametrize(("num_questions", "num_timed"), [(MOST_PROBES, MOST_PROBES), (MOST_PROBES + 1, 0)])
def test_more_questions_than_can_be_timed_in_seconds_are_not_timed_at_all(
    num_questions: int, num_timed: int, plan_of: PlanOf, tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "seconds_by_probe", lambda run, prepared: 1.0)
    sizes = list(range(1, num_questions - 3 + 1))  # three opponents

    plan = plan_of(models={"gru": {"hidden_size": sizes}})

    assert probe(Estimate(), plan.runs, {tiny_panel.name: tiny_panel}) == num_timed
