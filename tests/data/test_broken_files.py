"""Broken variations of small files: a panel or one message each time, never another exception, a hang, or other data.

The seeds are fixed. `make test` tries as many as a few seconds allow, `make test-slow` ten thousand.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from tsbench.api import plan_experiment
from tsbench.data.check import describe
from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.errors import TsbenchError

BUDGET_SECONDS = 5.0
SLOWEST_SECONDS = 20.0
"""Of one variation, on a busy machine."""


def wide() -> bytes:
    stamps = pd.date_range("2024-01-01", periods=60, freq="h")
    return "\n".join(["date,a,b", *(f"{stamp},{row},{row % 24}.5" for row, stamp in enumerate(stamps))]).encode()


def european() -> bytes:
    stamps = pd.date_range("2024-01-01", periods=60, freq="D")
    rows = [f"{stamp:%d.%m.%Y};{row},5;1.{row:03d},25" for row, stamp in enumerate(stamps)]
    return "\r\n".join(["Datum;Größe;Menge", *rows]).encode("cp1252")


def long() -> bytes:
    stamps = pd.date_range("2024-01-01", periods=20, freq="MS")
    rows = [f"{item},{stamp:%Y-%m-%d},{row}" for item in ("x", "y", "z") for row, stamp in enumerate(stamps)]
    return "\n".join(["unique_id,ds,y", *rows]).encode()


def rows() -> bytes:
    return "\n".join(
        ["V1,V2,V3,V4,V5,V6,V7,V8", *(f"H{row},1,2,3,4,5,6,{'7' * (row % 2)}" for row in range(9))]
    ).encode()


def tsf() -> bytes:
    head = "@relation x\n@attribute series_name string\n@attribute start_timestamp date\n@frequency monthly\n@data\n"
    return (
        head + "".join(f"T{row}:1979-01-01 00-00-00:{','.join(map(str, range(12)))}\n" for row in range(6))
    ).encode()


def epochs() -> bytes:
    return "\n".join(
        ["timestamp\tvalue", *(f"{1_700_000_000_000 + 60_000 * row}\t{row}" for row in range(40))]
    ).encode()


FILES = {"wide": wide, "european": european, "long": long, "rows": rows, "tsf": tsf, "epochs": epochs}

NASTY = [
    b"", b"NA", b"-", b"?", b"1e400", b"-1e39", b"9" * 400, b"nan", b"inf", b'"', b"'", b"\x00", b"\xff\xfe",
    b"1,234",
    b"1.234,5", b"2024-02-30", b"0001-01-01", b"9999-12-31", b"01.02.03", b"1998 Q5", b"2024-01-01T00:00Z", b"1 2",
    b":", b"@data", b"\t", b";", b"\r", b"-9999", b"True", b"1_000", b"0x1F", b"\xe2\x88\x92\x31", b"=SUM(A1)", 
    b"24:00", b" ",
]  # fmt: skip


def broken(content: bytes, rng: random.Random) -> bytes:
    """The content after one to three accidents."""
    for _ in range(rng.randint(1, 3)):
        lines = content.split(b"\n")
        line = rng.randrange(len(lines))
        cut = rng.randrange(len(content) + 1)
        accident = rng.randrange(12)
        if accident == 0:
            content = content[:cut]
        elif accident == 1:
            rng.shuffle(lines)
            content = b"\n".join(lines)
        elif accident in (2, 3, 4):
            mark = rng.choice([b",", b";", b"\t", b":"])
            cells = lines[line].split(mark)
            cells[rng.randrange(len(cells))] = rng.choice(NASTY)
            lines[line] = mark.join(cells)
            content = b"\n".join(lines)
        elif accident == 5:
            content = b"\n".join([*lines[:line], *lines[line + rng.randint(1, 3) :]])
        elif accident == 6:
            content = b"\n".join([*lines[:line], lines[line], *lines[line:]])
        elif accident == 7:
            content = content[:cut] + rng.choice(NASTY) + content[cut:]
        elif accident == 8:
            content = content.decode("latin-1").encode(rng.choice(["utf-8", "utf-16", "utf-16-be", "utf-8-sig"]))
        elif accident == 9:
            lines[0] = rng.choice(
                [b"", lines[0].replace(b"b", b"a"), lines[0] + b",a", b"1,2,3", b"V1,V2,V3", b"a", b"ds,ds"]
            )
            content = b"\n".join(lines)
        elif accident == 10:
            column = rng.choice(NASTY)
            content = b"\n".join(part + rng.choice([b",", b";"]) + column for part in lines)
        else:
            content = content.replace(
                rng.choice([b",", b"-", b".", b"0", b"\n"]), rng.choice([b";", b"/", b" ", b",", b"\r\n", b""])
            )
    return content


TOLD = [
    {}, {}, {}, {"missing": "interpolate"}, {"missing": "forward_fill", "repeated": "mean"}, {"freq": "h"},
    {"missing": "mask"},
    {"freq": "MS", "min_rows": 5}, {"decimal": "comma"}, {"time_format": "%d.%m.%Y"}, {"time_zone": "Europe/Berlin"},
    {"sentinels": [-9999, 3], "missing": "interpolate", "repeated": "last"}, {"layout": "rows", "freq": "D"},
    {"header": False}, {"freq": "B", "rows_are_consecutive": True}, {"targets": ["a"]}, {"item_columns": ["a"]},
]  # fmt: skip


Outcome = Literal["read", "refused"]


def outcome(folder: Path, kind: str, seed: int) -> Outcome:
    """What becomes of a variation in the check, and in the plan on a card that says the same. Raises if it is wrong."""
    rng = random.Random(f"{kind} {seed}")
    path = folder / "broken.csv"
    path.write_bytes(broken(FILES[kind](), rng))
    told = rng.choice(TOLD)
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            panel = read_panel(path, **told)
        except TsbenchError as error:
            refusal = str(error)
        else:
            refusal = ""
            assert all(describe(panel))
            assert np.isfinite(panel.values).all() or (
                told.get("missing") == "mask" and not np.isinf(panel.values).any()
            )
            assert_nothing_is_changed(panel, path.read_bytes(), kind)
        (folder / "broken.toml").write_text(card(told))
        try:
            matrix = plan_experiment(str(folder / "broken.toml"), horizons=[2], context_lengths=[3], models=["naive"])
        except TsbenchError as error:
            # Windows may be too long for what could be read; nothing else may be wrong with it.
            planned = str(error)
            assert planned == refusal or (not refusal and "too few rows" in planned), planned
            assert len(planned.splitlines()) == 1
        else:
            assert not refusal
            (planned_panel,) = matrix.panels.values()
            assert planned_panel.fingerprint == panel.fingerprint
    assert time.monotonic() - began < SLOWEST_SECONDS
    return "refused" if refusal else "read"


def card(told: Mapping[str, Any]) -> str:
    facts = {"name": "broken", "title": "t", "source": "s", "license": "l", "file": "broken.csv", **told}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())


def assert_nothing_is_changed(panel: Panel, content: bytes, kind: str) -> None:
    """Every value stands in the file, read by any of the ways to write a number, and no row is lost, but for notes."""
    if any(note.startswith(("missing:", "repeated:", "items:")) for note in panel.notes):
        return
    for encoding in ("utf-8-sig", "utf-16", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if set(np.unique(panel.values)) <= numbers_in(text):
            num_lines = len(re.split(r"\r\n|\n|\r", text.rstrip()))
            assert kind in ("rows", "tsf") or num_lines - len(panel.values) in (0, 1)  # a header or none
            return
    raise AssertionError("a value that is not in the file")


def numbers_in(text: str) -> set[np.float32]:
    found = set()
    for cell in re.split(r"[\n\r\t;|,:]", text) + re.split(r"[\n\r\t;|]", text):
        cell = cell.strip().strip("\"'").replace("\u2212", "-")
        for written in (cell, cell.replace(",", "."), cell.replace(".", "").replace(",", "."), cell.replace(",", "")):
            with contextlib.suppress(ValueError, OverflowError, RuntimeWarning):
                found.add(np.float32(float(written)))
    return found


def outcomes(folder: Path, kind: str, seeds: Iterable[int], seconds: float) -> Counter[Outcome]:
    """Of these variations, as many as the time suffices for."""
    counts: Counter[Outcome] = Counter()
    end = time.monotonic() + seconds
    for seed in seeds:
        try:
            counts[outcome(folder, kind, seed)] += 1
        except BaseException as error:
            error.add_note(f"keep this one: KEPT += [({kind!r}, {seed})]")
            raise
        if time.monotonic() > end:
            break
    return counts


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_file_is_read_or_refused_in_one_message(tmp_path: Path, kind: str) -> None:
    counts = outcomes(tmp_path, kind, range(1, 10_000), BUDGET_SECONDS)

    assert min(counts["read"], counts["refused"]) > 0


KEPT = [("wide", 641)]
"""Variations that once went wrong, here or in this test: add what a failure names."""


@pytest.mark.parametrize(("kind", "seed"), KEPT)
def test_a_variation_that_once_went_wrong_goes_right(tmp_path: Path, kind: str, seed: int) -> None:
    outcome(tmp_path, kind, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", FILES)
def test_ten_thousand_broken_files(tmp_path: Path, kind: str) -> None:
    """All of them within a time that is known before: half an hour on a slow machine."""
    seeds = range(1, 1 + -(-10_000 // len(FILES)))

    counts = outcomes(tmp_path, kind, seeds, seconds=1800 / len(FILES))

    assert counts.total() == len(seeds), f"only {counts.total():,} of {len(seeds):,} in time"
    assert min(counts["read"], counts["refused"]) > 0
