"""mPLUG-Owl3, by the code it ships: `model.init_processor(tokenizer)`, then `model.generate(**inputs)`.

Source of the call: the model card of mPLUG/mPLUG-Owl3-7B-240728. The messages end with an empty reply of the assistant,
and `decode_text` makes `generate` give texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from migician.boxtext import STYLES
from migician.models.conversation import Turns
from migician.models.family import Family
from migician.samples.sample import IMAGE_MARK

_MARK = "<|image|>"


def _ask(model: Any, tokenizer: Any, turns: Turns, pictures: Sequence[Image.Image], new_tokens: int) -> str:
    processor = model.init_processor(tokenizer)
    messages = [{"role": turn.role, "content": turn.text.replace(IMAGE_MARK, _MARK)} for turn in turns]
    messages.append({"role": "assistant", "content": ""})
    inputs = processor(messages, images=list(pictures) or None, videos=None).to(model.device)
    inputs.update(
        {"tokenizer": tokenizer, "max_new_tokens": new_tokens, "decode_text": True, "do_sample": False, "num_beams": 1}
    )
    replies: list[str] = model.generate(**inputs)
    return replies[0]


FAMILY = Family(
    name="mplugowl3",
    style=STYLES["mplug-owl3"],
    format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate additional words.",
    published_format="Format:<box>[x1, y1, x2, y2]</box>. Don't generate addtional words.",
    source="thunlp/Migician, eval/MIG_bench_eval.py",
    image_mark="Image-{n}:<image>\n",
    ask=_ask,
    loader="migician.models.engines.remote_code:load",
)
