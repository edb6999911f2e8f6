"""What a forecaster costs: throughput, latency, memory, parameters, operations.

The device is synchronised before a clock is read, the first calls are not counted, and samples are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from tsbench.data.windows import Windows
from tsbench.evaluation.energy import GpuMeter
from tsbench.training.devices import synchronise
from tsbench.training.forecaster import Forecaster
from tsbench.training.optimizers import DirectStep, make_optimizer

PREDICT_BATCH_SIZE = 256

MEASURE_SECONDS = 0.3
"""For batches, and again for single windows."""

FURTHER_BATCH_SIZES = (8, 64)
"""Between a single window and the large batch: for the curve, timed for a quarter as long."""

BARE_SECONDS = 0.1
"""For steps of training that are nothing but arithmetic."""

_WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Inference:
    """Samples of inference alone, data on the device already."""

    batch_size: int
    windows_per_second: list[float]
    latencies_ms: list[float]
    """Of one window at a time."""
    further: dict[int, float]
    """Windows per second in batches of other sizes."""
    joules: float | None = None
    """Per 1,000 windows in batches, warm-up included; None where there is no GPU that counts."""

    @property
    def by_batch_size(self) -> dict[int, float]:
        """Windows per second, median over repeats, from a single window to the large batch."""
        ends = {1: 1000 / self.latency_ms(50), self.batch_size: self.median_windows_per_second}
        return dict(sorted((ends | self.further).items()))

    @property
    def latency_quantiles_ms(self) -> list[float]:
        """From the fastest call to the slowest, in steps of a twentieth."""
        return [self.latency_ms(percentile) for percentile in range(0, 101, 5)]

    @property
    def median_windows_per_second(self) -> float:
        return float(np.median(self.windows_per_second))

    def latency_ms(self, percentile: float) -> float:
        return float(np.percentile(self.latencies_ms, percentile))


def measure_inference(forecaster: Forecaster, windows: Windows, *, seconds: float = MEASURE_SECONDS) -> Inference:
    """Time batches of 256 windows, then single windows, for about `seconds` each, at least five samples; sizes between
    for a quarter of that."""
    device = windows.device
    count = min(PREDICT_BATCH_SIZE, len(windows))
    context, _, *covariates = windows.batch(torch.arange(count, device=device))

    def timed(size: int, seconds: float) -> list[float]:
        parts = [part[:size].contiguous() for part in (context, *covariates)]
        return _samples(lambda: forecaster.infer(*parts), device, seconds)

    with GpuMeter(device) as meter:
        rates = [count / sample for sample in timed(count, seconds)]
    joules = meter.per_thousand(count * (len(rates) + _WARM_UP_CALLS))
    latencies = [1000 * sample for sample in timed(1, seconds)]
    sizes = [size for size in FURTHER_BATCH_SIZES if size < count]
    further = {size: size / float(np.median(timed(size, seconds / 4))) for size in sizes}
    return Inference(count, rates, latencies, further, joules)


def measure_bare_step(forecaster: Forecaster, windows: Windows, *, seconds: float = BARE_SECONDS) -> float | None:
    """Median milliseconds of what no training step can do without: forward pass, backward pass and optimizer step for
    one batch that is ready, in the recipe's precision.

    On a copy: the forecaster's weights stay as they are. None for one that took no steps in its training, and where the
    device has no memory for the copy.
    """
    if not forecaster.training_log.chunks:
        return None
    device = windows.device
    picks_B = torch.arange(forecaster.recipe.batch_size, device=device) % len(windows)
    batch = tuple(part.contiguous() for part in windows.batch(picks_B))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws
        try:
            twin = _twin(forecaster, windows.channels, {"pretrained": ""}).build(seed=0).to(device).train()
            twin.load_state_dict(forecaster.state_dict())
            optimizer = make_optimizer(twin.recipe, twin.parameter_groups(), device)
            update = DirectStep(optimizer)

            def step() -> None:
                optimizer.zero_grad()
                with twin.fast_products(batch[0]):
                    with twin.in_its_precision(device):
                        loss = twin.loss(batch)
                    loss.backward()
                update()

            return 1000 * float(np.median(_samples(step, device, seconds)))
        except (torch.OutOfMemoryError, MemoryError):
            return None


def _samples(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Seconds of each of 5 to 200 calls, warm and synchronised."""
    for _ in range(_WARM_UP_CALLS):
        call()
    synchronise(device)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 5 or (time.perf_counter() < end and len(samples) < 200):
        start = time.perf_counter()
        call()
        synchronise(device)
        samples.append(time.perf_counter() - start)
    return samples


def flops_per_window(forecaster: Forecaster, channels: int) -> int:
    """Operations of one forward pass over one window, multiplication and addition counted apart.

    Matrix products and convolutions only, counted on the meta device: on a real one, fused kernels (LSTM on the CPU,
    any recurrence on a GPU) hide from torch's counter and count as zero.
    """
    twin = _twin(forecaster, channels, {"precision": "32", "pretrained": ""})
    with torch.device("meta"):
        twin.configure_model()
        context = torch.empty(1, twin.context_length, channels)
        covariates = torch.empty(1, twin.context_length + twin.horizon, twin.roles.width)
    # As in training; dropout counts nothing.
    with FlopCounterMode(display=False) as counter:
        twin(context, covariates)
    return counter.get_total_flops()


def _twin(forecaster: Forecaster, channels: int, changes: Mapping[str, Any]) -> Forecaster:
    """The same forecaster without its weights, and with changes of its recipe."""
    return Forecaster(
        forecaster.spec.name,
        context_length=forecaster.context_length,
        horizon=forecaster.horizon,
        channels=channels,
        seasonality=forecaster.seasonality,
        covariates=forecaster.roles,
        recipe=forecaster.recipe.model_copy(update=changes),
        **forecaster.arguments,
    )


class PeakMemory:
    """The most memory in use between entry and exit, in MiB, and where it was read.

    On a GPU: torch's allocator. On Linux: the process's peak resident set, whose mark the kernel lets us reset.
    Elsewhere: the resident set at exit.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mib = 0.0
        self.kind = "CUDA allocator" if device.type == "cuda" else "process RSS"

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._reset_works = _reset_peak_rss()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            size = torch.cuda.max_memory_allocated(self.device)
        elif self._reset_works:
            size = _peak_rss()
        else:
            size = psutil.Process().memory_info().rss
        self.mib = size / 2**20


def _reset_peak_rss() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
