"""What is wrong inside one sample: turns, marks, Qwen2-VL's tokens and boxes. Images are looked at elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migician.boxtext import BOX_END, BOX_START, parse_boxes
from migician.samples.layouts import ANSWERING, Record
from migician.samples.sample import IMAGE_MARK

# LLaMA-Factory counts these as media of the sample, anywhere in a text.
_MEDIA = re.compile(r"<video>|<audio>")
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|endoftext|(?:vision|quad)_(?:start|end)|(?:vision|image|video)_pad)\|>")

# How questions show the box format; these are not boxes. The second is the published prompt, with its typo.
_HINT = f"{BOX_START}(x1,y1),(x2,y2){BOX_END}"
_SLIP = f"{BOX_START}(x1,y1),(x2,y2){BOX_START}"

_TOKEN = re.compile(r"<\|(box|object_ref)_(start|end)\|>")
# Nearly all boxes; anything else goes to the parser, which says what is wrong with it.
_PLAIN = re.compile(r"\(([0-9]{1,4}),([0-9]{1,4})\),\(([0-9]{1,4}),([0-9]{1,4})\)")


def sample_faults(record: Record) -> Iterator[tuple[str, str]]:
    """(kind, value) of everything wrong with the structure of a sample; see `findings.KINDS`."""
    if record.id is None or record.id == "":
        yield "id_missing", ""
    turns = record.conversations
    if record.roles_fit:
        # LLaMA-Factory skips a sample with wrong roles, so nothing else matters.
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
        yield "image_count", f"{IMAGE_MARK} marks: {marks}, images: {len(record.images)}"


def _text_faults(text: str) -> Iterator[tuple[str, str]]:
    if not text.replace(IMAGE_MARK, "").strip():
        yield "empty_text", text
    if "<|" in text and (special := _SPECIAL.search(text)):
        yield "special_token", special[0]


def box_faults(text: str) -> Iterator[tuple[str, str]]:
    """(kind, value) of what is wrong with the boxes of `text`; nothing for a text without any.

    >>> list(box_faults("<|box_start|>(5,5),(5,9)<|box_end|>"))
    [('box_area', '(5,5),(5,9)')]
    """
    if "<|" not in text:
        return
    if _SLIP in text:
        yield "format_slip", _SLIP
    text = text.replace(_HINT, "").replace(_SLIP, "")
    opened: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        if token[2] == "start":
            if opened:
                yield "box_tokens", text[opened.start() : token.end()]
            opened = token
        elif opened is None or opened[1] != token[1]:
            yield "box_tokens", text[opened.start() if opened else token.start() : token.end()]
            opened = None
        else:
            inner = text[opened.end() : token.start()]
            fault = _box_fault(inner) if token[1] == "box" else ""
            if fault:
                yield fault, inner
            opened = None
    if opened:
        yield "box_tokens", text[opened.start() :]


def _box_fault(inner: str) -> str:
    plain = _PLAIN.fullmatch(inner)
    if plain:
        x1, y1, x2, y2 = map(int, plain.groups())
        if x1 < x2 <= 1000 and y1 < y2 <= 1000:
            return ""
    mentions = parse_boxes(inner).mentions
    if len(mentions) != 1 or mentions[0].span != (0, len(inner)):
        return "box_text"
    (mention,) = mentions
    if mention.status == "off_scale":
        return "box_scale"
    if mention.status == "garbled":
        return "box_text" if mention.box.is_ordered else "box_corners"
    return "" if mention.box.is_proper else "box_area"
