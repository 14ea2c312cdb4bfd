"""How every engine gets its images: upright, RGB, in order, at a known size.

`given_pictures` turns the images of a request into what an engine gets, `given_sizes` gives their sizes. First the
benchmark's limit applies (`max_side_px`), then the engine's own (a `Scaling`); an engine whose processor scales images
has none here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from migician.boxes import TRAINED_PIXELS, Size
from migician.draw import encoded
from migician.models.family import Family
from migician.models.pictures import ImageInput, load_picture, load_pictures, orientation, shrunk, upright_size
from migician.models.protocol import Request
from migician.samples.lengths import cells, processor_settings

Scaling = Callable[[Size], Size]
"""Size of an image -> size at which the engine gets it."""

_SIDE, _MIN_PIXELS = 28, 56 * 56  # Qwen2.5-VL's own
_SENT_AS_IS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}


def given_pictures(request: Request, scaling: Scaling | None = None) -> list[Image.Image]:
    """The images of a request as an engine gets them; raises `UserError` naming one that cannot be read."""
    return [_scaled(picture, scaling) for picture in load_pictures(request.images, request.max_side_px)]


def given_picture(
    image: ImageInput, called: str, max_side_px: int | None = None, scaling: Scaling | None = None
) -> Image.Image:
    """One of them; errors call it `called`."""
    return _scaled(load_picture(image, called, max_side_px), scaling)


def _scaled(picture: Image.Image, scaling: Scaling | None) -> Image.Image:
    size = scaling(picture.size) if scaling else picture.size
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def given_sizes(
    images: Sequence[ImageInput], max_side_px: int | None = None, scaling: Scaling | None = None
) -> list[Size]:
    """(width, height) of what `given_pictures` gives, usually without decoding pixels."""
    sizes = [upright_size(image, max_side_px) for image in images]
    return [scaling(size) for size in sizes] if scaling else sizes


def sent_size(size: Size, family: Family, max_pixels: int | None) -> Size:
    """(width, height) at which an image of `size` is sent to an engine that has no pixel limit: a `Scaling`.

    Shrunk to `max_pixels`, never enlarged. For a family that counts pixels it is a size that Qwen2.5-VL's own resize
    does not change (multiples of 28, by default at most 768 x 768 pixels), so that the pixels in a reply are those of
    the image that was sent.
    """
    width, height = size
    if family.style.scale == "pixel":
        columns, rows = cells(width, height, _MIN_PIXELS, max_pixels or TRAINED_PIXELS, _SIDE)
        return columns * _SIDE, rows * _SIDE
    if max_pixels is None or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def sent_limits(family: Family, max_pixels: int | None) -> dict[str, Any]:
    """The sizes that `sent_size` gives, for a report."""
    if family.style.scale == "pixel":
        most = max_pixels or TRAINED_PIXELS
        sent = f"multiples of {_SIDE}, {_MIN_PIXELS} to {most} pixels"
        return {"min_pixels": _MIN_PIXELS, "max_pixels": most, "sizes_sent": sent}
    sent = "as the files have them" + (f", larger ones shrunk to {max_pixels} pixels" if max_pixels else "")
    return {"min_pixels": None, "max_pixels": max_pixels, "sizes_sent": sent}


def resized(size: Size, processor: Any, frames: int = 1) -> Size:
    """The size to which an image processor of the Qwen family resizes one of `size`: `cells` by its own limits.

    `frames` is the model's family's.
    """
    side, limits = processor.patch_size * processor.merge_size, processor.size
    columns, rows = cells(*size, limits.shortest_edge // frames, limits.longest_edge // frames, side)
    return columns * side, rows * side


def resize_limits(processor: Any, frames: int = 1) -> dict[str, Any]:
    """The sizes that `resized` gives, for a report."""
    side, limits = processor.patch_size * processor.merge_size, processor.size
    least, most = limits.shortest_edge // frames, limits.longest_edge // frames
    sent = f"as the files have them, scaled by the processor to multiples of {side}, {least} to {most} pixels"
    return {"min_pixels": least, "max_pixels": most, "sizes_sent": sent}


def data_url(
    image: ImageInput, called: str = "the image", max_side_px: int | None = None, scaling: Scaling | None = None
) -> str:
    """What `given_picture` gives as a `data:` URL: the bytes of the file if they decode to the same, else a PNG."""
    kept = _own_bytes(image, max_side_px, scaling)
    if kept is not None:
        return as_data_url(*kept)
    return as_data_url("png", encoded(given_picture(image, called, max_side_px, scaling), "PNG", compress_level=1))


def _own_bytes(image: ImageInput, max_side_px: int | None, scaling: Scaling | None) -> tuple[str, bytes] | None:
    """(kind, bytes) of a file that any reader decodes to exactly that picture; None for all others."""
    if not isinstance(image, str | Path):
        return None
    file = Path(image).expanduser()
    try:
        with Image.open(file) as opened:
            kind = _SENT_AS_IS.get(opened.format or "")
            if kind is None or opened.mode != "RGB" or "transparency" in opened.info:
                return None
            if orientation(opened) != 1 or "exif" in opened.info or getattr(opened, "n_frames", 1) != 1:
                return None  # EXIF also says where a photo was taken
            size = shrunk(opened.size, max_side_px)
            if (scaling(size) if scaling else size) != opened.size:
                return None
            opened.load()  # a file that is cut off is refused here, not by the server
        return kind, file.read_bytes()
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged files; `given_picture` says what is wrong
        return None


def as_data_url(kind: str, content: bytes) -> str:
    """The bytes of an image of that kind ("png", "jpeg") as a `data:` URL."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def processor_says(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint's image processor does with sizes, by its file; None without one."""
    said = processor_settings(folder)
    return {key: said[key] for key in _SAID if key in said} if isinstance(said, dict) and said else None


_SAID = ("do_resize", "size", "min_pixels", "max_pixels", "patch_size", "merge_size", "max_slice_nums")
