"""What may be concluded from a few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from scipy.stats import ttest_ind_from_stats

SIGNIFICANCE = 0.05
"""A difference with a p-value below this is called real."""


def welch_p_value(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of "both have the same mean" (Welch 1947, Biometrika 34); None with fewer than two values in
    either.

    One observation is the test error of one seed: assumed independent between seeds and roughly normal. Forecasters
    without any spread are told apart by their values alone.
    """
    if min(len(first), len(second)) < 2:
        return None
    means = fmean(first), fmean(second)
    if math.isclose(*means, rel_tol=1e-12):
        return 1.0
    spreads = math.sqrt(variance(first)), math.sqrt(variance(second))
    if spreads == (0.0, 0.0):
        return 0.0
    # From moments, not from values: ttest_ind warns of lost precision where all values of one side are equal.
    result = ttest_ind_from_stats(means[0], spreads[0], len(first), means[1], spreads[1], len(second), equal_var=False)
    return float(result.pvalue)


def geometric_mean(values: Sequence[float]) -> float:
    """Of at least one value; zero if one of them is."""
    return math.exp(fmean(math.log(value) for value in values)) if min(values) > 0 else 0.0
