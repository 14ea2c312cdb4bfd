"""Free-form grounding: a phrase or a relation that only a look across the images resolves.

Templates over annotated labels; the questions an LLM writes from captions come in a later issue.
Sources: Objects365, COCO (arXiv 2501.05767, section 4.2: groups of 3-5 images). Example:
images: three pictures, a dog only in the second
human: Which image shows <|object_ref_start|>a dog<|object_ref_end|>? Box it.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from migician.boxtext import reference
from migician.scenes import Scene, Tally, Thing
from migician.seeds import stream
from migician.tasks.draft import (
    Count,
    Draft,
    Manner,
    Picture,
    Share,
    Speaker,
    Wordings,
    image_fields,
    is_writable,
    ordered,
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How groups are made and asked about."""

    images: tuple[Count, Count] = (3, 5)
    area: tuple[Share, Share] = (0.01, 0.95)
    """Share of its image that the object asked for covers."""
    passes: Count = 1
    """Groups an image may be in."""
    turns: Count = 1
    """Questions of one sample that name different objects."""
    relation: Share = 0.3
    """Of the groups that allow it: those asked about by what else their image shows."""
    manner: Manner = Manner(brief=0.0, sentence=1.0)

    def __post_init__(self) -> None:
        ordered("images", self.images)
        ordered("area", self.area)
        if self.images[0] < 2:
            raise ValueError(f"images must be two or more, not {list(self.images)}")


def build(scenes: Iterable[Scene], seed: int, tally: Tally, settings: Settings) -> Iterator[Draft]:
    """Drafts over random groups; in each pass every image is in one group."""
    pool = list(scenes)
    for turn in range(settings.passes):
        order = stream(seed, "order", turn).permutation(len(pool)).tolist()
        start = 0
        while start < len(order):
            rng = stream(seed, turn, start)
            count = int(rng.integers(settings.images[0], settings.images[1], endpoint=True))
            group = [pool[position] for position in order[start : start + count]]
            start += count
            if len(group) < settings.images[0]:
                tally.add("too few images left for a group")
                break
            draft = _draft(group, Speaker(rng, settings.manner), settings)
            if draft:
                yield draft
            else:
                tally.add("group without an object of its own kind")


def _draft(group: list[Scene], speaker: Speaker, settings: Settings) -> Draft | None:
    counts = [Counter(thing.label for thing in scene.things) for scene in group]
    named = [found for found in _once(group, counts, settings) if sum(found[1].label in one for one in counts) == 1]
    related = _related(group, counts, settings)
    if related and (not named or speaker.chance(settings.relation)):
        image, thing, companion = related[int(speaker.rng.integers(len(related)))]
        fields = {"object": phrase(thing.label), "companion": phrase(companion)}
        turns = [speaker.exchange(RELATIONS, SENTENCES, thing.box, image_fields(image) | fields)]
    elif named:
        chosen = (named[index] for index in speaker.rng.permutation(len(named))[: settings.turns].tolist())
        turns = [
            speaker.exchange(PHRASES, SENTENCES, thing.box, image_fields(image) | {"object": phrase(thing.label)})
            for image, thing in chosen
        ]
    else:
        return None
    return speaker.draft([Picture(scene.image, scene.size) for scene in group], turns)


def _once(group: list[Scene], counts: list[Counter[str]], settings: Settings) -> list[tuple[int, Thing]]:
    """(image, thing) for the usable things that are the only ones of their label in their image."""
    return [
        (image, thing)
        for image, scene in enumerate(group)
        for thing in scene.things
        if counts[image][thing.label] == 1
        and settings.area[0] <= thing.box.area <= settings.area[1]
        and is_writable(thing.box)
    ]


def _related(group: list[Scene], counts: list[Counter[str]], settings: Settings) -> list[tuple[int, Thing, str]]:
    """(image, thing, companion): the thing's label is in several images, the companion's only beside this one."""
    found: list[tuple[int, Thing, str]] = []
    for image, thing in _once(group, counts, settings):
        if sum(thing.label in one for one in counts) < 2:
            continue
        companions = [label for label in sorted(counts[image]) if sum(label in one for one in counts) == 1]
        found.extend((image, thing, companion) for companion in companions)
    return found


def phrase(label: str) -> str:
    """A label with its article, marked as a reference: "a dog", "an apple", "a monitor or TV"."""
    words = label[:1].lower() + label[1:].replace("/", " or ")
    article = "an" if words[:1].lower() in set("aeiou") else "a"
    return reference(f"{article} {words}")


PHRASES = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {object}.",
        "Provide the bounding box coordinates for the region referred to by this sentence: {object}.",
        "Give the bounding box of the region that this sentence refers to: {object}.",
    ),
    own=(
        "Which image shows {object}? Box it.",
        "Only one of these images contains {object}. Say which, and where.",
        "Find {object} among the images.",
        "In which picture can you see {object}? Give its box.",
        "Locate {object} and name the image it is in.",
        "One picture differs from the others by showing {object}. Point it out.",
        "Look through all the images for {object}.",
        "Where is {object}? Name the image and the box.",
        "Search these images: which has {object}, and at what coordinates?",
        "Please ground {object} in the right image.",
        "Tell me the image with {object} and mark it there.",
        "There is {object} somewhere in this set. Find it.",
        "Identify the image that includes {object}; box the object.",
        "Among these pictures, spot {object}.",
        "I am looking for {object}. Which image has it, and where?",
        "Pick the image where {object} appears and draw the bounding box.",
        "What is the position of {object} in this group of images?",
        "Show me {object}: the image and the region.",
        "Detect {object} in the one image that has it.",
        "The phrase {object} fits one region of one image. Which?",
    ),
)
RELATIONS = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {object}, in the image with {companion}.",
    ),
    own=(
        "Several images show {object}, but only one together with {companion}. Box the former there.",
        "Find {object} in the image that also contains {companion}.",
        "In the image where {companion} can be seen, locate {object}.",
        "Which image has both {object} and {companion}? Box the former.",
        "Choose the image with {companion}, then give the box of {object} in it.",
    ),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "It is in the {ordinal} image.",
)
