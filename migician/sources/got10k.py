"""GOT-10k: `<split>/list.txt` and one folder a sequence, 10 frames a second.

A sequence holds 00000001.jpg ..., groundtruth.txt (one `x,y,w,h` in pixels a frame, such as
`347.0000,443.0000,429.0000,272.0000`), absence.label (0 or 1 a frame), cover.label (0..8, how much
is visible) and meta_info.ini (`object_class: ctenophore`). Source: http://got-10k.aitestunion.com.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.scenes import Frame, Tally, Track
from migician.sources.reading import clipped, size_of, text_lines


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Track]:
    """The sequences of a split (`train` or `val`) in the order of list.txt.

    A frame's box is None where the object is absent, wholly covered, or its box has no area in
    the image. Sequences whose folder is missing (the archives come in parts) are counted.
    Raises `UserError` naming the file and the line of what cannot be read, if labels and
    frames differ in number, for `test` (it has boxes of first frames only), and if no sequence is there.
    """
    if split == "test":
        raise UserError("got10k: split 'test' has no boxes after the first frame. Use 'train' or 'val'")
    folder = root / split
    names = text_lines(folder / "list.txt")
    present = [name for name in names if (folder / name).is_dir()]
    if len(present) < len(names):
        tally.add("sequence in list.txt without a folder", len(names) - len(present))
    if not present:
        raise UserError(f"{folder}: none of the {len(names)} sequences of list.txt are there")
    for name in present:
        yield _track(folder / name, tally)


def _track(folder: Path, tally: Tally) -> Track:
    images = sorted(folder.glob("*.jpg"))
    if not images:
        raise UserError(f"{folder}: holds no .jpg frames")
    size = size_of(images[0])
    count = len(images)
    boxes = _boxes(folder / "groundtruth.txt", size, count)
    absent = _labels(folder / "absence.label", count)
    cover = _labels(folder / "cover.label", count)
    frames = []
    for image, box, missing, visible in zip(images, boxes, absent, cover, strict=True):
        shown = clipped(box, tally) if not missing and visible else None
        frames.append(Frame(image, shown))
    return Track(folder.name, tuple(frames), _object_class(folder / "meta_info.ini"))


def _boxes(file: Path, size: Size, count: int) -> list[Box]:
    boxes = []
    for number, line in enumerate(_rows(file, count), start=1):
        try:
            x, y, width, height = (float(value) for value in line.split(","))
        except ValueError:
            raise UserError(f"{file}: line {number} is not x,y,w,h: {line[:60]!r}") from None
        boxes.append(Box.from_xywh_pixels(x, y, width, height, size))
    return boxes


def _labels(file: Path, count: int) -> list[int]:
    labels = []
    for number, line in enumerate(_rows(file, count), start=1):
        try:
            labels.append(int(line))
        except ValueError:
            raise UserError(f"{file}: line {number} is not a whole number: {line[:60]!r}") from None
    return labels


def _rows(file: Path, count: int) -> list[str]:
    rows = text_lines(file)
    if len(rows) != count:
        raise UserError(f"{file}: {len(rows)} lines for {count} frames; unpack the sequence again")
    return rows


def _object_class(file: Path) -> str:
    """The object's name, empty where the sequence has no meta_info.ini or does not say."""
    if not file.is_file():
        return ""
    fields = dict(line.split(":", 1) for line in text_lines(file) if ":" in line)  # links hold colons too
    return fields.get("object_class", "").strip()
