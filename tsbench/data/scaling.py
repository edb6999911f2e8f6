"""Scaling by channel, and by item where there are several; fitted on training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsbench.data.mapped import MappedRows
from tsbench.data.panel import Panel, Part
from tsbench.errors import DataError


@dataclass(frozen=True, eq=False)
class Scaler:
    """Z-scores by channel, as the long-horizon literature reports them: mean and standard deviation with ddof 0.

    In a panel of several items, each item's values are divided by its own level instead, the mean of their absolute
    values: a shop that sells ten and one that sells ten thousand count alike, and what is positive stays positive.
    """

    mean: np.ndarray
    """`[C]`, float64, original units; `[items, C]` zeros where items have levels."""
    std: np.ndarray
    """`[C]`, float64, original units, 1 where a channel is constant; `[items, C]` levels, 1 where all values are 0."""

    @classmethod
    def fit(cls, train: Part) -> Scaler:
        """From the rows of the training part."""
        if train.panel.has_holes:
            count_values(train.panel, train.bounds)
        if train.panel.has_items:
            return cls._of_items(train.panel, train.bounds)
        return cls._of_pieces(train) if train.panel.is_mapped else cls._of(train.values)

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

    @classmethod
    def _of_pieces(cls, train: Part) -> Scaler:
        from sklearn.preprocessing import StandardScaler

        fitted = StandardScaler()
        for values in train.pieces():
            fitted.partial_fit(values.astype(np.float64))
        return cls(fitted.mean_, fitted.scale_)

    @classmethod
    def _of_items(cls, panel: Panel, bounds: np.ndarray) -> Scaler:
        """From these rows of each item, `[items, 2]`."""
        level = np.zeros((len(bounds), panel.num_channels))
        for low, high in panel.stretches():
            level += item_sums(np.abs(np.nan_to_num(panel.values[low:high])), bounds.clip(low, high) - low)
        level /= count_values(panel, bounds) if panel.has_holes else np.diff(bounds, axis=1)
        return cls(np.zeros_like(level), np.where(level > 0, level, 1.0))

    @property
    def is_by_item(self) -> bool:
        return self.mean.ndim == 2

    def for_items_of(self, panel: Panel) -> Scaler:
        """The scaler for forecasts from a panel's end: where items have levels, each of all of its own rows.

        So an item's forecast depends on no other item, and items that training has not seen have one, too.
        """
        if not self.is_by_item:
            return self
        return self._of_items(panel, np.stack([panel.offsets[:-1] + panel.padded, panel.offsets[1:]], axis=1))

    def apply(self, values: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """Original units to scaled values, float32, the same shape `[..., C]`.

        items: the number of the item of each row, `[...]`; needed where items have levels.
        """
        mean, std = self.at(items)
        return ((values - mean) / std).astype(np.float32)

    def invert(self, values: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """Scaled values to original units, float64, the same shape `[..., C]`."""
        mean, std = self.at(items)
        return values * std + mean

    def apply_to(self, panel: Panel) -> np.ndarray:
        """All rows of the panel, scaled, float32, `[T_total, C]`; what is missing as contexts hold it."""
        return self.apply(seen(panel)[:], panel.item_of(np.arange(len(panel.values))) if self.is_by_item else None)

    def at(self, items: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread for rows of these items, in a shape that fits theirs."""
        return (self.mean[items], self.std[items]) if self.is_by_item else (self.mean, self.std)


def seen(panel: Panel) -> np.ndarray | MappedRows:
    """What contexts hold, `[T_total, C]`: the panel's values, the last one before it in place of a missing one.

    Of the same item and channel; before the first one, their mean over the training rows. Raises DataError where there
    is none.
    """
    if not panel.has_holes:
        return panel.values
    values, row_T = panel.values[:], np.arange(len(panel.values))
    item_T, bounds = panel.item_of(row_T), panel.train.bounds
    mean_IC = item_sums(np.nan_to_num(values), bounds) / count_values(panel, bounds)
    last_TC = np.maximum.accumulate(np.where(np.isnan(values), -1, row_T[:, None]), axis=0)
    has_begun_TC = last_TC >= panel.offsets[item_T, None]
    last_values_TC = np.take_along_axis(values, np.maximum(last_TC, 0), axis=0)
    return np.where(has_begun_TC, last_values_TC, mean_IC[item_T]).astype(np.float32)


def count_values(panel: Panel, bounds: np.ndarray) -> np.ndarray:
    """How many values there are in these rows of each item, `[items, C]`. Raises DataError where there is none."""
    count_IC = item_sums(~np.isnan(panel.values[:]), bounds)
    if not count_IC.all():
        item, channel = np.argwhere(count_IC == 0)[0]
        where = f"{panel.items[item]!r}, {panel.channels[channel]!r}" if panel.has_items else panel.channels[channel]
        raise DataError(
            f"{panel.name}: {where} has no value in the rows that its scale is taken from "
            f"({int((count_IC == 0).sum()):,} such series); leave it out, or change the split"
        )
    return count_IC


def item_sums(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of the rows from `bounds[i, 0]` to `bounds[i, 1]`, float64, `[items, C]`; 0 where there are none.

    bounds: `[items, 2]`, rising from item to item. One pass over the rows, however many items.
    """
    edges = np.maximum(bounds, bounds[:, :1]).ravel()
    sums = np.zeros((len(edges), values.shape[1]))
    inside = edges < len(values)
    sums[inside] = np.add.reduceat(values, edges[inside], axis=0, dtype=np.float64)
    return np.where(bounds[:, :1] < bounds[:, 1:], sums[::2], 0.0)
