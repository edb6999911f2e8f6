"""From a file, a folder or a frame to a panel. Each format gives a sheet; everything after that is one road."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.calendar import calendar_values
from tsbench.data.clock import Grid, check_freq, infer_freq, infer_seasonality
from tsbench.data.covariates import Covariates, Roles, encode_static
from tsbench.data.entries import are_series, entries_of, series_in, sheet_of_entries
from tsbench.data.files import plain_name, read_bytes
from tsbench.data.holes import Filled, offsets_of, without_holes
from tsbench.data.large_files import mapped_panel, refuse_larger_than_memory
from tsbench.data.layouts import counted_stamps, sheet_of
from tsbench.data.numbers import to_float32
from tsbench.data.panel import About, Panel
from tsbench.data.reading import Reading, remedy
from tsbench.data.sheet import Sheet, joined
from tsbench.data.splits import SplitByFractions
from tsbench.data.tables import ARROW_MAGIC, frame_of, is_frame, parse_arrow, parse_text, table_of_frame
from tsbench.data.times import to_utc
from tsbench.data.tsf import parse_tsf
from tsbench.errors import DataError

_SUFFIXES = {".csv", ".tsv", ".txt", ".tsf", ".parquet", ".feather", ".arrow"}
"""What is read of a folder."""


def read_panel(source: Any, *, name: str | None = None, **told: Any) -> Panel:
    """A panel from a file, a folder of files, a frame or series as dicts; what is not told is found out, see `notes`.

    source: CSV and its relatives, Parquet, Feather, Monash `.tsf`, M4's rows, also compressed; a folder, each of whose
    files is an item; a DataFrame of pandas (timestamps may be its index), polars, pyarrow, whatever speaks Arrow; a
    Hugging Face `Dataset`; a GluonTS dataset, or a list of dicts such as `{"start": ..., "target": [...]}`.
    told: fields of a card that say how to read (datasets/README.md), such as `time_column`, `item_columns`, `targets`,
    `freq`, `seasonality`, `missing` or `split`.

    Raises DataError with the line and the column of the first thing that is wrong, ConfigError for a wrong keyword.
    """
    reading = Reading.of("read_panel", **told)
    if reading.memory == "mapped" and not isinstance(source, (str, Path)):
        raise DataError("read_panel: memory = 'mapped' is for files; what is in memory already needs none")
    if isinstance(source, (str, Path)):
        path = Path(source)
        if reading.memory == "mapped":
            return mapped_panel(path, reading, name=name or plain_name(path), about=About(title=path.name))
        sheet, name = read_sheet(path, reading), name or plain_name(path)
    else:
        name = name or "data"
        sheet = _sheet_of_object(source, name, reading)
    return panel_of(sheet, reading, name=name, about=About(title=Path(sheet.where).name))


def _sheet_of_object(source: Any, name: str, reading: Reading) -> Sheet:
    """What a frame or series as dicts hold."""
    entries = None if is_frame(source) else entries_of(source)
    if entries is not None and are_series(entries):
        return sheet_of_entries(entries, name, reading)
    return _sheet_of_frame(frame_of(source) if entries is None else pd.DataFrame(entries), name, reading)


def _sheet_of_frame(frame: pd.DataFrame, where: str, reading: Reading) -> Sheet:
    entries = series_in(frame)
    if entries is not None:
        return sheet_of_entries(entries, where, reading)
    return sheet_of(table_of_frame(frame, where), reading)


def read_sheet(path: Path, reading: Reading) -> Sheet:
    """What a file or a folder holds. Raises DataError."""
    if not path.is_dir():
        refuse_larger_than_memory(path)
        return sheet_of_bytes(read_bytes(path), str(path), reading)
    files = [file for file in sorted(path.iterdir()) if _suffix(file) in _SUFFIXES and not file.name.startswith(".")]
    if not files:
        raise DataError(f"{path}: a folder without data files ({', '.join(sorted(_SUFFIXES))}); name another one")
    sheets = []
    for file in files:
        sheet = sheet_of_bytes(read_bytes(file), str(file), reading)
        sheets.append(replace(sheet, items=(plain_name(file),)) if sheet.items == ("",) else sheet)
    others = [file.name for file in sorted(path.iterdir()) if file not in files]
    notes = [f"folder: {len(files):,} files, of which each without items of its own is one item"]
    notes += [f"folder: not read: {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}"] if others else []
    sheet = joined(sheets, str(path))
    return replace(sheet, notes=(*notes, *sheet.notes))


def _suffix(path: Path) -> str:
    return next((suffix for suffix in reversed(path.suffixes) if suffix.lower() in _SUFFIXES), "").lower()


def sheet_of_bytes(data: bytes, where: str, reading: Reading) -> Sheet:
    """What the unpacked bytes of a file hold: their first bytes say of which kind they are."""
    if data.startswith(ARROW_MAGIC):
        return _sheet_of_frame(parse_arrow(data, where), where, reading)
    if re.search(rb"(?im)^@(relation|attribute|data)\b", data[:20_000]):
        return parse_tsf(data, where, reading)
    return sheet_of(parse_text(data, where, reading), reading)


def continued(sheets: Sequence[Sheet], reading: Reading) -> Sheet:
    """Several files as one sheet: an item of a name that was there goes on, others stand beside it.

    An item without a name is called after its file. Rows without timestamps follow those of the file before.
    """
    named = [
        replace(sheet, items=(plain_name(Path(sheet.where)),)) if sheet.items == ("",) else sheet for sheet in sheets
    ]
    apart = [
        replace(sheet, items=tuple(f"{number} {item}" for item in sheet.items)) for number, sheet in enumerate(named)
    ]
    whole = joined(apart, ", ".join(sheet.where for sheet in sheets))
    numbers, names = pd.factorize(np.array([item for sheet in named for item in sheet.items], dtype=object))
    codes = numbers[whole.codes]
    stamps = counted_stamps(codes, len(names), whole.where, reading) if whole.is_counted else whole.timestamps
    return replace(whole, items=tuple(names), codes=codes, timestamps=stamps)


def panel_of(sheet: Sheet, reading: Reading, *, name: str, about: About, defects: Sequence[str] = ()) -> Panel:
    """The road that all formats share: order, clock, holes, short items, float32, split."""
    notes = list(sheet.notes)
    reading = reading.model_copy(update=sheet.roles)
    if reading.time_zone is not None and not any(note.startswith("time zone") for note in notes):
        utc = to_utc(sheet.timestamps, sheet.codes, reading.time_zone, sheet.row)
        notes.append(f"time zone: timestamps were converted from {reading.time_zone} to UTC")
        sheet = replace(sheet, timestamps=utc)
    sheet = _without_empty_items(sheet, reading, notes)
    values, timestamps, offsets, rows = _in_order(sheet, reading, notes)
    freq, grid = _clock(sheet, timestamps, offsets, rows, reading, notes)
    values = _without_sentinels(sheet, values, reading, notes)
    filled = without_holes(sheet, values, timestamps, offsets, rows, grid, reading)
    notes += filled.notes
    filled, sheet = _without_short_items(sheet, filled, reading, notes)
    filled, padded = _with_long_items(filled, sheet.items, freq, reading, notes)
    if reading.seasonality is None:
        notes.append(f"seasonality: {infer_seasonality(freq)} rows (the usual season of {freq})")
    if reading.split is None:
        notes.append(f"split: {SplitByFractions()} (default)")
    num_targets = len(sheet.channels) - len(reading.covariates)
    values = to_float32(filled.values, sheet.channels, sheet.where)
    panel = Panel(
        name=name,
        values=np.ascontiguousarray(values[:, :num_targets]),
        timestamps=filled.timestamps,
        channels=sheet.channels[:num_targets],
        freq=freq,
        seasonality=reading.seasonality or infer_seasonality(freq),
        split=reading.split or SplitByFractions(),
        items=sheet.items,
        offsets=filled.offsets,
        covariates=_covariates(sheet, reading, values[:, num_targets:], filled.timestamps),
        padded=padded,
        about=about,
        inferred=tuple(notes),
        defects=tuple(defects),
    )
    scored = int(filled.made[panel.test.rows, :num_targets].sum())
    told = f"missing: {scored:,} of the filled cells lie in test rows and are scored as if they were measured"
    return replace(panel, inferred=(*notes, told)) if scored else panel


def _covariates(sheet: Sheet, reading: Reading, values: np.ndarray, timestamps: np.ndarray) -> Covariates | None:
    """What the reading names beside the targets. values: of the columns that are past and known."""
    names: tuple[str, ...] = ()
    static = np.empty((len(sheet.items), 0))
    if sheet.static is not None:
        if len(sheet.items) == 1:
            raise DataError(
                f"{sheet.where}: static tells items apart, and there is one; leave out {', '.join(reading.static)}"
            )
        names, static = encode_static(sheet.static, sheet.where)
    roles = Roles(
        reading.past, reading.known, reading.calendar, names, (reading.time_zone or "") * bool(reading.calendar)
    )
    if not roles:
        return None
    calendar = calendar_values(timestamps, roles.calendar, roles.time_zone)
    return Covariates(
        roles,
        np.ascontiguousarray(np.concatenate([values, calendar], axis=1)),
        to_float32(static, roles.static, sheet.where),
    )


def _without_empty_items(sheet: Sheet, reading: Reading, notes: list[str]) -> Sheet:
    lengths = np.bincount(sheet.codes, minlength=len(sheet.items))
    if lengths.all():
        return sheet
    names = [item for item, length in zip(sheet.items, lengths, strict=True) if not length]
    if reading.min_rows is None:
        raise DataError(_too_short(sheet, names, "no values", 1))
    notes.append(f"items: {len(names):,} without values are left out: {_listed(names)}")
    return replace(
        sheet,
        codes=(np.cumsum(lengths > 0) - 1)[sheet.codes],
        items=tuple(item for item, length in zip(sheet.items, lengths, strict=True) if length),
    )


def _too_short(sheet: Sheet, names: list[str], have: str, min_rows: int) -> str:
    some = f"{len(names):,} of {len(sheet.items):,} items have {have}: {_listed(names)}"
    if sheet.items == ("",):
        return f"{sheet.where}: {have}; bring more rows"
    return f"{sheet.where}: {some}; leave them out: {remedy(sheet.where, f'min_rows={min_rows}')}"


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _in_order(
    sheet: Sheet, reading: Reading, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, stamps, offsets and rows of the sheet, by item and time, one row for each stamp."""
    stamps, codes = sheet.timestamps.to_numpy("datetime64[ns]"), sheet.codes
    rows = np.argsort(codes, kind="stable") if (np.diff(codes) < 0).any() else np.arange(len(codes))
    if not reading.rows_are_consecutive:
        within = np.diff(codes[rows]) == 0
        backwards = (np.diff(stamps[rows]) < np.timedelta64(0)) & within
        if backwards.any():
            rows = rows[np.lexsort((np.arange(len(rows)), stamps[rows], codes[rows]))]
            how = "newest first" if backwards.sum() == within.sum() else f"{int(backwards.sum()):,} before their time"
            notes.append(f"order: rows were sorted by time (they came {how})")
        rows, values = _once(sheet, stamps, rows, reading, notes)
    else:
        values = sheet.values[rows]
    return values, stamps[rows], offsets_of(np.bincount(codes[rows], minlength=len(sheet.items))), rows


def _once(
    sheet: Sheet, stamps: np.ndarray, rows: np.ndarray, reading: Reading, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """One row for each stamp of an item."""
    again = np.zeros(len(rows), bool)
    again[1:] = (np.diff(stamps[rows]) == np.timedelta64(0)) & (np.diff(sheet.codes[rows]) == 0)
    if not again.any():
        return rows, sheet.values[rows]
    at = int(np.flatnonzero(again)[0])
    if reading.repeated == "error":
        before = sheet.place(int(rows[at - 1]), None).removeprefix(f"{sheet.where}, ")
        raise DataError(
            f"{sheet.row(int(rows[at]))}: timestamp {pd.Timestamp(stamps[rows[at]])} repeats the one of {before} "
            f"({int(again.sum()):,} such places); keep one row for each timestamp. Are there several items? Name them: "
            "item_columns. Did clocks change? Name their time_zone. Or say which row counts: repeated = first, last or "
            f"mean: {remedy(sheet.where, 'repeated=first')}"
        )
    values = sheet.values[rows]
    number = np.cumsum(~again) - 1
    if reading.repeated == "mean":
        counts = np.maximum(np.bincount(number), 1)[:, None]
        means = np.stack([np.bincount(number, column) for column in values.T], axis=1) / counts
        kept = ~again
        values = means
    else:
        kept = ~again if reading.repeated == "first" else np.append(~again[1:], True)
        values = values[kept]
    notes.append(
        f"repeated: {int(again.sum()):,} rows with the timestamp of another; kept is the {reading.repeated} of them"
    )
    return rows[kept], values


def _clock(
    sheet: Sheet, timestamps: np.ndarray, offsets: np.ndarray, rows: np.ndarray, reading: Reading, notes: list[str]
) -> tuple[str, Grid | None]:
    """The step of time, and its grid; no grid where rows count as consecutive whatever their stamps say."""
    if reading.freq is not None:
        on_clock = not reading.rows_are_consecutive
        check_freq(reading.freq, timestamps, offsets, sheet.where, on_clock=on_clock)
        return reading.freq, Grid.of(reading.freq, timestamps) if on_clock else None
    if sheet.freq is not None:
        notes.append(f"frequency: {sheet.freq} (named in the file)")
        return sheet.freq, Grid.of(sheet.freq, timestamps)
    freq = infer_freq(timestamps, offsets, lambda row: sheet.row(int(rows[row])))
    notes.append(f"frequency: {freq} (inferred from the timestamps)")
    return freq, Grid.of(freq, timestamps)


def _without_sentinels(sheet: Sheet, values: np.ndarray, reading: Reading, notes: list[str]) -> np.ndarray:
    if not reading.sentinels:
        return values
    stands = np.isin(values, reading.sentinels)
    counts = stands.sum(axis=0)
    each = [f"{int(count):,} in {name!r}" for name, count in zip(sheet.channels, counts, strict=True) if count]
    numbers = ", ".join(f"{number:g}" for number in reading.sentinels)
    notes.append(f"sentinels: {int(counts.sum()):,} cells of {numbers} count as missing: {_listed(each) or 'none'}")
    return np.where(stands, np.nan, values)


def _without_short_items(sheet: Sheet, filled: Filled, reading: Reading, notes: list[str]) -> tuple[Filled, Sheet]:
    lengths = np.diff(filled.offsets)
    least = reading.min_rows or 1
    short = lengths < least
    if not short.any():
        return filled, sheet
    names = [item for item, is_short in zip(sheet.items, short, strict=True) if is_short]
    if reading.min_rows is None:
        raise DataError(_too_short(sheet, names, "no row left in which every channel has a value by then", 1))
    if short.all():
        raise DataError(f"{sheet.where}: no item has min_rows = {least:,} rows; the longest has {int(lengths.max()):,}")
    notes.append(
        f"items: {len(names):,} of {len(sheet.items):,} have fewer than {least:,} rows and are left out: "
        f"{_listed(names)}"
    )
    kept = np.repeat(~short, lengths)
    left = replace(
        sheet,
        items=tuple(item for item, is_short in zip(sheet.items, short, strict=True) if not is_short),
        static=None if sheet.static is None else sheet.static[~short],
    )
    return replace(
        filled,
        values=filled.values[kept],
        timestamps=filled.timestamps[kept],
        offsets=offsets_of(lengths[~short]),
        made=filled.made[kept],
    ), left


def _with_long_items(
    filled: Filled, items: Sequence[str], freq: str, reading: Reading, notes: list[str]
) -> tuple[Filled, np.ndarray | int]:
    """Every item at least `pad_to` rows long, and how many rows each was given, `[items]`."""
    lengths = np.diff(filled.offsets)
    padded = np.maximum((reading.pad_to or 0) - lengths, 0)
    if not padded.any():
        return filled, 0
    names = [item for item, rows in zip(items, padded, strict=True) if rows]
    notes.append(
        f"items: {len(names):,} of {len(items):,} have fewer than {reading.pad_to:,} rows; their first value is "
        f"repeated before it, for contexts only: {_listed(names)}"
    )
    offsets = offsets_of(lengths + padded)
    # Row t of a padded item is its own row t - padded, or its first one.
    steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1] + padded, lengths + padded)
    rows = np.repeat(filled.offsets[:-1], lengths + padded) + np.maximum(steps, 0)
    return replace(
        filled,
        values=np.ascontiguousarray(filled.values[rows]),
        timestamps=_earlier(filled.timestamps[rows], np.minimum(steps, 0), freq),
        offsets=offsets,
        made=filled.made[rows],
    ), padded


def _earlier(stamps: np.ndarray, steps: np.ndarray, freq: str) -> np.ndarray:
    """The stamps so many steps before, where `steps` are less than zero."""
    first = pd.date_range(end=pd.Timestamp(stamps.min()), periods=1 - int(steps.min()), freq=freq)[0]
    return Grid.of(freq, np.array([first.to_datetime64(), stamps.max()])).stamps(stamps, steps)
