"""LLaVA-OneVision, through transformers' own class (checkpoints of llava-hf).

Several images are each seen once, resized; only a single one is also cut into tiles. The published script marks them
"image1:" and so on in the text; the chat template would move all images to the front, so they are marked in the text.
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import Family

FAMILY = Family(
    name="llava_onevision",
    style=STYLES["llava-onevision"],
    format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate additional words.",
    published_format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate addtional words.",
    source="thunlp/Migician, eval/MIG_bench_eval.py",
    image_mark="image{n}:<image>\n",
    marks_in_text=True,
)
