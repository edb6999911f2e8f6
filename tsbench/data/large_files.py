"""A file larger than memory: read in parts, checked as any other, and written once as a map in the cache folder.

A map is a folder: the values as float32, row after row, and what is known of them. It is written under another name and
renamed when it is whole, so a kill leaves nothing that a later run could take for one. Its name is a hash of the file's
path, size and time of change and of how it is read.

What needs all rows at once is refused, with what to do: sorting, filling, telling day from month by a later cell.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from tsbench.data.clock import Grid, check_freq, infer_freq, infer_seasonality, longest
from tsbench.data.download import progress
from tsbench.data.entries import series_in
from tsbench.data.files import CACHE_VARIABLE, cache_dir
from tsbench.data.layouts import sheet_of, told_columns
from tsbench.data.mapped import STRETCH_VALUES, MappedRows, RegularStamps
from tsbench.data.numbers import refuse_lost
from tsbench.data.panel import About, Panel
from tsbench.data.reading import Reading, remedy
from tsbench.data.sheet import Sheet
from tsbench.data.splits import SplitByFractions
from tsbench.data.tables import SEPARATORS, Table, parse_text, separator_of, table_of_frame
from tsbench.data.unpacking import in_bytes, unpacked_pieces
from tsbench.errors import DataError, MachineError

_FORMAT = 1
"""Of the map: another number, and all are made anew."""
_PIECE = 4 << 20
"""Bytes of text that are parsed together."""
_TIMES_ITS_SIZE = 3
"""A file that is read whole needs at least so many times its size: its bytes, their text, a table of numbers."""


def refuse_larger_than_memory(path: Path) -> None:
    """Raises DataError for a file that cannot be read whole on this machine, with what to do."""
    import psutil

    size, free = path.stat().st_size if path.is_file() else 0, psutil.virtual_memory().available
    if _TIMES_ITS_SIZE * size > free:
        raise DataError(
            f"{path}: {in_bytes(size)}, too large to be read whole with {in_bytes(free)} of memory free; have it read "
            f"in parts: {remedy(str(path), 'memory=mapped')}"
        )


def mapped_panel(
    path: Path,
    reading: Reading,
    *,
    name: str,
    about: About,
    defects: tuple[str, ...] = (),
    verify: Callable[[], None] = lambda: None,
) -> Panel:
    """The panel of a file, over its map, which is made where there is none.

    verify: raises where the file is not what it should be; asked before a map is made.

    Raises DataError for the first thing that is wrong, MachineError where the map cannot be written.
    """
    _refuse_settings(reading, path)
    folder = _the_map(path, reading, verify)
    kept = json.loads((folder / "panel.json").read_text(encoding="utf-8"))
    offsets, freq, notes = np.array(kept["offsets"], np.int64), kept["freq"], kept["notes"]
    if reading.seasonality is None:
        notes.append(f"seasonality: {infer_seasonality(freq)} rows (the usual season of {freq})")
    if reading.split is None:
        notes.append(f"split: {SplitByFractions()} (default)")
    return Panel(
        name=name,
        values=MappedRows(folder / "values", (int(offsets[-1]), len(kept["channels"]))),
        timestamps=RegularStamps(freq, np.array(kept["firsts"], "datetime64[ns]"), offsets),
        channels=tuple(kept["channels"]),
        freq=freq,
        seasonality=reading.seasonality or infer_seasonality(freq),
        split=reading.split or SplitByFractions(),
        items=tuple(kept["items"]),
        offsets=offsets,
        about=about,
        inferred=tuple(notes),
        defects=defects,
    )


def _refuse_settings(reading: Reading, path: Path) -> None:
    """Raises DataError for what is told of the file and cannot be done in parts."""
    usual = Reading()
    whole = ["time_zone", "past", "known", "static", "calendar", "rows_are_consecutive", "sentinels", "missing"]
    wrong = [key for key in (*whole, "repeated", "min_rows", "pad_to") if getattr(reading, key) != getattr(usual, key)]
    wrong += ["layout = 'rows'"] if reading.layout == "rows" else []
    wrong += ["encoding = 'utf-16'"] if reading.encoding == "utf-16" else []
    if path.is_dir() or getattr(reading, "more_files", None):
        wrong.append("several files")
    if wrong:
        raise DataError(
            f"{path}: memory = 'mapped' reads a file in parts, and does not go with {', '.join(wrong)}; leave that out "
            "(prepare the file before), or leave out memory"
        )


def _the_map(path: Path, reading: Reading, verify: Callable[[], None]) -> Path:
    """The folder with the map of this file."""
    from filelock import FileLock

    folder = cache_dir() / "maps" / _key(path, reading)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():  # another process may have made it meanwhile
                verify()
                unfinished = folder.with_suffix(".partial")
                shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
                unfinished.mkdir()
                try:
                    _write(path, reading, unfinished)
                    unfinished.rename(folder)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise MachineError(
            f"{folder.parent}: cannot write there ({error.strerror or error}); a map takes four bytes a value: make "
            f"room, or name another folder in {CACHE_VARIABLE}"
        ) from error
    return folder


def _key(path: Path, reading: Reading) -> str:
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    told = {key: getattr(reading, key) for key in Reading.model_fields.keys() - {"memory", "seasonality", "split"}}
    told |= {key: getattr(reading, key, None) for key in ("sha256", "checksum")}
    facts_of_file = [_FORMAT, str(path.resolve()), facts.st_size, facts.st_mtime_ns, sorted(told.items())]
    return hashlib.sha256(repr(facts_of_file).encode()).hexdigest()[:16]


def _write(path: Path, reading: Reading, folder: Path) -> None:
    with (folder / "values").open("wb") as file:
        known = _Map(path, reading, file).kept()
        file.flush()
        os.fsync(file.fileno())
    (folder / "panel.json").write_text(json.dumps(known), encoding="utf-8")


class _Map:
    """What is known of a file while its parts go by."""

    def __init__(self, path: Path, reading: Reading, file: BinaryIO) -> None:
        self.path, self.reading, self._file = path, reading, file
        self.items: list[str] = []
        self.lengths: list[int] = []
        self.firsts: list[int] = []
        self.notes: list[str] = []
        self.freq = ""
        self.last = np.datetime64("NaT", "ns")
        self.rounding = _Rounding()

    def kept(self) -> dict[str, Any]:
        """Write all values; the rest is returned."""
        reading = self.reading
        tables = _parquet(self.path) if _is_parquet(self.path) else _texts(self.path, reading)
        sheet = None
        for table in tables:
            before, sheet = sheet, sheet_of(table, reading)
            _refuse_guesses(sheet, reading)
            if before is None:
                reading = told_columns(table, sheet, reading)
                self._begin(sheet, reading)
            self._take(sheet)
        if sheet is None:
            raise DataError(f"{self.path}: the file is empty")
        refuse_lost(self.rounding.lost, self.rounding.spread, sheet.channels, sheet.where)
        return {
            "channels": sheet.channels,
            "items": self.items,
            "offsets": np.concatenate([[0], np.cumsum(self.lengths)]).tolist(),
            "firsts": self.firsts,
            "freq": self.freq,
            "notes": self.notes,
        }

    def _begin(self, sheet: Sheet, reading: Reading) -> None:
        """Notes and step of time, from the first part."""
        self.notes = list(sheet.notes)
        stamps, offsets = sheet.timestamps.to_numpy("datetime64[ns]"), _runs_of(sheet)
        rows = longest(offsets)
        if not sheet.is_counted and (np.diff(stamps[rows]) <= np.timedelta64(0)).any():
            at = rows.start + 1 + int(np.argmax(np.diff(stamps[rows]) <= np.timedelta64(0)))
            raise self._out_of_order(sheet, at, stamps[at], stamps[at - 1])
        if reading.freq is None:
            self.freq = infer_freq(stamps, offsets, sheet.row)
            self.notes.append(f"frequency: {self.freq} (inferred from the timestamps)")
        else:
            self.freq = reading.freq
            check_freq(reading.freq, stamps, offsets, sheet.where)

    def _take(self, sheet: Sheet) -> None:
        """Check a part and write its values."""
        if np.isnan(sheet.values).any():
            row, column = (int(number) for number in np.argwhere(np.isnan(sheet.values))[0])
            raise DataError(
                f"{sheet.place(row, sheet.channels[column])}: a missing value (empty or NaN); memory = 'mapped' takes "
                "no holes: fill them in the file, or leave out memory and say missing = interpolate"
            )
        offsets = _runs_of(sheet)
        goes_on = bool(self.items) and sheet.items[0] == self.items[-1]
        again = set(sheet.items[goes_on:]) & set(self.items)
        if again or len(offsets) - 1 > len(sheet.items):
            named = f"item {sorted(again)[0]!r}" if again else "an item"
            raise DataError(
                f"{sheet.where}: the rows of {named} do not all follow each other; memory = 'mapped' takes rows in "
                "order of item and time: sort the file"
            )
        stamps = sheet.timestamps.to_numpy("datetime64[ns]")
        if not sheet.is_counted:
            self._check_clock(sheet, stamps, offsets, goes_on)
        lengths = np.diff(offsets).tolist()
        if goes_on:
            self.lengths[-1] += lengths.pop(0)
        self.items += sheet.items[goes_on:]
        self.lengths += lengths
        self.firsts += stamps[offsets[:-1]].astype(np.int64).tolist()[goes_on:]
        self.last = stamps[-1]
        values = np.ascontiguousarray(sheet.values, np.float32)
        self.rounding.add(sheet.values, values)
        values.tofile(self._file)

    def _check_clock(self, sheet: Sheet, stamps: np.ndarray, offsets: np.ndarray, goes_on: bool) -> None:
        """Raises DataError where a row of an item is not one step after the row before."""
        if goes_on:  # the row before stands in for one
            stamps, offsets = np.concatenate([[self.last], stamps]), np.concatenate([[0], offsets[1:] + 1])
        grid = Grid.of(self.freq, stamps)
        steps, is_on = grid.positions(stamps, np.repeat(stamps[offsets[:-1]], np.diff(offsets)))
        apart = np.diff(steps, prepend=0)
        apart[offsets[:-1]] = 1
        wrong = np.flatnonzero(~is_on | (apart != 1))
        if len(wrong):
            at = int(wrong[0])
            before = stamps[at - 1] if at else None
            raise self._out_of_order(sheet, max(at - goes_on, 0), stamps[at], before, len(wrong))

    def _out_of_order(
        self, sheet: Sheet, row: int, stamp: np.datetime64, before: np.datetime64 | None, count: int = 1
    ) -> DataError:
        comes = f" comes after {pd.Timestamp(before)}" if before is not None else ""
        step = f", which is no step of {self.freq}" if self.freq else ""
        places = f" ({count:,} such places in this part of the file)" if count > 1 else ""
        return DataError(
            f"{sheet.row(row)}: {pd.Timestamp(stamp)}{comes}{step}{places}: memory = 'mapped' takes the rows of an "
            "item in order of time, none missing and none twice: sort and fill the file, or leave out memory (for "
            "several items name item_columns, for another step freq)"
        )


class _Rounding:
    """How much float32 rounds each channel by, and how much the channel varies: over all parts (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.lost: Any = 0.0
        self._count, self._mean, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, values: np.ndarray, rounded: np.ndarray) -> None:
        self.lost = np.maximum(self.lost, np.abs(values - rounded).max(axis=0))
        count, mean = len(values), values.mean(axis=0)
        apart, total = mean - self._mean, self._count + count
        self._squares = self._squares + ((values - mean) ** 2).sum(axis=0) + apart**2 * (self._count * count / total)
        self._mean, self._count = self._mean + apart * (count / total), total

    @property
    def spread(self) -> np.ndarray:
        return np.sqrt(self._squares / self._count)


def _runs_of(sheet: Sheet) -> np.ndarray:
    """Where the rows of one item end and those of another begin, `[runs + 1]`."""
    return np.concatenate([[0], np.flatnonzero(np.diff(sheet.codes)) + 1, [len(sheet.codes)]])


_GUESSES = {
    "encoding: cp1252 (inferred": "encoding",
    "numbers: decimal": "decimal",
    "numbers: thousands": "thousands",
    "timestamps: the day": "time_format",
    "timestamps: the month": "time_format",
}
"""Notes on what was read off all cells of a part, by how they begin: another part could show something else."""


def _refuse_guesses(sheet: Sheet, reading: Reading) -> None:
    for begin, key in _GUESSES.items():
        found = next((note for note in sheet.notes if note.startswith(begin)), None)
        if found and getattr(reading, key) is None:
            raise DataError(
                f"{sheet.where}: {found}; memory = 'mapped' sees a part of the file at a time and does not rest on "
                f"that: say {key} (datasets/README.md)"
            )


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith((b"ARROW1", b"FEA1")):
        raise DataError(f"{path}: a Feather file cannot be mapped; save it as Parquet or CSV, or leave out memory")
    return head.startswith(b"PAR1")


def _parquet(path: Path) -> Iterator[Table]:
    """The rows of a Parquet file in parts. Raises MachineError without the extra, DataError for a damaged file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MachineError(f"{path}: reading Parquet files needs the extra: pip install 'tsbench[parquet]'") from None
    try:
        # As it comes, pyarrow has read all of the file when the first rows are asked for.
        with (
            parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file,
            progress(path.name, 0, file.metadata.num_rows) as advance,
        ):
            rows, count = max(STRETCH_VALUES // max(len(file.schema_arrow), 1), 1), 0
            for batch in file.iter_batches(batch_size=rows):
                frame = pyarrow.Table.from_batches([batch]).to_pandas()
                if not count and series_in(frame) is not None:
                    raise DataError(f"{path}: cells that hold series cannot be mapped; leave out memory")
                yield replace(table_of_frame(frame, str(path)), first_row=count)
                count += len(frame)
                advance(len(frame))
    except pyarrow.ArrowException as error:
        problem = str(error).splitlines()[0][:120]
        raise DataError(f"{path}: a damaged Parquet file ({problem}); fetch or export it again") from error


def _texts(path: Path, reading: Reading) -> Iterator[Table]:
    """The rows of a text file in parts, each parsed as a file of its own below the first line."""
    header, before = b"", 0
    with progress(path.name, 0, path.stat().st_size) as advance:
        for data, is_last in _whole_lines(unpacked_pieces(path, _PIECE, advance), path):
            if not before:
                reading = _told_separator(data, reading, path)
            table = _parsed(header + data, str(path), reading, before - bool(header))
            if not before:
                has_header = table.first_row == 2
                reading = reading.model_copy(update={"header": has_header})
                header = data[: data.find(b"\n") + 1] if has_header else b""
                lines, first_row = data.count(b"\n") - has_header, table.first_row
            else:
                lines, first_row = data.count(b"\n"), before + 1
            before += data.count(b"\n")
            if not is_last and len(table.frame) != lines:
                raise DataError(
                    f"{path}, lines {first_row:,} to {before:,}: a blank line, or a line break within quotation marks; "
                    "memory = 'mapped' takes a row on each line"
                )
            yield replace(table, first_row=first_row)


def _told_separator(data: bytes, reading: Reading, path: Path) -> Reading:
    """The reading that says the separator; raises DataError for what is no text of this kind."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16 text cannot be read in parts; save the file as UTF-8, or leave out memory")
    if re.search(rb"(?im)^@(relation|attribute|data)\b", data[:20_000]):
        raise DataError(f"{path}: a Monash file cannot be mapped; save it as a table, or leave out memory")
    if reading.separator is not None:
        return reading
    mark = separator_of(data[:20_000].decode("latin-1"))
    return reading.model_copy(update={"separator": next(word for word, sign in SEPARATORS.items() if sign == mark)})


def _parsed(data: bytes, where: str, reading: Reading, lines_before: int) -> Table:
    """As `parse_text`; lines are counted from the beginning of the file."""
    try:
        return parse_text(data, where, reading)
    except DataError as error:
        moved = re.sub(r", line (\d+)", lambda found: f", line {int(found[1]) + lines_before}", str(error), count=1)
        raise DataError(moved) from error


def _whole_lines(pieces: Iterator[bytes], path: Path) -> Iterator[tuple[bytes, bool]]:
    """The same bytes, cut behind line ends, and whether it is the last part."""
    ready = kept = b""
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if not end and len(kept) > 8 * _PIECE:
            raise DataError(f"{path}: a line of more than {in_bytes(len(kept))}; not a table of text")
        whole, kept = (kept + piece[:end], piece[end:]) if end else (b"", kept + piece)
        if whole.strip():
            if ready:
                yield ready, False
            ready = whole
        else:
            ready += whole
    if ready or kept.strip():
        yield ready + kept, True
