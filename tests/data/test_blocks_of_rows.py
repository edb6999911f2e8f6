"""Windows in blocks: the same windows as in memory, and every one of them once in a pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsbench.data import blocks
from tsbench.data.blocks import BlockedWindows, scaled_rows, windows_of
from tsbench.data.mapped import MappedRows, RegularStamps
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByFractions, SplitByOrigins, SplitRule
from tsbench.data.windows import Windows, evenly_spaced_runs
from tsbench.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Blocks of a few windows, so that small panels have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "STRETCH_VALUES", 50)
        patch.setattr(blocks, "_BLOCK_VALUES", 120)
        patch.setattr(blocks, "_CHEST_VALUES", 300)
        patch.setattr(blocks, "_SHUFFLED_BLOCK_VALUES", 16)
        yield


def panels_of(lengths: list[int], folder: Path, split: SplitRule) -> tuple[Panel, Panel]:
    """A panel whose values are the numbers of their cells, in memory and mapped."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.arange(offsets[-1] * 2, dtype=np.float32).reshape(-1, 2)
    values.tofile(folder / "values")
    stamps = RegularStamps("h", np.full(len(lengths), np.datetime64("2024-01-01", "ns")), offsets)
    rest = {"channels": ("a", "b"), "freq": "h", "seasonality": 24, "split": split, "offsets": offsets}
    rest |= {"items": tuple(map(str, range(len(lengths)))) if len(lengths) > 1 else ("",)}
    return (
        Panel(name="whole", values=values, timestamps=stamps[:], **rest),
        Panel(name="mapped", values=MappedRows(folder / "values", values.shape), timestamps=stamps, **rest),
    )


def both(panels: tuple[Panel, Panel], part: str, context_length: int, horizon: int) -> tuple[Windows, Windows]:
    scaler = Scaler.fit(panels[0].train)
    found = [
        windows_of(getattr(panel, part), scaled_rows(panel, scaler, CPU), context_length, horizon) for panel in panels
    ]
    assert isinstance(found[1], BlockedWindows)
    assert not isinstance(found[0], BlockedWindows)
    return found[0], found[1]


SPLITS = [SplitByFractions(), SplitByOrigins(horizon=4, windows=3, stride=9)]


@pytest.mark.parametrize("split", SPLITS, ids=["fractions", "origins"])
@pytest.mark.parametrize("lengths", [[400], [80, 200, 65, 90]], ids=["one item", "items"])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_blocks_hold_the_windows_of_the_panel_in_memory(
    tmp_path: Path, lengths: list[int], part: str, split: SplitRule
):
    whole, blocked = both(panels_of(lengths, tmp_path, split), part, 6, 4)

    assert len(blocked) == len(whole)
    for ours, theirs in zip(blocked.in_order(7), whole.in_order(len(whole)), strict=False):
        torch.testing.assert_close(ours[0], theirs[0][: len(ours[0])], rtol=0, atol=0)
    inside = [torch.cat(parts) for parts in zip(*blocked.in_order(7), strict=True)]
    for ours, theirs in zip(inside, whole.batch(torch.arange(len(whole))), strict=True):
        assert torch.equal(ours, theirs)
    picks_B = torch.randperm(len(whole))[:9]
    for ours, theirs in zip(blocked.batch(picks_B), whole.batch(picks_B), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(blocked.between(2, 9), whole.between(2, 9), strict=True):
        assert torch.equal(ours, theirs)
    found = torch.cat([block.items_N for _, block in blocked.blocks()])
    assert torch.equal(found, whole.items_N)
    if part == "train":
        assert len(list(blocked.blocks())) > 1


def test_no_block_covers_more_rows_than_it_may(tmp_path: Path):
    _, blocked = both(panels_of([80, 200, 65, 90], tmp_path, SPLITS[0]), "train", 6, 4)
    sizes = [block.values_TC.numel() for _, block in blocked.blocks()]
    assert len(sizes) > 5
    assert max(sizes) <= 120


@given(
    lengths=st.lists(st.integers(60, 150), min_size=1, max_size=4),
    batch_size=st.integers(1, 70),
    num_steps=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_every_window_comes_once_before_any_comes_again(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], batch_size: int, num_steps: int, seed: int
):
    folder = tmp_path_factory.mktemp("panel")
    whole, blocked = both(panels_of(lengths, folder, SPLITS[0]), "train", 6, 4)
    number_of = {tuple(context.flatten().tolist()): n for n, context in enumerate(next(whole.in_order(10**6))[0])}

    drawn, steps = [], 0
    for source, picks in blocked.shuffled(batch_size, num_steps, seed):
        for picks_B in picks:
            source.open()
            context_BLC, _ = source.batch(picks_B)
            assert len(context_BLC) == batch_size
            drawn += [number_of[tuple(context.flatten().tolist())] for context in context_BLC]
            steps += 1

    assert steps == num_steps
    for low in range(0, len(drawn), len(whole)):
        a_pass = drawn[low : low + len(whole)]
        assert len(set(a_pass)) == len(a_pass)


def test_the_order_is_that_of_the_seed_and_comes_from_all_over_the_part(tmp_path: Path):
    _, blocked = both(panels_of([4000], tmp_path, SPLITS[0]), "train", 6, 4)

    def first_starts(seed: int) -> list[int]:
        chest, _ = next(blocked.shuffled(64, 5, seed))
        return blocked.starts.at(chest.numbers_n)[0].tolist()

    assert first_starts(0) == first_starts(0) != first_starts(1)
    numbers = np.array(first_starts(0))
    assert np.ptp(numbers) > 1000
    assert (np.abs(np.diff(numbers)) > 1).mean() > 0.9


def test_an_earlier_chest_is_put_back_when_it_is_asked_for_again(tmp_path: Path):
    _, blocked = both(panels_of([2000], tmp_path, SPLITS[0]), "train", 6, 4)
    stretches = blocked.shuffled(8, 200, seed=0)
    (first, picks), (second, _) = next(stretches), next(stretches)
    picks_B = next(picks)
    first.open()
    before = first.batch(picks_B)[0]

    second.open()
    assert not torch.equal(second.batch(picks_B)[0], before)
    first.open()
    assert torch.equal(first.batch(picks_B)[0], before)


def test_the_history_of_an_item_is_refused(tmp_path: Path):
    _, blocked = both(panels_of([400], tmp_path, SPLITS[0]), "test", 6, 4)
    with pytest.raises(DataError, match="reads all rows of an item"):
        blocked.histories(torch.arange(2))
    with pytest.raises(DataError, match="reads all rows of an item"):
        blocked.head(5).histories(torch.arange(2))


def test_runs_are_neighbours_from_all_over_or_all_windows():
    assert evenly_spaced_runs(5000, 5000) == [(0, 5000)]
    runs = evenly_spaced_runs(100_000, 10_000)
    assert runs[0] == (0, 1024)
    assert runs[-1][1] > 90_000
    assert 9_000 < sum(high - low for low, high in runs) <= 11_000
