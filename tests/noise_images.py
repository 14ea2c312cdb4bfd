"""Images of noise, and the tag that says which way one is up."""

from __future__ import annotations

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def tagged(way: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = way
    return exif
