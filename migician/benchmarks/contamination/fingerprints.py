"""Fingerprints of pictures: 64 bits that stay nearly the same when a picture is encoded or resized again.

A bit is the sign of one of the 64 lowest frequencies of the picture's brightness (discrete cosine
transform of 32 x 32 means, without the mean itself). Measured on 25 photos of COCO, SA-1B, MOT17
and CLEVR-Change (tests/benchmarks/test_leakage.py): JPEG at quality 20 or 50, half and quarter size, another
aspect ratio change at most 3 bits; two different photos differ in 32 of 64 on the average (standard deviation 4.3,
as 55 independent bits would) and in no pair by less than 17. Against sign-of-difference and
median-of-DCT forms of the same length this had the smallest changes and the smallest deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

VERSION = 1
"""Of the recipe below; kept with stored fingerprints, which are void once it changes."""
NEAR = 5
"""Fingerprints that differ in at most this many bits are of one picture.

Two above the worst re-encoding measured. With 55 independent bits, two different photos come
this near with probability 1e-11: of a million images against MIG-Bench's 5,887, none is
expected to be taken for one of them wrongly (6e9 pairs, 0.06 expected). Frames of one video,
or renderings of one scene, do come this near: they are as good as the same.
"""
ALIKE = 0.97
"""Likeness from which two pictures with near fingerprints are taken for one.

Measured: the re-encodings above 0.993 and more; drawn scenes that share little but their white ground, whose
fingerprints can come near by chance, 0.933; two CLEVR-Change renderings of one scene 0.87.
"""
FLATTEST = 3.0
"""Standard deviation of brightness, of 255, below which a picture is too flat to be distinguished from others."""

_SIDE = 32
# The lowest frequencies in order of their sum; the first, the mean, says nothing of the shapes.
_ROWS, _COLUMNS = np.array(
    sorted(((v, u) for v in range(12) for u in range(12) if u + v), key=lambda f: (f[0] + f[1], f))[:64]
).T


def prepare(picture: Image.Image) -> None:
    """Have a JPEG decoded only as finely as a fingerprint needs; call before it is loaded.

    The whole file is still read, so a file that is cut off is noticed all the same.
    """
    picture.draft("L", (4 * _SIDE, 4 * _SIDE))


def fingerprint(picture: Image.Image) -> int | None:
    """The 64 bits of `picture` as an unsigned integer; None where it is too flat to have any.

    The picture is taken as stored: an EXIF rotation is not applied, and a mirrored or cropped
    picture has another fingerprint.
    """
    from scipy.fft import dctn

    brightness = _brightness(picture)
    if float(brightness.std()) < FLATTEST:
        return None
    signs = dctn(brightness, norm="ortho")[_ROWS, _COLUMNS] > 0
    return int.from_bytes(np.packbits(signs).tobytes(), "big")


def likeness(one: Image.Image, other: Image.Image) -> float:
    """How alike two pictures are, -1..1: the correlation of their brightness in 32 x 32 means."""
    a, b = (_brightness(picture).ravel() for picture in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0


def _brightness(picture: Image.Image) -> NDArray[np.float32]:
    from PIL import Image

    small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def near_pairs(
    wanted: NDArray[np.uint64], known: NDArray[np.uint64], within: int = NEAR
) -> Iterator[tuple[int, int, int]]:
    """(position in `wanted`, position in `known`, bits that differ) of every pair that is near, in order of `wanted`.

    Both are one-dimensional. Every pair is compared, in blocks that stay in a core's cache: 1e6 x
    6e3 took 6 to 17 s of one core on a busy machine.
    """
    block = 1 << 16
    for start in range(0, len(wanted), block):
        part = wanted[start : start + block]
        hits: list[tuple[int, int, int]] = []
        for position, one in enumerate(known):
            bits = _ones(part ^ one)
            if bits.min() <= within:
                found = np.flatnonzero(bits <= within)
                hits.extend((start + int(where), position, int(bits[where])) for where in found)
        yield from sorted(hits)


def _ones_by_table(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits of each value are set, for numpy 1."""
    counts: NDArray[np.uint8] = _TABLE[values.view(np.uint16)].reshape(-1, 4).sum(axis=1, dtype=np.uint8)
    return counts


_TABLE = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)
_ones = np.bitwise_count if hasattr(np, "bitwise_count") else _ones_by_table
