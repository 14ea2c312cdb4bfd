"""Every model by name; `protocol` defines what a model is.

To add a family: a file that declares it, and one line in `FAMILIES`. Importing this does not load torch; a model's own
imports happen when it is loaded.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from migician.boxes import Size
from migician.errors import UserError, closest, unknown
from migician.files import status
from migician.models.checkpoint import locate, read_config
from migician.models.family import ANY, QWEN2_VL, Family, OfficialPrompt
from migician.models.pictures import ImageInput
from migician.models.protocol import Model

if "torch" not in sys.modules:  # its OpenMP reads this once, while loading; see `engines.threads`
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


MODELS: dict[str, str] = {
    "constant": "migician.models.stand_ins.constant:load",
    "scripted": "migician.models.stand_ins.scripted:load",
}
"""Models without weights: name -> "module:function", called with what follows a colon ("constant:250,250,750,750")."""

ENGINES: dict[str, str] = {
    "server": "migician.models.engines.server:load",
    "vllm": "migician.models.engines.vllm:load",
}
"""Other ways to run weights: name -> "module:function", called with what follows the colon, the family, and options."""

CHECKPOINTS: dict[str, str] = {
    "migician": "Michael4933/Migician",
    "qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct",
    "qwen2-vl-7b": "Qwen/Qwen2-VL-7B-Instruct",
    "qwen2-vl-72b": "Qwen/Qwen2-VL-72B-Instruct",
    "qwen2.5-vl-7b": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
    "qwen3-vl-30b-a3b": "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "qwen3.5-9b": "Qwen/Qwen3.5-9B",
    "onethinker-8b": "OneThink/OneThinker-8B",
    "rex-omni": "IDEA-Research/Rex-Omni",
    "univg-r1": "GD-ML/UniVG-R1",
    "llava-onevision-7b": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "llava-onevision-1.5-8b": "lmms-lab/LLaVA-OneVision-1.5-8B-Instruct",
    "glm-4.1v-9b": "zai-org/GLM-4.1V-9B-Thinking",
    "glm-4.5v": "zai-org/GLM-4.5V",
    "glm-4.6v-flash": "zai-org/GLM-4.6V-Flash",
    "internvl3-8b": "OpenGVLab/InternVL3-8B-hf",
    "internvl3.5-8b": "OpenGVLab/InternVL3_5-8B-HF",
    "internvl2-8b": "OpenGVLab/InternVL2-8B",
    "mantis": "TIGER-Lab/Mantis-8B-Idefics2",
    "minicpm-v-2.6": "openbmb/MiniCPM-V-2_6",
    "minicpm-v-4.5": "openbmb/MiniCPM-V-4_5",
    "minicpm-v-4.6": "openbmb/MiniCPM-V-4.6",
    "molmo2-8b": "allenai/Molmo2-8B",
    "gemma-4-e4b": "google/gemma-4-E4B-it",
    "smolvlm2-2.2b": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    "mplug-owl3": "mPLUG/mPLUG-Owl3-7B-240728",
    "cogvlm": "THUDM/cogvlm-grounding-generalist-hf",
}
"""Released weights by a short name: name -> Hub id."""

FAMILIES: dict[str, str] = {
    "qwen2_vl": "migician.models.family:QWEN2_VL",
    "univg_r1": "migician.models.family:UNIVG_R1",
    "qwen2_5_vl": "migician.models.families.qwen2_5_vl:FAMILY",
    "qwen3_vl": "migician.models.families.qwen3_vl:FAMILY",
    "qwen3_vl_moe": "migician.models.families.qwen3_vl:MOE",
    "qwen3_5": "migician.models.families.qwen3_5:FAMILY",
    "qwen3_5_moe": "migician.models.families.qwen3_5:MOE",
    "onethinker": "migician.models.families.qwen3_vl:ONETHINKER",
    "rex_omni": "migician.models.families.rex_omni:FAMILY",
    "glm4v": "migician.models.families.glm_v:FAMILY",
    "glm4v_moe": "migician.models.families.glm_v:GLM4V_MOE",
    "glm46v": "migician.models.families.glm_v:GLM46V",
    "llava_onevision": "migician.models.families.llava_onevision:FAMILY",
    "internvl": "migician.models.families.internvl:FAMILY",
    "idefics2": "migician.models.families.mantis:FAMILY",
    "internvl_chat": "migician.models.families.internvl2:FAMILY",
    "minicpmv": "migician.models.families.minicpm_v:FAMILY",
    "mplugowl3": "migician.models.families.mplug_owl3:FAMILY",
    "cogvlm": "migician.models.families.cogvlm:FAMILY",
    "gemini": "migician.models.families.gemini:FAMILY",
    "gemma4": "migician.models.families.gemma4:FAMILY",
    "smolvlm": "migician.models.families.smolvlm:FAMILY",
    "molmo2": "migician.models.families.molmo2:FAMILY",
    "minicpmv4_6": "migician.models.families.minicpm_v4:FAMILY",
    "minicpmv4_7": "migician.models.families.minicpm_v4:MINICPMV4_7",
    "llavaonevision1_5": "migician.models.families.llava_onevision1_5:FAMILY",
    "kimi_k25": "migician.models.families.kimi:FAMILY",
    "generic": "migician.models.family:GENERIC",
}
"""`model_type` of a config.json, or another name where several families share it -> "module:constant"."""

OTHERWISE: dict[str, str] = {
    "GD-ML/UniVG-R1": "univg_r1",
    "THUDM/cogvlm-grounding-generalist-hf": "cogvlm",
    "OneThink/OneThinker-8B": "onethinker",
    "IDEA-Research/Rex-Omni": "rex_omni",
}
"""Hub ids whose config.json does not identify the family -> name in `FAMILIES`."""


def load_model(name_or_path: str | Path, **options: Any) -> Model:
    """The model with that name, in that folder, or with that Hub id.

    `name_or_path` is a name in `MODELS` (with its argument after a colon), a name in `CHECKPOINTS`, a folder with
    `config.json`, a Hub id such as "Qwen/Qwen2-VL-7B-Instruct", or one of these after "vllm:", or
    "server:ADDRESS#MODEL". `options` go to the loader (`max_pixels=...`, `revision=...`); `family` is a name in
    `FAMILIES` if the config does not identify it, and `trust_remote_code` allows a family to run the code it ships.
    To ground and chat use `migician.ground(model, ...)` and `migician.Chat(model, ...)`, which take every model;
    `Migician.from_pretrained` gives a model that has both as methods. Raises `UserError` for anything else, and if the
    packages a model needs are not installed.
    """
    given = str(name_or_path)
    name, _, argument = given.partition(":")
    if name in MODELS:
        if options:
            raise UserError(f"{name} sees no images, so it takes no {', '.join(sorted(options))}")
        blind: Model = _found(MODELS[name])(argument)
        return blind
    declared = options.pop("family", None)
    family, reference = find_family(given, declared, options.get("revision")), _reference(given)
    if name != "server":
        _check_trust(reference, family, options)
        if declared or reference in OTHERWISE:
            config = read_config(locate(reference, options.get("revision"), ["config.json"]))
            kind = config.get("model_type")
            if kind is not None and (family.model_type or family.name) not in (ANY, kind):
                raise UserError(f"{reference}: its config.json says model_type {kind!r}, so it is not a {family.name}")
    loader = _found(ENGINES.get(name, family.loader))
    refuse_unknown(given, loader, options)
    model: Model = loader(reference, family, **options)
    return model


def check_positions(name_or_path: str | Path, family: Family) -> None:
    """Raise `UserError` where a model takes no positions other than those of its makers; nothing is loaded."""
    given = str(name_or_path)
    name = given.partition(":")[0]
    if name in MODELS or name in ENGINES or family.loader != QWEN2_VL.loader:
        raise UserError(f"{given} takes no positions: leave out --positions, which is for a Qwen2-VL, 2.5 or 3")


def find_family(name_or_path: str | Path, declared: str | None = None, revision: str | None = None) -> Family:
    """The family of what `load_model` would load; fetches and reads no more than a config.

    `declared` is a name in `FAMILIES`: needed for a server, and for families that share a `model_type`. Raises
    `UserError` if the family is unknown.
    """
    given = str(name_or_path)
    name = given.partition(":")[0]
    if declared is not None and declared not in FAMILIES:
        raise UserError(unknown("family", declared, FAMILIES))
    if declared is None and name == "server":
        raise UserError(f"{given}: a server does not say how its model writes boxes: add --family, such as qwen2_vl")
    reference = _reference(given)
    chosen = "qwen2_vl" if name in MODELS else declared or OTHERWISE.get(reference)
    if chosen is None:
        if "/" not in reference and status(reference) is None:
            names = [*MODELS, *CHECKPOINTS]
            raise UserError(
                f"no model {given!r}. Known: {', '.join(names)}; or a folder with config.json, or a Hub id."
                + closest(given, names)
            )
        chosen = read_config(locate(reference, revision, ["config.json"])).get("model_type")
        if chosen not in FAMILIES:
            known = ", ".join(sorted(FAMILIES))
            raise UserError(
                f"{given}: its config.json says model_type {chosen!r}. Supported: {known}; or any other that "
                "transformers has a class for, asked in the generic form: --family generic"
            )
    family: Family = _found(FAMILIES[chosen])
    return family


def official_prompt(family: Family) -> OfficialPrompt:
    """How the makers of a family ask for boxes; raises `UserError` where they do not document it."""
    if family.official is None:
        known = ", ".join(sorted(name for name, place in FAMILIES.items() if _found(place).official))
        raise UserError(
            f"the makers of {family.name} document no prompt for boxes: use --prompt corrected. Known: {known}"
        )
    return family.official


def seen_sizes(model: Model, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size] | None:
    """(width, height) of each image as `model` sees it, for families that count pixels; None for others.

    `max_side_px` is the request's.
    """
    if model.box_style.scale != "pixel":
        return None
    sizes: list[Size] = model.seen_sizes(images, max_side_px)  # type: ignore[attr-defined]
    return sizes


def _reference(given: str) -> str:
    """The folder or Hub id in a name, without its engine."""
    engine, _, rest = given.partition(":")
    name = rest if engine in ENGINES else given
    return CHECKPOINTS.get(name, name)


def _check_trust(reference: str, family: Family, options: dict[str, Any]) -> None:
    trusted = options.pop("trust_remote_code", False)
    if not family.ships_code:
        if trusted:
            raise UserError(f"{reference}: {family.name} runs on transformers' own code; drop --trust-remote-code")
        return
    if not trusted:
        raise UserError(
            f"{reference}: {family.name} ships the code that runs it, which could do anything on this machine: "
            "read it, then add --trust-remote-code"
        )
    if status(reference) is None and not re.fullmatch(r"[0-9a-f]{40}", options.get("revision") or ""):
        raise UserError(
            f"{reference}: code may change on the Hub after it was read: add --revision with the commit you read "
            "(40 hexadecimal digits), or give a local folder"
        )


def refuse_unknown(given: str, loader: Callable[..., Any], options: dict[str, Any]) -> None:
    """Raise `UserError` for an option that `loader` does not take."""
    parameters = inspect.signature(loader).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if extra := sorted(options.keys() - parameters.keys()):
        raise UserError(f"{given} takes no {', '.join(extra)}: leave it out")


def _found(place: str) -> Any:
    """The object at "module:name", imported now."""
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(missing_extra(error)) from None


def missing_extra(error: ModuleNotFoundError) -> str:
    """The error for a light installation."""
    return f"running a model needs the package {error.name!r}: pip install 'migician[models]', or bash scripts/setup.sh"
