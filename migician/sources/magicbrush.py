"""MagicBrush in its folder form: photographs edited in turns, each turn with a mask.

`<split>/edit_sessions.json` holds {"392687": [{"input": "392687-input.png", "mask":
"392687-mask1.png", "output": "392687-output1.png", "instruction": "change the scooter into a
skateboard"}, ...]}, the images lie in `<split>/images/392687/`. Source:
https://github.com/OSU-NLP-Group/MagicBrush (train and dev CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.files import is_file, read_json
from migician.sources.formats.pairs import box_of, extent, patches, pixels, relative
from migician.sources.formats.reading import Listing
from migician.sources.scenes import ImagePair, Tally

_WHITE = 250
_SPECK = 0.02
"""A patch of the mask below this share of the largest one is a slip of the brush."""
_CHANGE = 2.0
"""Mean absolute difference, of 255, below which nothing can be seen to change."""


class _Edit(msgspec.Struct, frozen=True):
    input: str
    mask: str
    output: str
    instruction: str


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[ImagePair]:
    """Input and output of every turn of a split (`train` or `dev`), with the box around the mask.

    The box holds for both images, which are aligned; a mask of another resolution is brought to theirs. Counted and
    left out: turns whose images are missing or differ in size, whose mask is not of the images' shape or marks
    nothing, and where nothing changes inside the box. Raises `UserError` naming the file of what cannot be read, and
    for the split `test`.
    """
    if split == "test":
        raise UserError(
            "magicbrush: split 'test' is refused: its authors ask that it never be redistributed or enter a training "
            "set. Use 'train' or 'dev'"
        )
    file = root / split / "edit_sessions.json"
    if not is_file(file) and any((root / "data").glob("*.parquet")):
        raise UserError(
            f"{root}: holds MagicBrush as parquet, with the images inside; unpack it first: "
            f"python -m migician.sources.formats.magicbrush_parquet {root} {split} {root}"
        )
    sessions = read_json(file, dict[str, list[_Edit]], "MagicBrush sessions")
    listing = Listing()
    present = 0
    for session, turns in sessions.items():
        folder = root / split / "images" / session
        for number, turn in enumerate(turns, start=1):
            if not all(relative(name) for name in (session, turn.input, turn.mask, turn.output)):
                tally.add("name that leads out of the folder")
                continue
            paths = [folder / name for name in (turn.input, turn.mask, turn.output)]
            if not all(listing.holds(path) for path in paths):
                tally.add("turn annotated but an image is missing")
                continue
            present += 1
            before, mask, after = paths
            box = _change(before, mask, after, tally)
            if box:
                name = f"{session}-{number}"
                yield ImagePair(name, before, after, box, box, turn.instruction, is_instruction=True)
    if sessions and not present:
        raise UserError(f"{file}: none of its images are there; they belong in {root / split / 'images'}/<session>/")


def _change(before: Path, mask: Path, after: Path, tally: Tally) -> Box | None:
    first, second, painted = pixels(before), pixels(after), pixels(mask, "RGBA")
    if first.shape[:2] != second.shape[:2]:
        tally.add("images of a turn differ in size")
        return None
    if not _same_shape(painted, first):
        tally.add("mask of another shape than its image")
        return None
    marked = _largest(_marked(painted, first))
    if not marked.any():
        tally.add("mask marks nothing")
        return None
    inside = extent(marked)
    if np.abs(first[inside].astype(np.int16) - second[inside]).mean() < _CHANGE:
        tally.add("nothing changes inside the mask")
        return None
    return box_of(inside, marked.shape)


def _same_shape(mask: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    """Whether one is the other scaled: their sides have one ratio, within a pixel of rounding."""
    (mask_height, mask_width), (height, width) = mask.shape[:2], image.shape[:2]
    return bool(abs(mask_width * height - mask_height * width) <= max(width, height, mask_width, mask_height))


def _marked(mask: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels (H, W) of an image (H, W, 3) a mask (h, w, 4) marks.

    Masks are the image with the region painted white or cut out, or white on black. What is as
    white in the image (a sky) is not painted. Where the mask has another resolution, each pixel of the image gets the
    mask's nearest, and then only what is not white in the image can be known to be painted.
    """
    resized = mask.shape[:2] != image.shape[:2]
    if resized:
        size = image.shape[1], image.shape[0]
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    alpha = mask[..., 3]
    if alpha.min() < 128:
        return np.asarray(alpha < 128)
    white = _is_white(mask)
    rest = mask[~white][:, :3]
    if rest.size and rest.max() < 255 - _WHITE + 1:  # white on black
        return white
    return white & (~_is_white(image) if resized else (mask[..., :3] != image).any(axis=2))


def _is_white(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((pixels[..., :3] >= _WHITE).all(axis=2))


def _largest(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`marked` (H, W) without its specks."""
    labels, areas = patches(marked)
    return np.asarray((areas >= _SPECK * areas.max())[labels] & marked)
