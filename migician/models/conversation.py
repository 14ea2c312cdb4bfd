"""A request as turns of texts and images, in the order in which a model reads them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from migician.models.family import Family
from migician.models.protocol import Request
from migician.samples.sample import IMAGE_MARK


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    parts: tuple[str | int, ...]
    """Texts, and images by their position in the request."""

    @property
    def text(self) -> str:
        """The turn as one text, with an `<image>` mark for each image."""
        return "".join(part if isinstance(part, str) else IMAGE_MARK for part in self.parts)


Turns = Sequence[ConversationTurn]
"""A conversation that alternates, with the user first and last."""


def conversation(request: Request, family: Family) -> list[ConversationTurn]:
    """The turns of a request, each image at its mark; without marks, where `family` puts them.

    Raises `UserError` where the numbers of marks and images differ, like `Family.placed`.
    """
    questions = [*(question for question, _ in request.history), request.prompt]
    if any(IMAGE_MARK in question for question in questions):
        family.placed("".join(questions), len(request.images))  # raises where the count is wrong
    else:
        questions[0] = family.placed(questions[0], len(request.images))
    images = itertools.count()
    turns: list[ConversationTurn] = []
    for question, reply in itertools.zip_longest(questions, (reply for _, reply in request.history)):
        pieces = (piece for piece in re.split(f"({IMAGE_MARK})", question) if piece)
        parts = tuple(next(images) if piece == IMAGE_MARK else piece for piece in pieces)
        turns.append(ConversationTurn("user", parts))
        if reply is not None:
            turns.append(ConversationTurn("assistant", (reply,)))
    return turns


def template_arguments(family: Family) -> dict[str, Any]:
    """What vLLM, and servers that run it or SGLang, call the options of a chat template; empty without any."""
    return {"chat_template_kwargs": dict(family.template_options)} if family.template_options else {}


def chat_messages(turns: Turns, images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns as messages of the OpenAI chat protocol; `images` are the message parts of the request's images."""
    return [
        {
            "role": turn.role,
            "content": turn.text
            if turn.role == "assistant"
            else [{"type": "text", "text": part} if isinstance(part, str) else images[part] for part in turn.parts],
        }
        for turn in turns
    ]
