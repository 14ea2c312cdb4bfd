"""What a model is to this project, and every model by name.

A model answers requests a batch at a time; `Model` is all that evaluation, grounding and chat
know of it. To add one: a file with a loader, and one line in a dict below. Importing this loads
no torch; a model's own imports come when it is named.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from migician.boxtext import BoxStyle
from migician.checkpoints import locate, read_config
from migician.errors import UserError, closest
from migician.models.pictures import ImageInput


@dataclass(frozen=True)
class Request:
    """One question about some images."""

    images: tuple[ImageInput, ...]
    """In the order in which the texts speak of them."""
    prompt: str
    """Where it holds `<image>` marks, the images stand there; without any, all stand before the text."""
    max_new_tokens: int = 128
    history: tuple[tuple[str, str], ...] = ()
    """Earlier (question, reply) pairs of the same conversation; their `<image>` marks count first."""
    max_side_px: int | None = None
    """Images that do not fit a square of this side are shrunk until they do; None to leave them."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers requests."""

    name: str
    box_style: BoxStyle
    """How this family spells a box; its replies are read in this style only."""

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One whole reply for each request, box tokens kept; raises `UserError` for a request nobody could answer."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a report must say of this model, as JSON: weights, precision, limits, decoding. Equal in every run."""
        ...


MODELS: dict[str, str] = {
    "constant": "migician.models.constant:load",
    "scripted": "migician.models.scripted:load",
}
"""Models without weights: name -> "module:function", called with what follows a colon ("constant:250,250,750,750")."""

CHECKPOINTS: dict[str, str] = {
    "migician": "Michael4933/Migician",
    "qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct",
    "qwen2-vl-7b": "Qwen/Qwen2-VL-7B-Instruct",
    "qwen2-vl-72b": "Qwen/Qwen2-VL-72B-Instruct",
}
"""Released weights by a short name: name -> Hub id."""

FAMILIES: dict[str, str] = {
    "qwen2_vl": "migician.models.qwen2_vl:load",
}
"""What loads a checkpoint: `model_type` of its config.json -> "module:function"."""


def load_model(name_or_path: str | Path, **options: Any) -> Model:
    """The model of that name, of that folder, or of that Hub id.

    `name_or_path` is a name in `MODELS` (with what it needs behind a colon), a name in
    `CHECKPOINTS`, a folder with `config.json`, or a Hub id such as "Qwen/Qwen2-VL-7B-Instruct".
    `options` go to the loader of a checkpoint (`max_pixels=...`, `revision=...`). Raises `UserError` for anything
    else, and where the packages a model needs are not installed.
    """
    given = str(name_or_path)
    name, _, argument = given.partition(":")
    if name in MODELS:
        if options:
            raise UserError(f"{name} looks at nothing, so it takes no {', '.join(sorted(options))}")
        return _loader(MODELS[name])(argument)
    reference = CHECKPOINTS.get(given, given)
    if "/" not in reference and not Path(reference).exists():
        raise UserError(_unknown(given))
    family = read_config(locate(reference, options.get("revision")))["model_type"]
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UserError(f"{given}: its config.json says model_type {family!r}. Supported: {known}")
    return _loader(FAMILIES[family])(reference, **options)


def _unknown(given: str) -> str:
    known = [*MODELS, *CHECKPOINTS]
    hint = closest(given, known)
    return f"no model {given!r}. Known: {', '.join(known)}; or a folder with config.json, or a Hub id.{hint}"


def _loader(place: str) -> Callable[..., Model]:
    module, _, function = place.partition(":")
    try:
        loader: Callable[..., Model] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise UserError(missing_extra(error)) from None
    return loader


def missing_extra(error: ModuleNotFoundError) -> str:
    """What to tell someone who has only the light installation."""
    return f"running a model needs the package {error.name!r}: pip install 'migician[models]', or bash scripts/setup.sh"
