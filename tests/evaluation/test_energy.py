"""Energy of a GPU: joules by the driver's counter, and a reason where nobody counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tsbench.evaluation import energy
from tsbench.evaluation.energy import NO_GPU, GpuMeter

GPU = torch.device("cuda")


class Counter:
    """A driver that has counted so many millijoules at each look; then it fails."""

    def __init__(self, *millijoules: int) -> None:
        self.millijoules = list(millijoules)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        return self.millijoules.pop(0)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=87, memory=12)


def metered(monkeypatch: pytest.MonkeyPatch, *millijoules: int) -> GpuMeter:
    monkeypatch.setattr(energy, "_open", lambda device: (Counter(*millijoules), "handle"))
    monkeypatch.setattr(energy, "synchronise", lambda device: None)
    with GpuMeter(GPU) as meter:
        pass
    return meter


def test_joules_are_what_the_counter_moved_and_are_told_per_thousand_windows(monkeypatch: pytest.MonkeyPatch):
    meter = metered(monkeypatch, 10_000, 14_000)

    assert (meter.joules, meter.busy_percent, meter.note) == (4.0, 87.0, "")
    assert meter.per_thousand(2000) == 2.0
    assert meter.per_thousand(0) is None


def test_a_driver_that_fails_on_the_way_leaves_a_blank_with_a_reason(monkeypatch: pytest.MonkeyPatch):
    meter = metered(monkeypatch, 10_000)

    assert (meter.joules, meter.per_thousand(10)) == (None, None)
    assert meter.note.startswith("NVML: IndexError")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the driver would answer")
def test_without_a_gpu_or_a_driver_there_is_a_reason():
    with GpuMeter(torch.device("cpu")) as on_cpu, GpuMeter(GPU) as without_driver:
        pass

    assert (on_cpu.joules, on_cpu.note) == (None, NO_GPU)
    assert without_driver.joules is None
    assert without_driver.note.startswith("NVML: ")
