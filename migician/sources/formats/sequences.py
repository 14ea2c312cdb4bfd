"""What the tracking datasets share: frames numbered by their names, one row of numbers a frame.

A row belongs to the frame of its number, never merely to the next file there: downloads have gaps,
and three released sequences of LaSOT have one frame more than rows (LaSOT_Evaluation_Toolkit, issue 6).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import read_bytes
from migician.sources.formats.reading import CLIPPED, CLIPPING, all_clipped, size_of, text_lines
from migician.sources.scenes import Frame, Tally

NumberedFrames = list[tuple[int, Path]]
"""The frames of a sequence with their numbers, in order."""

_LOOKED_AT = 8
"""Frames of a sequence whose size is looked at first: the first, the last, and between them evenly."""
_FRAME_NAME = re.compile(r"([0-9]{1,12})\.jpg")


def numbered_frames(folder: Path) -> NumberedFrames:
    """The `<number>.jpg` of a folder, ordered by number (10 after 9); none where there is no such folder.

    Raises `UserError` where it cannot be read.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error}") from None
    numbered = [(int(match[1]), match[0]) for match in map(_FRAME_NAME.fullmatch, names) if match]
    return [(number, folder / name) for number, name in sorted(numbered)]


def sequence_names(file: Path) -> list[str]:
    """The names in a list of sequences, one a line; raises `UserError` for what is not the name of one folder."""
    names = [line.strip() for line in text_lines(file)]
    for number, name in enumerate(names, start=1):
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise UserError(f"{file}: line {number} is not the name of a sequence: {name[:60]!r}")
    return names


def read_rows(file: Path, columns: str) -> NDArray[np.float64]:
    """The numbers (N, C) of a file of comma-separated lines; `columns` names them, such as "x,y,w,h".

    Raises `UserError` naming the file and the line that is not a number for each column, and if there is no line.
    """
    lines = text_lines(file)
    if not lines:
        raise UserError(f"{file}: is empty; it should hold {columns} in each line")
    commas = columns.count(",")
    if all(line.count(",") == commas for line in lines):
        with contextlib.suppress(ValueError):
            values = np.fromiter(map(float, ",".join(lines).split(",")), np.float64)
            return values.reshape(len(lines), commas + 1)
    number, line = next((number, line) for number, line in enumerate(lines, start=1) if not _is_row(line, commas))
    raise UserError(f"{file}: line {number} is not {columns}: {line[:60]!r}")


def _is_row(line: str, commas: int) -> bool:
    try:
        return len([float(value) for value in line.split(",")]) == commas + 1
    except ValueError:
        return False


def read_boxes(file: Path, frames: NumberedFrames) -> NDArray[np.float64]:
    """The boxes (N, 4), x y w h in pixels, that annotate `frames`, one a line; there may be fewer than frames.

    A file that ends within a line may lack digits of its last number, unless that has as many decimals as the
    numbers before it. With fewer rows than frames it was cut off: `UserError`. Otherwise its last box is NaN, which
    readers count and leave out.
    """
    rows = read_rows(file, "x,y,w,h")
    content = read_bytes(file)
    if not content.endswith(b"\n") and not _has_all_decimals(content.rpartition(b"\n")[2]):
        if len(rows) < len(frames):
            raise UserError(f"{file}: cut off in line {len(rows)}, for {len(frames)} frames; unpack it again")
        rows[-1] = np.nan
    return rows


def _has_all_decimals(line: bytes) -> bool:
    """Whether the numbers of a line all have the same count of decimals, one at least."""
    counts = {len(value.strip().partition(b".")[2]) for value in line.split(b",")}
    return len(counts) == 1 and 0 not in counts


def read_flags(file: Path, count: int) -> NDArray[np.int64]:
    """The `count` whole numbers of a file, one a line or all in one line with commas.

    Raises `UserError` naming the file and the place of what is no whole number, and if there are more or fewer.
    """
    lines = text_lines(file)
    values = ",".join(lines).split(",") if lines else []
    unit = "line" if len(values) == len(lines) else "value"
    if len(values) != count:
        raise UserError(f"{file}: {len(values)} {unit}s for {count} frames; unpack the sequence again")
    flags = np.zeros(count, np.int64)
    for position, value in enumerate(values):
        try:
            flags[position] = int(value)
        except (ValueError, OverflowError):
            raise UserError(f"{file}: {unit} {position + 1} is not a whole number: {value[:60]!r}") from None
    return flags


def annotated(
    frames: NumberedFrames, first: int, xywh: NDArray[np.float64], shown: NDArray[np.bool_], tally: Tally
) -> tuple[Frame, ...]:
    """The frames that have a row, with their boxes.

    `first` is the number of the frame that the first row of `xywh` (N, 4; pixels) annotates; `shown`
    (N,) is false where the object is known to be out of sight. Each box is divided by the size of its own frame
    (`frame_sizes`). Frames
    without a row and rows without a frame are counted and left out.
    """
    rows = np.array([number for number, _ in frames]) - first
    known = (rows >= 0) & (rows < len(xywh))
    images = [image for (_, image), has_row in zip(frames, known.tolist(), strict=True) if has_row]
    tally.add_marked("frame without an annotation", ~known)
    tally.add_marked("frame annotated but missing", ~np.isin(np.arange(len(xywh)), rows))
    rows = rows[known]
    sizes = frame_sizes(images)
    pixels = np.array(sizes, np.float64).reshape(-1, 2)
    boxes = clipped_rows(xywh[rows], shown[rows], pixels, tally)
    return tuple(map(Frame, images, boxes, (~shown[rows]).tolist(), sizes))


def frame_sizes(images: Sequence[Path]) -> list[Size]:
    """The size of each frame of a sequence, from the headers of a few, or of all where these differ.

    Some sequences of GOT-10k change their resolution half-way. To open each of TrackingNet's 14 million frames would
    take longer than to read their boxes, and what the few do not show is found later: each frame that a
    sample uses is compared with the size given here. A frame that cannot be read gets the size of the one before.
    Raises `UserError` where the first one cannot be read.
    """
    if not images:
        return []
    first, last = size_of(images[0]), len(images) - 1
    places = {round(at * last / (_LOOKED_AT - 1)) for at in range(1, _LOOKED_AT)}
    if {_size_or(first, images[place]) for place in places} == {first}:
        return [first] * len(images)
    sizes = [first]
    for image in images[1:]:
        sizes.append(_size_or(sizes[-1], image))
    return sizes


def _size_or(other: Size, image: Path) -> Size:
    with contextlib.suppress(UserError):
        return size_of(image)
    return other


def clipped_rows(
    xywh: NDArray[np.float64], shown: NDArray[np.bool_], sizes: Size | NDArray[np.float64], tally: Tally
) -> list[Box | None]:
    """`clipped` of every row of `xywh` (N, 4; pixels), None where `shown` (N,) is false.

    `sizes` is that of all images, or (N, 2). Counts what `clipped` counts, for the rows shown.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) / np.tile(sizes, 2)
    inside, verdicts = all_clipped(corners)
    for verdict, reason in enumerate(CLIPPING):
        if reason:
            tally.add_marked(reason, shown & (verdicts == verdict))
    kept = shown & (verdicts <= CLIPPED)
    boxes = map(Box, *inside[kept].T.tolist())
    return [next(boxes) if has_box else None for has_box in kept.tolist()]
