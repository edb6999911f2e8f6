"""Mapped files: the same panel as one that was read whole, nothing half done, and one message for what cannot be."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from tsbench.data import large_files, mapped
from tsbench.data.check import describe, write_card
from tsbench.data.datasets import load_dataset
from tsbench.data.files import CACHE_VARIABLE, content_digests, read_bytes
from tsbench.data.mapped import MappedRows, RegularStamps
from tsbench.data.readers import read_panel
from tsbench.data.scaling import Scaler
from tsbench.errors import DataError, MachineError


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Files of kilobytes in dozens of parts, and a cache of one's own."""
    monkeypatch.setattr(large_files, "_PIECE", 1500)
    for module in (mapped, large_files):
        monkeypatch.setattr(module, "STRETCH_VALUES", 200)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "maps"


def frame_of(lengths: list[int], freq: str = "h", seed: int = 0) -> pd.DataFrame:
    """A long table of items of these lengths, each with a start of its own; a wide one of a single item."""
    generator = np.random.default_rng(seed)
    frames = [
        pd.DataFrame(
            {
                "unique_id": f"item {number}",
                "ds": pd.date_range(f"2020-01-{number % 20 + 1:02d}", periods=length, freq=freq),
                **{name: 100 + generator.normal(size=length).round(4) for name in ("a", "b")},
            }
        )
        for number, length in enumerate(lengths)
    ]
    whole = pd.concat(frames)
    return whole if len(lengths) > 1 else whole.drop(columns="unique_id")


def written(frame: pd.DataFrame, folder: Path, kind: str) -> Path:
    path = folder / f"series.{kind}"
    match kind:
        case "parquet":
            frame.to_parquet(path, index=False, row_group_size=300)
        case "csv.gz":
            path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
        case "tsv":
            frame.to_csv(path, index=False, sep="\t", lineterminator="\r\n")
        case _:
            frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
@pytest.mark.parametrize("lengths", [[700], [300, 90, 411, 60]], ids=["wide", "long"])
def test_a_mapped_file_is_the_panel_of_the_file_read_whole(tmp_path: Path, kind: str, lengths: list[int]):
    path = written(frame_of(lengths), tmp_path, kind)
    whole, in_parts = read_panel(path), read_panel(path, memory="mapped")

    assert isinstance(in_parts.values, MappedRows)
    assert in_parts.fingerprint == whole.fingerprint
    assert set(in_parts.notes) <= set(whole.notes)
    np.testing.assert_array_equal(in_parts.values[:], whole.values)
    np.testing.assert_array_equal(in_parts.timestamps[:], whole.timestamps)
    assert (in_parts.timestamps.min(), in_parts.timestamps.max()) == (whole.timestamps.min(), whole.timestamps.max())
    for part in ("train", "validation", "test"):
        assert getattr(in_parts, part).smallest == getattr(whole, part).smallest
    scalers = Scaler.fit(whole.train), Scaler.fit(in_parts.train)
    np.testing.assert_allclose(scalers[1].mean, scalers[0].mean, rtol=1e-12)
    np.testing.assert_allclose(scalers[1].std, scalers[0].std, rtol=1e-12)


@pytest.mark.parametrize("freq", ["15min", "W-TUE", "MS", "2MS", "B"])
def test_timestamps_are_computed_as_they_were_written(tmp_path: Path, freq: str):
    path = written(frame_of([150, 99], freq), tmp_path, "csv")

    whole, in_parts = (read_panel(path, item_columns="unique_id", memory=memory) for memory in ("whole", "mapped"))

    np.testing.assert_array_equal(in_parts.timestamps[:], whole.timestamps)
    np.testing.assert_array_equal(in_parts.timestamps[np.array([3, 200])], whole.timestamps[[3, 200]])
    assert in_parts.fingerprint == whole.fingerprint


def test_rows_without_timestamps_and_without_a_header_are_counted(tmp_path: Path):
    path = tmp_path / "bare.csv"
    path.write_text("".join(f"{row % 7}.5,{row}.25\n" for row in range(400)))
    told = {"freq": "h", "start": "2024-01-01"}

    whole, in_parts = read_panel(path, **told), read_panel(path, memory="mapped", **told)

    assert in_parts.fingerprint == whole.fingerprint
    assert in_parts.channels == ("column_1", "column_2")


@pytest.mark.parametrize("lengths", [[500], [200, 300]])
def test_a_split_by_dates_finds_the_same_rows(tmp_path: Path, lengths: list[int]):
    path = written(frame_of(lengths), tmp_path, "csv")
    split = {"by": "dates", "validation": "2020-01-06T05:00:00", "test": "2020-01-08"}

    whole, in_parts = read_panel(path, split=split), read_panel(path, split=split, memory="mapped")

    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(in_parts.bounds[part], whole.bounds[part])


def test_a_map_is_made_once_and_anew_when_the_file_has_changed(tmp_path: Path, small_parts: Path):
    path = written(frame_of([400]), tmp_path, "csv")
    first = read_panel(path, memory="mapped")
    (made,) = small_parts.glob("*/values")
    before = made.stat().st_mtime_ns

    assert read_panel(path, memory="mapped", seasonality=7).values.path == made
    assert made.stat().st_mtime_ns == before
    written(frame_of([400], seed=1), tmp_path, "csv")
    os.utime(path, ns=(1, 1))
    assert read_panel(path, memory="mapped").fingerprint != first.fingerprint


def test_what_a_worker_is_handed_is_a_path_not_the_values(tmp_path: Path):
    panel = read_panel(written(frame_of([5000]), tmp_path, "csv"), memory="mapped")

    sent = pickle.dumps(panel)

    assert len(sent) < 5000 < panel.values[:].nbytes
    assert pickle.loads(sent).fingerprint == panel.fingerprint


def test_a_kill_while_the_map_is_made_leaves_nothing_that_is_taken_for_one(tmp_path: Path, small_parts: Path):
    path = written(frame_of([3000]), tmp_path, "csv")
    code = f"""
        import os, signal
        from tsbench.data import large_files
        from tsbench.data.readers import read_panel
        large_files._PIECE = 1500
        take = large_files._Map._take
        def killed(self, sheet):
            take(self, sheet)
            if sum(self.lengths) > 1000:
                os.kill(os.getpid(), signal.SIGKILL)
        large_files._Map._take = killed
        read_panel({str(path)!r}, memory="mapped")
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [folder.suffix for folder in small_parts.iterdir() if folder.is_dir()] == [".partial"]

    assert read_panel(path, memory="mapped").fingerprint == read_panel(path).fingerprint
    assert [folder.suffix for folder in small_parts.iterdir() if folder.is_dir()] == [""]


def test_a_broken_file_leaves_no_map(tmp_path: Path, small_parts: Path):
    frame = frame_of([400])
    frame.loc[300, "b"] = np.nan
    with pytest.raises(DataError, match="line 302, column 'b': a missing value"):
        read_panel(written(frame, tmp_path, "csv"), memory="mapped")
    assert not [folder for folder in small_parts.iterdir() if folder.is_dir()]


def _without_a_row(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(index=frame.index[150])


def _backwards(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[::-1]


def _twice(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[[*range(150), *range(149, 300)]]


def _mixed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["ds", "unique_id"])


def _with_a_word(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.astype({"a": object})
    frame.iloc[200, 1] = "high"
    return frame


def _too_fine(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(a=1e9 + np.arange(len(frame)) % 3 / 10)


@pytest.mark.parametrize(
    ("change", "lengths", "words"),
    [
        (_without_a_row, [300], "line 152: 2020-01-07 07:00:00 comes after 2020-01-07 05:00:00"),
        (_backwards, [300], "line 3: 2020-01-13 10:00:00 comes after 2020-01-13 11:00:00: .*sort"),
        (_twice, [300], "line 152: 2020-01-07 05:00:00 comes after 2020-01-07 05:00:00"),
        (_mixed, [150, 150], "rows of an item do not all follow each other"),
        (_with_a_word, [300], "line 202, column 'a': 'high' is not a number"),
        (_too_fine, [300], "column 'a': its values vary by"),
    ],
)
def test_a_file_that_cannot_be_mapped_is_refused_with_the_place(tmp_path: Path, change, lengths: list[int], words: str):
    path = written(change(frame_of(lengths)), tmp_path, "csv")
    with pytest.raises(DataError, match=words):
        read_panel(path, memory="mapped")


def test_a_blank_line_and_a_long_row_are_refused_with_their_lines(tmp_path: Path):
    text = frame_of([300]).to_csv(index=False).splitlines(keepends=True)
    path = tmp_path / "blank.csv"
    path.write_text("".join([*text[:150], "\n", *text[150:]]))
    with pytest.raises(DataError, match="line"):
        read_panel(path, memory="mapped")
    path.write_text("".join([*text[:150], text[150].strip() + ",9\n", *text[151:]]))
    with pytest.raises(DataError, match="line 151: 4 cells"):
        read_panel(path, memory="mapped")


def _with_comma(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame[name].map("{:.4f}".format).str.replace(".", ",")


@pytest.mark.parametrize(
    ("frame", "key"),
    [
        (frame_of([300]).assign(ds=lambda frame: frame["ds"].dt.strftime("%d.%m.%Y %H:%M")), "time_format"),
        (frame_of([300]).assign(**{name: _with_comma(name) for name in "ab"}), "decimal"),
    ],
)
def test_what_another_part_could_contradict_is_asked_for(tmp_path: Path, frame: pd.DataFrame, key: str):
    path = tmp_path / "german.csv"
    frame.to_csv(path, index=False, sep=";")
    with pytest.raises(DataError, match=f"say .*{key}"):
        read_panel(path, memory="mapped")
    told = {"time_format": "%d.%m.%Y %H:%M"} if key == "time_format" else {"decimal": "comma"}
    assert read_panel(path, memory="mapped", **told).fingerprint == read_panel(path, **told).fingerprint


@pytest.mark.parametrize(
    "told",
    [
        {"missing": "interpolate"},
        {"time_zone": "Europe/Berlin"},
        {"known": "b"},
        {"calendar": "hour"},
        {"repeated": "first"},
        {"rows_are_consecutive": True, "freq": "h"},
        {"layout": "rows"},
    ],
    ids=lambda told: next(iter(told)),
)
def test_what_needs_all_rows_at_once_does_not_go_with_it(tmp_path: Path, told: dict[str, object]):
    path = written(frame_of([300]), tmp_path, "csv")
    with pytest.raises(DataError, match=f"does not go with .*{next(iter(told))}"):
        read_panel(path, memory="mapped", **told)


def test_folders_feather_and_frames_are_refused(tmp_path: Path):
    frame_of([300]).to_feather(tmp_path / "x.feather")
    with pytest.raises(DataError, match="several files"):
        read_panel(tmp_path, memory="mapped")
    with pytest.raises(DataError, match="save it as Parquet or CSV"):
        read_panel(tmp_path / "x.feather", memory="mapped")
    with pytest.raises(DataError, match="in memory already"):
        read_panel(frame_of([300]), memory="mapped")
    with pytest.raises(DataError, match="cannot be read"):
        read_panel(tmp_path / "none.csv", memory="mapped")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(frame_of([300]), tmp_path, "csv")
    monkeypatch.setenv(CACHE_VARIABLE, str(path))
    with pytest.raises(MachineError, match=CACHE_VARIABLE):
        read_panel(path, memory="mapped")


def test_a_card_says_it_and_its_checksum_is_looked_at_when_the_map_is_made(tmp_path: Path):
    path = written(frame_of([400]), tmp_path, "tsv")
    panel = read_panel(path, memory="mapped")
    lines = "\n".join(describe(panel))
    assert "nobody has looked for outliers" in lines
    assert panel.fingerprint in lines
    card = tmp_path / "series.toml"
    write_card(card, panel, path, {"memory": "mapped"})

    assert load_dataset(str(card)).fingerprint == panel.fingerprint
    assert isinstance(load_dataset(str(card)).values, MappedRows)
    path.write_bytes(path.read_bytes().replace(b"99.", b"98."))
    with pytest.raises(DataError, match="the card 'series' expects"):
        load_dataset(str(card))


def test_a_digest_in_pieces_is_that_of_the_whole(tmp_path: Path):
    path = written(frame_of([400]), tmp_path, "tsv")
    data = read_bytes(path)
    expected = hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest(), hashlib.sha256(data).hexdigest()
    assert content_digests(path) == expected


def test_a_file_larger_than_memory_is_refused_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(large_files, "_TIMES_ITS_SIZE", 10**12)
    with pytest.raises(DataError, match="--set memory=mapped"):
        read_panel(written(frame_of([300]), tmp_path, "csv"))


def test_stamps_are_those_of_a_range_for_each_item():
    offsets = np.array([0, 5, 12])
    stamps = RegularStamps("D", np.array(["2024-01-30", "2024-03-01"], "datetime64[ns]"), offsets)
    expected = np.concatenate(
        [pd.date_range("2024-01-30", periods=5).to_numpy(), pd.date_range("2024-03-01", periods=7).to_numpy()]
    )
    np.testing.assert_array_equal(stamps[:], expected)
    assert stamps.rows_before(np.datetime64("2024-02-02", "us")).tolist() == [3, 0]
    assert stamps.rows_before(np.datetime64("2024-03-03", "us")).tolist() == [5, 2]
    assert stamps.rows_before(np.datetime64("2025-01-01", "us")).tolist() == [5, 7]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's peak as Linux keeps it")
def test_the_peak_of_memory_does_not_grow_with_the_file(tmp_path: Path):
    """A file of 100 MB: whoever holds its values, timestamps or starts at once is found."""
    path, rows = tmp_path / "large.parquet", 12_000_000
    step = 1_500_000
    schema = pyarrow.schema([("ds", pyarrow.timestamp("ns")), ("y", pyarrow.float64())])
    with parquet.ParquetWriter(path, schema) as writer:
        for low in range(0, rows, step):
            stamps = np.datetime64("2020-01-01", "ns") + np.arange(low, low + step) * np.timedelta64(1, "s")
            table = pyarrow.table({"ds": stamps, "y": np.sin(np.arange(low, low + step) / 1000)}, schema)
            writer.write_table(table, row_group_size=250_000)
    code = f"""
        import psutil, torch, pyarrow.parquet, sklearn.preprocessing
        from tsbench.bench.runner import Prepared
        from tsbench.data.blocks import windows_of
        from tsbench.data.readers import read_panel
        from tsbench.evaluation.throughput import _peak_rss
        torch.set_num_threads(1)
        before = psutil.Process().memory_info().rss
        panel = read_panel({str(path)!r}, memory="mapped")
        panel.fingerprint
        prepared = Prepared.on(panel, torch.device("cpu"))
        windows = windows_of(panel.train, prepared.values_TC, 96, 24)
        for source, picks in windows.shuffled(64, 50, seed=0):
            source.open()
            for picks_B in picks:
                source.batch(picks_B)
        print((_peak_rss() - before) / 2**20)
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=True
    )
    in_double_precision_once = rows * 16 / 2**20  # 183 MiB: timestamps and values as a frame holds them
    assert float(done.stdout) < in_double_precision_once
