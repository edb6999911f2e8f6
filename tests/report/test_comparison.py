"""When one forecaster is called better than another: how often by mistake, how often rightly, and by what evidence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import ttest_ind

from tsbench.report.comparison import Comparison, Sample

NUM_WINDOWS = 2000


def moving_noise(rng: np.random.Generator, num_windows: int, horizon: int, count: int) -> np.ndarray:
    """`[M, count]`: of unit size, its neighbours sharing all but one of `horizon` parts, as overlapping windows do."""
    parts = np.cumsum(np.vstack([np.zeros(count), rng.standard_normal((num_windows + horizon - 1, count))]), axis=0)
    return (parts[horizon:] - parts[:-horizon]) / horizon**0.5


def drawn(
    rng: np.random.Generator,
    errors: Sequence[float] = (0.4, 0.4),
    *,
    horizon: int = 24,
    seeds: int = 3,
    num_windows: int = NUM_WINDOWS,
    seed_spread: float = 0.01,
    own_noise: float = 0.07,
) -> Comparison:
    """Forecasters with these true errors, as a matrix of runs would show them.

    Relative to the error: weather that all share, 0.3; a model's own, `own_noise`; another training on the same
    windows, 0.05 (both as read off linear and MLP on the pedestrian counts); and seeds, `seed_spread`.
    """
    weather = 0.3 * moving_noise(rng, num_windows, horizon, 1)
    samples = []
    for error in errors:
        own = own_noise * moving_noise(rng, num_windows, horizon, 1)
        training = 0.05 * moving_noise(rng, num_windows, horizon, seeds) + seed_spread * rng.standard_normal(seeds)
        losses = error * (1 + weather + own + training)
        samples.append(Sample(losses.mean(0).tolist(), False, losses.mean(1)))
    return Comparison(tuple(samples), horizon)


def found_a_winner(comparison: Comparison) -> bool:
    """Whether the best by its mean is called better than any other."""
    best = int(comparison.means.argmin())
    return any(comparison.same(best, place) is False for place in range(len(comparison.samples)))


# Simulations


@pytest.mark.parametrize(
    "settings",
    [
        {"seeds": 2},
        {"seeds": 3, "horizon": 96},
        {"seeds": 5},
        {"seeds": 3, "seed_spread": 0.05},
        {"seeds": 3, "horizon": 96, "num_windows": 500, "seed_spread": 0.0},
        {"seeds": 3, "horizon": 1, "num_windows": 300},
        {"seeds": 3, "num_windows": 800, "errors": [0.4] * 6},
    ],
    ids=["two seeds", "96 steps", "five seeds", "wide seeds", "five horizons of windows", "one step", "best of six"],
)
def test_of_equal_forecasters_at_most_7_percent_are_called_better(settings: dict) -> None:
    rng = np.random.default_rng(11)

    false_alarms = [found_a_winner(drawn(rng, **settings)) for _ in range(1000)]

    assert np.mean(false_alarms) <= 0.07


def test_a_gap_of_5_percent_is_found_with_5_seeds_and_2000_windows() -> None:
    rng = np.random.default_rng(12)

    found = [drawn(rng, (0.38, 0.4), seeds=5).same(0, 1) is False for _ in range(300)]

    assert np.mean(found) > 0.9


def test_the_textbook_test_is_fooled_where_windows_overlap_much_and_this_one_is_not() -> None:
    """Why the verdict does not rest on Harvey, Leybourne and Newbold alone: five horizons' worth of windows."""
    rng = np.random.default_rng(13)
    comparisons = [drawn(rng, seeds=3, horizon=96, num_windows=500, seed_spread=0.0) for _ in range(600)]

    assert np.mean([comparison.by_the_book(0)[1] < 0.05 for comparison in comparisons]) > 0.1
    assert np.mean([found_a_winner(comparison) for comparison in comparisons]) <= 0.07


def test_95_percent_of_the_intervals_hold_the_true_difference() -> None:
    rng = np.random.default_rng(14)
    intervals = [drawn(rng, (0.38, 0.4), num_windows=1000).interval(0, 1) for _ in range(300)]

    held = np.mean([interval.lower <= -0.02 <= interval.upper for interval in intervals if interval])

    assert len(intervals) == 300
    assert 0.92 <= held <= 0.99


def test_the_confidence_set_holds_the_best_and_drops_the_clearly_worse() -> None:
    rng = np.random.default_rng(15)
    p_values = np.array([drawn(rng, (0.4, 0.4, 0.6), seeds=5, num_windows=1000).confidence_p for _ in range(150)])

    assert (p_values[:, 0] >= 0.1).mean() >= 0.88
    assert (p_values[:, 2] >= 0.1).mean() == 0


# What the evidence is


def seeds_only(*errors: Sequence[float], exact: Sequence[bool] = ()) -> Comparison:
    flags = [*exact, *[False] * len(errors)]
    return Comparison(tuple(Sample(list(e), flag, None) for e, flag in zip(errors, flags, strict=False)), 24)


def test_without_losses_by_window_it_is_welchs_test() -> None:
    first, second = [0.31, 0.33, 0.32], [0.35, 0.34, 0.39]
    expected = ttest_ind(first, second, equal_var=False).pvalue

    assert seeds_only(first, second).raw_p[0, 1] == pytest.approx(expected, rel=1e-9)
    assert seeds_only(first, second).interval(0, 1) is None


def test_one_seed_without_losses_by_window_says_nothing() -> None:
    assert seeds_only([0.3], [0.4, 0.5]).same(0, 1) is None


def test_untrained_forecasters_without_losses_by_window_are_told_apart_by_value() -> None:
    comparison = seeds_only([0.3], [0.3], [0.4], exact=[True] * 3)

    assert comparison.same(0, 1) is True
    assert comparison.same(0, 2) is False


def test_one_exact_side_is_a_one_sample_test_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seeds_only([0.4] * 3, [0.31, 0.30, 0.32], exact=[True]).same(0, 1) is False


def test_every_pair_is_corrected_for() -> None:
    rng = np.random.default_rng(0)
    comparison = drawn(rng, [0.4] * 4)
    raw = comparison.raw_p[np.triu_indices(4, 1)]

    assert comparison.num_pairs == 6
    assert comparison.p_values[np.triu_indices(4, 1)].min() == pytest.approx(min(1, 6 * raw.min()))


def test_more_seeds_noise_never_makes_a_difference_clearer() -> None:
    rng = np.random.default_rng(1)
    quiet = drawn(rng, (0.38, 0.4), seed_spread=0.0)
    noisy = tuple(
        Sample(np.add(sample.errors, [0.02, -0.02, 0.0]).tolist(), False, sample.losses_M) for sample in quiet.samples
    )

    assert Comparison(noisy, 24).raw_p[0, 1] > quiet.raw_p[0, 1]


def test_one_seed_may_call_two_forecasters_the_same_but_never_different() -> None:
    rng = np.random.default_rng(2)

    assert drawn(rng, (0.4, 0.4), seeds=1).same(0, 1) is True
    assert drawn(rng, (0.2, 0.4), seeds=1).same(0, 1) is None


def test_forecasters_of_the_same_numbers_are_the_same() -> None:
    sample = drawn(np.random.default_rng(3)).samples[0]
    comparison = Comparison((sample, sample), 24)

    assert comparison.p_values[0, 1] == 1
    assert comparison.confidence_p.tolist() == [1, 1]
    assert comparison.same(0, 1) is True


def test_a_forecaster_without_losses_by_window_is_compared_by_seeds_and_the_others_by_both() -> None:
    whole = drawn(np.random.default_rng(4), (0.4, 0.4, 0.4))
    without = Sample(whole.samples[1].errors, False, None)
    mixed = Comparison((whole.samples[0], without, whole.samples[2]), 24)

    assert mixed.raw_p[0, 2] == pytest.approx(whole.raw_p[0, 2])
    assert mixed.raw_p[0, 1] == pytest.approx(
        ttest_ind(whole.samples[0].errors, without.errors, equal_var=False).pvalue
    )
    assert [mixed.knows_windows(0, place) for place in range(3)] == [True, False, True]
    assert np.isnan(mixed.confidence_p).tolist() == [False, True, False]
