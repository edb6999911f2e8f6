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


def test_the_total_is_the_sum_over_runs(plan_of: PlanOf):
    plan = plan_of(models={"linear": {}}, seeds=[0, 1])
    estimate = Estimate()
    assert estimate.total(plan.runs) is None
    assert estimate.total([]) == 0

    for planned in plan.runs:
        estimate.learn_seconds(planned.run, {"naive": 1.0, "seasonal_naive": 2.0, "linear": 5.0}[planned.label])

    assert estimate.total(plan.runs) == 2 * (1 + 2 + 5)


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


def test_a_probe_ends_after_so_many_questions(plan_of: PlanOf, tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "seconds_by_probe", lambda run, prepared: 1.0)
    sizes = list(range(1, 2 * MOST_PROBES))

    plan = plan_of(models={"gru": {"hidden_size": sizes}})

    assert probe(Estimate(), plan.runs, {tiny_panel.name: tiny_panel}) == MOST_PROBES
