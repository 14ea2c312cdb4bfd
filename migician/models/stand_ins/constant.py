"""The baseline that sees no images: the same box for every question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.errors import UserError
from migician.models.family import QWEN2_VL
from migician.models.protocol import Request


class ConstantBox:
    """Answers every request with one box, in Qwen2-VL's format."""

    family = QWEN2_VL
    box_style = QWEN

    def __init__(self, box: Box) -> None:
        self.box = box
        self.name = "constant:" + ",".join(map(str, box.to_permille()))

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """The box, once per request."""
        return [self.box_style.write(self.box)] * len(requests)

    def describe(self) -> dict[str, Any]:
        """The box, 0..1000 of the image."""
        return {"name": self.name, "family": "constant", "box_permille": list(self.box.to_permille())}


def load(argument: str) -> ConstantBox:
    """The baseline for "x1,y1,x2,y2", 0..1000; by default the middle half, 250,250,750,750.

    Raises `UserError` for what is no box within the image.
    """
    try:
        x1, y1, x2, y2 = (int(part) for part in (argument or "250,250,750,750").split(","))
    except ValueError:
        x1 = y1 = x2 = y2 = 0
    box = Box.from_permille(x1, y1, x2, y2)
    if not box.is_proper:
        raise UserError(f"constant:{argument}: expected x1,y1,x2,y2 from 0 to 1000, such as constant:250,250,750,750")
    return ConstantBox(box)
