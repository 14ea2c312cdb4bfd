"""Images as people give them (paths, PIL images, arrays), made into upright 8-bit RGB pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from migician.boxes import Size
from migician.errors import UserError
from migician.samples.lengths import PIXELS_A_SIDE, Resize, cells, prepared

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Those of training data; not all that Pillow reads, as EPS starts another program."""

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
    """One image as 8-bit RGB, upright by its EXIF tag, transparency on white, shrunk to fit a square of `max_side_px`.

    16-bit grey is scaled to 8 bits (65535 is white); of an animation the first frame counts. Raises `UserError`, naming
    the image as `called`, for a file that is not an image, is cut off or too large, and for arrays that are not uint8:
    whether 1 or 255 means white is never guessed.
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
        raise UserError(f"{called}, {str(path)[:80]}: is an address; download it and give the path of the file")
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
        _load(image)
        # Not by Pillow's own exif_transpose: it writes the EXIF again, and fails where that is damaged.
        way = orientation(image)
        upright = image.transpose(_TURNS[way]) if way in _TURNS else image
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on files cut off or damaged
        raise UserError(f"{called}: damaged or cut off: {error}") from None
    if 0 in upright.size:
        raise UserError(f"{called}: has no pixels ({upright.width} x {upright.height})")
    if upright.mode.startswith("I"):
        return _from_grey16(np.asarray(upright), called)
    if upright.mode == "F":
        raise UserError(f"{called}: holds decimals (mode F); scale it to 0..255 and convert it to mode L first")
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    plain = upright.convert("RGB")
    plain.info = {}  # or the next reader finds the tag and rotates it again
    return plain


def _load(image: Image.Image) -> None:
    """Decode an opened file, a TIFF not through a map of it in memory.

    Pillow 11 to 13 mix up the rows of a TIFF that they map (uncompressed L, P, RGBA, CMYK and 16 bits) and rotate by a
    quarter: they map it by its upright size. A file without a name is not mapped.
    """
    if not isinstance(image, ImageFile.ImageFile):
        image.load()
        return
    name, image.filename = image.filename, ""
    try:
        image.load()
    finally:
        image.filename = name


def _from_grey16(values: NDArray[Any], called: str) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"{called}: whole numbers beyond 16 bits; scale it to 0..255 and convert it to mode L first")
    return Image.fromarray((values.astype(np.float64) / 257 + 0.5).astype(np.uint8)).convert("RGB")


def _from_array(array: NDArray[Any], called: str) -> Image.Image:
    what = f"{called}: array of {array.dtype} with shape {array.shape}"
    if array.dtype != np.uint8:
        fixes = {"f": "(array * 255).round().astype('uint8')", "b": "array.astype('uint8') * 255"}
        fix = fixes.get(array.dtype.kind, "array.astype('uint8')")
        raise UserError(f"{what}; give uint8 from 0 to 255, such as {fix}")
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        raise UserError(f"{what} has its channels first; give array.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise UserError(f"{what}; expected (height, width) or (height, width, 1, 3 or 4)")
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _upright_rgb(Image.fromarray(np.ascontiguousarray(flat)), called)


def upright(opened: Image.Image) -> Size:
    """(width, height) of an opened file after the rotation in its orientation tag."""
    turned = orientation(opened) >= 5  # by a quarter, mirrored or not
    width, height = opened.size
    if turned and opened.format == "TIFF":
        # Pillow 11 gives this size turned already, Pillow 10 as stored: the file's own tags are plain.
        tags: Any = opened.getexif()
        width, height = tags[_WIDTH], tags[_HEIGHT]
    return (height, width) if turned else (width, height)


def read_size(opened: Image.Image) -> Size:
    """(width, height) of the pixels that a trainer gets, which opens a file and does not rotate it."""
    return upright(opened) if opened.format == "TIFF" else opened.size


def orientation(opened: Image.Image) -> int:
    """The EXIF orientation of an opened file, 1 to 8; 1 is upright.

    Pillow rotates a TIFF while loading it and says 1 from then on; it does not rotate other formats. So for all but 1 a
    trainer, which does not rotate, may see other pixels than a model that is asked here.
    """
    if opened.format == "PNG" and _is_bare(opened):
        return 1  # Pillow would decode all of it, because the tag may come after the pixels
    try:
        way = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - what EXIF holds is anyone's guess, and the pixels are sound without it
        return 1
    return int(way) if way in range(1, 9) else 1


def upright_size(image: ImageInput, max_side_px: int | None = None) -> Size:
    """(width, height) of what `load_picture` gives, usually without decoding the pixels of a file."""
    if not isinstance(image, str | Path):
        return load_picture(image, max_side_px=max_side_px).size
    try:
        with Image.open(Path(image).expanduser()) as opened:
            return shrunk(upright(opened), max_side_px)
    except Exception:  # noqa: BLE001 - as above
        return load_picture(image, max_side_px=max_side_px).size  # says what is wrong with it


def shrunk(size: Size, max_side_px: int | None) -> Size:
    """The size at which an image fits a square of `max_side_px`, as Pillow's `thumbnail` shrinks it.

    >>> shrunk((1600, 1001), 800), shrunk((640, 480), 800), shrunk((3, 4000), 800)
    ((800, 501), (640, 480), (1, 800))
    """
    longer, shorter = max(size), min(size)
    if max_side_px is None or longer <= max_side_px:
        return size
    exact = max_side_px * shorter / longer
    # Of the two whole numbers around it the one that keeps the aspect ratio, width to height, better.
    width, height = size
    ratio = width / height

    def off(side: int) -> float:
        return abs(ratio - (max_side_px / side if width >= height else side / max_side_px)) if side else 0

    side = max(1, min(math.floor(exact), math.ceil(exact), key=off))
    return (max_side_px, side) if width >= height else (side, max_side_px)


def _is_bare(opened: Image.Image) -> bool:
    """Whether no part of an opened PNG can hold an orientation; False where that cannot be looked up."""
    stream: Any = getattr(opened, "fp", None)
    if stream is None or not stream.seekable():
        return False
    back = stream.tell()
    try:
        stream.seek(len(_PNG_START))
        while len(head := stream.read(8)) == 8:
            if head[4:] in _PNG_WORDS:
                return False
            stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return True
    finally:
        stream.seek(back)


TRANSPARENT, DEEP, THIN, ROTATED, PALETTE = "transparent", "deep", "thin", "rotated", "palette"
"""Why a trainer sees other pixels in a file than evaluation.

LLaMA-Factory 0.9.5 (data/mm_plugin.py) opens a file, scales what is too large or too small, converts it to RGB, and
stretches what is thinner than a token. So transparency shows the colours beneath it, or black in a scaled image, and
Pillow scales a palette without smoothing. This project puts transparency on white, scales 16 bits to 8, converts first,
and does not stretch. It hands every image over as RGB, because transformers differ: 5.5 drops transparency as a trainer
does, 5.24 puts it on white.
"""


def seen_apart(path: Path, opened: Image.Image) -> str:
    """Why a trainer sees other pixels in an opened file: one of the constants above, empty if it sees the same.

    The header is enough for most files; others are decoded. Raises what Pillow raises for a damaged file.
    """
    is_deep = opened.mode.startswith(("I", "F"))
    is_transparent = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
    turned = orientation(opened) != 1
    scaled = _scaled(read_size(opened))
    if turned and opened.format != "TIFF":
        return ROTATED
    if not (is_deep or is_transparent or turned):
        return PALETTE if scaled and opened.mode in ("1", "P") else ""
    with Image.open(path) as file:
        trained = (file.resize(scaled) if scaled else file).convert("RGB")
    try:
        asked = load_picture(path)
        asked = asked.resize(scaled) if scaled else asked
    except UserError:
        return DEEP if is_deep else ""  # decimals, or damage that the caller sees too
    if trained.size == asked.size and ImageChops.difference(trained, asked).getbbox() is None:
        return ""
    return DEEP if is_deep else TRANSPARENT if is_transparent else ROTATED


def _scaled(size: Size) -> Size | None:
    """The size to which LLaMA-Factory scales an image before it converts it; None where it does not."""
    limits = Resize()
    if limits.image_min_pixels <= size[0] * size[1] <= limits.image_max_pixels:
        return None
    try:
        return prepared(size, limits)
    except ValueError:
        return None


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


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_WORDS = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
"""Chunks in which Pillow looks for an orientation: EXIF itself, or XMP and old profiles as text."""
