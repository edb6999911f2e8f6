"""The machine a record was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from tsbench.bench.records import Machine


def describe_machine(device: torch.device) -> Machine:
    """Device, threads, size and versions, as they are now."""
    on_gpu = device.type == "cuda"
    versions = {name: version(name) for name in ("tsbench", "torch", "lightning", "numpy", "pandas")}
    versions["python"] = platform.python_version()
    if on_gpu:
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return Machine(
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if on_gpu else _processor_name(),
        num_threads=torch.get_num_threads(),
        num_cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
    )


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
