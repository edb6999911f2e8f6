"""Scaling by channel, fitted on training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsbench.data.panel import Part


@dataclass(frozen=True, eq=False)
class Scaler:
    """Z-scores by channel, as the long-horizon literature reports them: mean and standard deviation with ddof 0."""

    mean: np.ndarray
    """`[C]`, float64, original units."""
    std: np.ndarray
    """`[C]`, float64, original units; 1 where a channel is constant."""

    @classmethod
    def fit(cls, train: Part) -> Scaler:
        """From the rows of the training part, all items together."""
        from sklearn.preprocessing import StandardScaler  # half a second to import

        fitted = StandardScaler().fit(train.values.astype(np.float64))
        return cls(fitted.mean_, fitted.scale_)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Original units to z-scores, float32, the same shape `[..., C]`."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Z-scores to original units, float64, the same shape `[..., C]`."""
        return values * self.std + self.mean
