"""The audit: it passes where nothing leaks, and finds each leak that is made on purpose."""

from __future__ import annotations

import numpy as np
import torch

from tsbench.data.panel import Panel, Part, WindowStarts
from tsbench.data.scaling import Scaler
from tsbench.data.windows import Windows
from tsbench.evaluation.audit import forecasts_are_blind, scaler_is_blind, targets_lie_in_their_parts
from tsbench.training.forecaster import Forecaster


def test_a_scaler_of_training_rows_is_blind_and_one_of_all_rows_is_found(small_panel: Panel):
    everything = Scaler(small_panel.values.mean(0, dtype=np.float64), small_panel.values.std(0, dtype=np.float64))

    assert scaler_is_blind(Scaler.fit(small_panel.train), small_panel)
    assert not scaler_is_blind(everything, small_panel)


class Shifted(Windows):
    """Windows whose contexts reach a row into the future."""

    def _gather(self, starts_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        window = self._runs.index_select(0, starts_B).unflatten(1, (-1, self.channels))
        return window[:, 1 : self.context_length + 1], window[:, self.context_length :]


def test_a_context_that_reaches_into_the_future_is_found_and_nothing_is_left_hidden(small_panel: Panel):
    scaler = Scaler.fit(small_panel.train)
    values_TC = torch.from_numpy(scaler.apply(small_panel.values))
    before = values_TC.clone()
    forecaster = Forecaster("linear", context_length=24, horizon=6).build(0).eval()
    starts = torch.from_numpy(small_panel.test.starts(24, 6))

    assert forecasts_are_blind(forecaster, Windows(values_TC, starts, 24, 6), scaler)
    assert not forecasts_are_blind(forecaster, Shifted(values_TC, starts, 24, 6), scaler)
    assert torch.equal(values_TC, before)


def test_targets_outside_their_part_are_found(small_panel: Panel):
    class Early(Part):
        def window_starts(self, context_length: int, horizon: int) -> WindowStarts:
            found = super().window_starts(context_length, horizon)
            return WindowStarts(found.low_I - 1, found.counts_I, found.stride)

    train, validation, test = small_panel.train, small_panel.validation, small_panel.test
    assert targets_lie_in_their_parts([train, validation, test], 24, 6)
    assert not targets_lie_in_their_parts([train, validation, Early(small_panel, "test")], 24, 6)
    assert not targets_lie_in_their_parts([train, train, test], 24, 6)
