"""What a model is to this project: what it is asked, what it answers, and what it may offer beyond that.

A model answers requests a batch at a time; `Model` is all that evaluation, grounding and chat know of it.
Evaluation gets the next batch ready (files read, pictures scaled, texts cut into tokens) while the
model is at work on this one. A model that is neither `Staged` nor `Independent` is asked through `answer`.
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
    """In the order in which the texts speak of them."""
    prompt: str
    """Where it holds `<image>` marks, the images stand there; without any, all stand before the text."""
    max_new_tokens: int = 128
    history: tuple[tuple[str, str], ...] = ()
    """Earlier (question, reply) pairs of the same conversation; their `<image>` marks count first."""
    max_side_px: int | None = None
    """Images that do not fit a square of this side are shrunk until they do; None to leave them."""


@dataclass(frozen=True)
class Reply:
    """What became of one request: a text, or why there is none."""

    text: str | None
    fault: str | None = None
    """The request's own: an image that cannot be read, a text too long, a reply withheld."""
    reasoning: str | None = None
    """What a thinking model wrote before its answer, where a server sends it apart."""
    dropped: tuple[str, ...] = ()
    """Parameters that a server does not take and that were left out."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers requests."""

    name: str
    family: Family
    """How it is asked, and how it spells boxes."""

    @property
    def box_style(self) -> BoxStyle:
        """The family's; its replies are read in this style only."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One whole reply for each request, box tokens kept.

        Raises `UserError` for a request nobody could answer, and of these `RunStopped` where the fault is not the
        request's: no other would be answered either.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What a report must say of this model, as JSON: weights, precision, limits, decoding. Equal in every run."""
        ...


@runtime_checkable
class Speaking(Protocol):
    """A model whose reply can be read while it grows."""

    def speak(self, request: Request, on_token: Callable[[str], None]) -> str:
        """What `answer` gives for one request; `on_token` gets the reply so far, and may raise to stop."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A model that is paid for by the token."""

    def spent(self) -> str:
        """One line: what was asked of it so far, and what that cost."""
        ...


@runtime_checkable
class Staged(Model, Protocol):
    """A model with `answer(requests) == reply(prepare(requests))`."""

    work: Counter[str]
    """How often the costly steps were taken so far, by name, such as "images_encoded"."""
    token_budget: int
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
