"""The statistics against other people's code, published examples, and slow and obvious loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import MCS
from scikit_posthocs import posthoc_wilcoxon
from scipy.stats import f, t
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import diebold_mariano_test

from tsbench.report.statistics import (
    block_length,
    circular_means,
    diebold_mariano,
    friedman,
    geometric_mean,
    holm,
    long_run_covariance,
    long_run_degrees,
    mean_ranks,
    model_confidence_set,
    tasks_needed,
    two_sided_p,
    wilcoxon_holm,
)

# Demšar (2006, JMLR 7), table 6: AUC of C4.5, with m, with cf, with both, on 14 data sets. On the last but one he ranks
# the third before the fourth, though both are printed as 0.975.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def random_losses(num_losses: int, num_forecasters: int, horizon: int = 1, seed: int = 0) -> np.ndarray:
    """Of windows that overlap."""
    parts = np.random.default_rng(seed).normal(size=(num_losses + horizon - 1, num_forecasters))
    return np.stack([parts[i : i + num_losses] for i in range(horizon)]).mean(0)


def test_the_geometric_mean_of_two_and_eight_is_four() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


# Noise of windows


def test_the_long_run_covariance_is_a_mean_of_squared_cosine_sums() -> None:
    losses, overlap = random_losses(200, 2, 5), 5
    expected = np.zeros((2, 2))
    for wave in range(1, 14):  # 0.4 * 200 ** (2 / 3) is 13.7, 0.5 * 200 / 5 is 20
        angle = math.pi * wave * overlap / (2 * 200)
        sums = np.zeros(2)
        for i in range(200):
            sums += (
                math.sqrt(2 / 200) * math.cos(math.pi * wave * (i + 0.5) / 200) * losses[i] / (math.sin(angle) / angle)
            )
        expected += np.outer(sums, sums) / 13

    np.testing.assert_allclose(long_run_covariance(losses, overlap), expected, rtol=1e-9)


def test_the_long_run_variance_of_moving_means_is_that_of_what_they_are_means_of() -> None:
    variances = [long_run_covariance(random_losses(2000, 1, 48, seed), 48)[0, 0] for seed in range(200)]

    assert np.mean(variances) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("num_losses", "overlap", "degrees"), [(1, 1, 0), (2000, 1, 63), (2000, 96, 10), (2161, 720, 1), (64, 1, 6)]
)
def test_what_overlaps_tells_less(num_losses: int, overlap: int, degrees: int) -> None:
    assert long_run_degrees(num_losses, overlap) == degrees


def test_a_sum_of_variances_has_the_degrees_of_freedom_of_satterthwaite() -> None:
    difference, (a, b, c) = np.array([0.5]), (np.array([0.01]), np.array([0.02]), np.array([0.03]))

    p_value, freedom = two_sided_p(difference, [a, b, c], [np.array([2]), np.array([4]), np.array([9])])

    expected = 0.06**2 / (0.01**2 / 2 + 0.02**2 / 4 + 0.03**2 / 9)
    assert freedom[0] == pytest.approx(expected)
    assert p_value[0] == pytest.approx(2 * t.cdf(-0.5 / math.sqrt(0.06), expected), rel=1e-9)


# Diebold-Mariano by the book


def test_one_step_ahead_diebold_mariano_is_that_of_statsmodels() -> None:
    losses = random_losses(150, 2) + 2
    theirs = diebold_mariano_test(
        np.zeros(150), losses[:, 0], losses[:, 1], criterion=lambda y, f: f, lags=0, harvey_adj=True, horizon=1
    )

    assert diebold_mariano(losses[:, [0]] - losses[:, [1]], 1)[0] == pytest.approx(float(theirs.pvalue), abs=1e-9)


@pytest.mark.parametrize(("length", "horizon"), [(60, 3), (200, 24)])
def test_many_steps_ahead_diebold_mariano_is_the_formula_of_harvey_leybourne_and_newbold(
    length: int, horizon: int
) -> None:
    d = random_losses(length, 1, horizon)[:, 0] + 0.05
    gamma = [
        sum((d[i] - d.mean()) * (d[i - lag] - d.mean()) for i in range(lag, length)) / length for lag in range(horizon)
    ]
    statistic = d.mean() / math.sqrt((gamma[0] + 2 * sum(gamma[1:])) / length)
    statistic *= math.sqrt((length + 1 - 2 * horizon + horizon * (horizon - 1) / length) / length)

    p_value = diebold_mariano(d[:, None], horizon)[0]

    assert p_value == pytest.approx(2 * t.cdf(-abs(statistic), length - 1), abs=1e-9)


def test_diebold_mariano_by_the_book_says_nothing_where_its_variance_is_negative_or_the_series_too_short() -> None:
    falling = np.array([[1.0], [-1.0]] * 20)

    assert np.isnan(diebold_mariano(falling, 2)[0])
    assert np.isnan(diebold_mariano(random_losses(20, 1), 20)[0])


# Many comparisons


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_not_known() -> None:
    p_values = np.array([0.01, 0.04, np.nan, 0.03, 0.005, 0.2])
    known = p_values[~np.isnan(p_values)]

    adjusted = holm(p_values)

    assert np.isnan(adjusted[2])
    np.testing.assert_allclose(adjusted[~np.isnan(p_values)], multipletests(known, method="holm")[1], atol=1e-12)


# Bootstrap and the model confidence set


def test_circular_means_are_means_of_blocks_that_go_on_at_the_beginning() -> None:
    losses, length = random_losses(17, 2), 5
    starts = np.random.default_rng(3).integers(17, size=(6, 4))
    expected = []
    for row in starts:
        rows = [(start + i) % 17 for start in row for i in range(length)][:17]
        expected.append(losses[rows].mean(0))

    means = circular_means(losses, length, np.random.default_rng(3), draws=6)

    np.testing.assert_allclose(means, expected, atol=1e-12)


@pytest.mark.parametrize(("num_losses", "overlap", "length"), [(2000, 24, 72), (1000, 1, 10), (100, 96, 50), (1, 1, 1)])
def test_a_block_holds_three_horizons_but_never_most_of_the_series(num_losses: int, overlap: int, length: int) -> None:
    assert block_length(num_losses, overlap) == length


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.3])
def test_the_model_confidence_set_is_that_of_arch(gap: float) -> None:
    losses = random_losses(400, 6, 8) + gap * np.arange(6)
    theirs = MCS(losses, size=0.1, reps=300, block_size=20, method="max", bootstrap="circular", seed=5)
    theirs.compute()
    drawn = np.stack([losses[rows].mean(0) for rows in theirs._bootstrap_indices])

    p_values = model_confidence_set(losses.mean(0), drawn - losses.mean(0))

    np.testing.assert_allclose(p_values, theirs.pvalues["Pvalue"].sort_index(), atol=1e-12)


def test_forecasters_that_are_the_same_stay_in_the_confidence_set_together() -> None:
    best = random_losses(300, 1)
    losses = np.hstack([best, best, best + 1 + 0.1 * random_losses(300, 1, seed=1)])
    drawn = circular_means(losses, 10, np.random.default_rng(0))

    p_values = model_confidence_set(losses.mean(0), drawn - losses.mean(0))

    assert p_values.tolist() == [1.0, 1.0, 0.0]


# Over tasks


def test_mean_ranks_and_friedman_are_those_of_demsars_example() -> None:
    np.testing.assert_allclose(mean_ranks(-DEMSAR), [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    # He prints a chi square of 9.28 and F of 3.69 without the correction for ties, with which both are a little larger.
    ranks = np.array([[(row > value).sum() + 1 + ((row == value).sum() - 1) / 2 for value in row] for row in DEMSAR])
    ties = sum(count**3 - count for row in DEMSAR for count in np.unique(row, return_counts=True)[1])
    uncorrected = 12 * 14 / (4 * 5) * ((ranks.mean(0) ** 2).sum() - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    chi = uncorrected / (1 - ties / (14 * (4**3 - 4)))
    statistic = 13 * chi / (14 * 3 - chi)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.005)
    assert friedman(-DEMSAR) == pytest.approx(f.sf(statistic, 3, 39), rel=1e-9)


def test_the_same_order_on_every_task_is_no_chance() -> None:
    assert friedman(np.arange(1, 13)[:, None] * np.array([1.0, 2.0, 3.0])) == 0.0


def test_wilcoxon_after_holm_is_that_of_scikit_posthocs() -> None:
    errors = random_losses(14, 4) + 0.8 * np.arange(4)

    theirs = posthoc_wilcoxon(errors.T.tolist(), p_adjust="holm")

    np.testing.assert_allclose(wilcoxon_holm(errors), theirs.to_numpy(), atol=1e-9)


@pytest.mark.parametrize("num_forecasters", [2, 3, 12])
def test_with_the_tasks_needed_the_clearest_order_is_significant_and_with_one_less_it_is_not(
    num_forecasters: int,
) -> None:
    needed = tasks_needed(num_forecasters)

    def smallest_p(num_tasks: int) -> float:
        clear = np.linspace(1, 2, num_tasks)[:, None] * np.arange(1, num_forecasters + 1)
        return float(wilcoxon_holm(clear).min())

    assert smallest_p(needed) < 0.05 <= smallest_p(needed - 1)
