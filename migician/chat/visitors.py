"""Everything visitors have uploaded, in memory only and under one bound."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from migician.chat.session import Session
from migician.chat.uploads import LIMITS, ChatLimits, UploadedFile
from migician.errors import UserError

FORGOTTEN = (
    "This conversation is no longer here: it was the least recently used when other visitors' images filled the "
    "memory, or it was idle for an hour, or its page was closed. Add your images again."
)
_OVERHEAD_BYTES = 20_000
"""What a conversation takes besides its images, so that the number of empty ones is bounded too."""
_REMEMBERED = 10_000
"""How many dropped conversations are remembered."""


@dataclass
class Visitor:
    """A conversation and what its page shows."""

    session: Session = field(default_factory=Session)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """A secret, so that nobody else can request what is shown."""
    pictures: list[str] = field(default_factory=list)
    """The address of each picture of the session."""
    turns: list[str] = field(default_factory=list)
    """Each turn as HTML."""
    used: float = 0
    """When it was last used, by the clock of `Visitors`."""
    counted: int = 0
    """Its size when it was last used."""
    _shown: list[bytes] = field(default_factory=list)

    def show(self, jpeg: bytes) -> str:
        """The address of the JPEG, relative to the page."""
        self._shown.append(jpeg)
        return f"shown/{self.key}/{len(self._shown) - 1}"

    def shown(self, number: int) -> bytes | None:
        """The JPEG of that number, or None."""
        return self._shown[number] if number < len(self._shown) else None

    @property
    def size(self) -> int:
        """Bytes, approximately; text is kept twice, once as HTML."""
        return _OVERHEAD_BYTES + self.session.size + sum(map(len, self._shown)) + 2 * sum(map(len, self.turns))


class Visitors:
    """Conversations by the name of their page, and uploads that wait for theirs; safe to use from several threads."""

    def __init__(self, limits: ChatLimits = LIMITS, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._now, self._lock = now, threading.Lock()
        self._coming = 0
        self._waiting: dict[str, tuple[float, UploadedFile]] = {}
        self._kept: OrderedDict[str, Visitor] = OrderedDict()
        """The least recently used first."""
        self._kept_bytes = 0
        self._forgotten: OrderedDict[str, None] = OrderedDict()

    def coming(self, n_bytes: int) -> None:
        """Count bytes of uploads in progress (negative when they end); raises `UserError` if they are too many."""
        with self._lock:
            if n_bytes > 0 and self._coming + self._waiting_bytes() + n_bytes > self.limits.sent_bytes:
                raise UserError("too many uploads at once; try again in a minute")
            self._coming += n_bytes

    def wait(self, upload: UploadedFile) -> str:
        """Keep an upload until its page asks for it by the returned name, which nobody can guess."""
        with self._lock:
            name = secrets.token_urlsafe(16)
            self._waiting[name] = (self._now(), upload)
            return name

    def is_waiting(self, name: str) -> bool:
        """Whether an upload of that name waits."""
        return name in self._waiting

    def claim(self, name: str) -> UploadedFile:
        """The upload of that name, which waits no longer; raises `UserError` if there is none."""
        with self._lock:
            if name not in self._waiting:
                raise UserError("an image waited too long; choose it again")
            return self._waiting.pop(name)[1]

    def of(self, page: str) -> Visitor:
        """The visitor of that page; raises `UserError`, once, if the conversation was dropped."""
        with self._lock:
            if page in self._forgotten:
                del self._forgotten[page]
                raise UserError(FORGOTTEN)
            return self._put(page, self._kept.get(page) or Visitor())

    def begin(self, page: str, session: Session | None = None) -> Visitor:
        """A new conversation for that page."""
        with self._lock:
            self._forgotten.pop(page, None)
            return self._put(page, Visitor(session or Session()))

    def grown(self, page: str) -> None:
        """Keep the bound after that page's visitor has grown: the least recently used others are dropped."""
        with self._lock:
            if page in self._kept:
                self._put(page, self._kept[page])

    def shown(self, key: str, number: int) -> bytes | None:
        """The JPEG of that number that the visitor with that key is shown."""
        with self._lock:
            visitors = list(self._kept.values())
        return next((one.shown(number) for one in visitors if secrets.compare_digest(one.key, key)), None)

    def forget(self, page: str) -> None:
        """Drop the conversation of a closed page."""
        with self._lock:
            self._drop(page)

    def sweep(self) -> None:
        """Drop what has waited or was idle for too long."""
        with self._lock:
            now = self._now()
            for name in [name for name, (at, _) in self._waiting.items() if now - at > self.limits.waiting_s]:
                del self._waiting[name]
            for page in [page for page, one in self._kept.items() if now - one.used > self.limits.unused_s]:
                self._drop(page)

    @property
    def size(self) -> int:
        """Bytes of everything that is kept, waiting or being uploaded."""
        with self._lock:
            return self._kept_bytes + self._waiting_bytes() + self._coming

    def _put(self, page: str, visitor: Visitor) -> Visitor:
        if before := self._kept.pop(page, None):
            self._kept_bytes -= before.counted
        visitor.used, visitor.counted = self._now(), visitor.size
        self._kept[page] = visitor
        self._kept_bytes += visitor.counted
        while len(self._kept) > 1 and self._kept_bytes > self.limits.kept_bytes:
            self._drop(next(iter(self._kept)))
        return visitor

    def _drop(self, page: str) -> None:
        if kept := self._kept.pop(page, None):
            self._kept_bytes -= kept.counted
            self._forgotten[page] = None
            if len(self._forgotten) > _REMEMBERED:
                self._forgotten.popitem(last=False)

    def _waiting_bytes(self) -> int:
        return sum(len(upload.content) for _, upload in self._waiting.values())
