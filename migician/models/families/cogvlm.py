"""CogVLM, by the code it ships: `model.build_conversation_input_ids(...)`, then `model.generate`.

Source of the calls: the model card of THUDM/cogvlm-grounding-generalist-hf. It takes one image and refuses more, so it
can only answer the questions of MIG-Bench about one image; the published script pastes several into one, which is not
done here. Its tokenizer is that of another model (lmsys/vicuna-7b-v1.5): put its files into a local folder with the
weights. Its config.json has no `model_type`: use --family cogvlm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from migician.boxtext import STYLES
from migician.errors import UserError
from migician.models.conversation import Turns
from migician.models.family import NO_TAGS, Family
from migician.samples.sample import IMAGE_MARK


def _ask(model: Any, tokenizer: Any, turns: Turns, pictures: Sequence[Image.Image], new_tokens: int) -> str:
    if not pictures:
        raise UserError("cogvlm needs an image")
    # Its code puts the image in front; a text has no mark for it.
    texts = [turn.text.replace(IMAGE_MARK, "") for turn in turns]
    made = model.build_conversation_input_ids(
        tokenizer,
        query=texts[-1],
        history=list(zip(texts[:-1:2], texts[1:-1:2], strict=True)),
        images=list(pictures),
    )
    inputs = {
        name: made[name].unsqueeze(0).to(model.device) for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    output = model.generate(
        **inputs,
        images=[[made["images"][0].to(model.device, model.dtype)]],
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
    )
    reply: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return reply


FAMILY = Family(
    name="cogvlm",
    style=STYLES["cogvlm"],
    format="Coordinates format:[[x0,y0,x1,y1]].",
    published_format="Coordinates format:[[x0,y0,x1,y1]].",
    source="the model card of THUDM/cogvlm-grounding-generalist-hf",
    tags=NO_TAGS,
    max_images=1,
    ask=_ask,
    auto_class="AutoModelForCausalLM",
    loader="migician.models.engines.remote_code:load",
)
