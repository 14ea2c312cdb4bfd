"""What every reader needs: which files are there, how large an image is, a box cut to its image."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.scenes import Tally


class Listing:
    """Which files exist, from one look at each folder: network disks answer a million single questions slowly."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def holds(self, file: Path) -> bool:
        """Whether `file` exists."""
        folder = file.parent
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(entry.name for entry in folder.iterdir())
            except OSError:
                self._names[folder] = frozenset()
        return file.name in self._names[folder]

    def first(self, candidates: list[Path]) -> Path | None:
        """The first of `candidates` that exists."""
        return next((file for file in candidates if self.holds(file)), None)


def size_of(image: Path) -> Size:
    """(width, height) in pixels, from the file's header alone; raises `UserError` where it is no image."""
    try:
        with Image.open(image) as opened:
            width, height = opened.size
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{image}: cannot be read as an image: {error}") from None
    return width, height


def text_lines(file: Path) -> list[str]:
    """The lines of a text file, without the empty ones at its end; raises `UserError` where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").rstrip().splitlines()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None


def clipped(box: Box, tally: Tally) -> Box | None:
    """`box` within its image, None (counted) where no area is left; clipping is counted too.

    Overhangs of less than half a thousandth of the image are rounding, and are not counted.
    """
    if not all(math.isfinite(value) for value in box.as_tuple()):
        tally.add("box that is not a number")
        return None
    inside = box.clipped()
    if not (box.is_ordered and inside.is_proper):
        tally.add("box without area in the image")
        return None
    if max(abs(a - b) for a, b in zip(box.as_tuple(), inside.as_tuple(), strict=True)) > 0.0005:
        tally.add("box clipped to the image")
    return inside
