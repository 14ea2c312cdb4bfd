"""What stands between the network and Gradio: only the routes this page uses, bounded bodies, no other host."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from migician.chat.uploads import LIMITS, check_place
from migician.errors import UserError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_API = r"/gradio_api/(?:upload|upload_progress|queue/(?:join|data)|heartbeat/\w+|cancel|reset|startup-events|app_id)"
_SERVED = re.compile(rf"/|/(?:assets|static|svelte)/.+|/(?:theme\.css|config|favicon\.ico|manifest\.json)|{_API}")
"""No route for a file of the disk is among them: pictures go out inside the page, to whoever brought them."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; frame-ancestors 'self'; form-action 'self'"
)
# Gradio's page loads a script from another host and opens connections to two more.
_ELSEWHERE = re.compile(rb"<link\s+rel=\"preconnect\".*?/>|<script\s+src=\"https?://[^>]*>\s*</script>", re.DOTALL)


class Guard:
    """An ASGI application around Gradio's, whose uploads lie in `folder`."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], folder: Path) -> None:
        self._app, self._folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse in one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if not _SERVED.fullmatch(path) or ".." in path:
            await _refuse(send, 404, "not served here")
            return
        most = LIMITS.body_bytes if path.endswith("/upload") else LIMITS.json_bytes
        length = dict(scope["headers"]).get(b"content-length", b"0" if scope["method"] in ("GET", "HEAD") else b"")
        if not length.isdigit():
            await _refuse(send, 411, "say how long it is")
        elif int(length) > most:
            await _refuse(send, 413, f"too large: at most {most / 1e6:.0f} MB at once")
        elif path.endswith("/queue/join"):
            body = await _whole(receive)
            try:
                for named in _paths(json.loads(body)):
                    check_place(named, self._folder)
            except UserError as error:
                await _refuse(send, 400, str(error))
            except (ValueError, RecursionError):
                await _refuse(send, 400, "not JSON")
            else:
                await self._app(scope, _again(body, receive), _Answer(send, page=False))
        else:
            await self._app(scope, receive, _Answer(send, page=path == "/"))


async def _whole(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what else comes."""
    first = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def give() -> MutableMapping[str, Any]:
        return next(first, None) or await receive()

    return give


def _paths(content: Any) -> Iterator[str]:
    """All that stands under "path" in some JSON: Gradio takes it for a file, or fetches it where it is an address."""
    if isinstance(content, dict):
        if isinstance(named := content.get("path"), str):
            yield named
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from _paths(part)


async def _refuse(send: Send, status: int, line: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": line.encode() + b"\n"})


class _Answer:
    """Sends what Gradio answers under the page's policy; the page itself without its ties to other hosts."""

    def __init__(self, send: Send, *, page: bool) -> None:
        self._send, self._page, self._body, self._start = send, page, b"", dict[str, Any]()

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [
                *message["headers"],
                (b"content-security-policy", _POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
            message = {**message, "headers": headers}
            if self._page:  # its length is known only when its body is
                self._start = message
                return
        elif self._page and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = _ELSEWHERE.sub(b"", self._body)
            kept = [header for header in self._start["headers"] if header[0].lower() != b"content-length"]
            await self._send({**self._start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            message = {"type": "http.response.body", "body": body}
        await self._send(message)
