"""Series as dicts, one each: GluonTS datasets, Hugging Face `datasets`, or a list of the like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.clock import Grid
from tsbench.data.layouts import ITEM_NAMES, TIME_NAMES, made_stamps
from tsbench.data.reading import Reading
from tsbench.data.sheet import Sheet
from tsbench.errors import DataError

_Entry = Mapping[str, Any]


def entries_of(source: Any) -> list[_Entry] | None:
    """The dicts of whatever gives dicts, one for each series or row; None for other things, and where rows can be had
    faster as a frame. Raises DataError.

    No library is imported: a GluonTS dataset and a Hugging Face one are both iterables of dicts.
    """
    if isinstance(source, Mapping):
        if _is_series(source):
            return [source]
        inner = [name for name, value in source.items() if hasattr(value, "column_names")]
        if inner:
            raise DataError(
                f"several datasets: {', '.join(map(repr, inner))}; give one of them, such as [{inner[0]!r}]"
            )
        return None
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        return None
    if hasattr(source, "with_format"):  # of Hugging Face: rows as plain dicts, whatever they were set to
        source = source.with_format(None)
    iterator = iter(source)
    first = next(iterator, None)
    if not isinstance(first, Mapping) or (hasattr(source, "to_pandas") and not _is_series(first)):
        return None
    return list(chain([first], iterator))


def are_series(entries: Sequence[_Entry]) -> bool:
    """Whether each dict is a series rather than a row of a table."""
    return _is_series(entries[0])


def series_in(frame: pd.DataFrame) -> list[_Entry] | None:
    """The rows of a frame as dicts where each is a series: some cells hold sequences. None for an ordinary table."""
    if not len(frame) or not any(map(_is_sequence, frame.iloc[0])):
        return None
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _is_series(entry: _Entry) -> bool:
    return any(_is_sequence(value) for value in entry.values())


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def sheet_of_entries(entries: Sequence[_Entry], where: str, reading: Reading) -> Sheet:
    """What series as dicts hold: `start` and `target`, as in GluonTS, or a sequence of timestamps beside others.

    target: `[T]`, or `[C, T]` for several channels. The step of time is that of the `start` where this is a Period,
    that of the timestamps where there are some, else the one that is told. Raises DataError with the entry's number.
    """
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise DataError(
                f"{where}, entry {number}: a {type(entry).__name__}, but entry 0 is a dict; give dicts only"
            )
        if entry.keys() != entries[0].keys():
            other = sorted(entry.keys() ^ entries[0].keys())[0]
            raise DataError(f"{where}, entry {number}: {other!r} is not in all entries; give all the same keys")
    time = _key(entries[0], reading.time_column, TIME_NAMES, sequence=True)
    notes = ["format: series as dicts, one item for each"]
    names, item_key = _items(entries, where, reading)
    targets = _targets(entries[0], where, [time, item_key], reading)
    series = [_values(entry, targets, f"{where}, entry {number}") for number, entry in enumerate(entries)]
    channels = _channels(series, targets, where)
    used = {time, item_key, "start", *targets}
    rest = [repr(key) for key in entries[0] if key not in used]
    notes += [f"left out: {', '.join(rest[:8])}{', ...' if len(rest) > 8 else ''}"] if rest else []
    lengths = np.array([len(values) for values in series])
    codes = np.repeat(np.arange(len(series)), lengths)
    counted = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    freq = None
    if time is not None:
        stamps = _listed_stamps(entries, time, lengths, where, notes)
    else:
        firsts, freq = _starts(entries, where, reading, notes)
        stamps = _counted_stamps(firsts, lengths, counted, freq, where)
    return Sheet(
        where=where,
        values=np.concatenate(series),
        timestamps=pd.DatetimeIndex(stamps),
        codes=codes,
        items=names,
        channels=channels,
        place=lambda row, column: f"{where}, entry {codes[row]}, value {counted[row]}",
        notes=tuple(notes),
        freq=freq,
    )


def _key(entry: _Entry, told: Sequence[str] | None, known: Sequence[str], *, sequence: bool) -> str | None:
    """The key that is told, or the first with a known name and a value of this kind."""
    wanted = told if told is not None else known
    names = {*wanted, *map(str.lower, wanted)}
    return next((key for key in entry if {key, key.lower()} & names and _is_sequence(entry[key]) == sequence), None)


def _items(entries: Sequence[_Entry], where: str, reading: Reading) -> tuple[tuple[str, ...], str | None]:
    key = _key(entries[0], reading.item_columns, ITEM_NAMES, sequence=False)
    if key is None:
        return tuple(f"series#{number}" for number in range(1, len(entries) + 1)) if len(entries) > 1 else ("",), None
    names = [str(entry[key]) for entry in entries]
    twice = pd.Series(names).duplicated()
    if twice.any():
        number = int(np.argmax(twice))
        raise DataError(f"{where}, entry {number}: {key} {names[number]!r} is there twice; rename one")
    return tuple(names), key


def _targets(entry: _Entry, where: str, taken: Sequence[str | None], reading: Reading) -> list[str]:
    """The keys of the values to forecast: those told, `target`, or all sequences of numbers."""
    if reading.targets is not None:
        missing = [key for key in reading.targets if key not in entry]
        if missing:
            raise DataError(f"{where}: no key {missing[0]!r}; there are {', '.join(map(repr, list(entry)[:12]))}")
        return list(reading.targets)
    if "target" in entry:
        return ["target"]
    found = [key for key, value in entry.items() if key not in taken and _is_sequence(value) and _is_numbers(value)]
    if not found:
        raise DataError(
            f"{where}, entry 0: no target; write dicts such as {{'start': '2024-01-01', 'target': [1.0, 2.0], "
            "'item_id': 'a'}, or name the keys in targets"
        )
    return found


def _is_numbers(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "iufb"
    except ValueError:  # of uneven lengths
        return False


def _values(entry: _Entry, targets: Sequence[str], at: str) -> np.ndarray:
    """`[T, C]` of an entry."""
    columns = []
    for key in targets:
        try:
            values = np.asarray(entry[key], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{at}, {key!r}: not numbers, or rows of different lengths ({error})") from None
        if values.ndim not in (1, 2):
            raise DataError(f"{at}, {key!r}: {values.ndim} dimensions; give [rows] or [channels, rows]")
        columns.append(np.atleast_2d(values).T)
    if len({len(column) for column in columns}) > 1:
        raise DataError(f"{at}: {', '.join(map(repr, targets))} differ in length; give all the same number of rows")
    found = np.concatenate(columns, axis=1)
    if np.isinf(found).any() or (np.abs(found) > np.finfo(np.float32).max).any():
        raise DataError(f"{at}: a value is not finite, or larger than float32 holds (3.4e38); replace it")
    return found


def _channels(series: Sequence[np.ndarray], targets: Sequence[str], where: str) -> tuple[str, ...]:
    counts = [values.shape[1] for values in series]
    other = next((number for number, count in enumerate(counts) if count != counts[0]), None)
    if other is not None:
        raise DataError(
            f"{where}, entry {other}: {counts[other]} channels, but entry 0 has {counts[0]}; give all as many"
        )
    if counts[0] == len(targets):
        return tuple(map(str, targets))
    return tuple(f"{targets[0]}_{number}" for number in range(1, counts[0] + 1))


def _starts(entries: Sequence[_Entry], where: str, reading: Reading, notes: list[str]) -> tuple[np.ndarray, str]:
    """`[items]` the first stamps, and the step."""
    if "start" not in entries[0]:
        if reading.freq is None or reading.start is None:
            raise DataError(
                f"{where}, entry 0: neither a 'start' nor timestamps; add one, or say freq and start, such as "
                "read_panel(data, freq='h', start='2024-01-01')"
            )
        notes.append(f"timestamps: made up, {reading.freq} from {reading.start} on (the data have none)")
        return np.full(len(entries), pd.Timestamp(reading.start).to_datetime64()).astype("datetime64[ns]"), reading.freq
    starts = [entry["start"] for entry in entries]
    steps = {_alias(start) for start in starts if isinstance(start, pd.Period)}
    if reading.freq is None and len(steps) != 1:
        problem = f"several steps of time: {', '.join(sorted(steps))}" if steps else "a start, but no step of time"
        raise DataError(f"{where}: {problem}; say it: read_panel(data, freq='h')")
    firsts = [_first(start, f"{where}, entry {number}") for number, start in enumerate(starts)]
    if any(first.tzinfo is not None for first in firsts):
        notes.append("time zone: timestamps were converted to UTC")
    stamps = [first.tz_convert(None) if first.tzinfo is not None else first for first in firsts]
    return np.array([stamp.to_datetime64() for stamp in stamps]).astype("datetime64[ns]"), reading.freq or steps.pop()


def _first(start: Any, at: str) -> pd.Timestamp:
    try:
        start = start.item() if getattr(start, "ndim", None) == 0 and hasattr(start, "dtype") else start
        first = start.start_time if isinstance(start, pd.Period) else pd.Timestamp(start)
        if isinstance(start, (bool, int, float)) or first is pd.NaT:
            raise ValueError
        return first.as_unit("ns")
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{at}: start {str(start)[:40]!r} is not a timestamp; write it like 2024-01-31 13:00") from None


def _alias(period: pd.Period) -> str:
    """The pandas alias of a Period's step, by its beginning: W-SUN ends on Sundays, so it is W-MON."""
    count = str(period.freq.n) if period.freq.n > 1 else ""
    base = period.freqstr.lstrip("0123456789").partition("-")[0]
    first = period.start_time
    named = {"M": "MS", "Q": f"QS-{first:%b}", "Y": f"YS-{first:%b}", "A": f"YS-{first:%b}", "W": f"W-{first:%a}"}
    return count + (named[base].upper() if base in named else base)


def _counted_stamps(firsts: np.ndarray, lengths: np.ndarray, counted: np.ndarray, freq: str, where: str) -> np.ndarray:
    last = made_stamps(pd.Timestamp(firsts.max()), max(int(lengths.max()), 1), freq, where)[-1]
    grid = Grid.of(freq, np.array([firsts.min(), last.to_datetime64()]))
    off = np.flatnonzero(~grid.positions(firsts, firsts)[1])
    if off.size:
        first = pd.Timestamp(firsts[off[0]])
        raise DataError(f"{where}, entry {off[0]}: start {first} does not lie on the step {freq}; correct one of them")
    return grid.stamps(np.repeat(firsts, lengths), counted)


def _listed_stamps(
    entries: Sequence[_Entry], time: str, lengths: np.ndarray, where: str, notes: list[str]
) -> np.ndarray:
    stamps = []
    for number, (entry, length) in enumerate(zip(entries, lengths, strict=True)):
        try:
            found = pd.DatetimeIndex(pd.to_datetime(pd.Series(list(entry[time])))).as_unit("ns")
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}, entry {number}, {time!r}: not timestamps; write them like 2024-01-31") from None
        if len(found) != length or found.isna().any():
            raise DataError(f"{where}, entry {number}, {time!r}: {len(found)} timestamps for {length} values; give all")
        stamps.append(found)
    if stamps[0].tz is not None:
        notes.append("time zone: timestamps were converted to UTC")
    return np.concatenate([(s.tz_convert(None) if s.tz is not None else s).to_numpy() for s in stamps])
