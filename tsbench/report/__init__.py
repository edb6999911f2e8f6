"""The tables and pictures of a report, for notebooks: `from tsbench import report`, then `report.leaderboard(DIR)`.

The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsbench.report.interchange import export as export
    from tsbench.report.notebook import comparisons as comparisons
    from tsbench.report.notebook import figure as figure
    from tsbench.report.notebook import leaderboard as leaderboard
    from tsbench.report.notebook import ranking as ranking

_HOMES = {
    "comparisons": "tsbench.report.notebook",
    "export": "tsbench.report.interchange",
    "figure": "tsbench.report.notebook",
    "leaderboard": "tsbench.report.notebook",
    "ranking": "tsbench.report.notebook",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tsbench.report' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
