"""The forecasters without a parameter, against loops that look each value up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.naive import Naive, Naive2, Profile, SeasonalNaive

SHAPES = [WindowShape(12, 5, seasonality=4), WindowShape(11, 9, seasonality=4), WindowShape(7, 3, seasonality=7)]


def forecast(model: nn.Module, context_L: np.ndarray) -> list[float]:
    return model(torch.from_numpy(context_L).view(1, -1, 1)).flatten().tolist()


def random_context(shape: WindowShape) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape.context_length)


@pytest.mark.parametrize("shape", SHAPES)
def test_naive_repeats_the_last_value(shape: WindowShape):
    context_L = random_context(shape)

    assert forecast(Naive(shape), context_L) == [context_L[-1]] * shape.horizon


@pytest.mark.parametrize("shape", SHAPES)
def test_seasonal_naive_goes_back_whole_seasons_until_it_meets_the_context(shape: WindowShape):
    context_L = random_context(shape)
    expected = []
    for step in range(shape.horizon):
        row = shape.context_length + step
        while row >= shape.context_length:
            row -= shape.seasonality
        expected.append(context_L[row])

    assert forecast(SeasonalNaive(shape), context_L) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_profile_is_the_mean_of_all_rows_in_the_same_phase(shape: WindowShape):
    context_L = random_context(shape)
    expected = []
    for step in range(shape.horizon):
        row, same = shape.context_length + step, []
        while row >= 0:
            if row < shape.context_length:
                same.append(context_L[row])
            row -= shape.seasonality
        expected.append(np.mean(same))

    np.testing.assert_allclose(forecast(Profile(shape), context_L), expected, rtol=1e-6)


def test_without_a_season_the_profile_is_the_mean_and_seasonal_naive_is_naive():
    shape, context_L = WindowShape(3, 2, seasonality=1), np.array([1.0, 2.0, 6.0])

    assert forecast(Profile(shape), context_L) == pytest.approx([3.0, 3.0])
    assert forecast(SeasonalNaive(shape), context_L) == [6.0, 6.0]


@pytest.mark.parametrize(("name", "model"), [("seasonal_naive", SeasonalNaive), ("profile", Profile)])
def test_a_context_shorter_than_a_season_is_refused_with_the_remedy(name: str, model: type[nn.Module]):
    with pytest.raises(ConfigError, match=rf"{name} needs .* one season: 24 rows, got 23; give a longer --context-len"):
        model(WindowShape(23, 6, seasonality=24))


# Naive2


def by_hand(series: list[float], season: int, horizon: int) -> list[float]:
    """M4's Naive2 in loops, after `Benchmarks and Evaluation.R`."""
    count, mean = len(series), sum(series) / len(series)
    power = sum((value - mean) ** 2 for value in series)
    r = [
        sum((series[t] - mean) * (series[t + lag] - mean) for t in range(count - lag)) / power
        for lag in range(1, season + 1)
    ]
    limit = 1.645 * math.sqrt((1 + 2 * sum(value**2 for value in r[:-1])) / count)
    if season == 1 or count < 3 * season or abs(r[-1]) <= limit:
        return [series[-1]] * horizon
    half, ratios = season // 2, [[] for _ in range(season)]
    for t in range(half, count - half):
        around = series[t - half : t + half + 1]
        trend = (sum(around) - (around[0] + around[-1]) / 2 * (season % 2 == 0)) / season
        ratios[t % season].append(series[t] / trend)
    index = [sum(ratio) / len(ratio) for ratio in ratios]
    index = [value * season / sum(index) for value in index]
    return [series[-1] / index[(count - 1) % season] * index[(count + h) % season] for h in range(horizon)]


@given(
    season=st.sampled_from([1, 2, 4, 7]),
    lengths=st.lists(st.integers(5, 60), min_size=1, max_size=4),
    swing=st.sampled_from([0.0, 0.1, 0.8]),
    seed=st.integers(0, 1000),
)
def test_naive2_is_that_of_the_m4_competition_for_series_of_any_length(
    season: int, lengths: list[int], swing: float, seed: int
):
    rng = np.random.default_rng(seed)
    series = [100 * (1 + swing * np.sin(2 * np.pi * np.arange(n) / season)) * rng.uniform(0.9, 1.1, n) for n in lengths]
    history = torch.full((len(series), max(lengths), 1), torch.nan, dtype=torch.float64)
    for row, values in zip(history, series, strict=True):
        row[len(row) - len(values) :, 0] = torch.from_numpy(values)

    forecast = Naive2(WindowShape(5, 6, seasonality=season))(history)

    for row, values in zip(forecast, series, strict=True):
        assert row[:, 0].tolist() == pytest.approx(by_hand(values.tolist(), season, 6))


def test_naive2_leaves_series_with_values_that_are_not_positive_as_they_are():
    season = torch.tensor([5.0, -5.0, 3.0, 0.0]).repeat(10)[None, :, None]

    assert Naive2(WindowShape(40, 4, seasonality=4))(season).flatten().tolist() == [0, 0, 0, 0]
