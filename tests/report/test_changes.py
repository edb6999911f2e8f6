"""Two folders of results: what got better, worse or slower, and what must not be compared."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import write_experiment
from rich.console import Console

from tsbench.bench.records import Plan, Record, RecordStore, Run
from tsbench.errors import ConfigError
from tsbench.report.changes import Change, Changes, compare
from tsbench.report.statistics import ratio_interval
from tsbench.report.tables import comparisons, read_results
from tsbench.report.terminal import changes_table

BEFORE = {"gru": [0.30, 0.31, 0.32], "lstm": [0.40, 0.41, 0.42], "tcn": [0.35, 0.36, 0.34], "seasonal_naive": [0.5] * 3}


@pytest.fixture
def both(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """`both(outcomes after, ...)`: folders `a` with BEFORE and `b` with these."""

    def build(after: dict, **options: object) -> tuple[Path, Path]:
        return write_experiment(tmp_path / "a", BEFORE), write_experiment(tmp_path / "b", after, **options)

    return build


def asked_otherwise(folder: Path, change: Callable[[Run], Run]) -> None:
    """The same answers to other questions."""
    plan, store = Plan.load(folder), RecordStore(folder)
    planned = [p.model_copy(update={"run": change(p.run)}) for p in plan.runs]
    for old, new in zip(plan.runs, planned, strict=True):
        record = store.read(old.run.key()).model_copy(update={"run": new.run, "key": new.run.key()})
        store.write(record, store.arrays(old.run.key()))
    plan.model_copy(update={"runs": planned}).save(folder)


def by_label(changes: Changes) -> dict[str, Change]:
    return {change.label: change for change in changes.pairs}


def test_what_got_better_or_worse_beyond_noise_is_said(both: Callable) -> None:
    changes = compare(
        *both({**BEFORE, "gru": [0.40, 0.41, 0.42], "lstm": [0.30, 0.31, 0.32], "tcn": [0.351, 0.36, 0.34]})
    )

    found = by_label(changes)
    assert {label: change.outcome for label, change in found.items()} == {
        "gru": "worse",
        "lstm": "better",
        "tcn": "same",
        "seasonal_naive": "same",
    }
    assert found["gru"].relative == pytest.approx(0.41 / 0.31 - 1)
    assert 0 < found["gru"].lower < found["gru"].relative < found["gru"].upper
    assert changes.summary == "Of 4 models: 1 better, 1 worse, 2 not told apart."
    assert changes.differences == ()


def test_the_test_is_the_reports_own(tmp_path: Path) -> None:
    """One model before and after is one pair of models in a single folder, and p is the same."""
    losses = {"gru": [0.30, 0.34, 0.32], "grutwo": [0.305, 0.335, 0.33]}
    before = write_experiment(tmp_path / "a", {"gru": losses["gru"]})
    after = write_experiment(tmp_path / "b", {"gru": losses["grutwo"]})
    together = write_experiment(tmp_path / "c", {"gru": losses["gru"], "gru ": losses["grutwo"]})

    (change,) = compare(before, after).pairs
    row = comparisons(read_results(together)).iloc[0]

    assert change.p_value == pytest.approx(row["p_value"])
    assert change.lower * change.before == pytest.approx(row["lower"])


def test_p_values_are_corrected_for_all_pairs(both: Callable) -> None:
    alone, among = both({"gru": [0.301, 0.312, 0.33]}), both({**BEFORE, "gru": [0.301, 0.312, 0.33]})

    p_alone = by_label(compare(*alone))["gru"].p_value
    p_among = by_label(compare(*among))["gru"].p_value

    assert p_among == pytest.approx(min(1, 4 * p_alone))


def test_a_failure_is_no_error_that_got_worse(both: Callable) -> None:
    a, b = both({**BEFORE, "gru": [0.3, 0.31, "failed: it broke"], "lstm": [None, None, None]})

    there, back = by_label(compare(a, b)), by_label(compare(b, a))

    assert (there["gru"].outcome, back["gru"].outcome) == ("fails", "works")
    assert there["gru"].reason == "2 of 3 ok, 1 failed: it broke"
    assert (there["lstm"].outcome, there["lstm"].reason) == ("not compared", "not run after")


def test_other_points_and_other_data_are_not_compared(both: Callable) -> None:
    def other(record: Record) -> Record:
        metrics = record.metrics.model_copy(update={"points_digest": "b0b0"})
        return record.model_copy(update={"metrics": metrics})

    changes = compare(*both(BEFORE, edit=other))

    assert {change.reason for change in changes.pairs} == {"scored on other points (9a9a9a9a and b0b0)"}
    assert not changes.knows("worse")


def test_other_data_are_said_first(tmp_path: Path) -> None:
    before, after = (write_experiment(tmp_path / name, {"gru": [0.3, 0.4]}) for name in "ab")
    asked_otherwise(after, lambda run: run.model_copy(update={"fingerprint": "beef"}))

    changes = compare(before, after)

    assert changes.differences == (f"streets: other data, fingerprint {'f00d' * 4} before, beef after",)
    assert changes.pairs[0].reason == "made on other data"


def test_costs_of_different_machines_are_compared_only_when_asked(both: Callable) -> None:
    def elsewhere(record: Record) -> Record:
        update = {"device_name": "Other CPU", "versions": {**record.machine.versions, "torch": "2.14.0"}}
        return record.model_copy(update={"machine": record.machine.model_copy(update=update)})

    folders = both(BEFORE, edit=elsewhere)

    changes, asked = compare(*folders), compare(*folders, any_machine=True)

    assert changes.differences[0].startswith("machines: Example CPU 3000 (cpu)")
    assert changes.differences[0].endswith("costs of different ones are not compared")
    assert changes.differences[1] == "torch: 2.13.0 before, 2.14.0 after"
    assert all(change.costs is None for change in changes.pairs)
    assert not changes.knows("slower")
    assert changes.knows("worse")
    assert asked.pairs[0].costs["predict_windows_per_second"].ratio == 1


@pytest.mark.parametrize(("factor", "word"), [(0.8, "slower"), (0.97, ""), (1.3, "faster")])
def test_a_speed_has_changed_where_its_whole_interval_lies_beyond_five_percent(
    both: Callable, factor: float, word: str
) -> None:
    def faster(record: Record) -> Record:
        cost = record.cost
        update = {"predict_samples": [factor * sample for sample in cost.predict_samples]}
        update["predict_windows_per_second"] = factor * cost.predict_windows_per_second
        return record.model_copy(update={"cost": cost.model_copy(update=update)})

    changes = compare(*both(BEFORE, edit=faster))

    change = by_label(changes)["gru"].costs["predict_windows_per_second"]
    assert change.ratio == pytest.approx(factor)
    assert change.lower < factor < change.upper
    assert change.word == word
    assert len(changes.found("slower")) == (4 if word == "slower" else 0)


def test_a_changed_setting_is_said_and_pairs_by_label(both: Callable) -> None:
    a, b = both(BEFORE)
    asked_otherwise(b, lambda run: run.model_copy(update={"recipe": run.recipe.model_copy(update={"max_steps": 7})}))

    changes = compare(a, b)

    assert changes.differences[-1].startswith("settings: max_steps ")
    assert changes.differences[-1].endswith("before, 7 after (4 models)")


def test_another_label_of_the_same_model_and_arguments_is_paired(tmp_path: Path) -> None:
    before, after = (write_experiment(tmp_path / name, {"gru": [0.3, 0.31]}) for name in "ab")
    plan = Plan.load(after)
    plan.model_copy(update={"runs": [p.model_copy(update={"label": "mine"}) for p in plan.runs]}).save(after)

    (change,) = compare(before, after).pairs

    assert (change.label, change.label_after, change.outcome) == ("gru", "mine", "same")


def test_what_is_on_one_side_only_is_named(both: Callable) -> None:
    changes = compare(*both({"gru": [0.3, 0.31, 0.32], "mlp": [0.4] * 3}))

    assert changes.only_before[0] == "tcn on streets, 48 → 24 steps"
    assert changes.only_after == ("mlp on streets, 48 → 24 steps",)


def test_one_seed_says_nothing_certain(tmp_path: Path) -> None:
    before, after = write_experiment(tmp_path / "a", {"gru": [0.3]}), write_experiment(tmp_path / "b", {"gru": [0.6]})

    (change,) = compare(before, after).pairs

    assert (change.outcome, change.reason) == ("unknown", "fewer than two seeds")


def test_folders_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3]})
    after = write_experiment(tmp_path / "b", {"gru": [0.3]}, datasets=["roads"])

    with pytest.raises(ConfigError, match=r"share no model of a task; there are streets, 48 → 24 steps there"):
        compare(before, after)


def test_another_protocol_is_refused_with_both_versions(both: Callable) -> None:
    a, b = both(BEFORE)
    Plan.load(b).model_copy(update={"protocol": 0}).save(b)

    with pytest.raises(ConfigError, match=r"under protocol 1 and .* under protocol 0: nothing in them can be compared"):
        compare(a, b)


def test_the_frame_and_the_table_hold_every_pair(both: Callable) -> None:
    changes = compare(*both({**BEFORE, "gru": [0.40, 0.41, 0.42]}))
    shown = io.StringIO()

    Console(file=shown, width=100).print(changes_table(changes))

    assert changes.frame["outcome"].tolist() == [change.outcome for change in changes.pairs]
    assert changes.frame["predict_windows_per_second_ratio"].eq(1).all()
    assert "0.3100 0.4100" in " ".join(shown.getvalue().split())
    assert max(map(len, shown.getvalue().splitlines())) <= 100
    assert replace(changes, pairs=()).frame.empty


def test_a_ratio_of_speeds_lies_between_those_of_its_samples() -> None:
    lower, upper = ratio_interval([[10.0, 10.0], [10.0]], [[20.0, 22.0, 21.0], [20.0, 20.0]])

    assert 2.0 <= lower <= upper <= 2.2
    assert ratio_interval([[5.0]], [[10.0]]) == (2.0, 2.0)
