"""A mapped panel is scored as the same panel in memory: figures, digests, kept losses, diagnostics, audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.test_blocks_of_rows import CPU, panels_of
from tsbench.bench.records import Record, Run
from tsbench.bench.runner import Prepared, execute, fit_pack
from tsbench.data import blocks, mapped
from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByFractions, SplitByLast, SplitByOrigins, SplitRule
from tsbench.evaluation import accuracy
from tsbench.evaluation.accuracy import JoinedLosses, kept_losses, points_digest
from tsbench.evaluation.metrics import ErrorTotals, ItemTotals, seasonal_errors
from tsbench.models.registry import model_spec
from tsbench.training.forecaster import Forecaster
from tsbench.training.packed import PackingError
from tsbench.training.recipe import Recipe


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "STRETCH_VALUES", 150)
        patch.setattr(accuracy, "_DIGESTED", 50)
        for name, size in {"STRETCH_VALUES": 150, "_BLOCK_VALUES": 400, "_CHEST_VALUES": 2000}.items():
            patch.setattr(blocks, name, size)
        yield


def noisy_panels(lengths: list[int], folder: Path, split: SplitRule) -> tuple[Panel, Panel]:
    whole, in_parts = panels_of(lengths, folder, split)
    whole.values[:] = 50 + np.random.default_rng(0).normal(size=whole.values.shape)
    whole.values.tofile(folder / "values")
    return whole, in_parts


def run_of(panel: Panel, model: str, **recipe: Any) -> Run:
    return Run(
        dataset=panel.name,
        fingerprint=panel.fingerprint,
        context_length=12,
        horizon=4,
        seed=0,
        model=model,
        arguments=model_spec(model).resolve({}, "test"),
        recipe=Recipe(max_steps=20, validate_every=10, **recipe),
    )


def answer(panel: Panel, model: str, **recipe: Any) -> tuple[Record, dict[str, np.ndarray]]:
    return execute(run_of(panel, model, **recipe), Prepared.on(panel, CPU))


def leaves(content: Any, name: str = "") -> dict[str, Any]:
    """All numbers that lie in dicts and lists, by their way there."""
    if not isinstance(content, (dict, list)):
        return {name: content} if isinstance(content, (int, float)) else {}
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    return {key: leaf for part, inner in pairs for key, leaf in leaves(inner, f"{name}.{part}").items()}


SPLITS = [SplitByFractions(), SplitByLast(test=40), SplitByOrigins(horizon=4, windows=3, stride=9)]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.by)
@pytest.mark.parametrize("lengths", [[600], [150, 300, 210]], ids=["one item", "items"])
def test_a_model_without_training_has_the_same_record(tmp_path: Path, lengths: list[int], split: SplitRule):
    panels = noisy_panels(lengths, tmp_path, split)
    (whole, arrays), (in_parts, arrays_in_parts) = (answer(panel, "naive") for panel in panels)

    assert (whole.status, whole.reason) == (in_parts.status, in_parts.reason) == ("ok", "")
    assert whole.metrics
    assert in_parts.metrics
    assert whole.diagnostics
    assert in_parts.diagnostics
    assert in_parts.metrics.points_digest == whole.metrics.points_digest
    assert in_parts.metrics.note == whole.metrics.note
    assert in_parts.audit == whole.audit
    assert in_parts.audit.scaler_is_blind
    assert in_parts.audit.forecasts_are_blind
    assert in_parts.data == whole.data.model_copy(update={"title": "mapped"})
    expected, found = (leaves(record.metrics.model_dump()) for record in (whole, in_parts))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for name, table in whole.diagnostics.model_dump().items():
        np.testing.assert_equal(in_parts.diagnostics.model_dump()[name], table)
    assert arrays.keys() == arrays_in_parts.keys()
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(arrays_in_parts[name], array, rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(arrays_in_parts[name], array, err_msg=name)


@pytest.mark.parametrize("recipe", [{}, {"quantiles": [0.1, 0.5, 0.9], "calibration": "conformal"}])
def test_a_network_trains_and_a_closed_form_is_solved(tmp_path: Path, recipe: dict[str, Any]):
    whole, in_parts = noisy_panels([900], tmp_path, SPLITS[0])

    solved, solved_in_parts = (answer(panel, "ridge", **recipe)[0].metrics for panel in (whole, in_parts))
    assert solved_in_parts.mse_scaled == pytest.approx(solved.mse_scaled, rel=1e-6)
    record, _ = answer(in_parts, "gru", **recipe)
    assert record.status == "ok", record.reason
    assert record.cost.windows_seen == 20 * 64
    assert record.metrics.mse_scaled == pytest.approx(answer(whole, "gru", **recipe)[0].metrics.mse_scaled, rel=0.2)


def test_training_twice_gives_the_same_weights_and_norms_of_gradients_can_be_kept(tmp_path: Path):
    _, panel = noisy_panels([900], tmp_path, SPLITS[0])

    def trained() -> Forecaster:
        forecaster = Forecaster(
            "linear", context_length=12, horizon=4, recipe={"max_steps": 30, "gradient_norms": True}
        )
        return forecaster.fit(panel.train, panel.validation, seed=3, device="cpu")

    first, second = trained(), trained()
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
    assert len(first.training_log.gradients[0]["by_row"]) == 12
    assert len(first.predict(panel)) == 4 * 2


def test_what_reads_all_history_and_what_trains_seeds_together_says_no(tmp_path: Path):
    _, panel = noisy_panels([900], tmp_path, SPLITS[0])
    record, _ = answer(panel, "naive2")
    assert record.status == "failed"
    assert "reads all rows of an item" in record.reason
    prepared, runs = Prepared.on(panel, CPU), [run_of(panel, "linear"), run_of(panel, "linear")]
    with pytest.raises(PackingError, match="the panel is mapped"):
        fit_pack(runs, prepared, prepared.windows(runs[0]))


@pytest.mark.parametrize("shift", [0, 7], ids=["one clock", "clocks that do not meet"])
def test_joined_losses_are_those_that_are_kept_of_every_window(tmp_path: Path, shift: int):
    whole, panel = noisy_panels([150, 300, 210], tmp_path, SPLITS[0])
    firsts = panel.timestamps.firsts + np.array([0, 48 * 3600, 5 * 3600 + shift]).astype("timedelta64[s]")
    stamps = mapped.RegularStamps("h", firsts, panel.offsets)
    whole, panel = replace(whole, timestamps=stamps[:]), replace(panel, timestamps=stamps)
    loss_N = np.random.default_rng(1).random(len(panel.test.starts(12, 4)))
    counts = np.bincount(panel.test.window_starts(12, 4).at(np.arange(len(loss_N)))[1])
    nothing = [np.zeros((3, 2))] * 8

    def totals(squared: np.ndarray, absolute: np.ndarray, **rest: Any) -> ErrorTotals:
        shares = np.ones_like(squared)
        return ErrorTotals(*[np.zeros((4, 2))] * 6, squared, absolute, shares, ItemTotals(counts, *nothing), **rest)

    for limit in (2048, 10):
        joined = JoinedLosses(panel.test, 12, 4, limit)
        for low in range(0, len(loss_N), 13):
            joined.add(low, np.stack([loss_N, 2 * loss_N])[:, low : low + 13])
        kept = kept_losses(totals(*joined.sums_2M, is_joined=True), panel.test, 12, 4, limit)
        expected = kept_losses(totals(loss_N, 2 * loss_N), whole.test, 12, 4, limit)
        for name, array in expected.items():
            np.testing.assert_allclose(kept[name], array, rtol=1e-6)


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.by)
def test_seasonal_errors_and_the_digest_of_points_are_those_of_the_whole(tmp_path: Path, split: SplitRule):
    whole, panel = noisy_panels([150, 300, 210], tmp_path, split)

    assert points_digest(panel.test, 12, 4) == points_digest(whole.test, 12, 4)
    expected, found = seasonal_errors(whole.test, 12, 4), seasonal_errors(panel.test, 12, 4)
    np.testing.assert_allclose(found.absolute_GC, expected.absolute_GC, rtol=1e-12)
    np.testing.assert_allclose(found.squared_GC, expected.squared_GC, rtol=1e-12)
