"""Holes: rows and cells that are missing. Refused with their list, filled by a rule that was asked for, or masked.

Everything is arithmetic on all items at once; there is no loop over them. `interpolate` draws a straight line in time
between the values beside a hole, so it knows the value after it; `forward_fill` repeats the value before it. At the two
ends of an item there is nothing to rest on: those rows are cut off. `mask` leaves NaN in the targets, which counts
nowhere (`Panel.values`); of the covariates, which a model reads, it repeats the value before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsbench.data.clock import Grid
from tsbench.data.reading import Reading, remedy
from tsbench.data.sheet import Sheet
from tsbench.errors import DataError


@dataclass(frozen=True)
class Filled:
    """Items on their grid, one after the other."""

    values: np.ndarray
    """`[T, C]`, float64; NaN only where a target is masked."""
    timestamps: np.ndarray
    """`[T]`, datetime64[ns]."""
    offsets: np.ndarray
    """`[items + 1]`."""
    made: np.ndarray
    """`[T, C]`, whether a value was filled in."""
    notes: tuple[str, ...]


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def without_holes(
    sheet: Sheet, values: np.ndarray, timestamps: np.ndarray, offsets: np.ndarray, rows: np.ndarray, grid: Grid | None,
    reading: Reading,
) -> Filled:  # fmt: skip
    """The rows on their grid, every cell with a value or masked. Raises DataError with the holes if they are refused.

    values, timestamps, rows: in order of item and time; rows: where each stood in the sheet. grid: None where the rows
    count as consecutive whatever their stamps say.
    """
    num_cells = int(np.isnan(values).sum())
    num_rows = 0
    if grid is not None:
        firsts = np.repeat(timestamps[offsets[:-1]], np.diff(offsets))
        steps, _ = grid.positions(timestamps, firsts)
        apart = _apart(steps, offsets)
        num_rows = int((apart - 1).sum())
    if not num_cells and not num_rows:
        return Filled(values, timestamps, offsets, np.zeros(values.shape, bool), ())
    if reading.missing == "error":
        listed = [_cells(sheet, values, rows)] if num_cells else []
        listed += [_gaps(sheet, timestamps, rows, apart, grid)] if num_rows else []
        listed[1:] = [words.removeprefix(f"{sheet.where}, ") for words in listed[1:]]
        raise DataError(f"{'; '.join(listed)}; {_what_to_type(sheet.where)}")
    if num_rows > len(values):
        raise DataError(
            f"{sheet.where}: {num_rows:,} rows are missing, more than the {len(values):,} that are there; "
            "give the true freq, or bring the rows"
        )
    if num_rows and grid is not None:
        values, timestamps, offsets = _spread(values, timestamps, offsets, steps, grid)
    return _filled(sheet, values, timestamps, offsets, num_cells, num_rows, reading)


def _apart(steps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Steps from the row before, 1 for the first of an item."""
    apart = np.diff(steps, prepend=0)
    apart[offsets[:-1]] = 1
    return apart


def _spread(
    values: np.ndarray, timestamps: np.ndarray, offsets: np.ndarray, steps: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every moment of the grid a row; the new ones hold NaN."""
    lengths = steps[offsets[1:] - 1] + 1
    new = offsets_of(lengths)
    firsts = timestamps[offsets[:-1]]
    wide = np.full((new[-1], values.shape[1]), np.nan)
    wide[np.repeat(new[:-1], np.diff(offsets)) + steps] = values
    counted = np.arange(new[-1]) - np.repeat(new[:-1], lengths)
    return wide, grid.stamps(np.repeat(firsts, lengths), counted), new


def _filled(
    sheet: Sheet, values: np.ndarray, timestamps: np.ndarray, offsets: np.ndarray, num_cells: int, num_rows: int,
    reading: Reading,
) -> Filled:  # fmt: skip
    is_there = ~np.isnan(values)
    number = np.arange(len(values))
    lengths = np.diff(offsets)
    nowhere = len(values)
    # First and last valid row of each item and channel, [items, C].
    first = np.minimum.reduceat(np.where(is_there, number[:, None], nowhere), offsets[:-1])
    last = np.maximum.reduceat(np.where(is_there, number[:, None], -1), offsets[:-1])
    begin, end = first.max(axis=1), last.min(axis=1) + 1
    num_targets = len(sheet.channels) - len(reading.covariates)
    if reading.missing == "mask":
        _refuse_empty(sheet, is_there[:, :num_targets])
        begin = np.maximum(first[:, :num_targets].min(axis=1), first[:, num_targets:].max(axis=1, initial=0))
        end = last[:, :num_targets].max(axis=1) + 1
    low, high = np.maximum(begin, offsets[:-1]), np.minimum(end, offsets[1:])
    if (low >= high).all():
        begins, ends = sheet.channels[int(np.argmax(first[0]))], sheet.channels[int(np.argmin(last[0]))]
        raise DataError(
            f"{sheet.where}: no row in which every channel has a value by then: {begins!r} begins after {ends!r} has "
            "ended; leave one of them out by naming the others in targets"
        )
    kept = (number >= np.repeat(low, lengths)) & (number < np.repeat(high, lengths))
    filled = _interpolated(values, is_there) if reading.missing == "interpolate" else _carried(values, is_there)
    if reading.missing == "mask":
        filled[:, :num_targets] = values[:, :num_targets]
    new = offsets_of(np.maximum(high - low, 0))
    at_ends = np.any((first > offsets[:-1, None]) | (last < offsets[1:, None] - 1), axis=0).tolist()
    partial = [name for name, is_partial in zip(sheet.channels, at_ends, strict=True) if is_partial]
    made = ~is_there[kept] & ~np.isnan(filled[kept])
    return Filled(
        np.ascontiguousarray(filled[kept]),
        timestamps[kept],
        new,
        made,
        _account(kept, made, lengths, num_cells, num_rows, reading, partial),
    )


def _refuse_empty(sheet: Sheet, is_there: np.ndarray) -> None:
    """Raises DataError where a target has no value at all."""
    empty = np.flatnonzero(~is_there.any(axis=0))
    if len(empty):
        names = [sheet.channels[column] for column in empty]
        raise DataError(f"{sheet.where}: {_listed(names)}: no value in any row; name the other columns in targets")


def _interpolated(values: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    """Over all rows at once: what would bridge two items lies at their ends, which are cut."""
    number = np.arange(len(values))
    filled = values.copy()
    for channel in range(values.shape[1]):
        known = is_there[:, channel]
        if known.any() and not known.all():
            filled[~known, channel] = np.interp(number[~known], number[known], values[known, channel])
    return filled


def _carried(values: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    source = np.maximum.accumulate(np.where(is_there, np.arange(len(values))[:, None], 0), axis=0)
    return np.take_along_axis(values, source, axis=0)


def _account(
    kept: np.ndarray, made: np.ndarray, lengths: np.ndarray, num_cells: int, num_rows: int, reading: Reading,
    partial: list[str],
) -> tuple[str, ...]:  # fmt: skip
    """What was done, with counts. partial: the channels that begin after an item does, or end before it."""
    way = "a straight line in time" if reading.missing == "interpolate" else "the last value seen"
    found = f"missing: {num_cells:,} cells and {num_rows:,} rows"
    notes = [f"{found}; {int(made.sum()):,} cells were filled by {way}"]
    because = f"{_listed(partial)} have no value there yet or any more"
    if reading.missing == "mask":
        covariates = f"; {int(made.sum()):,} cells of covariates were filled by {way}" if made.any() else ""
        notes = [f"{found}; missing = mask keeps them out of loss, scaling and scores{covariates}"]
        because = "no target has a value there, or a covariate none yet"
    num_cut = int((~kept).sum())
    if num_cut:
        item = np.repeat(np.arange(len(lengths)), lengths)[~kept]
        notes.append(
            f"missing: {num_cut:,} rows at the ends of {len(np.unique(item)):,} items were cut off, because {because}"
        )
    return tuple(notes)


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _what_to_type(where: str) -> str:
    return (
        "fill them yourself, leave the column out, or say missing = interpolate, forward_fill or mask: "
        f"{remedy(where, 'missing=interpolate')}"
    )


def _cells(sheet: Sheet, values: np.ndarray, rows: np.ndarray) -> str:
    counts = np.isnan(values).sum(axis=0)
    channel = int(np.argmax(counts > 0))
    at = np.flatnonzero(np.isnan(values[:, channel]))
    row = int(rows[at].min())
    each = _listed([name for name, count in zip(sheet.channels, counts, strict=True) if count])
    total = f", {int(counts.sum()):,} in columns {each}" if (counts > 0).sum() > 1 else ""
    return (
        f"{sheet.place(row, sheet.channels[channel])}: a missing value (empty or NaN) "
        f"({int(counts[channel]):,} such cells in this column{total})"
    )


def _gaps(sheet: Sheet, timestamps: np.ndarray, rows: np.ndarray, apart: np.ndarray, grid: Grid | None) -> str:
    assert grid is not None
    after = np.flatnonzero(apart > 1)
    first = int(after[0])
    found, before = (pd.Timestamp(stamp) for stamp in (timestamps[first], timestamps[first - 1]))
    wanted = pd.Timestamp(grid.stamps(timestamps[[first - 1]], np.array([1]))[0])
    listed = ", ".join(f"{int(apart[row]) - 1:,} before {pd.Timestamp(timestamps[row])}" for row in after[:6])
    return (
        f"{sheet.row(int(rows[first]))}: {found} comes after {before}, where {wanted} was expected "
        f"({len(after):,} such places, {int((apart - 1).sum()):,} missing rows: {listed}"
        f"{', ...' if len(after) > 6 else ''})"
    )
