"""Makes the images of a dataset: whole ones are linked or copied from the source, crops are cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from migician.boxes import Size
from migician.tasks.draft import Draft, Picture

# Crops keep the kind of file they are cut from, so that no source is told by its compression.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
}
_KINDS = {".jpeg": ".jpg", ".jpg": ".jpg"}


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a draft's pictures: their paths for the record, or why there are none."""

    paths: tuple[str, ...] = ()
    refusal: str = ""


class Placer:
    """Makes the pictures of one task and source; may be used by several threads at once.

    `root` is the source's folder, `folder` where the images go, `prefix` what their paths begin
    with in the records. An image keeps its path below `root`, so names never collide, and one
    used by many samples is there once. A crop has its pixels in its name.
    """

    def __init__(self, root: Path, folder: Path, prefix: str) -> None:
        self._root = root
        self._folder = folder
        self._prefix = prefix
        self._sizes: dict[Path, Size | None] = {}

    def place(self, draft: Draft) -> Placed:
        """Make all pictures of `draft`, or none where one cannot be had."""
        for picture in draft.pictures:
            size = self._size(picture.image)
            if size is None:
                return Placed(refusal="image that cannot be read")
            if picture.size and size != picture.size:
                return Placed(refusal="image of another size than its annotation says")
        # Crops come first: they are what can still fail, for want of a whole file.
        if not self._cut([picture for picture in draft.pictures if picture.crop]):
            return Placed(refusal="image that cannot be read")
        for picture in draft.pictures:
            if not picture.crop:
                _link(picture.image, self._folder / self._name(picture))
        return Placed(tuple(f"{self._prefix}/{self._name(picture).as_posix()}" for picture in draft.pictures))

    def _size(self, image: Path) -> Size | None:
        if image not in self._sizes:
            try:
                with Image.open(image) as opened:
                    self._sizes[image] = opened.size
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                self._sizes[image] = None
        return self._sizes[image]

    def _name(self, picture: Picture) -> Path:
        relative = picture.image.relative_to(self._root)
        if picture.crop is None:
            return relative
        pixels = "-".join(str(value) for value in picture.crop)
        return relative.with_name(f"{relative.stem}-{pixels}{_kind(relative)}")

    def _cut(self, pictures: list[Picture]) -> bool:
        """Whether all crops, which are of few images, could be made."""
        for image in {picture.image: None for picture in pictures}:
            try:
                with Image.open(image) as opened:
                    whole = opened.convert("RGB")
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                return False
            for picture in pictures:
                if picture.image == image:
                    _save(whole.crop(picture.crop), self._folder / self._name(picture))
        return True


def _kind(image: Path) -> str:
    return _KINDS.get(image.suffix.lower(), ".png")


def _link(source: Path, target: Path) -> None:
    """A second name for the file where the disk allows it, else a copy."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    try:
        os.link(real, target)
    except FileExistsError:
        return
    except OSError:
        with _appearing(target) as partial:
            shutil.copyfile(real, partial)


def _save(image: Image.Image, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _appearing(target) as partial:
        image.save(partial, **_OPTIONS[target.suffix])


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A path that becomes `target` when complete: another thread may look at the same moment."""
    handle, name = tempfile.mkstemp(suffix=".part", dir=target.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
