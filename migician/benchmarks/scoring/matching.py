"""Several boxes in several images: a reply's boxes matched one to one with the true ones.

Boxes of different images never match. Of all one-to-one matchings the one with the greatest sum of
IoU is taken (the Hungarian method), then a pair counts as found from IoU 0.5 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from migician.benchmarks import Question
from migician.benchmarks.scoring.boxes import CORRECT_IOU
from migician.benchmarks.scoring.scoring import Answer, Count, Drawn, Reading, Scoring, Shown, SizeOf, shared_fields
from migician.boxes import Box
from migician.boxtext import BoxStyle, Mention, parse_boxes
from migician.imagenames import images_of_box
from migician.metrics import Measure

MatchOutcome = Literal["correct", "partly", "missed", "no_box", "garbled", "failed"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A true box and the image (0-based) it is in."""

    image: int
    box: Box


@dataclass(frozen=True, slots=True)
class SetQuestion(Question):
    """A question whose answer is one box in each of some images."""

    truths: tuple[Placed, ...]
    rows: tuple[int, ...]
    """The rows of the file that it was made of."""
    groups: tuple[int, ...] = ()
    """The group of each true box, where the question asks for groups; empty where it does not."""

    @property
    def is_malformed(self) -> bool:
        """Whether a true box is impossible."""
        return not all(truth.box.is_proper for truth in self.truths)


class BoxIn(msgspec.Struct, frozen=True):
    """A box as a record has it: its corners as fractions, and its image (0-based)."""

    image: Count | None
    box: tuple[float, float, float, float]


class Pair(msgspec.Struct, frozen=True):
    """A true box and the reply's box that is matched with it."""

    truth: Count
    box: Count
    iou: Annotated[float, Meta(ge=0, le=1)]


class SetRecord(msgspec.Struct, frozen=True):
    """One scored reply to a question for several boxes, whole."""

    index: Count
    task: str
    question: str
    images: tuple[str, ...]
    rows: tuple[Count, ...]
    truths: list[BoxIn]
    reply: str | None
    boxes: list[BoxIn]
    """All boxes of the reply; one whose image it does not say matches nothing."""
    pairs: list[Pair]
    outcome: MatchOutcome
    error: str | None = None
    seconds: float | None = None
    reasoning: str | None = None
    groups: tuple[int, ...] = ()
    """As in `SetQuestion`."""

    def __post_init__(self) -> None:
        if any(truth.image is None or truth.image >= len(self.images) for truth in self.truths):
            raise ValueError(f"a true box that is in none of the {len(self.images)} images")
        for paired, given in (
            ([pair.truth for pair in self.pairs], self.truths),
            ([pair.box for pair in self.pairs], self.boxes),
        ):
            if len(set(paired)) < len(paired) or max(paired, default=-1) >= len(given):
                raise ValueError("pairs that are not of one true box and one box of the reply each")

    @property
    def found(self) -> int:
        """How many true boxes were found: matched at IoU 0.5 or more."""
        return sum(pair.iou >= CORRECT_IOU for pair in self.pairs)


def match(truths: Sequence[tuple[int, Box]], boxes: Sequence[tuple[int | None, Box]]) -> list[Pair]:
    """The pairs (truth, box, IoU > 0) of the one-to-one matching with the greatest sum of IoU within images.

    >>> match([(0, Box(0, 0, 1, 1))], [(1, Box(0, 0, 1, 1)), (0, Box(0, 0, 1, 0.5))])
    [Pair(truth=0, box=1, iou=0.5)]
    """
    if not truths or not boxes:
        return []
    from scipy.optimize import linear_sum_assignment

    overlap = np.array([[truth.iou(box) if image == place else 0.0 for place, box in boxes] for image, truth in truths])
    chosen = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return [
        Pair(int(row), int(column), float(overlap[row, column])) for row, column in chosen if overlap[row, column] > 0
    ]


def _score_set(question: SetQuestion, answer: Answer, reading: Reading, size_of: SizeOf) -> SetRecord:
    truths = [(truth.image, truth.box) for truth in question.truths]
    mentions: list[Mention] = []
    outcome: MatchOutcome = "failed"
    if answer.response is not None:
        mentions, outcome = _mentions(answer.response, question, reading.style, size_of)
    # A box that cannot be read, or that nothing places, still counts as one that was given.
    places = [images_of_box(one.image, None, len(question.images)) for one in mentions]
    usable = [
        (images[0] if one.status == "read" and len(images) == 1 else None, one.box)
        for one, images in zip(mentions, places, strict=True)
    ]
    pairs = match(truths, usable)
    if mentions:
        hits = sum(pair.iou >= CORRECT_IOU for pair in pairs)
        outcome = "correct" if hits == len(truths) == len(mentions) else "partly" if hits else "missed"
    elif outcome == "no_box" and not truths:
        outcome = "correct"
    return SetRecord(
        **shared_fields(question, answer),
        rows=question.rows,
        truths=[BoxIn(image, box.as_tuple()) for image, box in truths],
        boxes=[BoxIn(one.image, one.box.as_tuple()) for one in mentions],
        pairs=pairs,
        outcome=outcome,
        groups=question.groups,
    )


def _mentions(
    reply: str, question: SetQuestion, style: BoxStyle, size_of: SizeOf
) -> tuple[list[Mention], MatchOutcome]:
    """The boxes of a reply, each on the scale of its own image; and what became of a reply without any."""
    count = len(question.images)
    parsed = parse_boxes(
        reply, style, lambda image: size_of(question, image if image is not None and image < count else 0)
    )
    if parsed.mentions:
        return list(parsed.mentions), "missed"
    return [], "garbled" if parsed.status == "garbled" else "no_box"


def _measures(records: Sequence[SetRecord]) -> dict[str, Measure]:
    found = np.array([float(record.found) for record in records])
    given = np.array([float(len(record.boxes)) for record in records])
    wanted = np.array([float(len(record.truths)) for record in records])
    overlap = np.array([sum(pair.iou for pair in record.pairs) for record in records], dtype=np.float64)
    return {
        "precision@0.5": (found, given),
        "recall@0.5": (found, wanted),
        "f1@0.5": (2 * found, given + wanted),
        "mean_iou": (overlap, wanted),
    }


def _counts(records: Sequence[SetRecord]) -> dict[str, int]:
    return {
        "truths": sum(len(record.truths) for record in records),
        "boxes": sum(len(record.boxes) for record in records),
        "found": sum(record.found for record in records),
        "boxes_without_image": sum(box.image is None for record in records for box in record.boxes),
    }


def _show(record: SetRecord) -> Shown:
    def drawn(box: BoxIn) -> Drawn:
        return images_of_box(box.image, None, len(record.images)), box.box

    return Shown(
        [drawn(truth) for truth in record.truths],
        [drawn(box) for box in record.boxes],
        remark=f"found {record.found} of {len(record.truths)}",
    )


MATCHING = Scoring(
    name="matching",
    record=SetRecord,
    outcomes=("correct", "partly", "missed", "no_box", "garbled", "failed"),
    score_one=_score_set,
    measures=_measures,
    show=_show,
    protocols=("strict",),
    counts=_counts,
)
"""Of questions for several boxes: precision, recall and F1 at IoU 0.5, and mean IoU over the true boxes."""
