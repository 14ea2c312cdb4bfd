"""What multiple-choice benchmarks say alike: options with letters, images where the text marks them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from migician.boxtext import plain
from migician.samples.sample import IMAGE_MARK

LETTER_ONLY = "Answer with the option's letter from the given choices directly."
"""The sentence that lmms-eval and VLMEvalKit put behind the options."""

_OWN_LETTER = re.compile(r"\s*\(?(?P<letter>[A-Z])[).:]\s*")


def lettered(options: Sequence[str]) -> str:
    """Options as lines "A. ...".

    >>> lettered(["red", "blue"])
    'A. red\\nB. blue'
    """
    return "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters that they carry themselves, where all of them do in order.

    >>> without_letters(["(A) red", "(B) blue"]), without_letters(["A. Smith", "C. Jones"])
    (('red', 'blue'), ('A. Smith', 'C. Jones'))
    """
    marks = [_OWN_LETTER.match(option) for option in options]
    if all(mark and mark["letter"] == letter for mark, letter in zip(marks, ascii_uppercase, strict=False)):
        return tuple(option[mark.end() :] for option, mark in zip(options, marks, strict=True) if mark)
    return tuple(options)


def place_of(letter: str, options: Sequence[str]) -> int | None:
    """The option (0-based) that a letter such as "B" or "(B)" stands for; None where it is none of them."""
    bare = letter.strip().strip("().:").strip()
    place = ascii_uppercase.find(bare) if len(bare) == 1 else -1
    return place if 0 <= place < len(options) else None


def in_place(text: str, images: int) -> str:
    """A text with its `<image>` marks where there is one for each image, else without; tokens of models are defused."""
    if text.count(IMAGE_MARK) != images:
        text = text.replace(IMAGE_MARK, "").strip()
    return IMAGE_MARK.join(plain(part) for part in text.split(IMAGE_MARK))


def name_images(texts: Sequence[str], first: int) -> tuple[str, ...]:
    """Texts with the number of the image in place of each mark; `first` marks stand before them.

    >>> name_images(["<image>", "<image> upside down"], 1)
    ('Image-2', 'Image-3 upside down')
    """
    named = []
    for text in texts:
        head, *rest = text.split(IMAGE_MARK)
        for part in rest:
            first += 1
            head += f"Image-{first}{part}"
        named.append(head)
    return tuple(named)
