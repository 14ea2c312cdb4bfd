"""Group grounding: several unrelated images and a phrase that fits one region of one of them.

Source: SA-1B images with GranD phrases (arXiv 2501.05767, section 4.1: noisy rows filtered, 3-5
unrelated images, several turns). Example:
images: three photographs, a man with an umbrella only in the second
human: Give the bounding box of the region that this sentence refers to:
       <|object_ref_start|>a man holding a red umbrella<|object_ref_end|>.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
The other direction, from a box to words, is in `group_referring`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from migician.boxtext import reference
from migician.sampling import dice
from migician.sources.index.scenes import Scenes
from migician.sources.scenes import Tally
from migician.tasks.draft import (
    Count,
    Draft,
    Manner,
    Plan,
    Share,
    Speaker,
    Target,
    Wordings,
    image_fields,
    ordered,
    picture,
)
from migician.tasks.grouping import groups, named
from migician.tasks.naming import named_kind
from migician.tasks.reasoning import contents, only_there


class Groups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How images come together, and which phrases are believed; of both directions."""

    images: tuple[Count, Count] = (3, 5)
    area: tuple[Share, Share] = (0.01, 0.95)
    """Share of its image that the thing asked for covers."""
    words: tuple[Count, Count] = (2, 14)
    """Of a phrase: one word is a bare category, more are often the description of a whole scene."""
    turns: tuple[Count, Count] = (1, 4)
    passes: Count = 1
    """Groups an image may be in."""

    def __post_init__(self) -> None:
        for name in ("images", "area", "words", "turns"):
            ordered(name, getattr(self, name))
        if self.images[0] < 2:
            raise ValueError(f"images must be two or more, not {list(self.images)}")


class Settings(Groups, frozen=True, forbid_unknown_fields=True):
    """And how the answer varies."""

    reasoning: Share = 0.2
    """Of the answers with words before the box: those that reason their way to it."""
    manner: Manner = Manner(brief=0.2, sentence=1.0)


def plan(scenes: Scenes, seed: int, tally: Tally, settings: Groups) -> Iterator[Plan]:
    """(pass, start, images ...): random groups; in each pass every image is in one."""
    return groups(range(len(scenes)), settings.images, settings.passes, seed, tally)


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: Settings) -> Iterator[Draft | str]:
    """Several turns, each about another phrase."""
    things = named(scenes, [images for _, _, *images in plans], settings.area)
    return (_draft(scenes, plan, found, seed, settings) for plan, found in zip(plans, things, strict=True))


def _draft(scenes: Scenes, plan: Plan, found: list[int], seed: int, settings: Settings) -> Draft | str:
    turn, start, *group = plan
    speaker = Speaker(dice(seed, turn, start, "words"), settings.manner, settings.reasoning)
    usable = described(scenes, found, settings.words)
    if not usable:
        return "group without a phrase that fits one thing only"
    asked = speaker.some(usable, speaker.rng.randint(*settings.turns))
    turns = [_turn(scenes, group, thing, speaker) for thing in asked]
    return speaker.draft([picture(scenes, image) for image in group], turns)


def _turn(scenes: Scenes, group: list[int], thing: int, speaker: Speaker) -> tuple[str, str]:
    position, phrase = scenes.place(thing, group), called(scenes, thing)

    def thought() -> str:
        return only_there(contents(scenes, group, {scenes.label_number(thing)}), phrase, position)

    target = Target(position, scenes.box(thing), scenes.label(thing))
    return speaker.exchange(QUESTIONS, SENTENCES, target, image_fields(position) | {"phrase": phrase}, thought)


def described(scenes: Scenes, things: list[int], words: tuple[int, int]) -> list[int]:
    """Those of the `things` that `named` gives whose phrase no other has; where one has none, its label says it.

    Phrases of too few or too many words, and those that could be taken for tokens of the model, are left out.
    """
    if not scenes.has_phrases:
        return things
    phrases = [_phrase(scenes, thing) for thing in things]
    used = Counter(phrase.lower() for phrase in phrases)
    return [
        thing
        for thing, phrase in zip(things, phrases, strict=True)
        if not phrase
        or (used[phrase.lower()] == 1 and "<" not in phrase and words[0] <= phrase.count(" ") + 1 <= words[1])
    ]


def called(scenes: Scenes, thing: int) -> str:
    """What to call a thing that `described` gave, marked as a reference."""
    phrase = _phrase(scenes, thing)
    return reference(phrase) if phrase else named_kind(scenes.label(thing))


def _phrase(scenes: Scenes, thing: int) -> str:
    return scenes.phrase(thing).strip().rstrip(".")


QUESTIONS = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {phrase}.",
        "Identify the bounding box of the region described by the following expression: {phrase}.",
        "Please locate the bounding box of the region described in this sentence: {phrase}.",
        "Please determine the bounding box coordinates for the area described here: {phrase}.",
        "Please specify the bounding box coordinates for the region indicated by this sentence: {phrase}.",
        "Provide the bounding box of the region this expression refers to: {phrase}.",
        "Please provide the bounding box coordinate of the region this sentence describes: {phrase}.",
        "Give the bounding box of the region that this sentence refers to: {phrase}.",
        "Provide the bounding box coordinates for the region referred to by this sentence: {phrase}.",
        "Give the bounding box coordinates of the area mentioned in this sentence: {phrase}.",
        "Please identify the bounding box coordinates for the area described by this sentence: {phrase}.",
    ),
    # Phrases may be plurals ("tables and chairs"), so no verb and no pronoun stands for them.
    own=(
        "Where in these images can you see {phrase}?",
        "One of the images has a region that fits {phrase}. Locate this region.",
        "Find the image with {phrase}, and box the region there.",
        "Ground this phrase in the matching image: {phrase}.",
        "Look through the group for {phrase} and give the coordinates.",
        "{phrase}: find the region that these words stand for.",
        "Point to {phrase} in the one image that fits.",
        "I have a phrase for you: {phrase}. Return the matching box.",
        "Match the words {phrase} with a region of one image.",
        "Of all regions in all images, which one would you call {phrase}?",
        "Detect what {phrase} refers to.",
        "Mark the region called {phrase}.",
        "Give a box for the expression {phrase}.",
        "In the group of images, localise {phrase}.",
        "Draw a bounding box around {phrase} in the matching image.",
    ),
    naming=(
        "Please show me {phrase}: in which image, and where?",
        "Here is a description: {phrase}. Which part of which image fits?",
        "Search for {phrase}. Name the image before the box.",
        "Tell me where to find {phrase}: in which image, and in what box?",
        "Which image contains {phrase}, and in what place?",
    ),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "It is in the {ordinal} image.",
    "The {ordinal} image shows it:",
    "Only Image-{number} fits the description.",
)
