"""What an answer may say before its box: the way to it, step by step, from the annotations alone.

Source: arXiv 2501.05767, section 4.1, where some answers reason before the box. Each text ends by naming the image
that the box is in, so that it also answers a question that asks for the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from migician.boxes import Box
from migician.imagenames import ordinal
from migician.sources.index.scenes import Scenes
from migician.tasks.naming import with_article

_LISTED = 3
"""Kinds of objects that are listed per image, not counting those that matter."""
_ROWS, _COLUMNS = ("at the top", "", "at the bottom"), ("left", "", "right")


def contents(scenes: Scenes, images: Sequence[int], needed: set[int]) -> str:
    """What each of `images` shows: some of its labels, those of `needed` (numbers) always among them."""
    sentences, needed = [], needed - {scenes.nameless}
    for position, image in enumerate(images, start=1):
        labels = scenes.labels_in(image)
        shown = sorted(needed.intersection(labels), key=labels.index)
        for label in labels:
            if len(shown) >= _LISTED:
                break
            if label not in shown and label != scenes.nameless:
                shown.append(label)
        if shown:
            names = _listed([with_article(scenes.labels[label]) for label in shown])
            sentences.append(f"Image-{position} shows {names}.")
    return " ".join(sentences)


def only_there(shown: str, what: str, position: int) -> str:
    """That nothing but one image shows `what`, after `shown`, the contents of all."""
    return f"{shown} Only the {ordinal(position)} image shows {what}. In the {ordinal(position)} image, here:".strip()


def shared(shown: str, what: str, position: int) -> str:
    """That all images show `what`, after `shown`, the contents of all."""
    return f"{shown} Each of them shows {what}. In the {ordinal(position)} image, here:".strip()


def counterpart(what: str, box: Box) -> str:
    """That the second image shows small what the first shows large."""
    return (
        f"Image-1 shows {what}. Image-2 shows {what} too, {place(box)} and on {_share(box)} of the image. "
        "In the second image, here:"
    )


def origin(what: str, number: int, box: Box) -> str:
    """Where Image-`number` was cut from, and that it shows `what`, which may be empty."""
    shown = f"Image-{number} shows {what}. " if what else ""
    return f"{shown}This part is {place(box)} of Image-1 and covers {_share(box)} of it. In the first image, here:"


def course(boxes: Sequence[Box | None]) -> str:
    """Where an object is from image to image; the last of `boxes` is the one that was asked for."""
    (first, where), *later = ((number, place(box)) for number, box in enumerate(boxes, start=1) if box)
    seen = [f"In Image-{first} the object is {where}", *(f"in Image-{number} {there}" for number, there in later)]
    return f"{', '.join(seen)}. In the {ordinal(len(boxes) - 1)} image, here:"


def place(box: Box) -> str:
    """In which ninth of its image the middle of a box is.

    >>> place(Box(0, 0, 0.2, 0.2)), place(Box(0, 0.4, 0.2, 0.6)), place(Box(0, 0, 1, 1))
    ('at the top left', 'on the left', 'in the middle')
    """
    row, column = _ROWS[_third(box.y1 + box.y2)], _COLUMNS[_third(box.x1 + box.x2)]
    if row:
        return f"{row} {column}".strip()
    return f"on the {column}" if column else "in the middle"


def _third(twice_middle: float) -> int:
    return min(2, int(twice_middle * 1.5))


def _share(box: Box) -> str:
    percent = round(box.area * 100)
    return f"about {percent}%" if percent else "less than 1%"


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
