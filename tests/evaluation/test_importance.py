"""From shares of rows to shares of lags."""

from __future__ import annotations

import numpy as np
import pytest

from tsbench.evaluation.importance import Explanation


def explained(shares_SL: list[list[float]], steps: list[int]) -> Explanation:
    return Explanation(np.array(steps), {"occlusion": np.array(shares_SL)}, {}, num_windows=5, num_channels=2)


def test_the_lag_is_the_forecast_row_less_the_context_row():
    # A context of four rows: rows 0 to 3 are at lags 4 to 1 of the first step, and at lags 6 to 3 of the third.
    shares_K = explained([[0.4, 0.3, 0.2, 0.1], [0.0, 0.0, 0.2, 0.8]], steps=[1, 3]).by_lag("occlusion")

    np.testing.assert_allclose(shares_K, [0, 0.05, 0.1, (0.3 + 0.8) / 2, (0.4 + 0.2) / 2, 0, 0])


def test_what_lies_at_one_lag_for_all_steps_adds_up_to_the_whole():
    one_lag = explained([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], steps=[1, 2, 3])

    assert one_lag.peak("occlusion") == (3, 1.0)
    assert one_lag.peak_row("occlusion") == (3, pytest.approx(1 / 3))


def test_what_lies_in_one_row_for_all_steps_is_spread_over_lags():
    last_row = explained([[0, 0, 0, 1], [0, 0, 0, 1]], steps=[1, 2])

    assert last_row.peak_row("occlusion") == (1, 1.0)
    assert last_row.peak("occlusion") == (1, 0.5)


def test_it_points_at_a_lag_where_the_peak_is_there_or_at_a_multiple():
    shares = explained([[0.6, 0.1, 0.3, 0.0]], steps=[1])  # lags 4, 3, 2, 1

    assert shares.points_at("occlusion", 4)
    assert shares.points_at("occlusion", 2)
    assert not shares.points_at("occlusion", 3)
    assert shares.share_at("occlusion", 2) == pytest.approx(0.9)


def test_nothing_points_nowhere():
    assert not explained([[0, 0, 0, 0]], steps=[1]).points_at("occlusion", 2)


def test_arrays_hold_all_of_it():
    whole = Explanation(
        np.array([1, 3]), {"occlusion": np.eye(2), "grad_cam": np.ones((2, 2))}, {"encoder 1": np.eye(3)}, 5, 2
    )

    again = Explanation.from_arrays(whole.to_arrays())

    assert (again.num_windows, again.num_channels) == (5, 2)
    assert again.steps_S.tolist() == [1, 3]
    assert {name: shares.tolist() for name, shares in again.importance.items()} == {
        "occlusion": [[1, 0], [0, 1]],
        "grad_cam": [[1, 1], [1, 1]],
    }
    assert again.attention["encoder 1"].tolist() == np.eye(3).tolist()
