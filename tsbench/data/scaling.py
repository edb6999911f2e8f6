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
        return cls._of(train.values)

    @classmethod
    def fit_covariates(cls, train: Part) -> Scaler | None:
        """Of the covariates, columns with a value for each row and then static ones; None where there are none.

        From the training rows, and static ones from all items. A column of zeros and ones stays as it is: how rare a
        flag is says nothing of its weight.
        """
        covariates = train.panel.covariates
        if covariates is None:
            return None
        parts = [covariates.rows[train.rows], covariates.static]
        scalers = [cls._of(part) for part in parts if part.shape[1]]
        is_flag = np.concatenate([((part == 0) | (part == 1)).all(axis=0) for part in parts])
        return cls(
            np.where(is_flag, 0.0, np.concatenate([scaler.mean for scaler in scalers])),
            np.where(is_flag, 1.0, np.concatenate([scaler.std for scaler in scalers])),
        )

    @classmethod
    def _of(cls, values: np.ndarray) -> Scaler:
        from sklearn.preprocessing import StandardScaler  # half a second to import

        fitted = StandardScaler().fit(values.astype(np.float64))
        return cls(fitted.mean_, fitted.scale_)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Original units to z-scores, float32, the same shape `[..., C]`."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Z-scores to original units, float64, the same shape `[..., C]`."""
        return values * self.std + self.mean
