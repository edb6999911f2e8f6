"""Series as dicts: GluonTS's lists, Hugging Face's datasets, and what is wrong with some of them.

The two libraries are not among the tests' needs: `Rows` speaks as their datasets do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.errors import DataError, TsbenchError


def entry(item: str = "a", start: Any = "2024-01-01", num_rows: int = 40, **more: Any) -> dict[str, Any]:
    return {"item_id": item, "start": start, "target": np.arange(num_rows, dtype=np.float32), **more}


class Rows:
    """A dataset as GluonTS and Hugging Face have it: an iterable of dicts, more than once."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.column_names = list(rows[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self.rows

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def clock(panel: Panel, item: int = 0) -> list[str]:
    """First and last stamp of an item."""
    low, high = panel.offsets[item : item + 2]
    return [str(stamp)[:16] for stamp in panel.timestamps[[low, high - 1]]]


@pytest.mark.parametrize("wrap", [list, tuple, Rows, iter], ids=["list", "tuple", "dataset", "generator"])
def test_a_dict_is_an_item_that_begins_at_its_start(wrap: Any) -> None:
    panel = read_panel(wrap([entry("a"), entry("b", "2024-02-01", 50)]), freq="D")

    assert (panel.items, panel.channels, panel.freq, panel.seasonality) == (("a", "b"), ("target",), "D", 7)
    assert panel.values[:, 0].tolist() == [*range(40), *range(50)]
    assert clock(panel, 0) == ["2024-01-01T00:00", "2024-02-09T00:00"]
    assert clock(panel, 1) == ["2024-02-01T00:00", "2024-03-21T00:00"]


def test_one_dict_is_a_panel_of_one_item() -> None:
    assert read_panel(entry(), freq="D").values.shape == (40, 1)
    assert read_panel([{"start": "2024-01-01", "target": [1.0, 2.0] * 20}], freq="D").items == ("",)


def test_items_without_names_are_counted() -> None:
    entries = [{"start": "2024-01-01", "target": [1.0, 2.0] * 20}] * 2

    assert read_panel(entries, freq="D").items == ("series#1", "series#2")


@pytest.mark.parametrize(
    ("period", "freq", "first"),
    [
        (pd.Period("2024-01-05 07:00", "h"), "h", "2024-01-05T07:00"),
        (pd.Period("2024-01-05 07:15", "15min"), "15min", "2024-01-05T07:15"),
        (pd.Period("2024-01-05", "D"), "D", "2024-01-05T00:00"),
        (pd.Period("2024-01-05", "B"), "B", "2024-01-05T00:00"),
        (pd.Period("2024-01-05", "W-SUN"), "W-MON", "2024-01-01T00:00"),
        (pd.Period("2024-01-05", "W-THU"), "W-FRI", "2024-01-05T00:00"),
        (pd.Period("2024-02-05", "M"), "MS", "2024-02-01T00:00"),
        (pd.Period("2024-02-05", "3M"), "3MS", "2024-02-01T00:00"),
        (pd.Period("2024-02-05", "Q"), "QS-JAN", "2024-01-01T00:00"),
        (pd.Period("2024-02-05", "Y"), "YS-JAN", "2024-01-01T00:00"),
    ],
)
def test_a_period_knows_its_step(period: pd.Period, freq: str, first: str) -> None:
    """The stamps are those of the periods themselves, one after the other."""
    panel = read_panel([entry(start=period)])

    expected = pd.period_range(period, periods=40, freq=period.freq).to_timestamp()
    assert panel.freq == freq
    assert panel.timestamps.tolist() == expected.as_unit("ns").to_numpy().tolist()
    assert clock(panel)[0] == first


@pytest.mark.parametrize(
    "start",
    [
        "2024-01-01 05:00",
        pd.Timestamp("2024-01-01 05:00"),
        np.datetime64("2024-01-01T05"),
        np.array("2024-01-01T05", "M8[us]"),
    ],
)
def test_a_start_may_be_written_in_any_way(start: Any) -> None:
    assert clock(read_panel([entry(start=start)], freq="h")) == ["2024-01-01T05:00", "2024-01-02T20:00"]


def test_starts_with_a_time_zone_are_converted_to_utc() -> None:
    panel = read_panel([entry(start=pd.Timestamp("2024-01-01", tz="Pacific/Auckland"))], freq="h")

    assert clock(panel)[0] == "2023-12-31T11:00"
    assert "time zone: timestamps were converted to UTC" in panel.notes


def test_a_target_of_two_dimensions_is_channels_by_rows() -> None:
    panel = read_panel([entry() | {"target": np.arange(80.0).reshape(2, 40)}], freq="D")

    assert panel.channels == ("target_1", "target_2")
    assert panel.values[3].tolist() == [3, 43]


# Covariates


def with_features(item: str, kind: int, num_rows: int = 40, ahead: int = 0) -> dict[str, Any]:
    """As GluonTS makes them: arrays `[K, T]`, and `[S]` of an item."""
    row = np.arange(num_rows + ahead)
    return entry(
        item,
        num_rows=num_rows,
        past_feat_dynamic_real=np.array([row[:num_rows] * 0.5], dtype=np.float32),
        feat_dynamic_real=np.stack([row, -row]).astype(np.float32),
        feat_dynamic_cat=np.array([row % 3], dtype=np.int64),
        feat_static_real=np.array([kind + 0.25], dtype=np.float32),
        feat_static_cat=np.array([kind, 7 - kind], dtype=np.int64),
    )


def test_covariates_of_gluonts_have_the_role_that_their_name_tells() -> None:
    panel = read_panel([with_features("a", 1), with_features("b", 2, 50), with_features("c", 1)], freq="D")

    assert panel.channels == ("target",)
    assert panel.roles.past == ("past_feat_dynamic_real",)
    categories = tuple(f"feat_dynamic_cat={number}" for number in range(3))
    assert panel.roles.known == ("feat_dynamic_real_1", "feat_dynamic_real_2", *categories)
    assert panel.roles.static == ("feat_static_real", *(f"feat_static_cat_{n}" for n in ("1=1", "1=2", "2=5", "2=6")))
    assert panel.covariates
    assert panel.covariates.rows[40 + 4].tolist() == [2.0, 4.0, -4.0, 0, 1, 0]
    assert panel.covariates.static.tolist() == [[1.25, 1, 0, 0, 1], [2.25, 0, 1, 1, 0], [1.25, 1, 0, 0, 1]]
    assert any(note.startswith("covariates: past_feat_dynamic_real (past), feat_dyn") for note in panel.notes)


def test_known_values_after_the_target_are_the_future_and_left_out_by_name() -> None:
    panel = read_panel([with_features("a", 1, ahead=5), with_features("b", 1, ahead=7)], freq="D")

    assert panel.covariates
    assert panel.covariates.rows[[39, 40], 1].tolist() == [39, 0]
    words = "left out: up to 7 rows of 'feat_dynamic_real' after the last value of the target; "
    assert f"{words}Forecaster.predict takes them as its future" in panel.notes


def test_lists_of_a_hugging_face_dataset_are_covariates_alike_and_none_is_none() -> None:
    rows = [
        {key: None if key == "feat_dynamic_real" else np.asarray(value).tolist() for key, value in row.items()}
        for row in (with_features("a", 1), with_features("b", 1))
    ]

    panel = read_panel(Rows(rows), freq="D")

    assert panel.roles.past == ("past_feat_dynamic_real",)
    assert panel.roles.known == tuple(f"feat_dynamic_cat={number}" for number in range(3))
    assert "left out: 'feat_dynamic_real'" in panel.notes


def test_a_frame_of_lists_of_lists_holds_covariates_too() -> None:
    nested = np.empty(2, dtype=object)
    nested[:] = [np.ones(40), np.zeros(40)]
    frame = pd.DataFrame([with_features("a", 1) | {"feat_dynamic_real": nested}])

    assert read_panel(frame, freq="D").roles.known[:2] == ("feat_dynamic_real_1", "feat_dynamic_real_2")


def test_keys_that_are_told_have_the_role_that_is_told() -> None:
    rows = [
        entry(
            name, price=np.arange(40.0), size=number, colour="red" if number else "blue", feat_dynamic_real=np.ones(40)
        )
        for number, name in enumerate("ab")
    ]

    panel = read_panel(rows, freq="D", known=["price"], past=["feat_dynamic_real"], static=["size", "colour"])

    assert panel.channels == ("target",)
    assert panel.roles.by_name() == {
        "past": ["feat_dynamic_real"],
        "known": ["price"],
        "static": ["size", "colour=blue", "colour=red"],
    }


def test_static_features_that_tell_nothing_are_left_out() -> None:
    alone = read_panel([with_features("a", 1)], freq="D")
    rows = [entry(name, feat_static_cat=[number]) for number, name in enumerate("abc")]

    assert alone.roles.static == ()
    assert "left out: 'feat_static_real', 'feat_static_cat'" in alone.notes
    assert "left out: 'feat_static_cat'" in read_panel(rows, freq="D").notes


BAD_FEATURES = {
    "too few": ({"feat_dynamic_real": np.zeros((1, 39))}, "entry 1, 'feat_dynamic_real': 39 values for 40 rows; give"),
    "transposed": (
        {"feat_dynamic_real": np.zeros((40, 2))},
        "2 values for 40 rows; give [rows] or [covariates, rows],",
    ),
    "past with a future": (
        {"past_feat_dynamic_real": np.zeros((1, 41))},
        "'past_feat_dynamic_real': 41 values for 40 rows; give [rows] or [covariates, rows]",
    ),
    "other features": ({"feat_dynamic_real": np.zeros((3, 40))}, "entry 1: 3 channels, but entry 0 has 2"),
    "words": ({"feat_dynamic_real": ["x"] * 40}, "entry 1, 'feat_dynamic_real': not numbers"),
    "none in one": ({"feat_dynamic_real": None}, "entry 1, 'feat_dynamic_real': "),
    "missing category": ({"feat_dynamic_cat": [[np.nan] * 40]}, "'feat_dynamic_cat': a missing category"),
    "other statics": (
        {"feat_static_real": [1.0, 2.0]},
        "entry 1, 'feat_static_real': an array of shape (2,), in entry 0",
    ),
    "missing static": ({"feat_static_real": [np.nan]}, "entry 1, 'feat_static_real': a value is missing"),
}


@pytest.mark.parametrize("kind", BAD_FEATURES)
def test_a_covariate_that_does_not_fit_is_named_with_its_entry(kind: str) -> None:
    more, words = BAD_FEATURES[kind]
    rows = [with_features("a", 1), with_features("b", 1) | more]

    with pytest.raises(DataError) as refusal:
        read_panel(rows, freq="D")

    assert words in str(refusal.value)


def test_too_many_categories_are_refused() -> None:
    with pytest.raises(DataError, match="'feat_dynamic_cat': 101 categories, at most 100 are read"):
        read_panel([entry(num_rows=101, feat_dynamic_cat=[np.arange(101)])], freq="D")


def test_a_covariate_that_no_entry_has_is_named() -> None:
    with pytest.raises(DataError, match="no key 'price'; there are 'item_id', 'start', 'target'"):
        read_panel([entry()], freq="D", known=["price"])


# Other shapes


def test_sequences_of_timestamps_and_values_are_series_too() -> None:
    """As the collections of Chronos and fev have them."""
    stamps = pd.date_range("2024-01-01", periods=40, freq="h")
    row = {"id": "T1", "timestamp": stamps.to_numpy(), "load": np.arange(40.0), "price": list(range(40, 80))}

    panel = read_panel(Rows([row, {**row, "id": "T2"}]))

    assert (panel.items, panel.channels, panel.freq) == (("T1", "T2"), ("load", "price"), "h")
    assert panel.values[1].tolist() == [1, 41]
    assert read_panel([row], targets=["price"]).channels == ("price",)


def test_a_frame_or_a_parquet_file_whose_cells_are_sequences_holds_series(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet is the extra 'parquet'")
    frame = pd.DataFrame([entry("a", pd.Timestamp("2024-01-01")), entry("b", pd.Timestamp("2024-01-02"))])
    frame.to_parquet(tmp_path / "series.parquet")

    read = read_panel(frame, freq="D")

    assert read.items == ("a", "b")
    assert read_panel(tmp_path / "series.parquet", freq="D").fingerprint == read.fingerprint


class Formatted(Rows):
    """Set to give frames, as `with_format("pandas")` does."""

    def __iter__(self) -> Iterator[Any]:
        yield pd.DataFrame(self.rows)

    def with_format(self, kind: str | None) -> Rows:
        assert kind is None
        return Rows(self.rows)


def test_the_format_of_a_dataset_does_not_matter() -> None:
    assert read_panel(Formatted([entry()]), freq="D").values.shape == (40, 1)


@pytest.mark.parametrize("wrap", [list, Rows])
def test_dicts_that_are_rows_are_a_table(wrap: Any) -> None:
    stamps = pd.date_range("2024-01-01", periods=40, freq="h")

    panel = read_panel(wrap([{"unique_id": item, "ds": s, "y": 1.0} for item in ("a", "b") for s in stamps]))

    assert (panel.items, panel.channels, panel.freq) == (("a", "b"), ("y",), "h")


def test_missing_values_are_refused_with_their_place_or_filled() -> None:
    target = np.where(np.arange(40) == 7, np.nan, np.arange(40.0))

    with pytest.raises(DataError, match=r"data, entry 1, value 7: a missing value"):
        read_panel([entry("a"), entry("b") | {"target": target}], freq="D")
    filled = read_panel([entry("a"), entry("b") | {"target": target}], freq="D", missing="interpolate")
    assert filled.values[47, 0] == 7


class Splits(dict):
    """As a DatasetDict."""


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no step": ([entry()], {}, "data: a start, but no step of time; say it: read_panel(data, freq='h')"),
    "two steps": (
        [entry(start=pd.Period("2024-01", "M")), entry("b", pd.Period("2024-01", "D"))],
        {},
        "several steps of time: D, MS",
    ),
    "no start": ([{"target": [1.0] * 40}], {"freq": "h"}, "neither a 'start' nor timestamps"),
    "bad start": ([entry(start="soon")], {"freq": "h"}, "entry 0: start 'soon' is not a timestamp; write it like"),
    "start of nothing": ([entry(start=None)], {"freq": "h"}, "entry 0: start 'None' is not a timestamp"),
    "start off the step": (
        [entry(), entry("b", "2024-01-15")],
        {"freq": "MS"},
        "entry 1: start 2024-01-15 00:00:00 does not lie on the step MS",
    ),
    "no such step": ([entry()], {"freq": "hourly"}, "freq 'hourly' is no pandas offset alias"),
    "item twice": ([entry(), entry()], {"freq": "D"}, "entry 1: item_id 'a' is there twice"),
    "words": ([entry() | {"target": ["x"] * 40}], {"freq": "D"}, "entry 0, 'target': not numbers"),
    "ragged": ([entry() | {"target": [[1.0], [1.0, 2.0]]}], {"freq": "D"}, "entry 0, 'target': not numbers, or rows"),
    "three dimensions": ([entry() | {"target": np.zeros((2, 2, 9))}], {"freq": "D"}, "3 dimensions; give [rows] or"),
    "infinite": ([entry() | {"target": [np.inf] * 40}], {"freq": "D"}, "entry 0, 'target': a value is not finite"),
    "other channels": (
        [entry(), entry("b") | {"target": np.zeros((2, 40))}],
        {"freq": "D"},
        "entry 1: 2 channels, but entry 0 has 1",
    ),
    "other keys": ([entry(), {"start": "2024-01-01", "target": [1.0]}], {"freq": "D"}, "entry 1: 'item_id' is not in"),
    "no dict": ([entry(), 3.0], {"freq": "D"}, "entry 1: a float, but entry 0 is a dict"),
    "no target": ([{"start": "2024-01-01", "words": ["x"]}], {"freq": "D"}, "entry 0: no target; write dicts such as"),
    "no such target": (
        [entry()],
        {"freq": "D", "targets": ["y"]},
        "no key 'y'; there are 'item_id', 'start', 'target'",
    ),
    "fewer stamps": (
        [{"timestamp": pd.date_range("2024", periods=9).to_numpy(), "target": [1.0] * 10}],
        {},
        "entry 0, 'timestamp': 9 timestamps for 10 values",
    ),
    "bad stamps": ([{"timestamp": ["x"] * 9, "target": [1.0] * 9}], {}, "entry 0, 'timestamp': not timestamps"),
    "columns of two lengths": (
        [{"timestamp": list(pd.date_range("2024", periods=9)), "a": [1.0] * 9, "b": [1.0] * 8}],
        {},
        "entry 0: 'a', 'b' differ in length",
    ),
    "several datasets": (
        Splits(train=Rows([entry()]), test=Rows([entry()])),
        {},
        "several datasets: 'train', 'test'; give one of them, such as ['train']",
    ),
    "nothing": ([], {}, "cannot read a list; give a path, a DataFrame"),
    "numbers": ([1.0, 2.0], {}, "cannot read a list"),
    "a series without rows": ([entry(num_rows=0)], {"freq": "D"}, "no values"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_named_with_its_entry(kind: str) -> None:
    source, told, words = BAD[kind]

    with pytest.raises(TsbenchError) as refusal:
        read_panel(source, **told)

    assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
