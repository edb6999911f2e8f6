"""Dataset cards: the shipped ones are complete, and a card of your own is checked key by key."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tsbench.data.cards import list_cards, load_card, read_card
from tsbench.errors import ConfigError
from tsbench.resources import resource_dir

LEAST = """
name = "shop"
title = "Sales of a shop"
source = "the till"
license = "CC0-1.0"
file = "shop.csv"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list_cards())
def test_every_shipped_card_says_whose_data_these_are(name: str) -> None:
    card = load_card(name)

    assert card.name == name
    assert card.title
    assert card.source
    assert card.license
    assert card.units
    if card.license.startswith("CC BY"):
        assert card.license.replace("-", " ") in card.attribution.replace("-", " ")


@pytest.mark.parametrize("name", list_cards())
def test_every_shipped_card_leaves_nothing_to_be_inferred(name: str) -> None:
    card = load_card(name)

    if card.synthetic is None:
        assert card.time_column or any("dated" in words or "invented" in words for words in card.defects)
        assert pd.tseries.frequencies.to_offset(card.freq)
        assert card.seasonality


@pytest.mark.parametrize("name", list_cards())
def test_every_shipped_file_can_be_had_and_verified(name: str) -> None:
    card = load_card(name)

    if card.file:
        embedded = resource_dir("datasets") / "files"
        assert card.sha256
        assert card.urls or (embedded / card.file).is_file() or (embedded / f"{card.file}.gz").is_file()


def test_the_cards_are_the_toml_files_of_the_folder() -> None:
    assert {"auckland_pedestrians", "etth1", "synthetic"} <= set(list_cards())
    assert list_cards() == sorted(path.stem for path in resource_dir("datasets").glob("*.toml"))


def test_a_card_without_the_optional_keys_is_cut_seven_one_two(tmp_path: Path) -> None:
    card = read_card(written(tmp_path, LEAST))

    assert str(card.split) == "70% / 10% / 20% of the rows, in order"
    assert (card.encoding, card.freq, card.seasonality, card.targets) == (None, None, None, None)


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_card("etth1").seasonality = 7


def test_an_unknown_dataset_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'eth1'; did you mean 'etth1'"):
        load_card("eth1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(LEAST + "fiel = 3", "unknown key 'fiel'; did you mean 'file'? allowed: attribution", id="typo"),
        pytest.param(
            LEAST + "[split]\nby = 'counts'\ntrian = 5\nvalidation = 1\ntest = 1",
            "unknown key 'split.counts.trian'; did you mean 'train'? allowed: by, end, gap, ",
            id="typo in a table",
        ),
        pytest.param(LEAST.replace('name = "shop"', ""), "key 'name' is missing", id="missing"),
        pytest.param(LEAST.replace('"shop"', '"My shop"'), "name = 'My shop': string should match", id="name"),
        pytest.param(LEAST + "[synthetic]\nseed = 3", "give either 'file' or a table 'synthetic'", id="both"),
        pytest.param(LEAST.replace("file =", "units ="), "give either 'file' or a table 'synthetic'", id="neither"),
        pytest.param(LEAST + "urls = ['https://x.org/shop.csv']", "'urls' need a 'sha256' to verify", id="unverified"),
        pytest.param(
            LEAST + f"urls = ['ftp://x.org/shop.csv']\nsha256 = '{'0' * 64}'",
            "urls.0 = 'ftp://x.org/shop.csv': string should match",
            id="address",
        ),
        pytest.param(LEAST + "sha256 = 'abc'", "sha256 = 'abc': string should match", id="checksum"),
        pytest.param(LEAST.replace("shop.csv", "data/shop.csv"), "file = 'data/shop.csv': string should", id="folder"),
        pytest.param(LEAST + "rows_are_consecutive = true", "'rows_are_consecutive' needs a 'freq'", id="no freq"),
        pytest.param(LEAST + "seasonality = 0", "seasonality = 0: input should be greater than", id="season"),
        pytest.param(LEAST + "seasonality = 'day'", "seasonality = 'day': input should be a valid int", id="type"),
        pytest.param(
            LEAST + "encoding = 'latin9'", "encoding = 'latin9': input should be 'utf-8', 'utf-16' or", id="encoding"
        ),
        pytest.param(LEAST + "[split]\nby = 'magic'", "'counts', 'fractions', 'dates'", id="split"),
        pytest.param("name = ", "not valid TOML", id="TOML"),
    ],
)
def test_a_wrong_card_is_refused_with_its_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as refusal:
        read_card(path)

    assert f"{path}: " in str(refusal.value)
    assert words in str(refusal.value)


def test_a_card_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_bytes(LEAST.replace("till", "café").encode("latin-1"))

    with pytest.raises(ConfigError, match=r"shop\.toml: not valid TOML"):
        read_card(path)
