"""The tables and pictures of a report, for notebooks: `from tsbench import report`, then `report.leaderboard(DIR)`.

The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsbench.report.notebook import comparisons as comparisons
    from tsbench.report.notebook import figure as figure
    from tsbench.report.notebook import leaderboard as leaderboard
    from tsbench.report.notebook import ranking as ranking

__all__ = ["comparisons", "figure", "leaderboard", "ranking"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tsbench.report' has no attribute {name!r}")
    return getattr(import_module("tsbench.report.notebook"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
