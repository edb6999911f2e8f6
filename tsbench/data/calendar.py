"""Calendar features: covariates made from timestamps, so known for any row to come.

Hours, weekdays, days of the year and months go round, so each is a sine and a cosine: 23 h lies beside 0 h, and Sunday
beside Monday. Holidays are 1, other days 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsbench.errors import DataError, MachineError, nearest

_CYCLES: dict[str, Callable[[pd.DatetimeIndex], Any]] = {
    "hour": lambda stamps: (stamps.hour + stamps.minute / 60) / 24,
    "weekday": lambda stamps: stamps.day_of_week / 7,
    "day_of_year": lambda stamps: (stamps.day_of_year - 1) / 365.25,
    "month": lambda stamps: (stamps.month - 1) / 12,
}
"""Where in its cycle a stamp lies, from 0 to 1."""

_HOLIDAYS = re.compile(r"holidays:([A-Z]{2})(?:-([A-Z0-9]+))?")


def check_calendar(words: Sequence[str]) -> None:
    """Raises ValueError, which a validator makes a ConfigError, for a word that names no feature."""
    for word in words:
        if word not in _CYCLES and not _HOLIDAYS.fullmatch(word):
            raise ValueError(
                f"calendar: unknown {word!r}; {nearest(word, [*_CYCLES, 'holidays:DE', 'holidays:US-CA'])}"
            )


def calendar_columns(words: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns that these words become."""
    return tuple(name for word in words for name in ((f"sin {word}", f"cos {word}") if word in _CYCLES else (word,)))


def calendar_values(timestamps: np.ndarray, words: Sequence[str], time_zone: str = "") -> np.ndarray:
    """`[T, columns]`, float32, of stamps as a panel holds them.

    time_zone: the zone whose clock counts, where the stamps are in UTC.

    Raises MachineError where holidays are asked for and the package is missing, DataError for an unknown country.
    """
    stamps = pd.DatetimeIndex(timestamps)
    if time_zone:
        stamps = stamps.tz_localize("UTC").tz_convert(time_zone)
    columns: list[np.ndarray] = []
    for word in words:
        if word in _CYCLES:
            turn = 2 * np.pi * np.asarray(_CYCLES[word](stamps), dtype=np.float64)
            columns += [np.sin(turn), np.cos(turn)]
        else:
            columns.append(_is_holiday(stamps, word))
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.empty((len(stamps), 0), np.float32)


def _is_holiday(stamps: pd.DatetimeIndex, word: str) -> np.ndarray:
    try:
        import holidays
    except ImportError as error:
        raise MachineError(
            f"calendar = {word!r} needs the package holidays, which is not here; type: pip install 'tsbench[holidays]'"
        ) from error
    match = _HOLIDAYS.fullmatch(word)
    assert match, "check_calendar() comes first"
    country, part = match.groups()
    try:
        days = holidays.country_holidays(country, subdiv=part, years=sorted(set(stamps.year)))
    except NotImplementedError as error:
        raise DataError(
            f"calendar: {word!r}: {error}; write a country, or a country and its part: US, US-CA"
        ) from error
    return np.isin(stamps.strftime("%Y-%m-%d"), [day.isoformat() for day in days])
