"""A training YAML as LLaMA-Factory reads it, defaults included."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.boxes import TRAINED_PIXELS
from migician.errors import UserError
from migician.files import conform, decode_yaml, is_file, read_object, read_yaml
from migician.models.checkpoint import read_config
from migician.samples.bases import BASES, QWEN2_VL, TEMPLATES, Base, Template, base_of

DEFAULTS: dict[str, Any] = {
    "adapter_name_or_path": None, "additional_target": None, "bf16": False, "buffer_size": 16384, "cutoff_len": 2048,
    "dataloader_drop_last": False, "dataset": None, "dataset_dir": "data", "deepspeed": None,
    "disable_gradient_checkpointing": False, "double_quantization": True, "enable_liger_kernel": False,
    "eval_dataset": None, "eval_strategy": "no", "finetuning_type": "lora", "fp16": False,
    "freeze_extra_modules": None, "freeze_language_model": False, "freeze_multi_modal_projector": True,
    "freeze_trainable_layers": 2, "freeze_trainable_modules": "all", "freeze_vision_tower": True,
    "gradient_accumulation_steps": 1, "image_max_pixels": TRAINED_PIXELS, "image_min_pixels": 32 * 32,
    "interleave_probs": None, "load_best_model_at_end": False, "lora_rank": 8, "lora_target": "all",
    "lr_scheduler_type": "linear", "max_samples": None, "max_steps": -1, "media_dir": None, "mix_strategy": "concat",
    "model_name_or_path": None, "neat_packing": False, "num_train_epochs": 3.0, "output_dir": None,
    "overwrite_output_dir": False, "packing": None, "per_device_train_batch_size": 8,
    "preprocessing_batch_size": 1000, "preprocessing_num_workers": None, "pure_bf16": False,
    "quantization_bit": None, "resume_from_checkpoint": None, "save_only_model": False, "save_steps": 500,
    "save_strategy": "steps", "save_total_limit": None, "seed": 42, "streaming": False, "template": None,
    "trust_remote_code": False, "use_cpu": False, "use_dora": False, "val_size": 0.0, "warmup_ratio": None,
    "warmup_steps": 0,
}  # fmt: skip
"""The settings of LLaMA-Factory 0.9.5 that are read here and their defaults, for machines without it."""


Fault = tuple[str, str]
"""(kind in `findings.KINDS`, value)."""


class TrainingSettings(msgspec.Struct, frozen=True, dict=True):
    """The settings of one run; the parser's process sends them as JSON, without the file."""

    file: Path = Path()
    values: dict[str, Any] = {}
    """All of them, defaults included."""
    given: dict[str, Any] = {}
    """Those in the file and on the command line."""
    parsed: bool = False
    """Whether LLaMA-Factory's own parser made `values`; else they are `DEFAULTS` and what is given."""
    known: frozenset[str] = frozenset()
    """All keys that LLaMA-Factory knows."""
    faults: tuple[str, ...] = ()
    """What it stops at, in its own words."""
    packages: tuple[str, ...] = ()
    """What the training needs and is not installed here, in its own words."""
    failed: str = ""
    """Why it could not read the file at all."""

    def text(self, key: str) -> str:
        """A setting as text; empty if it is not set."""
        value = self.values.get(key)
        return "" if value is None else str(value)

    def number(self, key: str) -> float:
        """A setting as a number; its default if it is not a number, which is reported."""
        for value in (self.values.get(key), DEFAULTS.get(key)):
            try:
                return float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                continue
        return 0.0

    def flag(self, key: str) -> bool:
        """A setting that is true or false."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else bool(DEFAULTS.get(key))

    def names(self, key: str) -> list[str]:
        """A setting that is a list, or names separated by commas."""
        value = self.values.get(key)
        parts = value if isinstance(value, list) else str(value or "").split(",")
        return [str(name).strip() for name in parts if str(name).strip()]

    def path(self, key: str) -> Path:
        """A setting as a path, relative to the current folder as in LLaMA-Factory."""
        return Path(self.text(key)).expanduser()

    def base_config(self) -> dict[str, Any] | None:
        """The config.json of the model that is trained: empty where it is damaged, None where it is not here."""
        folder = self.path("model_name_or_path")
        if not is_file(folder / "config.json"):
            return None
        try:
            return read_config(folder)
        except UserError:
            return {}

    @property
    def base(self) -> Base:
        """The base model: by the checkpoint, else by the template; Qwen2-VL where neither says."""
        template = self.text("template")
        by_template = (one for one in BASES.values() if template in one.templates)
        return self._base_of_model or next(by_template, QWEN2_VL)

    @property
    def base_known(self) -> bool:
        """Whether the checkpoint itself says which base it is."""
        return self._base_of_model is not None

    @functools.cached_property  # it reads a file
    def _base_of_model(self) -> Base | None:
        try:
            return base_of(self.text("model_name_or_path"))
        except UserError:
            return None

    @property
    def template(self) -> Template:
        """How a conversation is written; that of the base for templates that are not known here."""
        return TEMPLATES.get(self.text("template"), self.base.template)

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets to train on, each once."""
        return list(dict.fromkeys(self.names("dataset")))

    @property
    def eval_datasets(self) -> list[str]:
        """The names of those to evaluate on."""
        return list(dict.fromkeys(self.names("eval_dataset")))

    @property
    def info(self) -> Path:
        """The file that describes the datasets."""
        return self.path("dataset_dir") / "dataset_info.json"

    @property
    def media_dir(self) -> Path:
        """What image paths are relative to."""
        return self.path("media_dir") if self.text("media_dir") else self.path("dataset_dir")

    @property
    def batch(self) -> tuple[int, int]:
        """(samples per GPU at once, batches whose gradients are accumulated per step)."""
        return int(self.number("per_device_train_batch_size")), int(self.number("gradient_accumulation_steps"))

    @property
    def packs(self) -> bool:
        """Whether samples share sequences."""
        return self.flag("packing") or self.flag("neat_packing")

    @property
    def halves(self) -> bool:
        """Whether it computes in 16 bits."""
        return self.flag("bf16") or self.flag("fp16") or self.flag("pure_bf16")

    @property
    def method(self) -> str:
        """`finetuning_type`: full, freeze, lora or oft."""
        return self.text("finetuning_type")

    def zero(self) -> Zero:
        """What DeepSpeed splits over the GPUs; stage 0 without it, or if its file cannot be read."""
        if not self.text("deepspeed"):
            return Zero(0, False, False)
        try:
            given = self.values["deepspeed"]
            content = (
                conform(given, _DeepSpeed, "deepspeed")
                if isinstance(given, dict)
                else read_object(self.path("deepspeed"), _DeepSpeed)
            )
        except UserError:
            return Zero(0, False, False)
        part = content.zero_optimization
        places = [getattr(one, "device", "none") for one in (part.offload_optimizer, part.offload_param)]
        return Zero(part.stage, places[0] != "none", places[1] != "none")


@dataclass(frozen=True, slots=True)
class Zero:
    """DeepSpeed's stage, and what it offloads to the memory of the machine."""

    stage: int
    offloads_optimizer: bool
    offloads_parameters: bool


class _Place(msgspec.Struct):
    device: str = "none"


class _ZeroPart(msgspec.Struct):
    stage: int = 0
    offload_optimizer: _Place | None = None
    offload_param: _Place | None = None


class _DeepSpeed(msgspec.Struct):
    zero_optimization: _ZeroPart = msgspec.field(default_factory=_ZeroPart)


def read_given(file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings in a YAML file, replaced by those of `overrides` ("key=value"), without defaults.

    Raises `UserError` naming the line if the file is not a YAML of settings.
    """
    values = read_yaml(file)
    if not isinstance(values, dict) or not values or not all(isinstance(key, str) for key in values):
        raise UserError(f"{file}: not a training YAML: expected lines of `key: value`")
    for given in overrides:
        key, separator, value = given.partition("=")
        if not separator:
            raise UserError(f"{given!r}: expected key=value")
        values[key] = decode_yaml(value, given)
    return values
