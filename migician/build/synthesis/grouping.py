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

MIN_IMAGES, MAX_IMAGES = 3, 5
"""Images of a random or common group; in a CLIP group, images beside the first."""

# Unit vectors are held as whole multiples of 1/2000. Dot products are then whole numbers below
# 2**24, which float32 adds without rounding: the same on every machine and number of threads.
_STEPS = 2000


def random_groups(count: int, seed: int, tally: Tally) -> Iterator[Group]:
    """Groups of 3-5 of `count` images, drawn regardless of what they show."""
    rng = stream(seed, "random groups")
    order = rng.permutation(count).tolist()
    start = 0
    while count - start >= MIN_IMAGES:
        size = int(rng.integers(MIN_IMAGES, MAX_IMAGES, endpoint=True))
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
        for label in {instance.label for instance in scenes[position].instances}:
            waiting.setdefault(label, []).append(position)
    used = np.zeros(len(scenes), bool)
    for first in order:
        if used[first]:
            continue
        labels = sorted({instance.label for instance in scenes[first].instances})
        for choice in rng.permutation(len(labels)).tolist():
            size = int(rng.integers(MIN_IMAGES, MAX_IMAGES, endpoint=True))
            others = _take(waiting[labels[choice]], used, first, size - 1)
            if len(others) + 1 >= MIN_IMAGES:
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
    units = np.rint(vectors[usable] * _STEPS).astype(np.float32)
    in_pool = np.ones(len(usable), bool)
    rng = stream(seed, "clip groups")
    for first in rng.permutation(len(usable)).tolist():
        others = int(np.count_nonzero(in_pool)) - 1
        if others < MIN_IMAGES:
            break
        if not in_pool[first]:
            continue
        best = int(rng.uniform(0.1, 1.0) * others)
        drawn = min(int(rng.integers(MIN_IMAGES, MAX_IMAGES, endpoint=True)), others)
        in_pool[first] = False
        candidates = _nearest(np.where(in_pool, units @ units[first], -np.inf), max(best, drawn))
        group = [first, *rng.choice(candidates, drawn, replace=False).tolist()]
        in_pool[group] = False
        yield tuple(usable[group].tolist())
    _leave(int(np.count_nonzero(in_pool)), tally)


def _nearest(similar: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The positions of the `count` highest of `similar` in ascending order; equals are taken by the lower position."""
    edge = np.partition(similar, len(similar) - count)[len(similar) - count]
    above = np.flatnonzero(similar > edge)
    level = np.flatnonzero(similar == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


def _leave(count: int, tally: Tally) -> None:
    if count:
        tally.add("image left without a group", count)
