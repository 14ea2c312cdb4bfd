"""What a model may offer beyond `Model`: its work in two steps, and what it counts; or replies as they come.

Evaluation gets the next batch ready (files read, pictures scaled, texts cut into tokens) while the
model is at work on this one. A model that offers neither is asked through `answer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from migician.boxes import Size
from migician.models import Model, Reply, Request


@runtime_checkable
class Staged(Model, Protocol):
    """A model with `answer(requests) == reply(prepare(requests))`."""

    work: Counter[str]
    """How often the costly steps were taken so far, by name, such as "images_encoded"."""
    room_tokens: int
    """Rows times tokens of the longest of them that fit into the memory beside the weights."""

    def prepare(self, requests: Sequence[Request]) -> Any:
        """All that needs no model; called from another thread than `reply`. Raises `UserError` as `answer` does."""
        ...

    def reply(self, prepared: Any) -> list[str]:
        """The replies to the requests that were prepared."""
        ...

    def image_tokens(self, size: Size) -> int:
        """How many tokens an image of (width, height) takes; 0 for one that will be refused."""
        ...


@runtime_checkable
class Independent(Model, Protocol):
    """A model for which each request stands alone: no reply depends on what else is asked beside it."""

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(which request, what became of it), as they come; raises `RunStopped` once no more will come.

        What was under way then is given first.
        """
        ...
