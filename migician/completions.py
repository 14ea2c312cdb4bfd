"""A client of the OpenAI chat protocol: bounded and patient. vLLM, SGLang, LMDeploy and hosted models speak it."""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import msgspec

from migician.errors import UserError
from migician.seeds import stream

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "MIGICIAN_API_KEY"
"""The environment variable an API key is read from; a key is never an argument and never written."""

_LARGEST_BODY = 8 << 20
_LONGEST_TEXT = 64_000
_LONGEST_WAIT_S = 120.0
# The server is busy, restarting, or behind a gateway: worth another try.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# This request does not suit the server, though another may.
_UNSUITABLE = frozenset({400, 413, 422})


class Refused(Exception):
    """This one request is not taken (too long, an image that cannot be read); the text says why."""

    def __init__(self, reason: str, *, by_server: bool = True) -> None:
        super().__init__(reason)
        self.by_server = by_server
        """False where it was never sent."""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    model: str = ""
    usage: _Usage | None = None


class Completion(msgspec.Struct, frozen=True):
    """What a server answered."""

    text: str
    is_whole: bool
    """False where the model ran into its limit of tokens."""
    model: str
    """The model as the server calls it."""
    prompt_tokens: int
    """As the server counts them, images included; 0 where it does not say."""
    completion_tokens: int


class Completions:
    """Asks a server, at most `concurrency` requests at a time; an async context manager, to be entered again at will.

    `url` is the server's address, with or without `/v1`. A request that fails for a passing
    reason (no connection, timeout, cut or unreadable answer, status 429 or 5xx) is tried again,
    at most `tries` times in all, after a wait that doubles each time and has a seeded jitter, or
    as long as the server's Retry-After says (at most two minutes). Raises `UserError` for an
    address or a key that cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        tries: int = 6,
        timeout_s: float = 300.0,
        seed: int = 0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = f"{_base(url)}/chat/completions"
        self._key = api_key
        self._headers = _headers(api_key)
        self._concurrency = concurrency
        self._tries = tries
        self._timeout_s = timeout_s
        self._seed = seed
        self._pause = pause
        self._changes: dict[str, frozenset[str]] = {}
        self.heard: set[str] = set()
        """The models that have answered: what such a one refuses is a fault of the request, not of the settings."""

    async def __aenter__(self) -> Self:
        try:
            import httpx
        except ImportError:
            raise UserError("asking a server needs httpx: pip install httpx") from None
        timeout = httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, 20.0), pool=None)
        limits = httpx.Limits(max_connections=self._concurrency)
        # Redirects are not followed: a key goes to the address that was given and to no other.
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, headers=self._headers, follow_redirects=False)
        self._slots = asyncio.Semaphore(self._concurrency)
        self._fatal = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def complete(self, key: str, model: str, body: Callable[[], dict[str, Any]]) -> Completion:
        """The server's answer to `body()`, which is made in a thread once there is room for the request.

        `key` seeds the waits between tries. Raises `Refused` where the server does not take this
        request, and `UserError` where it cannot be used at all: wrong address, key or model, or
        still failing after all tries.
        """
        async with self._slots:
            if self._fatal:  # the others that wait need not find out for themselves
                raise UserError(self._fatal)
            try:
                return await self._adapted(key, model, await asyncio.to_thread(body))
            except UserError as error:
                self._fatal = str(error)
                raise

    async def _adapted(self, key: str, model: str, body: dict[str, Any]) -> Completion:
        """The reply to `body`, changed as far as this model's server does not take it as it is.

        A change that helps is kept for the model's later requests. Raises `UserError` where the
        model has not answered anything yet and does not take this one either.
        """
        changes = self._changes.get(model, frozenset())
        first = ""
        while True:
            try:
                completion = await self._persistently(key, _changed(body, changes))
            except Refused as refusal:
                first = first or str(refusal)
                needed = _needed(str(refusal), body, changes)
                if needed:
                    changes |= {needed}
                    continue
                if model not in self.heard:
                    raise UserError(
                        f"{self._endpoint}: model {model!r} does not take the first request: {first}"
                    ) from None
                raise Refused(first) from None
            self.heard.add(model)
            self._changes[model] = self._changes.get(model, frozenset()) | changes
            return completion

    async def _persistently(self, key: str, body: dict[str, Any]) -> Completion:
        jitter = stream(self._seed, "wait", key)
        for attempt in range(self._tries):
            completion, problem, told_s = await self._once(body)
            if completion:
                return completion
            if attempt + 1 < self._tries:
                wait_s = min(2.0**attempt, 60.0) * float(jitter.uniform(0.5, 1.0))
                await self._pause(min(max(wait_s, told_s), _LONGEST_WAIT_S))
        raise UserError(
            f"{self._endpoint}: still failing after {self._tries} tries: {problem}. "
            "Start the same command again once it is back: what was answered is kept"
        )

    async def _once(self, body: dict[str, Any]) -> tuple[Completion | None, str, float]:
        """(completion, "", 0), or (None, what went wrong in passing, seconds that the server wants us to wait)."""
        import httpx

        try:
            async with self._http.stream("POST", self._endpoint, json=body) as response:
                content = await _read(response)
        except httpx.TimeoutException:
            return None, f"no answer within {self._timeout_s:g} s", 0.0
        except (httpx.TransportError, httpx.DecodingError) as error:
            return None, f"{type(error).__name__}: {error}", 0.0
        except httpx.InvalidURL as error:
            raise UserError(f"--server {self._endpoint}: {error}") from None
        status = response.status_code
        if status in _PASSING:
            return None, f"status {status}", _retry_after_s(response.headers.get("retry-after", ""))
        if status in _UNSUITABLE:
            raise Refused(f"status {status}: {self._excerpt(content)}")
        if status != 200:
            raise UserError(f"{self._endpoint}: status {status}: {self._excerpt(content)}{_cure(status)}")
        try:
            return _completion(content), "", 0.0
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            return None, f"the answer is no chat completion: {error}", 0.0

    def _excerpt(self, content: bytes) -> str:
        """The beginning of an error's text on one line, without the key that some servers repeat."""
        text = content[:2000].decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "(key)")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:300]


def api_key() -> str | None:
    """The key in the environment variable `MIGICIAN_API_KEY`, None where it is not set."""
    return os.environ.get(KEY_VARIABLE, "").strip() or None


def _needed(refusal: str, body: dict[str, Any], changes: frozenset[str]) -> str:
    """What to change in a request for the server to take it, empty where nothing is left to try."""
    # Hosted models that think have another name for the limit of tokens, and no temperature; the last two are vLLM's.
    names = {"max_completion_tokens": "max_tokens"} | {
        name: name for name in ("temperature", "repetition_penalty", "skip_special_tokens")
    }
    for word, field in names.items():
        if word in refusal and field in body.keys() - changes:
            return field
    return "response_format" if "response_format" in body.keys() - changes else ""


def _changed(body: dict[str, Any], changes: frozenset[str]) -> dict[str, Any]:
    changed = {name: value for name, value in body.items() if name not in changes}
    if "max_tokens" in changes:
        changed["max_completion_tokens"] = body["max_tokens"]
    return changed


def _completion(content: bytes) -> Completion:
    answer = msgspec.json.decode(content, type=_Answer)
    choice, usage = answer.choices[0], answer.usage or _Usage()
    text = choice.message.content or ""
    is_whole = choice.finish_reason != "length" and len(text) <= _LONGEST_TEXT
    return Completion(text[:_LONGEST_TEXT], is_whole, answer.model[:200], usage.prompt_tokens, usage.completion_tokens)


async def _read(response: httpx.Response) -> bytes:
    parts = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _LARGEST_BODY:
            break  # cut here it is not JSON, and counts as a failed try
        parts.append(part)
    return b"".join(parts)


def _retry_after_s(value: str) -> float:
    """Seconds to wait by a Retry-After header (seconds, or a date), 0 where it says nothing readable."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _base(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--server {url!r}: expected an address such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UserError(f"--server: an address without user, query or fragment; a key goes into {KEY_VARIABLE}")
    return url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"


def _headers(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{KEY_VARIABLE}: holds characters that no key has; set it again")
    return {"Authorization": f"Bearer {key}"}


def _cure(status: int) -> str:
    if status in (401, 403):
        return f". Set {KEY_VARIABLE} to a key that this server takes"
    if status == 404:
        return ". Check --server and the names of the models"
    if 300 <= status < 400:
        return ". Redirects are not followed: give the final address as --server"
    return ""
