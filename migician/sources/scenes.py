"""What every source yields: pictures with known boxes, ready for any task builder.

A scene stands between sources and tasks, so that a new source or a new task is one file.
Boxes are fractions of their image and proper; sizes are (width, height) in pixels; paths
are where the source has the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box, Size


class Instance(msgspec.Struct, frozen=True, gc=False):
    """One annotated object or region of an image."""

    box: Box
    label: str
    """The category's name."""
    phrase: str = ""
    """What describes this very object ("a woman wearing an orange shirt") and no other of its image, where the source
    has such a phrase."""


class Scene(msgspec.Struct, frozen=True):
    """One image with the instances annotated in it."""

    id: str
    image: Path
    size: Size
    instances: tuple[Instance, ...]
    unboxed: frozenset[str] = frozenset()
    """Labels of what is in the image without a usable box (crowds, reflections): such a label is never the only one."""


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two nearly equal images and where they differ."""

    id: str
    before: Path
    after: Path
    box_before: Box | None
    """The change in the first image; None where the changed instance is not in it."""
    box_after: Box | None
    description: str = ""
    """What changed, in the source's words; empty where it has none."""
    is_instruction: bool = False
    """Whether `description` is what an editor was asked to do ("add a dog"), not what can be seen to have changed."""
    box_shown: bool = False
    """Whether the source drew the box on the images: such a pair shows the answer to where it differs."""


class Frame(msgspec.Struct, frozen=True):
    """One frame of a sequence."""

    image: Path
    box: Box | None
    """None where the source has no box that can be used: the object may be in the frame or not."""
    is_hidden: bool = False
    """Whether the source says that nothing of the object can be seen; `box` is None then."""
    size: Size | None = None
    """What `box` was divided by: frames of one sequence may differ in size. None where that is not known."""


@dataclass(frozen=True, slots=True)
class Track:
    """One object followed through the frames of a sequence, in order of time."""

    id: str
    frames: tuple[Frame, ...]
    label: str = ""
    fps: float = 30.0
    """Frames of the sequence in a second."""


AnyScene = Scene | ImagePair | Track


@dataclass(slots=True)
class Tally:
    """Counts of what was dropped or clipped and why; part of the dataset card."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        """Count `count` more for `reason`, a short phrase that ends up in the card; none leave no trace there."""
        if count:
            self.counts[reason] = self.counts.get(reason, 0) + count

    def add_marked(self, reason: str, marked: NDArray[np.bool_]) -> None:
        """Count one more for each True."""
        self.add(reason, int(np.count_nonzero(marked)))
