"""Migician: multi-image grounding from source datasets to a measured model.

>>> from migician import Box, parse_boxes
>>> parse_boxes("It's in Image-2: (100,200),(300,400)").boxes
(Box(x1=0.1, y1=0.2, x2=0.3, y2=0.4),)

Importing this loads no torch; what needs more than boxes and samples is brought in when it is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from migician.boxes import Box, iou, iou_matrix, iou_pairs
from migician.boxtext import STYLES, BoxStyle, Parsed, parse_boxes
from migician.errors import UserError
from migician.samples.sample import Sample, Turn, read_samples, write_samples

if TYPE_CHECKING:
    from migician.build.card.album import draw_sample
    from migician.build.dataset import build as build_dataset
    from migician.chat.grounding import Chat, Grounding, ground
    from migician.chat.migician import Migician
    from migician.draw import contact_sheet, draw_boxes
    from migician.miniature import Amounts, make_world
    from migician.models import load_model
    from migician.models.stand_ins.tiny import make_tiny
    from migician.reports.runs import Comparison, Run, compare, evaluate, open_run, score

_LATER = {
    "Amounts": "migician.miniature",
    "Chat": "migician.chat.grounding",
    "Comparison": "migician.reports.runs",
    "Grounding": "migician.chat.grounding",
    "Migician": "migician.chat.migician",
    "Run": "migician.reports.runs",
    "build_dataset": "migician.build.dataset:build",
    "compare": "migician.reports.runs",
    "contact_sheet": "migician.draw",
    "draw_boxes": "migician.draw",
    "draw_sample": "migician.build.card.album",
    "evaluate": "migician.reports.runs",
    "ground": "migician.chat.grounding",
    "load_model": "migician.models",
    "make_tiny": "migician.models.stand_ins.tiny",
    "make_world": "migician.miniature",
    "open_run": "migician.reports.runs",
    "score": "migician.reports.runs",
}
"""Public name -> its module, imported when the name is first touched; after a colon what it is called there."""

__all__ = [
    "STYLES",
    "Amounts",
    "Box",
    "BoxStyle",
    "Chat",
    "Comparison",
    "Grounding",
    "Migician",
    "Parsed",
    "Run",
    "Sample",
    "Turn",
    "UserError",
    "build_dataset",
    "compare",
    "contact_sheet",
    "draw_boxes",
    "draw_sample",
    "evaluate",
    "ground",
    "iou",
    "iou_matrix",
    "iou_pairs",
    "load_model",
    "make_tiny",
    "make_world",
    "open_run",
    "parse_boxes",
    "read_samples",
    "score",
    "write_samples",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'migician' has no attribute {name!r}")
    module, _, inner = _LATER[name].partition(":")
    return getattr(importlib.import_module(module), inner or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
