"""Boxes and references in the text of one turn: do the tokens pair, and is every box one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migician.boxtext import BOX_END, BOX_START, parse_boxes

# How questions show the wanted form: no boxes. The second is the published prompt, with its slip.
_HINT = f"{BOX_START}(x1,y1),(x2,y2){BOX_END}"
_SLIP = f"{BOX_START}(x1,y1),(x2,y2){BOX_START}"

_TOKEN = re.compile(r"<\|(box|object_ref)_(start|end)\|>")
# What nearly all boxes are; anything else goes to the parser, which knows what is wrong with it.
_PLAIN = re.compile(r"\(([0-9]{1,4}),([0-9]{1,4})\),\(([0-9]{1,4}),([0-9]{1,4})\)")


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
