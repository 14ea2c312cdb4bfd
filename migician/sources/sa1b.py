"""SA-1B: photographs with the boxes of its masks, or with GranD's labelled and described boxes.

    sa_000000/sa_10215304.jpg and sa_10215304.json side by side, the folders in the root or its `images/`;
    all in one of these folders is read too.
    {"image": {"image_id": 10215304, "width": 1545, "height": 1500, "file_name": "sa_10215304.jpg"},
     "annotations": [{"bbox": [737.0, 776.0, 16.0, 16.0], "area": 235, ...}, ...]}
    GranD/sa_10215304.json, or one folder deeper (GranD/part_1/...):
    {"sa_10215304.jpg": {"objects": [{"id": 0, "bbox": [12.5, 40.0, 310.2, 500.9], "labels": ["person"],
     "attributes": ["a woman wearing an orange shirt"], ...}], "floating_objects": [...], ...}}

A bbox of SA-1B is x, y, w, h, where w and h are last pixel minus first (measured on decoded masks):
the mask is one pixel wider and higher. A bbox of GranD is read as x1, y1, x2, y2 in pixels: so its
pipeline writes them (mbzuai-oryx/groundingLMM at a444d843, GranD/utils/add_masks_to_annotations.py
and prepare_level_1.py) and so GLaMM's loaders scale them; no released file was at hand to confirm it.
Sources: https://ai.meta.com/datasets/segment-anything, https://huggingface.co/datasets/MBZUAI/GranD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import read_json
from migician.scenes import Scene, Tally, Thing
from migician.sources.reading import clipped, size_of

_SPEECH = re.compile(r"^\W*(?:assistant|istant)\s*:\s*", re.IGNORECASE)
"""What the describing model left before some of GranD's phrases."""
_MARKUP = re.compile(r"[<>|\[\]{}]")
"""Signs of image marks, box tokens and models' slips: no phrase of words needs them."""


class _Image(msgspec.Struct, frozen=True):
    width: int
    height: int


class _Mask(msgspec.Struct, frozen=True, gc=False):
    bbox: tuple[float, float, float, float]


class _Masks(msgspec.Struct, frozen=True):
    image: _Image
    annotations: list[_Mask]


class _Object(msgspec.Struct, frozen=True):
    """One region of GranD; its files differ in what they give."""

    bbox: list[float] | None = None
    labels: list[str] | str | None = None
    attributes: list[str] | str | None = None
    segmentation_source: str | None = None


class _Described(msgspec.Struct, frozen=True):
    objects: list[_Object] = []
    floating_objects: list[_Object] = []


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Scene]:
    """The images in order of their folders and names; SA-1B has no splits, so `train` is all of it.

    An image with a file of GranD has its objects, floating ones too, with label and phrase where
    given (empty where not). Another has the boxes of its masks, with neither (counted as "image
    without phrases"). An object's further labels are in `unboxed`: the thing itself may be meant
    by them. A box of GranD that leaves the image by over a pixel or is smaller than one is not
    what it is read as: dropped and counted. Raises `UserError` naming the file and the place of
    what cannot be read, for other splits, and if no annotated image is there.
    """
    if split != "train":
        raise UserError(f"sa1b: has no split {split!r}: all of its images are 'train'")
    described = [folder for folder in (root / "GranD", *_folders(root / "GranD")) if folder.is_dir()]
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
        phrases = next((file for place in places if (file := place / f"{name}.json").is_file()), None)
        if f"{name}.jpg" not in names:
            tally.add("image annotated but missing")
        elif phrases or f"{name}.json" in names:
            yield from _scene(folder / f"{name}.jpg", folder / f"{name}.json", phrases, tally)
        else:
            tally.add("image without annotations")


def _scene(image: Path, file: Path, phrases: Path | None, tally: Tally) -> Iterator[Scene]:
    masks = read_json(file, _Masks, "a file of SA-1B") if file.is_file() else None
    size = (masks.image.width, masks.image.height) if masks else size_of(image)
    if size[0] <= 0 or size[1] <= 0:
        raise UserError(f"{file}: the image has size {size[0]} x {size[1]}")
    if phrases:
        things, unboxed = _objects(phrases, image.name, size, tally)
    else:
        tally.add("image without phrases")
        things, unboxed = _unlabelled(masks, size, tally), set()
    if things:
        yield Scene(image.stem, image, size, tuple(things), frozenset(unboxed))
    else:
        tally.add("image without a usable box")


def _unlabelled(masks: _Masks | None, size: Size, tally: Tally) -> list[Thing]:
    widened = ((x, y, w + 1, h + 1) for x, y, w, h in (mask.bbox for mask in (masks.annotations if masks else [])))
    boxes = (clipped(Box.from_xywh_pixels(*bbox, size), tally) for bbox in widened)
    return [Thing(box, "") for box in boxes if box]


def _objects(file: Path, image: str, size: Size, tally: Tally) -> tuple[list[Thing], set[str]]:
    """The things of a file of GranD, and the labels that say nothing of one box alone."""
    content = read_json(file, dict[str, _Described], "a file of GranD")
    described = content.get(image) or content.get(Path(image).stem)
    if described is None:
        raise UserError(f"{file}: does not describe {image}; it names {', '.join(list(content)[:3]) or 'nothing'}")
    things: list[Thing] = []
    unboxed: set[str] = set()
    for one in (*described.objects, *described.floating_objects):
        labels = _texts(label.replace("_", " ") for label in _several(one.labels))
        box = _box(one, size, tally)
        if box:
            things.append(Thing(box, labels[0] if labels else "", _phrase(one, labels, tally)))
        unboxed.update(labels[1:] if box else labels)
    return things, unboxed


def _box(one: _Object, size: Size, tally: Tally) -> Box | None:
    if one.bbox is None or len(one.bbox) != 4:
        tally.add("object of GranD without a box")
        return None
    x1, y1, x2, y2 = one.bbox
    if one.segmentation_source == "SAM":  # taken from SA-1B's own bbox, so it ends on the mask's last pixel
        x2, y2 = x2 + 1, y2 + 1
    if min(x1, y1) < -1 or x2 > size[0] + 1 or y2 > size[1] + 1:
        tally.add("box of GranD beyond the image")
        return None
    if x2 - x1 < 1 or y2 - y1 < 1:
        tally.add("box of GranD smaller than a pixel")
        return None
    return clipped(Box.from_pixels(x1, y1, x2, y2, size), tally)


def _phrase(one: _Object, labels: list[str], tally: Tally) -> str:
    """The first phrase that names the object, else the first; empty where there is none to use."""
    given = _several(one.attributes)
    phrases = _texts(_SPEECH.sub("", text) for text in given)
    if len(phrases) < len(given):
        tally.add("phrase that is empty or holds markup", len(given) - len(phrases))
    naming = (phrase for phrase in phrases if any(label.lower() in phrase.lower() for label in labels))
    return next(naming, phrases[0] if phrases else "")


def _texts(given: Iterable[str]) -> list[str]:
    """Those with words and without markup, on one line each."""
    return [" ".join(text.split()) for text in given if text.strip() and not _MARKUP.search(text)]


def _several(texts: list[str] | str | None) -> list[str]:
    return [texts] if isinstance(texts, str) else texts or []


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
