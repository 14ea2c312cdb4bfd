"""Free-form grounding: a phrase or a relation that only a look across the images resolves.

Templates over annotated labels; for questions that an LLM writes from captions see `migician.build.synthesis`.
Sources: Objects365, COCO (arXiv 2501.05767, section 4.2: groups of 3-5 images). Example:
images: three pictures, a dog only in the second
human: Which image shows <|object_ref_start|>a dog<|object_ref_end|>? Box it.
gpt:   It's in the second image. <|box_start|>(316,58),(764,999)<|box_end|>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migician.sampling import dice
from migician.sources.index.scenes import Scenes
from migician.tasks.draft import Count, Draft, Manner, Plan, Share, Speaker, Wordings, picture, target_in
from migician.tasks.grouping import GroupSettings, Standing, question_about, standing
from migician.tasks.grouping import plan as plan
from migician.tasks.naming import named_kind
from migician.tasks.reasoning import contents, only_there


class FreeFormSettings(GroupSettings, frozen=True, forbid_unknown_fields=True):
    """How groups are asked about."""

    turns: Count = 1
    """Questions of one sample that name different objects."""
    relation: Share = 0.3
    """Of the groups that allow it: those asked about by what else their image shows."""
    reasoning: Share = 0.2
    """Of the answers with words before the box: those that reason their way to it."""
    manner: Manner = Manner(brief=0.0, sentence=1.0)


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: FreeFormSettings) -> Iterator[Draft | str]:
    """Questions about what only one image of the group has."""
    found = standing(scenes, [images for _, _, *images in plans], settings.area)
    return (_draft(scenes, plan, one, seed, settings) for plan, one in zip(plans, found, strict=True))


def _draft(scenes: Scenes, plan: Plan, found: Standing, seed: int, settings: FreeFormSettings) -> Draft | str:
    turn, start, *group = plan
    speaker = Speaker(dice(seed, turn, start, "words"), settings.manner, settings.reasoning)
    named, accompanied, companions = found
    turns = []
    # An instance that several images have can be named by what only its own image shows beside it.
    if accompanied and (not named or speaker.chance(settings.relation)):
        instance = speaker.pick(accompanied)
        target = target_in(scenes, group, instance)
        companion = speaker.pick(companions[target.image])
        fields = {"object": named_kind(scenes.label(instance)), "companion": named_kind(scenes.labels[companion])}

        def beside() -> str:
            shown = contents(scenes, group, {scenes.label_number(instance), companion})
            return only_there(shown, f"{fields['object']} together with {fields['companion']}", target.image)

        turns.append(speaker.exchange(RELATIONS, SENTENCES, target, fields, beside))
    else:
        for instance in speaker.some(named, settings.turns):
            name = named_kind(scenes.label(instance))
            turns.append(question_about(scenes, group, instance, name, speaker, PHRASES, SENTENCES))
    if not turns:
        return "group without an object of its own kind"
    return speaker.draft([picture(scenes, image) for image in group], turns)


PHRASES = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {object}.",
        "Provide the bounding box coordinates for the region referred to by this sentence: {object}.",
        "Give the bounding box of the region that this sentence refers to: {object}.",
    ),
    # Labels may be plurals ("scissors"), so no verb and no pronoun stands for them.
    own=(
        "Find {object} among the images.",
        "One picture differs from the others by showing {object}. Point out the place.",
        "Look through all the images for {object}.",
        "Please ground {object} in the matching image.",
        "Somewhere in this set you can see {object}. Find the region.",
        "Among these pictures, spot {object}.",
        "Pick the image that shows {object} and draw the bounding box.",
        "Show me {object}: I need the region.",
        "Detect {object} in the one image that has such a thing.",
        "The phrase {object} fits one region of one image. Box this region.",
    ),
    naming=(
        "Which image shows {object}? Give the box.",
        "Only one of these images contains {object}. Say which, and where.",
        "In which picture can you see {object}? Give the box.",
        "Locate {object} and name the image.",
        "Where can you see {object}? Name the image and the box.",
        "Search these images: which has {object}, and at what coordinates?",
        "Tell me the image with {object} and mark the place there.",
        "Identify the image that includes {object}; box the object.",
        "I am looking for {object}. Which image should I look at, and where?",
        "What is the position of {object} in this group of images? Name the image, too.",
    ),
)
RELATIONS = Wordings(
    benchmark=(
        "Please find the bounding box coordinates for the area described by: {object}, in the image with {companion}.",
    ),
    own=(
        "More than one image shows {object}, but only one together with {companion}. Box the former there.",
        "Find {object} in the image that also contains {companion}.",
        "In the image where you can see {companion}, locate {object}.",
        "Choose the image with {companion}, then give the box of {object} in that image.",
    ),
    naming=("Which image has both {object} and {companion}? Box the former.",),
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "It is in the {ordinal} image.",
)
