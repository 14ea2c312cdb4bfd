"""Images as people give them (paths, PIL images, arrays), made into upright 8-bit RGB pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from migician.errors import UserError

ImageInput = str | Path | Image.Image | NDArray[Any]
"""One image: a path, a PIL image, or an array (height, width), (height, width, 1 | 3 | 4) of uint8."""

ImageInputs = ImageInput | Sequence[ImageInput]


def as_list(images: ImageInputs) -> list[ImageInput]:
    """`images` as a list; a single image is a list of one, an array (N, height, width, 3) a list of N."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | Path | Image.Image):
        return [images]
    return list(images)


def load_pictures(images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Image.Image]:
    """Each image as `load_picture` gives it; an error names the image by its position, from 1."""
    return [
        load_picture(image, f"image {position} of {len(images)}", max_side_px)
        for position, image in enumerate(images, 1)
    ]


def load_picture(image: ImageInput, called: str = "the image", max_side_px: int | None = None) -> Image.Image:
    """One image as an RGB picture of 8 bits, turned upright by its EXIF tag, transparency put on white.

    It is shrunk to fit a square of `max_side_px` if it does not.

    16-bit grey becomes 8-bit by its scale (65535 is white), of animations the first frame is
    taken. Raises `UserError`, naming the image as `called`, for what is no image, is cut off or
    too large, and for arrays that are not uint8: whether 1 or 255 means white is never guessed.
    """
    if isinstance(image, str | Path):
        picture = _read(Path(image).expanduser(), called)
    elif isinstance(image, np.ndarray):
        picture = _from_array(image, called)
    elif isinstance(image, Image.Image):
        picture = _upright_rgb(image, called)
    else:
        raise UserError(f"{called}: {type(image).__name__} is not an image; give a path, a PIL image or a numpy array")
    if max_side_px is not None:
        picture.thumbnail((max_side_px, max_side_px))
    return picture


def _read(path: Path, called: str) -> Image.Image:
    if str(path).startswith(("http:/", "https:/", "data:")):
        raise UserError(f"{called}, {str(path)[:80]}: is an address; download it and give the file's path")
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on and refuses from 179 million: the refusal is enough.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return _upright_rgb(opened, f"{called}, {path}")
    except FileNotFoundError:
        raise UserError(f"{called}, {path}: no such file") from None
    except UnidentifiedImageError:
        raise UserError(f"{called}, {path}: not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UserError(f"{called}, {path}: more than {limit} million pixels; make it smaller first") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{called}, {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _upright_rgb(image: Image.Image, called: str) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:  # a file cut off in its data, or with damaged chunks
        raise UserError(f"{called}: damaged or cut off: {error}") from None
    if 0 in upright.size:
        raise UserError(f"{called}: has no pixels ({upright.width} x {upright.height})")
    if upright.mode.startswith("I"):
        return _from_grey16(np.asarray(upright), called)
    if upright.mode == "F":
        raise UserError(f"{called}: holds decimals (mode F); scale it to 0..255 and convert it to mode L first")
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


def _from_grey16(values: NDArray[Any], called: str) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"{called}: whole numbers beyond 16 bits; scale it to 0..255 and convert it to mode L first")
    return Image.fromarray((values.astype(np.float64) / 257 + 0.5).astype(np.uint8)).convert("RGB")


def _from_array(array: NDArray[Any], called: str) -> Image.Image:
    told = f"{called}: array of {array.dtype} with shape {array.shape}"
    if array.dtype != np.uint8:
        cures = {"f": "(array * 255).round().astype('uint8')", "b": "array.astype('uint8') * 255"}
        cure = cures.get(array.dtype.kind, "array.astype('uint8')")
        raise UserError(f"{told}; give uint8 from 0 to 255, such as {cure}")
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        raise UserError(f"{told} has its channels first; give array.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise UserError(f"{told}; expected (height, width) or (height, width, 1, 3 or 4)")
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _upright_rgb(Image.fromarray(np.ascontiguousarray(flat)), called)


def upright(opened: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened file once it is turned as its EXIF orientation says."""
    turned = opened.getexif().get(_ORIENTATION, 1) >= 5  # by a quarter, mirrored or not
    return (opened.height, opened.width) if turned else opened.size


def upright_size(image: ImageInput) -> tuple[int, int]:
    """(width, height) of what `load_picture` gives, without decoding a file's pixels where that can be helped."""
    if isinstance(image, str | Path):
        try:
            with Image.open(image) as opened:
                return upright(opened)
        except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
            return load_picture(image).size  # says what is wrong with it
    return load_picture(image).size


_ORIENTATION = 0x0112
