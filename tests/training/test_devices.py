"""Devices: what a process is told before it trains."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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
