"""The records of ms-swift for grounding: boxes beside the conversation, marks where they belong in it.

{"messages": [{"role": "user", "content": "<image><image>Find <ref-object>."}, {"role": "assistant", "content":
"<bbox>"}], "images": ["a.jpg", "b.jpg"], "objects": {"ref": ["the dog"], "bbox": [[0.1, 0.2, 0.5, 0.9]], "bbox_type":
"norm1", "image_id": [1]}}. ms-swift puts in what the model it trains writes: tokens, JSON, pixels of the resized image.
Source: docs of modelscope/ms-swift, "Custom dataset"; swift/template/base.py of ms-swift 4.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from migician.boxes import Box
from migician.boxtext import NOTHING
from migician.samples.dialogue import Dialogue, Exchange
from migician.samples.segments import Absent, Boxed, Form, Phrase, Segment

SOURCE = 'docs of modelscope/ms-swift, "Custom dataset"'
REF, BBOX = "<ref-object>", "<bbox>"
_FORM = "[x1, y1, x2, y2]"
_ROLES = ("user", "assistant")


class Objects(msgspec.Struct):
    """What the marks of a record stand for, each kind in the order of its marks."""

    ref: list[str] = []
    bbox: list[list[float]] = []
    bbox_type: str = "real"
    """`norm1` for fractions, `real` for pixels of the image file."""
    image_id: list[int] = []
    """The image (0-based) of each box; ms-swift takes 0 where there is none."""


class Message(msgspec.Struct):
    """One utterance."""

    role: str
    content: str


class SwiftRecord(msgspec.Struct):
    """A record as ms-swift reads it; `id` and `type` are this project's and are carried along."""

    messages: list[Message]
    images: list[str] = []
    objects: Objects = msgspec.field(default_factory=Objects)
    id: str | int = ""
    type: str = ""


def write(dialogue: Dialogue) -> dict[str, Any]:
    """A placed dialogue as a record; boxes are fractions of three decimals, each with its image.

    Raises ValueError for a box whose image is not known, and for a text that holds one of the marks itself.
    """
    objects = Objects(bbox_type="norm1")
    messages = [Message("system", text) for text in dialogue.system]
    for turn in dialogue.turns:
        messages.append(Message("user", _content(turn.question, objects)))
        messages.append(Message("assistant", _content(turn.answer, objects)))
    record = SwiftRecord(messages, dialogue.images, objects, dialogue.id, dialogue.type)
    made: dict[str, Any] = msgspec.to_builtins(record)
    return made


def _content(segments: Sequence[Segment], objects: Objects) -> str:
    texts = []
    for one in segments:
        if isinstance(one, str):
            if REF in one or BBOX in one:
                raise ValueError(f"a text that holds {REF} or {BBOX} itself")
            texts.append(one)
        elif isinstance(one, Phrase):
            objects.ref.append(one.text)
            texts.append(REF)
        elif isinstance(one, Form):
            texts.append(_FORM)
        elif isinstance(one, Absent):
            texts.append(NOTHING)
        else:
            if one.label is not None:
                objects.ref.append(one.label)
                texts.append(REF)
            if one.image is None:
                raise ValueError("a box, and the text does not tell of which image")
            objects.bbox += [[round(value, 3) for value in box.as_tuple()] for box in one.boxes]
            objects.image_id += [one.image] * len(one.boxes)
            texts.append(BBOX * len(one.boxes))
    return "".join(texts)


@dataclass(slots=True)
class _Left:
    """What is left of a record's objects while its messages are read."""

    refs: Iterator[str]
    boxes: Iterator[tuple[Box, int]]


def read(record: SwiftRecord) -> Dialogue:
    """The dialogue of a record: the counterpart of `write`. Boxes of type `real` are in pixels still.

    Raises ValueError for more marks than objects, and for roles that do not take turns.
    """
    objects = record.objects
    images = objects.image_id + [0] * (len(objects.bbox) - len(objects.image_id))
    if not all(len(numbers) == 4 for numbers in objects.bbox):
        raise ValueError("a bbox that is not four numbers")
    if not all(0 <= image < max(1, len(record.images)) for image in images):
        raise ValueError(f"an image_id of none of its {len(record.images)} images")
    boxes = [(Box(*numbers), image) for numbers, image in zip(objects.bbox, images, strict=False)]
    left = _Left(iter(objects.ref), iter(boxes))
    spoken = [one for one in record.messages if one.role != "system"]
    if len(spoken) % 2 or any(one.role != _ROLES[number % 2] for number, one in enumerate(spoken)):
        raise ValueError("messages that are not of user and assistant in turn")
    texts = [_segments(one.content, left) for one in spoken]
    turns = [Exchange(asked, answered) for asked, answered in zip(texts[::2], texts[1::2], strict=True)]
    system = [one.content for one in record.messages if one.role == "system"]
    return Dialogue(record.id, record.images, record.type, system, turns)


_MARKS = re.compile(rf"(?P<label>{REF})?(?P<boxes>(?:{BBOX})+)|(?P<phrase>{REF})|(?P<form>{re.escape(_FORM)})")


def _segments(content: str, left: _Left) -> list[Segment]:
    if content == NOTHING:
        return [Absent()]
    segments: list[Segment] = []
    end = 0
    for match in _MARKS.finditer(content):
        if match.start() > end:
            segments.append(content[end : match.start()])
        end = match.end()
        try:
            segments += _objects(match, left)
        except StopIteration:
            raise ValueError("more marks than objects") from None
    return [*segments, content[end:]] if end < len(content) else segments


def _objects(match: re.Match[str], left: _Left) -> list[Segment]:
    if match["form"]:
        return [Form()]
    if match["phrase"]:
        return [Phrase(next(left.refs))]
    label = next(left.refs) if match["label"] else None
    made: list[Segment] = []
    for _ in range(match["boxes"].count(BBOX)):
        box, image = next(left.boxes)
        previous = made[-1] if made else None
        if isinstance(previous, Boxed) and previous.image == image:
            made[-1] = Boxed((*previous.boxes, box), previous.label, image)
        else:
            made.append(Boxed((box,), label if not made else None, image))
    return made
