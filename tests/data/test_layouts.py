"""Layouts and formats: wide, long, a series a row, a folder; text, Parquet, Feather, archives, frames."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsbench.data.readers import read_panel
from tsbench.errors import ConfigError, DataError


def frame(lengths: dict[str, int], freq: str = "D") -> pd.DataFrame:
    """A long frame; item i counts from 100 i and starts i days later than the first."""
    parts = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": pd.date_range("2024-01-01", periods=length, freq=freq) + pd.Timedelta(days=number),
                "y": 100.0 * number + np.arange(length),
            }
        )
        for number, (name, length) in enumerate(lengths.items())
    ]
    return pd.concat(parts, ignore_index=True)


LONG = frame({"x": 30, "y": 40, "z": 20})
WIDE = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=50, freq="D"), "a": np.arange(50.0), "b": 1.0})


def test_a_long_table_is_a_panel_of_items_of_their_own_length_and_start() -> None:
    panel = read_panel(LONG)

    assert panel.items == ("x", "y", "z")
    assert panel.offsets.tolist() == [0, 30, 70, 90]
    assert panel.channels == ("y",)
    assert panel.values[[0, 30, 70], 0].tolist() == [0, 100, 200]
    assert panel.timestamps[[0, 30, 70]].astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-01", "2024-01-02", "2024-01-03",
    ]  # fmt: skip
    assert "item column: 'unique_id' (inferred)" in panel.notes


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_rows_does_not_matter_and_is_stated(seed: int) -> None:
    shuffled = LONG.sample(frac=1, random_state=seed)

    panel = read_panel(shuffled)

    assert sorted(panel.items) == ["x", "y", "z"]
    assert any(note.startswith("order: rows were sorted by time") for note in panel.notes)
    for item, low, high in zip(panel.items, panel.offsets, panel.offsets[1:], strict=False):
        expected = LONG[LONG.unique_id == item]
        assert panel.values[low:high, 0].tolist() == expected.y.tolist()
        assert panel.timestamps[low:high].tolist() == expected.ds.to_numpy("datetime64[ns]").tolist()


@pytest.mark.parametrize(
    "names", [("shop", "when", "sold"), ("id", "timestamp", "value"), ("Region", "Month", "Trips")]
)
def test_a_long_table_may_have_other_names(names: tuple[str, str, str]) -> None:
    panel = read_panel(LONG.set_axis(names, axis="columns"))

    assert (panel.items, panel.channels) == (("x", "y", "z"), names[2:])


def test_the_fewest_columns_that_tell_stamps_apart_name_the_item() -> None:
    grid = [(shop, item) for shop in ("s1", "s2") for item in ("i1", "i2")]
    parts = [WIDE[["date", "a"]].assign(shop=shop, item_name=item, land="NZ") for shop, item in grid]

    panel = read_panel(pd.concat(parts))

    assert panel.items == ("s1 / i1", "s1 / i2", "s2 / i1", "s2 / i2")
    assert "item columns: 'shop', 'item_name' (inferred: they tell equal stamps apart)" in panel.notes
    assert "left out: 'land', words that describe an item" in panel.notes


def test_items_may_be_told_by_a_column_of_numbers() -> None:
    numbered = LONG.assign(unique_id=LONG.unique_id.map({"x": 7, "y": 8, "z": 9})).rename(columns={"unique_id": "shop"})

    with pytest.raises(DataError, match=r"repeats the one of row .* Name them: item_columns"):
        read_panel(numbered)
    assert read_panel(numbered, item_columns="shop").items == ("7", "8", "9")


def test_an_item_called_na_is_an_item(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    LONG.assign(unique_id=LONG.unique_id.replace({"x": "NA"})).to_csv(path, index=False)

    assert read_panel(path).items == ("NA", "y", "z")


def test_beside_ds_and_y_other_columns_are_left_out_and_named() -> None:
    panel = read_panel(LONG.assign(price=2.0))

    assert panel.channels == ("y",)
    assert "target: 'y', as the names ds and y mean it; left out: 'price'" in panel.notes
    assert read_panel(LONG.assign(price=2.0), targets=["y", "price"]).channels == ("y", "price")


@pytest.mark.parametrize(
    "name", ["x.csv", "x.tsv", "x.csv.gz", "x.csv.bz2", "x.csv.xz", "x.zip", "x.parquet", "x.feather"]
)
def test_the_same_table_is_the_same_panel_in_every_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = WIDE.to_csv(index=False, sep="\t" if "tsv" in name else ",").encode()
    if name.endswith(("parquet", "feather")):
        pytest.importorskip("pyarrow", reason="Arrow comes with the extra 'parquet'")
        buffer = io.BytesIO()
        (WIDE.to_parquet if name.endswith("parquet") else WIDE.to_feather)(buffer)
        data = buffer.getvalue()
    elif name.endswith("zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/x.csv", data)
        data = buffer.getvalue()
    else:
        data = {"gz": gzip, "bz2": bz2, "xz": lzma}[path.suffix[1:]].compress(data) if name.count(".") > 1 else data
    path.write_bytes(data)

    panel = read_panel(path)

    assert panel.fingerprint == read_panel(WIDE).fingerprint
    assert panel.name == "x"


class SpeaksArrow:
    """A frame of a library that nobody here knows."""

    def __init__(self, table: object) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrap", [lambda table: table, SpeaksArrow], ids=["pyarrow", "anything"])
def test_frames_of_other_libraries_are_read(wrap) -> None:
    arrow = pytest.importorskip("pyarrow", reason="Arrow comes with the extra 'parquet'")

    assert read_panel(wrap(arrow.Table.from_pandas(LONG))).fingerprint == read_panel(LONG).fingerprint


@pytest.mark.parametrize("thing", [3, None, [1, 2], {"a": 1}])
def test_what_is_no_frame_is_refused(thing: object) -> None:
    with pytest.raises(DataError, match="give a path, a DataFrame"):
        read_panel(thing)


def test_a_file_without_a_header_gets_one_and_that_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    WIDE.to_csv(path, index=False, header=False)

    panel = read_panel(path)

    assert panel.channels == ("column_2", "column_3")
    assert panel.values[0].tolist() == [0, 1]
    assert panel.notes[0] == "header: none, columns are named column_1, column_2, ... (line 1 holds values)"


def test_rows_without_dates_get_them_only_when_their_step_is_told(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    WIDE[["a", "b"]].to_csv(path, index=False)

    with pytest.raises(DataError, match=r"no time column: .* --set freq=h --set start=2024-01-01"):
        read_panel(path)
    panel = read_panel(path, freq="MS", start="2000-02-01")
    assert str(panel.timestamps[-1])[:10] == "2004-03-01"
    assert "timestamps: made up, MS from 2000-02-01 00:00:00 on (the file has none)" in panel.notes


def test_time_may_stand_in_columns_of_its_parts() -> None:
    stamps = pd.date_range("2024-01-30", periods=60, freq="h")
    parts = pd.DataFrame({"year": stamps.year, "month": stamps.month, "day": stamps.day, "hour": stamps.hour, "a": 1.5})

    panel = read_panel(parts)

    assert (panel.channels, panel.freq) == (("a",), "h")
    assert panel.timestamps[-1] == np.datetime64(stamps[-1])


def test_a_column_of_years_is_the_time() -> None:
    years = pd.DataFrame({"Country": ["NZ"] * 30 + ["DE"] * 30, "Year": [*range(1990, 2020)] * 2, "Trips": 1.5})

    panel = read_panel(years)

    assert (panel.items, panel.freq, panel.channels) == (("NZ", "DE"), "YS-JAN", ("Trips",))


M4 = '"V1","V2","V3","V4","V5","V6","V7","V8"\n"H1","1","2","3","4","5","6","7"\n"H2","8","9","10","11","12",,\n'


def test_m4s_rows_are_items_and_their_padding_is_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "m4.csv"
    path.write_text(M4)

    panel = read_panel(path, freq="h")

    assert panel.items == ("H1", "H2")
    assert panel.values[:, 0].tolist() == list(range(1, 13))
    assert panel.offsets.tolist() == [0, 7, 12]


def test_a_hole_in_an_m4_row_is_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "m4.csv"
    path.write_text(M4.replace('"9"', ""))

    with pytest.raises(DataError, match="line 3, column 'V3': a missing value"):
        read_panel(path, freq="h")


def test_the_files_of_a_folder_are_the_items_of_a_panel(tmp_path: Path) -> None:
    for number, name in enumerate(["east", "west"]):
        WIDE.assign(a=WIDE.a + number).head(30 + number).to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "notes.md").write_text("no data")

    panel = read_panel(tmp_path)

    assert (panel.name, panel.items, panel.offsets.tolist()) == (tmp_path.name, ("east", "west"), [0, 30, 61])
    assert "folder: not read: notes.md" in panel.notes


def test_a_place_in_a_folder_is_a_line_of_a_file(tmp_path: Path) -> None:
    WIDE.to_csv(tmp_path / "east.csv", index=False)
    WIDE.assign(a=WIDE.a.where(WIDE.a != 3)).to_csv(tmp_path / "west.csv", index=False)

    with pytest.raises(DataError, match=r"^\S*west.csv, line 5, column 'a': a missing value"):
        read_panel(tmp_path)


def test_files_with_other_columns_are_no_panel(tmp_path: Path) -> None:
    WIDE.to_csv(tmp_path / "east.csv", index=False)
    WIDE.rename(columns={"b": "c"}).to_csv(tmp_path / "west.csv", index=False)

    with pytest.raises(DataError, match=r"west.csv: columns 'a', 'c', but .*east.csv has 'a', 'b'"):
        read_panel(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without data files"):
        read_panel(tmp_path / "empty")


def test_short_items_are_named_and_left_out_only_when_told() -> None:
    short = frame({"x": 30, "tiny": 3, "z": 20})

    with pytest.raises(DataError, match=r"does not fit 3 rows: .*1 of 3 items: tiny; .* min_rows = 4"):
        read_panel(short)
    panel = read_panel(short, min_rows=4)
    assert panel.items == ("x", "z")
    assert "items: 1 of 3 have fewer than 4 rows and are left out: tiny" in panel.notes


def test_an_unknown_word_about_a_file_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="read_panel: unknown key 'targts'; did you mean 'targets'"):
        read_panel(WIDE, targts=["a"])


def test_fifty_thousand_items_are_read_and_cut_into_windows_without_a_loop_over_them() -> None:
    """A loop in Python over 50,000 items of pandas' or numpy's objects takes far longer than this."""
    items, rows = 50_000, 20
    many = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(items), rows).astype(str),
            "ds": np.tile(pd.date_range("2024-01-01", periods=rows, freq="D"), items),
            "y": np.arange(items * rows, dtype=float) % 97,
        }
    )

    panel = read_panel(many)

    assert len(panel.items) == items
    assert len(panel.train.starts(4, 2)) == items * (14 - 4 - 2 + 1)
    assert panel.test.values.shape == (items * 4, 1)
