"""What all writers of the miniature world share: their streams, and how pictures, lines and JSON are saved.

Folders are made where they are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from PIL import Image

from migician.draw import encoded
from migician.miniature.drawing import PixelBox
from migician.sampling import stream

_Written = TypeVar("_Written")
TRAIN, TEST = "train", "held-out"
"""First word of every stream's key, so that no training picture is drawn from a stream of the held-out set."""


def each(source: str, count: int, seed: int, write: Callable[[np.random.Generator, int], _Written]) -> list[_Written]:
    """What `write` gives for the stream and the number of each training item of a source, 1..count, in order.

    While one waits for the disk, another draws.
    """
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda number: write(stream(seed, TRAIN, source, number), number), range(1, count + 1)))


def save(image: Image.Image, file: Path) -> None:
    """Save a PNG fast rather than small, a JPEG with next to no loss: a pixel of a tiny picture weighs much."""
    is_png = file.suffix == ".png"
    content = encoded(image, "PNG", compress_level=1) if is_png else encoded(image, "JPEG", quality=95, subsampling=0)
    _write(file, content)


def xywh(box: PixelBox) -> list[int]:
    """A box as left, top, width, height in pixels."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def write_lines(file: Path, lines: Sequence[str], end: str = "\n") -> None:
    """Write lines of text, each with `end` behind it."""
    _write(file, "".join(f"{line}{end}" for line in lines).encode())


def write_json(file: Path, content: Any) -> None:
    """Write `content` as one JSON value."""
    _write(file, msgspec.json.encode(content))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
