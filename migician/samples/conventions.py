"""How the training data of a base model writes boxes: one entry a convention, each a reader and a writer of segments.

`qwen2_vl` is the form of MGrounding-630k, and of all that this project builds. Of the others, an answer that is nothing
but boxes becomes the JSON list that the makers of the base document. A box within a sentence stays there: in an answer
as such a list, in a question as the object that evaluation writes for the same family (`migician.boxtext.STYLES`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from migician.boxes import FARTHEST, Box, Size
from migician.boxtext import QWEN, STYLES, BoxStyle
from migician.samples.segments import Absent, Boxed, Form, Phrase, Segment, read_tokens, write_tokens

OBJECT = "object"
"""The label of a box where no reference is marked, or several are."""

SizeOf = Callable[[int], Size]
"""The size (width, height) in pixels that the model sees image (0-based) at."""


@dataclass(frozen=True, slots=True)
class JsonConvention:
    """Boxes as JSON objects."""

    name: str
    style: BoxStyle
    """The scale of the numbers, and how a box within a sentence is written."""
    key: str
    """The field that holds the four numbers."""
    fenced: bool
    """Whether an answer that is nothing but boxes stands in a fence (```json)."""
    source: str
    """Where the makers of the base document it."""

    @property
    def counts_pixels(self) -> bool:
        """Whether its numbers depend on the size that the model sees an image at."""
        return self.style.scale == "pixel"

    def write(self, question: Sequence[Segment], answer: Sequence[Segment], size_of: SizeOf) -> tuple[str, str]:
        """A question and its answer as text; `size_of` is asked by conventions in pixels only.

        A reference that is marked is put in quotes; the one of a question, or else of its answer, labels the boxes.
        """
        label = _label(question) or _label(answer) or OBJECT
        asked = "".join([self._within(one, None, size_of) for one in question])
        if list(answer) == [Absent()]:
            return asked, f"```json\n{self.style.absent}\n```" if self.fenced else self.style.absent
        listed = _listed(answer)
        if listed:
            return asked, self._list(listed, label, size_of)
        return asked, "".join([self._within(one, label, size_of) for one in answer])

    def read(self, question: str, answer: str) -> tuple[list[Segment], list[Segment]]:
        """The segments of a question and its answer; the counterpart of `write`, which takes any white space.

        Of a convention in pixels the boxes are in pixels still. Raises ValueError for a box without four numbers.
        """
        asked = self._segments(question)
        if self.style.is_absent(answer):
            return _asked_in_quotes(asked), [Absent()]
        answered = self._segments(answer)
        labels = {one.label for one in answered if isinstance(one, Boxed) and one.label is not None}
        label = labels.pop() if len(labels) == 1 else OBJECT
        quoted = f'"{label}"'
        if label == OBJECT or not any(isinstance(one, str) and quoted in one for one in (*asked, *answered)):
            return asked, [_unlabelled(one, OBJECT) for one in answered]
        return _marked(asked, label, quoted), [_unlabelled(one, label) for one in _marked(answered, label, quoted)]

    def _within(self, segment: Segment, label: str | None, size_of: SizeOf) -> str:
        """A segment among others; `label` is what the boxes of an answer are called, None in a question."""
        if isinstance(segment, str):
            return segment
        if isinstance(segment, Phrase):
            return f'"{segment.text}"'
        if isinstance(segment, Form):
            return self.form
        if isinstance(segment, Absent):
            return self.style.absent
        called = label if segment.label is None else segment.label
        objects = [self._object(box, called, None, segment.image, size_of) for box in segment.boxes]
        # A question's box as evaluation writes it; an answer's as readers of answers want it, who look for a list.
        return objects[0] if len(objects) == 1 and label is None else f"[{', '.join(objects)}]"

    @property
    def form(self) -> str:
        """The form of a box with letters for its numbers."""
        return f'{{"{self.key}": [x1, y1, x2, y2]}}'

    def _object(self, box: Box, label: str | None, shown: int | None, image: int | None, size_of: SizeOf) -> str:
        fields = [] if shown is None else [f'"image": {shown + 1}']
        fields.append(f'"{self.key}": [{", ".join(self.numbers(box, image, size_of))}]')
        if label is not None:
            fields.append(f'"label": {msgspec.json.encode(label).decode()}')
        return f"{{{', '.join(fields)}}}"

    def numbers(self, box: Box, image: int | None, size_of: SizeOf) -> list[str]:
        """The four numbers of `box`, which is in `image`; only conventions in pixels ask for a size.

        These raise ValueError where the image is not known.
        """
        if self.style.scale == "permille":
            return [str(number) for number in box.to_permille()]
        if self.style.scale == "fraction":
            return [f"{value:.{self.style.decimals}f}" for value in box.as_tuple()]
        if image is None:
            raise ValueError("a box whose image is not known has no pixels")
        width, height = size_of(image)
        x1, x2 = _whole(box.x1 * width, box.x2 * width, width)
        y1, y2 = _whole(box.y1 * height, box.y2 * height, height)
        return [str(x1), str(y1), str(x2), str(y2)]

    def _list(self, listed: list[tuple[int | None, Boxed]], label: str, size_of: SizeOf) -> str:
        objects = [
            self._object(
                box,
                label if boxed.label is None else boxed.label,
                shown,
                boxed.image if shown is None else shown,
                size_of,
            )
            for shown, boxed in listed
            for box in boxed.boxes
        ]
        if not self.fenced:
            return f"[{', '.join(objects)}]"
        lines = ",\n".join(f"\t{one}" for one in objects)
        return f"```json\n[\n{lines}\n]\n```"

    def _segments(self, text: str) -> list[Segment]:
        if self.key not in text:
            return [text] if text else []
        segments: list[Segment] = []
        end = 0
        for match in _JSON.finditer(text):
            found = self._found(match["json"])
            if not found:
                continue
            if match.start() > end:
                segments.append(text[end : match.start()])
            end = match.end()
            segments += found
        if end < len(text):
            segments.append(text[end:])
        return segments

    def _found(self, written: str) -> list[Segment]:
        """What a JSON list or object says; empty where it is no box."""
        if written == self.form:
            return [Form()]
        try:
            decoded: Any = msgspec.json.decode(written)
        except msgspec.DecodeError:
            return []
        items = decoded if isinstance(decoded, list) else [decoded]
        if not items or not all(isinstance(item, dict) and self.key in item for item in items):
            return []
        segments: list[Segment] = []
        previous: tuple[Any, Any] | None = None
        for item in items:
            shown, label = item.get("image"), item.get("label")
            if not isinstance(label, str | None):
                label = msgspec.json.encode(label).decode()
            box = self._box(item[self.key])
            if (shown, label) == previous and isinstance(segments[-1], Boxed):
                segments[-1] = Boxed((*segments[-1].boxes, box), segments[-1].label)
                continue
            if shown is not None:
                segments.append(("\n" if segments else "") + f"Image-{shown}: ")
            segments.append(Boxed((box,), label))
            previous = (shown, label)
        return segments

    def _box(self, numbers: Any) -> Box:
        if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(_is_coordinate, numbers)):
            raise ValueError(f'"{self.key}" must hold four numbers, not {str(numbers)[:60]}')
        width, height = self.style.extent((1, 1))
        x1, y1, x2, y2 = numbers
        return Box(x1 / width, y1 / height, x2 / width, y2 / height)


def _is_coordinate(number: Any) -> bool:
    return isinstance(number, int | float) and abs(number) <= FARTHEST


# No backslash outside quotes: else each of a row of unclosed objects would be read to the end of the text.
_OBJECT = r'\{(?:[^{}"\\]|"(?:[^"\\]|\\.)*+")*+\}'
_JSON = re.compile(
    rf"(?:```(?:json)?\s*+)?(?P<json>\[\s*+{_OBJECT}(?:\s*+,\s*+{_OBJECT})*+\s*+\]|{_OBJECT})(?:\s*+```)?"
)
NAMED = re.compile(r"Image-([1-9][0-9]{0,5}): ")


def _listed(answer: Sequence[Segment]) -> list[tuple[int | None, Boxed]]:
    """An answer of nothing but boxes: each with the image (0-based) that is named before it. Empty for others."""
    if len(answer) == 1 and isinstance(answer[0], Boxed):
        return [(None, answer[0])]
    listed: list[tuple[int | None, Boxed]] = []
    for number in range(0, len(answer) - 1, 2):
        name, boxed = answer[number : number + 2]
        if not (isinstance(name, str) and isinstance(boxed, Boxed)):
            return []
        named = NAMED.fullmatch(name[1:] if number and name[0] == "\n" else name if not number else "")
        if not named:
            return []
        listed.append((int(named[1]) - 1, boxed))
    return listed if len(answer) % 2 == 0 else []


def _label(segments: Sequence[Segment]) -> str | None:
    """The one reference that is marked apart from boxes; None without any, and where there are several."""
    label = None
    for one in segments:
        if isinstance(one, Phrase):
            if label not in (None, one.text):
                return None
            label = one.text
    return label


def phrase_asked(question: Sequence[Segment], answer: Sequence[Segment]) -> str | None:
    """What a question asks for, where it marks one reference and gives no box, and its answer is boxes of it alone."""
    if len(answer) != 1 or not isinstance(answer[0], Boxed) or any(isinstance(one, Boxed) for one in question):
        return None
    asked = _label(question)
    return asked if answer[0].label in (None, asked) else None


_QUOTED = re.compile(r'"([^"\n]+)"')


def _asked_in_quotes(asked: list[Segment]) -> list[Segment]:
    """A question with what it puts in quotes as a marked reference, if it is one: no box has it as its label."""
    quoted = {text for one in asked if isinstance(one, str) for text in _QUOTED.findall(one)}
    if len(quoted) != 1:
        return asked
    (label,) = quoted
    return _marked(asked, label, f'"{label}"')


def _unlabelled(segment: Segment, label: str) -> Segment:
    is_it = isinstance(segment, Boxed) and segment.label == label
    return Boxed(segment.boxes, None, segment.image) if is_it and isinstance(segment, Boxed) else segment


def _marked(found: list[Segment], label: str, quoted: str) -> list[Segment]:
    """`found` with the label in quotes as a marked reference again."""
    segments: list[Segment] = []
    for one in found:
        if not isinstance(one, str):
            segments.append(one)
            continue
        for number, piece in enumerate(one.split(quoted)):
            segments += [Phrase(label)] if number else []
            segments += [piece] if piece else []
    return segments


def _whole(start: float, end: float, side: int) -> tuple[int, int]:
    """Two coordinates in whole pixels; those that differ stay a pixel apart, within the image."""
    first, last = int(start + 0.5) if start >= 0 else -int(0.5 - start), int(end + 0.5) if end >= 0 else -int(0.5 - end)
    if first == last and start < end:
        return (first - 1, last) if last >= side else (first, last + 1)
    return first, last


class TokenConvention:
    """Qwen2-VL's tokens."""

    name = "qwen2_vl"
    style = QWEN
    counts_pixels = False
    source = "Michael4933/MGrounding-630k; the chat template of Qwen/Qwen2-VL-7B-Instruct"

    def write(self, question: Sequence[Segment], answer: Sequence[Segment], size_of: SizeOf) -> tuple[str, str]:
        """A question and its answer as text; no sizes are asked for."""
        return write_tokens(list(question)), write_tokens(list(answer))

    def read(self, question: str, answer: str) -> tuple[list[Segment], list[Segment]]:
        """The segments of a question and its answer."""
        return read_tokens(question), [Absent()] if answer == QWEN.absent else read_tokens(answer)


Convention = TokenConvention | JsonConvention

CONVENTIONS: dict[str, Convention] = {
    one.name: one
    for one in (
        TokenConvention(),
        JsonConvention("qwen2_5_vl", STYLES["qwen2.5-vl"], "bbox_2d", True, "QwenLM/Qwen3-VL#991"),
        JsonConvention("qwen3_vl", STYLES["qwen3-vl"], "bbox_2d", True, "QwenLM/Qwen3-VL#1721"),
        JsonConvention("fractions", STYLES["list-fraction"], "bbox", False, "the model cards of LiquidAI/LFM2-VL"),
    )
}
WORDINGS = {
    "qwen2_5_vl": "Locate {ref} in this image and output the bbox coordinates in JSON format.",
    "qwen3_vl": (
        'Locate every object that matches the description "{ref}" in the image. Report bbox coordinates in JSON format.'
    ),
}
"""The questions that the makers of base models document for a reference in one image; sources as above."""
MS_SWIFT = "ms-swift"
RECORD_STYLES = (*CONVENTIONS, MS_SWIFT)
"""What records can be converted from and to; ms-swift's are read and written by `migician.samples.ms_swift`."""
