"""Common object: several images share exactly one kind of object; find it in one of them.

Sources: Objects365, COCO, ImageNet (arXiv 2501.05767, section 4.1: objects under an area share are
dropped, and so are labels that usually come with others, so that only one object is common).
Example:
images: three pictures with one dog each, and no other kind of object in all three
human: These images share one object in common. Recognize and locate this object in the 2th image.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from migician.boxes import Box
from migician.boxtext import reference
from migician.scenes import Scene, Tally
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
    """Which objects and images come together."""

    images: tuple[Count, Count] = (3, 5)
    area: tuple[Share, Share] = (0.1, 0.95)
    """Share of its image the common object covers. The paper gives no figure; 95% of MIG-Bench's have over 0.12."""
    excluded: tuple[str, ...] = ("keyboard", "knife", "couch", "dining table")
    """Labels that usually come with others: the four that the paper names."""
    passes: Count = 2
    """Tries there are, per usable object of the source."""
    turns: Count = 1
    """Questions of one sample, each about another of its images."""
    manner: Manner = Manner()

    def __post_init__(self) -> None:
        ordered("images", self.images)
        ordered("area", self.area)
        if self.images[0] < 2:
            raise ValueError(f"images must be two or more, not {list(self.images)}")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A scene with the one object of a label that it has."""

    scene: Scene
    box: Box
    labels: frozenset[str]


def build(scenes: Iterable[Scene], seed: int, tally: Tally, settings: Settings) -> Iterator[Draft]:
    """Drafts of one label each, every label as likely, never the same images twice for a label."""
    by_label = _by_label(scenes, tally, settings)
    labels = [label for label, candidates in sorted(by_label.items()) if len(candidates) >= settings.images[0]]
    if len(labels) < len(by_label):
        tally.add("label in too few images", len(by_label) - len(labels))
    seen: set[tuple[str, frozenset[int]]] = set()
    for attempt in range(settings.passes * sum(len(by_label[label]) for label in labels)):
        rng = stream(seed, attempt)
        label = labels[int(rng.integers(len(labels)))]
        candidates = by_label[label]
        highest = min(settings.images[1], len(candidates))
        count = int(rng.integers(settings.images[0], highest, endpoint=True))
        chosen = rng.choice(len(candidates), count, replace=False).tolist()
        group = [candidates[position] for position in chosen]
        if (label, frozenset(chosen)) in seen:
            tally.add("group made before")
        elif frozenset.intersection(*(candidate.labels for candidate in group)) != {label}:
            tally.add("more than one object in common")
        else:
            seen.add((label, frozenset(chosen)))
            yield _draft(label, group, rng, settings)


def _by_label(scenes: Iterable[Scene], tally: Tally, settings: Settings) -> dict[str, list[_Candidate]]:
    excluded = {label.lower() for label in settings.excluded}
    by_label: dict[str, list[_Candidate]] = {}
    for scene in scenes:
        counts = Counter(thing.label for thing in scene.things)
        labels = frozenset(counts)
        for thing in scene.things:
            if thing.label.lower() in excluded:
                tally.add("label that comes with others")
            elif counts[thing.label] > 1:
                tally.add("several of the label in the image")
            elif not (settings.area[0] <= thing.box.area <= settings.area[1] and is_writable(thing.box)):
                tally.add("object too small or too large")
            else:
                by_label.setdefault(thing.label, []).append(_Candidate(scene, thing.box, labels))
    return by_label


def _draft(label: str, group: list[_Candidate], rng: np.random.Generator, settings: Settings) -> Draft:
    speaker = Speaker(rng, settings.manner)
    turns = []
    for asked in rng.permutation(len(group))[: settings.turns].tolist():
        fields = image_fields(asked) | {"object": reference(label.lower())}
        turns.append(speaker.exchange(QUESTIONS, SENTENCES, group[asked].box, fields))
    return speaker.draft([Picture(one.scene.image, one.scene.size) for one in group], turns)


QUESTIONS = Wordings(
    benchmark=("These images share one object in common. Recognize and locate this object in the {nth} image. ",),
    own=(
        "One kind of object appears in every image. Find it in the {ordinal} image.",
        "What do all these images have in common? Box it in the {ordinal} image.",
        "There is an object that all the pictures show. Where is it in Image-{number}?",
        "Work out which object is shared by the images, then locate it in the {ordinal} one.",
        "Each of these photos contains the same sort of thing. Give its box in the {ordinal} photo.",
        "Name nothing, just find what the images share and box it in Image-{number}.",
        "Identify the common object of these images and point to it in the {ordinal} image.",
        "All images have one type of object in common. Please mark it in the {ordinal} image.",
        "Compare the images: which object occurs in all of them? Its box in Image-{number}, please.",
        "Look for the thing that every picture includes. What are its coordinates in the {ordinal} picture?",
        "The images are related by a single shared object. Detect this object in the {ordinal} image.",
        "Only one category is present in all of these images. Locate its instance in Image-{number}.",
        "Which object links these images? Draw its bounding box in the {ordinal} image.",
        "Find the recurring object and report where it stands in Image-{number}.",
        "Something is depicted in each image. Ground it in the {ordinal} image.",
        "Please find the object that can be seen in all the images and box it in the {ordinal} one.",
        "Across these images a single object category repeats. Where in Image-{number} is it?",
        "Spot what the pictures have in common, and give me its position in the {ordinal} picture.",
        "In the {ordinal} image, locate the object whose kind is found in every other image as well.",
        "Determine the shared object and output its bounding box for Image-{number}.",
    ),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "The common object is {object}. In the {ordinal} image it is at",
    "All images show {object}:",
    "The shared object in Image-{number} is {object}.",
)
