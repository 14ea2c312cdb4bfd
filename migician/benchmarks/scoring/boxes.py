"""One box: how a reply to a question for one box becomes a record, and records become figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from migician.benchmarks import Question
from migician.benchmarks.scoring import peers, univg_r1
from migician.benchmarks.scoring.published import find_boxes, stretch_y
from migician.benchmarks.scoring.scoring import Answer, Count, Reading, Scoring, Shown, SizeOf, shared_fields
from migician.benchmarks.scoring.values import iou_text
from migician.boxes import FARTHEST, Box, Size
from migician.boxtext import Parsed, parse_boxes
from migician.imagenames import images_of_box
from migician.metrics import Measure, metric_columns


@dataclass(frozen=True, slots=True)
class BoxQuestion(Question):
    """A question for one box."""

    truth: Box | None
    """As written in the file, malformed or not; None where what is asked for is in none of the images."""
    target: int | None
    """The image (0-based) that the true box is in; None where the file does not tell."""
    need_format: bool
    may_be_absent: bool = False
    """Whether its benchmark also asks for what is not there, so that a reply can refuse."""

    @property
    def is_malformed(self) -> bool:
        """Whether the file's own box is impossible."""
        return self.truth is not None and not self.truth.is_proper

    @property
    def is_absent(self) -> bool:
        """Whether what it asks for is in none of its images."""
        return self.truth is None


Outcome = Literal["correct", "wrong_box", "wrong_image", "refused", "no_box", "garbled", "off_scale", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CORRECT_IOU = 0.5


class Record(msgspec.Struct, frozen=True):
    """One scored reply to a question for one box, whole; a report can be made again from these."""

    index: Count
    task: str
    question: str
    images: Annotated[tuple[str, ...], Meta(min_length=1)]
    truth: tuple[float, float, float, float] | None
    """None where what is asked for is in none of the images: then the IoU is 1 for a reply that refuses, else 0."""
    reply: str | None
    boxes: list[tuple[float, float, float, float]]
    """The boxes read, as fractions; under `strict` the one that was scored comes first."""
    outcome: Outcome
    iou: Annotated[float, Meta(ge=0, le=1)]
    several: bool
    """Whether the reply held more than one box."""
    target: Count | None
    """The image (0-based) the true box is in, where known."""
    image: Count | None
    """The image the reply clearly names for its box, where it does."""
    error: str | None = None
    seconds: float | None = None
    reasoning: str | None = None
    """As in `Answer`."""


def _score_box(question: BoxQuestion, answer: Answer, reading: Reading, size_of: SizeOf) -> Record:
    if answer.response is None:
        found = _Found([], "failed")
    elif reading.protocol == "strict" or question.truth is None:
        parsed = parse_boxes(answer.response, reading.style, partial(_size_at, question, size_of))
        found = _read_strict(parsed, question)
    elif reading.protocol == "published":
        found = _read_published(answer.response, reading.y_stretch, question.truth)
    elif readings := peers.BOX_READINGS.get(reading.protocol):
        boxes = [box.bounded() for box in readings(answer.response, _size_at(question, size_of, None))]
        best = max(boxes, key=question.truth.iou, default=None)  # they know the truth
        found = _as_scripts_read([best] if best else [], best.iou(question.truth) if best else 0.0)
    else:
        found = _read_univg_r1(answer.response, reading.y_stretch, question.truth)
    outcome = found.outcome
    if outcome == "correct" and found.iou < CORRECT_IOU:
        outcome = "wrong_box"
    return Record(
        **shared_fields(question, answer),
        truth=question.truth.as_tuple() if question.truth else None,
        boxes=[box.as_tuple() for box in found.boxes],
        outcome=outcome,
        iou=found.iou,
        several=len(found.boxes) > 1,
        target=question.target,
        image=found.image,
    )


def _size_at(question: BoxQuestion, size_of: SizeOf, tied: int | None) -> Size | None:
    """A style that counts pixels counts those of the image that the reply names, else of the target, else the first."""
    if tied is not None and tied < len(question.images):
        return size_of(question, tied)
    return size_of(question, question.target or 0)


@dataclass(frozen=True, slots=True)
class _Found:
    boxes: Sequence[Box]
    """The one that is scored comes first."""
    outcome: Outcome
    """"correct" stands for a readable box, whatever its IoU."""
    image: int | None = None
    iou: float = 0.0


def _read_published(reply: str, y_stretch: bool, truth: Box) -> _Found:
    boxes = find_boxes(reply)
    if y_stretch and len(boxes) == 1:
        boxes = [stretch_y(boxes[0])]
    return _as_scripts_read(boxes, boxes[0].iou(truth) if boxes else 0.0)


def _read_univg_r1(reply: str, y_stretch: bool, truth: Box) -> _Found:
    boxes = univg_r1.find_boxes(reply)
    if boxes is None:
        return _Found([univg_r1.as_box(univg_r1.UNREAD)], "garbled")
    if y_stretch and boxes:
        boxes = [univg_r1.stretch_y(boxes[0]), *boxes[1:]]
    overlap = univg_r1.overlap(boxes[0], truth) if boxes else 0.0
    return _as_scripts_read([univg_r1.as_box(box) for box in boxes], overlap)


def _as_scripts_read(boxes: Sequence[Box], overlap: float) -> _Found:
    """No scale to be off, but for numbers that are no coordinates of anything."""
    if not boxes:
        return _Found([], "no_box")
    kept = [box.bounded() for box in boxes]
    if any(abs(value) == FARTHEST for value in kept[0].as_tuple()):
        return _Found(kept, "off_scale")
    return _Found(kept, "correct", iou=overlap)


def _read_strict(parsed: Parsed, question: BoxQuestion) -> _Found:
    target, truth = question.target, question.truth
    chosen = parsed.pick(target)
    if chosen is None:
        if parsed.refused and question.may_be_absent:
            return _Found([], "refused") if truth else _Found([], "correct", iou=1.0)
        return _Found([], "garbled" if parsed.status == "garbled" else "no_box")
    boxes = [chosen.box, *(mention.box for mention in parsed.mentions if mention is not chosen)]
    if chosen.status != "read":
        return _Found(boxes, chosen.status, chosen.image)
    if target is not None and target not in images_of_box(chosen.image, target, len(question.images)):
        return _Found(boxes, "wrong_image", chosen.image)
    return _Found(boxes, "correct", chosen.image, chosen.box.iou(truth) if truth else 0.0)


def _box_measures(records: Sequence[Record]) -> dict[str, Measure]:
    return {name: (column, None) for name, column in metric_columns([record.iou for record in records]).items()}


def _show_box(record: Record) -> Shown:
    count, remark = len(record.images), f"IoU {iou_text(record.iou)}" if record.truth else ""
    images = images_of_box(record.image, record.target, count)
    if record.image is not None and not images:
        named = f"named for Image-{record.image + 1} of {count}, so not drawn"
        remark = f"{remark}, {named}" if remark else named
    boxes = [(images, box) for box in record.boxes[:1]]
    if record.truth is None:
        return Shown(boxes=boxes, answer="in none of the images", remark=remark)
    return Shown([(images_of_box(None, record.target, count), record.truth)], boxes, remark=remark)


BOXES = Scoring(
    name="boxes",
    record=Record,
    outcomes=OUTCOMES,
    score_one=_score_box,
    measures=_box_measures,
    show=_show_box,
    counts=lambda records: {"several": sum(record.several for record in records)},
)
"""Of questions for one box: hit rates at three thresholds, and mean IoU."""
