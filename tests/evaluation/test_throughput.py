"""What a forecaster costs: operations counted by hand, clocks and memory by what must be seen."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
import torch

from tsbench.data.windows import Windows
from tsbench.evaluation import throughput
from tsbench.evaluation.throughput import (
    PREDICT_BATCH_SIZE,
    Inference,
    PeakMemory,
    flops_per_window,
    measure_bare_step,
    measure_inference,
)
from tsbench.models.registry import model_specs
from tsbench.training.devices import give_memory_back
from tsbench.training.forecaster import Forecaster

UNTRAINED = ("naive", "seasonal_naive", "profile", "naive2")


def flops(model: str, channels: int = 1, **settings: Any) -> int:
    return flops_per_window(
        Forecaster(model, context_length=24, horizon=6, channels=channels, seasonality=24, **settings), channels
    )


# Operations: a product of [a, b] and [b, c] takes 2 a b c, multiplication and addition counted apart.


@pytest.mark.parametrize("channels", [1, 3])
def test_independent_channels_cost_one_map_each(channels: int):
    assert flops("linear", channels) == 2 * 24 * 6 * channels
    assert flops("dlinear", channels) == 2 * flops("linear", channels)


def test_mixing_channels_cost_one_map_of_all():
    assert flops("linear", channels=3, recipe={"channel_mode": "mixing"}) == 2 * (24 * 3) * (6 * 3)


@pytest.mark.parametrize(("model", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_a_recurrence_costs_its_gates(model: str, gates: int):
    # Four segments of 6 rows to embed, five steps of the recurrence (one decodes), one segment to map back.
    embedding, mapping = 4 * 2 * 6 * 16, 2 * 16 * 6
    one_gate = 2 * 16 * 16 + 2 * 16 * 16

    assert flops(model, hidden_size=16) == embedding + 5 * gates * one_gate + mapping


def test_attention_is_counted():
    tokens, width, hidden = 8, 16, 32
    projections = 4 * 2 * tokens * width * width
    attention = 2 * 2 * tokens * tokens * width
    feedforward = 2 * 2 * tokens * width * hidden
    ends = 2 * tokens * 3 * width + 2 * tokens * width * 6

    counted = flops("transformer", hidden_size=width, num_layers=1, feedforward_size=hidden)

    assert counted == projections + attention + feedforward + ends


@pytest.mark.parametrize("model", model_specs())
def test_operations_are_counted_wherever_there_are_weights(model: str):
    assert flops(model) > 0 or model in UNTRAINED


@pytest.mark.parametrize("model", [name for name in model_specs() if name not in UNTRAINED])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_count_does_not_depend_on_mode_precision_or_training(model: str, precision: str):
    forecaster = Forecaster(model, context_length=24, horizon=6, seasonality=24, recipe={"precision": precision})
    before = torch.get_rng_state()

    assert flops_per_window(forecaster, 1) == flops_per_window(forecaster.build(0).eval(), 1) == flops(model)
    assert torch.equal(torch.get_rng_state(), before)


# Clocks


class Sleeper:
    """Stands in for a forecaster whose every call takes two milliseconds, and the first three hundred."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def infer(self, context_BLC: torch.Tensor) -> None:
        time.sleep(0.002 if self.batches else 0.3)
        self.batches.append(len(context_BLC))


def windows(count: int) -> Windows:
    return Windows(torch.zeros(count + 10, 1), torch.arange(count), 5, 2)


def test_samples_are_of_whole_batches_then_of_single_windows_then_between_and_the_warm_up_does_not_count():
    sleeper = Sleeper()

    inference = measure_inference(sleeper, windows(1000), seconds=0)  # type: ignore[arg-type]

    sizes = [PREDICT_BATCH_SIZE, 1, 8, 64]
    assert sleeper.batches == [size for size in sizes for _ in range(8)]  # three to warm up, five to count
    assert len(inference.windows_per_second) == len(inference.latencies_ms) == 5
    assert all(2 <= latency < 250 for latency in inference.latencies_ms)
    assert all(256 / 0.25 < rate <= 256 / 0.002 for rate in inference.windows_per_second)


def test_a_part_smaller_than_a_batch_is_measured_whole():
    sleeper = Sleeper()

    measure_inference(sleeper, windows(9), seconds=0)  # type: ignore[arg-type]

    assert set(sleeper.batches) == {9, 1, 8}


def test_more_time_gives_more_samples_but_not_without_end():
    assert 5 < len(measure_inference(Sleeper(), windows(9), seconds=0.3).latencies_ms) <= 150  # type: ignore[arg-type]
    forecaster = Forecaster("naive", context_length=5, horizon=2).build(0)
    assert len(measure_inference(forecaster, windows(9), seconds=1).latencies_ms) == 200


def test_a_real_forecaster_has_positive_figures():
    forecaster = Forecaster("gru", context_length=5, horizon=2, hidden_size=8).build(0).eval()

    inference = measure_inference(forecaster, windows(300), seconds=0.05)

    assert min(inference.windows_per_second) > 0
    assert 0 < inference.latency_ms(50) <= inference.latency_ms(95)
    assert list(inference.by_batch_size) == [1, 8, 64, 256]
    assert inference.by_batch_size[256] == inference.median_windows_per_second
    assert inference.latency_quantiles_ms == sorted(inference.latency_quantiles_ms)
    assert inference.latency_quantiles_ms[10] == inference.latency_ms(50)


def test_summaries_are_medians_and_percentiles():
    inference = Inference(4, [1.0, 2.0, 9.0], [float(sample) for sample in range(101)], {2: 1.5})

    assert inference.median_windows_per_second == 2.0
    assert (inference.latency_ms(50), inference.latency_ms(95)) == (50.0, 95.0)


# The bare limit


def trained(model: str = "gru", max_steps: int = 4, **recipe: Any) -> tuple[Forecaster, Windows]:
    noise = Windows(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), torch.arange(150), 24, 6)
    recipe = {"max_steps": max_steps, "validate_every": max_steps, "batch_size": 32, **recipe}
    forecaster = Forecaster(model, context_length=24, horizon=6, channels=2, seasonality=24, recipe=recipe)
    return forecaster.fit_windows(noise, noise, seed=0), noise


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"precision": "bf16"},
        {"precision": "64"},
        {"quantiles": [0.1, 0.5, 0.9]},
        {"channel_mode": "mixing"},
        {"freeze": ["embed.*"], "groups": {"decoder.*": {"learning_rate": 0.1}}},
        {"batch_size": 400},  # more than there are windows
    ],
    ids=str,
)
def test_the_bare_step_is_timed_on_a_copy_and_leaves_weights_and_chance_alone(recipe: dict[str, Any]):
    forecaster, noise = trained(**recipe)
    weights = {name: value.clone() for name, value in forecaster.state_dict().items()}
    chance = torch.get_rng_state()

    assert measure_bare_step(forecaster, noise, seconds=0) > 0

    assert all(torch.equal(value, weights[name]) for name, value in forecaster.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert not forecaster.training


def test_a_training_reaches_about_the_bare_limit():
    forecaster, noise = trained(max_steps=150)
    chunks = forecaster.training_log.chunks[1:]
    step_ms = 1000 * sorted(seconds / steps for steps, seconds in chunks)[len(chunks) // 2]

    assert 0 < measure_bare_step(forecaster, noise) / step_ms < 1.5


@pytest.mark.parametrize("model", ["seasonal_naive", "ridge"])
def test_what_is_not_trained_in_steps_has_no_bare_limit(model: str):
    forecaster, noise = trained(model)

    assert measure_bare_step(forecaster, noise) is None


def test_a_copy_that_does_not_fit_into_memory_costs_the_measurement_and_not_the_run(monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    forecaster, noise = trained()
    monkeypatch.setattr(throughput, "make_optimizer", full)

    assert measure_bare_step(forecaster, noise) is None


# Memory

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the mark be reset")


@on_linux
def test_memory_that_was_used_and_given_back_is_seen():
    give_memory_back()  # as between runs: other tests may have told the allocator to keep what they freed
    with PeakMemory(torch.device("cpu")) as idle:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        torch.ones(50_000_000)  # 200 million bytes, gone at once

    assert busy.mib - idle.mib == pytest.approx(200e6 / 2**20, rel=0.1)
    assert busy.kind == "process RSS"


@on_linux
def test_memory_of_an_earlier_run_is_forgotten():
    torch.ones(50_000_000)
    give_memory_back()

    with PeakMemory(torch.device("cpu")) as later:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        torch.ones(50_000_000)

    assert later.mib < busy.mib - 100
