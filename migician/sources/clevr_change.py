"""CLEVR-Change: rendered pairs of scenes, one object changed, the camera moved a little between them.

`data/` holds images/CLEVR_default_000007.png (before), sc_images/CLEVR_semantic_000007.png (after),
splits.json {"train": [1956, 351, ...], ...} and change_captions_with_bbox.json {"7": {"bbox_before":
[x, y, w, h], "bbox_after": [x, y, w, h], ...}, ...}, in whole pixels, empty on the side where the
object is absent. change_captions.json {"CLEVR_default_000007.png": ["the ball turned red", ...]} is
used where it is there. The images of nsc_images/, where nothing changes, are not.
Source: https://github.com/Seth-Park/RobustChangeCaptioning (states no licence).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from migician.boxes import Box
from migician.errors import UserError
from migician.files import is_file, read_json
from migician.sources.formats.pairs import data_folder
from migician.sources.formats.reading import Listing, clipped, size_of
from migician.sources.scenes import ImagePair, Tally

SIZE = (480, 320)
"""Of all images as released. Boxes are in its pixels, so they would be wrong on resized images."""

_Xywh = tuple[float, float, float, float]


class _Change(msgspec.Struct, frozen=True):
    # The form is known only from programs that use it: what else is in a record, and what stands for an absent box
    # (nothing, null, an empty list), may vary.
    bbox_before: Any = None
    bbox_after: Any = None


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[ImagePair]:
    """The pairs of a split (`train`, `val` or `test`) in the order of splits.json, each box in its own image.

    Boxes are clipped to their image, which is counted; one without area in the image is no box.
    Counted and left out: pairs without a record, without a box on either side, with a box that is not
    four numbers, with an image missing or not of 480 x 320 pixels. `root` is the folder that holds
    `data/`, or that folder. Raises `UserError` naming the file of what cannot be read, for an unknown
    split, if no pair has a record, and if no image is there.
    """
    folder = data_folder(root)
    numbers = _numbers(folder / "splits.json", split)
    file = folder / "change_captions_with_bbox.json"
    changes = read_json(file, dict[str, _Change], "boxes of CLEVR-Change")
    if numbers and not any(str(number) in changes for number in numbers):
        place = f"{file}: none of its keys is a pair of {split!r}"
        raise UserError(f"{place}: they must be like '{numbers[0]}', not {next(iter(changes), '')!r}")
    captions = _captions(folder / "change_captions.json")
    listing = Listing()
    present = 0
    for number in numbers:
        before = folder / "images" / f"CLEVR_default_{number:06d}.png"
        after = folder / "sc_images" / f"CLEVR_semantic_{number:06d}.png"
        if not (listing.holds(before) and listing.holds(after)):
            tally.add("pair with an image missing")
            continue
        present += 1
        if str(number) not in changes:
            tally.add("pair without a record of boxes")
            continue
        boxes = _boxes(changes[str(number)], before, after, tally)
        if boxes:
            yield ImagePair(str(number), before, after, *boxes, captions.get(before.name, ""))
    if numbers and not present:
        raise UserError(f"{folder}: holds none of the {len(numbers)} pairs of {split!r}; unpack images/ and sc_images/")


def _numbers(file: Path, split: str) -> list[int]:
    splits = read_json(file, dict[str, list[int]], "splits of CLEVR-Change")
    if split not in splits:
        raise UserError(f"{file}: has no split {split!r}. It has: {', '.join(splits)}")
    return splits[split]


def _captions(file: Path) -> dict[str, str]:
    """The first caption of each pair, by the name of its first image; none where the file is not there."""
    if not is_file(file):
        return {}
    captions = read_json(file, dict[str, list[str]], "captions of CLEVR-Change")
    return {name: texts[0] for name, texts in captions.items() if texts}


def _boxes(change: _Change, before: Path, after: Path, tally: Tally) -> tuple[Box | None, Box | None] | None:
    """The boxes in both images; None, counted, where the pair is of no use."""
    if any(size_of(image) != SIZE for image in (before, after)):
        tally.add(f"image is not {SIZE[0]} x {SIZE[1]}, the size of its boxes")
        return None
    given = (change.bbox_before or None, change.bbox_after or None)
    if given == (None, None):
        tally.add("change without a box")
        return None
    try:
        xywh = msgspec.convert(given, tuple[_Xywh | None, _Xywh | None])
    except msgspec.ValidationError:
        tally.add("box that is not x, y, w, h")
        return None
    first, second = (one and clipped(Box.from_xywh_pixels(*one, SIZE), tally) for one in xywh)
    return (first, second) if first or second else None
