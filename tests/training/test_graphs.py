"""Steps as graphs: what is captured is what would be done, and what cannot be captured is done anyway.

A stand-in takes the place of CUDA: it records a step without doing it, and does it when it is replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.training import forecaster as forecaster_module
from tsbench.training import packed as packed_module
from tsbench.training.forecaster import Forecaster
from tsbench.training.graphs import CAPTURED, Step, StepGraph, step_graph
from tsbench.training.packed import fit_together

CPU = torch.device("cpu")


class StandIn:
    """Captures for later, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.aside_steps = self.captures = self.replays = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.aside_steps += 1
        yield

    def capture(self, step: Step, picks: Tensor) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        if self.error:
            raise self.error
        loss = torch.zeros(picks.shape[:-1])

        def replay() -> None:
            self.replays += 1
            loss.copy_(step(picks))

        return replay, loss


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandIn], None]:
    """Give every training this capturer."""

    def give(stand_in: StandIn) -> None:
        def graph(step: Step, device: torch.device, why_not: str = "", generators: Any = ()) -> StepGraph:
            return StepGraph(step, stand_in, why_not)

        for module in (forecaster_module, packed_module):
            monkeypatch.setattr(module, "step_graph", graph)

    return give


def curve(forecaster: Forecaster) -> list[tuple[float, ...]]:
    return [(look["step"], look["train_loss"], look["val_loss"]) for look in forecaster.training_log.curve]


def fit(panel: Panel, model: str = "gru", **recipe: Any) -> Forecaster:
    recipe = {"max_steps": 20, "validate_every": 5, "batch_size": 8, **recipe}
    forecaster = Forecaster(model, context_length=24, horizon=6, recipe=recipe)
    return forecaster.fit(panel.train, panel.validation, device="cpu")


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_captured_step_trains_as_an_ordinary_one(optimizer: str, small_panel: Panel, use: Callable[[StandIn], None]):
    ordinary, stand_in = fit(small_panel, optimizer=optimizer), StandIn()
    use(stand_in)

    captured = fit(small_panel, optimizer=optimizer)

    assert curve(captured) == curve(ordinary)
    assert (stand_in.aside_steps, stand_in.captures, stand_in.replays) == (3, 1, 17)
    assert captured.training_log.graph == CAPTURED
    assert ordinary.training_log.graph == ""


def test_a_capture_that_fails_costs_nothing_but_the_graph_and_says_why(
    small_panel: Panel, use: Callable[[StandIn], None]
):
    ordinary, stand_in = fit(small_panel), StandIn(RuntimeError("operation not permitted\nwhen stream is capturing"))
    use(stand_in)

    fallen_back = fit(small_panel)

    assert curve(fallen_back) == curve(ordinary)
    assert (stand_in.captures, stand_in.replays) == (1, 0), "tried once"
    assert fallen_back.training_log.graph == "RuntimeError: operation not permitted"


def test_what_is_known_against_a_capture_is_not_tried(small_panel: Panel, use: Callable[[StandIn], None]):
    stand_in = StandIn()
    use(stand_in)

    log = fit(small_panel, gradient_norms=True).training_log

    assert (stand_in.captures, stand_in.aside_steps) == (0, 0)
    assert "norms of gradients work step by step" in log.graph


def test_a_pack_is_captured_anew_when_a_seed_leaves(small_panel: Panel, use: Callable[[StandIn], None]):
    recipe = {"max_steps": 120, "validate_every": 6, "patience": 1, "learning_rate": 0.05, "schedule": "constant"}
    values_TC = torch.from_numpy(Scaler.fit(small_panel.train).apply(small_panel.values))
    windows = {part: Windows.of(getattr(small_panel, part), values_TC, 24, 6) for part in ("train", "validation")}

    def together() -> list[Forecaster]:
        pack = [Forecaster("mlp", context_length=24, horizon=6, recipe=recipe) for _ in range(4)]
        assert fit_together(pack, windows["train"], windows["validation"], seeds=range(4)) == [None] * 4
        return pack

    ordinary, stand_in = together(), StandIn()
    use(stand_in)
    captured = together()

    steps = {member.training_log.steps for member in ordinary}
    assert len(steps) > 1, "all leave together: this would show nothing"
    assert stand_in.captures == len(steps)
    assert [curve(member) for member in captured] == [curve(member) for member in ordinary]


def test_on_a_cpu_nothing_is_captured():
    assert step_graph(lambda picks: picks, CPU).capturer is None


class ReadsNothingBack(TorchDispatchMode):
    """Refuses to hand a number on the device to the host, for which a GPU would be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert "_local_scalar_dense" not in name, name
        assert "nonzero" not in name, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["linear", "mlp", "rnn", "lstm", "gru", "cnn", "tcn", "transformer"])
@pytest.mark.parametrize("together", [False, True])
def test_a_step_waits_for_nothing(together: bool, model: str, small_panel: Panel, monkeypatch: pytest.MonkeyPatch):
    watched = []

    def graph(step: Step, device: torch.device, why_not: str = "", generators: Any = ()) -> StepGraph:
        def watch(picks: Tensor) -> Tensor:
            with ReadsNothingBack():
                watched.append(step(picks))
            return watched[-1]

        return StepGraph(watch, StandIn(), "not captured: watched")

    for module in (forecaster_module, packed_module):
        monkeypatch.setattr(module, "step_graph", graph)
    values_TC = torch.from_numpy(Scaler.fit(small_panel.train).apply(small_panel.values))
    windows = {part: Windows.of(getattr(small_panel, part), values_TC, 24, 6) for part in ("train", "validation")}
    pack = [Forecaster(model, context_length=24, horizon=6, recipe={"max_steps": 2}) for _ in range(2)]

    if together:
        fit_together(pack, windows["train"], windows["validation"], seeds=[0, 1])
    else:
        pack[0].fit_windows(windows["train"], windows["validation"], seed=0)

    assert len(watched) == 2


def test_a_learning_rate_in_a_tensor_falls_as_a_number_does():
    """As on a GPU, where a captured step reads it from there."""
    weight = torch.nn.Parameter(torch.ones(3))
    rates = {}
    for name, rate in (("number", 0.01), ("tensor", torch.tensor(0.01))):
        optimizer = torch.optim.AdamW([{"params": [weight], "lr": rate}], lr=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=600)
        rates[name] = []
        for _ in range(600):
            rates[name].append(float(optimizer.param_groups[0]["lr"]))
            weight.grad = torch.ones(3)
            optimizer.step()
            schedule.step()
        if name == "tensor":
            assert optimizer.param_groups[0]["lr"] is rate, "the very tensor that a graph would read"

    assert rates["tensor"] == pytest.approx(rates["number"], rel=1e-3, abs=1e-9)
