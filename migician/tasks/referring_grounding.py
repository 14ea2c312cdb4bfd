"""Referring grounding: the first image shows an object large and whole, the second has one of its kind in a scene.

Source: ImageNet boxes (arXiv 2501.05767, section 4.1: image 2 of the same class shows the object
small or hidden). Example:
images: a tench filling the picture, and a tench held by an angler
human: Find and locate where does the object in image-1 locate in the image-2.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from migician.sampling import Dice, dice, stream
from migician.sources.index.scenes import ALONE, Scenes
from migician.sources.scenes import Tally
from migician.tasks.absent import drawn, instance_where, is_absent, labels_of
from migician.tasks.draft import AnswerSettings, Count, Draft, Plan, Share, Speaker, Wordings, picture, target_in
from migician.tasks.naming import named_kind
from migician.tasks.reasoning import counterpart

_BLOCK = 4096
"""Instances that are checked together."""


class ExampleSettings(AnswerSettings, frozen=True, forbid_unknown_fields=True):
    """Which images show an object and which hide it."""

    shown: tuple[Share, Share] = (0.3, 1.0)
    """Share of the first image that the object covers. The paper gives no figure."""
    hidden: tuple[Share, Share] = (0.005, 0.2)
    """Share of the second image that the object covers. The paper gives no figure."""
    passes: Count = 1
    """Samples one second image may give at most, each with another first image."""
    absent: Share = 0.0
    """Samples that ask for what is in none of their images, of sources whose annotations tell."""


def plan(scenes: Scenes, seed: int, tally: Tally, settings: ExampleSettings) -> Iterator[Plan]:
    """(pass, hidden instance, shown instance): the hidden in random order, each with a shown one of its label.

    The order is the same in each pass, so that each gives an instance the next of its shown ones: no sample repeats.
    """
    tally.add_marked("several of the label in the image", scenes.marks & ALONE == 0)
    shown = scenes.by_label(scenes.clear_ones(settings.shown))
    hidden = np.flatnonzero(scenes.clear_ones(settings.hidden))
    for turn in range(settings.passes):
        order, chances = stream(seed, "order").permutation(hidden), stream(seed, "examples")
        for start in range(0, len(order), _BLOCK):
            instances = order[start : start + _BLOCK]
            columns = instances, scenes.label_of[instances], chances.random(len(instances))
            for instance, label, chance in zip(*(column.tolist() for column in columns), strict=True):
                examples = shown.get(label)
                if examples is None or turn >= len(examples):
                    tally.add("label not shown large once more" if turn else "label never shown large")
                    continue
                # A label can be alone in an image only once, so the two images differ unless the instances are one.
                example = int(examples[(int(chance * len(examples)) + turn) % len(examples)])
                if example != instance:
                    yield turn, instance, example


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: ExampleSettings) -> Iterator[Draft | str]:
    """The question about one pair of images."""
    instances = np.array([(shown, hidden) for _, hidden, shown in plans], np.int64).reshape(-1, 2)
    for plan, images in zip(plans, scenes.images_of(instances).tolist(), strict=True):
        yield _draft(scenes, plan, images, seed, settings)


def _draft(scenes: Scenes, plan: Plan, images: list[int], seed: int, settings: ExampleSettings) -> Draft:
    turn, hidden, _ = plan
    speaker = Speaker(dice(seed, turn, hidden, "words"), settings.manner, settings.reasoning)
    rng = drawn(settings.absent, seed, turn, hidden)
    if rng and (images_apart := _apart(scenes, images[0], rng, settings)):
        return speaker.draft([picture(scenes, image) for image in images_apart], [speaker.refusal(QUESTIONS, 1, {})])
    target = target_in(scenes, images, hidden)
    name = named_kind(target.label)
    turns = [speaker.exchange(QUESTIONS, SENTENCES, target, {"object": name}, lambda: counterpart(name, target.box))]
    return speaker.draft([picture(scenes, image) for image in images], turns)


def _apart(scenes: Scenes, shown: int, rng: Dice, settings: ExampleSettings) -> list[int]:
    """The image `shown` and one that shows nothing of any kind that it has; empty where none is found."""
    kinds = labels_of(scenes, [shown])

    def fits(one: int) -> bool:
        there = labels_of(scenes, scenes.images_of(np.array([one])).tolist())
        return all(is_absent(scenes, kind, there) for kind in kinds)

    found = instance_where(scenes, settings.hidden, rng, fits)
    return [] if found is None else [shown, *scenes.images_of(np.array([found])).tolist()]


QUESTIONS = Wordings(
    benchmark=("Find and locate where does the object in image-1 locate in the image-2.",),
    # The two images show two objects of a kind, so no wording speaks of one and the same.
    own=(
        "The first image shows an object. Where is one of its kind in the second image?",
        "Use Image-1 as the example and find the same sort of object in Image-2.",
        "Locate in the second image an object of the kind that the first image shows.",
        "Image-1 is the query, Image-2 the scene. Box in the scene an object like the query's.",
        "Something like what you see in the first image also appears in the second. Where?",
        "Find the counterpart of Image-1's object in Image-2.",
        "Look at the object in the first picture, then point out one like it in the second picture.",
        "The second image hides an object like that of the first image. Mark it.",
        "Search Image-2 for the kind of thing that fills Image-1.",
        "Which region of the second image has an object of the class shown in the first?",
        "Recognise the object of the first image and give the box of such an object in the second.",
        "Take the object in Image-1 as a reference and ground one of its type in Image-2.",
        "Image-2 contains an object of the type that Image-1 shows. Give its coordinates.",
        "Spot in the second image another example of the first image's object.",
        "The first image tells you what kind of thing to look for. Report where one is in the second image.",
        "Detect within the scene of Image-2 an object of the same category as that of Image-1.",
        "Please box in the second image the object that belongs to the same class as the one in the first.",
        "An object is presented in Image-1. Find another of its kind in the surroundings of Image-2.",
        "By the example of the first image, locate the target in the second image.",
        "Where in Image-2 would you point to show someone the kind of thing in Image-1?",
    ),
)
SENTENCES = (
    "It's in the second image.",
    "The first image shows {object}. In the second image there is another example at",
    "Both images show {object}. In Image-2, here:",
    "Such an object is in the second image:",
)
