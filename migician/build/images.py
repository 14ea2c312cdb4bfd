"""Makes the images of a dataset: crops are cut, whole images are linked or copied on request."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from migician.boxes import Size
from migician.draw import encoded
from migician.errors import UserError, writing
from migician.models.pictures import alike, load_picture, orientation, read_size, seen_apart, stretched
from migician.sources.formats.reading import OTHER_SIZE, UNREADABLE
from migician.tasks.draft import Draft, Picture

# Crops keep the file type of their source, so that their compression does not give the source away.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"kind": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"kind": "PNG"},
}
_KINDS = {".jpeg": ".jpg", ".jpg": ".jpg"}
TURNED = "image that its EXIF tag turns"
"""Trainers read it unturned (some versions of Pillow turn TIFFs), models see it upright: no box fits both."""
_REMEMBERED = 8192
"""Maximum of images whose sizes are kept: more than MOT17 has, where many objects share a frame."""


class _WholeLook(NamedTuple):
    """What is known of a whole image."""

    size: Size | None
    refusal: str
    """Why it cannot be used, regardless of its annotation."""
    apart: bool
    """Whether training and evaluation would see it differently."""


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

    What a trainer would see otherwise than an evaluation is written so that both see the same: on white, with 8 bits,
    and no thinner than a token. Where not, `place` is a link to the root, whole images are not touched, and crops lie
    beside it.
    """
    measure: bool = False
    """Whether whole images are compared with their annotation even where they are not collected."""
    _looks: dict[str, _WholeLook] = field(default_factory=dict)

    def place_all(self, draft: Draft) -> list[str] | str:
        """The paths of a draft's pictures, all of them made; or why there are none."""
        crops: dict[str, list[Picture]] = {}
        for picture in draft.pictures:
            if picture.crop:
                crops.setdefault(picture.image, []).append(picture)
            elif self.collect or self.measure:
                look = self._look(picture.image)
                if look.refusal or (picture.size and look.size != picture.size):
                    return look.refusal or OTHER_SIZE
        # Crops come first: they are what can still fail.
        for image, pictures in crops.items():
            if refusal := self._cut(image, pictures):
                return refusal
        if self.collect:
            for picture in draft.pictures:
                if not picture.crop:
                    self._bring(picture)
        return [self._name(picture) for picture in draft.pictures]

    def _look(self, image: str) -> _WholeLook:
        if image not in self._looks:
            if len(self._looks) >= _REMEMBERED:
                self._looks.clear()
            path = self.root / image
            try:
                with Image.open(path) as opened:
                    # Decimals have no scale that could be known.
                    refusal = UNREADABLE if opened.mode == "F" else TURNED if orientation(opened) != 1 else ""
                    size = read_size(opened)
                    apart = self.collect and not refusal and bool(stretched(size) != size or seen_apart(path, opened))
                    self._looks[image] = _WholeLook(size, refusal, apart)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                self._looks[image] = _WholeLook(None, UNREADABLE, False)
        return self._looks[image]

    def _bring(self, picture: Picture) -> None:
        """The whole image into the dataset: the file as it is, or what both see alike."""
        target = self.data / self._name(picture)
        if not self._look(picture.image).apart:
            _link(self.root / picture.image, target)
        elif not target.exists():
            _save(alike(self.root / picture.image), target)

    def _name(self, picture: Picture) -> str:
        if picture.crop is None:
            # What is written again has a kind of file that loses nothing.
            again = self.collect and self._look(picture.image).apart and not picture.image.lower().endswith(".png")
            return f"./{self.place}/{picture.image}{'.png' if again else ''}"
        path = PurePosixPath(picture.image)
        pixels = "-".join(str(value) for value in picture.crop)
        name = path.with_name(f"{path.stem}-{pixels}{_KINDS.get(path.suffix.lower(), '.png')}")
        return f"./{self.place}{'' if self.collect else '-crops'}/{name}"

    def _cut(self, image: str, pictures: list[Picture]) -> str:
        """Make the crops of one image; the reason where that fails, else empty."""
        try:
            with Image.open(self.root / image) as opened:
                if orientation(opened) != 1:
                    return TURNED
                if pictures[0].size and read_size(opened) != pictures[0].size:
                    return OTHER_SIZE
                if self.collect and seen_apart(self.root / image, opened):
                    whole = load_picture(self.root / image)
                else:
                    opened.load()
                    whole = opened if opened.mode == "RGB" else opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, UserError):
            return UNREADABLE
        for picture in pictures:
            crop = whole.crop(picture.crop)
            size = stretched(crop.size) if self.collect else crop.size
            crop = crop if size == crop.size else crop.resize(size, Image.Resampling.BICUBIC)
            _save(crop, self.data / self._name(picture))
        return ""


def _link(source: Path, target: Path) -> None:
    """Make a hard link to the file where the disk allows it, else a copy."""
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
            stream.write(encoded(image, **_OPTIONS[target.suffix.lower()]))
