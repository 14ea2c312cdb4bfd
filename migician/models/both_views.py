"""Where training and evaluation see different pixels in one image file.

LLaMA-Factory 0.9.5 (data/mm_plugin.py) opens a file, converts it to RGB, and stretches what is thinner than a token.
This project, like transformers and most image readers, puts transparency on white, scales 16 bits to 8, and does not
stretch.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops

from migician.boxes import Size
from migician.errors import UserError
from migician.models.pictures import load_picture, orientation
from migician.samples.lengths import PIXELS_A_SIDE, Resize, cells, prepared

TRANSPARENT, DEEP, THIN, ROTATED = "transparent", "deep", "thin", "rotated"


def seen_apart(path: Path, opened: Image.Image) -> str:
    """Why a trainer sees other pixels in an opened file: one of the constants above, empty if it sees the same.

    The header is enough for most files; others are decoded. Raises what Pillow raises for a damaged file.
    """
    is_deep = opened.mode.startswith(("I", "F"))
    is_transparent = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
    turned = orientation(opened) != 1
    if turned and opened.format != "TIFF":
        return ROTATED
    if not (is_deep or is_transparent or turned):
        return ""
    with Image.open(path) as file:
        trained = file.convert("RGB")
    try:
        asked = load_picture(path)
    except UserError:
        return DEEP if is_deep else ""  # decimals, or damage that the caller sees too
    if trained.size == asked.size and ImageChops.difference(trained, asked).getbbox() is None:
        return ""
    return DEEP if is_deep else TRANSPARENT if is_transparent else ROTATED


def stretched(size: Size, resize: Resize | None = None) -> Size:
    """The size at which both see the same image: its own, unless it is thin.

    >>> stretched((640, 480)), stretched((1000, 10)), stretched((20, 20))
    ((640, 480), (1000, 28), (20, 20))
    """
    resize = resize or Resize()
    if min(size) >= PIXELS_A_SIDE or not min(size):
        return size
    try:
        trained = prepared(size, resize)
    except ValueError:
        return size
    limits = resize.processor_min_pixels, resize.processor_max_pixels
    return trained if cells(*trained, *limits) != cells(*size, *limits) else size


def alike(path: Path) -> Image.Image:
    """An image as evaluation sees it, in a form that a trainer sees the same way; `UserError` if it cannot be read."""
    picture = load_picture(path)
    size = stretched(picture.size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)
