"""A conversation's text as segments: plain text, marked references and boxes, however a model family writes these.

Every convention reads text into segments and writes segments as text (`migician.samples.conventions`), so any two of
them convert into each other. Boxes are fractions of their image here.
"""

from __future__ import annotations

import re

import msgspec

from migician.boxes import Box
from migician.boxtext import BOX_END, BOX_START, QWEN, reference


class Phrase(msgspec.Struct, frozen=True, gc=False):
    """A marked reference that no box follows at once, as questions have it: the words that say what is meant."""

    text: str


class Boxed(msgspec.Struct, frozen=True, gc=False):
    """Boxes that stand together, with the marked reference right before them."""

    boxes: tuple[Box, ...]
    label: str | None = None
    """The reference; None where none is marked."""
    image: int | None = None
    """The image (0-based) that the boxes are in; set by the conversion where a convention asks for it."""


class Form(msgspec.Struct, frozen=True, gc=False):
    """The form of a box with letters for its numbers, as questions show which form they want."""


class Absent(msgspec.Struct, frozen=True, gc=False):
    """That nothing is there: the whole of an answer to a question for what is in none of the images."""


Segment = str | Phrase | Boxed | Form | Absent

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_REST = rf"box_start\|>\({_NUMBER},{_NUMBER}\),\({_NUMBER},{_NUMBER}\)<\|box_end\|>"
FORM = f"{BOX_START}(x1,y1),(x2,y2){BOX_END}"
# Begins with the characters that all tokens begin with: a search skips to them.
_MARKED = re.compile(
    rf"<\|(?:object_ref_start\|>(?P<label>[^<]*+(?:<(?!\|object_ref_)[^<]*+)*+)<\|object_ref_end\|>"
    rf"(?P<labelled>(?:<\|{_REST})++)?|(?P<boxes>{_REST}(?:<\|{_REST})*+)|box_start\|>\(x1,y1\),\(x2,y2\)<\|box_end\|>)"
)
_FOUR = re.compile(rf"\(({_NUMBER}),({_NUMBER})\),\(({_NUMBER}),({_NUMBER})\)")


def read_tokens(text: str) -> list[Segment]:
    """The segments of a text with Qwen2-VL's tokens, as MGrounding-630k and all data of this project has it.

    Tokens in any other order or form stay text, so `write_tokens` gives the text back.

    >>> read_tokens("The <|object_ref_start|>dog<|object_ref_end|><|box_start|>(0,0),(500,1000)<|box_end|>.")
    ['The ', Boxed(boxes=(Box(x1=0.0, y1=0.0, x2=0.5, y2=1.0),), label='dog', image=None), '.']
    """
    if "<|" not in text:
        return [text] if text else []
    # Texts alternate with three groups of what is marked: a label, boxes right behind it, boxes without one.
    pieces = _MARKED.split(text)
    segments: list[Segment] = [pieces[0]] if pieces[0] else []
    for number in range(1, len(pieces), 4):
        label, labelled, boxes, plain = pieces[number : number + 4]
        if written := labelled or boxes:
            segments.append(Boxed(tuple([_box(*four) for four in _FOUR.findall(written)]), label))
        else:
            segments.append(Form() if label is None else Phrase(label))
        if plain:
            segments.append(plain)
    return segments


def _box(x1: str, y1: str, x2: str, y2: str) -> Box:
    return Box(float(x1) / 1000, float(y1) / 1000, float(x2) / 1000, float(y2) / 1000)


def write_tokens(segments: list[Segment]) -> str:
    """The text of segments with Qwen2-VL's tokens; numbers are rounded to 0..1000."""
    return "".join(map(_written, segments))


def _written(segment: Segment) -> str:
    if isinstance(segment, str):
        return segment
    if isinstance(segment, Boxed):
        label = "" if segment.label is None else reference(segment.label)
        return label + "".join(QWEN.write(box) for box in segment.boxes)
    if isinstance(segment, Absent):
        return QWEN.absent
    return reference(segment.text) if isinstance(segment, Phrase) else FORM
