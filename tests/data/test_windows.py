"""Windows: one gather gives what slicing by hand gives, and a pass leaves none out."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsbench.data import windows as windows_module
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByLast
from tsbench.data.windows import Windows, shuffled_picks
from tsbench.errors import DataError

sizes = st.integers(1, 6)


def numbered(num_rows: int, channels: int) -> torch.Tensor:
    """No two cells are the same, so a wrong stride cannot look right."""
    return torch.arange(num_rows * channels, dtype=torch.float32).reshape(num_rows, channels)


@given(channels=sizes, context_length=sizes, horizon=sizes, data=st.data())
def test_a_batch_is_what_slicing_by_hand_gives(
    channels: int, context_length: int, horizon: int, data: st.DataObject
) -> None:
    values_TC = numbered(20, channels)
    last = 20 - context_length - horizon
    starts = data.draw(st.lists(st.integers(0, last), min_size=1, max_size=8))
    picks = data.draw(st.lists(st.integers(0, len(starts) - 1), min_size=1, max_size=8))

    windows = Windows(values_TC, torch.tensor(starts), context_length, horizon)
    context_BLC, target_BHC = windows.batch(torch.tensor(picks))

    for context, target, pick in zip(context_BLC, target_BHC, picks, strict=True):
        cutoff = starts[pick] + context_length
        assert torch.equal(context, values_TC[starts[pick] : cutoff])
        assert torch.equal(target, values_TC[cutoff : cutoff + horizon])


@given(num_batches=st.integers(1, 9), most=st.integers(1, 60))
def test_batches_gathered_together_are_those_gathered_one_by_one(num_batches: int, most: int) -> None:
    windows = Windows(numbered(20, 2), torch.arange(14), 4, 3)
    picks_KB = torch.randint(14, (num_batches, 3))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "_GATHER_VALUES", most)
        together = list(windows.batches(picks_KB))

    assert len(together) == num_batches
    for batch, picks_B in zip(together, picks_KB, strict=True):
        assert all(map(torch.equal, batch, windows.batch(picks_B)))


def test_windows_reach_the_last_row() -> None:
    values_TC = numbered(10, 2)

    _, target_BHC = Windows(values_TC, torch.tensor([5]), 3, 2).batch(torch.tensor([0]))

    assert torch.equal(target_BHC[0], values_TC[8:])


def test_values_may_begin_in_the_middle_of_their_memory() -> None:
    values_TC = numbered(30, 3)[10:]

    context_BLC, target_BHC = Windows(values_TC, torch.tensor([0, 4]), 5, 2).batch(torch.tensor([1, 0]))

    assert torch.equal(context_BLC, torch.stack([values_TC[4:9], values_TC[0:5]]))
    assert torch.equal(target_BHC, torch.stack([values_TC[9:11], values_TC[5:7]]))


def test_a_batch_may_be_overwritten_without_harm_to_the_values() -> None:
    values_TC = numbered(10, 1)

    context_BLC, _ = Windows(values_TC, torch.tensor([0]), 3, 2).batch(torch.tensor([0]))
    context_BLC.fill_(-1)

    assert torch.equal(values_TC, numbered(10, 1))


@pytest.mark.parametrize("batch_size", [1, 7, 32, 512])
def test_in_order_gives_every_window_once_for_any_batch_size(small_panel: Panel, batch_size: int) -> None:
    values_TC = torch.from_numpy(small_panel.values)
    windows = Windows.of(small_panel.test, values_TC, 24, 6)

    batches = list(windows.in_order(batch_size))

    starts = small_panel.test.starts(24, 6)
    assert torch.equal(
        torch.cat([context for context, _ in batches]), torch.stack([values_TC[s : s + 24] for s in starts])
    )
    assert torch.equal(
        torch.cat([target for _, target in batches]), torch.stack([values_TC[s + 24 : s + 30] for s in starts])
    )
    assert [len(target) for _, target in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_the_windows_of_a_part_are_as_many_as_it_owns(small_panel: Panel) -> None:
    values_TC = torch.from_numpy(small_panel.values)

    assert len(Windows.of(small_panel.test, values_TC, 24, 6)) == 80 - 6 + 1
    assert len(Windows.of(small_panel.train, values_TC, 24, 6)) == 280 - 24 - 6 + 1


def test_the_head_is_the_first_windows_and_leaves_the_whole_as_it_was(small_panel: Panel) -> None:
    windows = Windows.of(small_panel.test, torch.from_numpy(small_panel.values), 24, 6)

    head = windows.head(3)

    assert (len(head), len(windows)) == (3, 75)
    assert torch.equal(head.starts_N, windows.starts_N[:3])


@given(num_windows=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_every_pass_draws_every_window_once(num_windows: int, batch_size: int, seed: int) -> None:
    num_passes = 3
    num_steps = -(-num_passes * num_windows // batch_size)

    drawn = torch.cat(list(shuffled_picks(num_windows, batch_size, num_steps, seed)))

    for one_pass in islice(drawn.split(num_windows), num_passes):
        assert one_pass.sort().values.tolist() == list(range(num_windows))


@given(num_windows=st.integers(1, 40), batch_size=st.integers(1, 50), num_steps=st.integers(0, 9))
def test_every_batch_is_full_and_there_are_as_many_as_steps(num_windows: int, batch_size: int, num_steps: int) -> None:
    assert [len(picks) for picks in shuffled_picks(num_windows, batch_size, num_steps, 0)] == [batch_size] * num_steps


def test_passes_are_shuffled_and_differ_from_each_other() -> None:
    first, second = shuffled_picks(100, 100, 2, seed=0)

    assert first.tolist() != list(range(100))
    assert first.tolist() != second.tolist()


def test_the_same_seed_draws_the_same_order_whatever_torch_drew_before() -> None:
    once = torch.cat(list(shuffled_picks(50, 8, 20, seed=7)))
    torch.rand(3)
    again = torch.cat(list(shuffled_picks(50, 8, 20, seed=7)))

    assert torch.equal(once, again)
    assert not torch.equal(once, torch.cat(list(shuffled_picks(50, 8, 20, seed=8))))


def test_drawing_leaves_torchs_own_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(shuffled_picks(50, 8, 20, seed=7))

    assert torch.equal(torch.rand(3), expected)


def test_a_history_is_all_rows_of_the_item_before_the_target_and_begins_with_nan_where_it_is_shorter() -> None:
    values_TC = numbered(10, 2)
    stamps = pd.date_range("2024-01-01", periods=6, freq="D").to_numpy("datetime64[ns]")
    panel = Panel(
        "two", values_TC.numpy(), np.concatenate([stamps[:4], stamps]), ("a", "b"), "D", 1, SplitByLast(test=1),
        ("x", "y"), np.array([0, 4, 10]),
    )  # fmt: skip

    windows = Windows.of(panel.test, values_TC, 2, 1)
    history_BTC = windows.histories(torch.tensor([0, 1]))

    assert windows.items_N.tolist() == [0, 1]
    assert torch.equal(history_BTC[1], values_TC[4:9])
    assert history_BTC[0, :2].isnan().all()
    assert torch.equal(history_BTC[0, 2:], values_TC[:3])
    assert torch.equal(windows.head(1).histories(torch.tensor([0]))[0], values_TC[:3])


# Beside holes


def of_part(panel: Panel, part: str, context_length: int = 24) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply_to(panel))
    return Windows.of(getattr(panel, part), values_TC, context_length, 6)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_contexts_are_finite_and_targets_miss_what_is_missing(part: str, holed_panel: Panel) -> None:
    windows = of_part(holed_panel, part)

    context_BLC, target_BHC = next(windows.in_order(1000))

    rows_BH = windows.starts_N[:, None] + 24 + torch.arange(6)
    is_missing_BHC = torch.from_numpy(np.isnan(holed_panel.values))[rows_BH]
    never_seen_B1C = torch.from_numpy(np.isnan(holed_panel.values))[rows_BH[:, :1] - 24 + torch.arange(24)].all(1, True)
    assert context_BLC.isfinite().all()
    assert never_seen_B1C.any() == (part == "train")  # the stretch of forty rows in the first channel
    expected = is_missing_BHC if part == "test" else is_missing_BHC | never_seen_B1C
    assert torch.equal(target_BHC.isnan(), expected)


def test_a_window_without_a_value_in_its_target_is_none(holed_panel: Panel) -> None:
    rows = [holed_panel.test.starts(length, 6) + length for length in (24, 48)]

    low, high = holed_panel.test.bounds[0]
    expected = [row for row in range(low, high - 5) if not np.isnan(holed_panel.values[row : row + 6]).all()]
    assert rows[0].tolist() == rows[1].tolist() == expected
    assert holed_panel.test.empty_windows(24, 6) == high - 5 - low - len(expected) > 0


def test_a_part_of_nothing_but_holes_says_so(holed_panel: Panel) -> None:
    values = holed_panel.values.copy()
    values[holed_panel.test.rows] = np.nan

    with pytest.raises(DataError, match="every value of every window of the test part is missing"):
        replace(holed_panel, values=values).test.starts(24, 6)


def test_an_item_whose_windows_are_all_empty_is_told(holed_panel: Panel) -> None:
    values = holed_panel.values.copy()
    values[450:] = np.nan
    stamps = np.concatenate([holed_panel.timestamps[:250]] * 2)
    split = SplitByLast(test=40, validation=40)
    two = replace(
        holed_panel, values=values, items=("a", "b"), offsets=np.array([0, 250, 500]), timestamps=stamps, split=split
    )

    assert two.test.without_window(24, 6).tolist() == [1]
    assert two.validation.without_window(24, 6).tolist() == []
