"""A client of the OpenAI chat protocol, which vLLM, SGLang, LMDeploy and hosted models speak; bounded and patient."""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec

from migician.errors import NOT_JSON, UserError
from migician.models.faults import NO_MONEY, PASSING, UNSUITABLE, WITHHELD, RunStopped, of_the_setup, setting_not_taken
from migician.sampling import stream

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "MIGICIAN_API_KEY"
"""The environment variable of the API key; a key is never an argument and never written."""

PATIENCE_S = 60.0
"""How long a request is retried, all waits together, before the run stops."""
_LARGEST_BODY = 8 << 20
_LONGEST_TEXT = 64_000
# A server that begins within 45 s and writes a token in 0.25 s is slow but not dead.
_SECONDS_TO_BEGIN, _SECONDS_A_TOKEN = 45.0, 0.25
_PROBE_S = 15.0
_BROKEN_OFF = frozenset({"abort", "error", "insufficient_system_resource", "network_error"})
"""The server, not the model, ended a reply: in the words of vLLM and SGLang, OpenRouter, DeepSeek, Zhipu."""


class Refused(Exception):
    """This one request gets no reply (too long, unreadable image, withheld); the text says why."""

    def __init__(self, reason: str, *, by_server: bool = True) -> None:
        super().__init__(reason)
        self.by_server = by_server
        """False if another try may work: it was never sent, or the server failed on it."""


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    error: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


class Completion(msgspec.Struct, frozen=True):
    """What a server answered."""

    text: str | None
    """None if the message has no content."""
    finish_reason: str
    """As the server gives it, such as "stop", "length" or "content_filter"; empty if it does not."""
    model: str
    """The server's name of the model."""
    prompt_tokens: int
    """As the server counts them, images included; 0 if it does not say."""
    completion_tokens: int
    reasoning: str | None = None
    """What a thinking model wrote before its answer, if the server sends it separately."""
    refusal: str | None = None
    """Why the model declines, if the server sends that separately."""
    dropped: tuple[str, ...] = ()
    """Parameters left out because the server does not accept them, sorted."""

    @property
    def is_whole(self) -> bool:
        """False if the model reached its token limit."""
        return self.finish_reason != "length" and len(self.text or "") < _LONGEST_TEXT


@dataclass(repr=False)
class Completions:
    """Asks a server, at most `concurrency` requests at a time; an async context manager that can be entered repeatedly.

    `url` is the server's address, with or without `/v1`. A request that fails temporarily (no connection, timeout, cut
    or unreadable answer, status 429 or 5xx) is retried at most `tries` times and for `PATIENCE_S` in all, after a wait
    that doubles each time with a seeded jitter, or as long as the server's Retry-After says. `timeout_s` is the longest
    wait for one reply; by default 45 s and 0.25 s per requested token. Raises `UserError` for an invalid address or
    key.
    """

    url: str
    _: KW_ONLY
    api_key: str | None = None
    concurrency: int = 8
    tries: int = 7
    timeout_s: float | None = None
    seed: int = 0
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.api_key and (not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key):
            raise UserError(f"{KEY_VARIABLE}: contains characters that no key has; set it again")
        self._headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self._endpoint = f"{_base(self.url)}/chat/completions"
        self._changes: dict[str, frozenset[str]] = {}

    async def __aenter__(self) -> Self:
        try:
            import httpx
        except ModuleNotFoundError:
            raise UserError("asking a server needs httpx: pip install httpx") from None
        limits = httpx.Limits(max_connections=self.concurrency)
        # Redirects are not followed: a key goes to the address that was given and to no other.
        self._http = httpx.AsyncClient(limits=limits, headers=self._headers, follow_redirects=False)
        self._slots = asyncio.Semaphore(self.concurrency)
        self._fatal = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def complete(self, key: str, model: str, body: Callable[[], dict[str, Any]]) -> Completion:
        """The server's answer to `body()`, which is called in a thread once there is room for the request.

        `key` seeds the waits between tries. Raises `Refused` where the server does not accept this request, and
        `RunStopped` where it cannot be used at all: wrong address, key or model, a used-up quota, a setting it does not
        accept, or failure after all tries.
        """
        async with self._slots:
            self._check_alive()
            try:
                return await self._adapted(key, model, await asyncio.to_thread(body))
            except RunStopped as error:
                self.give_up(str(error))
                raise

    def give_up(self, why: str) -> None:
        """Send nothing more: later requests raise with this reason."""
        self._fatal = why

    def _check_alive(self) -> None:
        if self._fatal:
            raise RunStopped(self._fatal)

    async def _adapted(self, key: str, model: str, body: dict[str, Any]) -> Completion:
        """The reply to `body`, without the parameters that the server does not accept for this model.

        A change that helps is kept for later requests to the model.
        """
        changes = self._changes.get(model, frozenset())
        while True:
            sent = _changed(body, changes)
            try:
                completion = await self._persistently(key, sent)
            except Refused as refusal:
                words = str(refusal)
                needed = setting_not_taken(words, set(sent))
                if not needed and "response_format" in sent and not of_the_setup(words.replace("response_format", "")):
                    needed = "response_format"  # refused by some servers without naming it
                if needed:
                    changes |= {needed}
                    continue
                if of_the_setup(words):
                    raise RunStopped(f"{self._endpoint}: {words}") from None
                raise
            self._changes[model] = self._changes.get(model, frozenset()) | changes
            # With max_tokens under its newer name nothing is lost.
            lost = changes - {"max_tokens"} if "max_completion_tokens" not in changes else changes
            return msgspec.structs.replace(completion, dropped=tuple(sorted(lost - {"max_completion_tokens"})))

    async def _persistently(self, key: str, body: dict[str, Any]) -> Completion:
        jitter = stream(self.seed, "wait", key)
        started, problem, asked_to_wait = self.clock(), "", False
        tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        longest_s = _SECONDS_TO_BEGIN + _SECONDS_A_TOKEN * tokens if self.timeout_s is None else self.timeout_s
        for attempt in range(self.tries):
            self._check_alive()
            completion, problem, asked_s = await self._once(body, longest_s)
            if completion:
                return completion
            asked_to_wait = asked_s > 0 or problem.startswith("status 429")
            wait_s = max(min(2.0**attempt, 60.0) * float(jitter.uniform(0.5, 1.0)), asked_s)
            if attempt + 1 == self.tries or self.clock() - started + wait_s > PATIENCE_S:
                break
            await self.pause(wait_s)
        if not asked_to_wait and await self._answers_others(body["model"]):
            raise Refused(f"{problem}, while the server answers other requests", by_server=False)
        raise RunStopped(
            f"{self._endpoint}: still failing after {attempt + 1} tries in {self.clock() - started:.0f} s: {problem}. "
            "Run the same command again once it is back: earlier answers are kept"
        )

    async def _answers_others(self, model: str) -> bool:
        """Whether the server answers a minimal request, so that the problem is the last request itself."""
        body = _changed(
            {"model": model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 16},
            self._changes.get(model, frozenset()),
        )
        try:
            completion, _, _ = await self._once(body, _PROBE_S)
        except (Refused, RunStopped):
            return False
        return completion is not None

    async def _once(self, body: dict[str, Any], longest_s: float) -> tuple[Completion | None, str, float]:
        """(completion, "", 0), or (None, the temporary problem, seconds that the server asks to wait)."""
        import httpx

        try:
            async with asyncio.timeout(longest_s):
                timeout = httpx.Timeout(longest_s, connect=min(longest_s, 10.0), pool=None)
                async with self._http.stream("POST", self._endpoint, json=body, timeout=timeout) as response:
                    content = await _read(response)
        except httpx.ConnectTimeout:
            return None, "no connection within 10 s", 0.0
        except (httpx.TimeoutException, TimeoutError):
            return None, f"no answer within {longest_s:g} s", 0.0
        except (httpx.TransportError, httpx.DecodingError) as error:
            return None, f"{type(error).__name__}: {error}", 0.0
        except httpx.InvalidURL as error:
            raise RunStopped(f"--server {self._endpoint}: {error}") from None
        status = response.status_code
        if status != 200:
            return self._failure(status, self._excerpt(content), response.headers.get("retry-after", ""))
        try:
            answer = msgspec.json.decode(content, type=_Answer)
        except NOT_JSON as error:
            return None, f"the answer is not a chat completion: {error}", 0.0
        choice = answer.choices[0] if answer.choices else None
        if failed := answer.error or (choice and choice.error):  # with status 200, as gateways do
            code = failed.get("code") if isinstance(failed, dict) else None
            words = self._excerpt(msgspec.json.encode(failed))
            return self._failure(code if isinstance(code, int) and code >= 300 else 500, words, "")
        if choice is None:
            return None, f"the answer has no choices: {self._excerpt(content)}", 0.0
        if choice.finish_reason in _BROKEN_OFF:
            return None, f"the server broke off its answer (finish_reason {choice.finish_reason})", 0.0
        return _completion(answer, choice), "", 0.0

    def _failure(self, status: int, words: str, retry_after: str) -> tuple[None, str, float]:
        """What `_once` gives for a status other than 200; raises if it is not temporary."""
        if status in PASSING and not NO_MONEY.search(words):
            asked_s = _retry_after_s(retry_after)
            wish = f" (asks to wait {asked_s:.0f} s)" if asked_s else ""
            return None, f"status {status}{wish}: {words}", asked_s
        if status in UNSUITABLE or (status == 403 and WITHHELD.search(words)):
            raise Refused(f"status {status}: {words}")
        raise RunStopped(f"{self._endpoint}: status {status}: {words}{_fix(status)}")

    def _excerpt(self, content: bytes) -> str:
        """The start of an error message on one line, without the key that some servers repeat."""
        text = content[:2000].decode("utf-8", "replace")
        if self.api_key:
            text = text.replace(self.api_key, "(key)")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:600]


def api_key() -> str | None:
    """The key in the environment variable `MIGICIAN_API_KEY`; None if it is not set."""
    return os.environ.get(KEY_VARIABLE, "").strip() or None


def _changed(body: dict[str, Any], changes: frozenset[str]) -> dict[str, Any]:
    """`body` without the parameters in `changes`; the token limit under its newer name where that is accepted."""
    changed = {name: value for name, value in body.items() if name not in changes}
    if "max_tokens" in changes and "max_tokens" in body and "max_completion_tokens" not in changes:
        changed["max_completion_tokens"] = body["max_tokens"]
    return changed


def _completion(answer: _Answer, choice: _Choice) -> Completion:
    message, usage = choice.message, answer.usage or _Usage()
    text = message.content
    if isinstance(text, list):
        parts = [part.get("text") for part in text if isinstance(part, dict) and part.get("type", "text") == "text"]
        text = "".join(part for part in parts if isinstance(part, str))
    apart = (message.reasoning_content, message.reasoning)
    thinking = next((one for one in apart if one and isinstance(one, str)), None)
    refusal = message.refusal if isinstance(message.refusal, str) else None
    return Completion(
        text if text is None else text[:_LONGEST_TEXT],
        choice.finish_reason or "",
        (answer.model or "")[:200],
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        thinking[:_LONGEST_TEXT] if thinking else None,
        refusal[:300] if refusal else None,
    )


async def _read(response: httpx.Response) -> bytes:
    parts = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _LARGEST_BODY:
            break  # what is cut here is not JSON, and counts as a failed try
        parts.append(part)
    return b"".join(parts)


def _retry_after_s(value: str) -> float:
    """Seconds to wait by a Retry-After header (seconds or a date); 0 if it is unreadable."""
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
        raise UserError(f"--server: expected an address without user, query or fragment; put a key into {KEY_VARIABLE}")
    return url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"


def _fix(status: int) -> str:
    if status in (401, 403):
        return f". Set {KEY_VARIABLE} to a key that this server accepts"
    if status == 402:
        return ". The account of this key has no credit left"
    if status == 404:
        return ". Check the server's address and the names of the models"
    if 300 <= status < 400:
        return ". Redirects are not followed: give the final address"
    return ""
