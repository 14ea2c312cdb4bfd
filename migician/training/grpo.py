"""Stage 3: reinforcement learning by TRL's own GRPO trainer, with this project's records and rewards.

    python -m migician.training.grpo train/stage-3_grpo.yaml [key=value ...]

A YAML has the keys of `Stage3`, which stages 1 and 2 have too, and any key of TRL's `GRPOConfig`. It needs TRL from
1.0 on, in an environment of its own: see scripts/stage3.sh, which also checks, resumes and reports.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from migician.boxes import TRAINED_PIXELS
from migician.errors import UserError, closest
from migician.samples.sample import IMAGE_MARK, Turn
from migician.training.check.settings.training_yaml import read_given
from migician.training.log import LOG
from migician.training.prompts import Prompt, read_prompts
from migician.training.resume import resume_point
from migician.training.reward_adapters import for_trl
from migician.training.rewards import PRESETS

_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


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
    seed: int = 42
    trainer: dict[str, Any] = {}


def read_stage3(file: Path, overrides: Sequence[str] = ()) -> Stage3:
    """The settings of a YAML and of `overrides` ("key=value"); raises `UserError` naming the file and the key."""
    given = read_given(file, overrides)
    if given.pop("stage", "grpo") != "grpo":
        raise UserError(f"{file}: stage is not grpo: scripts/stage.sh trains the other stages")
    own = {name: given.pop(name) for name in Stage3.__struct_fields__ if name in given and name != "trainer"}
    try:
        settings = msgspec.convert({**own, "trainer": given}, Stage3, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: {error}") from None
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
        said.append({"role": _ROLES[turn.from_], "content": parts})
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
        }
    return {name: [made[row][name] for row in batch["row"]] for name in ("prompt", "images", "truths", "sizes")}


def train(settings: Stage3) -> None:
    """Train, from the last complete checkpoint where there is one.

    Raises `UserError` for settings that TRL does not know, a tokenizer that pads on the right, and where TRL is too old.
    """
    import random

    from transformers import AutoProcessor, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    config = {"output_dir": str(settings.output_dir), "seed": settings.seed, "report_to": "none", **settings.trainer}
    if strange := sorted(config.keys() - GRPOConfig.__dataclass_fields__.keys()):
        raise UserError(
            f"{strange[0]}: neither a setting of stage 3 nor of TRL's GRPOConfig."
            f"{closest(strange[0], [*GRPOConfig.__dataclass_fields__, *Stage3.__struct_fields__])}"
        )
    media = settings.media_dir or settings.dataset_dir
    found = read_prompts(settings.dataset_dir, settings.dataset, media, max_pixels=settings.image_max_pixels)
    random.Random(settings.seed).shuffle(found.prompts)
    kept = found.prompts[: settings.max_samples]

    processor = AutoProcessor.from_pretrained(settings.model_name_or_path, padding_side="left")
    processor.image_processor.size["longest_edge"] = settings.image_max_pixels
    last = resume_point(settings.output_dir, 1)
    trainer = GRPOTrainer(
        model=settings.model_name_or_path,
        args=GRPOConfig(**config),
        processing_class=processor,
        reward_funcs=[for_trl(settings.reward, style=found.style.name)],
        train_dataset=dataset_of(kept, media),
        callbacks=[],
    )
    if settings.freeze_vision_tower:
        for name, weights in trainer.model.named_parameters():
            weights.requires_grad_("visual." not in name)
    began = time.monotonic()

    class Log(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not state.is_world_process_zero or not logs or "loss" not in logs:
                return
            line = {
                "current_steps": state.global_step,
                "total_steps": state.max_steps,
                "elapsed_time": str(timedelta(seconds=int(time.monotonic() - began))),
                **logs,
            }
            with (settings.output_dir / LOG).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    trainer.add_callback(Log())
    result = trainer.train(resume_from_checkpoint=str(last.folder) if last else None)
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)


def main(arguments: Sequence[str]) -> None:
    """Train by the YAML and the "key=value" arguments that follow it."""
    if not arguments:
        raise UserError("name a training YAML, such as train/stage-3_grpo.yaml")
    train(read_stage3(Path(arguments[0]), arguments[1:]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"{error}")
