"""Qwen2.5-VL, through transformers' own class.

It writes boxes in pixels of the image as its processor resized it (Qwen2.5-VL technical report, arXiv 2502.13923, and
`bbox_2d` in its cookbook), so a number means nothing without the size that the model saw: the engine's `seen_sizes`
gives it, and it is stored with each answer. It places text and images as Qwen2-VL does, so one engine runs both.
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import TOKENS, Family, OfficialPrompt
from migician.samples.conventions import WORDINGS

FAMILY = Family(
    name="qwen2_5_vl",
    style=STYLES["qwen2.5-vl"],
    format='Format:{"bbox_2d": [x1, y1, x2, y2]}. Don\'t generate additional words.',
    published_format=None,
    source="Qwen2.5-VL technical report (arXiv 2502.13923); QwenLM/Qwen3-VL#991",
    official=OfficialPrompt(WORDINGS["qwen2_5_vl"], "Output the bbox coordinates in JSON format."),
    tags=TOKENS,
    loader="migician.models.engines.qwen2_vl:load",
)
