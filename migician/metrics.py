"""Hit rates and mean IoU with honest confidence intervals, and paired comparison.

Questions that share images are not independent, so every interval is clustered: the unit of
variation is the group of rows over one tuple of images. All figures are fractions, 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

THRESHOLDS = (0.3, 0.5, 0.7)
METRICS = (*(f"acc@{threshold}" for threshold in THRESHOLDS), "mean_iou")
LEVEL = 0.95

Measure = tuple[Any, Any]
"""What a figure is made of, row by row: (N,) values, and (N,) sizes or None (see `estimate`)."""

_BLOCK = 500
"""Resamples at once, so that their counts fit in memory."""


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


def estimate(
    values: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None = None, sizes: ArrayLike | None = None
) -> Estimate:
    """The mean of `values` with its clustered interval; with `groups`, the unweighted mean of the groups' means.

    `values` are (N,) in 0..1, `clusters` and `groups` (N,) labels of any kind. `sizes` (N,) makes it
    a ratio, the sum of `values` over the sum of `sizes` (matched boxes over boxes); without any size it
    is 0. Rates (each value a whole number of its size) get Wilson's interval at the effective sample size,
    which stays honest near 0 and 1: no hit among few clusters is not "0 for certain". Other means get
    Student's t. The variance is the linearised one of survey statistics (sum over clusters of the
    summed residuals). One cluster alone says nothing about the spread and gives 0..1.

    >>> estimate([1, 0, 1, 1], ["a", "a", "b", "c"]).value
    0.75
    >>> estimate([1, 2], ["a", "b"], sizes=[1, 3]).value
    0.75
    """
    data = _Clustered(values, clusters, groups, sizes)
    degrees = data.cluster_count - data.group_count
    if degrees < 1:
        low, high = 0.0, 1.0
    elif data.is_rate:
        low, high = _wilson(data.value, data.effective_n(), _t_quantile(degrees))
    else:
        reach = _t_quantile(degrees) * data.standard_error(data.influence)
        low, high = max(data.value - reach, 0.0), min(data.value + reach, 1.0)
    return Estimate(data.value, low, high, data.n, data.cluster_count)


def difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike,
    groups: ArrayLike | None = None,
    sizes: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
) -> Estimate:
    """The mean of `second - first`, row by row, with its clustered interval: a paired comparison.

    Arrays are (N,) over the same rows; the value lies in -1..1. With `groups`, the unweighted
    mean over groups; with `sizes` of each side, the difference of two ratios (see `estimate`).
    """
    before, after = (
        _Clustered(values, clusters, groups, size) for values, size in zip((first, second), sizes, strict=True)
    )
    value = after.value - before.value
    degrees = after.cluster_count - after.group_count
    error = after.standard_error(after.influence - before.influence) if degrees >= 1 else math.inf
    reach = _t_quantile(degrees) * error if degrees >= 1 else math.inf
    return Estimate(value, max(value - reach, -1.0), min(value + reach, 1.0), after.n, after.cluster_count)


def bootstrap_differences(
    first: Mapping[str, Measure],
    second: Mapping[str, Measure],
    clusters: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, tuple[float, float]]:
    """For each measure, the 95% interval of its `difference` by the paired cluster bootstrap (percentiles).

    A resample draws as many clusters as there are, with all their rows of both sides; a group that it
    leaves empty is left out of its mean. The same `seed` gives the same intervals. One cluster a
    group says nothing and gives -1..1.
    """
    sides = [
        {name: _Clustered(values, clusters, groups, sizes) for name, (values, sizes) in side.items()}
        for side in (first, second)
    ]
    some = next(iter(sides[0].values()))
    count = some.cluster_count
    if count - some.group_count < 1:
        return dict.fromkeys(first, (-1.0, 1.0))
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in first}
    for start in range(0, resamples, _BLOCK):
        times = _draws(rng, min(_BLOCK, resamples - start), count)
        for name, values in drawn.items():
            values.append(sides[1][name].resampled(times) - sides[0][name].resampled(times))
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    spans = {name: np.quantile(np.concatenate(values), ends).tolist() for name, values in drawn.items()}
    return {name: (low, high) for name, (low, high) in spans.items()}


def _draws(rng: np.random.Generator, resamples: int, count: int) -> NDArray[np.float64]:
    """How often each of `count` clusters is drawn in each resample, (resamples, count)."""
    picks = rng.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(picks.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Discordance:
    """The rows that only one of two models has right, and McNemar's exact test on them."""

    first_only: int
    second_only: int
    p: float
    """Two-sided: how likely a split at least as uneven is if both were equally good on independent rows."""


def mcnemar(first: ArrayLike, second: ArrayLike) -> Discordance:
    """McNemar's exact test on (N,) booleans, whether each model has a row right.

    It takes rows as independent: where rows share images, the clustered interval is the safer word.

    >>> mcnemar([True] * 8, [True, True] + [False] * 6)
    Discordance(first_only=6, second_only=0, p=0.03125)
    """
    from scipy.special import bdtr

    before, after = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    p = min(1.0, 2 * float(bdtr(min(lost, won), lost + won, 0.5))) if lost + won else 1.0
    return Discordance(lost, won, p)


class _Clustered:
    """A (macro) mean or ratio and the variation of its clusters."""

    def __init__(
        self, values: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None, sizes: ArrayLike | None
    ) -> None:
        self._values = np.asarray(values, dtype=np.float64)
        self.n = len(self._values)
        if self.n == 0:
            raise ValueError("no rows to average")
        self._sizes = np.ones(self.n) if sizes is None else np.asarray(sizes, dtype=np.float64)
        self._cluster = _codes(clusters)
        self._group = np.zeros(self.n, dtype=np.intp) if groups is None else _codes(groups)
        self.cluster_count = int(self._cluster.max()) + 1
        totals = np.bincount(self._group, self._sizes)
        self.group_count = len(totals)
        means = _ratio(np.bincount(self._group, self._values), totals)
        self.value = float(means.mean())
        weights = _ratio(np.ones(self.group_count), totals * self.group_count)[self._group]
        self.influence = weights * (self._values - means[self._group] * self._sizes)
        """(N,) how far each row pulls the value."""
        whole = (self._values == np.floor(self._values)) & (self._sizes == np.floor(self._sizes))
        self.is_rate = bool((whole & (self._values >= 0) & (self._values <= self._sizes)).all())

    def standard_error(self, influence: NDArray[np.float64]) -> float:
        totals = np.bincount(self._cluster, influence)
        correction = self.cluster_count / (self.cluster_count - self.group_count)
        return math.sqrt(correction * float(totals @ totals))

    def effective_n(self) -> float:
        """How many independent trials would vary as much; never more than there are.

        Without any variation (all hits or none), each cluster counts once.
        """
        error = self.standard_error(self.influence)
        if error > 0:
            return min(self.value * (1 - self.value) / error**2, float(self._sizes.sum()))
        pairs = np.unique(np.stack([self._group, self._cluster]), axis=1)
        return float(self.group_count**2 / np.sum(1.0 / np.bincount(pairs[0])))

    def resampled(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value for each row of `times` (B, clusters), which says how often each cluster is drawn; (B,)."""
        cell = self._cluster * self.group_count + self._group
        shape = (self.cluster_count, self.group_count)
        values, sizes = (
            np.bincount(cell, part, minlength=shape[0] * shape[1]).reshape(shape)
            for part in (self._values, self._sizes)
        )
        present = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
        drawn = times @ present.astype(np.float64) > 0
        means = np.where(drawn, _ratio(times @ values, times @ sizes), 0.0)
        return np.asarray(means.sum(axis=1) / drawn.sum(axis=1))


def _ratio(parts: ArrayLike, wholes: ArrayLike) -> NDArray[np.float64]:
    """`parts / wholes`, 0 where there is no whole."""
    above, below = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


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
