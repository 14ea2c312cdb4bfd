"""SA-1B: photographs with the boxes of its masks, or with GranD's labelled and described boxes.

    sa_000000/sa_10215304.jpg and sa_10215304.json side by side, the folders in the root or its `images/`;
    all in one of these folders is read too.
    {"image": {"image_id": 10215304, "width": 1545, "height": 1500, "file_name": "sa_10215304.jpg"},
     "annotations": [{"bbox": [737.0, 776.0, 16.0, 16.0], "area": 235, ...}, ...]}
    GranD/sa_10215304.json, or one folder deeper (GranD/part_1/...): see `formats.grand`.

A bbox of SA-1B is x, y, w, h, where w and h are last pixel minus first (measured on decoded masks):
the mask is one pixel wider and higher.
Sources: https://ai.meta.com/datasets/segment-anything, https://huggingface.co/datasets/MBZUAI/GranD.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from migician.boxes import Box, Size, is_size
from migician.errors import UserError
from migician.files import is_file, is_folder, read_json
from migician.sources.formats.grand import read_grand
from migician.sources.formats.reading import clipped, size_of
from migician.sources.scenes import Instance, Scene, Tally


class _Image(msgspec.Struct, frozen=True):
    width: int
    height: int


class _Mask(msgspec.Struct, frozen=True, gc=False):
    bbox: tuple[float, float, float, float]


class _Masks(msgspec.Struct, frozen=True):
    image: _Image
    annotations: list[_Mask]


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Scene]:
    """The images in order of their folders and names; SA-1B has no splits, so `train` is all of it.

    An image with a file of GranD has its instances as `read_grand` gives them. Another has the boxes of its masks,
    without label or phrase (counted as "image without phrases"). Raises `UserError` naming the file and the place of
    what cannot be read, for other splits, and if no annotated image is there.
    """
    if split != "train":
        raise UserError(f"sa1b: has no split {split!r}: all of its images are 'train'")
    described = [folder for folder in (root / "GranD", *_folders(root / "GranD")) if is_folder(folder)]
    base = [root, root / "images"]
    found = False
    for folder in [*base, *(deeper for one in base for deeper in _folders(one) if deeper.name.startswith("sa_"))]:
        for scene in _folder(folder, described, tally):
            found = True
            yield scene
    if not found:
        places = "it, images/ and sa_000000/ ... in these"
        raise UserError(f"{root}: {places} hold no sa_<id>.jpg with annotations that give a box")


def _folder(folder: Path, described: Sequence[Path], tally: Tally) -> Iterator[Scene]:
    names = {entry.name for entry in folder.glob("sa_*")}
    # A GranD folder of the same name is most likely to have the image.
    places = sorted(described, key=lambda one: one.name != folder.name)
    for name in sorted({Path(name).stem for name in names if name.endswith((".jpg", ".json"))}):
        phrases = next((file for place in places if is_file(file := place / f"{name}.json")), None)
        if f"{name}.jpg" not in names:
            tally.add("image annotated but missing")
        elif phrases or f"{name}.json" in names:
            yield from _scene(folder / f"{name}.jpg", folder / f"{name}.json", phrases, tally)
        else:
            tally.add("image without annotations")


def _scene(image: Path, file: Path, phrases: Path | None, tally: Tally) -> Iterator[Scene]:
    masks = read_json(file, _Masks, "a file of SA-1B") if is_file(file) else None
    size = (masks.image.width, masks.image.height) if masks else size_of(image)
    if not is_size(size):
        raise UserError(f"{file}: the image has size {size[0]} x {size[1]}")
    if phrases:
        instances, unboxed = read_grand(phrases, image.name, size, tally)
    else:
        tally.add("image without phrases")
        instances, unboxed = _unlabelled(masks, size, tally), set()
    if instances:
        yield Scene(image.stem, image, size, tuple(instances), frozenset(unboxed))
    else:
        tally.add("image without a usable box")


def _unlabelled(masks: _Masks | None, size: Size, tally: Tally) -> list[Instance]:
    widened = ((x, y, w + 1, h + 1) for x, y, w, h in (mask.bbox for mask in (masks.annotations if masks else [])))
    boxes = (clipped(Box.from_xywh_pixels(*bbox, size), tally) for bbox in widened)
    return [Instance(box, "") for box in boxes if box]


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if is_folder(entry)) if is_folder(folder) else []
