"""InternVL2, by the code it ships: `model.chat(tokenizer, pixel_values, question, generation_config, ...)`.

Source of the call and of the tiles: the model card of OpenGVLab/InternVL2-8B. Each image is cut into at most 12 tiles
of its own shape, plus the whole, and marked "Image-1: <image>"; the tiles come from transformers' GOT-OCR2 image
processor, which its own InternVL class uses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from migician.boxtext import STYLES
from migician.models.conversation import Turns
from migician.models.family import Family, OfficialPrompt

_MAX_TILES = 12
_MEAN, _SPREAD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's


def _ask(model: Any, tokenizer: Any, turns: Turns, pictures: Sequence[Image.Image], new_tokens: int) -> str:
    pixels, counts = _tiles(pictures, model.config.force_image_size or 448) if pictures else (None, None)
    texts = [turn.text for turn in turns]
    reply: str = model.chat(
        tokenizer,
        None if pixels is None else pixels.to(model.device, model.dtype),
        texts[-1],
        {"max_new_tokens": new_tokens, "do_sample": False, "num_beams": 1},
        history=list(zip(texts[:-1:2], texts[1:-1:2], strict=True)) or None,
        num_patches_list=counts,
    )
    return reply


def _tiles(pictures: Sequence[Image.Image], side: int) -> tuple[Any, list[int]]:
    """Float tiles (N, 3, side, side) of all images, and how many each image has."""
    from transformers import GotOcr2ImageProcessor

    processor = GotOcr2ImageProcessor(
        size={"height": side, "width": side},
        crop_to_patches=True,
        min_patches=1,
        max_patches=_MAX_TILES,
        image_mean=_MEAN,
        image_std=_SPREAD,
    )
    made = processor(list(pictures), return_tensors="pt")
    return made["pixel_values"], [int(count) for count in made["num_patches"]]


FAMILY = Family(
    name="internvl_chat",
    style=STYLES["internvl"],
    format="Format:<box>[[x1,y1,x2,y2]]</box>. Don't generate additional words.",
    published_format="Format:<box>[[x1,y1,x2,y2]]</box>. Don't generate addtional words.",
    source="OpenGVLab/InternVL, internvl_chat/eval/refcoco",
    official=OfficialPrompt(
        "Please provide the bounding box coordinate of the region this sentence describes: <ref>{ref}</ref>",
        "Please provide the bounding box coordinate.",
    ),
    published_choice_ends={"mibench": "Don't generate additional words."},
    image_mark="Image-{n}: <image>\n",
    ask=_ask,
    loader="migician.models.engines.remote_code:load",
)
