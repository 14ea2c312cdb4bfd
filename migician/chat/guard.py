"""What stands between the network and Gradio: few routes, bounded bodies, no other site, and no file on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio

from migician.chat.hosts import Hosts
from migician.chat.uploads import Upload, check_address
from migician.chat.visitors import Visitors
from migician.errors import UserError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_API = r"/gradio_api/(?:queue/(?:join|data)|heartbeat/\w{1,64}|cancel|reset|startup-events|app_id)"
_FILES = r"/(?:assets|static)/[\w/ -]+(?:\.[\w-]+)+|/(?:theme\.css|config|favicon\.ico|manifest\.json)"
_SERVED = re.compile(rf"/|{_FILES}|{_API}")
"""No route for a file that was brought is among them, and no folder."""
_SHOWN = re.compile(r"/shown/([\w-]{1,64})/(\d{1,6})")
_UPLOAD = "/gradio_api/upload"
_OPEN = "/gradio_api/heartbeat/"
"""With its name behind: what a page holds a connection to for as long as it is open."""
_MOST_UNREAD = 8
"""Answers that a page may leave unread; what was asked beyond them is refused."""
_PATIENCE_S = 30
"""How long the next part of a file may take to come."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; frame-ancestors 'self'; form-action 'self'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# Gradio's page loads a script from another host and opens connections to two more.
_ELSEWHERE = re.compile(rb"<link\s+rel=\"preconnect\".*?/>|<script\s+src=\"https?://[^>]*>\s*</script>", re.DOTALL)


class Guard:
    """An ASGI application around Gradio's. It takes and shows pictures itself, so that Gradio handles no file.

    `unread` says how many events of a page it has not yet read the answers to.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        hosts: Hosts,
        visitors: Visitors,
        unread: Callable[[str], int],
    ) -> None:
        self._app, self._hosts, self._visitors, self._unread = app, hosts, visitors, unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse in one line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # none of the page's routes is a websocket
            await send({"type": "websocket.close", "code": 1008})
        elif refused := self._hosts.refusal(scope["headers"]):
            await _refuse(send, 403, refused)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, is_read = scope["path"], scope["method"] in ("GET", "HEAD")
        if is_read and (parts := _SHOWN.fullmatch(path)):
            jpeg = self._visitors.shown(parts[1], int(parts[2]))
            if jpeg is None:
                await _refuse(send, 404, "no longer shown")
            else:
                await _give(send, 200, b"image/jpeg", jpeg, (b"cache-control", b"no-store"))
            return
        if path != _UPLOAD and not _SERVED.fullmatch(path):
            await _refuse(send, 404, "not served here")
            return
        limits = self._visitors.limits
        most = limits.body_bytes if path == _UPLOAD else limits.json_bytes
        length = dict(scope["headers"]).get(b"content-length", b"0" if is_read else b"")
        if not length.isdigit():
            await _refuse(send, 411, "say how long it is")
        elif len(length) > 18 or int(length) > most:
            await _refuse(send, 413, f"too large: at most {most / 1e6:.0f} MB at once")
        elif path == _UPLOAD:
            await self._take(scope, receive, send)
        elif path.endswith("/queue/join"):
            await self._join(scope, receive, send)
        else:
            if not path.endswith("/queue/data"):
                scope = {**scope, "query_string": b""}  # Gradio opens files that a query names
            try:
                await self._pass(scope, receive, send)
            finally:
                if path.startswith(_OPEN):
                    self._visitors.forget(path.removeprefix(_OPEN))

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep the files of a form until their page asks for them; answers with a name for each."""
        kind = dict(scope["headers"]).get(b"content-type", b"")
        boundary = re.fullmatch(rb'multipart/form-data; *boundary="?([\x21-\x7e]{1,70}?)"?', kind)
        if scope["method"] != "POST" or boundary is None:
            await _refuse(send, 400, "not a form with files")
            return
        body, counted = bytearray(), 0
        try:
            more = True
            while more:
                with anyio.fail_after(_PATIENCE_S):
                    message = await receive()
                if message["type"] != "http.request":
                    return  # cut; nothing of it is kept
                part = message.get("body", b"")
                self._visitors.coming(len(part))
                counted += len(part)
                body += part
                more = message.get("more_body", False)
            files = _files(body, boundary[1])
            most = self._visitors.limits.file_bytes
            if large := next((file for file in files if len(file.content) > most), None):
                await _refuse(send, 413, f"{large.name}: at most {most / 1e6:.0f} MB a file")
                return
            names = [self._visitors.wait(file) for file in files]
        except UserError as error:
            await _refuse(send, 503, str(error))
            return
        except TimeoutError:
            await _refuse(send, 408, "nothing came for too long; send it again")
            return
        finally:
            self._visitors.coming(-counted)
        await _give(send, 200, b"application/json", json.dumps(names).encode())

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand Gradio what was done on the page; a file stands in it as its name alone."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            content = json.loads(body)
            if not isinstance(content, dict) or not re.fullmatch(r"\w{1,64}", content.get("session_hash", "")):
                raise ValueError
            content["data"] = self._named(content.get("data"))
            body = json.dumps(content).encode()
        except UserError as error:
            await _refuse(send, 400, str(error))
            return
        except (ValueError, TypeError, RecursionError):
            await _refuse(send, 400, "not what the page sends")
            return
        if self._unread(content["session_hash"]) >= _MOST_UNREAD:
            await _refuse(send, 429, "too much at once; wait for the answers")
            return
        headers = [header for header in scope["headers"] if header[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        first = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> MutableMapping[str, Any]:
            return next(first, None) or await receive()

        await self._pass({**scope, "headers": headers}, again, send)

    def _named(self, content: Any) -> Any:
        """`content` with only the name of each file: what Gradio takes for a file it opens, or fetches."""
        if isinstance(content, dict):
            if isinstance(path := content.get("path"), str):
                check_address(path)
                if not self._visitors.is_waiting(path):
                    raise UserError(f"{Path(path).name[:80]!r}: was not uploaded here; choose the file again")
                return path
            return {name: self._named(value) for name, value in content.items()}
        return [self._named(one) for one in content] if isinstance(content, list) else content

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["path"] == "/"
        if is_page:  # it is looked into, so not compressed
            scope = {**scope, "headers": [one for one in scope["headers"] if one[0].lower() != b"accept-encoding"]}
        answer = _Answer(send, is_page=is_page)
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:  # the server stops
            with contextlib.suppress(RuntimeError):  # it may have ended by itself
                await send({"type": "http.response.body", "body": b""})
        except Exception as error:
            if answer.is_begun:
                log.warning("%s: the answer ended early: %r", scope["path"], error)
            else:
                log.exception("%s failed", scope["path"])
                await _fail(send)


async def _refuse(send: Send, status: int, line: str) -> None:
    await _give(send, status, b"text/plain; charset=utf-8", line.encode() + b"\n", (b"connection", b"close"))


async def _fail(send: Send) -> None:
    await _refuse(send, 500, "failed; the server's log says more")


async def _give(send: Send, status: int, kind: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    own = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def _files(body: bytearray, boundary: bytes) -> list[Upload]:
    """The files of a form, in order."""
    found = []
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'filename="([^"]*)"', head):
            found.append(Upload(Path(name[1].decode(errors="replace")).name or "image", bytes(content)))
    return found


class _Answer:
    """Sends what Gradio answers under the page's policy: no traceback, and the page without ties to other hosts."""

    def __init__(self, send: Send, *, is_page: bool) -> None:
        self._send, self._is_page, self._body, self._start = send, is_page, b"", dict[str, Any]()
        self.is_begun = self._has_failed = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if self._has_failed:
            return
        if message["type"] == "http.response.start":
            self.is_begun = True
            if message["status"] == 500:
                self._has_failed = True
                await _fail(self._send)
                return
            message = {**message, "headers": [*message["headers"], *_HEADERS]}
            if self._is_page:  # its length is known only when its body is
                self._start = message
                return
        elif self._is_page and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = _ELSEWHERE.sub(b"", self._body)
            kept = [header for header in self._start["headers"] if header[0].lower() != b"content-length"]
            await self._send({**self._start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            message = {"type": "http.response.body", "body": body}
        await self._send(message)
