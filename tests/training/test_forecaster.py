"""The forecaster: what it does to a window before and after the model, and how it is used in a script."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tsbench.data.panel import Panel
from tsbench.data.splits import SplitByLast
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import ConfigError, DataError, MachineError
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

UNTRAINED = ("naive", "seasonal_naive", "profile", "naive2")
LEARNED = [name for name in model_specs() if name not in UNTRAINED]
DRAWN = [name for name in LEARNED if "ridge" not in name]
"""Models that forecast something before they are fitted."""
quiet_lightning = pytest.mark.filterwarnings("ignore:::lightning.*")
TINY = {"max_steps": 3, "validate_every": 3, "batch_size": 8}

Train = Callable[..., Forecaster]


def build(model: str, *, recipe: dict[str, Any] | None = None, channels: int = 3, seed: int = 0) -> Forecaster:
    """A forecaster of 6 rows from 24 with untrained weights."""
    made = Forecaster(model, context_length=24, horizon=6, channels=channels, seasonality=24, recipe=recipe)
    return made.build(seed).eval()


def random_context(channels: int = 3) -> Tensor:
    return torch.randn(4, 24, channels, generator=torch.Generator().manual_seed(0))


# Instance normalisation and channels


@pytest.mark.parametrize(
    ("instance_norm", "seen", "forecast"),
    [
        # Of a window 1, 2, 6: mean 3, mean square distance from it 14/3. The model answers 5 whatever it sees.
        ("none", [1, 2, 6], 5),
        ("last", [-5, -4, 0], 5 + 6),
        ("mean", [-2, -1, 3], 5 + 3),
        ("revin", [-2 / (14 / 3) ** 0.5, -1 / (14 / 3) ** 0.5, 3 / (14 / 3) ** 0.5], 5 * (14 / 3) ** 0.5 + 3),
    ],
)
def test_what_is_taken_off_the_window_is_put_back_on_the_forecast(
    instance_norm: str, seen: list[float], forecast: float
):
    forecaster = Forecaster("linear", context_length=3, horizon=1, recipe={"instance_norm": instance_norm}).build(0)
    with torch.no_grad():
        forecaster.model.head.linear.weight.zero_()
        forecaster.model.head.linear.bias.fill_(5)
    inputs: list[Tensor] = []
    forecaster.model.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))

    answer = forecaster(torch.tensor([[[1.0], [2.0], [6.0]]]))

    torch.testing.assert_close(inputs[0].flatten(), torch.tensor(seen, dtype=torch.float32))
    assert answer.item() == pytest.approx(forecast, rel=1e-5)


def test_a_window_that_stands_still_gives_a_finite_forecast():
    for instance_norm in ("revin", "mean", "last", "none"):
        assert build("linear", recipe={"instance_norm": instance_norm})(torch.ones(2, 24, 3)).isfinite().all()


@pytest.mark.parametrize("model", LEARNED)
@pytest.mark.parametrize("channel_mode", ["independent", "mixing"])
def test_a_normalised_forecaster_follows_scale_and_shift(model: str, channel_mode: str):
    forecaster, context_BLC = build(model, recipe={"channel_mode": channel_mode}), random_context()
    scale_C, shift_C = torch.tensor([0.5, 1.0, 20.0]), torch.tensor([7.0, -3.0, 0.0])

    expected_BHC = forecaster.infer(context_BLC) * scale_C + shift_C

    torch.testing.assert_close(forecaster.infer(context_BLC * scale_C + shift_C), expected_BHC, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", LEARNED)
@pytest.mark.parametrize("instance_norm", ["mean", "last"])
def test_mean_and_last_follow_a_shift(model: str, instance_norm: str):
    forecaster, context_BLC = build(model, recipe={"instance_norm": instance_norm}), random_context()

    expected_BHC = forecaster.infer(context_BLC) + 7

    torch.testing.assert_close(forecaster.infer(context_BLC + 7), expected_BHC, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", [name for name in DRAWN if name != "nlinear"])  # which takes the last value off
def test_without_normalisation_a_forecaster_follows_neither(model: str):
    forecaster, context_BLC = build(model, recipe={"instance_norm": "none"}), random_context()

    moved = forecaster.infer(context_BLC + 7) - forecaster.infer(context_BLC)

    assert (moved - 7).abs().mean() > 0.1


@pytest.mark.parametrize("model", model_specs())
def test_independent_channels_may_change_places(model: str):
    forecaster, context_BLC = build(model), random_context()

    swapped_BHC = forecaster.infer(context_BLC[:, :, [2, 0, 1]])

    torch.testing.assert_close(swapped_BHC, forecaster.infer(context_BLC)[:, :, [2, 0, 1]])


def what_the_first_channel_hears_of_the_others(model: str, recipe: dict[str, Any]) -> float:
    forecaster, context_BLC = build(model, recipe=recipe), random_context()
    changed_BLC = context_BLC.clone()
    changed_BLC[:, :, 1:] = context_BLC[:, :, 1:].flip(1)
    return float((forecaster.infer(changed_BLC) - forecaster.infer(context_BLC))[:, :, 0].abs().max())


@pytest.mark.parametrize("model", DRAWN)
def test_only_mixing_lets_a_channel_hear_of_the_others(model: str):
    assert what_the_first_channel_hears_of_the_others(model, {"channel_mode": "mixing"}) > 1e-3
    assert what_the_first_channel_hears_of_the_others(model, {"channel_mode": "independent"}) < 1e-6


@pytest.mark.parametrize("model", UNTRAINED)
def test_naive_forecasters_have_no_use_for_a_recipe(model: str):
    usual, context_BLC = build(model), random_context()

    for recipe in ({"instance_norm": "none"}, {"instance_norm": "last", "channel_mode": "mixing"}):
        assert torch.equal(build(model, recipe=recipe).infer(context_BLC), usual.infer(context_BLC))


# In a script


@pytest.fixture
def two_shops() -> Panel:
    """Two items of 40 and 60 months, two channels each: values name their item, row and channel."""
    months = [pd.date_range(start, periods=rows, freq="MS") for start, rows in (("2015-01-01", 40), ("2018-03-01", 60))]
    rows = [np.arange(len(stamps))[:, None] + [0, 0.5] for stamps in months]
    return Panel(
        name="shops",
        values=np.concatenate([rows[0] + 1000, rows[1] + 2000]).astype(np.float32),
        timestamps=np.concatenate([stamps.to_numpy(dtype="datetime64[ns]") for stamps in months]),
        channels=("sold", "returned"),
        freq="MS",
        seasonality=1,
        items=("north", "south"),
        offsets=np.array([0, 40, 100]),
    )


def test_a_forecast_is_a_table_in_original_units_on_the_clock_of_each_item(two_shops: Panel):
    forecaster = Forecaster("naive", context_length=4, horizon=3).fit(two_shops.train, two_shops.validation)

    frame = forecaster.predict(two_shops)

    assert list(frame.columns) == ["item", "timestamp", "channel", "forecast"]
    shown = dict(iter(frame.groupby(["item", "channel"])))
    assert list(shown) == [("north", "returned"), ("north", "sold"), ("south", "returned"), ("south", "sold")]
    last_values = [rows["forecast"].tolist() for rows in shown.values()]
    assert last_values == [pytest.approx([last] * 3, rel=1e-6) for last in (1039.5, 1039, 2059.5, 2059)]
    for (item, _), rows in shown.items():
        expected = (
            ["2018-05-01", "2018-06-01", "2018-07-01"]
            if item == "north"
            else ["2023-03-01", "2023-04-01", "2023-05-01"]
        )
        assert [str(stamp.date()) for stamp in rows["timestamp"]] == expected


def test_a_forecast_continues_a_panel_that_was_never_seen(small_panel: Panel, train: Train):
    forecaster = train("seasonal_naive")
    longer = synthetic_panel(num_rows=500, num_channels=2, seed=9)

    frame = forecaster.predict(longer)

    first = frame[frame["channel"] == "channel_1"]
    assert first["timestamp"].iloc[0] == pd.Timestamp(longer.timestamps[-1]) + pd.Timedelta("1h")
    np.testing.assert_allclose(first["forecast"], longer.values[-24:-18, 1], rtol=1e-5)


@pytest.mark.parametrize("precision", ["32", "64", "bf16"])
@pytest.mark.parametrize("model", ["profile", "linear", "gru", "tcn", "transformer"])
def test_a_kept_forecaster_forecasts_the_same_to_the_last_bit(
    model: str, precision: str, small_panel: Panel, train: Train, tmp_path: Path
):
    forecaster = train(model, recipe={**TINY, "precision": precision, "channel_mode": "mixing"})
    forecaster.save(tmp_path / "kept.pt")

    loaded = Forecaster.load(tmp_path / "kept.pt")

    pd.testing.assert_frame_equal(loaded.predict(small_panel), forecaster.predict(small_panel), check_exact=True)
    assert (loaded.recipe, loaded.arguments) == (forecaster.recipe, forecaster.arguments)


def test_keywords_of_the_model_are_kept_too(train: Train, tmp_path: Path):
    train("gru", hidden_size=8, segment_length=3, decoder="direct", recipe=TINY).save(tmp_path / "kept.pt")

    assert Forecaster.load(tmp_path / "kept.pt").model.recurrence.hidden_size == 8


def test_fitting_again_starts_anew(small_panel: Panel, train: Train):
    once = train("mlp", recipe=TINY)
    twice = train("mlp", seed=5, recipe=TINY).fit(small_panel.train, small_panel.validation, seed=0)

    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))


def test_wrong_use_is_told_with_its_remedy(small_panel: Panel, train: Train, tmp_path: Path):
    forecaster = Forecaster("linear", context_length=24, horizon=6)
    with pytest.raises(ConfigError, match=r"nothing was fitted yet; call fit\(panel.train, panel.validation\) first"):
        forecaster.predict(small_panel)
    with pytest.raises(ConfigError, match=r"nothing was fitted yet; call fit\(panel.train, panel.validation\) first"):
        forecaster.save(tmp_path / "kept.pt")
    with pytest.raises(DataError, match="synthetic: 3 channels; the forecaster was fitted on 2"):
        train(recipe=TINY).predict(synthetic_panel(num_channels=3))
    with pytest.raises(DataError, match="synthetic: 23 rows; a context needs 24"):
        train(recipe=TINY).predict(synthetic_panel(num_rows=23, num_channels=2))
    with pytest.raises(DataError, match="synthetic: too few rows: the validation part has 40"):
        Forecaster("naive", context_length=24, horizon=41).fit(small_panel.train, small_panel.validation)
    with pytest.raises(ConfigError, match="channel_mode = 'mixing' needs the number of channels; give channels="):
        Forecaster("linear", context_length=24, horizon=6, recipe={"channel_mode": "mixing"}).build(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "grus"}, "Forecaster: unknown model 'grus'; did you mean 'gru'"),
        ({"hiden_size": 3}, r"Forecaster\('gru'\): unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ({"recipe": {"learning_rat": 1}}, "recipe: unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ({"recipe": {"loss": "mape"}}, "recipe: loss = 'mape': input should be 'mse', 'mae' or 'huber'"),
        ({"recipe": {"max_steps": 0}}, "recipe: max_steps = 0: input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_what_is_allowed(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        Forecaster(**{"model": "gru", "context_length": 24, "horizon": 6, **settings})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_here_is_told(small_panel: Panel):
    with pytest.raises(MachineError, match=r"--device cuda: this machine has .*; use --device cpu or auto"):
        Forecaster("naive", context_length=24, horizon=6).fit(small_panel.train, small_panel.validation, device="cuda")


# In a Trainer of the user's own


@pytest.fixture
def loaders(small_panel: Panel) -> tuple[DataLoader, DataLoader]:
    """Ordinary loaders of (context, target) pairs, for training and validation."""
    values_TC = torch.from_numpy((small_panel.values - small_panel.values.mean(0)) / small_panel.values.std(0))
    runs = values_TC.unfold(0, 30, 1).mT
    pairs = TensorDataset(runs[:, :24], runs[:, 24:])
    order = torch.Generator().manual_seed(0)
    return DataLoader(pairs, batch_size=32, shuffle=True, generator=order), DataLoader(pairs, batch_size=50)


def trainer(tmp_path: Path, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=tmp_path, enable_checkpointing=False, **quiet, **settings)


def mean_squared_error(forecaster: Forecaster, loader: DataLoader) -> float:
    errors = [(forecaster.infer(context) - target).square().flatten() for context, target in loader]
    return float(torch.cat(errors).mean())


@quiet_lightning
@pytest.mark.parametrize("channel_mode", ["independent", "mixing"])
def test_it_trains_in_any_trainer_from_an_ordinary_loader(
    channel_mode: str, loaders: tuple[DataLoader, DataLoader], tmp_path: Path
):
    training, _ = loaders
    forecaster = Forecaster("mlp", context_length=24, horizon=6, channels=2, recipe={"channel_mode": channel_mode})
    before = mean_squared_error(forecaster.build(0), training)

    trainer(tmp_path, max_epochs=5).fit(forecaster, training)

    assert mean_squared_error(forecaster.eval(), training) < 0.5 * before


@quiet_lightning
def test_a_trainer_with_a_validation_loader_can_stop_early_on_val_loss(
    loaders: tuple[DataLoader, DataLoader], tmp_path: Path
):
    training, validation = loaders
    recipe = {"learning_rate": 0.3, "schedule": "constant"}
    forecaster = Forecaster("mlp", context_length=24, horizon=6, recipe=recipe).build(0)
    stopping = EarlyStopping("val_loss", patience=1)

    made = trainer(tmp_path, max_epochs=60, callbacks=[stopping])
    made.fit(forecaster, training, validation)

    assert made.current_epoch < 60
    assert float(made.callback_metrics["val_loss"]) == pytest.approx(
        mean_squared_error(forecaster.eval(), validation), rel=1e-5
    )
    assert float(made.callback_metrics["train_loss"]) > 0


@quiet_lightning
def test_a_trainer_can_validate_before_any_training(loaders: tuple[DataLoader, DataLoader], tmp_path: Path):
    forecaster, (_, validation) = Forecaster("mlp", context_length=24, horizon=6).build(0), loaders

    (told,) = trainer(tmp_path).validate(forecaster, validation, verbose=False)

    assert told == {"val_loss": pytest.approx(mean_squared_error(forecaster.eval(), validation), rel=1e-5)}


@quiet_lightning
def test_in_a_trainer_the_schedule_ends_with_the_trainers_own_budget(
    loaders: tuple[DataLoader, DataLoader], tmp_path: Path
):
    made = trainer(tmp_path, max_epochs=2)

    made.fit(Forecaster("linear", context_length=24, horizon=6, recipe={"max_steps": 9999}), loaders[0])

    assert made.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


# Randomness comes from the seed that was passed in


def test_building_and_fitting_leave_the_global_random_state_alone(train: Train):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    build("mlp")
    train("mlp", recipe=TINY)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_the_global_random_state_does_not_reach_the_weights(train: Train):
    torch.manual_seed(1)
    one = train("mlp", recipe=TINY)
    torch.manual_seed(2)
    other = train("mlp", recipe=TINY)

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Panels of several items


def items_of(levels: Sequence[float], names: str, seed: int = 4) -> Panel:
    """An item for each level, 80 days and longer, of positive values."""
    lengths = [80 + 7 * number for number in range(len(levels))]
    rng = np.random.default_rng(seed)
    values = [level * rng.uniform(0.5, 1.5, n) for level, n in zip(levels, lengths, strict=True)]
    stamps = [pd.date_range("2024-01-01", periods=n, freq="D").to_numpy("datetime64[ns]") for n in lengths]
    return Panel(
        name="shops", values=np.concatenate(values).astype(np.float32)[:, None], timestamps=np.concatenate(stamps),
        channels=("sales",), freq="D", seasonality=7, split=SplitByLast(test=7), items=tuple(names),
        offsets=np.cumsum([0, *lengths]),
    )  # fmt: skip


def only(panel: Panel, order: Sequence[int]) -> Panel:
    """These items in this order."""
    pieces = [slice(*panel.offsets[number : number + 2]) for number in order]
    return replace(
        panel,
        values=np.concatenate([panel.values[piece] for piece in pieces]),
        timestamps=np.concatenate([panel.timestamps[piece] for piece in pieces]),
        items=tuple(panel.items[number] for number in order),
        offsets=np.cumsum([0, *(piece.stop - piece.start for piece in pieces)]),
    )


@pytest.mark.parametrize("model", ["seasonal_naive", "naive2", "linear", "gru", "transformer"])
@pytest.mark.parametrize("recipe", [{}, {"log": False, "instance_norm": "none"}], ids=["default", "plain"])
def test_a_forecast_of_an_item_depends_on_no_other_item_and_on_no_order(model: str, recipe: dict[str, Any]):
    panel = items_of([1, 100, 10_000], "abc")
    forecaster = Forecaster(model, context_length=14, horizon=7, recipe={**recipe, "max_steps": 5})
    forecaster.fit(panel.train, panel.validation)

    def forecasts(of: Panel) -> dict[str, np.ndarray]:
        return {item: rows["forecast"].to_numpy() for item, rows in forecaster.predict(of).groupby("item")}

    whole = forecasts(panel)
    for order in ([2, 0, 1], [0], [1, 2]):
        for item, forecast in forecasts(only(panel, order)).items():
            np.testing.assert_allclose(forecast, whole[item], rtol=1e-5)


def test_items_count_alike_whatever_their_level():
    """A thousand times the level leaves the loss as it was; so are the weights, and forecasts are a thousand times."""
    one, other = (
        Forecaster("linear", context_length=14, horizon=7, recipe={"max_steps": 20}).fit(panel.train, panel.validation)
        for panel in (items_of([1, 1], "ab"), items_of([1, 1000], "ab"))
    )

    np.testing.assert_allclose(
        one.predict(items_of([1, 1], "ab"))["forecast"] * ([1] * 7 + [1000] * 7),
        other.predict(items_of([1, 1000], "ab"))["forecast"],
        rtol=1e-3,
    )


def test_a_logarithmic_forecaster_forecasts_values_above_zero_that_grow_with_the_context():
    forecaster = Forecaster("mlp", context_length=14, horizon=7, recipe={"log": True}).build(0).eval()
    context = torch.rand(3, 14, 1) + 0.1

    assert (forecaster.infer(context) > 0).all()
    torch.testing.assert_close(forecaster.infer(10 * context), 10 * forecaster.infer(context), rtol=1e-4, atol=1e-4)


def test_with_the_spread_as_scale_windows_weigh_alike_in_the_loss():
    forecaster = Forecaster("linear", context_length=14, horizon=7, recipe={"loss_scale": "spread"}).build(0)
    context, target = torch.randn(3, 14, 1), torch.randn(3, 7, 1)

    loss, of_larger = (float(forecaster.loss((size * context, size * target))) for size in (1, 50))

    assert of_larger == pytest.approx(loss, rel=1e-3)


def test_forecasts_of_fifty_thousand_items_need_no_loop_over_them():
    count = 50_000
    stamps = pd.date_range("2024-01-01", periods=30, freq="D").to_numpy("datetime64[ns]")
    panel = Panel(
        name="many", values=np.tile(np.arange(30, dtype=np.float32), count)[:, None], timestamps=np.tile(stamps, count),
        channels=("sales",), freq="D", seasonality=7, split=SplitByLast(test=3), items=tuple(map(str, range(count))),
        offsets=np.arange(count + 1) * 30,
    )  # fmt: skip
    forecaster = Forecaster("naive", context_length=7, horizon=3).fit(panel.train, panel.validation)

    clock = time.process_time()
    frame = forecaster.predict(panel)

    assert time.process_time() - clock < 5  # a frame for each item takes a minute
    assert len(frame) == 3 * count
    assert frame["forecast"].to_numpy() == pytest.approx(29)
