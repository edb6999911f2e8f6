"""The statistics behind the words: plain functions of arrays, each with its source and what it assumes.

Letters: `M` losses of a forecaster in the order of time, `K` forecasters, `N` tasks, `R` draws of a bootstrap.
docs/protocol.md says what counts as one observation, and why these and not their better known kin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

SIGNIFICANCE = 0.05
"""A difference with a p-value below this is called real."""
NUM_DRAWS = 1000
"""Of every bootstrap, from one fixed seed: the same records give the same report."""


def geometric_mean(values: Sequence[float]) -> float:
    """Of at least one value; zero if one of them is."""
    return math.exp(fmean(math.log(value) for value in values)) if min(values) > 0 else 0.0


# Two sources of noise: which stretch of time was scored, and which seed


def long_run_degrees(num_losses: int, overlap: int) -> int:
    """How many independent looks at its own noise a series of losses allows, `overlap` of which share a target.

    Half the stretches that do not overlap, and never more than 0.4 M^(2/3) (Lazarus, Lewis, Stock and Watson 2018, J.
    Business & Economic Statistics 36), for what correlation there is beyond the overlap. 0 with nothing to look at.
    """
    if num_losses < 2:
        return 0
    return max(1, int(min(0.4 * num_losses ** (2 / 3), 0.5 * num_losses / overlap)))


def long_run_covariance(losses_MK: np.ndarray, overlap: int) -> np.ndarray:
    """Covariance `[K, K]` of sqrt(M) times the mean losses, where neighbours in time are correlated.

    The mean of squared projections on the slowest cosines (EWC; Müller 2004, Lazarus et al. 2018): never negative, and
    a mean divided by its root has Student's t distribution with as many degrees of freedom as there are cosines.
    Windows that overlap are moving sums, which damp a cosine by a known factor: it is taken out again.
    """
    num_losses = len(losses_MK)
    waves = np.arange(1, long_run_degrees(num_losses, overlap) + 1)
    phase_M = (np.arange(num_losses) + 0.5) / num_losses
    cosines = math.sqrt(2 / num_losses) * np.cos(np.pi * np.outer(waves, phase_M))
    damped = np.sinc(waves * overlap / (2 * num_losses))
    projected = cosines @ losses_MK / damped[:, None]
    return np.asarray(projected.T @ projected / len(waves))


def two_sided_p(
    difference: np.ndarray, variances: Sequence[np.ndarray], degrees: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """p-values of "the true difference is zero", and their degrees of freedom.

    variances: of the difference, one array per independent source of noise; they add up. degrees: how well each of them
    is known (Welch 1947 and Satterthwaite 1946: the sum's degrees of freedom). With one variance for each side's seeds
    it is Welch's test, with one for windows alone the Diebold-Mariano test. Without any noise p is 0, or 1 for equals.
    """
    from scipy.stats import t

    total = sum(variances, np.zeros_like(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        known = sum((np.where(v > 0, v**2 / d, 0.0) for v, d in zip(variances, degrees, strict=True)), 0.0 * total)
        freedom = np.where(known > 0, total**2 / known, math.inf)
        p_value = 2 * t.sf(np.abs(difference) / np.sqrt(total), freedom)
    exact = np.where(difference == 0, 1.0, 0.0)
    return np.where(total > 0, p_value, exact), freedom


def diebold_mariano(difference_MK: np.ndarray, horizon: int) -> np.ndarray:
    """Two-sided p-values `[K]` of "no difference in expected loss", by the book: Diebold and Mariano (1995), with the
    small-sample correction and Student's t of Harvey, Leybourne and Newbold (1997).

    The variance takes all autocovariances up to lag horizon - 1 at full weight. NaN where that comes out as zero or
    less, and where the series is not longer than the horizon.
    """
    from scipy.stats import t

    length = len(difference_MK)
    if length <= max(horizon, 2):
        return np.full(difference_MK.shape[1], np.nan)
    centred = difference_MK - difference_MK.mean(0)
    spectrum = np.fft.rfft(centred, 2 * length, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:horizon] / length
    variance = covariance[0] + 2 * covariance[1:].sum(0)
    correction = (length + 1 - 2 * horizon + horizon * (horizon - 1) / length) / length
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.sqrt(correction) * difference_MK.mean(0) / np.sqrt(variance / length)
    return np.where(variance > 0, 2 * t.sf(np.abs(statistic), length - 1), np.nan)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted for their number: the chance of one false finding among all stays below the level (Holm 1979).

    Holds however they depend on each other. NaN is no comparison and stays NaN.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


# Bootstrap


def block_length(num_losses: int, overlap: int) -> int:
    """Three horizons: most of the correlation of overlapping windows lies within a block. At most half the series."""
    return max(1, min(max(3 * overlap, math.ceil(num_losses ** (1 / 3))), num_losses // 2))


def circular_means(losses_MK: np.ndarray, length: int, rng: np.random.Generator, draws: int = NUM_DRAWS) -> np.ndarray:
    """Means `[R, K]` of series put together from blocks of consecutive losses, the same blocks for all forecasters.

    Circular block bootstrap (Politis and Romano 1992): the end is followed by the beginning, so no loss is rarer.
    """
    size, num_forecasters = losses_MK.shape
    blocks, rest = divmod(size, length)
    sums = np.vstack([np.zeros(num_forecasters), np.cumsum(np.vstack([losses_MK, losses_MK[:length]]), axis=0)])
    of_block, of_rest = sums[length : length + size] - sums[:size], sums[rest : rest + size] - sums[:size]
    starts = rng.integers(size, size=(draws, blocks + 1))
    # How often each block was drawn, as a matrix: one product instead of an index per draw and forecaster.
    drawn = np.bincount((starts[:, :blocks] + size * np.arange(draws)[:, None]).ravel(), minlength=draws * size)
    return (drawn.reshape(draws, size) @ of_block + of_rest[starts[:, blocks]]) / size


def model_confidence_set(means_K: np.ndarray, deviations_RK: np.ndarray) -> np.ndarray:
    """p-values `[K]`: the forecasters at or above a level form a set that holds the best with a chance of 1 - level.

    Hansen, Lunde and Nason (2011, Econometrica 79), statistic T_max: as long as equality of those left is rejected, the
    worst goes. deviations_RK: of bootstrapped means from the means.
    """
    p_values, left, highest = np.ones(len(means_K)), np.arange(len(means_K)), 0.0
    while len(left) > 1:
        apart = means_K[left] - means_K[left].mean()
        noise = deviations_RK[:, left] - deviations_RK[:, left].mean(1, keepdims=True)
        scale = np.sqrt((noise**2).mean(0))
        nothing = 1e-12 * np.abs(means_K[left]).max()
        if max(scale.max(), apart.max()) <= nothing:  # equals, as naive and seasonal naive with a season of one row
            break
        distance = apart / np.maximum(scale, nothing)
        worst = int(distance.argmax())
        highest = max(highest, float((distance[worst] < (noise / np.maximum(scale, nothing)).max(1)).mean()))
        p_values[left[worst]] = highest
        left = np.delete(left, worst)
    return p_values


class Interval(NamedTuple):
    lower: float
    upper: float


def ratio_interval(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Interval:
    """95 % of a ratio of typical speeds, after to before, each from the samples of several runs.

    Typical is the median over runs of each run's median. Runs are drawn with replacement, and samples within them.
    """
    rng = np.random.default_rng(0)
    return percentile_interval(_drawn_medians(after, rng) / _drawn_medians(before, rng))


def _drawn_medians(runs: Sequence[Sequence[float]], rng: np.random.Generator) -> np.ndarray:
    medians = [np.median(rng.choice(np.asarray(samples), (NUM_DRAWS, len(samples))), axis=1) for samples in runs]
    picks = rng.integers(len(runs), size=(NUM_DRAWS, len(runs)))
    return np.asarray(np.median(np.take_along_axis(np.stack(medians, axis=1), picks, axis=1), axis=1))


# Over tasks


def task_draws(num_tasks: int) -> np.ndarray:
    """Tasks drawn with replacement, `[R, N]`: the same draws for every forecaster (Efron 1979)."""
    return np.random.default_rng(0).integers(num_tasks, size=(NUM_DRAWS, num_tasks))


def percentile_interval(values_R: np.ndarray) -> Interval:
    lower, upper = np.quantile(values_R, [SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2])
    return Interval(float(lower), float(upper))


def mean_ranks(errors_NK: np.ndarray) -> np.ndarray:
    """`[K]`: mean over tasks of the rank, 1 for the lowest error; equals share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(errors_NK, axis=1).mean(0))


def friedman(errors_NK: np.ndarray) -> float:
    """p-value of "all are equally good over tasks", from ranks (Friedman 1937), in the form of Iman and Davenport
    (1980) that Demšar (2006, JMLR 7) recommends; at least two tasks and three forecasters."""
    from scipy.stats import f, friedmanchisquare

    num_tasks, num_forecasters = errors_NK.shape
    chi = float(friedmanchisquare(*errors_NK.T).statistic)
    rest = num_tasks * (num_forecasters - 1) - chi
    if rest <= 1e-12 * chi:  # the same order on every task
        return 0.0
    statistic = (num_tasks - 1) * chi / rest
    return float(f.sf(statistic, num_forecasters - 1, (num_forecasters - 1) * (num_tasks - 1)))


def wilcoxon_holm(errors_NK: np.ndarray) -> np.ndarray:
    """p-values `[K, K]` of "no difference over tasks" by pair: Wilcoxon's signed-rank test (1945), after Holm."""
    from scipy.stats import wilcoxon

    first, second = np.triu_indices(errors_NK.shape[1], 1)
    pairs = [errors_NK[:, i] - errors_NK[:, j] for i, j in zip(first, second, strict=True)]
    adjusted = np.eye(errors_NK.shape[1])
    adjusted[first, second] = holm(np.array([float(wilcoxon(d).pvalue) if d.any() else 1.0 for d in pairs]))
    return np.maximum(adjusted, adjusted.T)


def tasks_needed(num_forecasters: int) -> int:
    """From how many tasks on the clearest possible order is significant by Wilcoxon's test after Holm: its smallest
    p-value with N tasks is 2 / 2^N, for the first of K (K - 1) / 2 pairs."""
    pairs = num_forecasters * (num_forecasters - 1) / 2
    return math.ceil(math.log2(2 * pairs / SIGNIFICANCE))
