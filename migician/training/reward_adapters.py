"""The rewards of `migician.training.rewards` as reinforcement-learning frameworks call them.

A row's truths travel as a list of `{"image": 1, "box": [x1, y1, x2, y2]}` (image 0-based or null, corners as
fractions), which parquet, JSON and `datasets` all hold, or as that list in JSON. Signatures as called by TRL 1.16
(`GRPOTrainer._calculate_rewards`), verl 0.9 (`NaiveRewardManager`), EasyR1 (`FunctionRewardManager`) and ms-swift 4.6
(`ORM`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from migician.boxes import Size
from migician.errors import NOT_JSON, UserError
from migician.training.rewards import Truth, reward


class TrueBox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One true box as a dataset's row holds it."""

    image: int | None
    """The image (0-based) it is in; None where any may be meant."""
    box: tuple[float, float, float, float]
    """Its corners as fractions of the image."""


def truths_of(given: Any) -> list[Truth]:
    """The truths that a row holds: a list of `TrueBox` fields, or that list as JSON.

    Raises `UserError` for another form, so that a wrong column stops a training instead of rewarding nothing.
    """
    try:
        if isinstance(given, str | bytes):
            found = msgspec.json.decode(given, type=list[TrueBox])
        else:
            found = msgspec.convert(given, list[TrueBox])
    except NOT_JSON as error:
        raise UserError(f"truths {str(given)[:80]!r}: expected a list of an image and a box each: {error}") from None
    return [(one.image, one.box) for one in found]


def text_of(completion: Any) -> str:
    """The text of a completion: a string, or the messages of a conversation, whose last one counts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else ""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""


def for_trl(preset: str, *, style: str = "qwen") -> Callable[..., list[float | None]]:
    """A reward function for `GRPOTrainer(reward_funcs=[...])`; its dataset has the column `truths`, perhaps `sizes`.

    Rows whose truths are None get None, which TRL leaves out.
    """

    def total(*, completions: Sequence[Any], truths: Sequence[Any], **columns: Any) -> list[float | None]:
        sizes = columns.get("sizes") or [None] * len(truths)
        return [
            None if true is None else _total(text_of(one), true, preset, style, size)
            for one, true, size in zip(completions, truths, sizes, strict=True)
        ]

    total.__name__ = preset.replace("-", "_")  # TRL logs it by this name
    return total


def for_verl(preset: str, *, style: str = "qwen") -> Callable[..., dict[str, float]]:
    """A `custom_reward_function` for verl: `ground_truth` holds the truths, `extra_info` perhaps `sizes`."""

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, float]:
        parts = _parts(solution_str, ground_truth, preset, style, (extra_info or {}).get("sizes"))
        return {"score": parts.pop("total"), **parts}

    return compute_score


def for_easyr1(preset: str, *, style: str = "qwen") -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """A reward function for EasyR1: it logs "overall", "format" and "accuracy"."""

    def compute_score(reward_input: Mapping[str, Any]) -> dict[str, float]:
        parts = _parts(reward_input["response"], reward_input["ground_truth"], preset, style, reward_input.get("sizes"))
        accuracy = sum(parts.get(name, 0.0) for name in ("image", "iou", "f1"))
        return {"overall": parts["total"], "format": parts["total"] - accuracy, "accuracy": accuracy}

    return compute_score


def for_swift(preset: str, *, style: str = "qwen") -> Callable[..., list[float]]:
    """What an `ORM` of ms-swift does when it is called: `solution` holds each row's truths.

    class Grounding(ORM):
        def __call__(self, completions, solution, **columns):
            return for_swift("mg-thinker")(completions, solution, **columns)
    """

    def total(completions: Sequence[Any], solution: Sequence[Any], **columns: Any) -> list[float]:
        sizes = columns.get("sizes") or [None] * len(solution)
        return [
            _total(text_of(one), true, preset, style, size)
            for one, true, size in zip(completions, solution, sizes, strict=True)
        ]

    return total


def _parts(reply: str, truths: Any, preset: str, style: str, sizes: Any) -> dict[str, float]:
    seen: list[Size] = [(int(width), int(height)) for width, height in sizes or []]
    return reward(reply, truths_of(truths), preset=preset, style=style, sizes=seen)


def _total(reply: str, truths: Any, preset: str, style: str, sizes: Any) -> float:
    return _parts(reply, truths, preset, style, sizes)["total"]
