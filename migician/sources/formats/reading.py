"""What every reader needs: which files are there, what is in them, how large an image is, a box cut to its image."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import read_text
from migician.sources.scenes import Tally

_HEAD = 1024
"""Bytes of a file in which the frame header of most JPEGs lies; cameras put a picture in small before it."""
_SEGMENT = struct.Struct(">HH")
_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
"""The kinds of segments that hold a size; the others are tables of codes, and one that is reserved."""
_BEFORE_FRAME = frozenset({0xFFC4, 0xFFCC, 0xFFDB, 0xFFDD, 0xFFFE, *range(0xFFE0, 0xFFF0)})
"""Tables, the interval of restarts, comments, and what applications add."""
UNREADABLE = "image that cannot be read"
OTHER_SIZE = "image of another size than its annotation says"
ROUNDING = 0.0005
"""Of an image's side: an overhang of up to this much is rounding, and is not counted."""


class Listing:
    """Which files exist, from one look at each folder: network disks answer a million single questions slowly."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def holds(self, file: Path | str) -> bool:
        """Whether `file` exists."""
        folder, _, name = str(file).rpartition(os.sep)
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(entry.name for entry in Path(folder or os.curdir).iterdir())
            except OSError:
                self._names[folder] = frozenset()
        return name in self._names[folder]

    def first(self, candidates: Iterable[Path | str]) -> Path | None:
        """The first of `candidates` that exists."""
        return next((Path(file) for file in candidates if self.holds(file)), None)


def size_of(image: Path | str) -> Size:
    """(width, height) in pixels as stored, from the file's header alone; raises `UserError` where it is no image."""
    try:
        return _jpeg_size(image) or _any_size(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{image}: cannot be read as an image: {error}") from None


def _any_size(image: Path | str) -> Size:
    with Image.open(image) as opened:
        width, height = opened.size
    return width, height


def _jpeg_size(image: Path | str) -> Size | None:
    """The size that the beginning of a JPEG file states, None for all else: 25 times as fast as opening it.

    A JPEG is 0xFFD8 and then segments, each of a kind and a length (two bytes each; the length counts its own). In a
    frame header follow the precision (one byte), height and width (two bytes each). Source: ITU-T T.81, annex B.
    """
    file = os.open(image, os.O_RDONLY)
    try:
        head = os.read(file, _HEAD)
    finally:
        os.close(file)
    at = 2 if head.startswith(b"\xff\xd8") else len(head)
    while at + 9 <= len(head):
        kind, length = _SEGMENT.unpack_from(head, at)
        if kind in _FRAMES:
            height, width = _SEGMENT.unpack_from(head, at + 5)
            return (width, height) if width and height else None
        if kind not in _BEFORE_FRAME or length < 2:
            break
        at += 2 + length
    return None


def text_lines(file: Path) -> list[str]:
    """The lines of a text file, without the empty ones at its end; raises `UserError` where it cannot be read."""
    return read_text(file).rstrip().splitlines()


CLIPPING = ("", "box clipped to the image", "box without area in the image", "box that is not a number")
"""What clipping finds, as it is counted: nothing, a clipped box, and from the third on why a box is unusable."""
CLIPPED = 1
"""Position in `CLIPPING` of the last kind that can be used."""


def clipped(box: Box, tally: Tally) -> Box | None:
    """`box` within its image, None (counted) where no area is left; clipping beyond `ROUNDING` is counted too."""
    if not all(math.isfinite(value) for value in box.as_tuple()):
        tally.add(CLIPPING[3])
        return None
    inside = box.clipped()
    if not (box.is_ordered and inside.is_proper):
        tally.add(CLIPPING[2])
        return None
    if max(abs(a - b) for a, b in zip(box.as_tuple(), inside.as_tuple(), strict=True)) > ROUNDING:
        tally.add(CLIPPING[CLIPPED])
    return inside


def all_clipped(boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`clipped` for many boxes (N, 4): within their images (N, 4), and positions in `CLIPPING` (N,)."""
    with np.errstate(invalid="ignore"):
        inside = boxes.clip(0.0, 1.0)
        moved = np.abs(boxes - inside).max(axis=1, initial=0.0) > ROUNDING
        ordered = (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)
        has_area = ordered & (inside[:, :2] < inside[:, 2:]).all(axis=1)
    finite = np.isfinite(boxes).all(axis=1)
    return inside, np.select([~finite, ~has_area, moved], [3, 2, CLIPPED], 0)
