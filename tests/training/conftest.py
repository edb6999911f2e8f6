"""A small training in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tsbench.data.panel import Panel
from tsbench.training.fit import Progress
from tsbench.training.forecaster import Forecaster


@pytest.fixture
def train(small_panel: Panel) -> Callable[..., Forecaster]:
    """Forecasters of 6 rows from 24, trained on the small panel: `train("gru", hidden_size=8, recipe={...})`."""

    def fit(
        model: str = "linear",
        *,
        seed: int = 0,
        tell: Callable[[Progress], None] | None = None,
        recipe: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Forecaster:
        forecaster = Forecaster(model, context_length=24, horizon=6, recipe=recipe, **arguments)
        return forecaster.fit(small_panel.train, small_panel.validation, seed=seed, device="cpu", tell=tell)

    return fit
