"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from tsbench.report.wording import compact, decimals_for, fixed, listed, percent, power


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12_345, "12.3k"),
        (999.6, "1.00k"),
        (812.4, "812"),
        (1.5e6, "1.50M"),
        (0.04357, "0.0436"),
        (0, "0"),
        (math.nan, "–"),
    ],
)
def test_compact_keeps_three_significant_digits(value: float, text: str) -> None:
    assert compact(value) == text


def test_a_column_gets_the_decimals_of_its_smallest_value() -> None:
    assert decimals_for([0.3688, 12.5]) == 4
    assert fixed(92_191.7, decimals_for([92_191.7])) == "92,192"


def test_a_loss_has_a_true_minus_sign() -> None:
    assert percent(-1.361) == "−136.1%"


def test_lists_read_as_sentences() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_small_shares_are_powers_of_ten_with_two_digits() -> None:
    assert [power(share) for share in (0, 3.14e-9, 2.5e-13, 0.75, 1)] == ["0", "3.1e-9", "2.5e-13", "0.75", "1"]
