"""Common object: several images share exactly one kind of object; find it in one of them.

Sources: Objects365, COCO, ImageNet (arXiv 2501.05767, section 4.1: objects under an area share are
dropped, and so are labels that usually come with others, so that only one object is common).
Example:
images: three pictures with one dog each, and no other kind of object in all three
human: These images share one object in common. Recognize and locate this object in the 2th image.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from migician.sampling import Dice, dice, stream
from migician.sources.index.scenes import ALONE, Scenes
from migician.sources.scenes import Tally
from migician.tasks.absent import drawn, instance_where, is_absent, labels_of
from migician.tasks.draft import (
    AnswerSettings,
    Count,
    Draft,
    Plan,
    Several,
    Share,
    Speaker,
    Wordings,
    picture,
    target_in,
)
from migician.tasks.grouping import REPEATED, inside, is_new
from migician.tasks.naming import named_kind
from migician.tasks.reasoning import contents, shared

_TRIED = 1024
"""Groups that are checked together."""


class CommonSettings(AnswerSettings, frozen=True, forbid_unknown_fields=True):
    """Which objects and images come together."""

    images: tuple[Several, Several] = (3, 5)
    area: tuple[Share, Share] = (0.1, 0.95)
    """Share of its image the common object covers. The paper gives no figure; 95% of MIG-Bench's have over 0.12."""
    excluded: tuple[str, ...] = ("keyboard", "knife", "couch", "dining table")
    """Labels that usually come with others: the four that the paper names."""
    passes: Count = 2
    """Attempts per usable object of the source."""
    turns: Count = 1
    """Questions of one sample, each about another of its images."""
    absent: Share = 0.0
    """Samples that ask for what is in none of their images, of sources whose annotations tell."""


def plan(scenes: Scenes, seed: int, tally: Tally, settings: CommonSettings) -> Iterator[Plan]:
    """(attempt, instances ...): of one label each, every label as likely, never the same images twice for a label."""
    by_label = _by_label(scenes, tally, settings)
    labels = [label for label, instances in by_label.items() if len(instances) >= settings.images[0]]
    if len(labels) < len(by_label):
        tally.add("label in too few images", len(by_label) - len(labels))
    choices = [by_label[label] for label in labels]
    made: set[int] = set()
    attempts = iter(range(settings.passes * sum(map(len, choices))))
    while tried := list(itertools.islice(attempts, _TRIED)):
        groups = _groups(choices, stream(seed, "groups", tried[0]), settings)[: len(tried)]
        common = inside(scenes, [images for images, _ in _with_images(scenes, groups)]).common.tolist()
        for attempt, group, count in zip(tried, groups, common, strict=True):
            if count > 1:
                tally.add("more than one object in common")
            elif not is_new(group, made):
                tally.add(REPEATED)
            else:
                yield attempt, *group


def _groups(choices: list[NDArray[np.int64]], rng: np.random.Generator, settings: CommonSettings) -> list[list[int]]:
    """`_TRIED` groups of instances of one label, none twice in a group; `choices` has the instances of each label."""
    lengths = np.array([len(instances) for instances in choices])
    label = rng.integers(len(choices), size=_TRIED)
    min_images, max_images = settings.images
    sizes = rng.integers(min_images, np.minimum(max_images, lengths[label]), endpoint=True)
    picked = np.full((_TRIED, max_images), -1)
    for step in range(max_images):  # Floyd's sampling without replacement: what is taken is replaced by the last one
        last = lengths[label] - sizes + step
        at = rng.integers(0, last, endpoint=True)
        picked[:, step] = np.where((picked == at[:, None]).any(axis=1), last, at)
    # That alone would favour some orders of a group.
    order = np.where(np.arange(max_images) < sizes[:, None], rng.random(picked.shape), 1.0).argsort(axis=1)
    rows = zip(label.tolist(), np.take_along_axis(picked, order, axis=1), sizes.tolist(), strict=True)
    return [choices[one][row[:size]].tolist() for one, row, size in rows]


def _with_images(scenes: Scenes, groups: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Sequence[int]]]:
    """(images, instances) of each of `groups` of instances."""
    images = iter(scenes.images_of(np.array([instance for group in groups for instance in group], np.int64)).tolist())
    return ((list(itertools.islice(images, len(group))), group) for group in groups)


def _by_label(scenes: Scenes, tally: Tally, settings: CommonSettings) -> dict[int, NDArray[np.int64]]:
    """The usable instances of each label, in the order of the labels' names."""
    excluded = {label.lower() for label in settings.excluded}
    left = np.ones(len(scenes.label_of), bool)
    for reason, names in (("box without a label", {""}), ("label that comes with others", excluded)):
        refused = np.isin(scenes.label_of, [at for at, label in enumerate(scenes.labels) if label.lower() in names])
        tally.add_marked(reason, refused)
        left &= ~refused
    alone = scenes.marks & ALONE > 0
    tally.add_marked("several of the label in the image", left & ~alone)
    left &= alone
    usable = left & scenes.clear_ones(settings.area)
    tally.add_marked("object too small or too large", left & ~usable)
    return scenes.by_label(usable)


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: CommonSettings) -> Iterator[Draft | str]:
    """Questions about the common object, each in another of its images."""
    groups = _with_images(scenes, [instances for _, *instances in plans])
    for (attempt, *_), (images, instances) in zip(plans, groups, strict=True):
        yield _draft(scenes, attempt, images, instances, seed, settings)


def _draft(
    scenes: Scenes, attempt: int, images: list[int], group: Sequence[int], seed: int, settings: CommonSettings
) -> Draft:
    speaker = Speaker(dice(seed, attempt, "words"), settings.manner, settings.reasoning)
    name = named_kind(scenes.label(group[0]))
    if (rng := drawn(settings.absent, seed, attempt)) and (parted := _parted(scenes, images, group[0], rng, settings)):
        images, place = parted
        return speaker.draft([picture(scenes, image) for image in images], [speaker.refusal(QUESTIONS, place, {})])
    turns = []
    for instance in speaker.some(group, settings.turns):
        target = target_in(scenes, images, instance)

        def thought(asked: int = target.image) -> str:
            return shared(contents(scenes, images, {scenes.label_number(group[0])}), name, asked)

        turns.append(speaker.exchange(QUESTIONS, SENTENCES, target, {"object": name}, thought))
    return speaker.draft([picture(scenes, image) for image in images], turns)


def _parted(
    scenes: Scenes, images: list[int], instance: int, rng: Dice, settings: CommonSettings
) -> tuple[list[int], int] | None:
    """`images` with one replaced, and its place: it shows nothing of the kind of `instance`, which the others share.

    No label is in all of the images then. None where no such image is found.
    """
    place, label = rng.randrange(len(images)), scenes.label_number(instance)
    others = [image for at, image in enumerate(images) if at != place]
    shared = set.intersection(*(labels_of(scenes, [image]) for image in others))

    def fits(one: int) -> bool:
        (image,) = scenes.images_of(np.array([one])).tolist()
        there = labels_of(scenes, [image])
        return image not in images and not shared & there and is_absent(scenes, label, there)

    found = instance_where(scenes, settings.area, rng, fits)
    if found is None:
        return None
    (image,) = scenes.images_of(np.array([found])).tolist()
    return [*others[:place], image, *others[place:]], place


QUESTIONS = Wordings(
    benchmark=("These images share one object in common. Recognize and locate this object in the {nth} image. ",),
    own=(
        "One kind of object appears in every image. Find it in the {ordinal} image.",
        "What do all these images have in common? Box it in the {ordinal} image.",
        "There is a kind of object that all the pictures show. Where is it in Image-{number}?",
        "Work out which kind of object the images share, then locate it in the {ordinal} one.",
        "Each of these photos contains the same sort of thing. Give its box in the {ordinal} photo.",
        "Find the kind of object that the images share and box it in Image-{number}.",
        "Identify the kind of object common to these images and point to it in the {ordinal} image.",
        "All images have one type of object in common. Please mark it in the {ordinal} image.",
        "Compare the images: which sort of object occurs in all of them? Its box in Image-{number}, please.",
        "Look for the kind of thing that every picture includes. What are its coordinates in the {ordinal} picture?",
        "The images are related by a single type of object. Detect it in the {ordinal} image.",
        "Only one category is present in all of these images. Locate its instance in Image-{number}.",
        "Which kind of object links these images? Draw its bounding box in the {ordinal} image.",
        "Find the recurring kind of object and report where it stands in Image-{number}.",
        "One type of thing is depicted in each image. Ground it in the {ordinal} image.",
        "Please find the sort of object that can be seen in all the images and box it in the {ordinal} one.",
        "Across these images a single object category repeats. Where in Image-{number} is it?",
        "Spot what the pictures have in common, and give me its position in the {ordinal} picture.",
        "In the {ordinal} image, locate the object whose kind is found in every other image as well.",
        "Determine the shared kind of object and output its bounding box for Image-{number}.",
    ),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "What the images have in common: {object}. In the {ordinal} image, here:",
    "Each image shows {object}:",
    "The images share this kind of object: {object}. Its place in Image-{number}:",
)
