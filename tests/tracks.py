"""For the tests of tracking readers: files made here, and annotations read in the plainest way to check against."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from migician.boxes import Box
from migician.sources.scenes import Frame, Track

HALF_A_PERMILLE = 0.0005


def place_frames(folder: Path, names: list[str], size: tuple[int, int] = (100, 50)) -> None:
    """One plain picture under many names."""
    folder.mkdir(parents=True, exist_ok=True)
    first, *rest = names
    Image.new("RGB", size, (90, 90, 90)).save(folder / first)
    for name in rest:
        os.link(folder / first, folder / name)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def rows_of(file: Path) -> list[list[float]]:
    """The numbers of an annotation file, read the plainest way."""
    return [[float(value) for value in line.split(",")] for line in file.read_text().split("\n") if line.strip()]


def expected(xywh: list[float], size: tuple[int, int]) -> Box | None:
    """The box of a row, cut to its image; None where nothing is left."""
    x, y, w, h = xywh
    corners = []
    for value, extent in ((x, size[0]), (y, size[1]), (x + w, size[0]), (y + h, size[1])):
        corners.append(0.0 if value < 0 else 1.0 if value > extent else value / extent)
    return Box(*corners) if w > 0 and h > 0 and corners[0] < corners[2] and corners[1] < corners[3] else None


def agrees(frame: Frame, box: Box | None) -> bool:
    if frame.box is None or box is None:
        return frame.box is box
    pairs = zip(frame.box.as_tuple(), box.as_tuple(), strict=True)
    return frame.box.is_proper and all(abs(a - b) < HALF_A_PERMILLE for a, b in pairs)


def boxes(track: Track) -> list[Box | None]:
    return [frame.box for frame in track.frames]
