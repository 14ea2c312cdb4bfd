"""What may come in from outside: files checked by their header before a pixel of them is decoded."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from migician.errors import UserError
from migician.models.pictures import load_picture

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded; Pillow's other readers have seen fewer hostile files, and some start programs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one visitor may bring."""

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
    json_bytes: int = 1_000_000
    """Of anything sent that is not a file."""


LIMITS = Limits()


def check_count(there: int, more: int, limits: Limits = LIMITS) -> None:
    """Raise `UserError` where `more` images would be too many beside those `there`."""
    if there + more > limits.images:
        raise UserError(
            f"{more} images beside {there}: at most {limits.images} in a conversation; "
            "send fewer, or begin a new conversation"
        )


def check_place(path: str | Path, folder: Path | None = None) -> None:
    """Raise `UserError` for an address, and for a path that does not lead below `folder` where that is given."""
    if re.match("[a-z]+:/|data:", str(path), re.IGNORECASE):
        raise UserError(f"{str(path)[:80]!r}: is an address, and none is fetched; download it and send the file")
    if folder is not None and not Path(path).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{Path(path).name[:80]!r}: was not uploaded here; choose the file again")


def take(path: str | Path, folder: Path | None = None, limits: Limits = LIMITS) -> Image.Image:
    """The picture in a file, at most `side_px` large; it lies below `folder` where that is given.

    Raises `UserError` in one line for an address, a path elsewhere, a file too large in bytes or
    in declared pixels, and what is no image of `FORMATS`.
    """
    check_place(path, folder)
    name = Path(path).name[:80]
    try:
        size = Path(path).stat().st_size
        if size > limits.file_bytes:
            raise UserError(f"{name}: {size / 1e6:.0f} MB; at most {limits.file_bytes / 1e6:.0f} MB a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > limits.pixels:
                    raise _too_many_pixels(name, limits)
                return load_picture(opened, name, limits.side_px)
    except Image.DecompressionBombError:
        raise _too_many_pixels(name, limits) from None
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; choose it again") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image; send one of {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _too_many_pixels(name: str, limits: Limits) -> UserError:
    return UserError(f"{name}: more than {limits.pixels // 1_000_000} million pixels; make it smaller first")
