"""Which image of a sample each box of its conversation belongs to, and how often copying a given box would be right.

In the shuffled tracking rows of MGrounding-630k, which ask for the order first, "the first image" is the frame that
comes first in time, wherever it stands in the list; in the others `_ref` in a file's name marks it. `Image-N` in an
answer counts the list, in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from migician.boxtext import BOX_START, Mention, parse_boxes
from migician.imagenames import asked_image, image_names, image_of_given, images_of_box

NEAR = 0.5
"""IoU with the given box from which on an answer could have been copied."""
TRACKING = "ot_train"
"""The type of tracking samples."""
_ALWAYS_IN = {"rl_train": 0, "rg_train": 1}
"""The image in which samples of a type look for what another shows."""
_FORM = BOX_START + "(x1,y1)"
_FRAME = re.compile(r"[^.]*?(?<![0-9])([0-9]{1,12})(_ref)?\.[A-Za-z]{3,4}")
_PLAIN = re.compile(r"<\|box_start\|>\(([0-9]{1,4}),([0-9]{1,4})\),\(([0-9]{1,4}),([0-9]{1,4})\)<\|box_end\|>")
_ORDER_WORDS = ("order", "Order", "sort", "Sort", "hronolog")
"""One of them is in any question for the order in time. Where another question has one, its frames are in order."""
_RELEASED = "MGrounding-630k"


def anchor(type: str, images: Sequence[str], questions: Sequence[str]) -> tuple[int, bool]:
    """The image (0-based) that "the first image" is in a sample, and whether the sample is a shuffled tracking row.

    It is image 0, but in tracking rows the one marked by `_ref`; and in those that ask for the order, and whose frames
    are out of it by the numbers in their names, the first in time.

    >>> anchor("ot_train", ["a/21.jpg", "a/41.jpg", "a/01.jpg"], ["Put them in order.", "Find it."])
    (2, True)
    """
    if type != TRACKING:
        return 0, False
    if any(word in question for question in questions for word in _ORDER_WORDS):
        numbers = _frame_numbers(images)
        if numbers != sorted(numbers):
            return numbers.index(min(numbers)), True
    marked = [place for place, name in enumerate(images) if "_ref." in name]
    return marked[0] if len(marked) == 1 else 0, False


def places(
    type: str, mention: Mention, text: str, question: str, count: int, *, given: bool, first: int = 0
) -> tuple[int, ...]:
    """The images (0-based, of `count`) that a box of `text` belongs to; see `images_of_box`.

    `question` is that to which the text answers, or the text itself where `given`; `first` is the sample's `anchor`.
    What the wordings of the families leave unsaid: a crop is looked for in the first image, an example in the second,
    and a track begins in the anchor.
    """
    tied = mention.image
    if type in _ALWAYS_IN:
        tied = _ALWAYS_IN[type]
    elif type == TRACKING and given:
        tied = first
    elif tied is None:
        in_text = {name.image for name in image_names(text)}
        tied = in_text.pop() if len(in_text) == 1 else image_of_given(text, mention.span) if given else None
    if tied is not None:  # whatever is asked
        return images_of_box(tied, None, count)
    asked = asked_image(question)
    if type == TRACKING:  # where the first image is named, it has the box that is given
        later = {name.image for name in image_names(question)} - {0}
        asked = later.pop() if len(later) == 1 else None
    return images_of_box(None, asked, count)


class Copying(msgspec.Struct):
    """Answers in another image than the box that their question gives, and how many of them copying it would hit."""

    answers: int = 0
    copyable: int = 0
    """Those whose IoU with the given box is 0.5 or more."""
    shuffled: int = 0
    """Samples among them whose frames are out of order."""

    def add(self, answers: int, copyable: int, shuffled: int) -> None:
        """Count more samples, `shuffled` of them out of order."""
        self.answers += answers
        self.copyable += copyable
        self.shuffled += shuffled

    @property
    def share(self) -> float:
        """Of the answers: those that could be copied, 0..1."""
        return self.copyable / self.answers if self.answers else 0.0


class Seen(msgspec.Struct, frozen=True):
    """What one sample asks for beyond the boxes that it gives."""

    answers: int
    copyable: int
    shuffled: bool
    answers_anchor: bool
    """Whether a box is answered for the very image that a shuffled sample's question gives it in."""


def count_seen(
    type: str, images: Sequence[str], turns: Sequence[tuple[str, str]], copying: dict[str, Copying]
) -> Seen | None:
    """Count one more sample in `copying`, by its source, and give what `seen` says of it."""
    found = seen(type, images, turns)
    if found and found.answers:
        copying.setdefault(source_of(images[0]), Copying()).add(found.answers, found.copyable, found.shuffled)
    return found


def seen(type: str, images: Sequence[str], turns: Sequence[tuple[str, str]]) -> Seen | None:
    """What a sample of (question, answer) turns asks for beyond the boxes that it gives; None where it gives none.

    >>> box = "<|box_start|>(0,0),(9,9)<|box_end|>"
    >>> seen("", ["a", "b"], [(f"Find {box} of Image-1 in Image-2.", box)])
    Seen(answers=1, copyable=1, shuffled=False, answers_anchor=False)
    """
    if len(images) < 2 or not any(_gives(question) and BOX_START in answer for question, answer in turns):
        return None
    questions = [question for question, _ in turns]
    first, shuffled = anchor(type, images, questions)
    near: list[bool] = []
    answers_anchor = False
    for question, answer in turns:
        if _gives(question) and BOX_START in answer:
            if type == TRACKING:
                # The same as `places` says, which takes ten times as long: all but the line about the anchor.
                own = f"Image-{first + 1}: {BOX_START}"
                answers_anchor |= shuffled and own in answer
                given, asked = _PLAIN.findall(question), _PLAIN.findall(answer.replace(own, ""))
                near += [any(_is_near(box, one) for one in given) for box in asked if given]
            else:
                near += _near(type, question, answer, len(images))
    return Seen(len(near), sum(near), shuffled, answers_anchor) if near or answers_anchor else None


def _gives(question: str) -> bool:
    """Whether a question has a box, and not just the form of one, to answer by."""
    return BOX_START in question and question.count(BOX_START) > question.count(_FORM)


def _is_near(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two matches of `_PLAIN` overlap by `NEAR`."""
    x1, y1, x2, y2 = map(int, one)
    u1, v1, u2, v2 = map(int, other)
    width, height = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
    if width <= 0 or height <= 0:
        return False
    areas = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)
    return width * height >= NEAR * (areas - width * height)


def _near(type: str, question: str, answer: str, count: int) -> Iterator[bool]:
    """For each box of an answer that is not in a given box's own image: whether it is near a given one."""
    given = [
        (one.box, places(type, one, question, question, count, given=True))
        for one in parse_boxes(question).mentions
        if one.status == "read"
    ]
    for one in parse_boxes(answer).mentions:
        own = places(type, one, answer, question, count, given=False)
        # A box whose image is not named may be in any.
        others = [box for box, where in given if len(own) != 1 or own != where]
        if one.status == "read" and others:
            yield any(one.box.iou(box) >= NEAR for box in others)


def source_of(image: str) -> str:
    """The family and the source of an image of MGrounding-630k, by its path; of any other image its first folder.

    >>> source_of("./MGrounding-630k/Object_Tracking/LaSOT/cat/cat-1/img/1.jpg"), source_of("mine/a/1.jpg")
    ('Object_Tracking/LaSOT', 'mine')
    """
    folders = image.removeprefix("./").split("/", 3)
    if folders[0] == _RELEASED and len(folders) == 4:
        return f"{folders[1]}/{folders[2]}"
    return folders[0] if len(folders) > 1 else ""


def _frame_numbers(images: Sequence[str]) -> list[int]:
    """The numbers in the names of frames; none where one has no number or lies in another folder."""
    names = [name.rpartition("/") for name in images]
    found = [_FRAME.fullmatch(name) for _, _, name in names]
    if len({folder for folder, _, _ in names}) != 1:
        return []
    numbers = [int(match[1]) for match in found if match]
    return numbers if len(numbers) == len(images) else []
