"""Scenes in columns: what the builders choose from without making an object for every box."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box, Size, writable
from migician.sources.index.columns import (
    SCALE,
    Column,
    NumberedTexts,
    PathColumn,
    Paths,
    TextColumn,
    Texts,
    closing,
    mapped,
    view,
)
from migician.sources.scenes import Scene

ALONE, WRITABLE = 1, 2
"""Marks of an instance: no other of its image has its label, boxed or not; its box survives rounding to 0..1000."""
_BATCH = 2048
"""Scenes that are looked at together."""


def write_scenes(scenes: Iterable[Scene], folder: Path, root: Path) -> int:
    """Write `scenes`, whose images lie below `root`, as columns into `folder`; gives how many."""
    paths = PathColumn(folder, root)
    sizes, ends = Column(folder / "sizes.u32", "I"), Column(folder / "ends.i64", "q")
    boxes, areas = Column(folder / "boxes.u32", "I"), Column(folder / "areas.f32", "f")
    label_of, marks = Column(folder / "label_of.u32", "I"), Column(folder / "marks.u8", "B")
    labels, phrases = NumberedTexts(folder / "labels.txt"), TextColumn(folder / "phrases.txt")
    unboxed, unboxed_ends = Column(folder / "unboxed.u32", "I"), Column(folder / "unboxed_ends.i64", "q")
    with closing(paths, sizes, ends, boxes, areas, label_of, marks, labels, phrases, unboxed, unboxed_ends):
        for column in (ends, unboxed_ends):
            column.append(0)
        rest = iter(scenes)
        while batch := list(itertools.islice(rest, _BATCH)):
            instances = [instance for scene in batch for instance in scene.instances]
            corners = np.array([instance.box.as_tuple() for instance in instances]).reshape(-1, 4)
            numbers = np.array([labels.number(instance.label) for instance in instances], np.uint32)
            hidden = [[labels.number(label) for label in sorted(scene.unboxed)] for scene in batch]
            counts = [len(scene.instances) for scene in batch]
            nameless = np.array([not instance.label for instance in instances], bool)
            boxes.extend(np.rint(corners * SCALE).astype(np.uint32))
            areas.extend(((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])).astype(np.float32))
            alone = _alone(numbers, counts, hidden) & ~nameless
            marks.extend(ALONE * alone.astype(np.uint8) + WRITABLE * writable(corners).astype(np.uint8))
            phrases.append(*(instance.phrase for instance in instances))
            ends.extend(len(label_of) + np.cumsum(counts))
            label_of.extend(numbers)
            for scene, one in zip(batch, hidden, strict=True):
                paths.append(scene.image)
                sizes.append(*scene.size)
                unboxed.append(*one)
                unboxed_ends.append(len(unboxed))
    return len(paths)


def _alone(numbers: NDArray[np.uint32], counts: list[int], hidden: list[list[int]]) -> NDArray[np.bool_]:
    """(n,): whether a label is there once in its image; `counts` and `hidden` labels are given image by image."""
    kinds = 1 + max([int(numbers.max(initial=0)), *itertools.chain.from_iterable(hidden)])
    keys = np.repeat(np.arange(len(counts)), counts) * kinds + numbers
    also = np.repeat(np.arange(len(counts)), [len(one) for one in hidden]) * kinds
    also += np.fromiter(itertools.chain.from_iterable(hidden), np.int64, len(also))
    _, place, times = np.unique(keys, return_inverse=True, return_counts=True)
    alone: NDArray[np.bool_] = (times[place] == 1) & ~np.isin(keys, also)
    return alone


class Scenes:
    """The scenes of one source. Images and instances are counted from 0; image i has the instances `span(i)`."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder)
        self.sizes: NDArray[np.uint32] = mapped(folder / "sizes.u32", "u4", 2)
        """(images, 2): width and height in pixels."""
        self.ends: NDArray[np.int64] = mapped(folder / "ends.i64", "i8")
        """(images + 1,): the instances of image i are those from ends[i] to ends[i + 1]."""
        self.corners: NDArray[np.uint32] = mapped(folder / "boxes.u32", "u4", 4)
        """(instances, 4): x1 y1 x2 y2 in parts of 2**31."""
        self.areas: NDArray[np.float32] = mapped(folder / "areas.f32", "f4")
        """(instances,): the share of its image that each box covers."""
        self.label_of: NDArray[np.uint32] = mapped(folder / "label_of.u32", "u4")
        """(instances,): the number of each instance's label."""
        self.marks: NDArray[np.uint8] = mapped(folder / "marks.u8", "u1")
        """(instances,): sums of `ALONE` and `WRITABLE`."""
        self.labels = Texts(folder / "labels.txt").all()
        self.nameless = self.labels.index("") if "" in self.labels else -1
        """The number of the empty label, -1 where all instances have one."""
        self._phrases = Texts(folder / "phrases.txt")
        self.has_phrases = (folder / "phrases.txt").stat().st_size > 0
        """Whether any instance has a phrase of its own."""
        self.described: NDArray[np.bool_] = (
            self._phrases.filled() if self.has_phrases else np.zeros(len(self.marks), bool)
        )
        """(instances,): which have one."""
        self.unboxed: NDArray[np.uint32] = mapped(folder / "unboxed.u32", "u4")
        """Numbers of labels that images show without a box."""
        self.unboxed_ends: NDArray[np.int64] = mapped(folder / "unboxed_ends.i64", "i8")
        """(images + 1,): those of image i are from unboxed_ends[i] to unboxed_ends[i + 1]."""
        self._ends, self._label_of = view(self.ends), view(self.label_of)
        self._sizes, self._corners = view(self.sizes.ravel()), view(self.corners.ravel())

    def __len__(self) -> int:
        return len(self.paths)

    def span(self, image: int) -> range:
        """The instances of an image."""
        return range(self._ends[image], self._ends[image + 1])

    def place(self, instance: int, images: Sequence[int]) -> int:
        """Which of `images` (counted from 0) an instance is in; raises ValueError where it is in none."""
        for place, image in enumerate(images):
            if self._ends[image] <= instance < self._ends[image + 1]:
                return place
        raise ValueError(f"instance {instance} is in none of the images {images}")

    def size(self, image: int) -> Size:
        """Width and height in pixels."""
        return self._sizes[2 * image], self._sizes[2 * image + 1]

    def box(self, instance: int) -> Box:
        """An instance's box."""
        x1, y1, x2, y2 = self._corners[4 * instance : 4 * instance + 4].tolist()
        return Box(x1 / SCALE, y1 / SCALE, x2 / SCALE, y2 / SCALE)

    def label_number(self, instance: int) -> int:
        """The number of an instance's label."""
        return self._label_of[instance]

    def label(self, instance: int) -> str:
        """An instance's label."""
        return self.labels[self._label_of[instance]]

    def labels_in(self, image: int) -> list[int]:
        """The numbers of the labels of an image's instances."""
        return self._label_of[self._ends[image] : self._ends[image + 1]].tolist()

    def phrase(self, instance: int) -> str:
        """What describes this very instance; empty where the source has no such phrases."""
        return self._phrases[instance]

    def instances_in(self, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(instances, rows), both (n,): the instances of `images`, image after image, and which of these each is of."""
        return _runs(self.ends, images)

    def unboxed_in(self, images: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """(labels, rows), both (n,): the numbers of the labels that `images` show without a box."""
        positions, rows = _runs(self.unboxed_ends, images)
        return self.unboxed[positions], rows

    def clear_ones(
        self, shares: tuple[float, float], instances: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.bool_]:
        """(instances,): alone with their label in their image, and covering `shares` (lowest, highest) of it."""
        clear: NDArray[np.bool_] = self.fitting_ones(shares, instances) & (self.marks[instances] & ALONE > 0)
        return clear

    def fitting_ones(
        self, shares: tuple[float, float], instances: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.bool_]:
        """(instances,): with a box that can be written, covering `shares` (lowest, highest) of their image."""
        areas = self.areas[instances]
        fitting: NDArray[np.bool_] = (
            (self.marks[instances] & WRITABLE > 0) & (areas >= shares[0]) & (areas <= shares[1])
        )
        return fitting

    def images_of(self, instances: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,): the image of each of `instances` (n,)."""
        return np.searchsorted(self.ends, instances, side="right") - 1

    def by_label(self, usable: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
        """The instances for which `usable` (instances,) holds, by label, in the order of the labels' names."""
        instances = np.flatnonzero(usable)
        order = np.argsort(self.label_of[instances], kind="stable")
        numbers, starts = np.unique(self.label_of[instances][order], return_index=True)
        parts = dict(zip(numbers.tolist(), np.split(instances[order], starts[1:]), strict=False))
        return {label: parts[label] for label in sorted(parts, key=self.labels.__getitem__)}


def _runs(ends: NDArray[np.int64], images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(positions, rows): all from ends[i] to ends[i + 1] for each i of `images`, and which of `images` each is of."""
    starts = ends[images]
    counts = ends[images + 1] - starts
    rows = np.repeat(np.arange(len(images)), counts)
    return np.arange(len(rows)) + (starts - counts.cumsum() + counts)[rows], rows
