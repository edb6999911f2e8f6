"""The synthetic series: known structure, from a seed."""

from __future__ import annotations

import numpy as np
import pytest

from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import ConfigError


def test_the_same_seed_is_the_same_series_and_another_seed_another() -> None:
    assert synthetic_panel(num_rows=100, seed=1).fingerprint == synthetic_panel(num_rows=100, seed=1).fingerprint
    assert synthetic_panel(num_rows=100, seed=1).fingerprint != synthetic_panel(num_rows=100, seed=2).fingerprint


def test_without_noise_and_long_period_every_season_is_the_same() -> None:
    values = synthetic_panel(num_rows=200, seasonality=10, long_period=10, noise=0).values

    np.testing.assert_allclose(values[10:], values[:-10], atol=1e-5)


def test_the_long_period_is_half_as_strong_as_the_season() -> None:
    values = synthetic_panel(num_rows=1680, num_channels=1, seasonality=24, long_period=168, noise=0).values[:, 0]

    strength = np.abs(np.fft.rfft(values)) / len(values) * 2  # amplitude of each whole number of cycles

    assert strength[1680 // 24] == pytest.approx(1, abs=1e-3)
    assert strength[1680 // 168] == pytest.approx(0.5, abs=1e-3)
    assert np.delete(strength, [0, 1680 // 24, 1680 // 168]).max() < 1e-3


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    loud = synthetic_panel(num_rows=20_000, num_channels=1, noise=0.3).values.astype(np.float64)
    silent = synthetic_panel(num_rows=20_000, num_channels=1, noise=0).values

    assert (loud - silent).std() == pytest.approx(0.3, rel=0.02)
    assert (loud - silent).mean() == pytest.approx(0, abs=0.01)


def test_channels_lie_ten_apart_and_rise_by_the_trend() -> None:
    values = synthetic_panel(num_rows=1680, num_channels=3, noise=0, trend=0.5).values

    assert values[:168].mean(axis=0).tolist() == pytest.approx([10 * c + 0.5 * 83.5 for c in range(3)], abs=1e-3)
    assert (values[168:] - values[:-168]).mean() == pytest.approx(84, abs=1e-3)


def test_the_panel_says_what_it_is() -> None:
    panel = synthetic_panel(num_rows=100, num_channels=2, seasonality=12)

    assert (panel.freq, panel.seasonality, panel.channels) == ("h", 12, ("channel_0", "channel_1"))
    assert (panel.timestamps[1] - panel.timestamps[0]) == np.timedelta64(1, "h")
    assert panel.about.license == "CC0-1.0"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_rows": 0}, "num_rows = 0: give a whole number from 1 to 2,000,000"),
        ({"num_rows": 3_000_000}, "num_rows = 3000000: give"),  # its clock would run beyond 2262
        ({"num_rows": 400.5}, "num_rows = 400.5: give"),
        ({"num_channels": 0}, "num_channels = 0: give"),
        ({"seasonality": 0}, "seasonality = 0: give"),
        ({"noise": float("nan")}, "noise = nan: give a finite number"),
        ({"seed": -1}, "seed = -1: give a whole number from 0 on"),
    ],
)
def test_a_series_that_cannot_be_is_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        synthetic_panel(**values)
