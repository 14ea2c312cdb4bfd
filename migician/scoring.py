"""Replies -> records: what each reply says, and how well it overlaps the truth.

`strict` is how this project reads a reply: the declared box style, the final answer only,
nothing repaired, and every way to miss counted apart. `published` is the rule set of the
published script, for comparison with papers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from migician.benchmarks.mig_bench import MigBench, Question
from migician.benchmarks.published import find_boxes, stretch_y
from migician.boxes import Box, Size
from migician.boxtext import BoxStyle, Parsed, parse_boxes
from migician.errors import UserError

Outcome = Literal["correct", "wrong_box", "wrong_image", "no_box", "garbled", "off_scale", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong_box", "wrong_image", "no_box", "garbled", "off_scale", "failed")
CORRECT_IOU = 0.5

Protocol = Literal["strict", "published"]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reply of a model, as answer files hold it, one JSON line each."""

    index: int
    response: str | None = None
    task: str | None = None
    error: str | None = None
    """Why there is no reply, where the model failed."""
    seconds: float | None = None
    sizes: tuple[Size, ...] | None = None
    """(width, height) of each image as the model saw it, where the family's boxes count those pixels."""


class Record(msgspec.Struct, frozen=True):
    """One scored reply, whole; a report can be made again from these."""

    index: int
    task: str
    question: str
    images: tuple[str, ...]
    truth: tuple[float, float, float, float]
    reply: str | None
    boxes: list[tuple[float, float, float, float]]
    """The boxes read, as fractions; under `strict` the one that was scored comes first."""
    outcome: Outcome
    iou: float
    several: bool
    """Whether the reply held more than one box."""
    target: int | None
    """The image (0-based) the true box is in, where known."""
    image: int | None
    """The image the reply clearly names for its box, where it does."""
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How replies are read: the protocol, and the box style that `strict` expects."""

    protocol: Protocol
    style: BoxStyle
    y_stretch: bool = False

    def __post_init__(self) -> None:
        if self.y_stretch and self.protocol != "published":
            raise UserError(
                "--y-stretch belongs to --protocol published: no other protocol moves a model's boxes. "
                "Drop it, or add --protocol published"
            )


def read_answers(path: str | Path, bench: MigBench) -> dict[int, Answer]:
    """The answers of a JSON-lines file by row of the benchmark file.

    Raises `UserError` naming the file, the line and the cure for: a line that is not JSON, a
    missing field, a reply that is not text, an index outside the benchmark or given twice, a
    task that is not the row's (answers to another file), and a file without answers.
    """
    file = Path(path)
    answers: dict[int, Answer] = {}
    lines: dict[int, int] = {}
    for number, answer in _answers(file):
        place = f"{file}:{number}"
        if not 0 <= answer.index < len(bench.questions):
            raise UserError(
                f"{place}: index {answer.index} is not a row of {bench.path} (0 to {len(bench.questions) - 1}). "
                "Is this the file the answers were made for?"
            )
        if answer.index in lines:
            raise UserError(
                f"{place}: index {answer.index} was answered in line {lines[answer.index]} already. "
                "Keep one answer a row"
            )
        expected = bench.questions[answer.index].task
        if answer.task is not None and answer.task != expected:
            raise UserError(
                f"{place}: task {answer.task!r}, but row {answer.index} of {bench.path} is {expected!r}. "
                "The answers belong to another benchmark file"
            )
        lines[answer.index] = number
        answers[answer.index] = answer
    if not answers:
        raise UserError(f'{file}: holds no answer; expected lines like {{"index": 0, "response": "..."}}')
    return answers


def _answers(file: Path) -> Iterator[tuple[int, Answer]]:
    decoder = msgspec.json.Decoder(Answer)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            answer = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(
                f'{file}:{number}: {error}; expected {{"index": row, "response": "text"}} on one line'
            ) from None
        if answer.response is None and answer.error is None:
            raise UserError(
                f'{file}:{number}: "response" is missing or null; give the reply as text, '
                'or "error" with the reason there is none'
            )
        yield number, answer


def score(
    bench: MigBench,
    answers: Mapping[int, Answer],
    reading: Reading,
    *,
    partial: bool = False,
    sizes: Mapping[int, Size] | None = None,
) -> list[Record]:
    """A record for each row of the benchmark, in order.

    Rows without an answer count as failed, so that leaving out the hard ones gains nothing;
    with `partial` they are left out. `sizes` gives the size (width, height) of the image that
    holds each row's box, for styles that count pixels.
    """
    questions = (question for question in bench.questions if not partial or question.index in answers)
    missing = Answer(-1, error="no answer in the file")
    return [
        _score_one(question, answers.get(question.index, missing), reading, (sizes or {}).get(question.index))
        for question in questions
    ]


def _score_one(question: Question, answer: Answer, reading: Reading, size: Size | None) -> Record:
    if answer.response is None:
        found = _Found([], "failed", None)
    elif reading.protocol == "published":
        found = _read_published(answer.response, reading.y_stretch)
    else:
        found = _read_strict(parse_boxes(answer.response, reading.style, size), question.target)
    overlap = found.boxes[0].iou(question.truth) if found.boxes and found.outcome in ("correct", "wrong_box") else 0.0
    outcome = found.outcome
    if outcome == "correct" and overlap < CORRECT_IOU:
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
        iou=overlap,
        several=len(found.boxes) > 1,
        target=question.target,
        image=found.image,
        error=answer.error,
        seconds=answer.seconds,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    boxes: Sequence[Box]
    outcome: Outcome
    """"correct" stands for a readable box that remains to be compared."""
    image: int | None


def _read_published(reply: str, y_stretch: bool) -> _Found:
    boxes = find_boxes(reply)
    if y_stretch and len(boxes) == 1:
        boxes = [stretch_y(boxes[0])]
    return _Found(boxes, "correct" if boxes else "no_box", None)


def _read_strict(parsed: Parsed, target: int | None) -> _Found:
    chosen = parsed.pick(target)
    if chosen is None:
        return _Found([], "garbled" if parsed.status == "garbled" else "no_box", None)
    boxes = [chosen.box, *(mention.box for mention in parsed.mentions if mention is not chosen)]
    if chosen.status != "read":
        return _Found(boxes, chosen.status, chosen.image)
    if target is not None and chosen.image is not None and chosen.image != target:
        return _Found(boxes, "wrong_image", chosen.image)
    return _Found(boxes, "correct", chosen.image)


def write_records(stream: Any, records: Sequence[Record]) -> None:
    """Write records as JSON lines to a binary stream."""
    encoder = msgspec.json.Encoder()
    stream.writelines(encoder.encode(record) + b"\n" for record in records)


def read_records(path: str | Path) -> list[Record]:
    """The records of a `records.jsonl`; raises `UserError` naming file and line of what is none."""
    file = Path(path)
    decoder = msgspec.json.Decoder(Record)
    records = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}. Make it with: migician score or eval") from None
    for number, line in enumerate(lines, start=1):
        try:
            records.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise UserError(f"{file}:{number}: not a record: {error}") from None
    return records
