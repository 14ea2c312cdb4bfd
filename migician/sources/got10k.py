"""GOT-10k: `<split>/list.txt` and one folder a sequence, 10 frames a second.

A sequence holds 00000001.jpg ..., groundtruth.txt (one `x,y,w,h` in pixels a frame, such as
`347.0000,443.0000,429.0000,272.0000`), absence.label (0 or 1 a frame), cover.label (0..8, how much
is visible) and meta_info.ini (`object_class: ctenophore`). Source: http://got-10k.aitestunion.com.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from migician.errors import UserError
from migician.files import is_file, is_folder
from migician.sources.formats.reading import text_lines
from migician.sources.formats.sequences import annotated, numbered_frames, read_boxes, read_flags, sequence_names
from migician.sources.scenes import Tally, Track

FPS = 10.0
"""Frames in a second where meta_info.ini does not say; as released it says `anno_fps: 10Hz`."""

_HERTZ = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,4})?)\s?Hz")


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Track]:
    """The sequences of a split (`train` or `val`) in the order of list.txt.

    A frame without a box is hidden where the object is absent or wholly covered, and unknown where its box has no
    area in the image. Sequences whose folder is missing (the archives come in parts) are counted.
    Raises `UserError` naming the file and the line of what cannot be read, if labels and
    frames differ in number, for `test` (it has boxes of first frames only), and if no sequence is there.
    """
    if split == "test":
        raise UserError("got10k: split 'test' has no boxes after the first frame. Use 'train' or 'val'")
    folder = root / split
    names = sequence_names(folder / "list.txt")
    present = [name for name in names if is_folder(folder / name)]
    if len(present) < len(names):
        tally.add("sequence in list.txt without a folder", len(names) - len(present))
    if not present:
        raise UserError(f"{folder}: none of the {len(names)} sequences of list.txt are there")
    for name in present:
        yield _track(folder / name, tally)


def _track(folder: Path, tally: Tally) -> Track:
    frames = numbered_frames(folder)
    if not frames:
        raise UserError(f"{folder}: holds no .jpg frames")
    count = len(frames)
    file = folder / "groundtruth.txt"
    xywh = read_boxes(file, frames)
    if len(xywh) != count:
        raise UserError(f"{file}: {len(xywh)} lines for {count} frames; unpack the sequence again")
    present = read_flags(folder / "absence.label", count) == 0
    uncovered = read_flags(folder / "cover.label", count) > 0
    tracked = annotated(frames, 1, xywh, present & uncovered, tally)
    label, fps = _meta(folder / "meta_info.ini")
    return Track(folder.name, tracked, label, fps)


def _meta(file: Path) -> tuple[str, float]:
    """The object's name, empty where the sequence has no meta_info.ini or does not say, and frames in a second."""
    if not is_file(file):
        return "", FPS
    fields = dict(line.split(":", 1) for line in text_lines(file) if ":" in line)  # links hold colons too
    hertz = _HERTZ.fullmatch(fields.get("anno_fps", "").strip())
    return fields.get("object_class", "").strip(), (hertz and float(hertz[1])) or FPS
