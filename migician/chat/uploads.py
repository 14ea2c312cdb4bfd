"""What may come in from outside: files checked by their header before a pixel of them is decoded."""

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
"""What is decoded; Pillow's other readers have seen fewer hostile files, and some start programs."""
_SHOWN_PX = 640


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """How much visitors may bring."""

    images: int = 24
    """In one conversation."""
    file_bytes: int = 20_000_000
    body_bytes: int = 100_000_000
    """Of all files sent at once."""
    pixels: int = 40_000_000
    """As the header declares them."""
    side_px: int = 2048
    """What is larger is kept at this size: models see fewer pixels still."""
    letters: int = 8_000
    """In one question."""
    talk_letters: int = 100_000
    """In all questions and replies of a conversation."""
    json_bytes: int = 1_000_000
    """Of anything sent that is not a file."""
    talk_bytes: int = 500_000_000
    """Of one conversation: its images as files, and what is shown of them."""
    kept_bytes: int = 1_000_000_000
    """Of all conversations together."""
    sent_bytes: int = 200_000_000
    """Of all that is being sent, or waits for the page that sent it, from all visitors together."""
    waiting_s: float = 120
    """How long it waits."""
    unused_s: float = 3600
    """How long a conversation is kept in which nothing is done."""


LIMITS = ChatLimits()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file as it was sent."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatImage:
    """An image that was found sound, in the bytes of a file: decoded it would take ten times the memory."""

    name: str
    content: bytes = field(repr=False)
    """The file as it came, or, of a larger image, a PNG at `ChatLimits.side_px`."""
    shown: bytes = field(repr=False)
    """A JPEG at most 640 pixels large."""

    def decoded(self) -> Image.Image:
        """Upright and in RGB, the same pixels each time."""
        with _opened(self.content) as opened:
            return load_picture(opened, self.name)


def check_count(there: int, more: int, limits: ChatLimits = LIMITS) -> None:
    """Raise `UserError` where `more` images would be too many beside those `there`."""
    if there + more > limits.images:
        raise UserError(
            f"{more} images beside {there}: at most {limits.images} in a conversation; "
            "send fewer, or begin a new conversation"
        )


def check_address(path: str | Path) -> None:
    """Raise `UserError` for what is an address and no path."""
    if re.match("[a-z]+:/|data:", str(path), re.IGNORECASE):
        raise UserError(f"{str(path)[:80]!r}: is an address, and none is fetched; download it and send the file")


def take(source: str | Path | UploadedFile, limits: ChatLimits = LIMITS) -> ChatImage:
    """The picture in a file of this machine, or in one that was sent.

    Raises `UserError` in one line for an address, what is no file, a file too large in bytes or
    in declared pixels, and what is no image of `FORMATS`.
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
    """A picture of these pixels."""
    content = encoded(image, "PNG", compress_level=1)  # a fourth of the time of the best, and a tenth larger
    return ChatImage(name, content, thumbnail(image))


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG of it, at most 640 pixels large."""
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
        raise UserError(f"{name}: {size / 1e6:.0f} MB; at most {limits.file_bytes / 1e6:.0f} MB a file")


def _too_many_pixels(name: str, limits: ChatLimits) -> UserError:
    return UserError(f"{name}: more than {limits.pixels // 1_000_000} million pixels; make it smaller first")
