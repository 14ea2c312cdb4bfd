"""Mantis, through transformers' Idefics2 class (TIGER-Lab/Mantis-8B-Idefics2).

The chat template places the images; a setting of the checkpoint decides whether each is also cut into four
(`do_image_splitting`, off in Mantis).
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import Family

FAMILY = Family(
    name="idefics2",
    style=STYLES["mantis"],
    format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate additional words.",
    published_format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate addtional words.",
    source="thunlp/Migician, eval/MIG_bench_eval.py",
)
