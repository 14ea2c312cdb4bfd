"""Stage 3: reinforcement learning by TRL's own GRPO trainer, with this project's records and rewards.

    python -m migician.training.grpo train/stage-3_grpo.yaml [key=value ...] [--check]

A YAML has the keys of `Stage3`, which stages 1 and 2 have too, and any key of TRL's `GRPOConfig`. It needs TRL from
1.0 on, in an environment of its own: see scripts/stage3.sh, which also checks, resumes and reports.
"""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.boxes import TRAINED_PIXELS
from migician.errors import UserError, closest
from migician.samples.sample import IMAGE_MARK, Turn
from migician.training.check.settings.training_yaml import read_given
from migician.training.prompts import Prompt, Prompts, read_prompts
from migician.training.resume import resume_point
from migician.training.reward_adapters import for_trl
from migician.training.rewards import PRESETS

_EXPONENT = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
"""What chat templates call those who speak in records."""


class Stage3(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that are this project's own; `trainer` has those of TRL."""

    model_name_or_path: str
    output_dir: Path
    dataset: str
    dataset_dir: Path = Path("data")
    media_dir: Path | None = None
    """The folder that image names start from; `dataset_dir` where there is none."""
    max_samples: int | None = None
    """Of prompts, after they are shuffled by the seed."""
    image_max_pixels: int = TRAINED_PIXELS
    freeze_vision_tower: bool = True
    reward: str = "mg-thinker"
    """One of `migician.training.rewards.PRESETS`."""
    with_answers: bool = False
    """Whether the last reply of each prompt is the record's own answer, not sampled (as LUFFY, arXiv 2504.14945)."""
    only_better: bool = False
    """Whether replies that earn less than the mean of their prompt teach nothing, instead of what to avoid."""
    share_prompts: bool = False
    """Whether a prompt is computed once for all its replies (`migician.training.shared_prompts`), without vLLM."""
    held_out: Path | None = None
    """MIG-Bench's file, or one in its form: scripts/stage3.sh asks its questions before and after."""
    held_out_images: Path | None = None
    held_out_limit: int | None = None
    """Questions of each task."""
    max_minutes: float | None = None
    """Of a launch; after them no further step begins."""
    seed: int = 42
    trainer: dict[str, Any] = {}


def read_stage3(file: Path, overrides: Sequence[str] = ()) -> Stage3:
    """The settings of a YAML and of `overrides` ("key=value"); raises `UserError` naming the file and the key."""
    given = read_given(file, overrides)
    if given.pop("stage", "grpo") != "grpo":
        raise UserError(f"{file}: stage is not grpo: scripts/stage.sh trains the other stages")
    for name, value in given.items():
        if isinstance(value, str) and _EXPONENT.fullmatch(value):  # to YAML 1.1 a text
            given[name] = float(value)
    own = {name: given.pop(name) for name in Stage3.__struct_fields__ if name in given and name != "trainer"}
    try:
        settings = msgspec.convert(
            {**own, "trainer": given}, Stage3, strict=False, dec_hook=lambda kind, value: kind(value)
        )
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: {error}") from None
    for name in ("max_samples", "image_max_pixels", "held_out_limit", "max_minutes"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise UserError(f"{file}: {name} is {value}; it must be more than 0, or left out")
    if settings.reward not in PRESETS:
        raise UserError(f"{file}: reward {settings.reward!r} is none of {', '.join(PRESETS)}")
    return settings


def messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as a chat template takes them, with an image part for each mark, in its place.

    >>> messages([Turn("human", "<image>Where?")])
    [{'role': 'user', 'content': [{'type': 'image'}, {'type': 'text', 'text': 'Where?'}]}]
    """
    said = []
    for turn in turns:
        parts: list[dict[str, str]] = []
        for number, text in enumerate(turn.value.split(IMAGE_MARK)):
            parts += [{"type": "image"}] * (number > 0) + [{"type": "text", "text": text}] * bool(text)
        said.append({"role": ROLES[turn.from_], "content": parts})
    return said


def dataset_of(prompts: Sequence[Prompt], media: Path) -> Any:
    """The prompts as a `datasets.Dataset` whose images are opened when a row is asked for."""
    from datasets import Dataset

    # As JSON: what a transformation refers to is hashed whole.
    rows = [msgspec.json.encode(one).decode() for one in prompts]
    return Dataset.from_dict({"row": rows}).with_transform(functools.partial(_opened, media))


def _opened(media: Path, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
    """Rows as TRL takes them; the replies of one prompt share what is read for it."""
    from PIL import Image

    made: dict[str, dict[str, Any]] = {}
    for row in batch["row"]:
        if row in made:
            continue
        one = msgspec.json.decode(row, type=Prompt)
        images = []
        for name in one.images:
            with Image.open(media / name) as image:
                images.append(image.convert("RGB"))
        made[row] = {
            "prompt": messages(one.turns),
            "images": images,
            "truths": msgspec.to_builtins(one.truths),
            "sizes": one.sizes,
            "answer": one.answer,
        }
    names = ("prompt", "images", "truths", "sizes", "answer")
    return {name: [made[row][name] for row in batch["row"]] for name in names}


def train(settings: Stage3, callbacks: Sequence[Any] = ()) -> None:
    """Train, from the last complete checkpoint where there is one; `callbacks` are transformers'.

    Raises `UserError` for settings that TRL does not know, a tokenizer that pads on the right, a missing image, and
    where TRL is missing or too old.
    """
    config = _config(settings)
    from migician.training.grpo_trainer import GroundingTrainer, Limit, Log

    found, media = prompts(settings), settings.media_dir or settings.dataset_dir
    last = resume_point(settings.output_dir, int(os.environ.get("WORLD_SIZE", "1")))
    trainer = GroundingTrainer(
        model=settings.model_name_or_path,
        args=config,
        processing_class=_processor(settings),
        reward_funcs=[for_trl(settings.reward, style=found.style.name)],
        train_dataset=dataset_of(found.prompts, media),
        with_answers=settings.with_answers,
        only_better=settings.only_better,
        share_prompts=settings.share_prompts,
        callbacks=[Log(settings.output_dir), Limit(settings.max_minutes), *callbacks],
    )
    if settings.freeze_vision_tower:
        for name, weights in trainer.model.named_parameters():
            weights.requires_grad_("visual." not in name)
    result = trainer.train(resume_from_checkpoint=str(last.folder) if last else None)
    trainer.save_model()
    if trainer.is_world_process_zero():
        keep_own_files(Path(settings.model_name_or_path), settings.output_dir)
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)


def keep_own_files(start: Path, out: Path) -> None:
    """Put the files beside the weights back as they were in `start`, where that is a folder: only weights changed.

    Newer transformers write a newer config.json, which does not fit those of the stages before when all are averaged;
    and the processor was changed to pad on the left and to the training's pixels.
    """
    for file in out.iterdir():
        if file.suffix in (".json", ".jinja") and "index" not in file.name and (start / file.name).is_file():
            shutil.copyfile(start / file.name, file)


def check(settings: Stage3) -> str:
    """What a training would begin with, in one line; raises `UserError` as `train` does, and for held-out questions.

    No weights are loaded.
    """
    _config(settings)
    _processor(settings)
    for name in ("held_out", "held_out_images"):
        given = getattr(settings, name)
        if given is None or not given.exists():
            raise UserError(
                f"{name}: {given}: not there; a stage 3 is judged by greedy accuracy on held-out questions in "
                "MIG-Bench's form"
            )
    found = prompts(settings)
    left_out = "".join(f", {number:,} left out: {reason}" for reason, number in found.left_out.items())
    return f"{len(found.prompts):,} prompts of {len({one.type for one in found.prompts})} families{left_out}"


def prompts(settings: Stage3) -> Prompts:
    """The prompts to train on, in the order of the seed; raises `UserError` for data or an image that is not there."""
    media = settings.media_dir or settings.dataset_dir
    found = read_prompts(settings.dataset_dir, settings.dataset, media, max_pixels=settings.image_max_pixels)
    random.Random(settings.seed).shuffle(found.prompts)
    found.prompts = found.prompts[: settings.max_samples]
    for name in {name for one in found.prompts for name in one.images}:
        if not (media / name).exists():
            raise UserError(f"{media / name}: not there; media_dir is the folder that image names start from")
    return found


def _processor(settings: Stage3) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(settings.model_name_or_path, padding_side="left")
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model_name_or_path: {settings.model_name_or_path}: cannot be loaded: {reason}") from None
    check_padding(processor.tokenizer.padding_side)
    processor.image_processor.size["longest_edge"] = settings.image_max_pixels
    return processor


def _config(settings: Stage3) -> Any:
    """The settings as TRL takes them."""
    try:
        from trl import GRPOConfig
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"stage 3 needs trl 1.16 in an environment of its own: bash scripts/stage3.sh ({error})"
        ) from None
    config = {"output_dir": str(settings.output_dir), "seed": settings.seed, "report_to": "none", **settings.trainer}
    known = GRPOConfig.__dataclass_fields__
    if strange := sorted(config.keys() - known.keys()):
        near = closest(strange[0], [*known, *Stage3.__struct_fields__])
        raise UserError(f"{strange[0]}: neither a setting of stage 3 nor one of TRL's GRPOConfig.{near}")
    try:
        made = GRPOConfig(**config)
    except (TypeError, ValueError) as error:
        raise UserError(f"TRL cannot take the settings of stage 3: {error}") from None
    if made.use_vllm and (settings.with_answers or settings.share_prompts):
        raise UserError("use_vllm: vLLM samples every reply itself: not with with_answers or share_prompts")
    plain = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    if settings.share_prompts and (other := [name for name, value in plain.items() if getattr(made, name) != value]):
        raise UserError(
            f"{other[0]}: share_prompts samples by temperature alone; leave it out, or set share_prompts=false"
        )
    return made


def check_padding(side: str) -> None:
    """Raise `UserError` unless prompts are padded on the left.

    TRL 1.16 pads prompts on the left itself, and takes the marks of what is image from the processor: padded on the
    right these would stand beside other tokens.
    """
    if side != "left":
        raise UserError(f"padding_side is {side!r}: TRL would misplace the images of a batch; it must be 'left'")


def main(arguments: Sequence[str]) -> None:
    """Train by the YAML and the "key=value" arguments that follow it; with `--check` say what would be trained on.

    Raises `UserError` where no YAML is named, and as `read_stage3`, `check` and `train` do.
    """
    words = [one for one in arguments if one != "--check"]
    if not words:
        raise UserError("name a training YAML, such as train/stage-3_grpo.yaml")
    settings = read_stage3(Path(words[0]), words[1:])
    if len(words) < len(arguments):
        print(f"{words[0]}: {check(settings)}", file=sys.stderr)
    else:
        train(settings)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"stage 3: {error}")
