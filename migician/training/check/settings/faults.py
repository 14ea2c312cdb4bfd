"""What is wrong with the settings of a training."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from migician.boxtext import BOX_END, BOX_START, REF_END, REF_START
from migician.errors import UserError, closest
from migician.files import is_file, is_folder, read_object, read_text
from migician.models.checkpoint import read_config
from migician.samples.bases import QWEN2_VL
from migician.training.check.options import Cluster
from migician.training.check.settings.training_yaml import Fault, TrainingSettings

GONE = {
    "evaluation_strategy": "eval_strategy",
    "image_resolution": "image_max_pixels",
    "train_mm_proj_only": "freeze_vision_tower and freeze_language_model",
    "new_special_tokens": "add_special_tokens",
    "save_safetensors": None,
    "no_cuda": "use_cpu",
    "group_by_length": "train_sampling_strategy",
}
"""Keys of older versions -> their replacement (None: not needed any more)."""

_REQUIRED = ("model_name_or_path", "dataset", "output_dir", "template")
_TOKENS = (BOX_START, BOX_END, REF_START, REF_END)
_POSITIVE = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "cutoff_len")
_NOT_COUNTED = ("use_galore", "use_apollo", "use_badam", "use_llama_pro", "use_unsloth")


def setting_faults(settings: TrainingSettings, cluster: Cluster) -> Iterator[Fault]:
    """Everything wrong with the settings themselves."""
    yield from _key_faults(settings)
    yield from _value_faults(settings)
    yield from _machine_faults(settings, cluster)
    yield from _path_faults(settings)
    yield from _config_faults(settings)
    yield from _resume_faults(settings)
    yield from _tokenizer_faults(settings)


def _key_faults(settings: TrainingSettings) -> Iterator[Fault]:
    if not settings.parsed:
        yield "keys_unknown", "LLaMA-Factory is not installed here; its defaults are those of version 0.9.5"
    for key in settings.given:
        if key in GONE and key not in settings.known:
            instead = f"use {GONE[key]}" if GONE[key] else "remove it"
            yield "setting_unknown", f"{key}: only older versions know it; {instead}"
        elif settings.parsed and key not in settings.known:
            yield "setting_unknown", f"{key}.{closest(key, settings.known)}"


def _value_faults(settings: TrainingSettings) -> Iterator[Fault]:
    missing = [key for key in _REQUIRED if settings.given.get(key) in (None, "", [])]
    for key in missing:
        yield "setting_value", f"{key} is missing"
    if not missing:
        for fault in settings.faults:
            yield "setting_refused", fault
    for key in _POSITIVE:
        if key in settings.given and not _above_0(settings.given[key]):
            yield "setting_value", f"{key}: {settings.given[key]!r}, expected a number above 0"
    if settings.flag("neat_packing") and settings.batch[0] > 1:
        yield (
            "setting_value",
            f"per_device_train_batch_size: {settings.batch[0]}, but neat_packing takes 1: raise cutoff_len",
        )
    template, base = settings.text("template"), settings.base
    if settings.flag("neat_packing") and base.recurrent and settings.text("flash_attn") != "fa2":
        yield (
            "setting_value",
            f"neat_packing: layers of {base.title} carry their state over the ends of samples unless flash_attn is fa2",
        )
    if template and template not in base.templates and settings.base_known:
        yield (
            "setting_value",
            f"template: {template!r}, but the model is a {base.title}: its template is {base.template.name}",
        )
    if settings.template.thought and _thinks(settings) is False:
        yield "thinking", f"template: {template}"
    if settings.text("mix_strategy") == "interleave_once" and len(settings.datasets) > 1:
        yield "setting_value", "mix_strategy: interleave_once, which the datasets 4.0 of LLaMA-Factory 0.9.5 refuses"
    for key in _NOT_COUNTED:
        if settings.values.get(key):
            yield "not_counted", key
    if settings.method == "oft":
        yield "not_counted", "finetuning_type: oft"


def _above_0(value: object) -> bool:
    try:
        return float(value) > 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def streaming_faults(settings: TrainingSettings, images: int) -> Iterator[Fault]:
    """What stops a streamed training with `images` images: LLaMA-Factory 0.9.5 with accelerate 1.11."""
    if not settings.flag("streaming"):
        return
    if settings.values.get("dataloader_num_workers") in (0, "0"):
        yield "setting_value", "dataloader_num_workers: 0, but streaming takes 1 or more"
    dispatched = settings.given.get("accelerator_config")
    if images and not (isinstance(dispatched, dict) and dispatched.get("dispatch_batches") is False):
        yield (
            "setting_value",
            "streaming: batches are cut to one row of pixels per sample; add accelerator_config: "
            "{dispatch_batches: false}",
        )


def _machine_faults(settings: TrainingSettings, cluster: Cluster) -> Iterator[Fault]:
    for package in settings.packages:
        yield "package_missing", package
    if cluster.gpu_memory_gb:
        return
    if settings.flag("bf16") and not settings.flag("use_cpu"):
        yield "setting_value", "bf16: true, but there is no GPU: leave it out, or set use_cpu: true"
    if settings.flag("fp16"):
        yield "setting_value", "fp16: true, but there is no GPU: leave it out"
    if settings.number("quantization_bit"):
        yield "setting_value", "quantization_bit: there is no GPU, and bitsandbytes quantises on one"


def _thinks(settings: TrainingSettings) -> bool | None:
    """Whether the model's own chat template has thoughts; None where it is not here."""
    files = [settings.path("model_name_or_path") / name for name in ("chat_template.jinja", "chat_template.json")]
    there = [file for file in files if is_file(file)]
    return any("<think>" in read_text(file) for file in there) if there else None


def _config_faults(settings: TrainingSettings) -> Iterator[Fault]:
    folder = settings.path("model_name_or_path")
    if not is_file(folder / "config.json"):
        return
    try:
        config = read_config(folder)
    except UserError as error:
        yield "setting_path", f"model_name_or_path: {error}"
        return
    if "model_type" not in config and not settings.flag("trust_remote_code"):
        yield (
            "setting_value",
            f"trust_remote_code: {folder / 'config.json'} has auto_map and no model_type: the model runs its own "
            "code; read it, then set this to true",
        )


def _path_faults(settings: TrainingSettings) -> Iterator[Fault]:
    for key in ("model_name_or_path", "output_dir", "dataset_dir", "media_dir", "deepspeed"):
        if " " in settings.text(key):
            yield (
                "setting_path",
                f"{key}: {settings.text(key)!r} has a space, at which LLaMA-Factory's launcher splits it",
            )
    model = settings.text("model_name_or_path")
    folder = settings.path("model_name_or_path")
    # A Hub id looks like a relative path of two parts: it is a path if its first part is a folder here.
    is_path = folder.is_absolute() or model.startswith((".", "~")) or (model and is_folder(folder.parts[0]))
    if is_path and not is_file(folder / "config.json"):
        yield (
            "setting_path",
            f"model_name_or_path: {model} is not a folder with a config.json; run the previous stage first",
        )
    if settings.text("deepspeed") and not isinstance(settings.values["deepspeed"], dict):
        file = settings.path("deepspeed")
        try:
            read_object(file)
        except UserError as error:
            yield "setting_path", f"deepspeed: {error}"


def _resume_faults(settings: TrainingSettings) -> Iterator[Fault]:
    """LLaMA-Factory resumes by itself from a checkpoint in `output_dir` unless `overwrite_output_dir` is true."""
    out = settings.path("output_dir")
    found = bool(settings.text("output_dir")) and any(out.glob("checkpoint-*"))
    asked = settings.text("resume_from_checkpoint")
    resumes = bool(asked) or (found and not settings.flag("overwrite_output_dir"))
    same = asked and settings.text("model_name_or_path") == asked
    # An adapter is loaded whole; see tests/training/test_lora_runs.py.
    if resumes and not settings.text("deepspeed") and not same and settings.method != "lora":
        yield "resume_lossy", f"from {asked or out}"
    if found and settings.flag("overwrite_output_dir") and settings.text("deepspeed"):
        yield "resume_never", f"{out} holds checkpoints"


class _Token(msgspec.Struct):
    content: str


class _Vocabulary(msgspec.Struct):
    vocab: dict[str, int]


class _Tokenizer(msgspec.Struct):
    """The fields of a tokenizer.json that matter here."""

    added_tokens: list[_Token]
    model: _Vocabulary


def _tokenizer_faults(settings: TrainingSettings) -> Iterator[Fault]:
    file = settings.path("model_name_or_path") / "tokenizer.json"
    if not is_file(file):
        return
    try:
        tokenizer = read_object(file, _Tokenizer)
    except UserError:
        return  # `_tokenizer` of `check_training` finds it
    if settings.base.convention != QWEN2_VL.convention:
        return  # its boxes are plain text
    known = {one.content for one in tokenizer.added_tokens} | {*tokenizer.model.vocab}
    missing = [token for token in _TOKENS if token not in known]
    if missing:
        yield "tokens_missing", ", ".join(missing)
