"""What the readers of image pairs share: names that come from data, pixels, the box of a region."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from migician.boxes import Box
from migician.errors import UserError
from migician.files import is_folder


def data_folder(root: Path) -> Path:
    """`root/data` where the archive was unpacked as it comes, else `root`."""
    return root / "data" if is_folder(root / "data") else root


def relative(name: str) -> PurePosixPath | None:
    """A file's name as data gives it, without a leading "./"; None where it could lead out of its folder.

    >>> relative("./inpaint/2_17718_img0_0_2"), relative("../x"), relative("/etc/x")
    (PurePosixPath('inpaint/2_17718_img0_0_2'), None, None)
    """
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or not path.name or any(sign in name for sign in "\\\0:")
    return None if unsafe else path


def pixels(image: Path, mode: str = "RGB") -> NDArray[np.uint8]:
    """The pixels of an image, (H, W, channels of `mode`); raises `UserError` where it cannot be read."""
    try:
        with Image.open(image) as opened:
            return np.asarray(opened.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{image}: cannot be read as an image: {error}") from None


Extent = tuple[slice, slice]
"""Rows and columns of an array."""


def extent(marked: NDArray[np.bool_]) -> Extent:
    """The smallest rectangle that holds all of `marked` (H, W), which marks at least one pixel."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def box_of(part: Extent, shape: tuple[int, ...]) -> Box:
    """The box of a rectangle in an image of `shape` (H, W, ...)."""
    rows, columns = part
    return Box.from_pixels(columns.start, rows.start, columns.stop, rows.stop, (shape[1], shape[0]))


def patches(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The patches of `marked` (H, W): a number for each pixel, and the area of each number in pixels.

    Pixels whose corners touch belong together. Number 0 is what is not marked, and has area 0.
    """
    labels: Any
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return labels, areas
