"""Devices: finding the one that was asked for, and waiting for it before a clock is read."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from tsbench.errors import ConfigError, MachineError, unknown
from tsbench.training.recipe import Recipe


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises MachineError when the device asked for is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"), where="--device")
    if name == "cuda" and not torch.cuda.is_available():
        built = "has no usable GPU" if torch.version.cuda else "has a CPU-only build of torch"
        raise MachineError(f"--device cuda: this machine {built}; use --device cpu or auto")
    return torch.device(name)


def count_gpus() -> int:
    return torch.cuda.device_count()


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Raises ConfigError for what needs a GPU on a CPU: half precision, which no trainer supports there, and TF32."""
    if recipe.precision in ("16", "tf32") and device.type == "cpu":
        raise ConfigError(f"--precision {recipe.precision} needs a GPU; on a CPU use 32, bf16 or 64")


def set_precision(recipe: Recipe, device: torch.device) -> None:
    """Tell a GPU's libraries whether they may multiply in TF32: cuDNN, unlike matrix products, would by itself.

    Raises ConfigError as `check_precision` does.
    """
    check_precision(recipe, device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = recipe.precision == "tf32"


_LARGE_PRODUCT = 3_000_000
"""Multiplications from which on oneDNN's kernels pay: a call of them costs more."""

LARGEST_WITHIN_ATTENTION = 16**3
"""Multiplications of a product within a head of attention up to which oneDNN passes. PyTorch's kernel for attention
hands it larger ones, many and small: a Transformer with 28 tokens would train at a third of its speed."""


@contextmanager
def fast_products(multiplications: int, device: torch.device) -> Iterator[None]:
    """Around matrix products on a processor of AMD with AVX-512: of large ones, by oneDNN instead of MKL.

    PyTorch leaves products of float32 to MKL, which takes instructions of half the width on a processor that is not
    Intel's: 105 GFLOPS where oneDNN reaches 220. PyTorch gives them to oneDNN where rounding to bfloat16 is allowed. A
    processor that can multiply bfloat16 matrices would then do so; one that cannot computes as before. Which of both
    it is, is seen by trying, and where a product is rounded all stays as it was.

    multiplications: in the largest of the products.
    """
    if multiplications < _LARGE_PRODUCT or device.type != "cpu" or not _products_can_be_faster():
        yield
        return
    with _products_by_onednn():
        yield


@cache
def _products_can_be_faster() -> bool:
    """Whether they are MKL's on a processor that it holds back, and oneDNN's would be as exact."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    can_choose = hasattr(torch.backends.mkldnn, "matmul")  # since torch 2.9
    if not (libraries and can_choose and _is_amd_with_avx512()):
        return False
    with _products_by_onednn():
        return _rounding_of_a_product() < 1e-4


@contextmanager
def _products_by_onednn() -> Iterator[None]:
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _is_amd_with_avx512() -> bool:
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        processor = platform.processor()
    return "AuthenticAMD" in processor and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _rounding_of_a_product() -> float:
    """How far a product of float32 lies from that of float64, as a share of its size; of bfloat16 it would be 1e-3."""
    left, right = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    exact = left.double() @ right.double()
    return float((left @ right - exact).norm() / exact.norm())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was told: a clock read earlier would miss work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_LARGE = 2**30
_MALLOPT = {"M_MMAP_THRESHOLD": (-3, _LARGE), "M_TRIM_THRESHOLD": (-1, _LARGE), "M_TOP_PAD": (-2, 2**26)}


def keep_freed_memory() -> None:
    """Tell glibc to keep the large blocks that it would give back to the system and take anew in every step.

    For this process from now on; worker processes have it in their environment. A step of an LSTM over 168 rows (64
    wide, batch 256) takes 68 ms instead of 158, of a plain RNN 43 instead of 63. Elsewhere nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        for option, size in _MALLOPT.values():
            ctypes.CDLL(None).mallopt(option, size)


def give_memory_back() -> None:
    """Hand what was freed back to the system or to the GPU's other processes: it would count as a later run's peak."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
