"""Training: budget, schedule, steps worked out by hand, early stopping, and what is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.synthetic import synthetic_panel
from tsbench.data.windows import Windows, shuffled_picks
from tsbench.errors import ConfigError, Diverged
from tsbench.evaluation.accuracy import evaluate
from tsbench.models.registry import model_specs
from tsbench.training.devices import set_precision
from tsbench.training.fit import ChunkStream, Progress
from tsbench.training.forecaster import Forecaster
from tsbench.training.recipe import Recipe

LEARNED = [name for name in model_specs() if name not in ("naive", "seasonal_naive", "profile", "naive2")]

Train = Callable[..., Forecaster]


def weights(forecaster: Forecaster) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in forecaster.parameters()])


def windows_of(panel: Panel, part: str, context_length: int = 24, horizon: int = 6) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    return Windows.of(getattr(panel, part), values_TC, context_length, horizon)


def all_of(windows: Windows) -> tuple[Tensor, Tensor]:
    return windows.batch(torch.arange(len(windows)))


# Seeds


@pytest.mark.parametrize("model", LEARNED)
def test_the_same_seed_gives_the_same_bits(model: str, small_panel: Panel, train: Train):
    recipe = {"max_steps": 6, "validate_every": 3, "batch_size": 8}

    one, same, other = (train(model, seed=seed, recipe=recipe) for seed in (0, 0, 1))

    assert torch.equal(weights(one), weights(same))
    assert one.predict(small_panel).equals(same.predict(small_panel))
    if "ridge" not in model:  # solved, not drawn
        assert not torch.equal(weights(one), weights(other))


class SameStart(Forecaster):
    """Begins with the same weights, whatever the seed."""

    def build(self, seed: int) -> Forecaster:
        return super().build(0)


def test_the_seed_orders_the_windows_too(small_panel: Panel):
    recipe = {"max_steps": 1, "batch_size": 4}
    one, other = (
        SameStart("linear", context_length=24, horizon=6, recipe=recipe).fit(
            small_panel.train, small_panel.validation, seed=seed
        )
        for seed in (0, 1)
    )

    assert one.training_log.curve[0]["train_loss"] != other.training_log.curve[0]["train_loss"]


# Learning


@pytest.mark.parametrize("model", ["linear", "dlinear", "mlp"])
def test_a_series_of_known_structure_is_learned_nearly_down_to_its_noise(model: str):
    panel = synthetic_panel(num_rows=3000, num_channels=2, seed=1)
    scaler, test = Scaler.fit(panel.train), windows_of(panel, "test", 168, 12)

    def mean_squared_error(name: str, **recipe: Any) -> float:
        forecaster = Forecaster(name, context_length=168, horizon=12, recipe=recipe)
        totals = evaluate(forecaster.fit(panel.train, panel.validation), test, scaler)
        return float((totals.squared_HC / totals.num_windows * scaler.std**2).mean())

    error = mean_squared_error(model, max_steps=600, learning_rate=5e-3)

    assert 0.09 < error < 1.12 * 0.09  # noise of 0.3, squared, is the least that can be had
    assert error < 0.4 * mean_squared_error("seasonal_naive")


def test_the_weights_that_are_kept_are_those_of_the_smallest_validation_loss(small_panel: Panel, train: Train):
    recipe = {"max_steps": 40, "validate_every": 4, "patience": 40, "learning_rate": 0.1, "schedule": "constant"}

    forecaster = train("mlp", recipe=recipe)

    log, (context_BLC, target_BHC) = forecaster.training_log, all_of(windows_of(small_panel, "validation"))
    losses = [look["val_loss"] for look in log.curve]
    assert log.best_step < log.steps, "the last weights are the best: this would show nothing"
    assert log.best_step == log.curve[int(np.argmin(losses))]["step"]
    assert F.mse_loss(forecaster.infer(context_BLC), target_BHC).item() == pytest.approx(min(losses), rel=1e-5)


def test_the_validation_loss_is_a_mean_over_windows_not_over_batches():
    panel = synthetic_panel(num_rows=2900, num_channels=1)  # 286 validation windows: a batch of 256 and one of 30
    forecaster = Forecaster("linear", context_length=24, horizon=6, recipe={"max_steps": 1})

    forecaster.fit(panel.train, panel.validation)

    context_BLC, target_BHC = all_of(windows_of(panel, "validation"))
    expected = F.mse_loss(forecaster.infer(context_BLC), target_BHC).item()
    assert len(context_BLC) == 286
    assert forecaster.training_log.curve[0]["val_loss"] == pytest.approx(expected, rel=1e-6)


def test_the_training_loss_is_a_mean_over_the_steps_since_the_look_before(small_panel: Panel, train: Train):
    # With hardly a step taken, each loss is that of the first weights.
    recipe = {"max_steps": 4, "validate_every": 2, "batch_size": 8, "learning_rate": 1e-20, "optimizer": "sgd"}

    forecaster, windows = train(recipe=recipe), windows_of(small_panel, "train")

    batches = [windows.batch(picks_B) for picks_B in shuffled_picks(len(windows), 8, 4, seed=0)]
    losses = [F.mse_loss(forecaster.infer(context_BLC), target_BHC).item() for context_BLC, target_BHC in batches]
    told = [look["train_loss"] for look in forecaster.training_log.curve]
    assert told == pytest.approx([(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2], rel=1e-5)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_so_many_looks_without_a_new_best(patience: int, train: Train):
    recipe = {"max_steps": 400, "validate_every": 2, "learning_rate": 0.1, "schedule": "constant"}

    log = train("mlp", recipe={**recipe, "patience": patience}).training_log

    best = int(np.argmin([look["val_loss"] for look in log.curve]))
    assert log.steps < 400
    assert len(log.curve) - 1 - best == patience
    assert log.steps == 2 * len(log.curve)


# The budget


@pytest.mark.parametrize(
    ("max_steps", "validate_every", "looks"),
    [
        (1, 100, [1]),
        (7, 7, [7]),
        (10, 3, [3, 6, 9, 10]),
        (60, 25, [25, 50, 60]),
        (57, 40, [40, 57]),
    ],
)
def test_the_budget_is_spent_to_the_step(max_steps: int, validate_every: int, looks: list[int], train: Train):
    recipe = {"max_steps": max_steps, "validate_every": validate_every, "batch_size": 5, "patience": 99}

    forecaster = train(recipe=recipe)

    log = forecaster.training_log
    optimizer_steps = {int(state["step"]) for state in forecaster.trainer.optimizers[0].state.values()}
    assert optimizer_steps == {max_steps}
    assert (log.steps, log.windows_seen) == (max_steps, 5 * max_steps)
    assert [look["step"] for look in log.curve] == looks
    assert sum(steps for steps, _ in log.chunks) == max_steps


def test_the_cosine_is_half_way_down_in_the_middle_and_at_zero_in_the_end(train: Train):
    rates: dict[int, float] = {}

    def look(progress: Progress) -> None:
        rates[progress.step] = forecaster.trainer.optimizers[0].param_groups[0]["lr"]

    recipe = {"max_steps": 50, "validate_every": 25, "learning_rate": 0.004}
    forecaster = Forecaster("linear", context_length=24, horizon=6, recipe=recipe)
    panel = synthetic_panel(num_rows=400, num_channels=2)
    forecaster.fit(panel.train, panel.validation, tell=look)

    assert (rates[25], rates[50]) == pytest.approx((0.002, 0.0), abs=1e-12)


def test_a_constant_rate_stays(train: Train):
    forecaster = train(recipe={"max_steps": 50, "learning_rate": 0.004, "schedule": "constant"})

    assert forecaster.trainer.optimizers[0].param_groups[0]["lr"] == 0.004


def test_progress_is_told_after_each_chunk(train: Train):
    told: list[Progress] = []

    log = train(recipe={"max_steps": 60, "validate_every": 40}, tell=told.append).training_log

    steps = [progress.step for progress in told]
    assert steps == list(accumulate(steps for steps, _ in log.chunks))
    assert {40, 60} <= set(steps)
    assert all(progress.max_steps == 60 for progress in told)
    assert all(progress.loss > 0 and progress.windows_per_second > 0 for progress in told)


@pytest.mark.parametrize(("seconds_per_step", "steps"), [(0.01, 10), (0.001, 40), (3.0, 1)])
def test_a_chunk_takes_about_a_tenth_of_a_second_and_ends_at_a_look(
    seconds_per_step: float, steps: int, small_panel: Panel
):
    stream = ChunkStream(windows_of(small_panel, "train"), Recipe(max_steps=200, validate_every=40), seed=0)
    stream.pace(seconds_per_step)

    chunks = [len(chunk.picks_KB) for chunk in stream]

    assert sum(chunks) == 40
    assert set(chunks) == {steps}


def test_how_long_chunks_are_does_not_change_what_is_trained_on(small_panel: Panel):
    recipe = Recipe(max_steps=50, validate_every=20, batch_size=8)
    slow, fast = (ChunkStream(windows_of(small_panel, "train"), recipe, seed=0) for _ in range(2))
    slow.pace(0.05)
    fast.pace(0.001)

    passes = [[torch.cat([chunk.picks_KB for chunk in stream]) for _ in range(3)] for stream in (slow, fast)]

    assert [len(picks_KB) for picks_KB in passes[0]] == [20, 20, 10]
    assert all(torch.equal(a, b) for a, b in zip(*passes, strict=True))


def test_the_clocks_of_training_and_validation_are_apart(train: Train):
    log = train(recipe={"max_steps": 50, "validate_every": 10}).training_log

    assert log.train_seconds == pytest.approx(sum(seconds for _, seconds in log.chunks))
    assert log.validate_seconds > 0
    assert log.curve[-1]["seconds"] >= log.train_seconds + log.validate_seconds


# One step, by hand

FIRST_STEP = {"max_steps": 1, "batch_size": 8, "schedule": "constant", "learning_rate": 0.01, "weight_decay": 0.0}


def first_gradient(panel: Panel, loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss) -> tuple[Tensor, Tensor]:
    """Weights of a linear forecaster before its first step, and their gradient on its first batch."""
    forecaster, windows = Forecaster("linear", context_length=24, horizon=6).build(0), windows_of(panel, "train")
    (picks_B,) = shuffled_picks(len(windows), 8, 1, seed=0)
    context_BLC, target_BHC = windows.batch(picks_B)
    loss(forecaster(context_BLC), target_BHC).backward()
    return weights(forecaster), torch.cat([parameter.grad.flatten() for parameter in forecaster.parameters()])


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "step"),
    [
        ("sgd", 0.0, lambda before, g: before - 0.01 * (g + 0.9 * g)),  # Nesterov: the first momentum is g itself
        ("sgd", 0.1, lambda before, g: before - 0.01 * 1.9 * (g + 0.1 * before)),
        ("adam", 0.0, lambda before, g: before - 0.01 * g.sign()),  # m / sqrt(v) of one gradient is its sign
        ("adam", 0.1, lambda before, g: before - 0.01 * (g + 0.1 * before).sign()),
        ("adamw", 0.1, lambda before, g: before * (1 - 0.01 * 0.1) - 0.01 * g.sign()),
    ],
)
def test_the_first_step_of_each_optimizer(
    optimizer: str, weight_decay: float, step: Callable[..., Tensor], small_panel: Panel, train: Train
):
    before, gradient = first_gradient(small_panel)

    recipe = {**FIRST_STEP, "optimizer": optimizer, "weight_decay": weight_decay, "gradient_clip": None}

    torch.testing.assert_close(weights(train(recipe=recipe)), step(before, gradient), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("clip", [1e-3, 1e-1, 1e6])
def test_a_gradient_longer_than_the_clip_is_shortened_to_it(clip: float, small_panel: Panel, train: Train):
    before, gradient = first_gradient(small_panel)
    norm = float(gradient.norm())
    assert 1e-1 < norm < 1e6, "two of the three clips are to take hold"

    after = weights(train(recipe={**FIRST_STEP, "optimizer": "sgd", "gradient_clip": clip}))

    assert float((after - before).norm()) == pytest.approx(1.9 * 0.01 * min(norm, clip), rel=1e-2)


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        ("mse", lambda error: error.square().mean()),
        ("mae", lambda error: error.abs().mean()),
        ("huber", lambda error: torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5).mean()),
    ],
)
def test_the_loss_is_what_its_name_says(
    loss: str, by_hand: Callable[[Tensor], Tensor], small_panel: Panel, train: Train
):
    before, gradient = first_gradient(small_panel, lambda forecast, target: by_hand(forecast - target))

    forecaster = train(recipe={**FIRST_STEP, "loss": loss, "optimizer": "sgd", "gradient_clip": None})

    context_BLC, target_BHC = all_of(windows_of(small_panel, "validation"))
    on_validation = by_hand(forecaster.infer(context_BLC) - target_BHC)
    torch.testing.assert_close(weights(forecaster), before - 0.019 * gradient, rtol=1e-4, atol=1e-6)
    assert forecaster.training_log.curve[0]["val_loss"] == pytest.approx(float(on_validation), rel=1e-5)


# Precision


def dtypes_inside(forecaster: Forecaster) -> set[torch.dtype]:
    """Of weights, of what the model's layers give, and of the forecast."""
    seen = {parameter.dtype for parameter in forecaster.parameters()}
    forecaster.model.head.linear.register_forward_hook(lambda _, args, output: seen.add(output.dtype))
    return seen | {forecaster.infer(torch.randn(2, 24, 2)).dtype} | seen


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("32", {torch.float32}),
        ("64", {torch.float64}),
        ("bf16", {torch.float32, torch.bfloat16}),  # weights and forecast in single, products in half precision
    ],
)
def test_precision_is_what_its_name_says(precision: str, expected: set[torch.dtype], train: Train):
    forecaster = train("mlp", recipe={"max_steps": 3, "precision": precision})

    assert dtypes_inside(forecaster) == expected
    assert np.isfinite(forecaster.training_log.curve[0]["val_loss"])


def test_bf16_trains_in_half_precision(train: Train):
    recipe = {"max_steps": 5}
    single, half = train(recipe=recipe), train(recipe={**recipe, "precision": "bf16"})

    assert not torch.equal(weights(single), weights(half))
    torch.testing.assert_close(weights(single), weights(half), rtol=0.05, atol=0.005)


@pytest.mark.parametrize("precision", ["64", "bf16"])
@pytest.mark.parametrize("model", model_specs())
def test_every_model_trains_and_forecasts_in_every_precision(
    model: str, precision: str, small_panel: Panel, train: Train
):
    recipe = {"max_steps": 2, "validate_every": 1, "batch_size": 4, "precision": precision, "instance_norm": "none"}

    assert train(model, recipe=recipe).predict(small_panel)["forecast"].notna().all()


@pytest.mark.parametrize("precision", ["16", "tf32"])
def test_what_needs_a_gpu_is_refused_on_a_cpu_with_what_to_use(precision: str, train: Train):
    with pytest.raises(ConfigError, match=f"--precision {precision} needs a GPU; on a CPU use 32, bf16 or 64"):
        train(recipe={"precision": precision})


@pytest.fixture
def tf32() -> Iterator[Callable[[], tuple[bool, bool]]]:
    """Whether products and cuDNN may use it; no monkeypatch, because these are no ordinary attributes."""
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = products.allow_tf32, cudnn.allow_tf32
    yield lambda: (products.allow_tf32, cudnn.allow_tf32)
    products.allow_tf32, cudnn.allow_tf32 = kept


def test_a_gpu_multiplies_in_tf32_where_it_was_asked_for_and_nowhere_else(tf32: Callable[[], tuple[bool, bool]]):
    for precision, allowed in (("tf32", True), ("32", False), ("tf32", True), ("bf16", False)):
        set_precision(Recipe(precision=precision), torch.device("cuda"))

        assert tf32() == (allowed, allowed)


# What goes wrong


def test_a_loss_beyond_the_finite_numbers_is_told_as_diverged(train: Train):
    recipe = {"optimizer": "sgd", "learning_rate": 1e30, "max_steps": 50, "validate_every": 10}

    with pytest.raises(Diverged, match=r"left the finite numbers before step 10 \(.*\); try a smaller learning_rate"):
        train(recipe=recipe)


def test_an_interrupt_comes_through_and_the_next_one_would_too(train: Train):
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tell=interrupt)

    assert signal.getsignal(signal.SIGINT) is before


def test_training_says_nothing_of_its_own(
    train: Train, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
):
    train(recipe={"max_steps": 2})

    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
