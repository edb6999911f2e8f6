"""What `datasets check` says of a panel, and the card that loads to the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsbench.data.check import autocorrelation, describe, write_card
from tsbench.data.datasets import load_dataset
from tsbench.data.readers import read_panel
from tsbench.data.synthetic import synthetic_panel
from tsbench.errors import DataError


def test_a_season_leaves_its_mark_in_the_changes_and_noise_does_not() -> None:
    seasonal = synthetic_panel(num_rows=2000, noise=0.01, long_period=24)
    noise = replace(seasonal, values=np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32))

    assert autocorrelation(seasonal.train, 24) > 0.9
    assert abs(autocorrelation(noise.train, 24)) < 0.1
    assert autocorrelation(seasonal.train, 600) is None  # less than three of them
    assert "note: there is little of a season of 24 rows; seasonality = 1 may be as good" in list(describe(noise))


def test_constants_outliers_and_likely_sentinels_are_named() -> None:
    panel = synthetic_panel(num_rows=400)
    values = panel.values.copy()
    values[:, 0] = 7
    values[50:53, 1] = -9999
    values[60, 2] = 1e6

    text = "\n".join(describe(replace(panel, values=values)))

    assert "note: channel_0 is constant in the training rows" in text
    assert "note: channel_1 holds -9999 3 times: if it stands for a missing value, say sentinels = -9999" in text
    assert "note: channel_2 has 1 outliers" in text
    assert "the farthest is 1e+06 at 2024-01-03 12:00:00" in text


def test_an_outlier_is_one_among_the_values_of_its_own_item() -> None:
    stamps = pd.date_range("2024-01-01", periods=40, freq="D")
    parts = [
        pd.DataFrame({"unique_id": name, "ds": stamps, "y": level + np.arange(40) % 5})
        for name, level in (("a", 0.0), ("b", 0.0), ("c", 0.0), ("d", 0.0), ("far", 1e4))
    ]

    assert "outliers" not in "".join(describe(read_panel(pd.concat(parts))))


def test_items_are_counted_and_their_lengths_shown() -> None:
    stamps = pd.date_range("2024-01-01", periods=30, freq="D")
    frame = pd.concat(
        [pd.DataFrame({"unique_id": name, "ds": stamps[:n], "y": 1.0}) for name, n in (("a", 20), ("b", 30))]
    )

    lines = list(describe(read_panel(frame)))

    assert "items: 2 of 20 to 30 rows: a, b" in lines
    assert "train:      14 to 21 rows an item from 2024-01-01 00:00:00" in lines


FILES = {
    "wide": ("date,a,b\n", "{day},{n},{n}.5\n", {}),
    "european": ("Datum;Größe\n", "{day:%d.%m.%Y};{n},5\n", {}),
    "holes": ("date,a\n", "{day},{hole}\n", {"missing": "interpolate"}),
    "masked": ("date,a\n", "{day},{hole}\n", {"missing": "mask"}),
    "no dates": ("a,b\n", "{n},{n}.5\n", {"freq": "MS", "start": "2020-01-01"}),
    "sentinels": ("date,a,b\n", "{day},{n},-9999\n", {"targets": "a", "sentinels": -9999}),
    "consecutive": ("date,a\n", "2024-01-01,{n}\n", {"freq": "h", "rows_are_consecutive": True}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_card_that_was_written_loads_to_the_same_panel(tmp_path: Path, kind: str) -> None:
    header, line, told = FILES[kind]
    days = pd.date_range("2024-01-01", periods=60, freq="D")
    rows = [line.format(day=day, n=n, hole="" if n == 9 else n) for n, day in enumerate(days)]
    path = tmp_path / "My file-2.csv"
    path.write_text("".join([header, *rows]), encoding="utf-8")
    panel = read_panel(path, **told)

    card = write_card(tmp_path / "mine.toml", panel, path, told)

    loaded = load_dataset(str(tmp_path / "mine.toml"))
    assert loaded.fingerprint == panel.fingerprint
    assert (card.name, card.file, loaded.name) == ("my_file_2", "My file-2.csv", "my_file_2")
    assert card.sha256


def test_a_card_of_a_folder_loads_to_the_same_panel(tmp_path: Path) -> None:
    folder = tmp_path / "shops"
    folder.mkdir()
    for name in ("a", "b"):
        synthetic = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=40, freq="h"), "y": range(40)})
        synthetic.to_csv(folder / f"{name}.csv", index=False)
    panel = read_panel(folder)

    write_card(tmp_path / "shops.toml", panel, folder, {})

    assert load_dataset(str(tmp_path / "shops.toml")).fingerprint == panel.fingerprint


def test_a_card_is_not_written_over_another_file_nor_away_from_its_data(tmp_path: Path) -> None:
    path = tmp_path / "data" / "sales.csv"
    path.parent.mkdir()
    path.write_text("date,a\n" + "".join(f"2024-01-{day:02},{day}\n" for day in range(1, 29)))
    panel = read_panel(path)

    with pytest.raises(DataError, match="is there already"):
        write_card(path, panel, path, {})
    for place in (tmp_path / "elsewhere" / "sales.toml", path.with_suffix(".txt")):
        with pytest.raises(DataError, match=r"a card ends in \.toml and lies beside its file or in a folder above"):
            write_card(place, panel, path, {})
