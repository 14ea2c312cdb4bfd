"""The structure of one sample: turns, marks, tokens, boxes. Files are looked at elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from migician.checking.boxes import box_faults
from migician.samples import IMAGE_MARK

# LLaMA-Factory takes these for media of the sample, wherever they stand.
_MEDIA = re.compile(r"<video>|<audio>")
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|endoftext|(?:vision|quad)_(?:start|end)|(?:vision|image|video)_pad)\|>")


class Turn(msgspec.Struct, gc=False):
    """One utterance, of whatever role."""

    from_: str = msgspec.field(name="from")
    value: str


class Record(msgspec.Struct, gc=False):
    """A sample as it may come from anywhere; other fields are allowed."""

    conversations: list[Turn]
    images: list[str] = []
    id: str | int | None = None
    type: Any = ""


def sample_faults(record: Record) -> Iterator[tuple[str, str]]:
    """(kind, value) of all that is wrong with the structure of a sample; see `findings.KINDS`."""
    if record.id is None or record.id == "":
        yield "id_missing", ""
    turns = record.conversations
    spoken = turns[1:] if turns and turns[0].from_ == "system" else turns
    marks = 0
    for turn in spoken:
        here = turn.value.count(IMAGE_MARK)
        marks += here
        if here and turn.from_ == "gpt":
            yield "mark_in_answer", turn.value
    if marks != len(record.images):
        yield "image_count", f"{marks} {IMAGE_MARK} for {len(record.images)} images"
    roles = [turn.from_ for turn in spoken]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        yield "roles", ", ".join(turn.from_ for turn in turns) or "no turns"
    for turn in turns:
        yield from _text_faults(turn.value)


def _text_faults(text: str) -> Iterator[tuple[str, str]]:
    if not text.replace(IMAGE_MARK, "").strip():
        yield "empty_text", text
    media = _MEDIA.search(text)
    if media:
        yield "media_mark", media[0]
    if "<|" in text:
        special = _SPECIAL.search(text)
        if special:
            yield "special_token", special[0]
        yield from box_faults(text)
