"""The JSON form of COCO instances, which Objects365 shares.

One object: `images` [{"id", "file_name", "width", "height"}], `annotations` [{"image_id",
"category_id", "bbox": [x, y, w, h] in pixels, "iscrowd"}], `categories` [{"id", "name"}], in any
order; annotations of one image need not stand together. Objects365 adds the flags `isfake` and
`isreflected`. Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box
from migician.errors import UserError
from migician.samples.record_file import arrays
from migician.sources.formats.reading import CLIPPED, CLIPPING, OTHER_SIZE, UNREADABLE, all_clipped, size_of
from migician.sources.scenes import Instance, Scene, Tally

# A flagged box has no one object inside, or not a real one: nothing to ask for.
_REASONS = (*CLIPPING, "box around a crowd", "picture of the object", "reflected object")
_BLOCK = 1 << 16
"""Boxes that are looked at together."""
_Judged = tuple[list[float], int, int]
"""A box's corners within the image, as fractions; the position of its label; what became of it, as a position in
`_REASONS`: it can be used up to `CLIPPED`."""

_Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Extent = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: _Id
    file_name: str
    width: _Extent
    height: _Extent


class _Unmeasured(_Image, frozen=True, gc=False):
    """An image whose size the file may leave out, as 0 or altogether."""

    width: _Extent = 0
    height: _Extent = 0


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    isfake: int = 0
    isreflected: int = 0

    @property
    def flag(self) -> int:
        """0 for an object that can be asked for, 1 for a crowd, 2 for a picture of it, 3 for its reflection."""
        return 1 if self.iscrowd else 2 if self.isfake else 3 if self.isreflected else 0


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Instances:
    """All of a file in typed arrays: 45 bytes a box."""

    def __init__(self) -> None:
        self.image_ids = array("q")
        self.file_names: list[str] = []
        self.sizes = array("i")
        """Width and height in turn."""
        self.owners = array("q")
        """The image's id, one a box, as are `kinds` and `flags`."""
        self.kinds = array("i")
        """Position of the category's id in `category_ids`."""
        self.flags = array("B")
        """See `_Annotation.flag`."""
        self.boxes = array("d")
        """x, y, w, h in turn."""
        self.category_ids: dict[int, int] = {}
        self.names: dict[int, str] = {}

    def add_images(self, images: list[_Image]) -> None:
        self.image_ids.extend([one.id for one in images])
        self.file_names.extend([one.file_name for one in images])
        for one in images:
            self.sizes.extend((one.width, one.height))

    def add_annotations(self, annotations: list[_Annotation]) -> None:
        ids = self.category_ids
        self.owners.extend([one.image_id for one in annotations])
        self.kinds.extend([ids.setdefault(one.category_id, len(ids)) for one in annotations])
        self.flags.extend([one.flag for one in annotations])
        self.boxes.extend(itertools.chain.from_iterable([one.bbox for one in annotations]))

    def add_categories(self, categories: list[_Category]) -> None:
        self.names.update((one.id, one.name) for one in categories)


def read_instances(
    file: Path,
    locate: Callable[[str], Path | None],
    tally: Tally,
    rename: Callable[[str], str] = str.strip,
    *,
    measured: bool = False,
) -> Iterator[Scene]:
    """The scenes of one instances file, in its order of images.

    `locate` gives where a `file_name` lies, None where it is missing (counted); `rename` gives the
    label for a category's name. Boxes that are flagged are dropped and counted; the rest
    is clipped to the image, and dropped and counted where no area is left; the labels of what is
    dropped are the scene's `unboxed`. An image without a box left is no scene. With `measured` sizes come from the
    images themselves; one that cannot be read, or is not of the size that the file states, is counted. Raises
    `UserError` naming the file and the place of what cannot be read, also if no image at all is there.
    Streams: the file's text is never held, a box needs some 60 bytes of memory.
    """
    content = _read(file, measured)
    labels = _labels(file, content, rename)
    unusable = _measure(file, content, locate) if measured else {}
    found = 0
    for row, boxes in _by_image(content, tally):
        path = locate(content.file_names[row])
        if path is None:
            tally.add("image annotated but missing")
            continue
        found += 1
        if row in unusable:
            tally.add(unusable[row])
            continue
        instances = tuple(
            Instance(Box(*corners), labels[kind]) for corners, kind, verdict in boxes if verdict <= CLIPPED
        )
        for verdict, count in Counter(verdict for _, _, verdict in boxes if verdict).items():
            tally.add(_REASONS[verdict], count)
        if instances:
            unboxed = frozenset(labels[kind] for _, kind, verdict in boxes if verdict > CLIPPED)
            size = content.sizes[2 * row], content.sizes[2 * row + 1]
            yield Scene(str(content.image_ids[row]), path, size, instances, unboxed)
        else:
            tally.add("image without a usable box")
    if content.file_names and not found:
        example = content.file_names[0]
        advice = ". Give --images DIR, the folder that their names begin at" if measured else ""
        raise UserError(f"{file}: none of its {len(content.file_names)} images are there, such as {example}{advice}")


def _measure(file: Path, content: _Instances, locate: Callable[[str], Path | None]) -> dict[int, str]:
    """Replace the stated sizes by those of the images; gives, by row, why that failed."""
    unusable: dict[int, str] = {}
    seen: dict[Path, int] = {}
    for row, name in enumerate(content.file_names):
        stated = content.sizes[2 * row : 2 * row + 2]
        content.sizes[2 * row : 2 * row + 2] = array("i", (1, 1))  # until it is known, as nothing is divided by 0
        path = locate(name)
        if path is None:
            continue
        if path in seen:
            raise UserError(f"{file}: images[{row}] is {name}, as images[{seen[path]}] is; list each image once")
        seen[path] = row
        try:
            size = array("i", size_of(path))
        except UserError:
            unusable[row] = UNREADABLE
            continue
        content.sizes[2 * row : 2 * row + 2] = size
        if min(stated) > 0 and stated != size:
            unusable[row] = OTHER_SIZE
    return unusable


def _read(file: Path, measured: bool) -> _Instances:
    content = _Instances()
    add: dict[str, Callable[[list[Any]], None]] = {
        "images": content.add_images,
        "annotations": content.add_annotations,
        "categories": content.add_categories,
    }
    forms: dict[str, type[Any]] = {
        "images": _Unmeasured if measured else _Image,
        "annotations": _Annotation,
        "categories": _Category,
    }
    seen = set()
    for key, elements in arrays(file, forms, "an instances file"):
        seen.add(key)
        add[key](elements)
    missing = [key for key in forms if key not in seen]
    if missing:
        raise UserError(f"{file}: not an instances file: it has no list `{missing[0]}`")
    if measured:
        return content
    sizes = np.frombuffer(content.sizes, np.int32).reshape(-1, 2)
    for bad in np.flatnonzero((sizes <= 0).any(axis=1)).tolist():
        width, height = sizes[bad].tolist()
        raise UserError(f"{file}: image {content.image_ids[bad]} has size {width} x {height}")
    return content


def _labels(file: Path, content: _Instances, rename: Callable[[str], str]) -> list[str]:
    """The label of each kind; only the file's own list of categories says what its ids mean."""
    for category, kind in content.category_ids.items():
        if category not in content.names:
            position = content.kinds.index(kind)
            raise UserError(f"{file}: annotation {position} has category {category}, which has no name")
    return [rename(content.names[category]) for category in content.category_ids]


def _by_image(content: _Instances, tally: Tally) -> Iterator[tuple[int, list[_Judged]]]:
    """Each image's row with its boxes, in the file's order of both."""
    rows = _rows(content)
    images = len(content.image_ids)
    unlisted = int((rows == images).sum())
    if unlisted:
        tally.add("box of an image that is not listed", unlisted)
    ends = np.cumsum(np.bincount(rows, minlength=images))
    order = np.argsort(rows, kind="stable")
    del rows
    first = start = 0
    while first < images:
        last = min(images, max(first + 1, int(np.searchsorted(ends, start + _BLOCK, side="right"))))
        stop = int(ends[last - 1])
        counts = np.diff(ends[first:last], prepend=start)
        judged = _judged(content, order[start:stop], np.repeat(np.arange(first, last), counts))
        begin = 0
        for row, count in zip(range(first, last), counts.tolist(), strict=True):
            yield row, judged[begin : begin + count]
            begin += count
        first, start = last, stop


def _judged(content: _Instances, chosen: NDArray[np.int64], rows: NDArray[np.int64]) -> list[_Judged]:
    """The boxes at the positions `chosen` (N,), which belong to the images of `rows` (N,)."""
    sizes = np.frombuffer(content.sizes, np.int32).reshape(-1, 2)[rows]
    boxes = np.frombuffer(content.boxes, np.float64).reshape(-1, 4)[chosen]
    low, extent = boxes[:, :2], boxes[:, 2:]
    with np.errstate(over="ignore"):
        corners = np.concatenate([low / sizes, (low + extent) / sizes], axis=1)
    inside, verdicts = all_clipped(corners)
    flags = np.frombuffer(content.flags, np.uint8)[chosen]
    verdicts = np.where(flags, flags + len(CLIPPING) - 1, verdicts)
    kinds = np.frombuffer(content.kinds, np.int32)[chosen]
    return list(zip(inside.tolist(), kinds.tolist(), verdicts.tolist(), strict=True))


def _rows(content: _Instances) -> NDArray[np.int32]:
    """The row of each box's image (boxes,); one beyond the last where its image is not listed.

    Where two images have one id, the first has the boxes. Empties `owners`.
    """
    ids = np.frombuffer(content.image_ids, np.int64)
    owners, content.owners = np.frombuffer(content.owners, np.int64), array("q")
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    rows = np.full(len(owners), len(ids), np.int32)
    if not len(ids):
        return rows
    for start in range(0, len(owners), _BLOCK):
        part = owners[start : start + _BLOCK]
        place = np.searchsorted(ranked, part).clip(max=len(ids) - 1)
        known = ranked[place] == part
        rows[start : start + _BLOCK][known] = order[place[known]]
    return rows
