"""Has the future leaked into the past? Each run is asked again with the future hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from tsbench.data.mapped import MappedRows
from tsbench.data.panel import Panel, Part, WindowStarts
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.evaluation.accuracy import quantiles_and_target
from tsbench.training.forecaster import Forecaster


def scaler_is_blind(scaler: Scaler, panel: Panel) -> bool:
    """Whether the scaler comes out the same, to the bit, when validation and test rows hold no numbers."""
    again = Scaler.fit(replace(panel, values=_training_rows_alone(panel)).train)
    return bool(np.array_equal(scaler.mean, again.mean) and np.array_equal(scaler.std, again.std))


def _training_rows_alone(panel: Panel) -> np.ndarray | MappedRows:
    """The values of a panel with NaN in all other rows."""
    if isinstance(panel.values, MappedRows):
        return _Veiled(panel.values, panel.train.bounds)
    values = np.full_like(panel.values, np.nan)
    values[panel.train.rows] = panel.train.values
    return values


class _Veiled(MappedRows):
    """Rows of a file, with NaN in those that lie in no stretch of `bounds`, `[items, 2]`."""

    def __init__(self, values: MappedRows, bounds: np.ndarray) -> None:
        super().__init__(values.path, values.shape)
        self.bounds = bounds

    def __getitem__(self, rows: slice) -> np.ndarray:
        values, number = super().__getitem__(rows), np.arange(*rows.indices(len(self)))
        stretch = np.searchsorted(self.bounds[:, 0], number, side="right") - 1
        values[(stretch < 0) | (number >= self.bounds[stretch, 1])] = np.nan
        return values


def forecasts_are_blind(forecaster: Forecaster, windows: Windows, scaler: Scaler, count: int = 4) -> bool:
    """Whether forecasts stay the same when all rows from their origin on hold no numbers: of windows evenly spaced.

    Targets and past covariates; what is known ahead may be seen. Within rounding, for devices that do not add in the
    same order twice; a future that leaks in leaves no number.
    """
    picks = torch.linspace(0, len(windows) - 1, min(count, len(windows)), dtype=torch.float64).round().long()
    first_1 = torch.zeros(1, dtype=torch.int64, device=windows.device)
    for pick_1 in picks.to(windows.device).split(1):
        one = windows.only(pick_1)
        seen, *_ = quantiles_and_target(forecaster, one, scaler, first_1)
        with _hidden(forecaster, one):
            blind, *_ = quantiles_and_target(forecaster, one, scaler, first_1)
        if not torch.allclose(seen, blind, rtol=1e-4, atol=1e-5):
            return False
    return True


@contextmanager
def _hidden(forecaster: Forecaster, one: Windows) -> Iterator[None]:
    """While this lasts, the rows from a window's origin on hold no numbers, in the memory that it is gathered from."""
    origin = int(one.starts_N[0]) + one.context_length
    futures = [one.values_TC[origin:]]
    if one.covariates is not None:
        futures.append(one.covariates.rows_TK[origin:, : len(forecaster.covariates.past)])
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
    bounds = np.concatenate([part.bounds for part in parts])
    bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
    if (bounds[1:, 0] < bounds[:-1, 1]).any():
        return False
    return all(
        _lie_in(part.bounds, part.window_starts(context_length, horizon), context_length, horizon) for part in parts
    )


def _lie_in(bounds: np.ndarray, starts: WindowStarts, context_length: int, horizon: int) -> bool:
    """Whether the targets of all windows lie in these stretches of rows, each in one of them."""
    for low in range(0, len(starts), _AT_A_TIME):
        origins = starts.at(np.arange(low, min(low + _AT_A_TIME, len(starts))))[0] + context_length
        stretch = np.searchsorted(bounds[:, 0], origins, side="right") - 1
        if not ((stretch >= 0) & (origins + horizon <= bounds[stretch, 1])).all():
            return False
    return True


_AT_A_TIME = 1 << 20
