"""A request as turns of texts and images, in the order in which a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from migician.models.family import Family
from migician.models.protocol import Request
from migician.samples.sample import IMAGE_MARK


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says at once."""

    role: Literal["user", "assistant"]
    parts: tuple[str | int, ...]
    """Texts, and images by their place in the request."""

    @property
    def text(self) -> str:
        """The turn as one text, with an `<image>` mark for each image."""
        return "".join(part if isinstance(part, str) else IMAGE_MARK for part in self.parts)


def conversation(request: Request, family: Family) -> list[Turn]:
    """The turns of a request, each image at its mark; without marks, where `family` has them.

    Raises `UserError` where marks and images are not equally many, as `Family.placed` does.
    """
    questions = [*(question for question, _ in request.history), request.prompt]
    replies = [reply for _, reply in request.history]
    marks = [question.count(IMAGE_MARK) for question in questions]
    if any(marks):
        family.placed("".join(questions), len(request.images))  # raises where the count is wrong
    else:
        questions[0] = family.placed(questions[0], len(request.images))
    turns: list[Turn] = []
    shown = 0
    for position, question in enumerate(questions):
        parts = _parts(question, shown)
        shown += question.count(IMAGE_MARK)
        turns.append(Turn("user", parts))
        if position < len(replies):
            turns.append(Turn("assistant", (replies[position],)))
    return turns


def _parts(text: str, first: int) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    for position, piece in enumerate(text.split(IMAGE_MARK)):
        if position:
            parts.append(first + position - 1)
        if piece:
            parts.append(piece)
    return tuple(parts)


def chat_messages(turns: Sequence[Turn], images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns as messages of the OpenAI chat protocol; `images` are the parts that stand for the request's images."""
    return [
        {
            "role": turn.role,
            "content": turn.text
            if turn.role == "assistant"
            else [{"type": "text", "text": part} if isinstance(part, str) else images[part] for part in turn.parts],
        }
        for turn in turns
    ]
