"""A conversation's text as segments: plain text, marked references and boxes, however a model family writes these.

Every convention reads text into segments and writes segments as text (`migician.samples.conventions`), so any two of
them convert into each other. Boxes are fractions of their image here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migician.boxes import Box
from migician.boxtext import BOX_END, BOX_START, QWEN, reference


@dataclass(frozen=True, slots=True)
class Phrase:
    """A marked reference that no box follows at once, as questions have it: the words that say what is meant."""

    text: str


@dataclass(frozen=True, slots=True)
class Boxed:
    """Boxes that stand together, with the marked reference right before them."""

    boxes: tuple[Box, ...]
    label: str | None = None
    """The reference; None where none is marked."""
    image: int | None = None
    """The image (0-based) that the boxes are in; set by the conversion where a convention asks for it."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a box with letters for its numbers, as questions show which form they want."""


Segment = str | Phrase | Boxed | Form

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_REST = rf"box_start\|>\({_NUMBER},{_NUMBER}\),\({_NUMBER},{_NUMBER}\)<\|box_end\|>"
_FORM = f"{BOX_START}(x1,y1),(x2,y2){BOX_END}"
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
    segments: list[Segment] = []
    end = 0
    for match in _MARKED.finditer(text):
        if match.start() > end:
            segments.append(text[end : match.start()])
        end = match.end()
        label, labelled, boxes = match.groups()
        if written := labelled or boxes:
            found = tuple([Box.from_permille(*map(float, four)) for four in _FOUR.findall(written)])
            segments.append(Boxed(found, label))
        else:
            segments.append(Form() if label is None else Phrase(label))
    if end < len(text):
        segments.append(text[end:])
    return segments


def write_tokens(segments: list[Segment]) -> str:
    """The text of segments with Qwen2-VL's tokens; numbers are rounded to 0..1000."""
    return "".join(map(_written, segments))


def _written(segment: Segment) -> str:
    if isinstance(segment, str):
        return segment
    if isinstance(segment, Boxed):
        label = "" if segment.label is None else reference(segment.label)
        return label + "".join(QWEN.write(box) for box in segment.boxes)
    return reference(segment.text) if isinstance(segment, Phrase) else _FORM
