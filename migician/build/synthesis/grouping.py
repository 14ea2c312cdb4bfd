"""Which images belong together: at random, by a label they share, or by CLIP similarity.

Every image is in at most one group. Groups come one at a time, so that a few are found without
grouping all images. Source: arXiv 2501.05767, section 4.2 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from migician.sampling import stream
from migician.sources.scenes import Scene, Tally

Grouping = Literal["random", "common", "clip"]

Group = tuple[int, ...]
"""Positions of its scenes, in the order in which they are shown."""

FEWEST, MOST = 3, 5
"""Images of a random or common group; in a CLIP group, images beside the first."""

# Unit vectors are held as whole multiples of 1/2000. Dot products are then whole numbers below
# 2**24, which float32 adds without rounding: the same on every machine and number of threads.
_STEPS = 2000


def random_groups(count: int, seed: int, tally: Tally) -> Iterator[Group]:
    """Groups of 3-5 of `count` images, drawn without regard to what they show."""
    rng = stream(seed, "random groups")
    order = rng.permutation(count).tolist()
    start = 0
    while count - start >= FEWEST:
        size = int(rng.integers(FEWEST, MOST, endpoint=True))
        group = tuple(order[start : start + size])
        start += len(group)
        yield group
    _leave(count - start, tally)


def common_groups(scenes: Sequence[Scene], seed: int, tally: Tally) -> Iterator[Group]:
    """Groups of 3-5 images that have an annotated label in common."""
    rng = stream(seed, "common groups")
    order = rng.permutation(len(scenes)).tolist()
    # By label, the images not yet seen to be in a group; the last is taken first.
    waiting: dict[str, list[int]] = {}
    for position in reversed(order):
        for label in {thing.label for thing in scenes[position].things}:
            waiting.setdefault(label, []).append(position)
    used = np.zeros(len(scenes), bool)
    for first in order:
        if used[first]:
            continue
        labels = sorted({thing.label for thing in scenes[first].things})
        for choice in rng.permutation(len(labels)).tolist():
            size = int(rng.integers(FEWEST, MOST, endpoint=True))
            others = _take(waiting[labels[choice]], used, first, size - 1)
            if len(others) + 1 >= FEWEST:
                group = [first, *others]
                used[group] = True
                yield tuple(group[place] for place in rng.permutation(len(group)).tolist())
                break
            waiting[labels[choice]].extend(reversed(others))
    _leave(int(np.count_nonzero(~used)), tally)


def _take(waiting: list[int], used: NDArray[np.bool_], first: int, count: int) -> list[int]:
    """Up to `count` unused images other than `first` from the end of `waiting`, which loses them."""
    taken: list[int] = []
    while waiting and len(taken) < count:
        position = waiting.pop()
        if not used[position] and position != first:
            taken.append(position)
    return taken


def clip_groups(vectors: NDArray[np.float32], seed: int, tally: Tally) -> Iterator[Group]:
    """Groups of similar images by Algorithm 1 of the paper; `vectors` (n, d) are unit rows, NaN where there is none.

    While images remain: one of them, in seeded order, is compared with the n - 1 others that
    remain; of the best k = floor(t (n - 1)), t drawn from U(0.1, 1), r drawn from 3..5 are chosen
    at random; these 1 + r images are a group and leave the pool. k is at least r, which the paper
    leaves open. Only one row of the similarity matrix exists at a time; d is at most 4000.
    """
    usable = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if len(usable) < len(vectors):
        tally.add("image that cannot be read", len(vectors) - len(usable))
    pool = _Pool(vectors, usable)
    rng = stream(seed, "clip groups")
    for first in usable[rng.permutation(len(usable))].tolist():
        others = len(pool) - 1
        if others < FEWEST:
            break
        if not pool.holds(first):
            continue
        best = int(rng.uniform(0.1, 1.0) * others)
        drawn = min(int(rng.integers(FEWEST, MOST, endpoint=True)), others)
        candidates = pool.nearest(first, max(best, drawn))
        group = (first, *rng.choice(candidates, drawn, replace=False).tolist())
        pool.remove(group)
        yield group
    _leave(len(pool), tally)


class _Pool:
    """The vectors of the images that remain."""

    def __init__(self, vectors: NDArray[np.float32], positions: NDArray[np.intp]) -> None:
        self._vectors = np.rint(vectors[positions] * _STEPS).astype(np.float32)
        self._positions = positions
        self._row = np.full(len(vectors), -1)
        self._row[positions] = np.arange(len(positions))
        self._alive = np.ones(len(positions), bool)
        self._left = len(positions)

    def __len__(self) -> int:
        return self._left

    def holds(self, position: int) -> bool:
        row = self._row[position]
        return bool(row >= 0 and self._alive[row])

    def nearest(self, position: int, count: int) -> NDArray[np.intp]:
        """The `count` most similar others, in order of position; equals are taken by the lower position."""
        similar = self._vectors @ self._vectors[self._row[position]]
        similar[~self._alive] = -np.inf
        similar[self._row[position]] = -np.inf
        edge = np.partition(similar, len(similar) - count)[len(similar) - count]
        above = np.flatnonzero(similar > edge)
        level = np.flatnonzero(similar == edge)[: count - len(above)]
        nearest: NDArray[np.intp] = self._positions[np.sort(np.concatenate([above, level]))]
        return nearest

    def remove(self, positions: Sequence[int]) -> None:
        self._alive[self._row[list(positions)]] = False
        self._left -= len(positions)
        if self._left < 0.75 * len(self._alive):  # the gone ones would be compared for nothing
            self._vectors = self._vectors[self._alive]
            self._row[self._positions] = -1
            self._positions = self._positions[self._alive]
            self._row[self._positions] = np.arange(len(self._positions))
            self._alive = np.ones(len(self._positions), bool)


def _leave(count: int, tally: Tally) -> None:
    if count:
        tally.add("image left without a group", count)
