"""Every image a dataset names, looked at once, by several processes."""

from __future__ import annotations

import multiprocessing
import stat
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from migician.benchmarks.contamination.fingerprints import fingerprint, prepare
from migician.errors import UserError
from migician.files import status
from migician.models.both_views import ROTATED, seen_apart
from migician.models.pictures import FORMATS, orientation, read_size

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Look:
    """What one image is."""

    fault: str = ""
    """A key of `findings.KINDS`; empty for a sound image."""
    value: str = ""
    width: int = 0
    height: int = 0
    """In pixels as a trainer reads them; 0 where they could not be read."""
    rotation: int = 1
    """EXIF's; 1 is upright."""
    apart: str = ""
    """Why an evaluation sees other pixels than a trainer, a key of `findings.KINDS`; empty where it does not."""
    fingerprint: int | None = None


@dataclass(frozen=True, slots=True)
class Care:
    """How closely to look."""

    quick: bool = False
    """Headers only: a file that is cut off passes."""
    fingerprints: bool = False


def look(path: Path, care: Care) -> Look:
    """What is at `path`; never raises for a bad file."""
    try:
        if (found := status(path)) is None:
            return Look("missing")
        if not stat.S_ISREG(found.st_mode):  # opening a pipe waits for its other end
            return Look("unreadable", "no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _opened(path, picture, care)
    except FileNotFoundError:
        return Look("missing")
    except Image.DecompressionBombError as error:
        return Look("bomb", str(error))
    except UnidentifiedImageError:
        return Look("unreadable", f"none of {', '.join(FORMATS)}")
    except (OSError, ValueError, SyntaxError) as error:
        return Look("unreadable", str(error))


def _opened(path: Path, picture: Image.Image, care: Care) -> Look:
    width, height = read_size(picture)
    if width * height > (Image.MAX_IMAGE_PIXELS or width * height):
        return Look("bomb", f"{width} x {height} pixels", width, height)
    rotation = orientation(picture)
    if care.quick:
        # Of a TIFF only its pixels tell, which Pillow turns.
        return Look("", "", width, height, rotation, ROTATED if rotation != 1 and picture.format != "TIFF" else "")
    try:
        apart = seen_apart(path, picture)
        # The whole file is decoded, a JPEG in grey and small: that notices the same faults in half the time.
        prepare(picture)
        picture.load()
        taken = fingerprint(picture) if care.fingerprints else None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
        return Look("truncated", str(error), width, height, rotation)
    return Look("", "", width, height, rotation, apart, taken)


def look_at_all(root: Path, names: Sequence[str], care: Care, workers: int) -> Iterator[Look]:
    """A look at each of `names` below `root`, in their order; `workers` processes, none but this one where it is 1.

    Raises `UserError` where the system kills a worker.
    """
    batches = (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))
    if workers <= 1 or len(names) <= _BATCH:
        for batch in batches:
            yield from _look_at(root, batch, care)
        return
    waiting: deque[Future[list[Look]]] = deque()
    # Not forked: this process has threads, a progress bar's and a tokenizer's.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(_look_at, root, batch, care))
                if len(waiting) > 4 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a process that reads images was killed, likely for want of memory; try --workers 1 or --quick"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _look_at(root: Path, names: Sequence[str], care: Care) -> list[Look]:
    return [look(root / name, care) for name in names]
