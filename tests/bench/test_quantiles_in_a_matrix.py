"""Quantiles from the command line's words to rows of a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsbench.api import plan_experiment, run_experiment
from tsbench.bench.experiment import parse_setting

SETTINGS = {"quantiles": [0.1, 0.5, 0.9], "calibration": ["none", "conformal"], "max_steps": 4, "validate_every": 2}
SMALL = {"models": ["naive2", "linear"], "seeds": [0], "context_lengths": [48], "horizons": [6]}


def test_a_list_of_levels_is_a_value_and_a_list_of_lists_an_axis():
    key, value = parse_setting("quantiles=0.1,0.5,0.9", "--set")
    one = plan_experiment("default", models=["linear"], settings={key: value}).plan
    two = plan_experiment("default", models=["linear"], settings={key: [value, [0.2, 0.5, 0.8]]}).plan

    assert {tuple(planned.run.recipe.quantiles) for planned in one.runs} == {(0.1, 0.5, 0.9)}
    assert "linear" in {planned.label for planned in one.runs}
    assert {planned.label for planned in two.runs if planned.run.model == "linear"} == {
        "linear quantiles=0.1+0.5+0.9",
        "linear quantiles=0.2+0.5+0.8",
    }


def test_every_run_has_its_quantiles_and_points_have_one_row(tmp_path: Path):
    records = run_experiment(
        "auckland_pedestrians_tiny", output=tmp_path, settings=SETTINGS, device="cpu", **SMALL
    ).set_index("label")

    assert set(records.index) == {
        "naive",
        "seasonal_naive",
        "naive2",
        "linear calibration=none",
        "linear calibration=conformal",
    }
    assert (records["status"] == "ok").all(), records["reason"].tolist()
    assert records["coverage"].between(0, 1).all()
    none, conformal = (records["mse_scaled"][f"linear calibration={word}"] for word in ("none", "conformal"))
    assert none == pytest.approx(conformal)
