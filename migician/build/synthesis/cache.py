"""Replies on disk, each under the sha256 of its request, so that a stopped run starts again for free."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import writing
from migician.files import decoded, is_file, read_bytes


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
