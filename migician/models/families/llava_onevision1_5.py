"""LLaVA-OneVision-1.5, by the code it ships: `processor(text=[...], images=...)`, then `model.generate(**inputs)`.

Source of the call: README.md of EvolvingLMMs-Lab/LLaVA-OneVision-1.5, which documents no boxes. Its processor is that
of Qwen2.5-VL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL import Image

from migician.models.conversation import Turns
from migician.models.family import in_generic_form


def _ask(model: Any, tokenizer: Any, turns: Turns, pictures: Sequence[Image.Image], new_tokens: int) -> str:
    processor = _processor(tokenizer.name_or_path)
    messages = [
        {
            "role": turn.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.parts
            ],
        }
        for turn in turns
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=list(pictures) or None, return_tensors="pt").to(model.device, model.dtype)
    output = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0)
    reply: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return reply


@lru_cache(maxsize=1)
def _processor(folder: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, trust_remote_code=True, local_files_only=True)


FAMILY = in_generic_form(
    "llavaonevision1_5",
    ask=_ask,
    auto_class="AutoModelForCausalLM",
    loader="migician.models.engines.remote_code:load",
)
