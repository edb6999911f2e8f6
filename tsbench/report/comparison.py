"""Which of several forecasters are better on one task, beyond the noise of seeds and of the stretch of time scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tsbench.report.statistics import (
    SIGNIFICANCE,
    Interval,
    block_length,
    circular_means,
    diebold_mariano,
    holm,
    long_run_covariance,
    long_run_degrees,
    model_confidence_set,
    percentile_interval,
    two_sided_p,
)

CONFIDENCE = 0.9
"""Of the model confidence set: the level of its authors."""
SAME = 1e-7
"""Relative distance of two errors below which float32 forecasts are the same."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What a comparison sees of one forecaster."""

    errors: Sequence[float]
    """Mean loss of each seed."""
    exact: bool
    """Not trained: another seed would give the same."""
    losses_M: np.ndarray | None
    """Mean over seeds of the loss of each origin, in the order of time; None where a record does not hold them."""

    @property
    def knows_seeds(self) -> bool:
        return self.exact or len(self.errors) > 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """All pairs of the forecasters of one task.

    The distance of two mean errors has three independent sources of noise: the seeds of the one, the seeds of the
    other, and the windows, which both share. Their variances add up, and Student's t has the degrees of freedom that
    Welch and Satterthwaite give for such a sum. One observation of seeds is the error of one run; one observation of
    windows is the loss of an origin, mean over steps, channels, items and seeds, correlated over a horizon and more.
    """

    samples: tuple[Sample, ...]
    overlap: int
    """Consecutive losses that share a target: where every row is an origin, a horizon of them."""

    @cached_property
    def means(self) -> np.ndarray:
        return np.array([np.mean(sample.errors) for sample in self.samples])

    @property
    def num_pairs(self) -> int:
        """What is compared, and corrected for: all pairs, because the best is known only after looking at all."""
        return int(np.isfinite(self.raw_p[np.triu_indices(len(self.samples), 1)]).sum())

    @cached_property
    def with_windows(self) -> np.ndarray:
        """Places of the forecasters whose losses by window are known."""
        return np.array([place for place, sample in enumerate(self.samples) if sample.losses_M is not None], dtype=int)

    @cached_property
    def _losses(self) -> np.ndarray:
        """`[M, K]`, of `with_windows`."""
        return np.stack([self.samples[place].losses_M for place in self.with_windows], axis=1)

    @cached_property
    def degrees(self) -> int:
        """Of freedom, of the noise of windows; 0 where no losses by window are known."""
        return long_run_degrees(len(self._losses), self.overlap) if len(self.with_windows) > 1 else 0

    @cached_property
    def _seed_noise(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance of each mean error by seeds, 0 where it is unknown, and its degrees of freedom."""
        variances = [
            np.var(s.errors, ddof=1) / len(s.errors) if len(s.errors) > 1 and not s.exact else 0.0 for s in self.samples
        ]
        return np.array(variances), np.array([max(1, len(sample.errors) - 1) for sample in self.samples])

    @cached_property
    def _window_variance(self) -> np.ndarray:
        """`[K, K]`: variance of the difference of two mean errors by windows; NaN where it is unknown."""
        variance = np.full((len(self.samples), len(self.samples)), np.nan)
        if self.degrees:
            covariance = long_run_covariance(self._losses, self.overlap) / len(self._losses)
            own = np.diag(covariance)
            variance[np.ix_(self.with_windows, self.with_windows)] = np.maximum(own[:, None] + own - 2 * covariance, 0)
        return variance

    @cached_property
    def _tested(self) -> tuple[np.ndarray, np.ndarray]:
        difference = self.means[:, None] - self.means
        difference[np.abs(difference) <= SAME * np.abs(self.means).max(initial=0)] = 0.0
        (seeds, seed_degrees), windows = self._seed_noise, self._window_variance
        shape = difference.shape
        variances = [np.broadcast_to(seeds[:, None], shape), np.broadcast_to(seeds, shape), np.nan_to_num(windows)]
        degrees = [np.broadcast_to(seed_degrees[:, None], shape), np.broadcast_to(seed_degrees, shape)]
        p_value, freedom = two_sided_p(difference, variances, [*degrees, np.full(shape, max(1, self.degrees))])
        knows = np.array([sample.knows_seeds for sample in self.samples])
        p_value[np.isnan(windows) & ~(knows[:, None] & knows)] = np.nan  # nothing to judge by
        return p_value, freedom

    @property
    def raw_p(self) -> np.ndarray:
        """`[K, K]`: of "both have the same expected error", not corrected; NaN where there is nothing to judge by."""
        return self._tested[0]

    @cached_property
    def p_values(self) -> np.ndarray:
        """`[K, K]`: the same after Holm's correction over all pairs."""
        first, second = np.triu_indices(len(self.samples), 1)
        adjusted = np.eye(len(self.samples))
        adjusted[first, second] = adjusted[second, first] = holm(self.raw_p[first, second])
        return adjusted

    def same(self, one: int, other: int) -> bool | None:
        """Whether noise could explain the distance of two forecasters; None where nobody can say.

        One seed of a trained model may do to call two the same, since more noise makes no difference clearer, but never
        to call them different.
        """
        p_value = self.p_values[one, other]
        if math.isnan(p_value):
            return None
        if p_value >= SIGNIFICANCE:
            return True
        return False if self.samples[one].knows_seeds and self.samples[other].knows_seeds else None

    def knows_windows(self, one: int, other: int) -> bool:
        return bool(np.isfinite(self._window_variance[one, other]))

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Deviations `[R, K]` of mean errors from what they are: by windows, from blocks of time; and by seeds, as
        normal noise of the spread that was seen, since a handful of seeds cannot be drawn from."""
        rng = np.random.default_rng(0)
        length = block_length(len(self._losses), self.overlap)
        windows = circular_means(self._losses, length, rng) - self._losses.mean(0)
        seeds = rng.standard_normal(windows.shape) * np.sqrt(self._seed_noise[0][self.with_windows])
        return windows, seeds

    def interval(self, one: int, other: int) -> Interval | None:
        """95 % of the difference of two mean errors, by block bootstrap; None where losses by window are not known.

        Percentiles, widened as Student's t widens a normal distribution at the test's degrees of freedom: with few
        blocks or seeds a bootstrap sees too little of the noise.
        """
        if not self.knows_windows(one, other):
            return None
        first, second = (int(np.searchsorted(self.with_windows, place)) for place in (one, other))
        noise = sum(part[:, first] - part[:, second] for part in self._drawn)
        lower, upper = percentile_interval(_widening(self._tested[1][one, other]) * noise)
        difference = float(self.means[one] - self.means[other])
        return Interval(difference + lower, difference + upper)

    @cached_property
    def confidence_p(self) -> np.ndarray:
        """`[K]`: p-values of the model confidence set; NaN where losses by window are not known."""
        p_values = np.full(len(self.samples), np.nan)
        if self.degrees:
            windows, seeds = self._drawn
            widened = [_widening(degrees) for degrees in self._seed_noise[1][self.with_windows]]
            noise = _widening(self.degrees) * windows + np.array(widened) * seeds
            p_values[self.with_windows] = model_confidence_set(self.means[self.with_windows], noise)
        return p_values

    def by_the_book(self, reference: int) -> np.ndarray:
        """`[K]`: Diebold-Mariano p-values against one forecaster, of windows alone; NaN where there is none."""
        p_values = np.full(len(self.samples), np.nan)
        if reference in self.with_windows and self.degrees:
            difference = self._losses - self._losses[:, [np.searchsorted(self.with_windows, reference)]]
            p_values[self.with_windows] = diebold_mariano(difference, self.overlap)
        return p_values


def _widening(degrees: float) -> float:
    from scipy.stats import norm, t

    return float(t.isf(SIGNIFICANCE / 2, degrees) / norm.isf(SIGNIFICANCE / 2))
