"""The JSON form of COCO instances, which Objects365 shares.

One object: `images` [{"id", "file_name", "width", "height"}], `annotations` [{"image_id",
"category_id", "bbox": [x, y, w, h] in pixels, "iscrowd"}], `categories` [{"id", "name"}].
Objects365 adds the flags `isfake` and `isreflected`. Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.scenes import Scene, Tally, Thing
from migician.sources.reading import clipped

# A box has no one object inside, or not a real one: nothing to ask for.
_FLAGS = {"iscrowd": "box around a crowd", "isfake": "picture of the object", "isreflected": "reflected object"}


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    isfake: int = 0
    isreflected: int = 0


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_instances(file: Path, locate: Callable[[str], Path | None], tally: Tally) -> Iterator[Scene]:
    """The scenes of one instances file, in its order of images.

    `locate` gives where a `file_name` lies, None where it is missing (counted). Boxes that
    are flagged are dropped and counted; the rest is clipped to the image, and dropped and
    counted where no area is left. An image without a box left is no scene. Raises
    `UserError` naming the file and the place of what cannot be read, also if no image at all
    is there. Needs about 300 bytes of memory a box: 8 GB for the whole of Objects365.
    """
    instances = _decode(file)
    names = {category.id: category.name for category in instances.categories}
    boxes: dict[int, list[_Annotation]] = {image.id: [] for image in instances.images}
    for position, annotation in enumerate(instances.annotations):
        if annotation.category_id not in names:
            raise UserError(f"{file}: annotation {position} has category {annotation.category_id}, which has no name")
        if annotation.image_id in boxes:
            boxes[annotation.image_id].append(annotation)
        else:
            tally.add("box of an image that is not listed")
    found = 0
    for image in instances.images:
        if image.width <= 0 or image.height <= 0:
            raise UserError(f"{file}: image {image.id} has size {image.width} x {image.height}")
        path = locate(image.file_name)
        if path is None:
            tally.add("image annotated but missing")
            continue
        found += 1
        things = tuple(_things(boxes.pop(image.id, []), names, (image.width, image.height), tally))
        if things:
            yield Scene(str(image.id), path, (image.width, image.height), things)
        else:
            tally.add("image without a usable box")
    if instances.images and not found:
        example = instances.images[0].file_name
        raise UserError(f"{file}: none of its {len(instances.images)} images are there, such as {example}")


def _decode(file: Path) -> _Instances:
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                return msgspec.json.decode(view, type=_Instances)
            finally:
                view.release()
    except (OSError, ValueError) as error:  # an empty file cannot be mapped: ValueError
        if isinstance(error, msgspec.DecodeError):
            raise UserError(f"{file}: not an instances file: {error}") from None
        raise UserError(f"{file}: cannot be read: {error}") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{file}: not an instances file: {error}") from None


def _things(annotations: list[_Annotation], names: dict[int, str], size: Size, tally: Tally) -> Iterator[Thing]:
    for annotation in annotations:
        flag = next((reason for name, reason in _FLAGS.items() if getattr(annotation, name)), None)
        if flag:
            tally.add(flag)
            continue
        box = clipped(Box.from_xywh_pixels(*annotation.bbox, size), tally)
        if box:
            yield Thing(box, names[annotation.category_id])
