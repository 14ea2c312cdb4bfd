"""Tiny checkpoints with random weights of transformers' own classes, one a family, saved as released ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from migician.models.stand_ins.tiny import CHAT_TEMPLATE, WORDINGS, _tokenizer

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

# Images are moved to the front, as in the released llava-onevision-qwen2-7b-ov-hf.
IMAGES_FIRST = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + ' ' }}
{%- for part in message.content if part.type == 'image' -%}{{ '<image>' }}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}{{ '\n' + part.text }}{%- endfor -%}
{{ '<|im_end|>' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""
# An image ends its line, as in the released InternVL3-8B-hf.
LINES = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' }}
{%- for part in message.content -%}{{ '<IMG_CONTEXT>\n' if part.type == 'image' else part.text }}{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""
# As in the released idefics2-8b.
UTTERANCES = """\
{%- for message in messages -%}
{{ message.role.capitalize() }}{{ ':' if message.content[0].type == 'image' else ': ' }}
{%- for part in message.content -%}{{ '<image>' if part.type == 'image' else part.text }}{%- endfor -%}
{{ '<end_of_utterance>\n' }}
{%- endfor -%}
{{ 'Assistant:' if add_generation_prompt }}"""


def save_tiny(kind: str, folder: Path, tokenizer_folder: Path) -> Path:
    """A checkpoint of `model_type` `kind` in `folder`, with seeded random weights large enough to matter."""
    import torch

    model, processor = MAKERS[kind](tokenizer_folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.2)
    stop = "<end_of_utterance>" if kind == "idefics2" else "<|im_end|>"
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(stop)
    model.generation_config.do_sample = True
    model.generation_config.temperature = 5.0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _words(folder: Path, extra: tuple[str, ...] = (), **named: str) -> Any:
    from transformers import Qwen2TokenizerFast

    tokenizer = _tokenizer(WORDINGS, 64)
    tokenizer.add_tokens([*extra, *named.values()], special_tokens=True)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return Qwen2TokenizerFast.from_pretrained(folder, extra_special_tokens=named) if named else tokenizer


def _qwen(folder: Path, version: str) -> tuple[Any, Any]:
    import transformers as hub
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    words = _words(folder)
    token = words.convert_tokens_to_ids
    text = TEXT | {"vocab_size": -(-len(words) // 64) * 64, "head_dim": 16}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    common = {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4}
    if version == "2.5":
        vision |= {"out_hidden_size": 64, "fullatt_block_indexes": [1], "window_size": 56}
        config = hub.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **common)
        pixels = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
        pictures = hub.Qwen2VLImageProcessor(size=pixels)
        videos = Qwen2VLVideoProcessor(size=pixels)
        model, kind = hub.Qwen2_5_VLForConditionalGeneration(config), hub.Qwen2_5_VLProcessor
    else:
        vision |= {"out_hidden_size": 64, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
        config = hub.Qwen3VLConfig(text_config=text, vision_config=vision, **common)
        pixels = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
        pictures = hub.Qwen2VLImageProcessor(size=pixels, patch_size=16)
        videos = hub.Qwen3VLVideoProcessor(size=pixels)
        model, kind = hub.Qwen3VLForConditionalGeneration(config), hub.Qwen3VLProcessor
    processor = kind(image_processor=pictures, tokenizer=words, video_processor=videos, chat_template=CHAT_TEMPLATE)
    return model, processor


def _llava_onevision(folder: Path) -> tuple[Any, Any]:
    import transformers as hub

    words = _words(folder, ("<image>", "<video>"))
    grids = [[56, 56], [56, 112], [112, 56], [112, 112]]
    config = hub.LlavaOnevisionConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14},
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
    )
    size = {"height": 56, "width": 56}
    processor = hub.LlavaOnevisionProcessor(
        hub.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        words,
        hub.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=IMAGES_FIRST,
    )
    return hub.LlavaOnevisionForConditionalGeneration(config), processor


def _internvl(folder: Path) -> tuple[Any, Any]:
    import transformers as hub

    words = _words(
        folder,
        ("<box>", "</box>", "<ref>", "</ref>"),
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = hub.InternVLConfig(
        vision_config=VISION | {"image_size": [56, 56], "patch_size": [14, 14]},
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    size = {"height": 56, "width": 56}
    processor = hub.InternVLProcessor(
        hub.GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4),
        words,
        hub.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=LINES,
    )
    return hub.InternVLForConditionalGeneration(config), processor


def _idefics2(folder: Path) -> tuple[Any, Any]:
    import transformers as hub

    processor = hub.Idefics2Processor(
        hub.Idefics2ImageProcessor(size={"longest_edge": 84, "shortest_edge": 28}, do_image_splitting=False),
        _words(folder, ("<fake_token_around_image>", "<image>")),
        image_seq_len=6,
        chat_template=UTTERANCES,
    )
    words = processor.tokenizer
    config = hub.Idefics2Config(
        vision_config=VISION | {"image_size": 84, "patch_size": 14},
        perceiver_config={"resampler_n_latents": 6, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 8, "num_key_value_heads": 1, "hidden_size": 64},
        text_config=TEXT | {"model_type": "mistral", "vocab_size": len(words), "pad_token_id": words.pad_token_id},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = hub.Idefics2ForConditionalGeneration(config)
    model.generation_config.bad_words_ids = [[words.convert_tokens_to_ids("<image>")]]
    return model, processor


MAKERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "qwen2_5_vl": lambda folder: _qwen(folder, "2.5"),
    "qwen3_vl": lambda folder: _qwen(folder, "3"),
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "idefics2": _idefics2,
}
