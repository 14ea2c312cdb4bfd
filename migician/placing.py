"""Makes the images of a dataset: crops are cut, whole images are linked or copied where they are wanted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from migician.boxes import Size
from migician.errors import writing
from migician.models.pictures import orientation, read_size
from migician.tasks.draft import Draft, Picture

# Crops keep the kind of file they are cut from, so that no source is told by its compression.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
}
_KINDS = {".jpeg": ".jpg", ".jpg": ".jpg"}
UNREADABLE = "image that cannot be read"
OTHER_SIZE = "image of another size than its annotation says"
TURNED = "image that its EXIF tag turns"
"""Trainers read it unturned (a TIFF by some versions of Pillow in pieces), models are asked about it upright: no box
can be right for both."""


@dataclass(frozen=True, slots=True)
class Placer:
    """Makes the pictures of one task and source; several processes may do so at once.

    An image keeps its path below the source's root, so names never collide, and one used by many
    samples is there once. A crop has its pixels in its name.
    """

    root: Path
    """The source's folder."""
    data: Path
    """The dataset's folder."""
    place: str
    """Where in it this task and source have their images; paths in the records begin with "./" and this."""
    collect: bool
    """Whether whole images are opened, compared with their annotation and brought into the dataset.

    Where not, `place` is a link to the root, whole images are not touched, and crops lie beside it.
    """
    _looks: dict[str, tuple[Size | None, str]] = field(default_factory=dict)
    """Of whole images: the size, and why one cannot be used whatever its annotation says."""

    def place_all(self, draft: Draft) -> list[str] | str:
        """The paths of a draft's pictures, all of them made; or why there are none."""
        crops: dict[str, list[Picture]] = {}
        for picture in draft.pictures:
            if picture.crop:
                crops.setdefault(picture.image, []).append(picture)
            elif self.collect and (refusal := self._refusal(picture)):
                return refusal
        # Crops come first: they are what can still fail.
        for image, pictures in crops.items():
            if refusal := self._cut(image, pictures):
                return refusal
        if self.collect:
            for picture in draft.pictures:
                if not picture.crop:
                    _link(self.root / picture.image, self.data / self.place / picture.image)
        return [self._name(picture) for picture in draft.pictures]

    def _refusal(self, picture: Picture) -> str:
        if picture.image not in self._looks:
            try:
                with Image.open(self.root / picture.image) as opened:
                    self._looks[picture.image] = read_size(opened), TURNED if orientation(opened) != 1 else ""
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                self._looks[picture.image] = None, UNREADABLE
        size, refusal = self._looks[picture.image]
        return refusal or (OTHER_SIZE if picture.size and size != picture.size else "")

    def _name(self, picture: Picture) -> str:
        if picture.crop is None:
            return f"./{self.place}/{picture.image}"
        path = PurePosixPath(picture.image)
        pixels = "-".join(str(value) for value in picture.crop)
        name = path.with_name(f"{path.stem}-{pixels}{_KINDS.get(path.suffix.lower(), '.png')}")
        return f"./{self.place}{'' if self.collect else '-crops'}/{name}"

    def _cut(self, image: str, pictures: list[Picture]) -> str:
        """Make the crops of one image; gives why not, empty where all is well."""
        try:
            with Image.open(self.root / image) as opened:
                if orientation(opened) != 1:
                    return TURNED
                if pictures[0].size and read_size(opened) != pictures[0].size:
                    return OTHER_SIZE
                opened.load()
                whole = opened if opened.mode == "RGB" else opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return UNREADABLE
        for picture in pictures:
            _save(whole.crop(picture.crop), self.data / self._name(picture))
        return ""


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
        with real.open("rb") as opened, writing(target, durable=False) as stream:
            shutil.copyfileobj(opened, stream)


def _save(image: Image.Image, target: Path) -> None:
    if not target.exists():
        with writing(target, durable=False) as stream:
            image.save(stream, **_OPTIONS[target.suffix])
