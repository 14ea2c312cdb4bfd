"""A sample as segments, with the image of every box: what any convention of boxes is read into and written from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from migician.boxes import Box
from migician.boxtext import BOX_START, QWEN, parse_boxes
from migician.samples.box_places import anchor, places
from migician.samples.conventions import SizeOf
from migician.samples.segments import Boxed, Segment, write_tokens


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A question and its answer."""

    question: list[Segment]
    answer: list[Segment]


class Dialogue(msgspec.Struct, frozen=True, gc=False):
    """One sample."""

    id: str | int
    images: list[str]
    type: str
    system: list[str]
    """The system texts that it begins with, usually none."""
    turns: list[Exchange]

    def boxed(self) -> Iterator[Boxed]:
        """All boxes of it, in order."""
        for turn in self.turns:
            yield from (one for one in (*turn.question, *turn.answer) if isinstance(one, Boxed))


def placed(dialogue: Dialogue) -> Dialogue:
    """`dialogue` with the image of each box that has none yet; None where the text does not say.

    A single image has them all.
    """
    if len(dialogue.images) == 1:
        return _with_turns(dialogue, [Exchange(_in(0, one.question), _in(0, one.answer)) for one in dialogue.turns])
    texts = [(write_tokens(_plain(one.question)), write_tokens(_plain(one.answer))) for one in dialogue.turns]
    first, _ = anchor(dialogue.type, dialogue.images, [question for question, _ in texts])
    turns = []
    for turn, (question, answer) in zip(dialogue.turns, texts, strict=True):
        given = _tied(dialogue, turn.question, question, question, given=True, first=first)
        turns.append(Exchange(given, _tied(dialogue, turn.answer, answer, question, given=False, first=first)))
    return _with_turns(dialogue, turns)


def scaled(dialogue: Dialogue, size_of: SizeOf) -> Dialogue:
    """A placed dialogue whose boxes are in pixels, with them as fractions.

    Raises ValueError for a box whose image is not known.
    """
    return _with_turns(
        dialogue,
        [Exchange(_scaled(one.question, size_of), _scaled(one.answer, size_of)) for one in dialogue.turns],
    )


def _with_turns(dialogue: Dialogue, turns: list[Exchange]) -> Dialogue:
    return replace(dialogue, turns=turns)


def _in(image: int, segments: Sequence[Segment]) -> list[Segment]:
    return [replace(one, image=image) if isinstance(one, Boxed) else one for one in segments]


def _plain(segments: Sequence[Segment]) -> list[Segment]:
    """Segments with boxes of which each is read, in place of any: the text around them tells their images."""
    return [replace(one, boxes=(_ANY,) * len(one.boxes)) if isinstance(one, Boxed) else one for one in segments]


_ANY = Box(0.0, 0.0, 1.0, 1.0)
_LENGTH = len(QWEN.write(_ANY))


def _tied(
    dialogue: Dialogue, segments: list[Segment], text: str, question: str, *, given: bool, first: int
) -> list[Segment]:
    """`segments` with the image of each box by the text around it; boxes that stand together are in one."""
    if not any(isinstance(one, Boxed) for one in segments):
        return segments
    # By where they stand: boxes in a thought are not read as mentions, and numbers in a text may be.
    mentions = {mention.span[0] - len(BOX_START): mention for mention in parse_boxes(text).mentions}
    placed: list[Segment] = []
    end = 0
    for one, plain in zip(segments, _plain(segments), strict=True):
        end += len(write_tokens([plain]))
        if not isinstance(one, Boxed) or one.image is not None:
            placed.append(one)
            continue
        said = [mentions.get(end - _LENGTH * number) for number in range(1, len(one.boxes) + 1)]
        found = {
            mention and places(dialogue.type, mention, text, question, len(dialogue.images), given=given, first=first)
            for mention in said
        }
        where = found.pop() if len(found) == 1 else None
        placed.append(replace(one, image=where[0] if where and len(where) == 1 else None))
    return placed


def _scaled(segments: Sequence[Segment], size_of: SizeOf) -> list[Segment]:
    made: list[Segment] = []
    for one in segments:
        if isinstance(one, Boxed):
            if one.image is None:
                raise ValueError("a box in pixels, and the text does not tell of which image")
            width, height = size_of(one.image)
            boxes = [Box(box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height) for box in one.boxes]
            one = replace(one, boxes=tuple(boxes))
        made.append(one)
    return made
