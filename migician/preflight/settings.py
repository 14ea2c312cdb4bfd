"""A training YAML as LLaMA-Factory reads it, with its defaults for what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError
from migician.files import decode_yaml, read_object, read_yaml


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one run."""

    file: Path
    values: dict[str, Any]
    """As they stand in the file."""

    def text(self, key: str, default: str = "") -> str:
        """A setting as text."""
        value = self.values.get(key)
        return default if value is None else str(value)

    def number(self, key: str, default: float) -> float:
        """A setting as a number; `default` where it is missing or none, which `faults` reports."""
        value = self.values.get(key)
        try:
            return default if value is None else float(value)
        except (TypeError, ValueError):
            return default

    def flag(self, key: str, default: bool = False) -> bool:
        """A setting that is true or false."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else default

    def path(self, key: str, default: str = "") -> Path:
        """A setting as a path, from the current folder as LLaMA-Factory takes it."""
        return Path(self.text(key, default)).expanduser()

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets that are trained on."""
        return [name.strip() for name in self.text("dataset").split(",") if name.strip()]

    @property
    def info(self) -> Path:
        """The file that says what the datasets are."""
        return self.path("dataset_dir", "data") / "dataset_info.json"

    @property
    def media_dir(self) -> Path:
        """Where the paths of images begin."""
        return self.path("media_dir") if self.text("media_dir") else self.path("dataset_dir", "data")

    @property
    def batch(self) -> tuple[int, int]:
        """(samples a GPU at once, times their gradients are added up before a step)."""
        return int(self.number("per_device_train_batch_size", 8)), int(self.number("gradient_accumulation_steps", 1))

    def zero(self) -> Zero:
        """What DeepSpeed splits over the GPUs; stage 0 without it, or where its file cannot be read."""
        if not self.text("deepspeed"):
            return Zero(0, False, False)
        try:
            content = read_object(self.path("deepspeed"), _DeepSpeed)
        except UserError:
            return Zero(0, False, False)
        part = content.zero_optimization
        places = [getattr(one, "device", "none") for one in (part.offload_optimizer, part.offload_param)]
        return Zero(part.stage, places[0] != "none", places[1] != "none")


@dataclass(frozen=True, slots=True)
class Zero:
    """DeepSpeed's stage and what it keeps in the memory of the machine instead of the GPU's."""

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


def read_settings(file: Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings in a YAML file and then those of `overrides` ("key=value"), as LLaMA-Factory takes both.

    Raises `UserError` naming the line where the file is no YAML of settings.
    """
    values = read_yaml(file)
    if not isinstance(values, dict) or not values or not all(isinstance(key, str) for key in values):
        raise UserError(f"{file}: not a training YAML: expected lines of `key: value`")
    for given in overrides:
        key, separator, value = given.partition("=")
        if not separator:
            raise UserError(f"{given!r}: expected key=value")
        values[key] = decode_yaml(value, given)
    return Settings(file, values)
