"""Which parameters of a base model learn, and which an adapter adds: LLaMA-Factory's rules on their names.

Follows model/adapter.py and model/model_utils/visual.py of LLaMA-Factory 0.9.5; tests/training/test_real_trainings.py
compares the counts with its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from migician.training.check.settings.model_shape import ModelPart, ModelShape, part_of
from migician.training.check.settings.training_yaml import TrainingSettings

_VISION = ("visual.pos_embed", "visual.patch_embed", "visual.blocks", "visual.deepstack_merger_list")
_PROJECTOR = ("visual.merger",)
_FREEZES = {
    "freeze_vision_tower": _VISION,
    "freeze_multi_modal_projector": _PROJECTOR,
    "freeze_language_model": ("language_model", "lm_head"),
}


class Layer(NamedTuple):
    """What the backward pass does with a layer."""

    learns: bool
    """Whether its own weights learn."""
    adapted: bool
    """Whether an adapter beside them learns."""
    reached: bool
    """Whether gradients pass through it: it or an earlier layer learns."""


@dataclass(frozen=True, slots=True)
class Learning:
    """Which parameters of a model learn."""

    shape: ModelShape
    base: frozenset[str]
    """Its own parameters that learn, by name."""
    added: Mapping[str, int]
    """Parameters that an adapter adds, by the name of the weight beside them."""

    @property
    def adapter(self) -> int:
        """The number that an adapter adds."""
        return sum(self.added.values())

    @property
    def trained(self) -> int:
        """All that learn."""
        own = sum(math.prod(shape) for name, shape in self.shape.parameters().items() if name in self.base)
        return own + self.adapter

    def layers(self, part: ModelPart) -> list[Layer]:
        """The layers of the language model or of the vision tower, first to last."""
        names = "model.visual.blocks." if part == "vision" else "model.language_model.layers."
        number = re.compile(re.escape(names) + r"(\d+)\.")
        found = [Layer(False, False, False)] * (self.shape.vision_layers if part == "vision" else self.shape.layers)
        reached = False
        for name in self.shape.parameters():
            own, added = name in self.base, name in self.added
            reached = reached or own or added
            if match := number.match(name):
                at = int(match[1])
                found[at] = Layer(found[at].learns or own, found[at].adapted or added, reached)
        return found

    def passes(self, part: ModelPart) -> float:
        """Operations per weight and token of a part: 2 forward, 2 if gradients pass through, 2 if it learns."""
        reached, total, size = False, 0.0, 0
        for name, shape in self.shape.parameters().items():
            own = name in self.base
            reached = reached or own or name in self.added
            if part_of(name) == part and len(shape) > 1 and not is_embedding(name):
                n = math.prod(shape)
                total += n * (2 + 2 * reached + 2 * own) + 4 * self.added.get(name, 0)
                size += n
        return total / size if size else 2.0


def is_embedding(name: str) -> bool:
    """Whether a parameter is looked up instead of multiplied with."""
    return name.endswith(("embed_tokens.weight", "pos_embed.weight"))


def learning_of(settings: TrainingSettings, shape: ModelShape) -> Learning:
    """What learns under `finetuning_type` full, freeze or lora."""
    frozen = tuple(part for key, parts in _FREEZES.items() if settings.flag(key) for part in parts)
    if settings.method == "freeze":
        return Learning(shape, frozenset(_last_layers(settings, shape, frozen)), {})
    if settings.method == "lora":
        return Learning(shape, frozenset(), _adapter(settings, shape, frozen))
    return Learning(shape, frozenset(name for name in shape.parameters() if not _within(frozen, name)), {})


def _within(parts: tuple[str, ...], name: str) -> bool:
    return any(part in name for part in parts)


def _last_layers(settings: TrainingSettings, shape: ModelShape, frozen: tuple[str, ...]) -> Iterator[str]:
    """The last layers, or the first for a number below 0: by number, so those of the tower are included."""
    n = int(settings.number("freeze_trainable_layers"))
    numbers = range(max(0, shape.layers - n), shape.layers) if n > 0 else range(min(-n, shape.layers))
    wanted = [
        f".{number}.{'' if module == 'all' else module}"
        for module in settings.names("freeze_trainable_modules")
        for number in numbers
    ]
    wanted += settings.names("freeze_extra_modules")
    wanted += [] if settings.flag("freeze_multi_modal_projector") else _PROJECTOR
    for name in shape.parameters():
        if any(one in name for one in wanted) and not _within(frozen, name):
            yield name


def _adapter(settings: TrainingSettings, shape: ModelShape, frozen: tuple[str, ...]) -> dict[str, int]:
    """What LoRA adds beside each linear layer that it targets, and the copies of `additional_target`."""
    rank = int(settings.number("lora_rank"))
    linear = {
        name: dimensions
        for name, dimensions in shape.parameters().items()
        if len(dimensions) == 2 and not is_embedding(name)
    }
    targets = settings.names("lora_target")
    if targets == ["all"]:
        untouched = ("lm_head", *_PROJECTOR, *(_VISION if settings.flag("freeze_vision_tower") else ()))
        targets = sorted({name.split(".")[-2] for name in linear if not _within(untouched, name)})
    added: dict[str, int] = {}
    for name, (out, into) in linear.items():
        module = name.removesuffix(".weight")
        if any(target in module for target in targets) and not _within((*frozen, "patch_embed"), module):
            added[name] = rank * (out + into) + (out if settings.flag("use_dora") else 0)
    for name, dimensions in shape.parameters().items():
        if any(name.rpartition(".")[0].endswith(one) for one in settings.names("additional_target")):
            added[name] = added.get(name, 0) + math.prod(dimensions)
    return added
