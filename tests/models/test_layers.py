"""Segments and their default length, by hand."""

from __future__ import annotations

import pytest
import torch

from tsbench.data.windows import WindowShape
from tsbench.models.layers import DirectHead, Segments, default_segment_length


def test_segments_are_consecutive_rows():
    segments = Segments(WindowShape(6, 1), length=2)

    cut_BND = segments(torch.arange(6.0).view(1, 6, 1))

    assert cut_BND.tolist() == [[[0, 1], [2, 3], [4, 5]]]


def test_the_first_row_is_repeated_in_front_where_the_length_does_not_divide_the_context():
    segments = Segments(WindowShape(7, 1), length=3)

    cut_BND = segments(torch.arange(7.0).view(1, 7, 1))

    assert cut_BND.tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert (segments.count, segments.width) == (3, 3)


def test_a_segment_holds_all_channels_of_its_rows():
    segments = Segments(WindowShape(3, 1, channels_in=2), length=2)

    cut_BND = segments(torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]]))

    assert cut_BND.tolist() == [[[1, 10, 1, 10], [2, 20, 3, 30]]]


def test_a_segment_is_at_most_the_context():
    assert Segments(WindowShape(5, 1), length=100).length == 5


@pytest.mark.parametrize(
    ("context_length", "seasonality", "expected"),
    [
        (96, 24, 24),  # four days: a day
        (168, 24, 24),  # a week: still a day, the longest divisor there is
        (95, 24, 12),  # a quarter of 95 is 23: the longest divisor of 24 below it
        (20, 24, 4),  # a quarter is 5
        (3, 24, 1),
        (40, 7, 7),
        (20, 7, 1),  # a quarter is 5, and 7 is prime
        (96, 1, 24),  # no season: of 24
    ],
)
def test_the_default_length_divides_the_season_and_leaves_four_segments(
    context_length: int, seasonality: int, expected: int
):
    shape = WindowShape(context_length, 6, seasonality=seasonality)

    assert default_segment_length(shape) == expected
    assert Segments(shape, None).length == expected


def test_the_head_lays_its_outputs_out_by_step_then_channel():
    head = DirectHead(1, WindowShape(4, horizon=3, channels_out=2))
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.arange(6.0))

    assert head(torch.zeros(1, 1)).tolist() == [[[0, 1], [2, 3], [4, 5]]]
