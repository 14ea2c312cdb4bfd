"""The one way of images to an engine: upright, RGB, in their order, at a known size, whichever engine it is.

`given_pictures` makes what a request shows into what an engine is given, `given_sizes` says how large that will be.
First the benchmark's limit counts (`max_side_px`), then the engine's own (a `Scaling`); an engine whose processor
scales images by itself has none here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from migician.boxes import Size
from migician.draw import encoded
from migician.files import decoded, is_file
from migician.models.family import Family
from migician.models.pictures import ImageInput, load_picture, orientation, shrunk, upright_size
from migician.models.protocol import Request
from migician.samples.lengths import cells

Scaling = Callable[[Size], Size]
"""The size at which an image of a size is given."""

_SIDE, _LEAST_PIXELS = 28, 56 * 56  # Qwen2.5-VL's own
_MOST_PIXELS = 768 * 768
_SENT_AS_IS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}


def given_pictures(request: Request, scaling: Scaling | None = None) -> list[Image.Image]:
    """The images of a request as an engine is given them; raises `UserError` naming the one that is none."""
    shown = request.images
    return [
        given_picture(image, f"image {position} of {len(shown)}", request.max_side_px, scaling)
        for position, image in enumerate(shown, 1)
    ]


def given_picture(
    image: ImageInput, called: str, max_side_px: int | None = None, scaling: Scaling | None = None
) -> Image.Image:
    """One of them; `called` is what an error calls it."""
    picture = load_picture(image, called, max_side_px)
    size = scaling(picture.size) if scaling else picture.size
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def given_sizes(
    images: Sequence[ImageInput], max_side_px: int | None = None, scaling: Scaling | None = None
) -> list[Size]:
    """(width, height) of what `given_pictures` gives, as far as possible without decoding any pixels."""
    sizes = [upright_size(image, max_side_px) for image in images]
    return [scaling(size) for size in sizes] if scaling else sizes


def sent_size(size: Size, family: Family, max_pixels: int | None) -> Size:
    """(width, height) at which an image of `size` is sent to an engine that hears of no pixel limit: a `Scaling`.

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


def sent_limits(family: Family, max_pixels: int | None) -> dict[str, Any]:
    """What a report says of the sizes that `sent_size` gives."""
    if family.style.scale == "pixel":
        most = max_pixels or _MOST_PIXELS
        told = f"multiples of {_SIDE}, {_LEAST_PIXELS} to {most} pixels"
        return {"min_pixels": _LEAST_PIXELS, "max_pixels": most, "sizes_sent": told}
    told = "as the files have them" + (f", larger ones shrunk to {max_pixels} pixels" if max_pixels else "")
    return {"min_pixels": None, "max_pixels": max_pixels, "sizes_sent": told}


def resized(size: Size, processor: Any) -> Size:
    """What an image processor of the Qwen family makes of an image of `size`: `cells` by its own limits."""
    side, limits = processor.patch_size * processor.merge_size, processor.size
    columns, rows = cells(*size, limits.shortest_edge, limits.longest_edge, side)
    return columns * side, rows * side


def resize_limits(processor: Any) -> dict[str, Any]:
    """What a report says of the sizes that `resized` gives."""
    side, limits = processor.patch_size * processor.merge_size, processor.size
    least, most = limits.shortest_edge, limits.longest_edge
    told = f"as the files have them, scaled by the processor to multiples of {side}, {least} to {most} pixels"
    return {"min_pixels": least, "max_pixels": most, "sizes_sent": told}


def data_url(
    image: ImageInput, called: str = "the image", max_side_px: int | None = None, scaling: Scaling | None = None
) -> str:
    """What `given_picture` gives as a `data:` URL: a file's own bytes where they say the same, else a PNG of it."""
    kept = _own_bytes(image, max_side_px, scaling)
    if kept is not None:
        return as_data_url(*kept)
    return as_data_url("png", encoded(given_picture(image, called, max_side_px, scaling), "PNG", compress_level=1))


def _own_bytes(image: ImageInput, max_side_px: int | None, scaling: Scaling | None) -> tuple[str, bytes] | None:
    """The kind and the bytes of a file that any reader decodes to the very picture; None for all others."""
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
            opened.load()  # what is cut off is not for the server to find out
        return kind, file.read_bytes()
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged files; `given_picture` says what is wrong
        return None


def as_data_url(kind: str, content: bytes) -> str:
    """The bytes of an image of that kind ("png", "jpeg") as a `data:` URL."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def processor_says(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint's image processor will do with the sizes it is given, as its file says; None without one."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        file = folder / name
        content = (decoded(file.read_bytes(), dict[str, Any]) if is_file(file) else None) or {}
        said = content.get("image_processor", content or None)
        if isinstance(said, dict):
            return {key: said[key] for key in _SAID if key in said}
    return None


_SAID = ("do_resize", "size", "min_pixels", "max_pixels", "patch_size", "merge_size", "max_slice_nums")
