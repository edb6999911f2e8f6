"""Which differences are called real."""

from __future__ import annotations

import warnings

import pytest
from scipy.stats import ttest_ind

from tsbench.report.statistics import geometric_mean, welch_p_value


def test_it_is_welchs_test() -> None:
    first, second = [0.31, 0.33, 0.32], [0.35, 0.34, 0.39]
    assert welch_p_value(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue, rel=1e-9)


def test_fewer_than_two_values_say_nothing() -> None:
    assert welch_p_value([0.3], [0.4, 0.5]) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([0.3, 0.3], [0.3, 0.3], 1.0), ([0.3, 0.3], [0.4, 0.4], 0.0)],
    ids=["equal constants are the same", "unequal constants differ"],
)
def test_forecasters_without_spread_are_told_apart_by_value(
    first: list[float], second: list[float], expected: float
) -> None:
    assert welch_p_value(first, second) == expected


def test_one_constant_side_is_a_one_sample_test_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p_value = welch_p_value([0.4, 0.4, 0.4], [0.31, 0.30, 0.32])
    assert p_value is not None
    assert p_value < 0.05


def test_the_geometric_mean_of_two_and_eight_is_four() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
