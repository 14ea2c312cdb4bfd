"""The synthesis's requests to a server; replies are kept on disk, each under the sha256 of its request.

So a run that was stopped pays for no reply twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

import msgspec
from PIL import Image

from migician.draw import encoded
from migician.errors import UserError, writing
from migician.files import decoded, is_file, read_bytes
from migician.models.engines.chat_completions import Completions, Refused
from migician.models.engines.sent_images import as_data_url


class ShownImage(msgspec.Struct, frozen=True):
    """An image of a request: a file, known by the sha256 of its bytes."""

    path: Path
    sha256: str


class ChatRequest(msgspec.Struct, frozen=True):
    """One question to a model: all that decides over its reply.

    `schema` names a JSON form the reply must have, as (name, JSON schema).
    """

    model: str
    system: str
    text: str
    image: ShownImage | None
    max_pixels: int
    """What the image is made smaller to; it is never made larger."""
    max_tokens: int
    temperature: float
    seed: int
    schema: tuple[str, dict[str, Any]] | None = None

    def canonical(self) -> dict[str, Any]:
        """The request as it is hashed and stored: images by their sha256, neither paths nor the server."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["image"] = self.image.sha256 if self.image else None
        return fields

    def key(self) -> str:
        """The sha256 of the canonical request, in hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(self.canonical(), order="sorted")).hexdigest()


class ChatReply(msgspec.Struct, frozen=True):
    """What a server answered."""

    text: str
    is_whole: bool
    """False where the model ran into its limit of tokens."""
    model: str = ""
    """The model as the server calls it."""
    refusal: str = ""
    """Why the server did not take the request, where it did not."""


class _Entry(msgspec.Struct, frozen=True):
    request: dict[str, Any]
    reply: ChatReply


class ReplyCache:
    """Replies by request, one small JSON file each: `<folder>/ab/abcd....json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> ChatReply | None:
        """The stored reply; None where there is none, or where its file is damaged (it is asked for again)."""
        file = self._file(key)
        kept = decoded(read_bytes(file), _Entry) if is_file(file) else None
        return kept.reply if kept else None

    def put(self, key: str, request: ChatRequest, reply: ChatReply) -> None:
        """Store a reply with its request; the file appears whole or not at all."""
        with writing(self._file(key)) as stream:
            stream.write(msgspec.json.encode(_Entry(request.canonical(), reply)))

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"


class ChatClient:
    """Asks a server each request once, ever; an async context manager. `options` are those of `Completions`."""

    def __init__(self, url: str, cache: ReplyCache, **options: Any) -> None:
        self._server = Completions(url, **options)
        self._cache = cache
        self._answered: set[str] = set()
        """The models that have answered: what such a model refuses is a fault of the request, not of the settings."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__()

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The reply to `request`, from the cache where it was asked before; equal requests are sent once.

        Raises `Refused` where the server does not take it, which is kept like a reply, so that a
        resumed run comes to the same result; and `RunStopped` as `Completions.complete` does.
        """
        key = request.key()
        async with self._locks[key]:
            known = await asyncio.to_thread(self._cache.get, key)
            if known is None:
                known = await self._fresh(key, request)
                await asyncio.to_thread(self._cache.put, key, request, known)
        self._answered.add(request.model)
        if known.refusal:
            raise Refused(known.refusal)
        return known

    async def _fresh(self, key: str, request: ChatRequest) -> ChatReply:
        try:
            completion = await self._server.complete(key, request.model, lambda: _body(request))
        except Refused as refusal:
            if not refusal.by_server:
                raise
            if request.model not in self._answered:
                why = f"model {request.model!r} does not take the first request: {refusal}"
                self._server.give_up(why)
                raise UserError(why) from None
            return ChatReply("", False, refusal=str(refusal))
        return ChatReply(completion.text or "", completion.is_whole, completion.model)


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


def _body(request: ChatRequest) -> dict[str, Any]:
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
