"""Replies as other harnesses read them, by name, so that their figures can be made again from the same replies.

`lmms-eval` (0.7.3) and `vlmevalkit` (e8e78f05) have a rule of their own for options, `lmms-eval` another for each
benchmark. For boxes `lmms-eval` (`refcoco_grounding`) reads each box as pixels and as 0..1000 and takes whichever fits
the truth best; `vlmevalkit` (`RefCOCO`) tells the scale by the largest number. `oracle` is this guessing in full:
every box of a reply, on every scale, corners in any order, and of all the best. None of them is `strict`, which
never looks at the truth before it reads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from migician.boxes import Box, Size

_Numbers = tuple[float, float, float, float]

LMMS_EVAL_READS = "muirbench", "blink", "mantis", "vstar_bench"
"""Tasks of lmms-eval with a rule for options."""


def lmms_eval_option(task: str, reply: str, options: Sequence[str], gold: str) -> tuple[str | None, bool]:
    """What lmms-eval takes for the answer (a letter or a text; None where it finds none), and whether it is right."""
    return _OPTIONS[task](reply, options, gold)


def _muirbench(reply: str, options: Sequence[str], gold: str) -> tuple[str | None, bool]:
    """A capital with a full stop at the beginning, else all of the reply."""
    found = re.match(r"\s*([A-Z])\.", reply)
    said = found[1] if found else reply
    return said, said.lower().strip() == gold.lower().strip()


def _blink(reply: str, options: Sequence[str], gold: str) -> tuple[str | None, bool]:
    """A first line that is a letter; else the last "answer is X"; else the last "(X)"; else a letter that begins it."""
    text, letters = reply.strip(), ascii_uppercase[: len(options)] or ascii_uppercase
    line = text.split("\n", 1)[0].strip()
    alone = re.fullmatch(rf"\(?([{letters}])\)?[.\s:,)]*\n?", line, re.IGNORECASE) if len(line) <= 4 else None
    stated = re.findall(rf"answers?(?:\s+is)?\s*[:\-]?\s*\(?([{letters}])\)?(?![A-Za-z])", text, re.IGNORECASE)
    bracketed = re.findall(rf"\(([{letters}])\)", text)
    leading = re.match(rf"[(\s]*([{letters}])", text, re.IGNORECASE)
    said = alone[1] if alone else (stated or bracketed or [leading[1] if leading else ""])[-1]
    return said.upper() or None, said.upper() == gold.strip("()")


def _mantis(reply: str, options: Sequence[str], gold: str) -> tuple[str | None, bool]:
    """Of an answer that is announced, else of all of it, the first letter of any word; short answers whole."""
    low, said = reply.lower(), reply
    for sign in ("final answer:", "the answer is", "answer:"):
        if sign in low:
            said = reply[low.index(sign) + len(sign) :].strip()
            break
    wanted = gold.strip("()\n ")
    if not options:
        return said, wanted.lower() == said.lower()
    if len(wanted) != 1:
        wanted = next((letter for letter in wanted if letter.isalpha()), wanted)
    announced = re.match(r"Answer: ([A-Z])", said)
    letter = announced[1] if announced else next((one.upper() for one in said if one.isalpha()), None)
    if letter and ord(letter[0]) - ord("A") < len(options):
        return letter, letter == wanted.upper()
    place = ord(wanted.upper()) - ord("A") if len(wanted) == 1 else len(options)
    return reply, 0 <= place < len(options) and reply.strip() == options[place].strip()


def _vstar_bench(reply: str, options: Sequence[str], gold: str) -> tuple[str | None, bool]:
    """The first of five forms that fits, "begins with a letter A to D" before all others: so "Both ..." is B."""
    text = reply.strip().upper()
    forms = (
        r"^([A-D])\s*[.)\]]*",
        r"(?:THE\s+)?(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\s*(?:\.|\)|])",
        r"(?:^|\s)([A-D])(?:\s|$)",
    )
    found = next((match for match in (re.search(form, text, re.IGNORECASE) for form in forms) if match), None)
    letters = re.findall("[A-D]", text)
    said = found[1].upper() if found else letters[0] if len(letters) == 1 else None
    return said, said == gold.strip().upper()


_OPTIONS: dict[str, Callable[[str, Sequence[str], str], tuple[str | None, bool]]] = {
    "muirbench": _muirbench,
    "blink": _blink,
    "mantis": _mantis,
    "vstar_bench": _vstar_bench,
}

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_TO_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def vlmevalkit_option(reply: str, options: Sequence[str]) -> str | None:
    """The letter that VLMEvalKit takes without a judge, "Z" where it takes the reply for a refusal; None for none.

    One letter among the last four words, or the only one; else "answer is X"; else the only option whose text is in it.
    """
    letters = ascii_uppercase[: len(options)]
    if "Failed to obtain answer via API" not in reply:
        if any(refusal in reply for refusal in _REFUSALS):
            return "Z"
        words = reply.translate(_TO_BLANKS).split()
        named = [letter for letter in letters if letter in words]
        if len(named) == 1 and words.index(named[0]) > len(words) - 5:
            return named[0]
        if not named and "Z" in words:
            return "Z"
        stated = re.search(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", reply, re.IGNORECASE)
        if stated and stated[1].upper() in letters:
            return stated[1].upper()
    low = reply.lower()
    if len(low) > 2 * sum(map(len, options)):
        return None
    within = [letter for letter, option in zip(letters, options, strict=True) if option.lower() in low]
    return within[0] if len(within) == 1 else None


_NUMBER = r"(-?(?<!\d)\d++(?:\.\d++)?)"
_FOUR = re.compile(_NUMBER + rf"(?:\s*+,\s*+|\s++){_NUMBER}" * 3)
_BOX_KEYS = ("bbox_2d", "bbox", "box", "coordinates", "coord", "location", "position")


def lmms_eval_boxes(reply: str) -> list[_Numbers]:
    """The boxes that lmms-eval finds, as written: all in its JSON, else every four numbers with commas or blanks."""
    boxes = list(_in_json(_json_of(reply.strip())))
    return boxes or [_four(match.groups()) for match in _FOUR.finditer(reply)]


def _json_of(text: str) -> Any:
    """The first that is JSON of: a fenced block, the whole text, from the first "[" to the last "]", "{" to "}"."""
    _, begun, rest = text.partition("```")
    fenced, ended, _ = rest.partition("```")
    pieces = [fenced[4:] if fenced[:4].lower() == "json" else fenced] if begun and ended else []
    pieces.append(text)
    for begin, end in ("[]", "{}"):
        first, last = text.find(begin), text.rfind(end)
        if first != -1 and last > first:
            pieces.append(text[first : last + 1])
    for piece in pieces:
        try:
            return json.loads(piece)
        except (ValueError, RecursionError):
            continue
    return None


def _in_json(value: Any) -> Iterator[_Numbers]:
    """Every list of four numbers, and every box under a name for one, in order."""
    if isinstance(value, list):
        if len(value) == 4 and all(isinstance(one, int | float) for one in value):
            if box := _readable(value):
                yield box
        else:
            for one in value:
                yield from _in_json(one)
    elif isinstance(value, dict):
        for key in _BOX_KEYS:
            inner = value.get(key)
            if isinstance(inner, list) and len(inner) == 4 and (box := _readable(inner)):
                yield box
                return
        for one in value.values():
            yield from _in_json(one)


def _readable(values: Sequence[Any]) -> _Numbers | None:
    try:
        box = _four(values)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if any(map(math.isnan, box)) else box


def _four(values: Sequence[Any]) -> _Numbers:
    x1, y1, x2, y2 = map(float, values)
    return x1, y1, x2, y2


_ANY_NUMBER = r"([-+]?(?:\d++(?:\.\d++)?|\.\d++)(?:[eE][-+]?\d++)?)"
_LIST = re.compile(rf"\[\s*+{_ANY_NUMBER}" + rf"(?:\s*+,\s*+|\s++){_ANY_NUMBER}" * 3 + r"\s*+\]")


def vlmevalkit_box(reply: str, size: Size) -> Box | None:
    """The box that VLMEvalKit reads for RefCOCO: the first list of four numbers, else the first four of the reply.

    Numbers up to 1.5 are fractions, up to 1000 are 0..1000, others pixels of `size`. It is cut to the image, and
    corners are swapped where they stand in the wrong order.
    """
    found = _LIST.search(reply)
    numbers = [float(one) for one in (found.groups() if found else re.findall(_ANY_NUMBER, reply)[:4])]
    if len(numbers) < 4:
        return None
    largest = max(map(abs, numbers))
    scale = (1.0, 1.0) if largest <= 1.5 else (1000.0, 1000.0) if largest <= 1000 else size
    return _upright(min(max(value / scale[place % 2], 0.0), 1.0) for place, value in enumerate(numbers))


def _upright(values: Iterator[float]) -> Box:
    x1, y1, x2, y2 = values
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


_ANY_FOUR = re.compile(rf"(?={_NUMBER}" + rf"[\s,()\[\]<>\"']{{1,8}}+{_NUMBER}" * 3 + ")")


def lmms_eval_readings(reply: str, size: Size | None) -> list[Box]:
    """Each box that lmms-eval finds, read as pixels of `size` and as 0..1000."""
    found = []
    for numbers in lmms_eval_boxes(reply):
        found += [_over(numbers, size)] if size else []
        found.append(_over(numbers, (1000, 1000)))
    return found


def oracle_readings(reply: str, size: Size | None) -> list[Box]:
    """Every four numbers in a row, corners put in order, as 0..1000, as fractions, and as pixels of `size`."""
    found = []
    for match in _ANY_FOUR.finditer(reply):
        numbers = _four(match.groups())
        scales = [(1000, 1000), (1, 1), *([size] if size else [])]
        found += [_upright(iter(_over(numbers, scale).as_tuple())) for scale in scales]
    return found


def _over(numbers: _Numbers, size: Size) -> Box:
    width, height = size
    x1, y1, x2, y2 = numbers
    return Box(x1 / width, y1 / height, x2 / width, y2 / height)


def vlmevalkit_readings(reply: str, size: Size | None) -> list[Box]:
    """The one box that VLMEvalKit reads, as a list."""
    box = vlmevalkit_box(reply, size or (1, 1))
    return [] if box is None else [box]


BOX_READINGS: dict[str, Callable[[str, Size | None], list[Box]]] = {
    "oracle": oracle_readings,
    "lmms-eval": lmms_eval_readings,
    "vlmevalkit": vlmevalkit_readings,
}
"""Protocol -> the boxes that a reply may mean; the one that fits the truth best is scored."""
