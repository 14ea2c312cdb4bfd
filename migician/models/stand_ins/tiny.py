"""A real base model of about a million parameters, with random weights: for tests and the quickstart.

It is a Qwen2-VL, Qwen2.5-VL, Qwen3-VL or Qwen3.5 with the released architecture, special tokens, chat template and
image processor, so everything that loads the released ones (transformers, LLaMA-Factory, this package) loads it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migician.again import check_new, making
from migician.errors import UserError, unknown

if TYPE_CHECKING:
    from transformers import Qwen2TokenizerFast


@dataclass(frozen=True, slots=True)
class TinyShape:
    """All sizes of a tiny model; the defaults are what the quickstart trains."""

    width: int = 128
    """Of the language model; a multiple of `heads`, and width / heads a multiple of 4."""
    layers: int = 3
    heads: int = 8
    key_value_heads: int = 8
    feed_forward: int = 256
    rope_theta: float = 30.0
    """Far below Qwen2-VL's 1e6: the prompts are short, and small heads have few frequencies."""
    vision_width: int = 64
    vision_layers: int = 1
    vision_heads: int = 4
    spread: float = 0.06
    """Standard deviation of the random weights of the language model."""
    vision_spread: float = 0.06
    """The same for the vision tower, which training usually freezes."""
    max_pixels: int = 112 * 112
    """Of one image; 28 x 28 pixels become one token of the language model. Qwen3-VL's images have as many tokens."""
    merges: int = 256
    """At most this many word pieces beside the 256 bytes; none has a digit, so numbers are read digit by digit."""


SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2-VL's own, in the order of their ids."""

_SYSTEM_FIRST = """\
{%- if loop.first and message.role != 'system' -%}
{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif -%}
"""
# Gives the text of Qwen2-VL's own template for messages of texts and images; later ones add no system turn.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}\n"
    + _SYSTEM_FIRST
    + """\
{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{{ '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""
)

# What the word pieces are learned from, unless the caller has the real training text.
WORDINGS = (
    "system You are a helpful assistant. user assistant",
    "Please locate the object in the first image, the second image, the third image, the fourth image.",
    "Find and locate the object of Image-1 in Image-2. It's in the third image. It is in the second image.",
    "Recognize the difference between the two images and give the bounding box of what changed.",
    "What is the common object shown in all of these images? Where is the target in this frame of the sequence?",
    "Format: Don't generate additional words. Which region of the image is this crop taken from?",
    "red green blue yellow orange purple white black circle square triangle star ring cross shape colour background",
)


def make_tiny(
    folder: str | Path,
    *,
    seed: int,
    base: str = "qwen2_vl",
    shape: TinyShape | None = None,
    texts: Iterable[str] = WORDINGS,
    force: bool = False,
) -> Path:
    """Write a randomly initialised tiny model of `base`, one of `BASES`, to `folder` and give its path.

    The folder has what a released checkpoint has: config, safetensors, tokenizer, chat template, image processor. The
    word pieces are learned from `texts`. Same arguments, same bytes, on any number of threads. Raises `Done` if the
    folder is this model already, `UserError` if it has anything else; `force` replaces another tiny model.
    """
    import torch

    if base not in BASES:
        raise UserError(unknown("base", base, BASES))
    shape = shape or TinyShape()
    target = Path(folder)
    learned = list(texts)
    digest = hashlib.sha256("\0".join(learned).encode("utf-8", "surrogatepass")).hexdigest()
    settings = {"tiny": shape, "base": base, "seed": seed, "texts_sha256": digest}
    check_new(target, settings, force=force)
    tokenizer = _tokenizer(learned, shape.merges)
    # The generator is the only randomness; it is restored, because the caller may be in a seeded run.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = BASES[base](shape, tokenizer)
        for name, weight in model.named_parameters():
            if weight.dim() > 1:  # norms and biases keep their ones and zeros
                torch.nn.init.normal_(weight, std=shape.vision_spread if "visual" in name else shape.spread)
    model.generation_config.eos_token_id = [
        tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")
    ]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with making(target, settings, force=force) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
    return target


def _qwen2_vl(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> tuple[Any, Any]:
    import transformers as hub

    vision = {
        "depth": shape.vision_layers,
        "embed_dim": shape.vision_width,
        "hidden_size": shape.width,
        "num_heads": shape.vision_heads,
        "mlp_ratio": 2,
    }
    config = hub.Qwen2VLConfig(text_config=_text(shape, tokenizer), vision_config=vision, **_whole(tokenizer))
    processor = _qwen2_processor(hub.Qwen2VLProcessor, shape, tokenizer)
    return hub.Qwen2VLForConditionalGeneration(config), processor


def _qwen2_5_vl(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> tuple[Any, Any]:
    import transformers as hub

    # One layer sees the whole image, the last; any before it see windows of 2 x 2 tokens.
    vision = _vision(shape) | {"fullatt_block_indexes": [shape.vision_layers - 1], "window_size": 56}
    config = hub.Qwen2_5_VLConfig(text_config=_text(shape, tokenizer), vision_config=vision, **_whole(tokenizer))
    processor = _qwen2_processor(hub.Qwen2_5_VLProcessor, shape, tokenizer)
    return hub.Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> tuple[Any, Any]:
    import transformers as hub

    text = _text(shape, tokenizer) | {"head_dim": shape.width // shape.heads}
    text["rope_parameters"]["mrope_interleaved"] = True
    # The first layer's features are added within the language model too; positions are learned for a grid of 8 x 8.
    vision = _vision(shape) | {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    config = hub.Qwen3VLConfig(text_config=text, vision_config=vision, **_whole(tokenizer))
    return hub.Qwen3VLForConditionalGeneration(config), _qwen3_processor(shape, tokenizer)


def _qwen3_5(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> tuple[Any, Any]:
    import transformers as hub

    head = shape.width // shape.heads
    text = _text(shape, tokenizer) | {
        "head_dim": head,
        "layer_types": [*["linear_attention"] * (shape.layers - 1), "full_attention"],
        "linear_key_head_dim": head,
        "linear_value_head_dim": head,
        "linear_num_key_heads": shape.key_value_heads,
        "linear_num_value_heads": shape.heads,
    }
    text["rope_parameters"] |= {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    vision = _vision(shape) | {"num_position_embeddings": 64}
    config = hub.Qwen3_5Config(text_config=text, vision_config=vision, **_whole(tokenizer))
    return hub.Qwen3_5ForConditionalGeneration(config), _qwen3_processor(shape, tokenizer)


def _qwen2_processor(kind: Any, shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> Any:
    import transformers as hub
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    pixels = {"shortest_edge": 56 * 56, "longest_edge": shape.max_pixels}
    return kind(
        image_processor=hub.Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE,
    )


def _qwen3_processor(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> Any:
    import transformers as hub

    pixels = {"shortest_edge": 64 * 64, "longest_edge": shape.max_pixels // 28**2 * 32**2}
    return hub.Qwen3VLProcessor(
        image_processor=hub.Qwen2VLImageProcessor(size=pixels, patch_size=16),
        tokenizer=tokenizer,
        video_processor=hub.Qwen3VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE.replace(_SYSTEM_FIRST, ""),
    )


BASES: dict[str, Callable[[TinyShape, Qwen2TokenizerFast], tuple[Any, Any]]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_5": _qwen3_5,
}
"""Each makes a model and its processor, by what the config.json of the released ones calls the base."""


def _text(shape: TinyShape, tokenizer: Qwen2TokenizerFast) -> dict[str, Any]:
    """The language model of any base."""
    head = shape.width // shape.heads
    # How many rotary frequencies go to time, height and width; Qwen2-VL's own ratio is 16 : 24 : 24.
    space = head // 2 * 3 // 8
    token = tokenizer.convert_tokens_to_ids
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": shape.rope_theta,
            "mrope_section": [head // 2 - 2 * space, space, space],
        },
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }


def _vision(shape: TinyShape) -> dict[str, Any]:
    """The vision tower since Qwen2.5-VL."""
    return {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_width,
        "intermediate_size": 2 * shape.vision_width,
        "num_heads": shape.vision_heads,
        "out_hidden_size": shape.width,
    }


def _whole(tokenizer: Qwen2TokenizerFast) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


def _tokenizer(texts: Iterable[str], merges: int) -> Qwen2TokenizerFast:
    """Qwen2's byte-level tokenizer with `merges` word pieces learned from `texts`."""
    import json

    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    blank = Qwen2TokenizerFast(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[])
    learner = blank.backend_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    words = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    tokenizer = Qwen2TokenizerFast(
        vocab={word: index for index, word in enumerate((*words, *SPECIAL_TOKENS))},
        merges=[tuple(pair) for pair in learned["merges"]],
        eos_token="<|im_end|>",  # noqa: S106 - a word piece, not a secret
        pad_token="<|endoftext|>",  # noqa: S106
        unk_token=None,
        model_max_length=4096,
    )
    tokenizer.add_tokens(list(SPECIAL_TOKENS), special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
