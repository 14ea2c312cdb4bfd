"""Every image of a dataset, looked at once, by several processes."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from migician.benchmarks.contamination.fingerprints import fingerprint, prepare
from migician.files import status
from migician.models.pictures import FORMATS, ROTATED, orientation, read_size, seen_apart
from migician.workers import in_processes

_BATCH = 64


@dataclass(frozen=True, slots=True)
class ImageLook:
    """What was found in one image file."""

    fault: str = ""
    """A key of `findings.KINDS`; empty for a valid image."""
    value: str = ""
    width: int = 0
    height: int = 0
    """In pixels as a trainer reads them; 0 if unknown."""
    rotation: int = 1
    """EXIF's; 1 is upright."""
    apart: str = ""
    """Why evaluation sees other pixels than a trainer, a key of `findings.KINDS`; empty if it does not."""
    fingerprint: int | None = None


def look(path: Path, *, quick: bool = False, fingerprints: bool = False) -> ImageLook:
    """What is at `path`; never raises for a bad file.

    `quick` reads the header only: a file that is cut off passes. `fingerprints` takes one of the image.
    """
    try:
        if (found := status(path)) is None:
            return ImageLook("missing")
        if not stat.S_ISREG(found.st_mode):  # opening a pipe waits for its other end
            return ImageLook("unreadable", "not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _opened(path, picture, quick, fingerprints)
    except FileNotFoundError:
        return ImageLook("missing")
    except Image.DecompressionBombError as error:
        return ImageLook("bomb", str(error))
    except UnidentifiedImageError:
        return ImageLook("unreadable", f"none of {', '.join(FORMATS)}")
    except (OSError, ValueError, SyntaxError) as error:
        return ImageLook("unreadable", str(error))


def _opened(path: Path, picture: Image.Image, quick: bool, fingerprints: bool) -> ImageLook:
    width, height = read_size(picture)
    if width * height > (Image.MAX_IMAGE_PIXELS or width * height):
        return ImageLook("bomb", f"{width} x {height} pixels", width, height)
    rotation = orientation(picture)
    if quick:
        # Pillow rotates a TIFF, so only its pixels would show a difference.
        return ImageLook("", "", width, height, rotation, ROTATED if rotation != 1 and picture.format != "TIFF" else "")
    try:
        apart = seen_apart(path, picture)
        # The whole file is decoded, a JPEG in grey and small, which finds the same faults in half the time.
        prepare(picture)
        picture.load()
        taken = fingerprint(picture) if fingerprints else None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
        return ImageLook("truncated", str(error), width, height, rotation)
    return ImageLook("", "", width, height, rotation, apart, taken)


def look_at_all(
    root: Path, names: Sequence[str], workers: int, *, quick: bool = False, fingerprints: bool = False
) -> Iterator[ImageLook]:
    """A look at each of `names` in `root`, in order, by `workers` processes; 1 is this process.

    Raises `UserError` if the system kills a worker.
    """
    batches = (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))
    work = partial(_look_at, root, quick, fingerprints)
    with in_processes(workers if len(names) > _BATCH else 1) as pool:
        for looks in pool(work, batches):
            yield from looks


def _look_at(root: Path, quick: bool, fingerprints: bool, names: Sequence[str]) -> list[ImageLook]:
    return [look(root / name, quick=quick, fingerprints=fingerprints) for name in names]
