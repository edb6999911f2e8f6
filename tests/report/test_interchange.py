"""Rows for other benchmarks: their columns, our numbers, and nothing made up."""

from __future__ import annotations

from ast import literal_eval
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from made_up import REALISTIC, Write, with_quantiles
from packaging.version import Version

from tsbench import report
from tsbench.bench.records import Record, load_records
from tsbench.errors import ConfigError

FEV_BENCH = (
    "model_name,dataset_path,dataset_config,horizon,num_windows,initial_cutoff,window_step_size,min_context_length,"
    "max_context_length,seasonality,eval_metric,extra_metrics,quantile_levels,id_column,timestamp_column,target,"
    "generate_univariate_targets_from,known_dynamic_columns,past_dynamic_columns,static_columns,task_name,test_error,"
    "training_time_s,inference_time_s,num_forecasts,dataset_fingerprint,trained_on_this_dataset,fev_version,SQL,MASE,"
    "WAPE,WQL"
)
"""The header of fev-bench's results, October 2026. fev 0.10.0 was fed an export (2026-11-23): `fev.leaderboard`,
`pairwise_comparison` and `pivot_table` take it without a warning, and its skill scores are those of our MASE; with
fev_version empty they raise ValueError."""

GIFT_EVAL = (
    "dataset,model,eval_metrics/MSE[mean],eval_metrics/MSE[0.5],eval_metrics/MAE[0.5],eval_metrics/MASE[0.5],"
    "eval_metrics/MAPE[0.5],eval_metrics/sMAPE[0.5],eval_metrics/MSIS,eval_metrics/RMSE[mean],eval_metrics/NRMSE[mean],"
    "eval_metrics/ND[0.5],eval_metrics/mean_weighted_sum_quantile_loss,domain,num_variates"
)
"""The header of GIFT-Eval's all_results.csv, November 2026."""


def written(frame: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    """As a reader of the file gets it."""
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return pd.read_csv(tmp_path / "rows.csv")


@pytest.mark.parametrize(("format", "header"), [("fev", FEV_BENCH), ("gift-eval", GIFT_EVAL)])
def test_the_columns_are_theirs_and_every_finished_model_has_a_row(write: Write, format: str, header: str) -> None:
    frame = report.export(write(REALISTIC | {"tcn": ["failed: x"]}), format)

    assert ",".join(frame.columns) == header
    assert len(frame) == len(REALISTIC) - 1
    assert frame.attrs["notes"]


def test_a_row_for_fev_holds_what_was_measured_and_blanks(write: Write, tmp_path: Path) -> None:
    folder = write(REALISTIC)
    means = load_records(folder).query("status == 'ok'").groupby("label")["mase"].mean()

    rows = written(report.export(folder, "fev"), tmp_path).set_index("model_name")

    gru = rows.loc["gru"]
    assert gru["test_error"] == gru["MASE"] == pytest.approx(means["gru"])
    assert (gru["dataset_config"], gru["horizon"], gru["max_context_length"], gru["seasonality"]) == (
        "streets",
        24,
        48,
        24,
    )
    assert (gru["num_windows"], gru["num_forecasts"], gru["training_time_s"]) == (777, 2 * 777, 8.4)
    assert literal_eval(gru["target"]) == ["North", "South"]
    assert gru["initial_cutoff"] == "2019-05-14 07:00"
    assert (bool(gru["trained_on_this_dataset"]), bool(rows.loc["naive"]["trained_on_this_dataset"])) == (True, False)
    assert rows[["SQL", "WAPE", "WQL"]].isna().all(axis=None)
    assert Version(gru["fev_version"]) >= Version("0.6.0")  # what fev's leaderboard asks for


def test_a_row_for_gift_eval_holds_what_was_measured_and_blanks(write: Write, tmp_path: Path) -> None:
    folder = write(REALISTIC)
    means = load_records(folder).query("status == 'ok'").groupby("label")[["mse", "mae", "rmse", "smape"]].mean()

    rows = written(report.export(folder, "gift-eval"), tmp_path).set_index("model")

    gru = rows.loc["gru"]
    assert gru["dataset"] == "streets/h/24"
    assert gru["eval_metrics/MSE[mean]"] == gru["eval_metrics/MSE[0.5]"] == pytest.approx(means.loc["gru", "mse"])
    assert gru["eval_metrics/RMSE[mean]"] == pytest.approx(means.loc["gru", "rmse"])
    assert gru["eval_metrics/sMAPE[0.5]"] == pytest.approx(means.loc["gru", "smape"] / 100)  # theirs ends at 2
    assert gru["num_variates"] == 2
    assert rows["eval_metrics/mean_weighted_sum_quantile_loss"].isna().all()
    assert rows[["eval_metrics/MAPE[0.5]", "eval_metrics/MSIS", "domain"]].isna().all(axis=None)


def test_gift_eval_gets_the_quantile_loss_of_its_own_levels_alone(write: Write) -> None:
    def edited(levels: list[float], record: Record) -> Record:
        metrics = with_quantiles(record).metrics
        assert metrics
        assert metrics.quantiles
        own = metrics.quantiles.model_copy(update={"levels": levels})
        return record.model_copy(update={"metrics": metrics.model_copy(update={"quantiles": own, "wape": 0.25})})

    nine = [number / 10 for number in range(1, 10)]
    for levels, expected in ((nine, 0.2 * 0.3), ([0.1, 0.5, 0.9], None)):
        (row,) = report.export(write({"gru": [0.3]}, edit=partial(edited, levels)), "gift-eval").to_dict("records")
        assert row["eval_metrics/mean_weighted_sum_quantile_loss"] == pytest.approx(expected)
        assert row["eval_metrics/ND[0.5]"] == 0.25


def test_an_unknown_format_is_named(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"--format: unknown format 'gift'; .*allowed: fev, gift-eval"):
        report.export(write({"gru": [0.3]}), "gift")
