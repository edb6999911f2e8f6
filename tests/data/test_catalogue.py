"""The catalogue: groups stand for their datasets, and the list is complete at any width."""

from __future__ import annotations

import pytest

from tsbench.data.cards import list_cards, load_card
from tsbench.data.catalogue import groups, is_group, listing, members
from tsbench.errors import ConfigError
from tsbench.resources import resource_dir

LTSF = ("electricity", "etth1", "etth2", "ettm1", "ettm2", "exchange", "ili", "traffic", "weather")


def test_the_groups_are_the_ones_that_the_literature_knows() -> None:
    sizes = {group: len(datasets) for group, datasets in groups().items()}

    assert groups()["ltsf"] == LTSF
    assert sizes["m4"] == 6
    assert sizes["lstnet"] == 4
    assert sizes["monash"] == 30
    assert sizes["darts"] == 16


def test_no_group_has_the_name_of_a_dataset() -> None:
    assert not groups().keys() & set(list_cards())


def test_a_group_stands_for_its_datasets_each_of_which_is_there_once() -> None:
    assert members(["etth1", "ltsf", "sales.csv"]) == [
        "etth1", *(name for name in LTSF if name != "etth1"), "sales.csv"
    ]  # fmt: skip
    assert members(["group:m4"]) == members(["m4"])


def test_a_group_may_be_named_as_one() -> None:
    assert is_group("ltsf")
    assert is_group("group:ltsf")
    assert not is_group("etth1")
    with pytest.raises(ConfigError, match="unknown group 'ltfs'; did you mean 'ltsf'"):
        members(["group:ltfs"])


@pytest.mark.parametrize("width", [60, 80, 100, 140, None])
def test_the_list_fits_the_terminal_and_says_everything(width: int | None) -> None:
    cards = [load_card(name) for name in list_cards()]

    lines = list(listing(cards, {"etth1"}, width))

    assert max(map(len, lines)) <= (width or 1000) or width == 60  # narrower than the columns: the terminal wraps
    text = " ".join(" ".join(lines).split())
    for card in cards:
        for fact in (card.name, card.freq, card.license, " ".join(card.title.split())):
            assert str(fact or "") in text


def test_a_line_that_is_piped_is_a_dataset() -> None:
    cards = [load_card(name) for name in ("etth1", "m4_hourly", "monash_dominick")]

    header, *lines = listing(cards, {"etth1"}, None)

    assert header.split() == ["name", "freq", "items", "rows", "size", "here", "licence", "title"]
    assert lines[0].split()[:7] == ["etth1", "h", "1", "17,420", "2.6", "MB", "yes"]
    assert lines[1].split()[:6] == ["m4_hourly", "h", "414", "373,372", "2.5", "MB"]
    assert lines[2].split()[:4] == ["monash_dominick", "7D", "115,704", "no"]  # nobody here knows its rows and size


def test_every_card_with_a_prefix_is_in_the_group_of_that_name() -> None:
    for path in resource_dir("datasets").glob("*_*.toml"):
        prefix = path.stem.partition("_")[0]
        if prefix in groups():
            assert path.stem in groups()[prefix]
