"""MOT17: crowds of pedestrians, `train/MOT17-<nn>-<detector>/` with img1/000001.jpg ..., gt/gt.txt and seqinfo.ini.

A row of gt.txt: `1,1,1363,569,103,241,1,1,0.86014`, that is frame, object, left, top, width, height, flag
(0: to be ignored), class, visibility 0..1. Frames, objects and pixels count from 1. A sequence
comes three times, for three detectors, with the same frames and gt.txt. Source: https://motchallenge.net
and, for the classes, JonathonLuiten/TrackEval.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box, Size, is_size
from migician.errors import UserError
from migician.sources.formats.reading import text_lines
from migician.sources.formats.sequences import NumberedFrames, clipped_rows, numbered_frames, read_rows
from migician.sources.scenes import Frame, Tally, Track

MIN_VISIBILITY = 0.25
"""Boxes enclose the whole body, also what is hidden: below a quarter, most of a box shows something else. Such a
pedestrian is still seen, so nothing is said of that frame; only at 0 is the pedestrian known to be hidden."""
FPS = 30.0
"""Frames in a second where seqinfo.ini does not say; it does in all released sequences (14, 25 or 30)."""

_DETECTORS = ("FRCNN", "DPM", "SDP")
_COLUMNS = "frame,id,left,top,width,height,flag,class,visibility"
_FRAME, _OBJECT, _FLAG, _CLASS, _VISIBILITY = 0, 1, 6, 7, 8
_WHOLE = [_FRAME, _OBJECT, _FLAG, _CLASS]
_PEDESTRIAN, _STATIC_PERSON = 1, 7


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Track]:
    """One track for every pedestrian of the split `train`, from the first to the last frame that shows them.

    Each sequence is read once, from its FRCNN folder, else DPM, else SDP. A frame's box is None
    where the object has no row, is less visible than `MIN_VISIBILITY` (at 0 it is hidden), or lies outside the image.
    Counted: static persons, other rows that are not to be considered, hidden and clipped boxes,
    sequences without frames. Raises `UserError` naming the file and the line of what cannot
    be read, for any other split (`test` has no gt.txt), and if no sequence has frames.
    """
    if split != "train":
        raise UserError(f"mot17: split {split!r} has no gt/gt.txt to take boxes from. Use 'train'")
    train = root / "train"
    sequences = _sequences(train)
    found = 0
    for name, folders in sequences.items():
        frames: NumberedFrames = []
        for folder in folders:
            frames = numbered_frames(folder / "img1")
            if frames:
                found += 1
                yield from _tracks(name, folder, frames, tally)
                break
        else:
            tally.add("sequence without unpacked frames")
    if not found:
        raise UserError(
            f"{train}: none of {len(sequences)} sequences has frames in MOT17-<nn>-FRCNN/img1/, nor in -DPM or -SDP; "
            f"unpack MOT17.zip in {root.parent}"
        )


def _sequences(folder: Path) -> dict[str, list[Path]]:
    """The names of the sequences, sorted, with the folders of their detectors in order of preference."""
    names = sorted({path.name.rpartition("-")[0] for path in folder.glob("MOT17-*-*")})
    return {name: [folder / f"{name}-{detector}" for detector in _DETECTORS] for name in names}


def _tracks(name: str, folder: Path, frames: NumberedFrames, tally: Tally) -> Iterator[Track]:
    size, fps = _info(folder / "seqinfo.ini")
    rows = _pedestrians(folder / "gt" / "gt.txt", tally)
    listed = np.isin(rows[:, _FRAME], [number for number, _ in frames])
    if not listed.all():
        tally.add("frame annotated but missing", len(np.unique(rows[~listed, _FRAME])))
    boxes = _boxes(rows[listed], size, tally)
    hidden = set(map(tuple, rows[rows[:, _VISIBILITY] == 0][:, [_FRAME, _OBJECT]].astype(int).tolist()))
    for number, seen in sorted(boxes.items()):
        first, last = min(seen), max(seen)
        shown = tuple(
            Frame(image, seen.get(frame), (frame, number) in hidden, size)
            for frame, image in frames
            if first <= frame <= last
        )
        yield Track(f"{name}-{number}", shown, "pedestrian", fps)


def _pedestrians(file: Path, tally: Tally) -> NDArray[np.float64]:
    """The rows (N, 9) that are to be considered; raises `UserError` where a frame has the same object twice."""
    rows = read_rows(file, _COLUMNS)
    whole = np.isfinite(rows[:, _WHOLE]) & (np.rint(rows[:, _WHOLE]) == rows[:, _WHOLE])
    wrong = np.flatnonzero(~whole.all(axis=1))
    if wrong.size:
        raise UserError(f"{file}: line {wrong[0] + 1} has a frame, id, flag or class that is no whole number")
    _, places = np.unique(rows[:, [_FRAME, _OBJECT]], axis=0, return_index=True)
    if len(places) < len(rows):
        line = int(np.setdiff1d(np.arange(len(rows)), places)[0])
        frame, number = rows[line, [_FRAME, _OBJECT]].astype(int)
        raise UserError(f"{file}: line {line + 1} gives object {number} a second box in frame {frame}")
    considered = (rows[:, _FLAG] == 1) & (rows[:, _CLASS] == _PEDESTRIAN)
    static = ~considered & (rows[:, _CLASS] == _STATIC_PERSON)
    for reason, which in (("static person", static), ("not a pedestrian to be considered", ~considered & ~static)):
        if which.any():
            tally.add(reason, int(which.sum()))
    pedestrians: NDArray[np.float64] = rows[considered]
    return pedestrians


def _boxes(rows: NDArray[np.float64], size: Size, tally: Tally) -> dict[int, dict[int, Box]]:
    """The boxes of every object that can be seen, by object and frame."""
    visible = rows[:, _VISIBILITY] >= MIN_VISIBILITY
    if not visible.all():
        tally.add("pedestrian mostly hidden", int((~visible).sum()))
    from_zero = rows[:, 2:6] - (1, 1, 0, 0)
    boxes: dict[int, dict[int, Box]] = {}
    numbers = rows[:, [_FRAME, _OBJECT]].astype(int).tolist()
    for (frame, number), box in zip(numbers, clipped_rows(from_zero, visible, size, tally), strict=True):
        if box:
            boxes.setdefault(number, {})[frame] = box
    return boxes


def _info(file: Path) -> tuple[Size, float]:
    """(width, height) that boxes of the sequence refer to, and frames in a second."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string("\n".join(text_lines(file)), source=file.name)
        width, height = (parser.getint("Sequence", key) for key in ("imWidth", "imHeight"))
        fps = parser.getfloat("Sequence", "frameRate", fallback=FPS)
    except (configparser.Error, ValueError) as error:
        said = str(error).replace("\n", " ")
        raise UserError(f"{file}: imWidth, imHeight and frameRate cannot be read: {said}") from None
    if not is_size((width, height)):
        raise UserError(f"{file}: has size {width} x {height}")
    if not 0 < fps < math.inf:
        raise UserError(f"{file}: has frameRate {fps:g}; it must be above 0")
    return (width, height), fps
