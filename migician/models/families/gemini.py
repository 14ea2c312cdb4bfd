"""Gemini, hosted: `--model server:ADDRESS#MODEL --family gemini` at an address that speaks the OpenAI chat protocol.

Boxes are `box_2d`, 0..1000, **y first**: [y_min, x_min, y_max, x_max]. Source: Google Cloud, "Bounding box detection"
(docs.cloud.google.com/vertex-ai/generative-ai/docs/bounding-box-detection).
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import QUOTES, Family

FAMILY = Family(
    name="gemini",
    style=STYLES["gemini"],
    format='Format:{"box_2d": [y1, x1, y2, x2]}. Don\'t generate additional words.',
    published_format=None,
    source="Google Cloud, Bounding box detection",
    tags=QUOTES,
)
