"""What a forecast rests on, as numbers: importance by row of the context and step ahead, and by lag. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the forecasts of one trained model rest on, by several methods, over some windows.

    Letters beside those of the project: S explained steps ahead, K lags, Q tokens that ask, N tokens that are asked.
    """

    steps_S: np.ndarray
    """The explained steps ahead; 1 is the row after the context."""
    importance: Mapping[str, np.ndarray]
    """By method `[S, L]`: the share of each row of the context in what moves a step, without sign; a step's shares sum
    to one, or are zero where nothing moves it."""
    attention: Mapping[str, np.ndarray]
    """By layer `[Q, N]`: how a Transformer's tokens share their attention, mean over windows, channels and heads; rows
    sum to one. Empty for other models."""
    num_windows: int
    num_channels: int

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What a file of arrays keeps; `from_arrays` reads it."""
        counts = {"num_windows": np.array(self.num_windows), "num_channels": np.array(self.num_channels)}
        named = {f"importance.{method}": shares for method, shares in self.importance.items()}
        named |= {f"attention.{layer}": weights for layer, weights in self.attention.items()}
        return {"steps": self.steps_S, **counts, **named}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Explanation:
        def below(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

        counts = int(arrays["num_windows"]), int(arrays["num_channels"])
        return cls(arrays["steps"], below("importance."), below("attention."), *counts)

    def by_lag(self, method: str) -> np.ndarray:
        """Shares `[K]` by lag, mean over the steps; element k is lag k, the first one is always zero.

        The lag is the forecast row less the context row: the last row is at lag 1 of the first step ahead, and a season
        is at the same lag of every step that is not further ahead than a season.
        """
        shares_SL = self.importance[method]
        length = shares_SL.shape[1]
        shares_K = np.zeros(length + int(self.steps_S.max()))
        for step, shares_L in zip(self.steps_S, shares_SL, strict=True):
            shares_K[step : step + length] += shares_L[::-1] / len(self.steps_S)
        return shares_K

    def peak(self, method: str) -> tuple[int, float]:
        """The lag with the greatest importance, and its share."""
        shares_K = self.by_lag(method)
        return int(shares_K.argmax()), float(shares_K.max())

    def peak_row(self, method: str) -> tuple[int, float]:
        """The row with the greatest importance for all steps together, counted back from 1, and its share."""
        shares_L = self.importance[method].mean(axis=0)
        return len(shares_L) - int(shares_L.argmax()), float(shares_L.max())

    def share_at(self, method: str, lag: int) -> float:
        """The share at a lag and its multiples: of a season, what lies a whole number of them back."""
        return float(self.by_lag(method)[lag::lag].sum())

    def points_at(self, method: str, lag: int) -> bool:
        """Whether the greatest importance lies at this lag or a multiple: what repeats is found there as well, and a
        step further ahead than the lag finds it nowhere else."""
        peak, share = self.peak(method)
        return share > 0 and peak % lag == 0
