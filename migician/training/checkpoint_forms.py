"""How versions of transformers write one model: tensor names, a flat or nested config, tokenizer and processor.

Seen in folders of one Qwen2-VL saved by 4.45.2, 4.52.4, 4.57.6, 5.5.4 and 5.24.0: the language model is `model.*`, the
vision tower `visual.*` (4.x, 5.24) or `model.visual.*` (5.5); DeepSpeed or a plain state dict write
`model.language_model.*`. The settings of the language model are in the config itself (4.45), in it and in `text_config`
(4.52 to 4.57), or only in `text_config` (5.x), where `rope_parameters` replace `rope_theta` and `rope_scaling`. Those
of Qwen3-VL were always in `text_config`. Qwen3.5's tower is `model.visual.*` as released, and
`model.language_model.visual.*` as 5.5.4 saves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from migician.files import is_file, read_object, read_text
from migician.models.checkpoint import Checkpoint
from migician.samples.bases import BASES
from migician.samples.lengths import processor_pixels, processor_settings

HEAD, EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"

_OF_THE_WHOLE = {
    "model_type", "architectures", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id",
    "vision_config", "text_config", "tie_word_embeddings", "quantization_config",
}  # fmt: skip
# Written by the tools about themselves, or read by none; the dtypes of the tensors themselves are compared.
_HARMLESS = {
    "transformers_version", "_name_or_path", "use_cache", "padding_side", "_from_model_config", "dtype", "torch_dtype",
    "_attn_implementation_autoset", "attn_implementation",
}  # fmt: skip
# The layer types follow from use_sliding_window and the two below.
_UNREAD = {
    "initializer_range", "vision_token_id", "in_chans", "spatial_patch_size", "bos_token_id", "eos_token_id",
    "pad_token_id", "layer_types",
}  # fmt: skip
_SLIDING = ("sliding_window", "max_window_layers")
_DEFAULTS: dict[str, Any] = {
    "text_config.hidden_act": "silu",
    "text_config.attention_dropout": 0.0,
    "text_config.use_sliding_window": False,
    "text_config.rms_norm_eps": 1e-5,
    "text_config.max_position_embeddings": 32768,
    "vision_config.depth": 32,
    "vision_config.in_channels": 3,
    "vision_config.num_heads": 16,
    "vision_config.patch_size": 14,
    "vision_config.spatial_merge_size": 2,
    "vision_config.temporal_patch_size": 2,
}
_DEFAULTS_OF = {
    "qwen2_vl": {"embed_dim": 1280, "hidden_size": 3584, "hidden_act": "quick_gelu", "mlp_ratio": 4},
    "qwen2_5_vl": {"hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "tokens_per_second": 4}
    | {"window_size": 112, "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]},
}
"""Of the vision tower, whose part of a config leaves defaults out."""


def canonical(name: str) -> str:
    """The name of a tensor without the prefixes that differ between versions of transformers.

    >>> canonical("model.language_model.layers.0.mlp.up_proj.weight"), canonical("model.layers.0.mlp.up_proj.weight")
    ('layers.0.mlp.up_proj.weight', 'layers.0.mlp.up_proj.weight')
    """
    parts = name.split(".")
    while parts and parts[0] in ("model", "language_model"):
        parts.pop(0)
    return ".".join(parts)


def as_named(other: Checkpoint, first: Checkpoint) -> tuple[Checkpoint, list[str]]:
    """(`other` with the tensor names of `first`, what was renamed in sentences).

    If only `first` stores the head that is tied to the embeddings, the embeddings of `other` take its place; if only
    `other` does, its head is left out: `tied_faults` compares both.
    """
    ours = {canonical(name): name for name in first.tensors}
    tensors = {ours.get(canonical(name), name): tensor for name, tensor in other.tensors.items()}
    renamed: dict[str, str] = {}
    for name, tensor in tensors.items():
        if name != tensor.name:
            here, there = _differing_start(name, tensor.name)
            renamed[there] = here
    renames = [f"{there}* of {other.folder} is {here}* of {first.folder}" for there, here in sorted(renamed.items())]
    if is_tied(first) and is_tied(other) and (HEAD in first.tensors) != (HEAD in tensors):
        if HEAD in tensors:
            tensors.pop(HEAD)
            renames.append(f"{HEAD} of {other.folder} repeats its embeddings, and is left out")
        else:
            tensors[HEAD] = tensors[ours[EMBEDDINGS]]
            renames.append(f"{HEAD} of {first.folder} repeats its embeddings; those of {other.folder} take its place")
    return replace(other, tensors=tensors), renames


def _differing_start(a: str, b: str) -> tuple[str, str]:
    """The different beginnings of two names with a common ending; with one word of it where one would be empty.

    >>> _differing_start("model.visual.norm.bias", "visual.norm.bias")
    ('model.visual.', 'visual.')
    """
    ours, theirs = a.split("."), b.split(".")
    while len(ours) > 1 and len(theirs) > 1 and ours[-1] == theirs[-1]:
        del ours[-1], theirs[-1]
    return ".".join(ours) + ".", ".".join(theirs) + "."


def is_tied(checkpoint: Checkpoint) -> bool:
    """Whether the embeddings are the head too: by the config, else by the lack of another head."""
    config = checkpoint.config
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return not any(canonical(name) == HEAD for name in checkpoint.tensors)


def is_tied_in_part(checkpoint: Checkpoint) -> bool:
    """Whether only the text part of a config says what is tied, as 4.52 to 4.57 write it.

    Transformers 5 looks for it in the whole only, and makes a random head.
    """
    part = checkpoint.config.get("text_config")
    return "tie_word_embeddings" not in checkpoint.config and isinstance(part, dict) and is_tied(checkpoint)


def tied_faults(checkpoint: Checkpoint) -> Iterator[str]:
    """What is wrong with a head that is stored beside the embeddings it is tied to."""
    by_name = {canonical(name): tensor for name, tensor in checkpoint.tensors.items()}
    head, embeddings = by_name.get(HEAD), by_name.get(EMBEDDINGS)
    if head is None or embeddings is None or not is_tied(checkpoint):
        return
    size, step = head.n_bytes, 1 << 24
    if size != embeddings.n_bytes or any(
        head.read(at, min(step, size - at)) != embeddings.read(at, min(step, size - at)) for at in range(0, size, step)
    ):
        yield (
            f"{checkpoint.folder}: {HEAD} is not its embeddings, which its config ties it to; set tie_word_embeddings: "
            "false in its config.json if the head was trained"
        )


def config_differences(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    """Each setting in which two configs really differ, with its value in A and in B."""
    ours, theirs = _settings(a), _settings(b)
    family = str(a.config.get("model_type"))
    defaults = _DEFAULTS | {f"vision_config.{key}": value for key, value in _DEFAULTS_OF.get(family, {}).items()}
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = (found.get(key, defaults.get(key)) for found in (ours, theirs))
        if one != other:
            yield f"config.json: {key} is {one!r:.60} in A and {other!r:.60} in B"


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings of a checkpoint by full name, the same for every version."""
    config = {key: value for key, value in checkpoint.config.items() if key not in _HARMLESS}
    if config.get("model_type") not in BASES:
        return dict(_flat(config))
    nested = config.get("text_config")
    text = {key: value for key, value in config.items() if key not in _OF_THE_WHOLE}
    if isinstance(nested, dict):
        text |= {key: value for key, value in nested.items() if key not in _OF_THE_WHOLE}
    if not text.get("use_sliding_window"):
        text = {key: value for key, value in text.items() if key not in _SLIDING}
    whole = {key: value for key, value in config.items() if key in _OF_THE_WHOLE and key != "text_config"}
    vision = config.get("vision_config")
    vision = {key: value for key, value in vision.items() if key != "model_type"} if isinstance(vision, dict) else {}
    whole |= {"text_config": _with_rope(text), "vision_config": vision, "tie_word_embeddings": is_tied(checkpoint)}
    return {name: value for name, value in _flat(whole) if name.rpartition(".")[2] not in _UNREAD and value is not None}


def _with_rope(text: dict[str, Any]) -> dict[str, Any]:
    """The settings with rotary positions as in 5.x."""
    old, new = text.pop("rope_scaling", None), text.pop("rope_parameters", None)
    theta = text.pop("rope_theta", 1000000.0)
    rope = {"rope_theta": theta, **(old if isinstance(old, dict) else {}), **(new if isinstance(new, dict) else {})}
    kind = rope.pop("rope_type", None) or rope.get("type", "default")
    rope.pop("type", None)
    # mrope is what transformers calls default since 4.46, beside the sections.
    return text | {"rope_parameters": rope | {"rope_type": "default" if kind == "mrope" else kind}}


def _flat(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if key in _HARMLESS:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def file_differences(a: Path, b: Path) -> Iterator[str]:
    """Where the tokenizers, templates or image processors of two folders contradict each other.

    What only one folder says is not a contradiction: versions write more or less, and in different files.
    """
    tokenizers = [_tokenizer(folder) for folder in (a, b)]
    for part in sorted(tokenizers[0].keys() & tokenizers[1].keys()) if all(tokenizers) else ():
        if tokenizers[0][part] != tokenizers[1][part]:
            yield f"tokenizer.json differs in its {part.replace('_', ' ')}"
    for name in ("tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt"):
        if name == "tokenizer_config.json" or not all(tokenizers):
            yield from _contradictions(a / name, b / name)
    templates = [_template(folder) for folder in (a, b)]
    if all(templates) and templates[0] != templates[1]:
        yield "the chat template differs"
    processors = [processor_settings(folder) for folder in (a, b)]
    if all(isinstance(one, dict) and one for one in processors):
        yield from (f"the image processor's {line}" for line in _conflicts(*processors))
        pixels = [processor_pixels(folder) for folder in (a, b)]
        if pixels[0] != pixels[1]:
            yield f"the image processor's pixels are {pixels[0]} in A and {pixels[1]} in B"


def _contradictions(ours: Path, theirs: Path) -> Iterator[str]:
    if not (is_file(ours) and is_file(theirs)) or ours.read_bytes() == theirs.read_bytes():
        return
    if ours.suffix != ".json":
        yield f"{ours.name} differs"
    else:
        yield from (f"{ours.name}: {line}" for line in _conflicts(read_object(ours), read_object(theirs)))


# Also written elsewhere, or only about how a version works.
_UNCOMPARED = {
    "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "chat_template", "size",
    "tokenizer_class", "processor_class", "image_processor_type", "video_processor_type", "model_max_length",
    "min_pixels", "max_pixels", "padding_side", "backend", "is_local",
}  # fmt: skip


def _conflicts(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    """Keys to which both give different values."""
    for key in sorted((a.keys() & b.keys()) - _UNCOMPARED):
        one, other = (value.get("content", value) if isinstance(value, dict) else value for value in (a[key], b[key]))
        if one is not None and other is not None and one != other:
            yield f"{key} is {one!r:.60} in A and {other!r:.60} in B"


def _tokenizer(folder: Path) -> dict[str, Any]:
    """What determines the tokens in a tokenizer.json; empty if there is none."""
    file = folder / "tokenizer.json"
    if not is_file(file):
        return {}
    content = read_object(file)
    model: dict[str, Any] = content["model"] if isinstance(content.get("model"), dict) else {}
    merges = model.get("merges") or []
    added = {one.get("content"): one.get("id") for one in content.get("added_tokens") or [] if isinstance(one, dict)}
    known = {token: number for token, number in (model.get("vocab") or {}).items() if token not in added}
    rest = {key: _without_offsets(value) for key, value in content.items() if key not in _NOT_OF_TOKENS}
    return rest | {
        "vocabulary": known,
        "merges": [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in merges],
        "added_tokens": added,
    }


def _without_offsets(value: Any) -> Any:
    """A part of a tokenizer.json without what only affects positions in the text, which 5.x writes differently."""
    if isinstance(value, list):
        return [_without_offsets(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_offsets(one) for key, one in value.items() if key != "trim_offsets"}
    return value


_NOT_OF_TOKENS = {"model", "truncation", "padding", "decoder", "post_processor"}
"""Parts of a tokenizer.json that record its last use, or that versions write differently."""


def _template(folder: Path) -> str:
    """The chat template, wherever a version puts it; empty if there is none."""
    if is_file(folder / "chat_template.jinja"):
        return read_text(folder / "chat_template.jinja").strip()
    for name in ("chat_template.json", "tokenizer_config.json"):
        if is_file(folder / name):
            template = read_object(folder / name).get("chat_template")
            if isinstance(template, str):
                return template.strip()
    return ""
