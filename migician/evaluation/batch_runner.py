"""Batches of requests -> replies: the next batch is made ready while the model is at work, and faults stay small.

A batch that fails is asked again in halves, down to the one request that cannot be answered; that
one gets the reason in place of a reply. After running out of memory later batches are cut as well.
What is not the fault of a request ends the asking: see `migician.models.faults`.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from migician.errors import UserError
from migician.models.faults import BEYOND_THE_ENGINE, RunStopped, fault_of
from migician.models.protocol import Independent, Model, Reply, Request, Staged

# What a request can bring about. RuntimeError is torch's own class for what goes wrong in a model.
_FAULTS = (UserError, RuntimeError, ValueError, OSError, MemoryError)
_NO_MEMORY = re.compile("out of memory|allocate memory", re.IGNORECASE)
_DEAD_GPU = "AcceleratorError"
"""The class's name in torch: a GPU that has reported a fault answers nothing any more in this process."""


@dataclass(frozen=True, slots=True)
class Replies:
    """One batch answered."""

    batch: int
    """Which of those that were given."""
    replies: list[Reply]
    model_seconds: float
    outside_seconds: float
    """From the end of the batch before to the start of the model's work."""
    work: dict[str, int]
    """What the model counted meanwhile."""


class BatchRunner:
    """Asks one model batch after batch, and remembers how much of a batch fits into its memory."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pieces = 1
        """In how many pieces a batch is asked; more than one once it has been too large."""

    def ask(self, batches: Sequence[Sequence[Request]]) -> Generator[Replies]:
        """The replies to each batch: in order, or as they come from an `Independent` model, with one request a batch.

        Raises `RunStopped` where no more will come.
        """
        if isinstance(self._model, Independent):
            yield from self._as_they_come(self._model, [request for (request,) in batches])
            return
        before = time.perf_counter()
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as thread:
            ahead: Future[list[_Piece]] | None = None
            for at, batch in enumerate(batches):
                pieces = (ahead or thread.submit(self._prepare, batch)).result()
                ahead = thread.submit(self._prepare, batches[at + 1]) if at + 1 < len(batches) else None
                counted = Counter(self._counts())
                started = time.perf_counter()
                replies = self._replies(batch, pieces)
                ended = time.perf_counter()
                work = {name: count - counted[name] for name, count in self._counts().items()}
                yield Replies(at, replies, ended - started, started - before, work)
                before = ended

    @staticmethod
    def _as_they_come(model: Independent, requests: Sequence[Request]) -> Generator[Replies]:
        """Each reply by itself; `model_seconds` is the time since the one before."""
        before = time.perf_counter()
        for at, reply in model.replies(requests):
            now = time.perf_counter()
            yield Replies(at, [reply], now - before, 0.0, {})
            before = now

    def _counts(self) -> dict[str, int]:
        return dict(self._model.work) if isinstance(self._model, Staged) else {}

    def _prepare(self, batch: Sequence[Request]) -> list[_Piece]:
        size = self._size(batch)
        return [self._piece(batch[at : at + size]) for at in range(0, len(batch), size)]

    def _size(self, batch: Sequence[Request]) -> int:
        """Of the pieces of a batch."""
        return -(-len(batch) // self._pieces)

    def _piece(self, requests: Sequence[Request]) -> _Piece:
        """Ready to be asked; whatever is wrong with it shows when it is."""
        if isinstance(self._model, Staged):
            try:
                return _Piece(requests, self._model.prepare(requests))
            except _FAULTS as error:
                return _Piece(requests, fault=error)
        return _Piece(requests)

    def _replies(self, batch: Sequence[Request], pieces: list[_Piece]) -> list[Reply]:
        if len(pieces[0].requests) > self._size(batch):  # made ready before the batch ahead was too large
            pieces = self._prepare(batch)
        fitting: list[int] = []
        replies = [reply for piece in pieces for reply in self._halving(piece, 1, fitting)]
        if fitting:
            self._pieces *= min(fitting)
        return replies

    def _halving(self, piece: _Piece, cuts: int, fitting: list[int], *, was_too_large: bool = False) -> list[Reply]:
        """The replies to a piece, in one go or else in halves.

        `cuts` is in how many parts the piece has been cut; it is added to `fitting` where those,
        other than the whole, fitted into the memory.
        """
        try:
            replies = [Reply(text) for text in self._answer(piece)]
        except _FAULTS as error:
            if isinstance(error, RunStopped):
                raise
            kind, fault = type(error).__name__, fault_of(error)
            if not isinstance(error, UserError) and BEYOND_THE_ENGINE.search(fault):
                raise RunStopped(fault) from None
            too_large = isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _NO_MEMORY.search(fault)
            if kind == _DEAD_GPU and not too_large:
                raise RunStopped(f"the GPU failed ({fault}): the same command again resumes here") from None
        else:
            if was_too_large:
                fitting.append(cuts)
            return replies
        # Not above, where the error would keep alive what the failed batch took of the memory.
        if len(piece.requests) == 1:
            return [Reply(None, fault)]
        half, replies = len(piece.requests) // 2, []
        for part in (piece.requests[:half], piece.requests[half:]):
            replies += self._halving(self._piece(part), 2 * cuts, fitting, was_too_large=bool(too_large))
        return replies

    def _answer(self, piece: _Piece) -> list[str]:
        if piece.fault is not None:
            raise piece.fault
        if isinstance(self._model, Staged):
            return self._model.reply(piece.prepared)
        return self._model.answer(piece.requests)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A batch, or a part of one."""

    requests: Sequence[Request]
    prepared: Any = None
    fault: Exception | None = None
    """Why it could not be made ready."""
