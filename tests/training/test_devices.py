"""Devices: what a process is told before it trains."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tsbench.data.windows import Batch, Windows
from tsbench.training import devices
from tsbench.training.devices import fast_products
from tsbench.training.forecaster import Forecaster

CPU = torch.device("cpu")

FAULTS = """
import resource, torch
from tsbench.training.devices import keep_freed_memory
{call}
def step():
    torch.empty(2**24).fill_(1.0)
for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_large_blocks_that_are_freed_are_taken_again_without_page_faults():
    def faults(call: str) -> int:
        answer = subprocess.run(
            [sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, text=True, check=True
        )
        return int(answer.stdout)

    told, untold = faults("keep_freed_memory()"), faults("")

    assert 10 * told < untold, (told, untold)


# Matrix products

needs_the_setting = pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="torch has this setting since 2.9"
)


def library() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor whose products are faster by the other library."""
    monkeypatch.setattr(devices, "_products_can_be_faster", lambda: True)


@needs_the_setting
@pytest.mark.usefixtures("held_back")
def test_large_products_are_given_to_the_other_library_and_the_setting_put_back():
    def multiply() -> None:
        with fast_products(10**7, CPU):
            seen.append(library())
            raise KeyError

    seen, before = [], library()
    with pytest.raises(KeyError):
        multiply()

    assert (seen, library()) == (["bf16"], before)
    assert torch.get_float32_matmul_precision() == "highest"


@needs_the_setting
@pytest.mark.usefixtures("held_back")
@pytest.mark.parametrize(("multiplications", "device"), [(10**6, CPU), (10**9, torch.device("cuda"))])
def test_small_products_and_those_of_a_gpu_are_left_alone(multiplications: int, device: torch.device):
    before = library()

    with fast_products(multiplications, device):
        assert library() == before


def test_the_products_stay_those_of_single_precision():
    with fast_products(10**9, CPU):
        assert devices._rounding_of_a_product() < 1e-6


def test_a_product_that_is_rounded_to_half_precision_is_told_from_one_that_is_not():
    with torch.autocast("cpu", torch.bfloat16):
        assert devices._rounding_of_a_product() > 1e-3


@needs_the_setting
@pytest.mark.parametrize(("rounding", "taken"), [(3e-7, True), (2e-3, False)])
def test_a_processor_that_would_round_keeps_its_library(rounding: float, taken: bool, monkeypatch: pytest.MonkeyPatch):
    before = library()
    monkeypatch.setattr(devices, "_is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_rounding_of_a_product", lambda: rounding)

    assert devices._products_can_be_faster.__wrapped__() is taken
    assert library() == before


@needs_the_setting
def test_another_processor_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_is_amd_with_avx512", lambda: False)

    assert not devices._products_can_be_faster.__wrapped__()


@needs_the_setting
@pytest.mark.usefixtures("held_back")
@pytest.mark.parametrize(("batch_size", "expected"), [(8, "none"), (512, "bf16")])
def test_a_forecaster_multiplies_in_large_steps_so_and_in_small_ones_not(
    batch_size: int, expected: str, monkeypatch: pytest.MonkeyPatch
):
    seen = set()
    loss = Forecaster.loss

    def spied(self: Forecaster, batch: Batch, reduction: str = "mean") -> torch.Tensor:
        if self.training:
            seen.add(library())
        return loss(self, batch, reduction)

    monkeypatch.setattr(Forecaster, "loss", spied)
    values = torch.randn(700, 1)
    windows = Windows(values, torch.arange(700 - 60), context_length=48, horizon=12)
    recipe = {"batch_size": batch_size, "max_steps": 2}

    forecaster = Forecaster("mlp", context_length=48, horizon=12, channels=1, recipe=recipe)
    forecaster.fit_windows(windows, windows.head(8), seed=0)

    assert seen == {expected}


@needs_the_setting
@pytest.mark.usefixtures("held_back")
@pytest.mark.parametrize(("segment_length", "expected"), [(24, "bf16"), (2, "none")])
def test_a_transformer_of_many_tokens_keeps_the_library_that_its_attention_needs(segment_length: int, expected: str):
    forecaster = Forecaster("transformer", context_length=96, horizon=24, segment_length=segment_length).build(seed=0)

    with forecaster.fast_products(torch.empty(512, 96, 8)):
        assert library() == expected
