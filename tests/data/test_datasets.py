"""From a name to a panel: the shipped cards against the published facts, and cards of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tsbench.data.cards import list_cards, load_card
from tsbench.data.datasets import known_dataset, load_dataset, looks_like_file
from tsbench.data.files import find, found, read_verified
from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.errors import ConfigError, DataError

OWN_CARD = """
name = "shop"
title = "Sales of a shop"
source = "the till"
license = "CC0-1.0"
attribution = "Thank the till."
units = "pieces"
file = "shop.csv"
defects = ["Closed on holidays."]
"""


@pytest.fixture
def own_card(tmp_path: Path) -> Path:
    """A card beside its file: 40 days of one channel."""
    rows = [f"{np.datetime64('2024-01-01') + day},{day % 7}" for day in range(40)]
    (tmp_path / "shop.csv").write_text("\n".join(["date,sold", *rows]))
    (tmp_path / "shop.toml").write_text(OWN_CARD)
    return tmp_path / "shop.toml"


def load_or_skip(name: str, folder: Path) -> Panel:
    """A card's panel, from this folder alone: no test goes to the network."""
    if find(load_card(name), [folder]) is None:
        pytest.skip(f"{load_card(name).file} is not in {folder}")
    return load_dataset(name, data_dirs=[folder])


def parts(panel: Panel) -> list[int]:
    """The borders of train, validation and test of the one item."""
    train, validation, test = (part.bounds[0].tolist() for part in (panel.train, panel.validation, panel.test))
    assert train[1] == validation[0]
    assert validation[1] == test[0]
    return [train[0], train[1], test[0], test[1]]


@pytest.mark.parametrize(
    ("name", "rows", "channels", "borders"),
    [
        ("auckland_pedestrians", 17544, 8, [0, 12280, 14036, 17544]),
        ("auckland_pedestrians_tiny", 672, 3, [0, 384, 504, 672]),
        ("synthetic", 4000, 3, [0, 2800, 3200, 4000]),
    ],
)
def test_what_comes_with_the_project_loads_without_a_network(
    name: str, rows: int, channels: int, borders: list[int]
) -> None:
    panel = load_dataset(name)

    assert panel.values.shape == (rows, channels)
    assert parts(panel) == borders
    assert np.isfinite(panel.values).all()


@pytest.mark.parametrize(
    ("name", "rows", "channels", "borders"),
    [
        ("etth1", 17420, 7, [0, 8640, 11520, 14400]),
        ("etth2", 17420, 7, [0, 8640, 11520, 14400]),
        ("ettm1", 69680, 7, [0, 34560, 46080, 57600]),
        ("ettm2", 69680, 7, [0, 34560, 46080, 57600]),
        ("exchange", 7588, 8, [0, 5311, 6071, 7588]),
        ("ili", 966, 7, [0, 676, 773, 966]),
        ("weather", 52696, 21, [0, 36887, 42157, 52696]),
    ],
)
def test_the_literatures_files_are_cut_as_the_literature_does(
    shared_data: Path, name: str, rows: int, channels: int, borders: list[int]
) -> None:
    panel = load_or_skip(name, shared_data)

    assert panel.values.shape == (rows, channels)
    assert parts(panel) == borders
    assert panel.defects == load_card(name).defects


@pytest.mark.parametrize("name", [name for name in list_cards() if load_card(name).file])
def test_a_card_reads_its_file_and_states_its_size(shared_data: Path, name: str) -> None:
    if name == "stallion":
        pytest.importorskip("pyarrow", reason="Parquet is the extra 'parquet'")
    card = load_card(name)
    if not found([card], [shared_data]):
        pytest.skip(f"{card.file} is not in {shared_data}")

    panel = load_dataset(name, data_dirs=[shared_data])

    assert (len(panel.items), panel.num_channels) == (
        card.num_items or len(panel.items),
        card.num_channels or panel.num_channels,
    )
    assert len(panel.values) == (card.num_rows or len(panel.values))
    assert (panel.freq, panel.seasonality) == (card.freq, card.seasonality)
    assert not any("inferred" in note or "default" in note for note in panel.notes)
    sizes = [len(read_verified(find(part, [shared_data]), part).replace(b"\r\n", b"\n")) for part in card.each_file()]
    if name != "stallion":  # binary: nothing is replaced in it
        assert sizes == [part.size or size for part, size in zip(card.each_file(), sizes, strict=True)]


def test_m4_is_put_together_of_its_two_files(shared_data: Path) -> None:
    """The Monash archive has the same series in one file, with dates."""
    ours, theirs = (load_or_skip(name, shared_data) for name in ("m4_hourly", "monash_m4_hourly"))

    assert ours.offsets.tolist() == theirs.offsets.tolist()
    np.testing.assert_allclose(ours.values, theirs.values)
    first = ours.timestamps[ours.offsets[:-1]]
    last = ours.timestamps[ours.offsets[1:] - 1]
    assert ((last - first) / np.timedelta64(1, "h") + 1).tolist() == np.diff(ours.offsets).tolist()


def test_lstnets_exchange_rates_are_the_literatures_with_the_last_two_swapped(shared_data: Path) -> None:
    lstnet, ltsf = (load_or_skip(name, shared_data).values for name in ("lstnet_exchange", "exchange"))

    np.testing.assert_allclose(lstnet[:, [0, 1, 2, 3, 4, 5, 7, 6]], ltsf, rtol=1e-6)


ROWS = """
name = "shop"
title = "Sales of two shops"
source = "the till"
license = "CC0-1.0"
file = "train.csv"
layout = "rows"
freq = "D"
start = 2024-01-01

[[more_files]]
file = "test.csv"
"""


def two_files(folder: Path, train: str, test: str) -> str:
    (folder / "train.csv").write_text(f"V1,V2,V3,V4,V5,V6,V7,V8,V9,V10,V11\n{train}\n")
    (folder / "test.csv").write_text(f"V1,V2,V3\n{test}\n")
    (folder / "shop.toml").write_text(ROWS)
    return str(folder / "shop.toml")


def test_rows_of_a_second_file_follow_those_of_their_item(tmp_path: Path) -> None:
    card = two_files(tmp_path, "a,1,2,3,4,5,6,7,8,9,10\nb,1,2,3,4,5,6,7,8,,", "b,9,10\na,11,12")  # another order

    panel = load_dataset(card)

    assert panel.items == ("a", "b")
    assert panel.values[:, 0].tolist() == [*range(1, 13), *range(1, 11)]
    assert panel.timestamps[[11, 12, 21]].astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-12", "2024-01-01", "2024-01-10"
    ]  # fmt: skip


def test_a_bad_cell_is_named_in_its_own_file(tmp_path: Path) -> None:
    card = two_files(tmp_path, "a,1,2,3,4,5,6,7,8,9,10", "a,11,twelve")

    with pytest.raises(DataError, match=r"test\.csv, line 2, column 'V3': 'twelve' is not a number"):
        load_dataset(card)


def test_what_could_not_be_verified_is_said_in_every_report(own_card: Path) -> None:
    own_card.write_text(OWN_CARD + 'sha256 = ""\n')

    assert load_dataset(str(own_card)).defects == (
        "Closed on holidays.",
        "The content was not verified: no checksum of the file is known.",
    )


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        (
            "etth1",
            [7.937742, 2.021039, 5.079771, 0.746186, 2.781762, 0.788453, 17.128262],
            [5.812749, 2.090105, 5.518794, 1.926379, 1.023523, 0.630237, 9.176491],
        ),
        (
            "etth2",
            [41.536835, 12.273453, 46.609773, 10.526153, 1.186992, -2.373218, 26.872023],
            [10.448841, 4.587113, 16.85819, 3.018606, 4.641011, 8.460911, 11.584719],
        ),
        (
            "exchange",  # published in LSTNet's order; this file swaps the last two columns
            [0.722936, 1.671601, 0.785566, 0.755919, 0.136683, 0.008888, 0.626755, 0.604825],
            None,
        ),
    ],
)
def test_training_statistics_are_the_published_ones(
    shared_data: Path, name: str, mean: list[float], std: list[float] | None
) -> None:
    scaler = Scaler.fit(load_or_skip(name, shared_data).train)

    np.testing.assert_allclose(scaler.mean, mean, atol=1e-6)
    if std is not None:
        np.testing.assert_allclose(scaler.std, std, atol=1e-6)


def test_etth1_has_the_published_dates(shared_data: Path) -> None:
    panel = load_or_skip("etth1", shared_data)

    edges = panel.timestamps[[0, 8639, 8640, 11519, 11520, 14399]].astype("datetime64[h]").astype(str).tolist()
    assert edges[:2] == ["2016-07-01T00", "2017-06-25T23"]
    assert edges[2:4] == ["2017-06-26T00", "2017-10-23T23"]
    assert edges[4:] == ["2017-10-24T00", "2018-02-20T23"]


def test_rows_are_taken_as_consecutive_only_where_the_card_says_so(shared_data: Path) -> None:
    """Weather repeats a timestamp: as a plain file it is refused."""
    assert load_or_skip("weather", shared_data).freq == "10min"

    with pytest.raises(DataError, match="repeats the one of line 19045"):
        load_dataset(str(find(load_card("weather"), [shared_data])))


def test_a_card_of_your_own_finds_the_file_beside_it(own_card: Path) -> None:
    panel = load_dataset(str(own_card))

    assert (panel.name, panel.channels, panel.freq, panel.seasonality) == ("shop", ("sold",), "D", 7)
    assert (panel.about.title, panel.about.attribution, panel.about.units) == (
        "Sales of a shop",
        "Thank the till.",
        "pieces",
    )
    assert panel.defects == ("Closed on holidays.",)


def test_a_data_folder_comes_before_the_file_beside_the_card(own_card: Path, tmp_path: Path) -> None:
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "shop.csv").write_text((tmp_path / "shop.csv").read_text().replace("sold", "sold_newer"))

    assert load_dataset(str(own_card), data_dirs=[tmp_path / "newer"]).channels == ("sold_newer",)


def test_a_card_says_which_columns_and_rows_count(own_card: Path) -> None:
    rules = '[split]\nby = "dates"\nvalidation = 2024-01-21\ntest = 2024-01-31\nend = 2024-02-05\n'
    own_card.write_text(OWN_CARD + 'time_column = "date"\ntargets = ["sold"]\nseasonality = 14\n' + rules)

    panel = load_dataset(str(own_card))

    assert parts(panel) == [0, 20, 30, 35]
    assert panel.seasonality == 14
    assert panel.inferred == ("frequency: D (inferred from the timestamps)",)


def test_a_card_says_how_its_file_was_saved(own_card: Path, tmp_path: Path) -> None:
    text = (tmp_path / "shop.csv").read_text().replace("sold", "größe")
    (tmp_path / "shop.csv").write_bytes(text.encode("cp1252"))
    own_card.write_text(OWN_CARD + 'encoding = "cp1252"')

    assert load_dataset(str(own_card)).channels == ("größe",)


def test_no_name_of_weather_is_garbled(shared_data: Path) -> None:
    channels = load_or_skip("weather", shared_data).channels

    assert not [name for name in channels if "ï¿½" in name]  # a replacement character of UTF-8, read as cp1252


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('time_column = "when"', "shop.csv: no column 'when' for the time"),
        ('targets = ["bought"]', "shop.csv: no column 'bought'; there are 'date', 'sold'"),
        ('freq = "h"', "shop.csv: the freq given is 'h', but the timestamps follow 'D'"),
        ('freq = "daily"', "shop.csv: freq 'daily' is no pandas offset alias"),
        ('[split]\nby = "counts"\ntrain = 90\nvalidation = 1\ntest = 1', "shop: the split (the first 90 / next 1"),
    ],
)
def test_a_card_that_does_not_fit_its_file_is_refused(own_card: Path, line: str, words: str) -> None:
    own_card.write_text(f"{OWN_CARD}{line}\n")

    with pytest.raises(DataError) as refusal:
        load_dataset(str(own_card))

    assert words in str(refusal.value)


def test_a_synthetic_card_is_the_series_of_its_keywords(tmp_path: Path) -> None:
    text = OWN_CARD.replace('file = "shop.csv"', "") + "[synthetic]\nnum_rows = 100\nnum_channels = 2\nseed = 5\n"
    (tmp_path / "made_up.toml").write_text(text)

    panel = load_dataset(str(tmp_path / "made_up.toml"))

    assert panel.values.shape == (100, 2)
    assert (panel.name, panel.about.license, panel.defects) == ("shop", "CC0-1.0", ("Closed on holidays.",))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("num_row = 100", "card 'shop', [synthetic]: unknown key 'num_row'; did you mean 'num_rows'?"),
        ("split = 1", "card 'shop', [synthetic]: unknown key 'split'"),
        ("num_rows = -1", "card 'shop', [synthetic]: num_rows = -1: give a whole number from 1"),
    ],
)
def test_a_synthetic_card_is_checked_keyword_by_keyword(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "made_up.toml").write_text(OWN_CARD.replace('file = "shop.csv"', "") + f"[synthetic]\n{line}\n")

    with pytest.raises(ConfigError) as refusal:
        load_dataset(str(tmp_path / "made_up.toml"))

    assert words in str(refusal.value)


def test_a_csv_is_a_dataset_by_its_path(own_card: Path) -> None:
    panel = load_dataset(str(own_card.with_suffix(".csv")))

    assert (panel.name, panel.about.title, panel.about.license) == ("shop", "shop.csv", "not stated")


def test_a_file_is_told_from_a_name_even_when_it_is_missing() -> None:
    assert looks_like_file("sales.csv")
    assert looks_like_file("folder/sales")
    assert not looks_like_file("etth1")
    assert not looks_like_file("ett")


def test_a_folder_with_the_name_of_a_dataset_or_a_group_is_meant_with_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("etth1", "m4", "shops"):
        (tmp_path / name).mkdir()

    assert [looks_like_file(name) for name in ("etth1", "m4", "shops", "./etth1", "./m4")] == [
        False,
        False,
        *[True] * 3,
    ]


def test_a_group_is_not_one_panel() -> None:
    with pytest.raises(ConfigError, match=r"m4 is a group of datasets; load one of them: m4_daily, m4_hourly, m4_"):
        load_dataset("m4")


def test_a_dataset_is_known_by_its_card_or_as_a_file() -> None:
    assert known_dataset("etth1") == "etth1"
    assert known_dataset("sales.csv") == "sales.csv"
    with pytest.raises(ConfigError, match="unknown dataset 'wether'; did you mean 'weather'"):
        known_dataset("wether")


def test_a_missing_card_of_your_own_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml: no such card"):
        load_dataset(str(tmp_path / "none.toml"))


def test_the_rows_of_a_further_file_go_on_where_the_items_of_the_first_end(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("V1,V2,V3,V4,V5\nH1,1,2,3,4\nH2,10,20,30,\n")
    (tmp_path / "test.csv").write_text("V1,V2,V3\nH2,40,50\nH1,5,6\n")
    (tmp_path / "both.toml").write_text(
        'name = "both"\ntitle = "t"\nsource = "s"\nlicense = "l"\nfile = "train.csv"\nfreq = "h"\nseasonality = 1\n'
        '[[more_files]]\nfile = "test.csv"\n[split]\nby = "last"\ntest = 2\nvalidation = 1\n'
    )

    panel = load_dataset(str(tmp_path / "both.toml"))

    assert panel.items == ("H1", "H2")
    assert panel.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50]
    assert panel.test.values[:, 0].tolist() == [5, 6, 40, 50]
    hours = (panel.timestamps - np.datetime64("1970-01-01")) / np.timedelta64(1, "h")
    assert hours.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]


def test_items_of_further_files_stand_beside_those_of_the_first_under_their_files_names(tmp_path: Path) -> None:
    for number in (1, 2):
        rows = "".join(f"2024-01-0{day},{number * day}\n" for day in range(1, 8))
        (tmp_path / f"shop{number}.csv").write_text(f"date,sales\n{rows}")
    (tmp_path / "shops.toml").write_text(
        'name = "shops"\ntitle = "t"\nsource = "s"\nlicense = "l"\nfile = "shop1.csv"\n'
        '[[more_files]]\nfile = "shop2.csv"\n[split]\nby = "last"\ntest = 2\n'
    )

    panel = load_dataset(str(tmp_path / "shops.toml"))

    assert panel.items == ("shop1", "shop2")
    assert panel.test.values[:, 0].tolist() == [6, 7, 12, 14]
