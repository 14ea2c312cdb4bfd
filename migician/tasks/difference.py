"""Static difference: two nearly equal images, and the box of what changed.

Sources: MagicBrush, CLEVR-Change, Img-Diff, Spot-the-Diff (arXiv 2501.05767, section 4.1: wrong
boxes filtered, many wordings, some answers reason before the box). Example:
images: 392687-input.png 392687-output1.png
human: Compare these two images carefully and give me the coordinates of their difference.
gpt:   <|box_start|>(532,408),(650,472)<|box_end|>
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.scenes import ImagePair, Tally
from migician.seeds import stream
from migician.tasks.draft import Draft, Manner, Picture, Share, Speaker, Wordings, image_fields, is_writable, ordered


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which boxes are believed, and how answers reason."""

    area: tuple[Share, Share] = (0.002, 0.8)
    """Share of the image a change covers; a box around nearly everything says nothing."""
    reasoning: Share = 0.2
    """Of the answers to pairs that say what changed: those that say it before the box."""
    manner: Manner = Manner()

    def __post_init__(self) -> None:
        ordered("area", self.area)


def build(scenes: Iterable[ImagePair], seed: int, tally: Tally, settings: Settings) -> Iterator[Draft]:
    """One draft from each pair that has a believable box, in random order."""
    pairs = list(scenes)
    for position in stream(seed, "order").permutation(len(pairs)).tolist():
        pair = pairs[position]
        sides = [
            (side, box)
            for side, box in enumerate((pair.box_before, pair.box_after))
            if box and settings.area[0] <= box.area <= settings.area[1] and is_writable(box)
        ]
        if sides:
            yield _draft(pair, sides, stream(seed, position), settings)
        else:
            tally.add("change too small or too large")


def _draft(pair: ImagePair, sides: list[tuple[int, Box]], rng: np.random.Generator, settings: Settings) -> Draft:
    side, box = sides[int(rng.integers(len(sides)))]
    speaker = Speaker(rng, settings.manner)
    # Where the change has one box in both images, no image need be named.
    wordings = EITHER if pair.box_before == pair.box_after else ONE
    question, answer = speaker.exchange(wordings, SENTENCES, box, image_fields(side))
    description = pair.description.strip().rstrip(".")
    if description and answer != QWEN.write(box) and speaker.chance(settings.reasoning):
        answer = f"{speaker.pick(REASONS).format(change=description)} {QWEN.write(box)}"
    return speaker.draft([Picture(pair.before), Picture(pair.after)], [(question, answer)])


EITHER = Wordings(
    benchmark=(
        "Compare these two images carefully and give me the coordinates of their difference. ",
        "Compare these two images carefully and give me the coordinates of their difference in the {nth} image. ",
    ),
    own=(
        "Where do the two images differ?",
        "Something has changed between the first and the second image. Box it.",
        "The images are nearly the same. Point out what is not.",
        "Find the one difference between Image-1 and Image-2.",
        "Spot the difference and give its bounding box.",
        "One part of the picture was edited. Which part?",
        "Locate the change from the first image to the second.",
        "Look at both images closely: in which area are they not alike?",
        "Image-2 is an altered copy of Image-1. Locate the alteration.",
        "Give the coordinates of the region that was modified.",
        "Please mark the place where these two pictures disagree.",
        "What distinguishes the two images? Report where it is.",
        "Detect the edited region of this pair.",
        "Compare the pair and box the part that differs in the {ordinal} image.",
        "Between the two images a detail changed. Show me where in Image-{number}.",
        "Play spot-the-difference: where in the {ordinal} image is it?",
        "Which box of the {ordinal} image holds what makes it different from the other?",
        "These pictures match except for one region. Find this region.",
        "Examine the two images and localise their difference.",
        "Tell me where the {ordinal} image is unlike the other one.",
    ),
)
# Only wordings that name the image: the change looks or lies differently in the two.
ONE = Wordings(benchmark=EITHER.benchmark[1:], own=tuple(text for text in EITHER.own if "{" in text))
SENTENCES = (
    "The images differ here:",
    "The difference is at",
    "This part has changed:",
    "Everything else is the same, but this region differs:",
)
REASONS = (
    "Most of the two images agree. The edit that leads from the first to the second is: {change}. So they differ at",
    "Comparing both images part by part, this has happened: {change}. The difference is here:",
    "From the first image to the second: {change}. The region concerned is",
)
