"""Qwen3-VL, through transformers' own class: coordinates 0..1000 again, in the JSON of Qwen2.5-VL (its cookbook)."""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import TOKENS, Family

FAMILY = Family(
    name="qwen3_vl",
    style=STYLES["qwen3-vl"],
    format='Format:{"bbox_2d": [x1, y1, x2, y2]}. Don\'t generate additional words.',
    published_format=None,
    tags=TOKENS,
    loader="migician.models.engines.qwen2_vl:load",
)
