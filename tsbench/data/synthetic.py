"""A seeded series with known structure, for tests and demonstrations."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd

from tsbench.data.panel import About, Panel
from tsbench.data.splits import SplitByFractions, SplitRule
from tsbench.errors import ConfigError

_MOST_ROWS = 2_000_000
"""Hours from 2024 to 2252; ten years later the nanosecond clock ends."""


def synthetic_panel(
    *,
    num_rows: int = 4000,
    num_channels: int = 3,
    seasonality: int = 24,
    long_period: int = 168,
    noise: float = 0.3,
    trend: float = 0.0,
    seed: int = 0,
    split: SplitRule = SplitByFractions(),
) -> Panel:
    """Hourly channels, each the sum of two sines, a line and white noise.

    Channel c is `10 c + sin(2 pi t / seasonality + phase) + 0.5 sin(2 pi t / long_period + phase) + trend t + noise e`
    with phases from the seed and standard normal e: `noise` squared is the smallest mean squared error a forecaster can
    have.

    Raises ConfigError for a value that no series can have.
    """
    sizes = {"num_rows": num_rows, "num_channels": num_channels, "seasonality": seasonality, "long_period": long_period}
    for key, size in sizes.items():
        if not isinstance(size, Integral) or not 1 <= size <= _MOST_ROWS:
            raise ConfigError(f"{key} = {size}: give a whole number from 1 to {_MOST_ROWS:,}")
    for key, value in (("noise", noise), ("trend", trend)):
        if not np.isfinite(value):
            raise ConfigError(f"{key} = {value}: give a finite number")
    if not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"seed = {seed}: give a whole number from 0 on")
    rng = np.random.default_rng(seed)
    time = np.arange(num_rows)[:, None]
    phases = rng.uniform(0, 2 * np.pi, size=(2, num_channels))
    values = (
        10.0 * np.arange(num_channels)
        + np.sin(2 * np.pi * time / seasonality + phases[0])
        + 0.5 * np.sin(2 * np.pi * time / long_period + phases[1])
        + trend * time
        + noise * rng.standard_normal((num_rows, num_channels))
    )
    return Panel(
        name="synthetic",
        values=values.astype(np.float32),
        timestamps=pd.date_range("2024-01-01", periods=num_rows, freq="h").to_numpy(dtype="datetime64[ns]"),
        channels=tuple(f"channel_{c}" for c in range(num_channels)),
        freq="h",
        seasonality=seasonality,
        split=split,
        about=About("Synthetic: two sines, a line and noise", source="made by tsbench from a seed", license="CC0-1.0"),
    )
