r"""TrackingNet: TRAIN_0 ... TRAIN_11, each with anno/<video>.txt and frames/<video>/0.jpg, 1.jpg, ...

Line i of an annotation is the box of frame i as `x,y,w,h` in pixels, such as ` 1.00,102.00,245.00,174.00\r\n`,
at times with a space before it. A person drew one box a second, trackers the rest, so boxes can
stray and leave the image. No flag says where an object is hidden. Classes are known from
pytracking's trackingnet_classmap.txt alone (`Nf1aqv5Fg5o_0\tairplane`). Source: https://tracking-net.org.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from migician.errors import UserError
from migician.files import is_file
from migician.sources.formats.reading import text_lines
from migician.sources.formats.sequences import annotated, numbered_frames, read_boxes
from migician.sources.scenes import Tally, Track

FPS = 30.0
"""Frames in a second: a person drew one box a second (arXiv 1803.10794, section 3), and the sequences have multiples
of 30 frames (the examples in the authors' TrackingNet-devkit do)."""


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Track]:
    """The sequences of all parts `TRAIN_<k>` that are there, by part and name.

    A frame's box is None where it has no area in the image. The label is empty unless
    `trackingnet_classmap.txt` lies in `root` and has the sequence. Counted: sequences whose frames are not
    unpacked or that have fewer rows than frames, rows without a frame. Raises `UserError` naming the file and the
    line of what cannot be read, for any split but `train` (TEST has boxes of first frames only), and if no
    sequence has frames.
    """
    if split != "train":
        raise UserError(
            f"trackingnet: split {split!r} has no boxes to follow; TEST has those of first frames only. Use 'train'"
        )
    labels = _labels(root / "trackingnet_classmap.txt")
    known = found = 0
    for part in _parts(root):
        for file in sorted((part / "anno").glob("[!.]*.txt")):
            known += 1
            frames = numbered_frames(part / "frames" / file.stem)
            if not frames:
                tally.add("sequence without unpacked frames")
                continue
            found += 1
            xywh = read_boxes(file, frames)
            if frames[-1][0] >= len(xywh):
                # As released there is a row for every frame. Nothing says which row is missing, and all after it
                # would go with the wrong frame.
                tally.add("sequence with fewer rows than frames")
                continue
            shown = np.ones(len(xywh), np.bool_)
            yield Track(file.stem, annotated(frames, 0, xywh, shown, tally), labels.get(file.stem, ""), FPS)
    if not found:
        raise UserError(
            f"{root}: none of {known} sequences in TRAIN_<k>/anno/ has frames; unpack each TRAIN_<k>/zips/<video>.zip "
            "into TRAIN_<k>/frames/<video>/"
        )


def _parts(root: Path) -> list[Path]:
    numbered = [(path.name.removeprefix("TRAIN_"), path) for path in root.glob("TRAIN_*")]
    return [path for _, path in sorted((int(number), path) for number, path in numbered if number.isdecimal())]


def _labels(file: Path) -> dict[str, str]:
    """The class of each sequence that `file` names; none where there is no such file."""
    if not is_file(file):
        return {}
    labels = {}
    for number, line in enumerate(text_lines(file), start=1):
        name, tab, label = line.partition("\t")
        if not tab:
            raise UserError(f"{file}: line {number} is not a sequence and its class with a tab between: {line[:60]!r}")
        labels[name.strip()] = label.strip()
    return labels
