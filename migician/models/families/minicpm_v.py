"""MiniCPM-V 2.6, 4.0 and 4.5, by the code they ship: `model.chat(image=None, msgs=..., tokenizer=...)`.

Source of the call: the model card of openbmb/MiniCPM-V-2_6; for version 4, docs/minicpm_v4_en.md and
minicpm_v4dot5_en.md of OpenBMB/MiniCPM-V, which document no box form, so that of 2.6 is asked for. By default it
samples, and without sampling it searches 3 beams with a penalty on repeated tokens, digits included; here it is plain
greedy. Images are cut into slices by its own config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from migician.boxtext import STYLES
from migician.models.conversation import Turns
from migician.models.family import Family


def _ask(model: Any, tokenizer: Any, turns: Turns, pictures: Sequence[Image.Image], new_tokens: int) -> str:
    messages = [
        {"role": turn.role, "content": [part if isinstance(part, str) else pictures[part] for part in turn.parts]}
        for turn in turns
    ]
    reply: str = model.chat(
        image=None,
        msgs=messages,
        tokenizer=tokenizer,
        sampling=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=new_tokens,
    )
    return reply


FAMILY = Family(
    name="minicpmv",
    style=STYLES["minicpm"],
    format="Format:<box>x1 y1 x2 y2</box>. Don't generate additional words.",
    published_format="Format:<box>x1 y1 x2 y2</box>. Don't generate addtional words.",
    source="thunlp/Migician, eval/MIG_bench_eval.py",
    published_choice_ends={"mmiu": "\nPlease only answer with the single letter."},
    ask=_ask,
    loader="migician.models.engines.remote_code:load",
)
