"""Scoring: every window once, in sums that do not depend on how the windows are dealt out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.data.panel import Panel
from tsbench.data.scaling import Scaler
from tsbench.data.splits import SplitByCounts
from tsbench.data.windows import Windows
from tsbench.errors import Diverged
from tsbench.evaluation.accuracy import ErrorTotals, evaluate, points_digest, sample_forecasts
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster


def test_windows(panel: Panel, context_length: int = 24, horizon: int = 6) -> Windows:
    values_TC = torch.from_numpy(Scaler.fit(panel.train).apply(panel.values))
    return Windows.of(panel.test, values_TC, context_length, horizon)


def score(panel: Panel, model: str = "gru", context_length: int = 24, batch_size: int = 256) -> ErrorTotals:
    """Of an untrained forecaster."""
    forecaster = Forecaster(model, context_length=context_length, horizon=6, seasonality=24).build(0).eval()
    return evaluate(forecaster, test_windows(panel, context_length), Scaler.fit(panel.train), batch_size=batch_size)
