"""LaSOT: one folder a sequence, `<class>/<class>-<n>/img/00000001.jpg ...`, with boxes in either of two forms.

As released, the folder holds groundtruth.txt (one `x,y,w,h` in whole pixels a frame, such as
`367,101,41,16`), full_occlusion.txt and out_of_view.txt (one line each, a 0 or 1 a frame with commas
between). The authors' evaluation toolkit has `annos/<class>-<n>.txt` with the boxes and
`annos/absent/<class>-<n>.txt`, one 0 or 1 a line. Splits are training_set.txt and testing_set.txt, one
name a line. Source: http://vision.cs.stonybrook.edu/~lasot and HengLan/LaSOT_Evaluation_Toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from migician.errors import UserError, unknown
from migician.files import is_file, is_folder
from migician.sources.formats.sequences import (
    NumberedFrames,
    annotated,
    numbered_frames,
    read_boxes,
    read_flags,
    sequence_names,
)
from migician.sources.scenes import Tally, Track

FPS = 30.0
"""Frames in a second, by the authors: 2,512 frames a sequence are 83 seconds (arXiv 1809.07845, table 1)."""

_LISTS = {"train": "training_set.txt", "test": "testing_set.txt"}


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Track]:
    """The sequences of a split (`train` or `test`) in the order of its list, each with its class as label.

    Without training_set.txt all folders are read but those that testing_set.txt names, sorted. A frame without a box
    is hidden where a flag says that the object is absent (most absent frames keep an old box), and unknown where the
    box has no area in the image. Counted: sequences without frames, rows and frames that lack each other. Raises
    `UserError` naming the file and the place of what cannot be read, where the flags of a sequence are missing or
    differ in number from its boxes, and if no sequence has frames.
    """
    if split not in _LISTS:
        raise UserError(f"lasot: {unknown('split', split, _LISTS)}")
    names = _names(root, split, tally)
    found = 0
    for name in names:
        label = name.rpartition("-")[0]
        folder = root / label / name
        frames = numbered_frames(folder / "img")
        if frames:
            found += 1
            yield _track(root, folder, frames, label, tally)
        else:
            tally.add("sequence without unpacked frames")
    if not found:
        raise UserError(
            f"{root}: none of {len(names)} sequences of split {split!r} has frames in <class>/<class>-<n>/img/; unpack "
            "the archives of the classes here"
        )


def _names(root: Path, split: str, tally: Tally) -> list[str]:
    """The names of a split, all of them of the form `<class>-<n>`."""
    file = root / _LISTS[split]
    if split == "train" and not is_file(file):
        return _unlisted(root, tally)
    names = sequence_names(file)
    for number, name in enumerate(names, start=1):
        if not name.rpartition("-")[0]:
            raise UserError(f"{file}: line {number} is not <class>-<n>: {name[:60]!r}")
    return names


def _unlisted(root: Path, tally: Tally) -> list[str]:
    """The names of all folders `<class>/<class>-<n>`, sorted, without those known to be of the test split."""
    testing = root / _LISTS["test"]
    held_out = set(sequence_names(testing)) if is_file(testing) else set()
    folders = (path for path in root.glob("*/*-*") if is_folder(path))
    found = {path.name for path in folders if path.name.rpartition("-")[0] == path.parent.name}
    names = sorted(found - held_out)
    if names and not held_out:
        tally.add("sequence that may be of the test split, as no list says", len(names))
    return names


def _track(root: Path, folder: Path, frames: NumberedFrames, label: str, tally: Tally) -> Track:
    released = folder / "groundtruth.txt"
    toolkit = root / "annos" / f"{folder.name}.txt"
    xywh = read_boxes(toolkit if is_file(toolkit) and not is_file(released) else released, frames)
    absent = _absent(root, folder, len(xywh))
    return Track(folder.name, annotated(frames, 1, xywh, ~absent, tally), label, FPS)


def _absent(root: Path, folder: Path, count: int) -> NDArray[np.bool_]:
    """In which of `count` frames the object is wholly hidden or has left the image, (count,)."""
    released = [folder / "full_occlusion.txt", folder / "out_of_view.txt"]
    toolkit = root / "annos" / "absent" / f"{folder.name}.txt"
    missing = [file for file in released if not is_file(file)]
    if missing and not is_file(toolkit):
        raise UserError(
            f"{missing[0]}: no such file, nor is {toolkit}: they say which frames lack the object. "
            "Unpack the sequence again"
        )
    absent = np.zeros(count, np.bool_)
    for file in [toolkit] if missing else released:
        absent |= read_flags(file, count) != 0
    return absent
