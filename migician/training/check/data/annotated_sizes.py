"""Images that differ in size from what their boxes were divided by, according to the card or the name of a crop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.boxes import Size
from migician.files import decoded, is_file
from migician.models.pictures import stretched
from migician.tasks import TASKS
from migician.training.check.data.reading import ReadSamples

_CROP = re.compile(rf"/{TASKS['region_locating'].folder}/.*-([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)\.(?:jpg|png)\Z")
_FRAMES = f"/{TASKS['object_tracking'].folder}/"


class _Part(msgspec.Struct):
    frame_sizes: dict[str, Size] = {}


class _Card(msgspec.Struct):
    parts: list[_Part]


def crop_fault(name: str, size: Size) -> str:
    """What is wrong with the size of a crop named by `migician build`; empty if nothing is.

    >>> crop_fault("./M/Region_Locating/COCO-crops/train2017/1-10-20-50-40.jpg", (40, 30))
    './M/Region_Locating/COCO-crops/train2017/1-10-20-50-40.jpg: 40 x 30, not 40 x 20'
    """
    match = _CROP.search(name)
    if match is None:
        return ""
    x1, y1, x2, y2 = map(int, match.groups())
    # A thin crop may have been stretched, so that training and evaluation see the same.
    return (
        ""
        if size in ((x2 - x1, y2 - y1), stretched((x2 - x1, y2 - y1)))
        else f"{name}: {size[0]} x {size[1]}, not {x2 - x1} x {y2 - y1}"
    )


def frame_faults(read: ReadSamples, sizes: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    """(sample, what is wrong) for frames of one sample that differ in size, unless its card lists their sizes.

    `sizes` is (images, 2), 0 if unknown. Boxes are fractions, so all frames of a sample may be scaled. A dataset
    without a card is not checked; an old card without sizes means that all boxes were divided by the size of the first
    frame.
    """
    names = list(read.image_numbers)
    if not read.samples or not names:
        return
    images = np.frombuffer(read.images_of, np.uint32)
    ends = np.frombuffer(read.image_ends, np.uint64).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    owner = np.repeat(np.arange(read.samples), counts)
    frames = np.array([_FRAMES in name for name in names])[images] & (sizes[images] > 0).all(axis=1)
    first = sizes[images[(ends - counts)[owner]]]
    differing = np.unique(owner[frames & (first > 0).all(axis=1) & (sizes[images] != first).any(axis=1)])
    stated = {number: _stated(file.parent / "card.json") for number, file in enumerate(read.files)}
    for sample in differing.tolist():
        known = stated[read.file_of[sample]]
        if known is None:
            continue
        for image in dict.fromkeys(images[ends[sample] - counts[sample] : ends[sample]].tolist()):
            width, height = sizes[image].tolist()
            if known.get(names[image]) != (width, height):
                yield sample, f"{names[image]}: {width} x {height}"


def _stated(card: Path) -> dict[str, Size] | None:
    content = decoded(card.read_bytes(), _Card) if is_file(card) else None
    if content is None:
        return None
    return {name: size for part in content.parts for name, size in part.frame_sizes.items()}
