"""Tiny checkpoints with random weights of transformers' own classes, one a family, saved as released ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_newest import minicpmv, molmo2

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


# As in the released GLM-4.1V-9B-Thinking and GLM-4.6V-Flash, whose later ones take `enable_thinking`.
GLM = """\
[gMASK]<sop>
{%- for message in messages -%}
{{ '<|' + message.role + '|>\n' }}
{%- for part in message.content -%}
{{ '<|begin_of_image|><|image|><|end_of_image|>' if part.type == 'image' else part.text }}
{%- endfor -%}
{{ '/nothink' if message.role == 'user' and enable_thinking is defined and not enable_thinking }}
{%- endfor -%}
{{ '<|assistant|>\n' if add_generation_prompt }}
{{- '<think></think>\n' if add_generation_prompt and enable_thinking is defined and not enable_thinking }}"""
# As in the released Qwen3.5: a thought is opened, or an empty one stands there.
THOUGHTS = (
    CHAT_TEMPLATE
    + """
{{- ('<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking else '<think>\n')
    if add_generation_prompt }}"""
)
# As in the released SmolVLM2.
SMOL = """\
<|im_start|>
{%- for message in messages -%}
{{ message.role | capitalize }}{{ ':' if message.content[0].type == 'image' else ': ' }}
{%- for part in message.content -%}{{ '<image>' if part.type == 'image' else part.text }}{%- endfor -%}
{{ '<end_of_utterance>\n' }}
{%- endfor -%}
{{ 'Assistant:' if add_generation_prompt }}"""
# As in the released gemma-4, without tools and thoughts.
TURNS = """\
{{ bos_token }}
{%- for message in messages -%}
{{ '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
{%- for part in message.content -%}
{{ '\n\n<|image|>\n\n' if part.type == 'image' else part.text | trim }}
{%- endfor -%}
{{ '<turn|>\n' }}
{%- endfor -%}
{{ '<|turn>model\n' if add_generation_prompt }}"""


def save_tiny(kind: str, folder: Path, tokenizer_folder: Path) -> Path:
    """A checkpoint of `model_type` `kind` in `folder`, with seeded random weights large enough to matter."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # before it is made: Qwen3.5 begins with random vectors too
        model, processor = MAKERS[kind](tokenizer_folder)
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.2)
    stop = "<end_of_utterance>" if kind in ("idefics2", "smolvlm") else "<|im_end|>"
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
        vision |= {"out_hidden_size": 64, "num_position_embeddings": 64}
        if version.startswith("3.5"):
            text |= {"layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8}
            text |= {"linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
        else:
            vision["deepstack_visual_indexes"] = [0]
        if version.endswith("moe"):
            text |= {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
            text |= {"shared_expert_intermediate_size": 32} if version.startswith("3.5") else {"decoder_sparse_step": 1}
        name = {"3": "Qwen3VL", "3 moe": "Qwen3VLMoe", "3.5": "Qwen3_5", "3.5 moe": "Qwen3_5Moe"}[version]
        config = getattr(hub, f"{name}Config")(text_config=text, vision_config=vision, **common)
        pixels = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
        pictures = hub.Qwen2VLImageProcessor(size=pixels, patch_size=16)
        videos = hub.Qwen3VLVideoProcessor(size=pixels)
        model, kind = getattr(hub, f"{name}ForConditionalGeneration")(config), hub.Qwen3VLProcessor
    template = THOUGHTS if version.startswith("3.5") else CHAT_TEMPLATE
    return model, kind(image_processor=pictures, tokenizer=words, video_processor=videos, chat_template=template)


def _glm(folder: Path, version: str) -> tuple[Any, Any]:
    import transformers as hub

    marks = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    words = _words(folder, ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", *(f"<|{mark}|>" for mark in marks)))
    token = words.convert_tokens_to_ids
    text = TEXT | {"vocab_size": -(-len(words) // 64) * 64, "pad_token_id": words.pad_token_id}
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 0.5,
    }
    vision = VISION | {"depth": 2, "num_heads": 4, "out_hidden_size": 64, "image_size": 56}
    config = getattr(hub, f"Glm{version}Config")(
        text_config=text | {"model_type": "glm4v_text"},
        vision_config=vision | {"model_type": "glm4v_vision"},
        image_token_id=token("<|image|>"),
        video_token_id=token("<|video|>"),
        image_start_token_id=token("<|begin_of_image|>"),
        image_end_token_id=token("<|end_of_image|>"),
        video_start_token_id=token("<|begin_of_video|>"),
        video_end_token_id=token("<|end_of_video|>"),
    )
    pixels = {"shortest_edge": 2 * 56 * 56, "longest_edge": 2 * 112 * 112}
    processor = getattr(hub, f"Glm{version}Processor")(
        getattr(hub, f"Glm{version}ImageProcessor")(size=pixels),
        words,
        getattr(hub, f"Glm{version}VideoProcessor")(size=pixels),
        chat_template=GLM,
    )
    return getattr(hub, f"Glm{version}ForConditionalGeneration")(config), processor


def _smolvlm(folder: Path) -> tuple[Any, Any]:
    import transformers as hub

    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
    words = _words(
        folder,
        ("<end_of_utterance>", *rows),
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        global_image_token="<global-img>",
    )
    config = hub.SmolVLMConfig(
        vision_config=VISION | {"image_size": 56, "patch_size": 14},
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(words), "pad_token_id": words.pad_token_id},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
    )
    sizes = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    processor = hub.SmolVLMProcessor(
        hub.SmolVLMImageProcessor(do_image_splitting=True, **sizes),
        words,
        hub.SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=SMOL,
    )
    return hub.SmolVLMForConditionalGeneration(config), processor


def _gemma4(folder: Path) -> tuple[Any, Any]:
    import transformers as hub

    words = _words(
        folder,
        ("<|turn>", "<turn|>", "<|video|>"),
        image_token="<|image|>",
        boi_token="<|image>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    words.bos_token = words.pad_token
    token = words.convert_tokens_to_ids
    vocabulary = len(words)
    text = TEXT | {"vocab_size": vocabulary, "vocab_size_per_layer_input": vocabulary, "hidden_size_per_layer_input": 8}
    text |= {"head_dim": 16, "global_head_dim": 16, "pad_token_id": words.pad_token_id, "sliding_window": 16}
    text["tie_word_embeddings"] = False  # tied random ones repeat the last token
    config = hub.Gemma4Config(
        text_config=text | {"layer_types": ["sliding_attention", "full_attention"]},
        vision_config=VISION | {"num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 64},
        audio_config=None,
        tie_word_embeddings=False,
        image_token_id=token("<|image|>"),
        boi_token_id=token("<|image>"),
        eoi_token_id=token("<image|>"),
        video_token_id=token("<|video|>"),
        audio_token_id=token("<|audio|>"),
        boa_token_id=token("<|audio>"),
        eoa_token_index=token("<audio|>"),
    )
    processor = hub.Gemma4Processor(
        hub.Gemma4AudioFeatureExtractor(),
        hub.Gemma4ImageProcessor(max_soft_tokens=70),
        words,
        hub.Gemma4VideoProcessor(),
        image_seq_length=70,
        chat_template=TURNS,
    )
    return hub.Gemma4ForConditionalGeneration(config), processor


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
    "qwen3_vl_moe": lambda folder: _qwen(folder, "3 moe"),
    "qwen3_5": lambda folder: _qwen(folder, "3.5"),
    "qwen3_5_moe": lambda folder: _qwen(folder, "3.5 moe"),
    "glm4v": lambda folder: _glm(folder, "4v"),
    "glm46v": lambda folder: _glm(folder, "46V"),
    "smolvlm": _smolvlm,
    "gemma4": _gemma4,
    "molmo2": molmo2,
    "minicpmv4_6": lambda folder: minicpmv(folder, "4_6"),
    "minicpmv4_7": lambda folder: minicpmv(folder, "4_7"),
}
