"""Several folders of results as one: what is kept once, what is renamed, what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.made_up import write_experiment

from tsbench.bench.merging import merge
from tsbench.bench.records import Plan, PlannedRun, Record, RecordStore, load_records
from tsbench.errors import ConfigError
from tsbench.report.build import build
from tsbench.report.tables import leaderboard, read_results


def renamed(folder: Path, label: str, name: str) -> Path:
    """The same runs under another label."""
    plan = Plan.load(folder)
    runs = [p.model_copy(update={"label": name if p.label == label else p.label}) for p in plan.runs]
    plan.model_copy(update={"runs": runs}).save(folder)
    return folder


def with_width(folder: Path, width: int) -> Path:
    """The same answers of models that are that wide."""
    plan, store = Plan.load(folder), RecordStore(folder)
    runs = []
    for planned in plan.runs:
        run = planned.run.model_copy(update={"arguments": planned.run.arguments | {"hidden_size": width}})
        store.write(store.read(planned.run.key()).model_copy(update={"run": run, "key": run.key()}))
        runs.append(PlannedRun(label=planned.label, run=run))
    plan.model_copy(update={"runs": runs}).save(folder)
    return folder


def rows(folder: Path) -> dict[str, int]:
    frame = leaderboard(read_results(folder))
    return dict(zip(frame["label"], frame["seeds_ok"], strict=True))


def test_models_of_two_folders_stand_in_one_leaderboard(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3, 0.31], "seasonal_naive": [0.5, 0.5]})
    after = write_experiment(tmp_path / "b", {"tcn": [0.4, 0.41], "seasonal_naive": [0.5, 0.5]})

    plan = merge([before, after], tmp_path / "both")

    assert rows(tmp_path / "both") == {"gru": 2, "tcn": 2, "seasonal_naive": 2}
    assert plan.notes == [
        "put together from a, b",
        "2 runs are in more than one folder with the same result; costs are the first one's",
    ]
    assert len(load_records(tmp_path / "both")) == 6
    assert build(tmp_path / "both").is_file()


def test_the_seeds_of_one_question_come_together(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3, 0.31, None]})
    after = write_experiment(tmp_path / "b", {"gru": [None, None, 0.32]})

    merge([before, after], tmp_path / "both")

    assert rows(tmp_path / "both") == {"gru": 3}


def test_the_order_of_folders_decides_between_equal_answers_and_finished_ones_come_first(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": ["failed: x", 0.31]})
    after = write_experiment(tmp_path / "b", {"gru": [0.30, 0.35]})

    plan = merge([before, after], tmp_path / "both")

    frame = load_records(tmp_path / "both")
    assert frame["mse_scaled"].tolist() == [0.30, 0.31]
    said = "gru on streets, 48 → 24 steps, seed {} has different results ({} in a, {} in b): shown is that of {}"
    assert plan.notes[1:] == [
        said.format(0, "failed", "test MSE 0.3", "b"),
        said.format(1, "test MSE 0.31", "test MSE 0.35", "a"),
    ]
    build(tmp_path / "both")
    assert "shown is that of b" in (tmp_path / "both" / "report.md").read_text(encoding="utf-8")


def test_the_same_result_at_other_costs_is_one(tmp_path: Path) -> None:
    def slower(record: Record) -> Record:
        return record.model_copy(update={"cost": record.cost.model_copy(update={"latency_p50_ms": 99.0})})

    before = write_experiment(tmp_path / "a", {"gru": [0.3, 0.31]})
    after = write_experiment(tmp_path / "b", {"gru": [0.3, 0.31]}, edit=slower)

    plan = merge([after, before], tmp_path / "both")

    assert plan.notes[1:] == ["2 runs are in more than one folder with the same result; costs are the first one's"]
    assert load_records(tmp_path / "both")["latency_p50_ms"].tolist() == [99.0, 99.0]


def test_one_label_for_two_settings_gets_the_name_of_its_folder(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "narrow", {"gru": [0.3, 0.31]})
    after = with_width(write_experiment(tmp_path / "wide", {"gru": [0.4, 0.41]}), 128)

    plan = merge([before, after], tmp_path / "both")

    assert rows(tmp_path / "both") == {"gru": 2, "gru (wide)": 2}
    assert plan.notes[1:] == ["gru of wide is called gru (wide) here: elsewhere the name means other settings"]


def test_one_setting_under_two_labels_is_one_row(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3, None]})
    after = renamed(write_experiment(tmp_path / "b", {"gru": [None, 0.31]}), "gru", "mine")

    plan = merge([before, after], tmp_path / "both")

    assert rows(tmp_path / "both") == {"gru": 2}
    assert plan.notes[1:] == ["mine of b is called gru here: elsewhere the same settings have that name"]


def test_one_label_on_tasks_of_their_own_is_one_row_over_tasks(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3]})
    after = write_experiment(tmp_path / "b", {"gru": [0.4]}, datasets=["roads"])
    wide = with_width(write_experiment(tmp_path / "c", {"gru": [0.4]}, datasets=["rivers"]), 128)

    merge([before, after, wide], tmp_path / "all")

    assert read_results(tmp_path / "all").labels == ["gru", "gru (c)"]


def test_machines_are_not_mixed_silently(tmp_path: Path) -> None:
    def elsewhere(record: Record) -> Record:
        return record.model_copy(update={"machine": record.machine.model_copy(update={"device_name": "Other CPU"})})

    before = write_experiment(tmp_path / "a", {"gru": [0.3, 0.31]})
    after = write_experiment(tmp_path / "b", {"tcn": [0.4, 0.41]}, edit=elsewhere)

    merge([before, after], tmp_path / "both")
    build(tmp_path / "both")

    page = (tmp_path / "both" / "report.md").read_text(encoding="utf-8")
    assert "The runs were made on different machines, so their costs cannot be compared." in page


def test_other_data_under_one_name_are_refused_by_the_report(tmp_path: Path) -> None:
    folders = []
    for name, fingerprint in (("a", "f00d"), ("b", "beef")):
        folder = write_experiment(tmp_path / name, {"gru" if name == "a" else "tcn": [0.3]})
        plan, store = Plan.load(folder), RecordStore(folder)
        run = plan.runs[0].run.model_copy(update={"fingerprint": fingerprint})
        store.write(store.read(plan.runs[0].run.key()).model_copy(update={"run": run, "key": run.key()}))
        plan.model_copy(update={"runs": [PlannedRun(label=plan.runs[0].label, run=run)]}).save(folder)
        folders.append(folder)

    merge(folders, tmp_path / "both")

    with pytest.raises(ConfigError, match=r"made on different data \(tcn on beef but gru on f00d\)"):
        read_results(tmp_path / "both")


def test_protocols_are_not_mixed(tmp_path: Path) -> None:
    before, after = (write_experiment(tmp_path / name, {"gru": [0.3]}) for name in "ab")
    Plan.load(after).model_copy(update={"protocol": 0}).save(after)

    with pytest.raises(ConfigError, match=r"under protocol 1 and .*b under protocol 0: such numbers cannot stand"):
        merge([before, after], tmp_path / "both")


def test_a_merge_overwrites_a_merge_but_no_experiment(tmp_path: Path) -> None:
    before, after = (write_experiment(tmp_path / name, {"gru": [0.3]}) for name in "ab")
    merge([before, after], tmp_path / "both")
    merge([before], tmp_path / "both")

    assert Plan.load(tmp_path / "both").notes == ["put together from a"]
    with pytest.raises(ConfigError, match="is one of the folders to put together"):
        merge([before, after], after)
    with pytest.raises(ConfigError, match="holds an experiment of its own"):
        merge([before], after)


def test_many_contradictions_are_counted(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "a", {"gru": [0.3 + seed / 100 for seed in range(15)]})
    after = write_experiment(tmp_path / "b", {"gru": [0.5 + seed / 100 for seed in range(15)]})

    plan = merge([before, after], tmp_path / "both")

    assert plan.notes[-1] == "5 more like these"
    assert len(plan.notes) == 12
