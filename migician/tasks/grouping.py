"""Groups of images for the tasks that ask across them, and which instances stand out in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from migician.sampling import stream
from migician.sources.index.scenes import ALONE, Scenes
from migician.sources.scenes import Tally
from migician.tasks.draft import Count, Plan, Several, Share, Speaker, TaskSettings, Wordings, target_in
from migician.tasks.reasoning import contents, only_there

REPEATED = "group made before"


class GroupSettings(TaskSettings, frozen=True, forbid_unknown_fields=True):
    """How images come together, and what is asked for in them."""

    images: tuple[Several, Several] = (3, 5)
    area: tuple[Share, Share] = (0.01, 0.95)
    """Share of its image that the instance asked for covers."""
    passes: Count = 1
    """Groups an image may be in."""


def plan(scenes: Scenes, seed: int, tally: Tally, settings: GroupSettings) -> Iterator[Plan]:
    """(pass, start, images ...): random groups; in each pass every image is in one."""
    return groups(range(len(scenes)), settings.images, settings.passes, seed, tally)


def is_new(group: Sequence[int], made: set[int]) -> bool:
    """Whether a group is not among those `made`, in any order of its members; it is added to them."""
    # A hash takes a quarter of the memory of the group; where two of a million fall together, one group is lost.
    key, count = hash(tuple(sorted(group))), len(made)
    made.add(key)
    return len(made) > count


def groups(among: Sequence[int], images: tuple[int, int], passes: int, seed: int, tally: Tally) -> Iterator[Plan]:
    """(pass, start, images ...): random groups of `images` (min, max); in each pass every image is in one.

    No group is repeated in a later pass.
    """
    made: set[int] = set()
    for turn in range(passes):
        order = stream(seed, "order", turn).permutation(np.asarray(among, np.int64))
        sizes = stream(seed, "sizes", turn).integers(*images, size=len(order) // images[0], endpoint=True)
        start = 0
        for size in sizes.tolist():
            group = order[start : start + size].tolist()
            if len(group) < images[0]:
                break
            # Within a pass no image comes again.
            if passes == 1 or is_new(group, made):
                yield turn, start, *group
            else:
                tally.add(REPEATED)
            start += len(group)
        if start < len(order):
            tally.add("too few images left for a group")


class Inside(NamedTuple):
    """What many groups of images show, all images in one row after the other."""

    group_of: NDArray[np.int64]
    """(images,): the group that each image is of."""
    instances: NDArray[np.int64]
    """(instances,): all that the images have a box of."""
    rows: NDArray[np.int64]
    """(instances,): which of the images each is in."""
    times: NDArray[np.int64]
    """(instances,): in how many images of its group the label of each is, with a box or without."""
    common: NDArray[np.int64]
    """(groups,): how many labels all images of a group have."""


def inside(scenes: Scenes, groups: Sequence[Sequence[int]]) -> Inside:
    """What `groups` of images show."""
    sizes = np.array([len(group) for group in groups], np.int64)
    images = np.fromiter(itertools.chain.from_iterable(groups), np.int64, sizes.sum())
    group_of = np.repeat(np.arange(len(groups)), sizes)
    places = np.arange(len(images)) - (sizes.cumsum() - sizes)[group_of]
    kinds, max_size = max(1, len(scenes.labels)), sizes.max(initial=1)

    def keys(rows: NDArray[np.int64], labels: NDArray[np.uint32]) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = (group_of[rows] * kinds + labels) * max_size + places[rows]
        return numbers

    instances, rows = scenes.instances_in(images)
    boxed = keys(rows, scenes.label_of[instances])
    unboxed, unboxed_rows = scenes.unboxed_in(images)
    once = _once(np.concatenate([boxed, keys(unboxed_rows, unboxed)]))  # a label counts once an image
    starts = np.flatnonzero(np.diff(once // max_size, prepend=-1))
    counts = np.diff(starts, append=len(once))
    owner = once[starts] // (kinds * max_size)
    common = np.bincount(owner[counts == sizes[owner]], minlength=len(groups))
    return Inside(group_of, instances, rows, np.repeat(counts, counts)[np.searchsorted(once, boxed)], common)


def named(scenes: Scenes, groups: Sequence[Sequence[int]], area: tuple[float, float]) -> Iterator[list[int]]:
    """For each of `groups` of images, the instances that only their label or their phrase fits.

    No other image of the group has the label; in its own image an instance is the only one of its label, or has a
    phrase. A phrase without a label does too. Instances must cover `area` (lowest, highest) of their image.
    """
    found = inside(scenes, groups)
    instances = found.instances
    unique = scenes.marks[instances] & ALONE > 0
    elsewhere = found.times > 1
    if scenes.has_phrases:
        unique |= scenes.described[instances]
        elsewhere &= scenes.label_of[instances] != scenes.nameless
    return _by_group(found, scenes.fitting_ones(area, instances) & unique & ~elsewhere)


class Standing(NamedTuple):
    """What stands out in a group: instances that are the only ones of their label in their image."""

    named: list[int]
    """Those that `named` gives by their label."""
    accompanied: list[int]
    """Those whose label other images have too, but whose own image has companions."""
    companions: list[list[int]]
    """For each image the labels of its boxes that no other image of the group has."""


def standing(scenes: Scenes, groups: Sequence[Sequence[int]], area: tuple[float, float]) -> Iterator[Standing]:
    """What stands out in each of `groups` of images; instances must cover `area` (lowest, highest) of their image."""
    found = inside(scenes, groups)
    labels, kinds = scenes.label_of[found.instances], max(1, len(scenes.labels))
    only = found.times == 1
    beside = only & (labels != scenes.nameless)
    company = _once(found.rows[beside] * kinds + labels[beside])
    ends = np.searchsorted(company, np.arange(len(found.group_of) + 1) * kinds)
    companions = _cut((company % kinds).tolist(), ends)
    clear = scenes.clear_ones(area, found.instances)
    return map(
        Standing,
        _by_group(found, clear & only),
        _by_group(found, clear & ~only & (np.diff(ends) > 0)[found.rows]),
        (list(itertools.islice(companions, len(group))) for group in groups),
    )


def question_about(
    scenes: Scenes,
    group: Sequence[int],
    instance: int,
    name: str,
    speaker: Speaker,
    questions: Wordings,
    sentences: Sequence[str],
) -> tuple[str, str]:
    """A question that finds an instance by a `name` which only its own image of the group fits, and the answer."""
    target = target_in(scenes, group, instance)

    def thought() -> str:
        return only_there(contents(scenes, group, {scenes.label_number(instance)}), name, target.image)

    return speaker.exchange(questions, sentences, target, {"object": name}, thought)


def _by_group(found: Inside, chosen: NDArray[np.bool_]) -> Iterator[list[int]]:
    """The `chosen` (instances,) of each group."""
    owner = found.group_of[found.rows[chosen]]
    return _cut(found.instances[chosen].tolist(), np.searchsorted(owner, np.arange(len(found.common) + 1)))


def _cut(numbers: list[int], ends: NDArray[np.int64]) -> Iterator[list[int]]:
    """The parts of `numbers` from ends[i] to ends[i + 1]."""
    return (numbers[start:stop] for start, stop in itertools.pairwise(ends.tolist()))


def _once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each of `numbers` once, ascending; what `np.unique` does by a table is slower for some thousand."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]
