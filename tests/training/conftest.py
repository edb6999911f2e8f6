"""Small trainings for tests: fast to make, and kept where several tests look at the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tsbench.data.panel import Panel
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

Train = Callable[..., Forecaster]

UNTRAINED = ("naive", "seasonal_naive", "profile")
LEARNED = [name for name in model_specs() if name not in UNTRAINED]


@pytest.fixture
def train(small_panel: Panel) -> Train:
    """A forecaster of 6 rows from 24, trained on the small panel: `train("gru", max_steps=5, hidden_size=8)`."""

    def fit(model: str = "linear", *, seed: int = 0, tell: Any = None, recipe: Any = None, **arguments: Any) -> Forecaster:
        forecaster = Forecaster(model, context_length=24, horizon=6, recipe=recipe, **arguments)
        return forecaster.fit(small_panel.train, small_panel.validation, seed=seed, device="cpu", tell=tell)

    return fit
