"""The forecasters without a parameter, against loops that look each value up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.naive import Naive, Profile, SeasonalNaive

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
