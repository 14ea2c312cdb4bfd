"""Migician: multi-image grounding from source datasets to a measured model.

>>> from migician import Box, parse_boxes
>>> parse_boxes("It's in Image-2: (100,200),(300,400)").boxes
(Box(x1=0.1, y1=0.2, x2=0.3, y2=0.4),)

Importing this loads no torch; `Migician` brings it in when first touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migician.boxes import Box, iou, iou_matrix, iou_pairs
from migician.boxtext import STYLES, BoxStyle, Parsed, parse_boxes
from migician.errors import UserError
from migician.samples import Sample, Turn, read_samples, write_samples

if TYPE_CHECKING:
    from migician.models.qwen2_vl import Migician

__all__ = [
    "STYLES",
    "Box",
    "BoxStyle",
    "Migician",
    "Parsed",
    "Sample",
    "Turn",
    "UserError",
    "iou",
    "iou_matrix",
    "iou_pairs",
    "parse_boxes",
    "read_samples",
    "write_samples",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Migician":
        from migician.models.qwen2_vl import Migician

        return Migician
    raise AttributeError(f"module 'migician' has no attribute {name!r}")
