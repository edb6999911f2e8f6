"""With and without covariates: rows of one task, from a card to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsbench.api import explain_experiment, plan_experiment, run_experiment
from tsbench.bench.experiment import Experiment
from tsbench.bench.matching import num_parameters
from tsbench.bench.records import RecordStore
from tsbench.data.check import describe, write_card
from tsbench.data.datasets import load_dataset
from tsbench.data.readers import read_panel
from tsbench.data.windows import WindowShape
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

ROLES = {"targets": ["price"], "past": ["wind"], "known": ["load"], "calendar": ["hour"]}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card beside a file of prices that follow the load."""
    folder = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2024-01-01", periods=400, freq="h")
    load, wind = rng.normal(100, 10, 400), rng.normal(size=400)
    frame = pd.DataFrame({"date": stamps, "price": 2 * load + rng.normal(size=400), "load": load, "wind": wind})
    frame.to_csv(folder / "prices.csv", index=False)
    panel = read_panel(folder / "prices.csv", **ROLES)
    write_card(folder / "prices.toml", panel, folder / "prices.csv", ROLES)
    return folder / "prices.toml"


def experiment(card: Path, **changes: object) -> Experiment:
    content = {
        "datasets": [str(card)],
        "context_lengths": [24],
        "horizons": [6],
        "seeds": [0],
        "models": {"ridge": {}, "mlp": {"hidden_size": 8}},
        "recipe": {"covariates": ["none", "all"], "learning_rate": 0.01, "max_steps": 150},
    }
    return Experiment.model_validate({**content, **changes})


def test_a_card_with_roles_loads_to_the_panel_that_it_was_written_from(card: Path) -> None:
    panel = load_dataset(str(card))

    assert panel.fingerprint == read_panel(card.with_suffix(".csv"), **ROLES).fingerprint
    lines = list(describe(panel))
    assert {"targets: price", "past: wind", "known: load", "calendar: hour"} <= set(lines)


def test_with_and_without_are_two_rows_of_every_learned_model_and_one_of_the_others(card: Path) -> None:
    plan = plan_experiment(experiment(card)).plan

    assert [planned.label for planned in plan.runs] == [
        "naive",
        "seasonal_naive",
        "linear covariates=none",
        "linear covariates=all",
        "ridge covariates=none",
        "ridge covariates=all",
        "mlp covariates=none",
        "mlp covariates=all",
    ]
    assert len({planned.run.key() for planned in plan.runs}) == 8
    assert plan.differences == ["rows differ in covariates: none, all"]


def test_widths_are_matched_with_the_covariates_counted(card: Path) -> None:
    models = {"mlp": {}, "gru": {}}
    asked = experiment(card, models=models, match="parameters", num_parameters=20_000)

    for planned in plan_experiment(asked).plan.runs:
        spec = model_specs()[planned.run.model]
        if spec.widths:
            given = 4 if planned.run.recipe.covariates == "all" else 0  # wind, load, and two for the hour
            shape = WindowShape(24, 6, 1 + given, 1, 24, ahead=max(given - 1, 0))
            assert num_parameters(spec, shape, planned.run.arguments) == pytest.approx(20_000, rel=0.03)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_tells_what_known_values_are_worth_here_and_in_workers(card: Path, tmp_path: Path, workers: int) -> None:
    records = run_experiment(
        experiment(card), workers=workers, measure="shared", output=tmp_path, device="cpu", keep_forecasters=True
    ).set_index("label")

    assert set(records["status"]) == {"ok"}
    assert records["points_digest"].nunique() == 1
    for model in ("linear", "ridge", "mlp"):
        with_them, without = (records.loc[f"{model} covariates={word}"] for word in ("all", "none"))
        assert with_them["mse_scaled"] < 0.5 * without["mse_scaled"]
        assert with_them["num_parameters"] > without["num_parameters"]
        assert with_them["flops_per_window"] > without["flops_per_window"]
    record = next(iter(RecordStore(tmp_path)))
    assert record.data.covariates == {"past": ["wind"], "known": ["load"], "calendar": ["hour"]}
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- covariates, known: load" in report
    assert "rows differ in covariates: none, all" in report
    assert "<dt>Covariates, past</dt><dd>wind</dd>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    kept = [Forecaster.load(path) for path in sorted(tmp_path.glob("forecasters/*.pt"))]
    assert sorted(bool(forecaster.covariates) for forecaster in kept) == [False] * 5 + [True] * 3


def test_rows_with_and_without_can_be_explained(card: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="captum comes with the extra explain")

    found = explain_experiment(experiment(card), num_windows=4, output=tmp_path, device="cpu")

    assert {"mlp covariates=none", "mlp covariates=all"} <= set(found["label"])


def prices_without_and_with(shared_data: Path, output: Path, *models: str) -> pd.DataFrame:
    """Scaled test MSE on GEFCom2014 by model, a column each for none and all."""
    records = run_experiment("covariates", models=models, data_dirs=[shared_data], output=output, device="cpu")
    assert set(records["status"]) == {"ok"}
    learned = records[records["model"].isin(models)]
    return learned.pivot_table(index="model", columns="recipe.covariates", values="mse_scaled")


def test_known_loads_lower_the_error_of_electricity_prices(shared_data: Path, tmp_path: Path) -> None:
    found = prices_without_and_with(shared_data, tmp_path, "ridge")

    assert found.loc["ridge", "none"] == pytest.approx(0.1926, abs=5e-4)
    assert found.loc["ridge", "all"] == pytest.approx(0.1345, abs=5e-4)


@pytest.mark.slow
def test_known_loads_lower_the_error_of_every_learned_family(shared_data: Path, tmp_path: Path) -> None:
    families = [name for name, spec in model_specs().items() if spec.learned]

    found = prices_without_and_with(shared_data, tmp_path, *families)

    assert len(found) == len(families)
    assert (found["all"] < 0.9 * found["none"]).all()
