"""Plain turns from Qwen2-VL's tokens into JSON on a scale of the image, by their text alone.

The long way reads a turn into segments and writes these (`migician.samples.conventions`). Here the tokens are replaced
in one pass over the text, several times as fast and with the same result; what is not plain is left to the long way.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

from migician.boxes import Box, Size
from migician.errors import NOT_JSON
from migician.samples.conventions import CONVENTIONS, NAMED, OBJECT, JsonConvention, TokenConvention
from migician.samples.sample import Sample, Turn
from migician.samples.segments import FORM

# A reference with a box right behind it is not plain.
_MARKS = re.compile(
    r"<\|(?:object_ref_start\|>([^<]+)<\|object_ref_end\|>(?!<\|box)"
    r"|box_start\|>\(([0-9]{1,4}),([0-9]{1,4})\),\(([0-9]{1,4}),([0-9]{1,4})\)<\|box_end\|>)"
)
_encode = msgspec.json.Encoder().encode


class PlainTurns:
    """Writes turns in one convention, whose numbers must not be pixels."""

    def __init__(self, convention: JsonConvention) -> None:
        self._fence = ("```json\n[\n\t", ",\n\t", "\n]\n```") if convention.fenced else ("[", ", ", "]")
        self._form, self._key = convention.form, f'"{convention.key}": ['
        self._numbers: dict[str, str] = {}
        for number in range(1001):
            box = Box.from_permille(number, number, number, number)
            self._numbers[str(number)] = convention.numbers(box, None, _no_size)[0]

    def write(self, asked: str, answered: str) -> tuple[str, str, bool] | None:
        """A question and its answer in the convention, and whether marked references are lost; None if not plain."""
        both = asked + answered
        if '"' in both or "[" in both or "{" in both or "`" in both:  # may be read as more than text
            return None
        if "<|" not in both:
            return asked, answered, False
        # Texts alternate with what is marked: a reference, or the four numbers of a box.
        question, answer = _MARKS.split(asked), _MARKS.split(answered)
        names = {*question[1::6], *answer[1::6]}
        names.discard(None)
        label = OBJECT
        if len(names) == 1:
            (label,) = names
            if label == OBJECT or not any(answer[2::6]):
                return None
        elif names:
            given, found = ({*pieces[1::6]} - {None} for pieces in (question, answer))
            (label,) = given if len(given) == 1 else found if len(found) == 1 else [OBJECT]
        end = f'], "label": {_encode(label).decode()}}}'
        try:
            asked = self._sentence(question, "]}", "") if len(question) > 1 else asked
            answered = self._listed(answer, end) or self._sentence(answer, end, "[")
        except KeyError:  # not a number from 0 to 1000 as it is usually written
            return None
        if "<|" in asked or "<|" in answered:
            asked, answered = asked.replace(FORM, self._form), answered.replace(FORM, self._form)
            if "<|" in asked or "<|" in answered:  # tokens in another form or order
                return None
        return asked, answered, len(names) > 1

    def sample(self, content: bytes) -> tuple[Sample, int] | None:
        """A record of plain turns in the convention, and how many turns lose marked references; None for any other."""
        try:
            given = STRICT.decode(content)
        except NOT_JSON:
            return None
        said = given.conversations
        turns: list[Turn] = []
        lossy = 0
        for asked, answered in zip(said[::2], said[1::2], strict=False):
            fits = asked.from_ == "human" and answered.from_ == "gpt"
            written = self.write(asked.value, answered.value) if fits else None
            if not written:
                return None
            turns += (Turn("human", written[0]), Turn("gpt", written[1]))
            lossy += written[2]
        if not turns or len(turns) != len(said):
            return None
        return Sample(given.id, given.images, turns, given.type), lossy

    def _sentence(self, pieces: list[Any], end: str, opening: str) -> str:
        """A text with its boxes where they stand; several together are a list, and with an `opening` any are."""
        numbers, key = self._numbers, self._key
        made, objects = str(pieces[0]), list[str]()
        for at in range(1, len(pieces), 6):
            name, x1, y1, x2, y2, text = pieces[at : at + 6]
            if name is not None:
                made += f'"{name}"{text}'
                continue
            objects.append(f"{{{key}{numbers[x1]}, {numbers[y1]}, {numbers[x2]}, {numbers[y2]}{end}")
            if text or at + 6 == len(pieces) or pieces[at + 6] is not None:
                listed = opening or len(objects) > 1
                made += f"[{', '.join(objects)}]{text}" if listed else objects[0] + text
                objects.clear()
        return made

    def _listed(self, pieces: list[Any], end: str) -> str:
        """An answer of nothing but boxes, or of the images that are named and their boxes; empty for others."""
        if pieces[-1] or len(pieces) == 1:
            return ""
        numbers, key = self._numbers, self._key
        objects: list[str] = []
        shown = ""
        for at in range(0, len(pieces) - 1, 6):
            text, name, x1, y1, x2, y2 = pieces[at : at + 6]
            if name is not None:
                return ""
            if text:
                named = NAMED.fullmatch(text[1:] if at and text[0] == "\n" else "" if at else text)
                if not named or (at and not shown):
                    return ""
                shown = f'"image": {named[1]}, '
            objects.append(f"{{{shown}{key}{numbers[x1]}, {numbers[y1]}, {numbers[x2]}, {numbers[y2]}{end}")
        first, between, last = self._fence
        return f"{first}{between.join(objects)}{last}"


def _no_size(image: int) -> Size:
    raise ValueError(f"asked for the size of image {image}")


@functools.cache
def plain_turns(source: str, target: str) -> PlainTurns | None:
    """What writes plain turns of one convention in another; None where their text alone does not say how."""
    into = CONVENTIONS.get(target)
    if source != TokenConvention.name or not isinstance(into, JsonConvention) or into.counts_pixels:
        return None
    return PlainTurns(into)


class _StrictTurn(Turn, frozen=True, forbid_unknown_fields=True):
    pass


class _StrictSample(Sample, frozen=True, forbid_unknown_fields=True):
    conversations: list[_StrictTurn]  # type: ignore[assignment]  # a list of these is only read


STRICT = msgspec.json.Decoder(_StrictSample)
"""Reads what is a sample in every detail, and refuses a record with any other field."""
