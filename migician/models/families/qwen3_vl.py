"""Qwen3-VL, dense and mixture of experts, through transformers' own classes.

Coordinates are 0..1000 again, in the JSON of Qwen2.5-VL (QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb). The official
prompt is the one its makers name for RefCOCO (QwenLM/Qwen3-VL#1721); the one they name for ODinW, `Locate every
instance that belongs to the following categories: ...`, ends in the same sentence. OneThinker is a Qwen3-VL that
thinks first; what it is asked is its own (tulerfeng/OneThinker, EasyR1/verl/utils/dataset.py).
"""

from __future__ import annotations

from dataclasses import replace

from migician.boxtext import STYLES
from migician.models.family import TOKENS, Family, OfficialPrompt
from migician.samples.conventions import WORDINGS

FAMILY = Family(
    name="qwen3_vl",
    style=STYLES["qwen3-vl"],
    format='Format:{"bbox_2d": [x1, y1, x2, y2]}. Don\'t generate additional words.',
    published_format=None,
    source="QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb",
    official=OfficialPrompt(WORDINGS["qwen3_vl"], "Report bbox coordinates in JSON format."),
    tags=TOKENS,
    loader="migician.models.engines.qwen2_vl:load",
)

MOE = replace(FAMILY, name="qwen3_vl_moe", loader="migician.models.engines.transformers_auto:load")

ONETHINKER = replace(
    FAMILY,
    name="onethinker",
    style=STYLES["onethinker"],
    format="Please answer this question based on the visual content. Provide your thinking process between the <think> "
    "and </think> tags, and then give your final answer between the <answer> and </answer> tags. Please provide only "
    "the bounding box as JSON with key 'boxes' within the <answer>...</answer> tags.\n"
    'Example:\n<answer>{"boxes": [35, 227, 437, 932]}</answer>',
    source="tulerfeng/OneThinker, EasyR1/verl/utils/dataset.py",
    official=None,
    new_tokens=2048,
    model_type="qwen3_vl",
)
