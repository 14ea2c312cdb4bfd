"""Boxes as fractions of an image, and their overlap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Size = tuple[int, int]
"""(width, height) of an image, in pixels."""
TRAINED_PIXELS = 768 * 768
"""The most that an image has in training: LLaMA-Factory's default of `image_max_pixels`, kept by the released YAML."""

FARTHEST = 1e9
"""In sides of the image: no coordinate farther out than this is kept."""

LONGEST_SIDE = 2**31 - 1
"""Pixels; no format has more, and annotations that say so are broken."""


def is_size(size: Size) -> bool:
    """Whether an image can have this size: each side from 1 to `LONGEST_SIDE` pixels."""
    return all(1 <= side <= LONGEST_SIDE for side in size)


class Box(msgspec.Struct, frozen=True, gc=False):
    """An axis-aligned box; every coordinate is a fraction of the image, 0 left or top and 1 right or bottom.

    A box keeps the values it is given, also impossible ones (corners in the wrong order, a
    corner outside the image): benchmarks hold such boxes, and models write them. Ask
    `is_proper` before using one as a truth.

    >>> Box.from_permille(250, 500, 750, 1000).to_pixels((640, 480))
    (160.0, 240.0, 480.0, 480.0)
    """

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def from_pixels(cls, x1: float, y1: float, x2: float, y2: float, size: Size) -> Self:
        """The box between two corners in pixels of an image of `size` (width, height)."""
        width, height = _checked(size)
        return cls(x1 / width, y1 / height, x2 / width, y2 / height)

    @classmethod
    def from_xywh_pixels(cls, x: float, y: float, width: float, height: float, size: Size) -> Self:
        """The box with a top-left corner and an extent, both in pixels: the form of COCO and most trackers."""
        return cls.from_pixels(x, y, x + width, y + height, size)

    @classmethod
    def from_permille(cls, x1: float, y1: float, x2: float, y2: float) -> Self:
        """The box whose coordinates run from 0 to 1000 over the image: the form of Qwen2-VL and MGrounding-630k."""
        return cls(x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000)

    def to_pixels(self, size: Size) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in pixels of an image of `size`, not rounded."""
        width, height = _checked(size)
        return self.x1 * width, self.y1 * height, self.x2 * width, self.y2 * height

    def to_permille(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) as whole numbers 0..1000, halves rounded away from zero."""
        return _thousandth(self.x1), _thousandth(self.y1), _thousandth(self.x2), _thousandth(self.y2)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) as fractions."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def is_ordered(self) -> bool:
        """Whether the first corner is not right of or below the second."""
        return self.x1 <= self.x2 and self.y1 <= self.y2

    @property
    def is_inside(self) -> bool:
        """Whether all four coordinates lie within the image."""
        return 0.0 <= self.x1 <= 1.0 and 0.0 <= self.y1 <= 1.0 and 0.0 <= self.x2 <= 1.0 and 0.0 <= self.y2 <= 1.0

    @property
    def is_proper(self) -> bool:
        """Whether the box covers some area and lies wholly within the image."""
        return self.is_inside and self.x1 < self.x2 and self.y1 < self.y2

    @property
    def area(self) -> float:
        """Share of the image covered, 0 for a box whose corners are in the wrong order."""
        return max(self.x2 - self.x1, 0.0) * max(self.y2 - self.y1, 0.0)

    def clipped(self) -> Self:
        """The part of the box within the image; compare areas to know how much was lost."""
        return type(self)(*(min(max(value, 0.0), 1.0) for value in self.as_tuple()))

    def bounded(self) -> Self:
        """The box with each coordinate at most `FARTHEST` from 0, even where a number was too long for a float."""
        return type(self)(*(min(max(value, -FARTHEST), FARTHEST) for value in self.as_tuple()))

    def iou(self, other: Box) -> float:
        """Intersection over union with another box of the same image: see `iou`."""
        return iou(self, other)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of the same image, 0..1.

    Boxes are continuous (no "+ 1"). A box without area, or with corners in the wrong order,
    overlaps nothing and gives 0.

    >>> iou(Box(0, 0, 0.5, 1), Box(0.25, 0, 0.75, 1))
    0.3333333333333333
    """
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if not (width > 0 and height > 0):
        return 0.0
    intersection = width * height
    if not intersection > 0:  # sides so small that their product is below the smallest float
        return 0.0
    # Boxes that overlap have their corners in order, so these are their areas.
    areas = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1)
    return intersection / (areas - intersection)


def is_writable(box: Box) -> bool:
    """Whether a box still covers some area once written as whole numbers 0..1000."""
    return Box.from_permille(*box.to_permille()).is_proper


def writable(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`is_writable` for boxes (n, 4) that lie inside their images, x1 y1 x2 y2 as fractions: (n,)."""
    permille = np.floor(boxes * 1000 + 0.5)  # as `Box.to_permille` rounds
    return (permille[:, 2] > permille[:, 0]) & (permille[:, 3] > permille[:, 1])


def iou_pairs(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """IoU of boxes row by row: (N, 4) and (N, 4), x1 y1 x2 y2 in any common unit, give (N,).

    Leading dimensions broadcast, so (N, 1, 4) with (1, M, 4) gives (N, M). A row that holds a
    NaN (no box) gives 0.
    """
    first, second = _corners(a), _corners(b)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        sides = np.clip(high - low, 0, None)
        intersection = sides[..., 0] * sides[..., 1]
        quotient = intersection / (_areas(first) + _areas(second) - intersection)
    return np.where(intersection > 0, quotient, 0.0)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """IoU of every box of `a` (N, 4) with every box of `b` (M, 4), as (N, M)."""
    return iou_pairs(_corners(a)[:, None, :], _corners(b)[None, :, :])


def _corners(boxes: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.ndim < 2:
        array = array.reshape(0, 4)
    if array.shape[-1] != 4:
        raise ValueError(f"boxes must have a last dimension of 4 (x1 y1 x2 y2), not shape {array.shape}")
    return array


def _areas(corners: NDArray[Any]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.clip(corners[..., 2:] - corners[..., :2], 0, None)
    areas: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return areas


def _thousandth(value: float) -> int:
    if value < 0:
        return -_thousandth(-value)
    scaled = value * 1000
    whole = math.floor(scaled + 0.5)
    # Rounded off first where it matters, so that 0.0125 (a double just below) goes up like any other half.
    return whole if -0.4999 <= whole - scaled <= 0.4999 else math.floor(round(scaled, 6) + 0.5)


def _checked(size: Size) -> Size:
    width, height = size
    if width <= 0 or height <= 0:
        raise ValueError(f"image size must be positive (width, height), not {size}")
    return size
