"""The scoring of the published evaluation script, to compare with figures in papers.

Its oddities are kept on purpose (numbers are scaled by their size, the first of six
formats wins, an off-scale box counts); use the `strict` protocol for everything else.
Source: eval/MIG_bench_eval.py and utils.py of thunlp/Migician.
"""

from __future__ import annotations

import re

from migician.boxes import Box

_I, _F = r"(\d++)", r"(\d++\.\d++)"
_FORMATS = [
    re.compile(pattern)
    for pattern in (
        rf"\({_I},\s*+{_I}\),\s*+\({_I},\s*+{_I}\)",
        rf"\[{_F},\s*+{_F},\s*+{_F},\s*+{_F}\]",
        rf"\({_F},{_F}\),\({_F},{_F}\)",
        rf"\({_F},\s*+{_F},\s*+{_F},\s*+{_F}\)",
        rf"\[{_I},\s*+{_I},\s*+{_I},\s*+{_I}\]",
        rf"<box>{_I}\s++{_I}\s++{_I}\s++{_I}</box>",
    )
]


def find_boxes(reply: str) -> list[Box]:
    """The boxes the published script finds: all matches of the first of six formats that matches.

    A single box divides its numbers >= 1 by 1000, several divide those > 1: the script's own
    difference.

    >>> find_boxes("(1,20),(300,400)")
    [Box(x1=0.001, y1=0.02, x2=0.3, y2=0.4)]
    """
    found = [[float(number) for number in written] for written in written_boxes(reply)]
    if len(found) == 1:
        return [Box(*(value / 1000 if value >= 1 else value for value in found[0]))]
    return [Box(*(value / 1000 if value > 1 else value for value in numbers)) for numbers in found]


def written_boxes(reply: str) -> list[tuple[str, ...]]:
    """All matches of the first of the six formats that matches, each as its four numbers; digits of any script."""
    for form in _FORMATS:
        if found := [match.groups() for match in form.finditer(reply)]:
            return found
    return []


def stretch_y(box: Box) -> Box:
    """The box moved down as the published script does for the released Migician weights alone.

    The authors suspect a fault in training; it costs any unbiased model 4 to 8 points.
    """
    return Box(box.x1, round(min(1.05 * box.y1, 0.999), 3), box.x2, round(min(1.10 * box.y2, 0.999), 3))
