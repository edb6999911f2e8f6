"""Dataset cards: the shipped ones are complete, and a card of your own is checked key by key."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tsbench.data.cards import DatasetCard, list_cards, load_card, read_card
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
        assert card.time_column or card.start or str(card.file).endswith(".tsf")
        assert pd.tseries.frequencies.to_offset(card.freq)
        assert card.seasonality
        assert not card.groups or (card.num_items and card.num_channels)


FILES = [part for name in list_cards() for part in load_card(name).each_file() if part.file]

NO_ADDRESS = {"monash_m3_monthly", "monash_m4_hourly", "monash_traffic_weekly", "gefcom2014_price"}
"""Where they lie is not known here."""


@pytest.mark.parametrize("part", FILES, ids=lambda part: str(part.file))
def test_every_shipped_file_can_be_had_and_verified(part: DatasetCard) -> None:
    embedded = resource_dir("datasets") / "files"

    assert part.urls or (embedded / part.file).is_file() or (embedded / f"{part.file}.gz").is_file() or (
        part.name in NO_ADDRESS
    )  # fmt: skip
    assert part.sha256 or part.checksum or (part.name.startswith("monash_") and part.sha256 == "")


@pytest.mark.parametrize("part", [part for part in FILES if part.urls], ids=lambda part: str(part.file))
def test_what_is_fetched_names_whom_to_cite_and_comes_by_a_safe_address(part: DatasetCard) -> None:
    assert part.citation
    assert all(url.startswith("https://") for url in part.urls)


def test_shipped_files_of_one_name_are_the_same_file() -> None:
    """They lie in one cache, and are looked for by their names."""
    known: dict[str, DatasetCard] = {}

    for part in FILES:
        other = known.setdefault(str(part.file).lower(), part)
        assert (part.file, part.sha256, part.checksum) == (other.file, other.sha256, other.checksum)


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
        pytest.param(
            LEAST + "urls = ['https://x.org/shop.csv']", "'urls' need a 'sha256' or a 'checksum'", id="unverified"
        ),
        pytest.param(
            LEAST + f"urls = ['ftp://x.org/shop.csv']\nsha256 = '{'0' * 64}'",
            "urls.0 = 'ftp://x.org/shop.csv': string should match",
            id="address",
        ),
        pytest.param(LEAST + "sha256 = 'abc'", "sha256 = 'abc': string should match", id="checksum"),
        pytest.param(LEAST.replace("shop.csv", "data/shop.csv"), "file = 'data/shop.csv': string should", id="folder"),
        pytest.param(LEAST.replace("shop.csv", ".."), "file = '..': string should match", id="folder above"),
        pytest.param(
            LEAST + "checksum = 'sha1:abc'", "checksum = 'sha1:abc': string should match", id="other checksum"
        ),
        pytest.param(LEAST + "size = 0", "size = 0: input should be greater than", id="size"),
        pytest.param(LEAST + "[[more_files]]\nsize = 1", "each of 'more_files' needs a 'file'", id="two files"),
        pytest.param(
            LEAST + "[[more_files]]\nfiel = 'b.csv'",
            "unknown key 'more_files.0.fiel'; did you mean 'file'? allowed: checksum, file, sha256, size, urls",
            id="typo in the second file",
        ),
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


def test_a_card_of_two_files_is_the_card_of_each(tmp_path: Path) -> None:
    text = f"freq = 'h'\nsha256 = '{'0' * 64}'\n[[more_files]]\nfile = 'more.csv'\nsize = 5\n"

    first, second = read_card(written(tmp_path, LEAST + text)).each_file()

    assert (first.file, first.sha256, first.size) == ("shop.csv", "0" * 64, None)
    assert (second.file, second.sha256, second.size) == ("more.csv", None, 5)
    assert (second.name, second.freq, second.more_files) == ("shop", "h", ())


def test_an_unknown_checksum_must_be_said_to_be_unknown(tmp_path: Path) -> None:
    assert read_card(written(tmp_path, LEAST + "urls = ['https://x.org/shop.csv']\nsha256 = ''")).sha256 == ""
