"""tsbench: which sequence model should forecast my series, how sure is that, and what does it cost?

The names below are loaded when they are first used, so importing tsbench costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsbench.api import explain_experiment as explain_experiment
    from tsbench.api import run_experiment as run_experiment
    from tsbench.bench.imports import import_results as import_results
    from tsbench.bench.records import load_item_metrics as load_item_metrics
    from tsbench.bench.records import load_records as load_records
    from tsbench.data.datasets import load_dataset as load_dataset
    from tsbench.data.panel import Panel as Panel
    from tsbench.data.readers import read_panel as read_panel
    from tsbench.data.synthetic import synthetic_panel as synthetic_panel
    from tsbench.errors import TsbenchError as TsbenchError
    from tsbench.report.changes import compare as compare
    from tsbench.report.recommendation import recommend as recommend
    from tsbench.training.forecaster import Forecaster as Forecaster
    from tsbench.training.recipe import Recipe as Recipe

_HOMES = {
    "Forecaster": "tsbench.training.forecaster",
    "Panel": "tsbench.data.panel",
    "Recipe": "tsbench.training.recipe",
    "TsbenchError": "tsbench.errors",
    "compare": "tsbench.report.changes",
    "explain_experiment": "tsbench.api",
    "import_results": "tsbench.bench.imports",
    "load_dataset": "tsbench.data.datasets",
    "load_item_metrics": "tsbench.bench.records",
    "load_records": "tsbench.bench.records",
    "read_panel": "tsbench.data.readers",
    "recommend": "tsbench.report.recommendation",
    "run_experiment": "tsbench.api",
    "synthetic_panel": "tsbench.data.synthetic",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tsbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
