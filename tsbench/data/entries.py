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

_ROLES = {
    "past_feat_dynamic_real": "past",
    "past_feat_dynamic_cat": "past",
    "feat_dynamic_real": "known",
    "feat_dynamic_cat": "known",
    "feat_static_real": "static",
    "feat_static_cat": "static",
}
"""What GluonTS's names say of when a covariate is known."""

MOST_CATEGORIES = 100
"""Of a covariate with a category for each row: each category is a column of the panel."""


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
    that of the timestamps where there are some, else the one that is told. Covariates are the keys that are told, and
    those with GluonTS's names (`feat_dynamic_real` and so on). Raises DataError with the entry's number.
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
    roles = _roles(entries, where, reading)
    targets = _targets(entries[0], where, [time, item_key, *(key for keys in roles.values() for key in keys)], reading)
    series = [_values(entry, targets, f"{where}, entry {number}") for number, entry in enumerate(entries)]
    channels = _channels(series, targets, where)
    lengths = np.array([len(values) for values in series])
    covariates = {role: _dynamic(entries, roles[role], role, lengths, where, notes) for role in ("past", "known")}
    static = _static(entries, roles["static"], where, reading)
    used = {time, item_key, "start", *targets, *roles["past"], *roles["known"], *static.attrs["keys"]}
    notes += _about_roles(roles, used, reading)
    rest = [repr(key) for key in entries[0] if key not in used]
    notes += [f"left out: {', '.join(rest[:8])}{', ...' if len(rest) > 8 else ''}"] if rest else []
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
        values=np.concatenate([np.concatenate(series), *(values for _, values in covariates.values())], axis=1),
        timestamps=pd.DatetimeIndex(stamps),
        codes=codes,
        items=names,
        channels=(*channels, *(name for found, _ in covariates.values() for name in found)),
        place=lambda row, column: f"{where}, entry {codes[row]}, value {counted[row]}",
        notes=tuple(notes),
        freq=freq,
        static=None if static.empty else static,
        roles={role: found for role, (found, _) in covariates.items()},
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
    columns = [_numbers(entry[key], f"{at}, {key!r}") for key in targets]
    if len({len(column) for column in columns}) > 1:
        raise DataError(f"{at}: {', '.join(map(repr, targets))} differ in length; give all the same number of rows")
    return np.concatenate(columns, axis=1)


def _numbers(value: Any, at: str) -> np.ndarray:
    """`[T, C]` from `[T]` or `[C, T]`."""
    try:
        is_nested = getattr(value, "dtype", None) == np.dtype(object)  # as Parquet has lists of lists: arrays in one
        values = np.asarray(list(value) if is_nested else value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{at}: not numbers, or rows of different lengths ({error})") from None
    if values.ndim not in (1, 2):
        raise DataError(f"{at}: {values.ndim} dimensions; give [rows] or [channels, rows]")
    if np.isinf(values).any() or (np.abs(values) > np.finfo(np.float32).max).any():
        raise DataError(f"{at}: a value is not finite, or larger than float32 holds (3.4e38); replace it")
    return np.atleast_2d(values).T


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


def _roles(entries: Sequence[_Entry], where: str, reading: Reading) -> dict[str, list[str]]:
    """The keys of the covariates by role: those told, then those that GluonTS's names tell, unless nobody has any."""
    roles = {"past": list(reading.past), "known": list(reading.known), "static": list(reading.static)}
    told = {*(reading.targets or ()), *(key for keys in roles.values() for key in keys)}
    missing = [key for keys in roles.values() for key in keys if key not in entries[0]]
    if missing:
        raise DataError(f"{where}: no key {missing[0]!r}; there are {', '.join(map(repr, list(entries[0])[:12]))}")
    for key, role in _ROLES.items():
        if key in entries[0] and key not in told and any(_holds_something(entry[key]) for entry in entries):
            roles[role].append(key)
    return roles


def _holds_something(value: Any) -> bool:
    """Hugging Face's datasets write None where there is no covariate, others an empty list."""
    return value is not None and np.size(value) > 0


def _about_roles(roles: Mapping[str, Sequence[str]], used: set[str | None], reading: Reading) -> list[str]:
    """What was found by its name rather than told."""
    told = {*reading.past, *reading.known, *reading.static}
    found = [f"{key} ({role})" for role, keys in roles.items() for key in keys if key in used and key not in told]
    return [f"covariates: {', '.join(found)}"] if found else []


def _dynamic(
    entries: Sequence[_Entry], keys: Sequence[str], role: str, lengths: np.ndarray, where: str, notes: list[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values `[T, K]` of the covariates with a value for each row."""
    names: list[str] = []
    columns = [np.empty((int(lengths.sum()), 0))]
    for key in keys:
        found = [_numbers(entry[key], f"{where}, entry {number}, {key!r}") for number, entry in enumerate(entries)]
        beyond = np.array([len(values) for values in found]) - lengths
        wrong = np.flatnonzero((beyond < 0) | ((beyond > 0) & (role == "past")))
        if wrong.size:
            at = f"{where}, entry {wrong[0]}, {key!r}"
            shape = "[rows] or [covariates, rows]" + (", with more rows for the future" if role == "known" else "")
            raise DataError(f"{at}: {len(found[wrong[0]]):,} values for {lengths[wrong[0]]:,} rows; give {shape}")
        if beyond.any():
            notes.append(
                f"left out: up to {int(beyond.max()):,} rows of {key!r} after the last value of the target; "
                "Forecaster.predict takes them as its future"
            )
        own = _channels(found, [key], where)
        values = np.concatenate([values[:length] for values, length in zip(found, lengths, strict=True)])
        if key.endswith("_cat"):
            own, values = _flags(own, values, where)
        names += own
        columns.append(values)
    return tuple(names), np.concatenate(columns, axis=1)


def _flags(names: Sequence[str], values: np.ndarray, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """A column of zeros and ones for each category of each column `[T, K]`."""
    found: list[str] = []
    columns = []
    for name, column in zip(names, values.T, strict=True):
        categories = np.unique(column)
        if np.isnan(categories).any() or len(categories) > MOST_CATEGORIES:
            problem = "a missing category" if np.isnan(categories).any() else f"{len(categories):,} categories"
            raise DataError(
                f"{where}, {name!r}: {problem}, at most {MOST_CATEGORIES} are read, one in each row; group them, or "
                "leave the key out"
            )
        found += [f"{name}={category:g}" for category in categories]
        columns += [column == category for category in categories]
    return tuple(found), np.stack(columns, axis=1).astype(np.float64)


def _static(entries: Sequence[_Entry], keys: Sequence[str], where: str, reading: Reading) -> pd.DataFrame:
    """A row for each entry; `attrs["keys"]` are those that are in it.

    Where nobody asked for a key, it is passed over if it tells nothing: of a single entry, and a category of each
    entry's own, which is but another name for it.
    """
    columns: dict[str, pd.Series] = {}
    used = []
    for key in keys:
        cells = _static_cells(entries, key, where)
        tell = list(cells)
        if key not in reading.static:
            tell = [n for n in cells if len(cells) > 1 and (key.endswith("_real") or not cells[n].is_unique)]
        columns |= {_numbered(key, n, len(cells.columns)): cells[n] for n in tell}
        used += [key] if tell else []
    table = pd.DataFrame(columns)
    table.attrs["keys"] = used
    return table


def _static_cells(entries: Sequence[_Entry], key: str, where: str) -> pd.DataFrame:
    """A row for each entry, a column for each of the key's values; categories as words."""
    found = [np.atleast_1d(np.asarray(entry[key])) for entry in entries]
    other = next((n for n, cells in enumerate(found) if cells.shape != found[0].shape or cells.ndim > 1), None)
    if other is not None:
        raise DataError(
            f"{where}, entry {other}, {key!r}: an array of shape {found[other].shape}, in entry 0 of {found[0].shape}; "
            "give one value, or [covariates], as many in all"
        )
    cells = pd.DataFrame(np.stack(found)).infer_objects()
    empty = (cells.isna() | cells.isin([np.inf, -np.inf])).to_numpy().any(axis=1)
    if empty.any():
        raise DataError(f"{where}, entry {int(np.argmax(empty))}, {key!r}: a value is missing or not finite; fill it")
    return cells.astype(str) if key.endswith("_cat") else cells


def _numbered(key: str, number: Any, count: int) -> str:
    return key if count == 1 else f"{key}_{number + 1}"


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
