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
from collections.abc import Callable, Iterator, Sequence

from migician.boxtext import reference
from migician.sampling import dice
from migician.sources.index.scenes import Scenes
from migician.tasks.absent import drawn, instance_where, is_absent, labels_of
from migician.tasks.draft import Count, Draft, Manner, Plan, Share, Speaker, Wordings, picture
from migician.tasks.grouping import GroupSettings, named, question_about
from migician.tasks.grouping import plan as plan
from migician.tasks.naming import named_kind


class PhraseSettings(GroupSettings, frozen=True, forbid_unknown_fields=True):
    """Which phrases are believed, and how many are asked about; of both directions."""

    words: tuple[Count, Count] = (2, 14)
    """Of a phrase: one word is a bare category, more are often the description of a whole scene."""
    turns: tuple[Count, Count] = (1, 4)


class GroundingSettings(PhraseSettings, frozen=True, forbid_unknown_fields=True):
    """And how the answer varies."""

    reasoning: Share = 0.2
    """Of the answers with words before the box: those that reason their way to it."""
    manner: Manner = Manner(brief=0.2, sentence=1.0)
    absent: Share = 0.0
    """Samples that ask for what is in none of their images, of sources whose annotations tell."""


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: GroundingSettings) -> Iterator[Draft | str]:
    """Several turns, each about another phrase."""

    def turn(group: list[int], instance: int, speaker: Speaker) -> tuple[str, str]:
        return question_about(scenes, group, instance, called(scenes, instance), speaker, QUESTIONS, SENTENCES)

    def refusal(turn: int, start: int, group: list[int], speaker: Speaker) -> tuple[str, str] | None:
        rng = drawn(settings.absent, seed, turn, start)
        if rng is None:
            return None
        there = labels_of(scenes, group)
        other = instance_where(
            scenes, settings.area, rng, lambda one: is_absent(scenes, scenes.label_number(one), there)
        )
        if other is None:
            return None
        return speaker.refusal(QUESTIONS, 0, {"object": named_kind(scenes.label(other))})

    return drafts_of_phrases(scenes, plans, seed, settings, settings.manner, turn, settings.reasoning, refusal)


def drafts_of_phrases(
    scenes: Scenes,
    plans: Sequence[Plan],
    seed: int,
    settings: PhraseSettings,
    manner: Manner,
    turn_of: Callable[[list[int], int, Speaker], tuple[str, str]],
    reasoning: Share = 0.0,
    refusal: Callable[[int, int, list[int], Speaker], tuple[str, str] | None] = lambda *_: None,
) -> Iterator[Draft | str]:
    """A draft for each group that has a usable phrase, with a turn about each of some instances of the group.

    What `refusal` gives for a group stands in place of one of its turns.
    """
    found = named(scenes, [images for _, _, *images in plans], settings.area)
    for (turn, start, *group), instances in zip(plans, found, strict=True):
        usable = _described(scenes, instances, settings.words)
        if not usable:
            yield "group without a phrase that fits one thing only"
            continue
        speaker = Speaker(dice(seed, turn, start, "words"), manner, reasoning)
        asked = speaker.some(usable, speaker.rng.randint(*settings.turns))
        refused = refusal(turn, start, group, speaker)
        turns = [turn_of(group, instance, speaker) for instance in (asked[1:] if refused else asked)]
        if refused:
            turns.insert(speaker.rng.randrange(len(turns) + 1), refused)
        yield speaker.draft([picture(scenes, image) for image in group], turns)


def _described(scenes: Scenes, instances: list[int], words: tuple[int, int]) -> list[int]:
    """Those of the `instances` that `named` gives whose phrase no other has; where one has none, its label says it.

    Phrases of too few or too many words, and those that could be taken for tokens of the model, are left out.
    """
    if not scenes.has_phrases:
        return instances
    phrases = [_phrase(scenes, instance) for instance in instances]
    used = Counter(phrase.lower() for phrase in phrases)
    return [
        instance
        for instance, phrase in zip(instances, phrases, strict=True)
        if not phrase
        or (used[phrase.lower()] == 1 and "<" not in phrase and words[0] <= phrase.count(" ") + 1 <= words[1])
    ]


def called(scenes: Scenes, instance: int) -> str:
    """What to call an instance that `_described` gave, marked as a reference."""
    phrase = _phrase(scenes, instance)
    return reference(phrase) if phrase else named_kind(scenes.label(instance))


def _phrase(scenes: Scenes, instance: int) -> str:
    return scenes.phrase(instance).strip().rstrip(".")


QUESTIONS = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {object}.",
        "Identify the bounding box of the region described by the following expression: {object}.",
        "Please locate the bounding box of the region described in this sentence: {object}.",
        "Please determine the bounding box coordinates for the area described here: {object}.",
        "Please specify the bounding box coordinates for the region indicated by this sentence: {object}.",
        "Provide the bounding box of the region this expression refers to: {object}.",
        "Please provide the bounding box coordinate of the region this sentence describes: {object}.",
        "Give the bounding box of the region that this sentence refers to: {object}.",
        "Provide the bounding box coordinates for the region referred to by this sentence: {object}.",
        "Give the bounding box coordinates of the area mentioned in this sentence: {object}.",
        "Please identify the bounding box coordinates for the area described by this sentence: {object}.",
    ),
    # Phrases may be plurals ("tables and chairs"), so no verb and no pronoun stands for them.
    own=(
        "Where in these images can you see {object}?",
        "One of the images has a region that fits {object}. Locate this region.",
        "Find the image with {object}, and box the region there.",
        "Ground this phrase in the matching image: {object}.",
        "Look through the group for {object} and give the coordinates.",
        "{object}: find the region that these words stand for.",
        "Point to {object} in the one image that fits.",
        "I have a phrase for you: {object}. Return the matching box.",
        "Match the words {object} with a region of one image.",
        "Of all regions in all images, which one would you call {object}?",
        "Detect what {object} refers to.",
        "Mark the region called {object}.",
        "Give a box for the expression {object}.",
        "In the group of images, localise {object}.",
        "Draw a bounding box around {object} in the matching image.",
    ),
    naming=(
        "Please show me {object}: in which image, and where?",
        "Here is a description: {object}. Which part of which image fits?",
        "Search for {object}. Name the image before the box.",
        "Tell me where to find {object}: in which image, and in what box?",
        "Which image contains {object}, and in what place?",
    ),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "It is in the {ordinal} image.",
    "The {ordinal} image shows it:",
    "Only Image-{number} fits the description.",
)
