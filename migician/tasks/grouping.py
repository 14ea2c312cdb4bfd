"""Groups of images for the tasks that ask across them, and which things stand out in one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from migician.boxtext import reference
from migician.index.scenes import Scenes
from migician.scenes import Tally
from migician.seeds import dice, stream
from migician.tasks.draft import Plan


def groups(among: Sequence[int], images: tuple[int, int], passes: int, seed: int, tally: Tally) -> Iterator[Plan]:
    """(pass, start, images ...): random groups of `images` (fewest, most); in each pass every image is in one."""
    for turn in range(passes):
        order = stream(seed, "order", turn).permutation(len(among))
        start = 0
        while start < len(order):
            size = dice(seed, turn, start).randint(*images)
            group = [among[position] for position in order[start : start + size].tolist()]
            if len(group) < images[0]:
                tally.add("too few images left for a group")
                break
            yield turn, start, *group
            start += size


class Standing(NamedTuple):
    """What stands out in a group: things that are the only ones of their label in their image.

    Each is (position of the image in the group, thing).
    """

    named: list[tuple[int, int]]
    """Those whose label no other image of the group has."""
    shared: list[tuple[int, int]]
    """Those whose label other images have too."""
    companions: list[list[int]]
    """For each image the labels of its boxes that no other image of the group has; none where nothing is shared."""


def standing(scenes: Scenes, group: Sequence[int], area: tuple[float, float]) -> Standing:
    """What stands out in a group of images; things must cover `area` (lowest, highest) of their image."""
    inside = [scenes.labels_in(image) for image in group]
    images = Counter(itertools.chain.from_iterable(inside))
    named: list[tuple[int, int]] = []
    shared: list[tuple[int, int]] = []
    for position, image in enumerate(group):
        for thing, label in scenes.clear(image, area):
            (named if images[label] == 1 else shared).append((position, thing))
    if not shared:
        return Standing(named, shared, [])
    boxed = [scenes.boxed_in(image) for image in group]
    companions = [sorted(label for label in labels if images[label] == 1 and scenes.labels[label]) for labels in boxed]
    return Standing(named, shared, companions)


def named_kind(label: str) -> str:
    """A label with its article, marked as a reference: "a dog", "an apple", "a monitor or TV"."""
    words = label[:1].lower() + label[1:].replace("/", " or ")
    article = "an" if words[:1].lower() in set("aeiou") else "a"
    return reference(f"{article} {words}")
