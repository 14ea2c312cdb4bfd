"""Checks of uploads: the header of each file is checked before any pixel is decoded."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from migician.draw import encoded
from migician.errors import UserError
from migician.models.pictures import load_picture

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded; Pillow's other readers are less tested with hostile files, and some start programs."""
_SHOWN_PX = 640


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """How much visitors may upload and keep."""

    images: int = 24
    """In one conversation."""
    file_bytes: int = 20_000_000
    body_bytes: int = 100_000_000
    """Of all files in one request."""
    pixels: int = 40_000_000
    """As declared in the header."""
    side_px: int = 2048
    """Larger images are kept at this size: models see fewer pixels anyway."""
    letters: int = 8_000
    """Characters in one question."""
    talk_letters: int = 100_000
    """Characters in all questions and replies of a conversation."""
    json_bytes: int = 1_000_000
    """Of a request that uploads no file."""
    talk_bytes: int = 500_000_000
    """Of one conversation: its image files and the pictures shown."""
    kept_bytes: int = 1_000_000_000
    """Of all conversations together."""
    sent_bytes: int = 200_000_000
    """Of all uploads in progress or waiting for their page, from all visitors."""
    waiting_s: float = 120
    """How long an upload waits for its page."""
    unused_s: float = 3600
    """How long an idle conversation is kept."""


LIMITS = ChatLimits()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file as it was uploaded."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatImage:
    """A checked image, kept as file bytes: decoded it would take ten times the memory."""

    name: str
    content: bytes = field(repr=False)
    """The file as uploaded, or a PNG at `ChatLimits.side_px` if the image is larger."""
    shown: bytes = field(repr=False)
    """A JPEG of at most 640 pixels per side."""

    def decoded(self) -> Image.Image:
        """The image, upright and in RGB, with the same pixels each time."""
        with _opened(self.content) as opened:
            return load_picture(opened, self.name)


def check_address(path: str | Path) -> None:
    """Raise `UserError` if `path` is an address."""
    if re.match("[a-z]+:/|data:", str(path), re.IGNORECASE):
        raise UserError(f"{str(path)[:80]!r}: is an address, which is not fetched; download it and send the file")


def take(source: str | Path | UploadedFile, limits: ChatLimits = LIMITS) -> ChatImage:
    """The image in a file of this machine, or in an uploaded one.

    Raises `UserError` for an address, a missing file, a file too large in bytes or in declared pixels, and anything
    that is not an image of `FORMATS`.
    """
    if not isinstance(source, UploadedFile):
        source = _read(source, limits)
    name = source.name[:80]
    _check_size(name, len(source.content), limits)
    try:
        with _opened(source.content) as opened:
            if opened.width * opened.height > limits.pixels:
                raise _too_many_pixels(name, limits)
            is_small = max(opened.size) <= limits.side_px
            image = load_picture(opened, name, limits.side_px)
    except Image.DecompressionBombError:
        raise _too_many_pixels(name, limits) from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image; send one of {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return ChatImage(name, source.content, thumbnail(image)) if is_small else kept(image, name)


def kept(image: Image.Image, name: str) -> ChatImage:
    """An image of these pixels, to be kept."""
    content = encoded(image, "PNG", compress_level=1)  # a quarter of the time of the best level, and a tenth larger
    return ChatImage(name, content, thumbnail(image))


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG of it, at most 640 pixels per side."""
    shown = image.copy()
    shown.thumbnail((_SHOWN_PX, _SHOWN_PX))
    return encoded(shown, "JPEG", quality=90)


def _read(path: str | Path, limits: ChatLimits) -> UploadedFile:
    check_address(path)
    file, name = Path(path), Path(path).name[:80]
    try:
        if not file.is_file():
            raise UserError(f"{name}: {'not a file' if file.exists() else 'no such file; choose it again'}")
        _check_size(name, file.stat().st_size, limits)
        return UploadedFile(name, file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _opened(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `ChatLimits.pixels` is stricter
        return Image.open(io.BytesIO(content), formats=FORMATS)


def _check_size(name: str, size: int, limits: ChatLimits) -> None:
    if size > limits.file_bytes:
        raise UserError(f"{name}: {size / 1e6:.0f} MB; at most {limits.file_bytes / 1e6:.0f} MB per file")


def _too_many_pixels(name: str, limits: ChatLimits) -> UserError:
    return UserError(f"{name}: more than {limits.pixels // 1_000_000} million pixels; make it smaller first")
