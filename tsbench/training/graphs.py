"""A training step as one CUDA graph: launched at once, instead of kernel by kernel.

Steps of small models on a GPU wait for launches, not for arithmetic. What cannot be captured is done the ordinary way,
and the record says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

VARIABLE = "TSBENCH_CUDA_GRAPHS"
"""Environment variable: `never` leaves all steps to the ordinary way."""

CAPTURED = "captured"

_WARM_UP_STEPS = 3
"""Ordinary steps first: libraries take memory in them, and the optimizer makes its state."""

Step = Callable[[Tensor], Tensor]
"""From the numbers of a batch's windows, on the device, to its loss. It reads nothing back and keeps no count."""


class Capturer(Protocol):
    """What captures a step: a CUDA graph, or a test's stand-in."""

    def aside(self) -> AbstractContextManager[None]:
        """Around a step before the capture: off the stream that a capture may not touch."""

    def capture(self, step: Step, picks: Tensor) -> tuple[Callable[[], None], Tensor]:
        """Record a step without doing it. Returns what does it for the numbers that lie in `picks` by then, and where
        its loss will be."""


class StepGraph:
    """A step that is captured once it is warm, or left as it is.

    state: `captured`, or why not; empty while it is warming up.
    """

    def __init__(self, step: Step, capturer: Capturer | None, state: str = "") -> None:
        self.step, self.capturer, self.state = step, capturer, state
        self._warm_steps = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, picks: Tensor) -> Tensor:
        """The loss lies where the next step's will be."""
        if self._replay is None and self.capturer and not self.state and self._warm_steps == _WARM_UP_STEPS:
            self._capture(picks)
        if self._replay is not None:
            self._picks.copy_(picks)
            self._replay()
            return self._loss
        self._warm_steps += 1
        with self.capturer.aside() if self.capturer and not self.state else nullcontext():
            return self.step(picks)

    def _capture(self, picks: Tensor) -> None:
        assert self.capturer
        self._picks = picks.clone()
        try:
            self._replay, self._loss = self.capturer.capture(self.step, self._picks)
            self.state = CAPTURED
        except Exception as error:  # whatever a kernel, a library or a model of the user's cannot do
            self.state = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"


def step_graph(
    step: Step, device: torch.device, why_not: str = "", generators: Sequence[torch.Generator] = ()
) -> StepGraph:
    """For this device. why_not: what is known against a capture. generators: what the step draws from, beside the
    global one."""
    if device.type != "cuda":
        return StepGraph(step, None)
    if os.environ.get(VARIABLE) == "never":
        why_not = f"{VARIABLE}=never"
    return StepGraph(step, CudaCapturer(device, generators), why_not)


class CudaCapturer:
    """`torch.cuda.graph`, with a stream of its own for the steps before."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self.device, self.generators = device, generators
        self.stream = torch.cuda.Stream(device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def capture(self, step: Step, picks: Tensor) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            loss = step(picks)
        return graph.replay, loss
