"""The synthesis's requests to a server, with a memory on disk."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any, Self

from PIL import Image

from migician.build.synthesis.cache import Cache, Reply, Request
from migician.draw import encoded
from migician.errors import UserError
from migician.models.engines.chat_completions import Completions, Refused
from migician.models.engines.sent_images import as_data_url


class ChatClient:
    """Asks a server each request once, ever; an async context manager. `options` are those of `Completions`."""

    def __init__(self, url: str, cache: Cache, **options: Any) -> None:
        self._server = Completions(url, **options)
        self._cache = cache
        self._heard: set[str] = set()
        """The models that have answered: what such a one refuses is a fault of the request, not of the settings."""
        self._running: dict[str, asyncio.Task[Reply]] = {}

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._server.__aexit__()

    async def ask(self, request: Request) -> Reply:
        """The reply to `request`, from the cache where it was asked before; equal requests are sent once.

        Raises `Refused` where the server does not take it, which is kept like a reply, so that a
        run that goes on comes to the same result; and `RunStopped` as `Completions.complete` does.
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
            known = await self._fresh(key, request)
            await asyncio.to_thread(self._cache.put, key, request, known)
        self._heard.add(request.model)
        if known.refusal:
            raise Refused(known.refusal)
        return known

    async def _fresh(self, key: str, request: Request) -> Reply:
        try:
            told = await self._server.complete(key, request.model, lambda: _body(request))
        except Refused as refusal:
            if not refusal.by_server:
                raise
            if request.model not in self._heard:
                why = f"model {request.model!r} does not take the first request: {refusal}"
                self._server.give_up(why)
                raise UserError(why) from None
            return Reply("", False, refusal=str(refusal))
        return Reply(told.text or "", told.is_whole, told.model)


def data_url(image: Path, max_pixels: int) -> str:
    """The image as a JPEG `data:` URL, made smaller to `max_pixels`, pixels in the file's own orientation.

    Boxes are annotated in the file's own pixels, so an EXIF tag is neither applied nor sent.
    Raises `Refused` where the file cannot be read.
    """
    try:
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(f"{image.name}: cannot be read: {error}", by_server=False) from None
    scale = math.sqrt(max_pixels / (picture.width * picture.height))
    if scale < 1:
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return as_data_url("jpeg", encoded(picture, "JPEG", quality=90))


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
