"""Groups of images for the tasks that ask across them, and which things stand out in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from migician.boxtext import reference
from migician.index.scenes import Scenes
from migician.scenes import Tally
from migician.seeds import stream
from migician.tasks.draft import Plan


def groups(among: Sequence[int], images: tuple[int, int], passes: int, seed: int, tally: Tally) -> Iterator[Plan]:
    """(pass, start, images ...): random groups of `images` (fewest, most); in each pass every image is in one."""
    for turn in range(passes):
        order = stream(seed, "order", turn).permutation(np.asarray(among, np.int64))
        sizes = stream(seed, "sizes", turn).integers(*images, size=len(order) // images[0], endpoint=True)
        start = 0
        for size in sizes.tolist():
            group = order[start : start + size].tolist()
            if len(group) < images[0]:
                break
            yield turn, start, *group
            start += len(group)
        if start < len(order):
            tally.add("too few images left for a group")


class Inside(NamedTuple):
    """What many groups of images show, all images in one row after the other."""

    group_of: NDArray[np.int64]
    """(images,): the group that each image is of."""
    things: NDArray[np.int64]
    """(things,): all that the images have a box of."""
    rows: NDArray[np.int64]
    """(things,): which of the images each is in."""
    times: NDArray[np.int64]
    """(things,): in how many images of its group the label of each is, with a box or without."""
    common: NDArray[np.int64]
    """(groups,): how many labels all images of a group have."""


def inside(scenes: Scenes, groups: Sequence[Sequence[int]]) -> Inside:
    """What `groups` of images show."""
    sizes = np.array([len(group) for group in groups], np.int64)
    images = np.fromiter(itertools.chain.from_iterable(groups), np.int64, sizes.sum())
    group_of = np.repeat(np.arange(len(groups)), sizes)
    things, rows = scenes.things_in(images)
    unboxed, unboxed_rows = scenes.unboxed_in(images)
    kinds = max(1, len(scenes.labels))
    boxed = rows * kinds + scenes.label_of[things]
    once = np.unique(np.concatenate([boxed, unboxed_rows * kinds + unboxed]))  # a label counts once an image
    owner, label = group_of[once // kinds], once % kinds
    _, which, counts = np.unique(owner * kinds + label, return_inverse=True, return_counts=True)
    times = counts[which]
    # Each image of the group has a label that all have, so it is met once for each of them.
    common = np.bincount(owner[times == sizes[owner]], minlength=len(groups)) // np.maximum(sizes, 1)
    return Inside(group_of, things, rows, times[np.searchsorted(once, boxed)], common)


class Standing(NamedTuple):
    """What stands out in a group: things that are the only ones of their label in their image.

    Each is (position of the image in the group, thing).
    """

    named: list[tuple[int, int]]
    """Those whose label no other image of the group has."""
    shared: list[tuple[int, int]]
    """Those whose label other images have too."""
    companions: list[list[int]]
    """For each image the labels of its boxes that no other image of the group has."""


def standing(scenes: Scenes, groups: Sequence[Sequence[int]], area: tuple[float, float]) -> Iterator[Standing]:
    """What stands out in each of `groups` of images; things must cover `area` (lowest, highest) of their image."""
    group_of, things, rows, times, _ = inside(scenes, groups)
    first = np.searchsorted(group_of, np.arange(len(groups) + 1))
    clear = scenes.clear_ones(area, things)

    def by_group(chosen: NDArray[np.bool_]) -> Iterator[list[tuple[int, int]]]:
        owner = group_of[rows[chosen]]
        pairs = list(zip((rows[chosen] - first[owner]).tolist(), things[chosen].tolist(), strict=True))
        ends = np.searchsorted(owner, np.arange(len(groups) + 1)).tolist()
        return (pairs[start:stop] for start, stop in itertools.pairwise(ends))

    companions = iter(_companions(scenes, len(group_of), things[times == 1], rows[times == 1]))
    for group, named, shared in zip(groups, by_group(clear & (times == 1)), by_group(clear & (times > 1)), strict=True):
        yield Standing(named, shared, list(itertools.islice(companions, len(group))))


def _companions(scenes: Scenes, images: int, things: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[list[int]]:
    """For each image the labels of those of `things` that are in its row, without the empty label."""
    kinds = max(1, len(scenes.labels))
    once = np.unique(rows * kinds + scenes.label_of[things])
    labels, ends = (once % kinds).tolist(), np.searchsorted(once, np.arange(images + 1) * kinds).tolist()
    for start, stop in itertools.pairwise(ends):
        yield [label for label in labels[start:stop] if scenes.labels[label]]


def named_kind(label: str) -> str:
    """A label with its article, marked as a reference: "a dog", "an apple", "a monitor or TV"."""
    words = label[:1].lower() + label[1:].replace("/", " or ")
    article = "an" if words[:1].lower() in set("aeiou") else "a"
    return reference(f"{article} {words}")
