"""Has the future leaked into the past? Each run is asked again with the future hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.training.forecaster import Forecaster


def scaler_is_blind(scaler: Scaler, panel: Panel) -> bool:
    """Whether the scaler comes out the same, to the bit, when validation and test rows hold no numbers."""
    values = np.full_like(panel.values, np.nan)
    values[panel.train.rows] = panel.train.values
    again = Scaler.fit(replace(panel, values=values).train)
    return bool(np.array_equal(scaler.mean, again.mean) and np.array_equal(scaler.std, again.std))


def forecasts_are_blind(forecaster: Forecaster, windows: Windows, values_TC: Tensor, count: int = 4) -> bool:
    """Whether forecasts stay the same when all rows from their origin on hold no numbers: of windows evenly spaced.

    Within rounding, for devices that do not add in the same order twice; a future that leaks in leaves no number.
    """
    picks = torch.linspace(0, len(windows) - 1, min(count, len(windows))).round().long().to(windows.starts_N.device)
    context_BLC, _ = windows.batch(picks)
    hidden = [_hidden(start, windows, values_TC) for start in windows.starts_N[picks].tolist()]
    return torch.allclose(forecaster.infer(context_BLC), forecaster.infer(torch.cat(hidden)), rtol=1e-4, atol=1e-5)


def _hidden(start: int, windows: Windows, values_TC: Tensor) -> Tensor:
    """Context `[1, L, C]` of one window, gathered from rows whose future is gone."""
    length = windows.context_length
    rows = values_TC[start : start + length + windows.horizon].clone()
    rows[length:] = torch.nan
    alone = Windows(rows, torch.zeros(1, dtype=torch.int64), length, windows.horizon)
    return alone.batch(torch.zeros(1, dtype=torch.int64, device=rows.device))[0]


def targets_lie_in_their_parts(parts: list[Part], context_length: int, horizon: int) -> bool:
    """Whether every target row of a window belongs to the window's own part, and no row to two parts."""
    owner_T = np.full(len(parts[0].panel.values), -1)
    for number, part in enumerate(parts):
        if (owner_T[part.rows] >= 0).any():
            return False
        owner_T[part.rows] = number
    return all(
        bool((owner_T[part.starts(context_length, horizon) + context_length + step] == number).all())
        for number, part in enumerate(parts)
        for step in (0, horizon - 1)
    )
