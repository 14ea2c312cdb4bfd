"""Static difference: two nearly equal images, and the box of what changed.

Sources: MagicBrush, CLEVR-Change, Img-Diff, Spot-the-Diff (arXiv 2501.05767, section 4.1: wrong
boxes filtered, many wordings, some answers reason before the box). Example:
images: 392687-input.png 392687-output1.png
human: Compare these two images carefully and give me the coordinates of their difference.
gpt:   <|box_start|>(532,408),(650,472)<|box_end|>
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec

from migician.boxes import Box, is_writable
from migician.sampling import dice, stream
from migician.sources.index.pairs import Pair, Pairs
from migician.sources.scenes import Tally
from migician.tasks.draft import AnswerSettings, Count, Draft, Picture, Plan, Share, Speaker, Target, Wordings


class DifferenceSettings(AnswerSettings, frozen=True, forbid_unknown_fields=True):
    """Which boxes are believed, and how answers reason."""

    area: tuple[Share, Share] = (0.002, 0.8)
    """Share of the image a change covers; a box around nearly everything says nothing."""
    reasoning: Share = 0.2
    """Of the answers with words before the box, to pairs that say what changed: those that say it, too."""
    passes: Annotated[Count, msgspec.Meta(le=2)] = 1
    """Samples one pair may give: a second one swaps its images and says nothing of the edit."""
    boxes_shown: bool = False
    """Whether pairs are used whose images have the box drawn on them, as all of Img-Diff is released: what is learnt
    from them is to find a red frame. Only to rebuild the published mixture."""


def plan(pairs: Pairs, seed: int, tally: Tally, settings: DifferenceSettings) -> Iterator[Plan]:
    """(pass, pair): those with a believable box, in random order, then all of them the other way round."""
    usable = []
    for position in stream(seed, "order").permutation(len(pairs)).tolist():
        if pairs[position].box_shown and not settings.boxes_shown:
            tally.add("box drawn on the images, which shows the answer")
        elif _sides(pairs[position], settings):
            usable.append(position)
            yield 0, position
        else:
            tally.add("change too small or too large")
    if settings.passes > 1:
        yield from ((1, position) for position in usable)


def drafts(pairs: Pairs, plans: Sequence[Plan], seed: int, settings: DifferenceSettings) -> Iterator[Draft | str]:
    """The question about one pair; the change is asked for in an image that shows it."""
    return (_draft(pairs, turn, position, seed, settings) for turn, position in plans)


def _draft(pairs: Pairs, turn: int, position: int, seed: int, settings: DifferenceSettings) -> Draft:
    pair, rng = pairs[position], dice(seed, turn, position)
    sides = _sides(pair, settings)
    side, box = sides[rng.randrange(len(sides))]
    if turn:
        side = 1 - side
    speaker = Speaker(rng, settings.manner, settings.reasoning)
    # Where the change has the same box in both images, the question need not name an image.
    wordings = EITHER if pair.corners_before == pair.corners_after else ONE
    thought = None if turn else _thought(pair, speaker)
    turns = [speaker.exchange(wordings, SENTENCES, Target(side, box), thought=thought)]
    names = (pair.after, pair.before) if turn else (pair.before, pair.after)
    return speaker.draft([Picture(name) for name in names], turns)


def _thought(pair: Pair, speaker: Speaker) -> Callable[[], str] | None:
    """What says what changed, where the source does."""
    description = pair.description.strip().rstrip(".")
    if not description:
        return None
    reasons = EDITS if pair.is_instruction else CHANGES
    change = description.replace('"', "'") if pair.is_instruction else description
    return lambda: speaker.pick(reasons).format(change=change)


def _sides(pair: Pair, settings: DifferenceSettings) -> list[tuple[int, Box]]:
    """(0 for before or 1 for after, box): where the change has a believable box."""
    return [
        (side, box)
        for side, box in enumerate(pair.boxes)
        if box and settings.area[0] <= box.area <= settings.area[1] and is_writable(box)
    ]


EITHER = Wordings(
    benchmark=(
        "Compare these two images carefully and give me the coordinates of their difference. ",
        "Compare these two images carefully and give me the coordinates of their difference in the {nth} image. ",
        "Compare these two images carefully and give me the coordinates of their real difference in the {ordinal} "
        "image.  Find it and locate it in the {ordinal} image. ",
    ),
    own=(
        "Where do the two images differ?",
        "Something has changed between the first and the second image. Box it.",
        "The images are nearly the same. Point out what is not.",
        "Find the one difference between Image-1 and Image-2.",
        "Spot the difference and give its bounding box.",
        "One part of the picture is not the same in both. Which part?",
        "Locate the change from the first image to the second.",
        "Look at both images closely: in which area are they not alike?",
        "Image-2 shows nearly the same as Image-1. Locate what is different.",
        "Give the coordinates of the region that has changed.",
        "Please mark the place where these two pictures disagree.",
        "What distinguishes the two images? Report where it is.",
        "Detect the changed region of this pair.",
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
    "What differs is in this region:",
)
CHANGES = (
    "The images mostly agree. What differs: {change}. The place is",
    "Comparing both images part by part: {change}. The difference is here:",
    "From the first image to the second: {change}. The region concerned is",
)
"""Reasons where the source says what changed ("the ball turned red") or can be seen ("there are more people")."""
EDITS = (
    'The images mostly agree. The second was made from the first by the instruction "{change}". So they differ at',
    'Compared part by part, the images differ by the edit "{change}". The difference is here:',
    'The edit from the first image to the second is "{change}". The region concerned is',
)
"""Reasons where the source has the instruction of an edit ("change the scooter into a skateboard")."""
