"""The structure of one sample: turns, marks, tokens, boxes. Files are looked at elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migician.samples.layouts import ANSWERING, Record
from migician.samples.sample import IMAGE_MARK
from migician.training.check.data.boxes import box_faults

# LLaMA-Factory takes these for media of the sample, wherever they stand.
_MEDIA = re.compile(r"<video>|<audio>")
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|endoftext|(?:vision|quad)_(?:start|end)|(?:vision|image|video)_pad)\|>")


def sample_faults(record: Record) -> Iterator[tuple[str, str]]:
    """(kind, value) of all that is wrong with the structure of a sample; see `findings.KINDS`."""
    if record.id is None or record.id == "":
        yield "id_missing", ""
    turns = record.conversations
    if record.roles_fit:
        # What is skipped for its roles is not looked at any further, by LLaMA-Factory either.
        yield from _mark_faults(record)
    else:
        yield "roles", ", ".join(turn.from_ for turn in turns) or "no turns"
    for turn in turns:
        yield from _text_faults(turn.value)


def _mark_faults(record: Record) -> Iterator[tuple[str, str]]:
    """Marks of images and of other media; LLaMA-Factory counts those of all turns together."""
    turns = record.conversations
    spoken = turns[1:] if turns[0].from_ == "system" else turns
    marks = 0
    for turn in spoken:
        here = turn.value.count(IMAGE_MARK)
        marks += here
        if here and turn.from_ in ANSWERING:
            yield "mark_in_answer", turn.value
        media = _MEDIA.search(turn.value)
        if media:
            yield "media_mark", media[0]
    if marks != len(record.images):
        yield "image_count", f"{marks} {IMAGE_MARK} for {len(record.images)} images"


def _text_faults(text: str) -> Iterator[tuple[str, str]]:
    if not text.replace(IMAGE_MARK, "").strip():
        yield "empty_text", text
    if "<|" in text:
        special = _SPECIAL.search(text)
        if special:
            yield "special_token", special[0]
        yield from box_faults(text)
