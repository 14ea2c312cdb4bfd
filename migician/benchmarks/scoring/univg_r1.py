"""The scoring of UniVG-R1's evaluation script, to compare with figures in its paper.

It finds boxes as the published script does and counts them in whole numbers of 0..1000, as the revised file's answers
are: so decimals are no box to it. Of several boxes it drops the last and takes the first. Thinking is not cut off.
Source: eval/MIG_bench/MIG_bench_eval.py and utils.py of AMAP-ML/UniVG-R1.
"""

from __future__ import annotations

import contextlib

from migician.benchmarks.scoring.published import written_boxes
from migician.boxes import FARTHEST, Box

Permille = tuple[int, int, int, int]
"""x1 y1 x2 y2 on the scale of 0..1000, as large as the reply writes them."""

UNREAD: Permille = (0, 0, 0, 0)
"""What the script takes a box for that it cannot read."""
_LARGEST = int(FARTHEST * 1000)


def find_boxes(reply: str) -> list[Permille] | None:
    """The boxes of a reply, the scored one first; None where it has some that are not whole numbers.

    To Python a number of more than 4,300 digits is no whole number either.

    >>> find_boxes("<think>(1,2),(3,4)</think><answer>(10,20),(300,400)</answer>")
    [(1, 2, 3, 4), (10, 20, 300, 400)]
    >>> find_boxes("[0.1, 0.2, 0.3, 0.4]") is None
    True
    """
    written = written_boxes(reply)
    counted = max(len(written) - 1, 1)
    try:
        boxes = [_whole(numbers) for numbers in written[:counted]]
    except ValueError:
        return None
    with contextlib.suppress(ValueError):  # the last of several is not looked at
        boxes += [_whole(numbers) for numbers in written[counted:]]
    return boxes


def stretch_y(box: Permille) -> Permille:
    """The box moved down as that script does for the released Migician weights, where there are several boxes too.

    >>> stretch_y((10, 552, 300, 400))
    (10, 580, 300, 440)
    """
    x1, y1, x2, y2 = box
    with contextlib.suppress(OverflowError):  # a number too long to be a float stays, and so does the second then
        y1 = _shifted(y1, 1.05)
        y2 = _shifted(y2, 1.10)
    return x1, y1, x2, y2


def as_box(box: Permille) -> Box:
    """The box in fractions."""
    return Box.from_permille(*(min(value, _LARGEST) for value in box))


def overlap(box: Permille, truth: Box) -> float:
    """IoU on the scale of 0..1000, so that an IoU of exactly 0.5 is 0.5; `truth` in fractions."""
    wanted = Box(*(round(1000 * value, 9) for value in truth.as_tuple()))
    return Box(*(float(min(value, _LARGEST)) for value in box)).iou(wanted)


def _whole(numbers: tuple[str, ...]) -> Permille:
    x1, y1, x2, y2 = map(int, numbers)
    return x1, y1, x2, y2


def _shifted(value: int, factor: float) -> int:
    return int(round(min(value / 1000 * factor, 0.999), 3) * 1000)
