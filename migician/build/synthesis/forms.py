"""The JSON that models are asked for: its types, its schema, and how a reply is read."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from migician.boxtext import final_answer
from migician.files import decoded


class RefinedObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vision model says of one annotated object."""

    object: int
    """Its number in the question."""
    keep: bool
    phrase: str
    """Words that fit this object and no other in its image."""
    box: list[int]
    """x1 y1 x2 y2 as 0..1000, or empty where the annotated box is right."""


class Refinement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The objects of one image."""

    objects: list[RefinedObject]


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question about the images, and its answer."""

    question: str
    target: str
    """The words of the question that say what is looked for, copied; empty where it does not say."""
    answer: str
    """With marks such as [image 2, object 3] for the boxes."""


class Pairs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The questions about one group of images."""

    pairs: list[Pair]


Form = TypeVar("Form", Refinement, Pairs)


def schema_of(form: type[Form]) -> tuple[str, dict[str, Any]]:
    """(name, JSON schema) as `response_format` takes them."""
    return form.__name__.lower(), msgspec.json.schema(form)


def read_form(text: str, form: type[Form]) -> Form | None:
    """The reply as `form`; None where it is anything else.

    Thinking before the answer and one fence of ``` around it are taken off, since servers
    without JSON schemas let models write them. All else must be as asked: unknown fields,
    missing ones and other types are refused.
    """
    answer = final_answer(text).strip()
    if answer.startswith("```") and answer.endswith("```"):
        answer = answer.removesuffix("```").partition("\n")[2]
    return decoded(answer, form)
