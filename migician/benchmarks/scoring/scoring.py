"""Replies -> records: what each reply says, and how well it fits the truth.

`strict` is how this project reads a reply: the declared box style, the final answer only,
nothing repaired, and every way to miss counted apart. `published` is the rule set of the published
script, `univg-r1` that of UniVG-R1's, for comparison with papers. A question's `Scoring` says how; here is the one
for a single box, `choices` has the one for options, `matching` the one for several boxes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring import univg_r1
from migician.benchmarks.scoring.published import find_boxes, stretch_y
from migician.benchmarks.scoring.values import iou_text
from migician.boxes import FARTHEST, Box, Size
from migician.boxtext import STYLES, BoxStyle, Parsed, parse_boxes
from migician.errors import UserError, closest, unknown
from migician.imagenames import images_of_box
from migician.metrics import Measure, metric_columns

if TYPE_CHECKING:
    from migician.benchmarks.mig_bench import Question

Outcome = Literal["correct", "wrong_box", "wrong_image", "no_box", "garbled", "off_scale", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong_box", "wrong_image", "no_box", "garbled", "off_scale", "failed")
CORRECT_IOU = 0.5

Protocol = Literal["strict", "published", "univg-r1"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number of things, or a place among them from 0, as files hold it."""

SizeOf = Callable[[Any, int], Size | None]
"""(question, image) -> its size (width, height) in pixels; None where nothing counts pixels."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reply of a model, as answer files hold it, one JSON line each.

    Half a character (a lone surrogate, where an engine cut a reply) becomes U+FFFD: no UTF-8 file can hold it.
    """

    index: int
    response: str | None = None
    task: str | None = None
    error: str | None = None
    """Why there is no reply, where the model failed."""
    seconds: float | None = None
    sizes: tuple[Size, ...] | None = None
    """(width, height) of each image as the model saw it, where the family's boxes count those pixels."""
    reasoning: str | None = None
    """What a thinking model wrote before its reply, where a server sends it apart; it is kept, and never scored."""

    def __post_init__(self) -> None:
        for name in ("response", "error", "reasoning"):
            text = getattr(self, name)
            if text is not None and not text.isascii():
                msgspec.structs.force_setattr(self, name, _whole_characters(text))


def _whole_characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Record(msgspec.Struct, frozen=True):
    """One scored reply to a question for one box, whole; a report can be made again from these."""

    index: Count
    task: str
    question: str
    images: Annotated[tuple[str, ...], Meta(min_length=1)]
    truth: tuple[float, float, float, float]
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


@dataclass(frozen=True, slots=True)
class Reading:
    """How replies are read: the protocol, and the box style that `strict` expects."""

    protocol: Protocol
    style: BoxStyle
    y_stretch: bool = False

    def __post_init__(self) -> None:
        if self.y_stretch and self.protocol == "strict":
            raise UserError(
                "--y-stretch belongs to --protocol published or univg-r1: strict moves no model's boxes. "
                "Drop it, or add one of them"
            )


def reading_named(protocol: str, style: str | None = None, y_stretch: bool = False) -> Reading:
    """The reading of a protocol and a box style by name; `UserError` for what is unknown or contradicts itself."""
    if protocol not in PROTOCOLS:
        raise UserError(unknown("protocol", protocol, PROTOCOLS))
    if style is not None and protocol != "strict":
        raise UserError(f"--style is for --protocol strict: {protocol} tries six spellings on every reply. Drop one")
    name = style or "qwen"
    if name not in STYLES:
        raise UserError(f"--style {name!r} is not known. Known: {', '.join(STYLES)}.{closest(name, STYLES)}")
    return Reading(protocol, STYLES[name], y_stretch)


Drawn = tuple[tuple[int, ...], tuple[float, float, float, float]]
"""(images it belongs to, as `images_of_box` says; box as fractions)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows of a record beside its question and its reply."""

    truths: Sequence[Drawn] = ()
    boxes: Sequence[Drawn] = ()
    """Of the reply."""
    answer: str = ""
    """The right answer, where it is a text."""
    remark: str = ""
    """How well the reply fits."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How the replies to one kind of question become records, and records become figures."""

    name: str
    """As in `SCORINGS`."""
    record: type[Any]
    """Of a reply: a struct with at least index, task, images, reply, outcome ("correct" where all is right), error."""
    outcomes: tuple[str, ...]
    score_one: Callable[[Any, Answer, Reading, SizeOf], Any]
    """(question, answer, reading, sizes) -> its record."""
    measures: Callable[[Sequence[Any]], dict[str, Measure]]
    """Of some records: each metric's values and sizes, row by row, as fractions."""
    show: Callable[[Any], Shown]
    """Of one record."""
    protocols: tuple[Protocol, ...] = PROTOCOLS
    has_boxes: bool = True
    """Whether replies hold boxes, so that a box style says how to read them."""
    counts: Callable[[Sequence[Any]], dict[str, int]] = lambda records: {}
    """What else is counted in a task."""
    chance: Callable[[Any], float] | None = None
    """A record's chance to be right by guessing, where that is known."""

    def check(self, reading: Reading) -> None:
        """Raise `UserError` for a reading that does not apply to this kind of question."""
        if reading.protocol not in self.protocols:
            raise UserError(f"--protocol {reading.protocol}: nothing is published for it; use {self.protocols[0]}")
        if reading.y_stretch and not self.has_boxes:
            raise UserError("--y-stretch moves boxes, and the answers here are options. Drop it")


def scoring_named(name: str) -> Scoring:
    """The scoring of that name in `SCORINGS`."""
    if name not in SCORINGS:
        raise UserError(unknown("scoring", name, SCORINGS))
    module, _, constant = SCORINGS[name].partition(":")
    scoring: Scoring = getattr(importlib.import_module(module), constant)
    return scoring


def score(
    bench: Benchmark,
    answers: Mapping[int, Answer],
    reading: Reading,
    *,
    partial: bool = False,
    size_of: SizeOf = lambda question, image: None,
) -> list[Any]:
    """A record for each question of the benchmark, in order.

    Questions without an answer count as failed, so that leaving out the hard ones gains nothing;
    with `partial` they are left out. For styles that count pixels, sizes are those that an answer
    gives, else what `size_of` gives.
    """
    bench.scoring.check(reading)
    missing = Answer(-1, error=NO_ANSWER)

    def seen(question: Any, image: int) -> Size | None:
        sizes = answers[question.index].sizes
        return size_of(question, image) if sizes is None else sizes[image]

    return [
        bench.scoring.score_one(question, answers.get(question.index, missing), reading, seen)
        for question in bench.questions
        if not partial or question.index in answers
    ]


NO_ANSWER = "no answer in the file"


def _score_box(question: Question, answer: Answer, reading: Reading, size_of: SizeOf) -> Record:
    if answer.response is None:
        found = _Found([], "failed")
    elif reading.protocol == "published":
        found = _read_published(answer.response, reading.y_stretch, question.truth)
    elif reading.protocol == "univg-r1":
        found = _read_univg_r1(answer.response, reading.y_stretch, question.truth)
    else:
        parsed = parse_boxes(answer.response, reading.style, partial(_size_at, question, size_of))
        found = _read_strict(parsed, question.target, len(question.images), question.truth)
    outcome = found.outcome
    if outcome == "correct" and found.iou < CORRECT_IOU:
        outcome = "wrong_box"
    return Record(
        index=question.index,
        task=question.task,
        question=question.text,
        images=question.images,
        truth=question.truth.as_tuple(),
        reply=answer.response,
        boxes=[box.as_tuple() for box in found.boxes],
        outcome=outcome,
        iou=found.iou,
        several=len(found.boxes) > 1,
        target=question.target,
        image=found.image,
        error=answer.error,
        seconds=answer.seconds,
        reasoning=answer.reasoning,
    )


def _size_at(question: Question, size_of: SizeOf, tied: int | None) -> Size | None:
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


def _read_strict(parsed: Parsed, target: int | None, count: int, truth: Box) -> _Found:
    chosen = parsed.pick(target)
    if chosen is None:
        return _Found([], "garbled" if parsed.status == "garbled" else "no_box")
    boxes = [chosen.box, *(mention.box for mention in parsed.mentions if mention is not chosen)]
    if chosen.status != "read":
        return _Found(boxes, chosen.status, chosen.image)
    if target is not None and target not in images_of_box(chosen.image, target, count):
        return _Found(boxes, "wrong_image", chosen.image)
    return _Found(boxes, "correct", chosen.image, chosen.box.iou(truth))


def _box_measures(records: Sequence[Record]) -> dict[str, Measure]:
    return {name: (column, None) for name, column in metric_columns([record.iou for record in records]).items()}


def _show_box(record: Record) -> Shown:
    count, remark = len(record.images), f"IoU {iou_text(record.iou)}"
    images = images_of_box(record.image, record.target, count)
    if record.image is not None and not images:
        remark += f", named for Image-{record.image + 1} of {count}, so not drawn"
    boxes = [(images, box) for box in record.boxes[:1]]
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

SCORINGS: dict[str, str] = {
    "boxes": "migician.benchmarks.scoring.scoring:BOXES",
    "choices": "migician.benchmarks.scoring.choices:CHOICES",
    "matching": "migician.benchmarks.scoring.matching:MATCHING",
}
"""Name, as reports hold it -> "module:constant", imported when it is needed."""


def write_records(stream: Any, records: Sequence[Any]) -> None:
    """Write records as JSON lines to a binary stream."""
    encoder = msgspec.json.Encoder()
    stream.writelines(encoder.encode(record) + b"\n" for record in records)
