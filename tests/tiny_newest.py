"""Tiny checkpoints, as in `tiny_families`, of classes that newer versions of transformers than 5.5.4 have."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def molmo2(folder: Path) -> tuple[Any, Any]:
    """A Molmo2."""
    import transformers as hub
    from tiny_families import CHAT_TEMPLATE, TEXT, VISION, _words

    patches = ("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<im_end>", "<im_low>")
    words = _words(folder, (*patches, "<frame_start>", "<frame_end>", "<|video|>"), image_token="<|image|>")
    token = words.convert_tokens_to_ids
    heads = {"num_key_value_heads": 4, "head_dim": 8}
    config = hub.CONFIG_MAPPING["molmo2"](
        text_config=TEXT | {"vocab_size": len(words), "additional_vocab_size": 8, "head_dim": 16},
        vision_config=VISION | heads | {"image_size": [56, 56]},
        adapter_config=heads
        | {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "text_hidden_size": 64}
        | {"vision_feature_layer": [1, 0]},
        image_start_token_id=token("<im_start>"),
        low_res_image_start_token_id=token("<low_res_im_start>"),
        image_end_token_id=token("<im_end>"),
        image_patch_id=token("<im_patch>"),
        frame_start_token_id=token("<frame_start>"),
        frame_end_token_id=token("<frame_end>"),
    )
    size = {"height": 56, "width": 56}
    # Images stand where the messages have them, as in the released Molmo2-8B.
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image|>")
    processor = hub.Molmo2Processor(
        hub.Molmo2ImageProcessor(size=size, max_crops=2, overlap_margins=[1, 1]),
        hub.Molmo2VideoProcessor(size=size),
        words,
        chat_template="{{ '<|endoftext|>' }}" + template,
    )
    return hub.AutoModelForImageTextToText.from_config(config), processor


def minicpmv(folder: Path, version: str) -> tuple[Any, Any]:
    """A MiniCPM-V 4.6 or 4.7."""
    import transformers as hub
    from tiny_families import CHAT_TEMPLATE, TEXT, VISION, _words

    words = _words(
        folder,
        image_token="<|image|>",
        video_token="<|video|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    # Qwen3.5's language model, whose attention is linear in most layers.
    text = TEXT | {"model_type": "qwen3_5_text", "vocab_size": len(words), "head_dim": 16}
    text |= {"layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8}
    text |= {"linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = hub.CONFIG_MAPPING[f"minicpmv{version}"](
        text_config=text,
        vision_config=VISION | {"image_size": 112, "patch_size": 14, "insert_layer_id": 0},
        insert_layer_id=0,
        image_size=112,
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
    )
    slices = {"max_slice_nums": 4, "scale_resolution": 112}
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image|>")
    processor = getattr(hub, f"MiniCPMV{version}Processor", hub.MiniCPMV4_6Processor)(
        hub.MiniCPMV4_6ImageProcessor(**slices),
        hub.MiniCPMV4_6VideoProcessor(**slices),
        words,
        chat_template=template,
    )
    return hub.AutoModelForImageTextToText.from_config(config), processor
