"""What a GPU takes from its socket and how busy it is, as its driver counts it (NVML)."""

from __future__ import annotations

from typing import Any

import torch

from tsbench.training.devices import synchronise

NO_GPU = "energy is read on a GPU only"


class GpuMeter:
    """Between entry and exit: the energy of the whole GPU, and the share of the last second in which it was busy.

    joules, busy_percent: None where they cannot be read, and `note` says why.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.joules: float | None = None
        self.busy_percent: float | None = None
        self.note = "" if device.type == "cuda" else NO_GPU

    def __enter__(self) -> GpuMeter:
        if not self.note:
            try:
                self._nvml, self._handle = _open(self.device)
                self._start = self._millijoules()
            except Exception as error:  # no package, no driver, a GPU that does not count
                self.note = f"NVML: {type(error).__name__}: {error}"
        return self

    def __exit__(self, *error: object) -> None:
        if self.note:
            return
        try:
            self.joules = (self._millijoules() - self._start) / 1000
            self.busy_percent = float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except Exception as failure:  # it went away meanwhile
            self.note = f"NVML: {type(failure).__name__}: {failure}"

    def per_thousand(self, windows: int) -> float | None:
        """Joules per 1,000 windows."""
        return None if self.joules is None or windows == 0 else 1000 * self.joules / windows

    def _millijoules(self) -> int:
        synchronise(self.device)
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def _open(device: torch.device) -> tuple[Any, Any]:
    """The library, and the handle of the very device: NVML counts also those that CUDA_VISIBLE_DEVICES hides."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
