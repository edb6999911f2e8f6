"""What stands in a leaderboard, in which order, and what may not stand in one."""

from __future__ import annotations

import math
from statistics import stdev

import numpy as np
import pytest
from made_up import REALISTIC, Write

from tsbench.bench.records import Cost, Record, RecordStore, load_records
from tsbench.errors import ConfigError
from tsbench.report.build import build
from tsbench.report.page import cost_notes
from tsbench.report.tables import comparisons, leaderboard, read_results


def test_a_row_holds_the_mean_and_the_spread_over_the_seeds_that_finished(write: Write) -> None:
    folder = write({"gru": [0.30, 0.34], "seasonal_naive": [0.5, 0.5]})
    row = leaderboard(read_results(folder)).iloc[0]
    assert row["label"] == "gru"
    assert row["mse_scaled"] == pytest.approx(0.32)
    assert row["mse_scaled_std"] == pytest.approx(stdev([0.30, 0.34]))
    assert row["skill"] == pytest.approx(1 - 0.32 / 0.5)


def test_the_leaderboard_agrees_with_load_records(write: Write) -> None:
    folder = write(REALISTIC)
    frame = leaderboard(read_results(folder)).set_index("label")
    means = load_records(folder).query("status == 'ok'").groupby("label")[["mse_scaled", "mase", "rmse"]].mean()
    for label, row in means.iterrows():
        assert [float(frame[str(name)][str(label)]) for name in row.index] == pytest.approx(row.tolist())


def test_models_with_failed_runs_are_ranked_below_those_without_and_those_without_a_result_last(write: Write) -> None:
    folder = write({"tcn": ["failed: x"], "gru": [0.1, "diverged: y"], "mlp": [0.4, 0.4], "cnn": [0.3, None]})
    frame = leaderboard(read_results(folder))
    assert frame["label"].tolist() == ["cnn", "mlp", "gru", "tcn"]
    assert frame["rank"].tolist() == [1, 2, 3, 4]


def test_equal_errors_share_a_rank(write: Write) -> None:
    frame = leaderboard(read_results(write({"naive": [0.4], "seasonal_naive": [0.4], "gru": [0.5]})))
    assert frame["rank"].tolist() == [1, 1, 3]


def test_a_failed_model_has_blanks_and_its_reason(write: Write) -> None:
    frame = leaderboard(read_results(write({"gru": [0.3], "tcn": ["out_of_memory: 9 GiB asked, 8 there"]})))
    row = frame.iloc[1]
    assert math.isnan(row["mse_scaled"])
    assert math.isnan(row["predict_windows_per_second"])
    assert row["status"] == "0 of 1 ok, 1 out of memory"
    assert row["reason"] == "9 GiB asked, 8 there"


def test_skill_is_blank_with_a_reason_where_seasonal_naive_has_no_result(write: Write) -> None:
    results = read_results(write({"gru": [0.3], "seasonal_naive": ["failed: x"]}))
    assert leaderboard(results)["skill"].isna().all()
    assert "seasonal_naive has no result" in results.tasks[0].no_skill_because


def test_runs_scored_on_different_points_are_refused(write: Write) -> None:
    def other_points(record: Record) -> Record:
        if record.run.model != "gru" or record.metrics is None:
            return record
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"points_digest": "b0b0"})})

    folder = write({"gru": [0.3], "linear": [0.4]}, edit=other_points)
    with pytest.raises(
        ConfigError, match=r"scored on different points \(linear on 9a9a9a9a but gru on b0b0\).*--force"
    ):
        read_results(folder)


def test_records_of_another_protocol_are_refused(write: Write) -> None:
    folder = write({"gru": [0.3]}, edit=lambda record: record.model_copy(update={"protocol": 0}))
    with pytest.raises(ConfigError, match=r"made under protocol 0.*tsbench run"):
        read_results(folder)


def test_different_machines_are_allowed_and_named(write: Write) -> None:
    def by_seed(record: Record) -> Record:
        machine = record.machine.model_copy(update={"device_name": f"CPU {record.run.seed}"})
        return record.model_copy(update={"machine": machine})

    assert len(read_results(write({"gru": [0.3, 0.4]}, edit=by_seed)).machines) == 2


def by_two_workers(record: Record) -> Record:
    """Seed 0 was timed alone afterwards."""
    assert record.cost
    machine = record.machine.model_copy(update={"num_workers": 2})
    cost = record.cost.model_copy(update={"num_workers": 1 + record.run.seed})
    return record.model_copy(update={"machine": machine, "cost": cost})


def test_a_speed_that_was_read_alone_counts_and_those_beside_other_workers_do_not(write: Write) -> None:
    def slow_beside(record: Record) -> Record:
        edited = by_two_workers(record)
        speed = 1000.0 / edited.cost.num_workers
        cost = {"predict_windows_per_second": speed, "peak_memory_mib": speed}
        return edited.model_copy(update={"cost": edited.cost.model_copy(update=cost)})

    (entry,) = read_results(write({"gru": [0.3, 0.4]}, edit=slow_beside)).tasks[0].entries

    assert entry.cost("predict_windows_per_second") == 1000
    assert entry.cost("peak_memory_mib") == 750  # no speed: the median over seeds


def test_seeds_of_which_no_speed_was_read_do_not_count_as_timed_alone(write: Write) -> None:
    def seed_1_beside_another(record: Record) -> Record:
        edited = by_two_workers(record)
        return edited if record.run.seed == 1 else edited.model_copy(update={"cost": without_speed(edited.cost)})

    (entry,) = read_results(write({"gru": [0.3, 0.4]}, edit=seed_1_beside_another)).tasks[0].entries

    assert entry.num_runs_timed == 2
    assert entry.cost("latency_p50_ms") == entry.finished[1].cost.latency_p50_ms


def test_a_report_can_be_written_of_a_matrix_that_was_stopped_before_a_speed_was_read(write: Write) -> None:
    def not_read(record: Record) -> Record:
        return record.model_copy(update={"cost": without_speed(record.cost)})

    folder = write({"gru": [0.3, 0.4], "naive": [0.5, 0.5]}, edit=not_read)

    assert build(folder).exists()
    assert not any("batches of" in note for note in cost_notes(read_results(folder)))
    assert leaderboard(read_results(folder))["latency_p50_ms"].isna().all()


def without_speed(cost: Cost) -> Cost:
    """As of a seed that is not the first."""
    speeds = ("bare_step_ms", "predict_windows_per_second", "predict_samples", "predict_batch_size", "latency_p50_ms")
    speeds += ("latency_p95_ms", "predict_by_batch_size", "latency_quantiles_ms")
    return cost.model_copy(update={name: Cost.model_fields[name].default for name in speeds})


def test_workers_make_no_other_machine_but_are_named_with_it(write: Write) -> None:
    (machine,) = read_results(write({"gru": [0.3, 0.4]}, edit=by_two_workers)).machines

    assert machine.endswith(", shared by 2 workers")


def test_the_notes_say_which_figures_were_read_beside_other_workers(write: Write) -> None:
    def not_lstm(record: Record) -> Record:
        edited = by_two_workers(record)
        beside = edited.cost.model_copy(update={"num_workers": 2})
        return edited.model_copy(update={"cost": beside}) if record.run.model == "lstm" else edited

    quiet, mixed, alone = (
        cost_notes(read_results(write({"gru": [0.3, 0.4], "lstm": [0.3, 0.4]}, edit=edit)))
        for edit in (by_two_workers, not_lstm, lambda record: record)
    )

    assert quiet[-1].endswith("throughput and latency were read afterwards, one model at a time on a quiet machine.")
    assert mixed[-1].endswith("So were throughput and latency of lstm: on a quiet machine they are better.")
    assert quiet[:-1] == mixed[:-1] == alone


# Paired comparisons


def test_every_forecaster_is_compared_with_the_best_and_with_seasonal_naive(write: Write) -> None:
    folder = write({"gru": [0.30, 0.31, 0.32], "linear": [0.62] * 3, "seasonal_naive": [0.5] * 3})
    frame = comparisons(read_results(folder))
    pairs = list(zip(frame["label"], frame["reference_label"], strict=True))
    assert pairs == [
        ("seasonal_naive", "gru"),
        ("linear", "gru"),
        ("gru", "seasonal_naive"),
        ("linear", "seasonal_naive"),
    ]
    row = frame.iloc[2]
    assert row["difference"] == pytest.approx(-0.19)
    assert row["relative"] == pytest.approx(-0.38)
    assert row["lower"] < row["difference"] < row["upper"] < 0
    assert row["p_uncorrected"] < row["p_value"] < 0.05
    assert not row["same"]


def test_the_losses_of_windows_decide_where_seeds_alone_could_not(write: Write) -> None:
    """Two models that seeds tell apart, though on windows they are as different as windows make them."""
    seeds = {"gru": [0.400, 0.4001, 0.4002], "lstm": [0.404, 0.4041, 0.4042]}
    assert read_results(write(seeds, losses=False)).tasks[0].peers == []
    assert [entry.label for entry in read_results(write(seeds)).tasks[0].peers] == ["lstm"]


def test_models_with_failed_runs_are_not_compared(write: Write) -> None:
    task = read_results(write({"gru": [0.3, 0.3, "failed: x"], "tcn": [0.3, 0.31, 0.3]})).tasks[0]
    assert [entry.label for entry in task.compared] == ["tcn"]
    assert task.same_as_best(task.ranked[1]) is False


def test_losses_of_another_shape_are_left_out(write: Write) -> None:
    folder = write({"gru": [0.30, 0.31], "lstm": [0.30, 0.31]})
    key = read_results(folder).tasks[0].entries[1].records[0].key
    path = RecordStore(folder).path(key).with_suffix(".npz")
    arrays = dict(np.load(path)) | {"squared_loss": np.ones(5, dtype=np.float32)}
    np.savez(path, **arrays)
    assert read_results(folder).tasks[0].comparison.degrees == 0
