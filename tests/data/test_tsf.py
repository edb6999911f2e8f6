"""Monash files: header, starts, missing values, and the line where one goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.errors import DataError

HEADER = "# a comment\n@relation Test\n@attribute series_name string\n@attribute start_timestamp date\n@frequency {}\n"
TWELVE = ",".join(map(str, range(12)))
SERIES = f"@horizon 2\n@missing false\n@data\nT1:1979-01-01 00-00-00:{TWELVE}\nT2:1980-01-01 00-00-00:{TWELVE},12.5\n"


def panel_of(tmp_path: Path, text: str, **told: object) -> Panel:
    path = tmp_path / "test.tsf"
    path.write_bytes(text.encode("cp1252"))
    return read_panel(path, **told)


@pytest.mark.parametrize(
    ("frequency", "freq", "last"),
    [
        ("hourly", "h", "1980-01-01T12"),
        ("half_hourly", "30min", "1980-01-01T06"),
        ("daily", "D", "1980-01-13T00"),
        ("weekly", "7D", "1980-03-25T00"),  # the two begin on different days
        ("monthly", "MS", "1981-01-01T00"),
        ("quarterly", "QS-JAN", "1983-01-01T00"),
        ("yearly", "YS-JAN", "1992-01-01T00"),
    ],
)
def test_a_series_is_an_item_on_the_clock_of_the_header(tmp_path: Path, frequency: str, freq: str, last: str) -> None:
    panel = panel_of(tmp_path, HEADER.format(frequency) + SERIES)

    assert (panel.items, panel.channels, panel.freq) == (("T1", "T2"), ("value",), freq)
    assert panel.offsets.tolist() == [0, 12, 25]
    assert panel.values[-1, 0] == 12.5
    assert panel.timestamps[-1] == np.datetime64(last)
    assert "the file names a horizon of 2 rows" in panel.notes


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("a comment", "1990 \u2013 1995"),  # the byte 0x96 of cp1252
        lambda text: text.replace("@horizon 2\n", "").replace("@missing false\n", ""),
    ],
)
def test_how_the_file_was_saved_does_not_matter(tmp_path: Path, change) -> None:
    text = HEADER.format("daily") + SERIES

    assert panel_of(tmp_path, change(text)).fingerprint == panel_of(tmp_path, text).fingerprint


def test_a_question_mark_is_a_missing_value(tmp_path: Path) -> None:
    text = HEADER.format("daily") + SERIES.replace("3,4,5", "3,?,5", 1)

    with pytest.raises(DataError, match=r"test\.tsf, line 9, value 5: a missing value"):
        panel_of(tmp_path, text)
    assert panel_of(tmp_path, text, missing="interpolate").values[:6, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_name_may_hold_colons(tmp_path: Path) -> None:
    assert panel_of(tmp_path, HEADER.format("daily") + SERIES.replace("T1", "en:wiki:T1")).items[0] == "en:wiki:T1"


def test_series_without_a_start_get_one_and_that_is_stated(tmp_path: Path) -> None:
    text = f"@relation x\n@attribute series_name string\n@frequency daily\n@data\nT1:{TWELVE}\n"

    panel = panel_of(tmp_path, text)

    assert panel.timestamps[0] == np.datetime64("1970-01-01")
    assert "timestamps: made up from 1970-01-01 00:00:00 on (the file has none)" in panel.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER.format("daily"), "no line @data"),
        (HEADER.format("daily") + "@data\n", "no series below @data"),
        (
            HEADER.format("daily") + SERIES.replace("3,4,5", "3,x,5", 1),
            "line 9: could not convert string to float: 'x'",
        ),
        (HEADER.format("daily") + SERIES.replace("1979-01-01 00-00-00", "1979-13-01"), "line 9: start '1979-13-01'"),
        (HEADER.format("daily") + SERIES.replace("T2:1980-01-01 00-00-00:", ""), "line 10: 0 attributes before"),
        (HEADER.format("daily") + SERIES.replace(",12.5", ",1e39"), "line 10: a value is not finite, or larger"),
        (HEADER.format("fortnightly") + SERIES, "@frequency 'fortnightly'; say it: `tsbench datasets check"),
        (HEADER.format("yearly") + SERIES.replace("1980", "2255"), "leaves the years 1678 to 2261"),
        (HEADER.format("daily") + "stray words\n" + SERIES, "line 6: 'stray words' is no @-line"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        panel_of(tmp_path, text)

    assert words in str(refusal.value)
