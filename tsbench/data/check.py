"""What was understood of a dataset, in words, and the card that says it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsbench.data.cards import DatasetCard, read_card
from tsbench.data.files import content_digests
from tsbench.data.panel import Panel, Part
from tsbench.errors import DataError, MachineError

_LOOK_AT_VALUES = 1 << 22
"""Of an item, from its first row on."""
_LOOK_AT = 50
"""Series whose autocorrelation is taken: enough to see a season, and quick with 50,000 items."""

_SENTINELS = (-99999.0, -9999.0, -999.0, -99.0, 9999.0, 99999.0)
"""What stands for a missing value in many files."""


def describe(panel: Panel) -> Iterator[str]:
    """The lines that `tsbench datasets check` prints."""
    first, last = (_stamp(moment) for moment in (panel.timestamps.min(), panel.timestamps.max()))
    yield f"{panel.name}: {len(panel.values):,} rows x {panel.num_channels} channels, {first} to {last}"
    lengths = np.diff(panel.offsets)
    if len(lengths) > 1:
        names = ", ".join(panel.items[:8]) + (", ..." if len(lengths) > 8 else "")
        yield f"items: {len(lengths):,} of {lengths.min():,} to {lengths.max():,} rows: {names}"
    yield f"targets: {', '.join(panel.channels[:12])}{', ...' if panel.num_channels > 12 else ''}"
    for role, columns in panel.roles.by_name().items():
        yield f"{role}: {', '.join(columns[:12])}{', ...' if len(columns) > 12 else ''}"
    yield f"freq {panel.freq}, seasonality {panel.seasonality} rows, fingerprint {panel.fingerprint}"
    yield from _seasons(panel)
    for part in (panel.train, panel.validation, panel.test):
        yield f"{part.name + ':':12}{_rows(part)} from {_stamp(panel.timestamps[part.bounds[:, 0]].min())}"
    yield from (f"note: {note}" for note in (*_oddities(panel), *panel.notes))


def _stamp(moment: np.datetime64) -> str:
    return str(moment)[:19].replace("T", " ")


def _rows(part: Part) -> str:
    counts = np.diff(part.bounds, axis=1)
    each = f"{counts.min():,} to {counts.max():,} rows an item" if counts.min() < counts.max() else ""
    return each or f"{int(counts[0, 0]):,} rows{' an item' if len(counts) > 1 else ''}"


def _seasons(panel: Panel) -> Iterator[str]:
    """How strongly the changes from row to row repeat after a season: 1 exactly, 0 not at all."""
    lags = {panel.seasonality, 7 * panel.seasonality} if panel.seasonality >= 24 else {panel.seasonality}
    found = {lag: autocorrelation(panel.train, lag) for lag in sorted(lags - {1})}
    seen = [f"{value:.2f} at {lag} rows" for lag, value in found.items() if value is not None]
    if seen:
        yield f"evidence of the season: autocorrelation of the changes is {', '.join(seen)} (training rows)"
    usual = found.get(panel.seasonality)
    if usual is not None and usual < 0.1:
        yield f"note: there is little of a season of {panel.seasonality} rows; seasonality = 1 may be as good"


def autocorrelation(part: Part, lag: int) -> float | None:
    """Of the row-to-row changes, the mean over the longest series; None where none is three lags long or moves."""
    lengths = np.diff(part.bounds, axis=1)[:, 0]
    found = []
    for item in np.argsort(-lengths, kind="stable")[:_LOOK_AT]:
        low, high = part.bounds[item]
        high = min(high, low + max(_LOOK_AT_VALUES // part.panel.num_channels, 4 * lag))
        changes = np.diff(part.panel.values[low:high, :_LOOK_AT].astype(np.float64), axis=0)
        if len(changes) < 3 * lag:
            break
        is_there = ~np.isnan(changes)
        changes -= np.nansum(changes, axis=0) / np.maximum(is_there.sum(axis=0), 1)
        changes = np.where(is_there, changes, 0.0)
        power = (changes**2).sum(axis=0)
        moves = power > 0
        found += list((changes[lag:] * changes[:-lag]).sum(axis=0)[moves] / power[moves])
    return float(np.mean(found)) if found else None


def _oddities(panel: Panel) -> Iterator[str]:
    if panel.is_mapped:
        yield "nobody has looked for outliers and sentinels: the panel is mapped"
        return
    train = panel.train.values
    still = np.fmax.reduce(train, axis=0) == np.fmin.reduce(train, axis=0)
    for name in _few([panel.channels[c] for c in np.flatnonzero(still)]):
        yield f"{name} is constant in the training rows"
    item = np.repeat(np.arange(len(panel.items)), np.diff(panel.offsets))
    by_item = pd.DataFrame(panel.values[:]).groupby(item)
    for channel, name in enumerate(panel.channels):
        column = panel.values[:, channel]
        low, middle, high = (by_item[channel].quantile(share).to_numpy()[item] for share in (0.25, 0.5, 0.75))
        far = (np.abs(column - middle) > 10 * (high - low)) & (high > low)
        for number in _SENTINELS:
            count = int((column == np.float32(number)).sum())
            if count and far[column == np.float32(number)].any():
                yield (
                    f"{name} holds {number:g} {count:,} times: if it stands for a missing value, say sentinels = "
                    f"{number:g}"
                )
                far &= column != np.float32(number)
        if far.any():
            row = int(np.argmax(np.where(far, np.abs(column - middle), -1)))
            yield (
                f"{name} has {int(far.sum()):,} outliers, more than ten quartile ranges from its median; the farthest "
                f"is {column[row]:g} at {_stamp(panel.timestamps[row])}"
            )


def _few(names: list[str]) -> list[str]:
    return names[:8] if len(names) <= 8 else [*names[:7], f"and {len(names) - 7:,} more: each"]


def write_card(path: Path, panel: Panel, file: Path, told: Mapping[str, Any]) -> DatasetCard:
    """A card beside which, or below whose folder, `file` lies, and which loads to this panel.

    told: what was said of how to read it. Raises DataError when the file lies elsewhere or the card exists,
    MachineError when it cannot be written.
    """
    if path.exists():
        raise DataError(f"--write-card {path}: is there already; give another name, or remove it first")
    if path.suffix != ".toml" or not file.resolve().is_relative_to(path.resolve().parent):
        raise DataError(
            f"--write-card {path}: a card ends in .toml and lies beside its file or in a folder above it, such as "
            f"{file.parent / (panel.name + '.toml')}"
        )
    facts: dict[str, Any] = {
        "name": re.sub(r"[^a-z0-9]+", "_", panel.name.lower()).strip("_") or "data",
        "title": panel.about.title or panel.name,
        "source": panel.about.source,
        "license": panel.about.license,
        "file": file.name,
    }
    if file.is_file():
        facts["sha256"] = content_digests(file)[0]
    facts |= {key: value for key, value in told.items() if key != "split"}
    facts |= {"freq": panel.freq, "seasonality": panel.seasonality, "targets": list(panel.channels)}
    if panel.channels == ("value",) and "targets" not in told:
        del facts["targets"]  # of formats whose series have no column
    split = panel.split.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in facts.items()]
    lines += ["", "[split]", *(f"{key} = {_toml(value)}" for key, value in split.items())]
    try:
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"--write-card {path}: cannot be written ({error.strerror}); name another folder") from error
    return read_card(path)


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, date):  # datetimes among them
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)
