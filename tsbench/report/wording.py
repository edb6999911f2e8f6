"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

BLANK = "–"


def fixed(value: float | None, decimals: int) -> str:
    return BLANK if value is None or math.isnan(value) else f"{value:,.{decimals}f}"


def decimals_for(values: Iterable[float | None], digits: int = 4) -> int:
    """How many decimals give the smallest value of a column so many significant digits: one count, so they align."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
    return max(0, min(6, digits - 1 - math.floor(math.log10(min(sizes))))) if sizes else digits - 1


def compact(value: float | None) -> str:
    """Three significant digits with a unit prefix: 12300 is 12.3k."""
    if value is None or math.isnan(value):
        return BLANK
    rounded = float(f"{value:.3g}")  # first, so that 999.6 is 1.00k and not 1000
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(rounded) >= size:
            return _three_digits(rounded / size) + prefix
    return _three_digits(rounded)


def _three_digits(value: float) -> str:
    if value == int(value) and abs(value) < 1000 and abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def whole(value: float | None) -> str:
    """A count, compact from 10,000 on."""
    if value is None or math.isnan(value):
        return BLANK
    return compact(value) if abs(value) >= 10_000 else f"{value:,.0f}"


def percent(fraction: float | None) -> str:
    """With one decimal, and a true minus sign."""
    if fraction is None or math.isnan(fraction):
        return BLANK
    return f"{100 * fraction:.1f}%".replace("-", "−")


def power(value: float) -> str:
    """Two significant digits at any size: 3.1e-9."""
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e+")


def times(ratio: float) -> str:
    """A factor, with a decimal below ten."""
    return f"{ratio:.1f} times" if ratio < 9.95 else f"{ratio:,.0f} times"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
