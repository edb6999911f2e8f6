"""What every row is measured on: the default experiment's series, scaled, and what a window of it is."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tsbench.bench.records import Run
from tsbench.bench.runner import Prepared
from tsbench.data.datasets import load_dataset
from tsbench.data.windows import Windows
from tsbench.models.registry import model_spec
from tsbench.training.recipe import Recipe

CONTEXT_LENGTH, HORIZON = 168, 24
FAMILIES = ("mlp", "rnn", "lstm", "gru", "cnn", "tcn", "transformer")


@cache
def prepared() -> Prepared:
    return Prepared.on(load_dataset("auckland_pedestrians"), torch.device("cpu"))


def run_of(model: str, *, seed: int = 0, recipe: dict[str, Any] | None = None, **arguments: Any) -> Run:
    """A run on the series above, as the runner takes it."""
    panel = prepared().panel
    return Run(
        dataset=panel.name,
        fingerprint=panel.fingerprint,
        context_length=CONTEXT_LENGTH,
        horizon=HORIZON,
        seed=seed,
        model=model,
        arguments=model_spec(model).resolve(arguments, "benchmarks"),
        recipe=Recipe(**(recipe or {})),
    )


@cache
def windows(part: str) -> Windows:
    return prepared().windows(run_of("naive"))[part]


class PerSample(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The usual way: one window at a time, put together by a DataLoader."""

    def __init__(self, part: str) -> None:
        self.starts, self.values_TC = windows(part).starts_N.tolist(), prepared().values_TC

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.starts[index]
        middle = start + CONTEXT_LENGTH
        return self.values_TC[start:middle], self.values_TC[middle : middle + HORIZON]


def loader(part: str, batch_size: int, *, shuffle: bool = False, num_workers: int = 0) -> DataLoader[Any]:
    return DataLoader(PerSample(part), batch_size, shuffle=shuffle, num_workers=num_workers)
