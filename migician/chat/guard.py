"""What stands between the network and Gradio: few routes, bounded bodies, no other site, and no file on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from migician.chat.hosts import Hosts
from migician.chat.uploads import UploadedFile, check_address
from migician.chat.visitors import Visitors
from migician.errors import UserError

log = logging.getLogger(__name__)

_API = r"/gradio_api/(?:queue/(?:join|data)|heartbeat/\w{1,64}|cancel|reset|startup-events|app_id)"
_FILES = r"/(?:assets|static)/[\w/ -]+(?:\.[\w-]+)+|/(?:theme\.css|config|favicon\.ico|manifest\.json)"
_SERVED = re.compile(rf"/|{_FILES}|{_API}")
"""No route for a file that was uploaded is among them, and no folder."""
_SHOWN = re.compile(r"/shown/([\w-]{1,64})/(\d{1,6})")
_UPLOAD, _JOIN, _DATA = "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/queue/data"
_OPEN = "/gradio_api/heartbeat/"
"""Followed by its name: what a page keeps a connection to while it is open."""
_MAX_UNREAD = 8
"""Answers that a page may leave unread; what it asks beyond them is refused."""
_PATIENCE_S = 30
"""How long the next part of a file may take to arrive."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; frame-ancestors 'self'; form-action 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class PageGuard:
    """An ASGI application around Gradio's. It takes and shows pictures itself, so that Gradio handles no file.

    `unread` gives how many events of a page it has not yet read the answers to.
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
        elif scope["type"] == "http":
            request = Request(scope, receive)
            try:
                answer = await self._answer(request)
            except HTTPException as refused:
                answer = _line(refused.status_code, refused.detail)
            except ClientDisconnect:  # nothing of what was sent is kept
                return
            if isinstance(answer, Response):
                answer.headers.update(_HEADERS)
                await answer(scope, receive, send)
            else:
                await self._pass(scope, answer, send)
        else:  # none of the page's routes is a websocket
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, request: Request) -> Response | Receive:
        """The answer; for what Gradio answers, what it receives. Raises `HTTPException` for what is refused."""
        if refused := self._hosts.refusal(request.headers.raw):
            raise HTTPException(403, refused)
        path, is_read = request.url.path, request.method in ("GET", "HEAD")
        if is_read and (parts := _SHOWN.fullmatch(path)):
            if (jpeg := self._visitors.shown(parts[1], int(parts[2]))) is None:
                raise HTTPException(404, "no longer shown")
            return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "no-store"})
        if path != _UPLOAD and not _SERVED.fullmatch(path):
            raise HTTPException(404, "not served here")
        limits = self._visitors.limits
        max_bytes = limits.body_bytes if path == _UPLOAD else limits.json_bytes
        length = request.headers.get("content-length", "0" if is_read else "")
        if not (length.isascii() and length.isdigit()):
            raise HTTPException(411, "say how long it is")
        if len(length) > 18 or int(length) > max_bytes:
            raise HTTPException(413, f"too large: at most {max_bytes / 1e6:.0f} MB at once")
        if path == _UPLOAD:
            return await self._take(request)
        if path == _JOIN:
            return await self._join(request)
        if path != _DATA:
            request.scope["query_string"] = b""  # Gradio opens files that a query names
        return request.receive

    async def _take(self, request: Request) -> Response:
        """Keep the files of a form until their page asks for them; answers with a name for each."""
        boundary = re.fullmatch(
            r'multipart/form-data; *boundary="?([\x21-\x7e]{1,70}?)"?', request.headers.get("content-type", "")
        )
        if request.method != "POST" or boundary is None:
            raise HTTPException(400, "not a form with files")
        body, counted, parts = bytearray(), 0, request.stream()
        try:
            while True:
                with anyio.fail_after(_PATIENCE_S):
                    if not (part := await anext(parts)):
                        break
                self._visitors.coming(len(part))
                counted += len(part)
                body += part
            files = _files(body, boundary[1].encode())
            max_bytes = self._visitors.limits.file_bytes
            if large := next((file for file in files if len(file.content) > max_bytes), None):
                raise HTTPException(413, f"{large.name}: at most {max_bytes / 1e6:.0f} MB per file")
            return JSONResponse([self._visitors.wait(file) for file in files])
        except UserError as error:
            raise HTTPException(503, str(error)) from None
        except TimeoutError:
            raise HTTPException(408, "nothing came for too long; send it again") from None
        finally:
            self._visitors.coming(-counted)

    async def _join(self, request: Request) -> Receive:
        """What was done on the page, for Gradio: each file in it is reduced to its name."""
        try:
            content = json.loads(await request.body())
            if not isinstance(content, dict) or not re.fullmatch(r"\w{1,64}", content.get("session_hash", "")):
                raise ValueError
            content["data"] = self._named(content.get("data"))
            body = json.dumps(content).encode()
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except (ValueError, TypeError, RecursionError):
            raise HTTPException(400, "not what the page sends") from None
        if self._unread(content["session_hash"]) >= _MAX_UNREAD:
            raise HTTPException(429, "too much at once; wait for the answers")
        MutableHeaders(scope=request.scope)["content-length"] = str(len(body))
        first = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(first, None) or await request.receive()

        return again

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
        """Let Gradio answer, under the page's policy and without a traceback."""
        failed = _line(500, "failed; the server's log says more")
        failed.headers.update(_HEADERS)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
                if status == 500:
                    await failed(scope, receive, send)
            if status != 500:
                await send(message)

        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:  # the server stops
            with contextlib.suppress(RuntimeError):  # it may have ended by itself
                await send({"type": "http.response.body", "body": b""})
        except Exception as error:
            if status:
                log.warning("%s: the answer ended early: %r", scope["path"], error)
            else:
                log.exception("%s failed", scope["path"])
                await failed(scope, receive, send)
        finally:
            if scope["path"].startswith(_OPEN):
                self._visitors.forget(scope["path"].removeprefix(_OPEN))


def _line(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={"connection": "close"})


def _files(body: bytearray, boundary: bytes) -> list[UploadedFile]:
    """The files of a form, in order."""
    found = []
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'filename="([^"]*)"', head):
            found.append(UploadedFile(Path(name[1].decode(errors="replace")).name or "image", bytes(content)))
    return found
