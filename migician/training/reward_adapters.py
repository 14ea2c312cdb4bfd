"""The rewards of `migician.training.rewards` as reinforcement-learning frameworks call them.

A row's truths travel as a list of `{"image": 1, "box": [x1, y1, x2, y2]}` (image 0-based or null, corners as
fractions), which parquet, JSON and `datasets` all hold, or as that list in JSON. Signatures as called by TRL 1.16
(`GRPOTrainer._calculate_rewards`), verl 0.9 (`NaiveRewardManager`), EasyR1 at b44b311 (`AutoRewardManager`) and
ms-swift 4.6 (`compute_rewards_per_func`). By default TRL, verl and EasyR1 decode a reply without special tokens, so a
box comes without those around it; it is read all the same.
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


class RowTruths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The truths of a row with the sizes of its images, for a framework that hands on only one field."""

    truths: list[TrueBox]
    sizes: list[Size] = []
    """(width, height) in pixels as the model sees them, for styles that count these."""


def truths_of(given: Any) -> list[Truth]:
    """The truths that a row holds: a list of `TrueBox` fields, or that list as JSON.

    Raises `UserError` for another form, so that a wrong column stops a training instead of rewarding nothing.
    """
    return [(one.image, one.box) for one in _read(given, list[TrueBox])]


def _read(given: Any, form: Any) -> Any:
    try:
        return msgspec.json.decode(given, type=form) if isinstance(given, str | bytes) else msgspec.convert(given, form)
    except NOT_JSON as error:
        raise UserError(f"truths {str(given)[:80]!r}: expected a list of an image and a box each: {error}") from None


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
            None if true is None else _parts(text_of(one), truths_of(true), preset, style, size)["total"]
            for one, true, size in zip(completions, truths, sizes, strict=True)
        ]

    total.__name__ = preset.replace("-", "_")  # TRL logs it by this name
    return total


def for_verl(preset: str, *, style: str = "qwen") -> Callable[..., dict[str, float]]:
    """A `custom_reward_function` for verl: `ground_truth` holds the truths, `extra_info` perhaps `sizes`."""

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, float]:
        sizes = (extra_info or {}).get("sizes")
        parts = _parts(solution_str, truths_of(ground_truth), preset, style, sizes)
        return {"score": parts.pop("total"), **parts}

    return compute_score


_EITHER: Any = list[TrueBox] | RowTruths


def for_easyr1(preset: str, *, style: str = "qwen") -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, float]]]:
    """A reward function for EasyR1, of a whole batch, as it calls those that say no `REWARD_TYPE`.

    It hands on nothing but the reply and `ground_truth`, which therefore may be a `RowTruths`. It logs "overall",
    "format" and "accuracy".
    """

    def compute_score(reward_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        return [_scored(one["response"], one["ground_truth"]) for one in reward_inputs]

    def _scored(reply: str, given: Any) -> dict[str, float]:
        found: list[TrueBox] | RowTruths = _read(given, _EITHER)
        row = found if isinstance(found, RowTruths) else RowTruths(found)
        parts = _parts(reply, [(one.image, one.box) for one in row.truths], preset, style, row.sizes)
        accuracy = sum(parts.get(name, 0.0) for name in ("image", "iou", "f1"))
        return {"overall": parts["total"], "format": parts["total"] - accuracy, "accuracy": accuracy}

    return compute_score


def for_swift(preset: str, *, style: str = "qwen") -> Callable[..., list[float]]:
    """What an `ORM` of ms-swift does when it is called: `solution` holds each row's truths, a column perhaps `sizes`.

    class Grounding(ORM):
        def __call__(self, completions, solution, **columns):
            return for_swift("mg-thinker")(completions, solution, **columns)

    orms["grounding"] = Grounding  # in a file that --external_plugins names, for --reward_funcs grounding
    """

    def total(completions: Sequence[Any], solution: Sequence[Any], **columns: Any) -> list[float]:
        sizes = columns.get("sizes") or [None] * len(solution)
        return [
            _parts(text_of(one), truths_of(true), preset, style, size)["total"]
            for one, true, size in zip(completions, solution, sizes, strict=True)
        ]

    return total


def _parts(reply: str, truths: Sequence[Truth], preset: str, style: str, sizes: Any) -> dict[str, float]:
    seen: list[Size] = [] if sizes is None else [(int(width), int(height)) for width, height in sizes]
    return reward(reply, truths, preset=preset, style=style, sizes=seen)
