"""Has the future leaked into the past? Each run is asked again with the future hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tsbench.data.panel import Panel, Part
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import quantiles_and_target
from tsbench.training.forecaster import Forecaster


def scaler_is_blind(scaler: Scaler, panel: Panel) -> bool:
    """Whether the scaler comes out the same, to the bit, when validation and test rows hold no numbers."""
    values = np.full_like(panel.values, np.nan)
    values[panel.train.rows] = panel.train.values
    again = Scaler.fit(replace(panel, values=values).train)
    return bool(np.array_equal(scaler.mean, again.mean) and np.array_equal(scaler.std, again.std))


def forecasts_are_blind(
    forecaster: Forecaster, windows: Windows, scaler: Scaler, values_TC: Tensor, count: int = 4
) -> bool:
    """Whether forecasts stay the same when all rows from their origin on hold no numbers: of windows evenly spaced.

    Targets and past covariates; what is known ahead may be seen. Within rounding, for devices that do not add in the
    same order twice; a future that leaks in leaves no number.
    """
    picks = torch.linspace(0, len(windows) - 1, min(count, len(windows))).round().long().to(windows.starts_N.device)
    for pick_1 in picks.split(1):
        seen, *_ = quantiles_and_target(forecaster, windows, scaler, pick_1)
        with _hidden(values_TC, forecaster, windows, int(windows.starts_N[pick_1]) + windows.context_length):
            blind, *_ = quantiles_and_target(forecaster, windows, scaler, pick_1)
        if not torch.allclose(seen, blind, rtol=1e-4, atol=1e-5):
            return False
    return True


@contextmanager
def _hidden(values_TC: Tensor, forecaster: Forecaster, windows: Windows, origin: int) -> Iterator[None]:
    """While this lasts, the rows from the origin on hold no numbers, in the memory that windows are gathered from."""
    futures = [values_TC[origin:]]
    if windows.covariates is not None:
        futures.append(windows.covariates.rows_TK[origin:, : len(forecaster.covariates.past)])
    kept = [future.clone() for future in futures]
    try:
        for future in futures:
            future.fill_(torch.nan)
        yield
    finally:
        for future, before in zip(futures, kept, strict=True):
            future.copy_(before)


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
