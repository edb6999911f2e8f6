"""Reading tables: what is inferred and said so, and what is refused with its line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsbench.data.readers import read_panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByCounts
from tsbench.errors import ConfigError, DataError


def csv_text(num_rows: int = 60, freq: str = "h", header: str = "date,a,b") -> str:
    """Two channels: a counts 0, 1, 2, ..., b is ten times that."""
    stamps = pd.date_range("2024-01-01", periods=num_rows, freq=freq)
    return "\n".join([header, *(f"{stamp},{row},{10 * row}" for row, stamp in enumerate(stamps))]) + "\n"


def hourly_frame(num_rows: int = 60) -> pd.DataFrame:
    stamps = pd.date_range("2024-01-01", periods=num_rows, freq="h")
    return pd.DataFrame({"a": np.arange(num_rows, dtype=float)}, index=stamps)


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_text(csv_text())
    return path


def test_a_csv_needs_no_words_about_itself(sales: Path) -> None:
    panel = read_panel(sales)

    assert panel.name == "sales"
    assert panel.channels == ("a", "b")
    assert panel.values.tolist() == [[row, 10 * row] for row in range(60)]
    assert panel.values.dtype == np.float32
    assert panel.timestamps[1] == np.datetime64("2024-01-01T01:00")
    assert [len(part.values) for part in (panel.train, panel.validation, panel.test)] == [42, 6, 12]


def test_all_that_was_inferred_is_stated(sales: Path) -> None:
    inferred = read_panel(sales).inferred

    assert inferred == (
        "time column: 'date' (inferred)",
        "frequency: h (inferred from the timestamps)",
        "seasonality: 24 rows (the usual season of h)",
        "split: 70% / 10% / 20% of the rows, in order (default)",
    )


def test_nothing_that_was_told_is_stated_as_inferred(sales: Path) -> None:
    split = SplitByCounts(train=30, validation=10, test=10)

    panel = read_panel(sales, name="shop", time_column="date", targets=["b"], freq="h", seasonality=12, split=split)

    assert panel.inferred == ("left out: 'a', as targets does not name them",)
    assert (panel.name, panel.channels, panel.seasonality) == ("shop", ("b",), 12)
    assert len(panel.train.values) == 30


@pytest.mark.parametrize(
    ("freq", "seen", "season"),
    [
        ("h", "h", 24),
        ("30min", "30min", 48),
        ("15min", "15min", 96),
        ("10min", "10min", 144),
        ("D", "D", 7),
        ("B", "B", 5),
        ("W-TUE", "W-TUE", 52),
        ("MS", "MS", 12),
        ("ME", "ME", 12),
        ("QS", "QS-JAN", 4),
        ("YS", "YS-JAN", 1),
    ],
)
def test_the_season_follows_from_the_step_of_time(tmp_path: Path, freq: str, seen: str, season: int) -> None:
    path = tmp_path / "series.csv"
    path.write_text(csv_text(freq=freq))

    panel = read_panel(path)

    assert (panel.freq, panel.seasonality) == (seen, season)
    assert f"frequency: {seen} (inferred from the timestamps)" in panel.inferred
    assert f"seasonality: {season} rows (the usual season of {seen})" in panel.inferred


@pytest.mark.parametrize("header", ["date,a,b", "Timestamp,a,b", "ds,a,b", "when it was,a,b", ",a,b"])
def test_the_time_column_is_found_by_its_name_or_by_its_cells(tmp_path: Path, header: str) -> None:
    path = tmp_path / "series.csv"
    path.write_text(csv_text(header=header))

    panel = read_panel(path)

    assert panel.channels == ("a", "b")
    assert panel.inferred[0] == f"time column: {header.split(',')[0]!r} (inferred)"


def test_the_time_column_may_be_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("a,when\n" + "".join(f"{hour},2024-01-01 {hour:02}:00\n" for hour in range(24)))

    assert read_panel(path).channels == ("a",)


def test_a_numeric_column_called_time_does_not_hide_the_column_of_dates(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(csv_text(header="when,time,b"))

    assert read_panel(path).channels == ("time", "b")


def test_a_gzipped_csv_is_the_same_panel(sales: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed" / "sales.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(sales.read_bytes()))

    assert read_panel(packed).name == "sales"
    assert read_panel(packed).fingerprint == read_panel(sales).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(lambda text: text.replace("\n", "\r"), id="old Mac line ends"),
        pytest.param(lambda text: text.replace(",", ", "), id="blanks after commas"),
        pytest.param(lambda text: text + "\n\n", id="blank lines at the end"),
        pytest.param(lambda text: text.rstrip("\n"), id="no line end at the end"),
    ],
)
def test_how_a_csv_was_saved_does_not_matter(sales: Path, tmp_path: Path, change) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes(change(sales.read_text()).encode())

    assert read_panel(other).inferred == read_panel(sales).inferred  # the time column's name among them
    assert read_panel(other).fingerprint == read_panel(sales).fingerprint


def test_a_header_with_any_characters_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(csv_text(header='date,"T (°C), Luft",πλήθος 数'), encoding="utf-8")

    assert read_panel(path).channels == ("T (°C), Luft", "πλήθος 数")


def test_names_that_are_numbers_are_names_beside_a_named_time_column(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(csv_text(header="date,0,1"))

    assert read_panel(path).channels == ("0", "1")


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("cp1252", "encoding: cp1252 (inferred: line 1 is not UTF-8)"), ("utf-16", "encoding: utf-16 (inferred from its")],
)
def test_another_encoding_is_seen_and_stated_or_told(tmp_path: Path, encoding: str, note: str) -> None:
    path = tmp_path / "weather.csv"
    path.write_bytes(csv_text(header="date,°C,b").encode(encoding))

    seen, told = read_panel(path), read_panel(path, encoding=encoding)

    assert seen.channels == told.channels == ("°C", "b")
    assert [line for line in seen.notes if line not in told.notes] == [seen.notes[0]]
    assert seen.notes[0].startswith(note)


def test_time_zones_are_converted_to_utc_and_that_is_stated(tmp_path: Path) -> None:
    berlin = pd.date_range("2024-03-30 12:00", periods=48, freq="h", tz="Europe/Berlin")  # the clock skips an hour
    path = tmp_path / "series.csv"
    path.write_text("date,a\n" + "".join(f"{stamp.isoformat()},{i}\n" for i, stamp in enumerate(berlin)))

    panel = read_panel(path)

    assert panel.timestamps[0] == np.datetime64("2024-03-30T11:00")
    assert panel.freq == "h"
    assert "time zone: timestamps were converted to UTC" in panel.inferred


def test_timestamps_without_a_zone_are_not_said_to_be_converted(sales: Path) -> None:
    assert not any("time zone" in note for note in read_panel(sales).inferred)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(hourly_frame(), id="index"),
        pytest.param(hourly_frame().rename_axis("when"), id="named index"),
        pytest.param(hourly_frame().rename_axis("when").reset_index(), id="column"),
        pytest.param(hourly_frame().rename_axis("when").reset_index()[["a", "when"]].iloc[::1], id="last column"),
        pytest.param(hourly_frame().rename_axis("when").reset_index().set_index("a", drop=False), id="other index"),
    ],
)
def test_a_frame_may_carry_its_timestamps_as_index_or_as_column(frame: pd.DataFrame) -> None:
    panel = read_panel(frame, name="frame")

    assert panel.channels == ("a",)
    assert panel.values[:, 0].tolist() == list(range(60))
    assert panel.timestamps[0] == np.datetime64("2024-01-01")


def test_a_frame_is_left_as_it_was() -> None:
    frame = hourly_frame().rename(columns={"a": 0})
    before = frame.copy()

    assert read_panel(frame).channels == ("0",)  # channel names are text
    pd.testing.assert_frame_equal(frame, before)


def test_a_time_zone_in_a_frame_is_converted_to_utc() -> None:
    panel = read_panel(hourly_frame().tz_localize("Pacific/Auckland"))

    assert panel.timestamps[0] == np.datetime64("2023-12-31T11:00")
    assert "time zone: timestamps were converted to UTC" in panel.inferred


def test_a_value_that_float32_cannot_tell_from_its_neighbours_is_refused_not_rounded() -> None:
    frame = hourly_frame().assign(b=1e9 + np.arange(60) % 3)  # float32 has steps of 64 there

    with pytest.raises(DataError, match=r"column 'b': its values vary by 0.816 .* subtract a constant"):
        read_panel(frame)


def test_rows_are_named_by_line_in_a_file_and_by_number_in_a_frame(tmp_path: Path) -> None:
    frame = hourly_frame()
    frame.iloc[5] = np.nan
    path = tmp_path / "sales.csv"
    frame.rename_axis("date").to_csv(path)

    with pytest.raises(DataError, match=r"data, row 5, column 'a': a missing value"):
        read_panel(frame)
    with pytest.raises(DataError, match=r"sales.csv, line 7, column 'a': a missing value"):
        read_panel(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time_column": "when"}, "no column 'when' for the time; there are 'date', 'a', 'b'"),
        ({"targets": ["c"]}, "no column 'c'; there are 'date', 'a', 'b'"),
        ({"targets": ["a", "a"]}, "target 'a' is there twice"),
        ({"targets": []}, "nothing to forecast"),
        ({"freq": "H"}, "freq 'H' is no pandas offset alias; write h"),
        ({"freq": "D"}, "the freq given is 'D', but the timestamps follow 'h'"),
        ({"seasonality": 0}, "seasonality = 0: input should be greater than or equal to 1"),
        ({"seasonality": 2.5}, "seasonality = 2.5: input should be a valid integer"),
    ],
)
def test_what_is_told_must_be_true_of_the_file(sales: Path, options: dict, words: str) -> None:
    with pytest.raises((DataError, ConfigError)) as refusal:
        read_panel(sales, **options)

    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        pytest.param(pd.DataFrame(), "no rows; three or more are needed", id="nothing"),
        pytest.param(hourly_frame(0), "no rows; three or more are needed", id="no rows"),
        pytest.param(hourly_frame(2), "data, row 0: 2 rows; three are needed", id="two rows"),
        pytest.param(hourly_frame().reset_index(drop=True), "no time column: none of 'a' holds timestamps", id="clock"),
        pytest.param(hourly_frame().rename_axis("a"), "both called 'a'; rename one", id="same name"),
        pytest.param(pd.concat([hourly_frame()] * 2, axis=1), "'a' is there twice", id="column twice"),
        pytest.param(hourly_frame().assign(a="x"), "row 0, column 'a': 'x' is not a number (60 such", id="text"),
        pytest.param(hourly_frame().assign(a=np.inf), "row 0, column 'a': inf is not finite", id="inf"),
        pytest.param(hourly_frame().assign(a=2e39), "2e+39 is larger than float32 holds", id="large constant"),
    ],
)
def test_a_bad_frame_is_refused_with_the_row(frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        read_panel(frame)

    assert words in str(refusal.value)


# Items that are too short


def long_table(lengths: dict[str, int], freq: str = "D") -> pd.DataFrame:
    frames = [
        pd.DataFrame({"item": name, "date": pd.date_range("2024-03-31", periods=n, freq=freq), "y": range(1, n + 1)})
        for name, n in lengths.items()
    ]
    return pd.concat(frames)


@pytest.mark.parametrize("freq", ["D", "ME"])
def test_short_items_are_padded_when_that_is_asked_for_and_named(freq: str) -> None:
    told = {"item_columns": "item", "freq": freq, "split": {"by": "last", "test": 2}}
    panel = read_panel(long_table({"long": 12, "short": 7}, freq), pad_to=10, **told)

    assert panel.offsets.tolist() == [0, 12, 22]
    assert panel.values[12:, 0].tolist() == [1, 1, 1, *range(1, 8)]
    assert (panel.timestamps[12:] == pd.date_range(end=panel.timestamps[-1], periods=10, freq=freq)).all()
    assert "items: 1 of 2 have fewer than 10 rows; their first value is repeated" in " ".join(panel.notes)


def test_padded_rows_fill_contexts_and_are_in_no_target_and_no_statistic() -> None:
    table = long_table({"long": 12, "short": 7})
    panel = read_panel(table, item_columns="item", freq="D", split={"by": "last", "test": 2}, pad_to=10)

    assert panel.train.bounds.tolist() == [[0, 8], [15, 18]]
    targets = panel.train.starts(context_length=3, horizon=1) + 3
    assert targets.tolist() == [3, 4, 5, 6, 7, 15, 16, 17]  # the first true row of the short item is a target
    assert Scaler.fit(panel.train).std.tolist() == [[4.5], [2]]


def test_items_that_are_too_short_even_for_a_training_row_are_refused_with_what_to_say() -> None:
    table = long_table({"long": 12, "short": 4})

    with pytest.raises(DataError, match=r"1 of 2 items: short; to leave short ones out, say min_rows = 11"):
        read_panel(table, item_columns="item", freq="D", split={"by": "last", "test": 2}, pad_to=10)
