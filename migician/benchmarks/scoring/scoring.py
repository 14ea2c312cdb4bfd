"""Replies -> records: what each reply says, and how well it fits the truth.

`strict` is how this project reads a reply: the declared box style, the final answer only,
nothing repaired, and every way to miss counted apart. `published` is the rule set of the published
script, `univg-r1` that of UniVG-R1's, for comparison with papers; `lmms-eval`, `vlmevalkit` and `oracle` are how other
harnesses read (see `peers`). A question's `Scoring` says how: `boxes` has
the one for a single box, `choices` the one for options, `matching` the one for several boxes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from migician.boxes import Size
from migician.boxtext import STYLES, BoxStyle
from migician.errors import UserError, closest, unknown
from migician.metrics import Measure

Protocol = Literal["strict", "published", "univg-r1", "oracle", "lmms-eval", "vlmevalkit"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number of things, or a place among them from 0, as files hold it."""

SizeOf = Callable[[Any, int], Size | None]
"""(question, image) -> its size (width, height) in pixels; None where nothing counts pixels."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reply of a model, as answer files hold it, one JSON line each.

    Half a character (a lone surrogate, where an engine cut a reply) becomes U+FFFD: no UTF-8 file can hold it.
    """

    index: int
    response: str | None = None
    task: str | None = None
    error: str | None = None
    """Why there is no reply, where the model failed."""
    seconds: float | None = None
    sizes: tuple[Size, ...] | None = None
    """(width, height) of each image as the model saw it, where the family's boxes count those pixels."""
    reasoning: str | None = None
    """What a thinking model wrote before its reply, where a server sends it apart; it is kept, and never scored."""

    def __post_init__(self) -> None:
        for name in ("response", "error", "reasoning"):
            text = getattr(self, name)
            if text is not None and not text.isascii():
                msgspec.structs.force_setattr(self, name, _whole_characters(text))


def _whole_characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True)
class Reading:
    """How replies are read: the protocol, and the box style that `strict` expects."""

    protocol: Protocol
    style: BoxStyle
    y_stretch: bool = False

    def __post_init__(self) -> None:
        if self.y_stretch and self.protocol not in ("published", "univg-r1"):
            raise UserError(
                f"--y-stretch belongs to --protocol published or univg-r1: {self.protocol} moves no model's boxes. "
                "Drop it, or add one of them"
            )


def reading_named(protocol: str, style: str | None = None, y_stretch: bool = False) -> Reading:
    """The reading of a protocol and a box style by name; `UserError` for what is unknown or contradicts itself."""
    if protocol not in PROTOCOLS:
        raise UserError(unknown("protocol", protocol, PROTOCOLS))
    if style is not None and protocol != "strict":
        raise UserError(f"--style is for --protocol strict: {protocol} reads every reply by rules of its own. Drop one")
    name = style or "qwen"
    if name not in STYLES:
        raise UserError(f"--style {name!r} is not known. Known: {', '.join(STYLES)}.{closest(name, STYLES)}")
    return Reading(protocol, STYLES[name], y_stretch)


Drawn = tuple[tuple[int, ...], tuple[float, float, float, float]]
"""(images it belongs to, as `images_of_box` says; box as fractions)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows of a record beside its question and its reply."""

    truths: Sequence[Drawn] = ()
    boxes: Sequence[Drawn] = ()
    """Of the reply."""
    answer: str = ""
    """The right answer, where it is a text."""
    remark: str = ""
    """How well the reply fits."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How the replies to one kind of question become records, and records become figures."""

    name: str
    """As in `SCORINGS`."""
    record: type[Any]
    """Of a reply: a struct with at least index, task, images, reply, outcome ("correct" where all is right), error."""
    outcomes: tuple[str, ...]
    score_one: Callable[[Any, Answer, Reading, SizeOf], Any]
    """(question, answer, reading, sizes) -> its record."""
    measures: Callable[[Sequence[Any]], dict[str, Measure]]
    """Of some records: each metric's values and sizes, row by row, as fractions."""
    show: Callable[[Any], Shown]
    """Of one record."""
    protocols: tuple[Protocol, ...] = ("strict", "published", "univg-r1", "oracle")
    has_boxes: bool = True
    """Whether replies hold boxes, so that a box style says how to read them."""
    counts: Callable[[Sequence[Any]], dict[str, int]] = lambda records: {}
    """What else is counted in a task."""
    whole: Callable[[Sequence[Any]], dict[str, Any]] = lambda records: {}
    """Figures that are of all records together, each {"n", "value", "interval"} in percent, for the report."""
    chance: Callable[[Any], float] | None = None
    """A record's chance to be right by guessing, where that is known."""

    def check(self, reading: Reading) -> None:
        """Raise `UserError` for a reading that does not apply to this kind of question."""
        if reading.protocol not in self.protocols:
            *others, last = self.protocols
            known = f"{', '.join(others)} or {last}" if others else last
            raise UserError(f"--protocol {reading.protocol} does not read this benchmark: use {known}")
        if reading.y_stretch and not self.has_boxes:
            raise UserError("--y-stretch moves boxes, and the answers here are options. Drop it")


def shared_fields(question: Any, answer: Answer) -> dict[str, Any]:
    """What records of every kind say alike."""
    return {
        "index": question.index,
        "task": question.task,
        "question": question.text,
        "images": question.images,
        "reply": answer.response,
        "error": answer.error,
        "seconds": answer.seconds,
        "reasoning": answer.reasoning,
    }


def scoring_named(name: str) -> Scoring:
    """The scoring of that name in `SCORINGS`; raises `UserError` for an unknown one."""
    if name not in SCORINGS:
        raise UserError(unknown("scoring", name, SCORINGS))
    module, _, constant = SCORINGS[name].partition(":")
    scoring: Scoring = getattr(importlib.import_module(module), constant)
    return scoring


SCORINGS: dict[str, str] = {
    "boxes": "migician.benchmarks.scoring.boxes:BOXES",
    "choices": "migician.benchmarks.scoring.choices:CHOICES",
    "matching": "migician.benchmarks.scoring.matching:MATCHING",
    "detection": "migician.benchmarks.scoring.average_precision:DETECTION",
}
"""Name, as reports hold it -> "module:constant", imported when it is needed."""
