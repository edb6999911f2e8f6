"""Other toolkits on the same data: eight series, 32 windows of one series each per step, the same sizes, one thread.

A step of theirs is the time of a fit of so many steps less that of a shorter one, divided by the steps between: what a
fit does once, before and after, is not held against them. What cannot be made equal is said in benchmarks/README.md.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data import CONTEXT_LENGTH, HORIZON, prepared, run_of, windows
from benchmarks.timing import Result, compare
from tsbench.evaluation.accuracy import evaluate

BATCH_SIZE = 32
"""Windows of one series. Ours hold all series: four of them."""
HIDDEN = 64
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
}
STEP_BY_STEP = {"hidden_size": HIDDEN, "num_layers": 1, "segment_length": 1, "decoder": "direct"}
"""The classic recurrence, as both peers have it: one layer, a row of the context at a time."""
EVALUATED_WINDOWS = 512
OURS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_size": 256, "num_layers": 2},
    "rnn": STEP_BY_STEP,
    "lstm": STEP_BY_STEP,
    "gru": STEP_BY_STEP,
    "tcn": {"segment_length": 1, "num_filters": 32, "kernel_size": 3, "num_levels": 6, "readout": "last"},
    "transformer_encdec": {"segment_length": 1, "num_layers": 1},
}


def our_step(model: str, num_steps: int) -> float:
    """Seconds of a training step of `fit`, everything but validation."""
    recipe = {
        "batch_size": BATCH_SIZE // prepared().panel.num_channels,
        "max_steps": num_steps,
        "validate_every": num_steps,
    }
    forecaster = prepared().forecaster(run_of(model, recipe=recipe, dropout=0.0, **OURS[model]))
    forecaster.fit_windows(windows("train"), windows("validation").head(8), seed=0)
    log = forecaster.training_log
    return (log.curve[-1]["seconds"] - log.validate_seconds) / num_steps


def their_step(fit: Callable[[int], None], num_steps: int) -> float:
    """Seconds of a step: what more steps cost more."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        fit(count)
        return time.perf_counter() - start

    few = max(num_steps // 4, 1)
    return max(seconds(few + num_steps) - seconds(few), 1e-9) / num_steps


def peers() -> Iterator[Result]:
    _hush()
    yield from _neuralforecast()
    yield from _darts()


def _neuralforecast() -> Iterator[Result]:
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MSE

    common = {
        "h": HORIZON,
        "input_size": CONTEXT_LENGTH,
        "loss": MSE(),
        "batch_size": prepared().panel.num_channels,  # series to draw windows from
        "windows_batch_size": BATCH_SIZE,
        "scaler_type": "standard",
        "val_check_steps": 10**6,
        **QUIET,
    }
    recurrent = {
        "encoder_n_layers": 1,
        "encoder_hidden_size": HIDDEN,
        "decoder_layers": 1,
        "decoder_hidden_size": HIDDEN,
    }
    theirs: dict[str, tuple[Any, dict[str, Any]]] = {
        "mlp": (models.MLP, {"num_layers": 2, "hidden_size": 256}),
        "rnn": (models.RNN, recurrent),
        "lstm": (models.LSTM, recurrent),
        "gru": (models.GRU, recurrent),
        "tcn": (
            models.TCN,
            {
                "kernel_size": 3,
                "dilations": [1, 2, 4, 8, 16, 32],
                "encoder_hidden_size": 32,
                "decoder_layers": 1,
                "decoder_hidden_size": 32,
            },
        ),
        "transformer_encdec": (
            models.VanillaTransformer,
            {
                "hidden_size": HIDDEN,
                "n_head": 4,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "conv_hidden_size": 2 * HIDDEN,
                "dropout": 0.0,
            },
        ),
    }
    frame = _long()
    for name, (kind, sizes) in theirs.items():

        def fit(steps: int, kind: Any = kind, sizes: dict[str, Any] = sizes) -> None:
            NeuralForecast([kind(max_steps=steps, **sizes, **common)], freq="h").fit(frame)

        yield _training("neuralforecast", name, fit, goal=80.0 if name == "mlp" else 6.0)


def _darts() -> Iterator[Result]:
    from darts.models import BlockRNNModel, TCNModel, TransformerModel

    lengths = {"input_chunk_length": CONTEXT_LENGTH, "output_chunk_length": HORIZON}
    recurrent = {"hidden_dim": HIDDEN, "n_rnn_layers": 1}
    theirs: dict[str, tuple[Any, dict[str, Any], float]] = {
        "rnn": (BlockRNNModel, {"model": "RNN", **recurrent}, 1.2),
        "lstm": (BlockRNNModel, {"model": "LSTM", **recurrent}, 1.2),
        "gru": (BlockRNNModel, {"model": "GRU", **recurrent}, 1.2),
        "tcn": (
            TCNModel,
            {"kernel_size": 3, "num_filters": 32, "num_layers": 6, "weight_norm": True, "dropout": 0.0},
            2.0,
        ),
        "transformer_encdec": (
            TransformerModel,
            {
                "d_model": HIDDEN,
                "nhead": 4,
                "num_encoder_layers": 1,
                "num_decoder_layers": 1,
                "dim_feedforward": 2 * HIDDEN,
                "dropout": 0.0,
            },
            2.0,
        ),
    }
    series, tested = _series()
    for name, (kind, sizes, goal) in theirs.items():

        def model(steps: int, kind: Any = kind, sizes: dict[str, Any] = sizes) -> Any:
            trainer = {**QUIET, "max_steps": steps}
            batch = {"batch_size": BATCH_SIZE, "n_epochs": 10**6, "use_reversible_instance_norm": True}
            return kind(**lengths, **sizes, **batch, pl_trainer_kwargs=trainer)

        def fit(steps: int, model: Callable[[int], Any] = model) -> None:
            model(steps).fit(series)

        yield _training("darts", name, fit, goal=goal)
        yield _evaluation(name, model(1).fit(series), tested)


def _training(peer: str, model: str, fit: Callable[[int], None], goal: float) -> Result:
    ours = max(our_step(model, 4), our_step(model, 4))
    num_steps = int(min(max(2 / ours, 8), 400))
    theirs = max(their_step(fit, 4), their_step(fit, 4))
    their_steps = int(min(max(4 / theirs, 4), 100))
    return compare(
        "training, peers",
        f"{model}, batch {BATCH_SIZE}",
        lambda: our_step(model, num_steps),
        lambda: their_step(fit, their_steps),
        other_name=peer,
        unit="step",
        goal=goal,
    )


def _evaluation(model: str, fitted: Any, tested: list[Any]) -> Result:
    """The first `EVALUATED_WINDOWS` test windows of all series: ours with their errors, theirs without."""
    test = windows("test").head(EVALUATED_WINDOWS)
    forecaster = prepared().forecaster(run_of(model, **OURS[model])).build(seed=0).eval()

    def ours() -> float:
        start = time.perf_counter()
        evaluate(forecaster, test, prepared().scaler)
        return (time.perf_counter() - start) / len(test)

    def theirs() -> float:
        start = time.perf_counter()
        forecasts = fitted.historical_forecasts(
            tested, forecast_horizon=HORIZON, retrain=False, last_points_only=False, verbose=False
        )
        if len(forecasts[0]) != len(test):
            raise AssertionError(f"{len(forecasts[0])} windows against {len(test)}")
        return (time.perf_counter() - start) / len(test)

    return compare(
        "evaluation, peers", model, ours, theirs, other_name="darts, historical_forecasts", unit="window", goal=2.4
    )


def _scaled(rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Scaled values `[T, C]` and timestamps of these rows."""
    return prepared().values_TC.numpy()[rows], prepared().panel.timestamps[rows]


def _train_rows() -> slice:
    low, high = prepared().panel.train.bounds[0]
    return slice(int(low), int(high))


def _long() -> pd.DataFrame:
    """The training rows as a table of `unique_id, ds, y`: one series per channel."""
    values_TC, timestamps = _scaled(_train_rows())
    names = prepared().panel.channels
    wide = pd.DataFrame(values_TC, columns=list(names)).assign(ds=timestamps)
    return wide.melt("ds", var_name="unique_id", value_name="y")


def _series() -> tuple[list[Any], list[Any]]:
    """Training rows, and the rows under the first windows of the test part, as one darts series per channel."""
    from darts import TimeSeries

    def series(rows: slice) -> list[Any]:
        values_TC, timestamps = _scaled(rows)
        clock = pd.date_range(timestamps[0], periods=len(timestamps), freq="h")  # one hour per row
        return [TimeSeries.from_times_and_values(clock, channel_T[:, None]) for channel_T in values_TC.T]

    first = int(prepared().panel.test.starts(CONTEXT_LENGTH, HORIZON)[0])
    rows = EVALUATED_WINDOWS + CONTEXT_LENGTH + HORIZON - 1
    return series(_train_rows()), series(slice(first, first + rows))


def _hush() -> None:
    """The peers say much that is not for this table."""
    warnings.simplefilter("ignore")
    for name in ("lightning", "pytorch_lightning", "lightning.pytorch", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
