"""A client of the OpenAI chat protocol: bounded, patient, and with a memory on disk."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import io
import math
import os
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
from PIL import Image

from migician.errors import UserError
from migician.seeds import stream
from migician.synthesis.cache import Cache, Reply, Request

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
    """The server does not take this one request (too long, an image it cannot read); the text says why.

    That is kept like a reply, so that a run that goes on comes to the same result.
    """


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str = ""


class ChatClient:
    """Asks a server, at most `concurrency` requests at a time; an async context manager.

    `url` is the server's address, with or without `/v1`. A request that fails for a passing
    reason (no connection, timeout, cut or unreadable answer, status 429 or 5xx) is tried again,
    at most `tries` times in all, after a wait that doubles each time and has a seeded jitter, or
    as long as the server's Retry-After says (at most two minutes). Raises `UserError` for an
    address or a key that cannot be right.
    """

    def __init__(
        self,
        url: str,
        cache: Cache,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        tries: int = 6,
        timeout_s: float = 300.0,
        seed: int = 0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = f"{_base(url)}/chat/completions"
        self._cache = cache
        self._key = api_key
        self._headers = _headers(api_key)
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._tries = tries
        self._timeout_s = timeout_s
        self._seed = seed
        self._pause = pause
        self._running: dict[str, asyncio.Task[Reply]] = {}
        self._changes: dict[str, frozenset[str]] = {}
        self._heard: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            import httpx
        except ImportError:
            raise UserError("asking a server needs httpx: pip install httpx") from None
        timeout = httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, 20.0), pool=None)
        limits = httpx.Limits(max_connections=self._concurrency)
        # Redirects are not followed: a key goes to the address that was given and to no other.
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, headers=self._headers, follow_redirects=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._http.aclose()

    async def ask(self, request: Request) -> Reply:
        """The reply to `request`, from the cache where it was asked before; equal requests are sent once.

        Raises `Refused` where the server does not take it, and `UserError` where the server
        cannot be used at all: wrong address, key or model, or still failing after all tries.
        """
        key = request.key()
        if key not in self._running:
            task = asyncio.create_task(self._answer(key, request))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(self._running[key])

    def _finished(self, key: str, task: asyncio.Task[Reply]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain where nobody waits any more

    async def _answer(self, key: str, request: Request) -> Reply:
        known = await asyncio.to_thread(self._cache.get, key)
        if known is None:
            async with self._slots:
                body = await asyncio.to_thread(_body, request)
                known = await self._adapted(key, request.model, body)
            await asyncio.to_thread(self._cache.put, key, request, known)
        self._heard.add(request.model)
        if known.refusal:
            raise Refused(known.refusal)
        return known

    async def _adapted(self, key: str, model: str, body: dict[str, Any]) -> Reply:
        """The reply to `body`, changed as far as this model's server does not take it as it is.

        A change that helps is kept for the model's later requests. Raises `UserError` where the
        model has not answered anything yet and does not take this one either.
        """
        changes = self._changes.get(model, frozenset())
        first = ""
        while True:
            try:
                reply = await self._persistently(key, _changed(body, changes))
            except Refused as refusal:
                first = first or str(refusal)
                needed = _needed(str(refusal), body, changes)
                if needed:
                    changes |= {needed}
                    continue
                if model not in self._heard:
                    raise UserError(
                        f"{self._endpoint}: model {model!r} does not take the first request: {first}"
                    ) from None
                return Reply("", False, refusal=first)
            self._changes[model] = self._changes.get(model, frozenset()) | changes
            return reply

    async def _persistently(self, key: str, body: dict[str, Any]) -> Reply:
        jitter = stream(self._seed, "wait", key)
        for attempt in range(self._tries):
            reply, problem, told_s = await self._once(body)
            if reply:
                return reply
            if attempt + 1 < self._tries:
                wait_s = min(2.0**attempt, 60.0) * float(jitter.uniform(0.5, 1.0))
                await self._pause(min(max(wait_s, told_s), _LONGEST_WAIT_S))
        raise UserError(
            f"{self._endpoint}: still failing after {self._tries} tries: {problem}. "
            "Start the same command again once it is back: what was answered is kept"
        )

    async def _once(self, body: dict[str, Any]) -> tuple[Reply | None, str, float]:
        """(reply, "", 0), or (None, what went wrong in passing, seconds that the server wants us to wait)."""
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
            return _reply(content), "", 0.0
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


def data_url(image: Path, max_pixels: int) -> str:
    """The image as a JPEG `data:` URL, made smaller to `max_pixels`, pixels in the file's own orientation.

    Boxes are annotated in the file's own pixels, so an EXIF tag is neither applied nor sent.
    Raises `Refused` where the file cannot be read.
    """
    try:
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(f"{image.name}: cannot be read: {error}") from None
    scale = math.sqrt(max_pixels / (picture.width * picture.height))
    if scale < 1:
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _body(request: Request) -> dict[str, Any]:
    content: str | list[dict[str, Any]] = request.text
    if request.image:
        url = data_url(request.image.path, request.max_pixels)
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": request.text}]
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "stream": False,
    }
    if request.schema:
        name, schema = request.schema
        form = {"name": name, "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def _needed(refusal: str, body: dict[str, Any], changes: frozenset[str]) -> str:
    """What to change in a request for the server to take it, empty where nothing is left to try."""
    # Hosted models that think have another name for the limit of tokens, and no temperature.
    for word, field in (("max_completion_tokens", "max_tokens"), ("temperature", "temperature")):
        if word in refusal and field not in changes:
            return field
    return "response_format" if "response_format" in body.keys() - changes else ""


def _changed(body: dict[str, Any], changes: frozenset[str]) -> dict[str, Any]:
    changed = {name: value for name, value in body.items() if name not in changes}
    if "max_tokens" in changes:
        changed["max_completion_tokens"] = body["max_tokens"]
    return changed


def _reply(content: bytes) -> Reply:
    completion = msgspec.json.decode(content, type=_Completion)
    choice = completion.choices[0]
    text = choice.message.content or ""
    is_whole = choice.finish_reason != "length" and len(text) <= _LONGEST_TEXT
    return Reply(text[:_LONGEST_TEXT], is_whole, completion.model[:200])


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
