"""Images as they are sent to an engine: at a known size, and with every pixel kept."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

from PIL import Image

from migician.boxes import Size
from migician.families import Family
from migician.lengths import cells
from migician.models.pictures import ImageInput, load_picture

_SIDE, _LEAST_PIXELS = 28, 56 * 56  # Qwen2.5-VL's own
_MOST_PIXELS = 768 * 768
_SENT_AS_IS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}


def sent_size(size: Size, family: Family, max_pixels: int | None) -> Size:
    """(width, height) at which an image of `size` is sent.

    Made smaller to `max_pixels`, never larger. For a family that counts pixels it is a size that
    Qwen2.5-VL's own resize leaves alone (multiples of 28, at most 768 x 768 pixels unless said
    otherwise), so that the pixels the engine speaks of are those of the image that was sent.
    """
    width, height = size
    if family.style.scale == "pixel":
        columns, rows = cells(width, height, _LEAST_PIXELS, max_pixels or _MOST_PIXELS, _SIDE)
        return columns * _SIDE, rows * _SIDE
    if max_pixels is None or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def sized(image: ImageInput, family: Family, max_pixels: int | None) -> Image.Image:
    """The picture as it is sent."""
    picture = load_picture(image)
    size = sent_size(picture.size, family, max_pixels)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def data_url(image: ImageInput, family: Family, max_pixels: int | None) -> str:
    """The image as a `data:` URL: a file's own bytes where they say the same, else a PNG of the picture."""
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            kind = _SENT_AS_IS.get(opened.format or "")
            same = opened.mode == "RGB" and not opened.getexif() and "transparency" not in opened.info
            if kind and same and sent_size(opened.size, family, max_pixels) == opened.size:
                return _url(kind, Path(image).read_bytes())
    written = io.BytesIO()
    sized(image, family, max_pixels).save(written, "PNG", compress_level=1)
    return _url("png", written.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
