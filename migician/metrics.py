"""Hit rates and mean IoU with honest confidence intervals, and paired comparison.

Questions that share images are not independent, so every interval is clustered: the unit of
variation is the group of rows over one tuple of images. All figures are fractions, 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

THRESHOLDS = (0.3, 0.5, 0.7)
METRICS = (*(f"acc@{threshold}" for threshold in THRESHOLDS), "mean_iou")
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval (95%) and how many rows and clusters stand behind it."""

    value: float
    low: float
    high: float
    n: int
    clusters: int


def metric_columns(ious: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Each metric's contribution by row: (N,) IoUs give `acc@t` as 0 or 1 (hit where IoU >= t) and `mean_iou`."""
    values = np.asarray(ious, dtype=np.float64)
    columns = {f"acc@{threshold}": (values >= threshold).astype(np.float64) for threshold in THRESHOLDS}
    return {**columns, "mean_iou": values}


def estimate(values: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """The mean of `values` with its clustered interval; with `groups`, the unweighted mean of the groups' means.

    `values` are (N,) in 0..1, `clusters` and `groups` (N,) labels of any kind. Rates (all values
    0 or 1) get Wilson's interval at the effective sample size, which stays honest near 0 and 1:
    no hit among few clusters is not "0 for certain". Other means get Student's t. The variance
    is the linearised one of survey statistics (sum over clusters of the summed residuals).
    One cluster alone says nothing about the spread and gives 0..1.

    >>> estimate([1, 0, 1, 1], ["a", "a", "b", "c"]).value
    0.75
    """
    data = _Clustered(values, clusters, groups)
    degrees = data.cluster_count - data.group_count
    if degrees < 1:
        low, high = 0.0, 1.0
    elif data.is_rate:
        low, high = _wilson(data.value, data.effective_n(), _t_quantile(degrees))
    else:
        reach = _t_quantile(degrees) * data.standard_error()
        low, high = max(data.value - reach, 0.0), min(data.value + reach, 1.0)
    return Estimate(data.value, low, high, data.n, data.cluster_count)


def difference(first: ArrayLike, second: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """The mean of `second - first`, row by row, with its clustered interval: a paired comparison.

    Arrays are (N,) over the same rows; the value lies in -1..1. With `groups`, the unweighted
    mean over groups.
    """
    data = _Clustered(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64), clusters, groups)
    degrees = data.cluster_count - data.group_count
    reach = _t_quantile(degrees) * data.standard_error() if degrees >= 1 else math.inf
    return Estimate(data.value, max(data.value - reach, -1.0), min(data.value + reach, 1.0), data.n, data.cluster_count)


class _Clustered:
    """A (macro) mean and the variation of its clusters."""

    def __init__(self, values: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None) -> None:
        self._values = np.asarray(values, dtype=np.float64)
        self.n = len(self._values)
        if self.n == 0:
            raise ValueError("no rows to average")
        self._cluster = _codes(clusters)
        self._group = np.zeros(self.n, dtype=np.intp) if groups is None else _codes(groups)
        self.cluster_count = int(self._cluster.max()) + 1
        sizes = np.bincount(self._group)
        self.group_count = len(sizes)
        self._means = np.bincount(self._group, self._values) / sizes
        self._weights = 1.0 / (sizes[self._group] * self.group_count)
        self.value = float(self._means.mean())
        self.is_rate = bool(np.isin(self._values, (0.0, 1.0)).all())

    def standard_error(self) -> float:
        residuals = self._weights * (self._values - self._means[self._group])
        totals = np.bincount(self._cluster, residuals)
        correction = self.cluster_count / (self.cluster_count - self.group_count)
        return math.sqrt(correction * float(totals @ totals))

    def effective_n(self) -> float:
        """How many independent rows would vary as much; never more than there are rows.

        Without any variation (all hits or none), each cluster counts once.
        """
        error = self.standard_error()
        if error > 0:
            return min(self.value * (1 - self.value) / error**2, self.n)
        pairs = np.unique(np.stack([self._group, self._cluster]), axis=1)
        return float(self.group_count**2 / np.sum(1.0 / np.bincount(pairs[0])))


def _codes(labels: ArrayLike) -> NDArray[np.intp]:
    codes: NDArray[np.intp] = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    return codes


def _wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return min(max(centre - reach, 0.0), rate), max(min(centre + reach, 1.0), rate)


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # the light part of scipy, and only where it is needed

    return float(stdtrit(degrees, (1 + LEVEL) / 2))
