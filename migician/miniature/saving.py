"""What all writers of the miniature world share: their streams, and how pictures, lines and JSON are saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from PIL import Image

from migician.draw import encoded
from migician.miniature.drawing import Drawn

_Written = TypeVar("_Written")
TRAIN, TEST = "train", "held-out"
"""First word of every stream's key, so that no training picture is drawn from a stream of the held-out set."""


def each(count: int, write: Callable[[int], _Written]) -> list[_Written]:
    """What `write` gives for 1..count, in order; while one waits for the disk, another draws."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(write, range(1, count + 1)))


def save_jpeg(image: Image.Image, file: Path) -> None:
    """Save with next to no loss: a pixel of a tiny picture weighs much."""
    file.write_bytes(encoded(image, "JPEG", quality=95, subsampling=0))


def save_png(image: Image.Image, file: Path) -> None:
    """Save fast rather than small."""
    file.write_bytes(encoded(image, "PNG", compress_level=1))


def xywh(drawn: Drawn) -> list[int]:
    """The box of an object as left, top, width, height in pixels."""
    x1, y1, x2, y2 = drawn.box
    return [x1, y1, x2 - x1, y2 - y1]


def write_lines(file: Path, lines: Sequence[str], end: str = "\n") -> None:
    """Write lines of text, each with `end` behind it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{line}{end}" for line in lines).encode())


def write_json(file: Path, content: Any) -> None:
    """Write `content` as one JSON value."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(content))
