"""Group grounding the other way round: a box in one of several images, and the words for it.

Source: SA-1B images with GranD phrases (arXiv 2501.05767, section 4.1, "REG"; the authors left it
out of training). Example:
images: three photographs
human: What is at <|box_start|>(316,58),(764,999)<|box_end|> in the second image?
gpt:   <|object_ref_start|>a man holding a red umbrella<|object_ref_end|>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migician.boxtext import QWEN
from migician.sources.index.scenes import Scenes
from migician.tasks.draft import Draft, Manner, Plan, Share, Speaker, image_fields, target_in
from migician.tasks.group_grounding import PhraseSettings, called, drafts_of_phrases
from migician.tasks.grouping import plan as plan


class ReferringSettings(PhraseSettings, frozen=True, forbid_unknown_fields=True):
    """As of `group_grounding`, but nothing in the answers varies."""

    labelled: Share = 0.5
    """Samples whose images are introduced as "Image-1: "."""


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: ReferringSettings) -> Iterator[Draft | str]:
    """Several turns, each about another box."""

    def turn(group: list[int], instance: int, speaker: Speaker) -> tuple[str, str]:
        target = target_in(scenes, group, instance)
        speaker.targets.append(target)
        fields = image_fields(target.image) | {"box": QWEN.write(target.box)}
        return speaker.pick(QUESTIONS).format(**fields), called(scenes, instance)

    return drafts_of_phrases(scenes, plans, seed, settings, Manner(labelled=settings.labelled), turn)


QUESTIONS = (
    "What is at {box} in the {ordinal} image?",
    "Describe the region {box} of Image-{number} in a few words.",
    "Look at {box} in the {ordinal} image. What does it show?",
    "Give a phrase for what the box {box} of the {ordinal} image encloses.",
    "Name what you see at {box} in Image-{number}.",
    "In the {ordinal} image, which thing is at {box}?",
    "Put the content of {box} in Image-{number} into words.",
    "The {ordinal} image has a region at {box}. Refer to it by a phrase.",
    "Write a referring expression for {box} in the {ordinal} image.",
    "What would you call the region {box} in Image-{number}?",
    "Tell me what is inside {box} in the {ordinal} picture.",
    "A box at {box} in the {ordinal} image: what is in it?",
    "Caption the area {box} of Image-{number}.",
    "Which words fit the area {box} in the {ordinal} image and no other?",
    "Please describe the object that {box} marks in Image-{number}.",
    "I point at {box} in the {ordinal} image. What am I pointing at?",
    "State briefly what is found at {box} in the {ordinal} image.",
    "How would you describe {box} of the {ordinal} image, so that nobody takes it for another region?",
    "What does the {ordinal} image display at {box}?",
    "Find words for the part {box} of Image-{number}.",
)
