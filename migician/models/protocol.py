"""The interface of a model: requests in, replies out, and optional abilities.

A model answers requests in batches; evaluation, grounding and chat use nothing but `Model`. While a `Staged` model
works on one batch, evaluation prepares the next (reads files, scales images, tokenizes texts). A model that is neither
`Staged` nor `Independent` is asked through `answer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from migician.boxes import Size
from migician.boxtext import BoxStyle
from migician.models.family import Family
from migician.models.pictures import ImageInput


@dataclass(frozen=True)
class Request:
    """One question about some images."""

    images: tuple[ImageInput, ...]
    """In the order in which the texts mention them."""
    prompt: str
    """Images go where it has `<image>` marks; without marks, all go before the text."""
    max_new_tokens: int = 128
    history: tuple[tuple[str, str], ...] = ()
    """Earlier (question, reply) pairs of the conversation; their `<image>` marks come first."""
    max_side_px: int | None = None
    """Images are shrunk to fit a square of this side; None for no limit."""


@dataclass(frozen=True)
class Reply:
    """The outcome of one request: a text, or the reason why there is none."""

    text: str | None
    fault: str | None = None
    """A fault of this request: an unreadable image, a text that is too long, a withheld reply."""
    reasoning: str | None = None
    """What a thinking model wrote before its answer, if the server sends it separately."""
    dropped: tuple[str, ...] = ()
    """Parameters left out because the server does not accept them."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers requests."""

    name: str
    family: Family
    """How to ask it, and how it writes boxes."""

    @property
    def box_style(self) -> BoxStyle:
        """The family's; its replies are read in this style only."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One whole reply per request, box tokens kept.

        Raises `UserError` for an invalid request, and `RunStopped` (a `UserError`) where no other request would be
        answered either.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Weights, precision, limits and decoding for a report, as JSON; equal in every run."""
        ...


@runtime_checkable
class Speaking(Protocol):
    """A model that streams its reply."""

    def speak(self, request: Request, on_token: Callable[[str], None]) -> str:
        """What `answer` gives for one request; `on_token` gets the reply so far, and may raise to stop."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A model that costs money per token."""

    def spent(self) -> str:
        """One line: requests and tokens so far, and their cost."""
        ...


@runtime_checkable
class Staged(Model, Protocol):
    """A model with `answer(requests) == reply(prepare(requests))`."""

    work: Counter[str]
    """How many expensive steps were taken so far, by name, such as "images_encoded"."""
    token_budget: int
    """The largest batch that fits in memory beside the weights: rows times the tokens of the longest."""

    def prepare(self, requests: Sequence[Request]) -> Any:
        """The work that needs no model; called from another thread than `reply`. Raises `UserError` like `answer`."""
        ...

    def reply(self, prepared: Any) -> list[str]:
        """The replies to the prepared requests."""
        ...

    def image_tokens(self, size: Size) -> int:
        """Tokens of an image of (width, height); 0 if it will be refused."""
        ...


@runtime_checkable
class Independent(Model, Protocol):
    """A model whose replies do not depend on what else is in the batch."""

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(position of the request, its reply), as they arrive; then `RunStopped` if the others will get none."""
        ...
