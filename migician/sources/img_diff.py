"""Img-Diff: generated pairs of photographs in which one object was replaced or removed.

`img_diff_object_replacement.json` and `img_diff_object_removal.json` are lists of {"path":
"./filtered_new_edit_data/2_2311_0", "bbox": "[0.86, 0.41, 0.98, 0.54]", "captions1": "The front of a
truck.", "captions2": "A yellow tractor.", "conversations": [...]}; the images are `path` + `_0.jpg` and
`_1.jpg`. A box is x1 y1 x2 y2 in fractions with two decimals, a text in the one file and a list in the
other, and holds for both images. Removals have no captions; a conversation asks which image holds
the object. Source: https://huggingface.co/datasets/datajuicer/Img-Diff (Apache-2.0).

**The released images have the box drawn on them in red.** Asked where they differ, a model need only find
the frame. So every pair is looked at, and one with a red frame along its box is marked `box_shown`: the
difference task leaves it out and counts it, unless its setting `boxes_shown` says to use it as
published. Pairs made again without the frame (by the dataset's own generator) are used like any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box
from migician.errors import UserError
from migician.files import is_file, read_json
from migician.sources.formats.pairs import pixels, relative
from migician.sources.formats.reading import Listing
from migician.sources.scenes import ImagePair, Tally

_KINDS = {"replacement": "filtered_new_edit_data", "removal": "inpaint"}
"""The two halves of the dataset, and the folder that the paths of each begin with."""

_RED = 40
"""How much more red than green and blue a frame is, of 255. Pure red is 255 more; of a line of two pixels a JPEG's
coarse colours leave about half, less on a blue or green ground."""
_ROUNDING = 0.005
"""Furthest a drawn frame lies from a box of two decimals, as a fraction of the image."""
_LINE_PX = 2
"""And for pixels being whole; a thick line reaches over this place, in whichever direction it is drawn."""
_THICK_PX = 4
"""Width that a line may have and still be compared with what lies beside it, not with itself."""
_DRAWN = 0.5
"""Share of the box's outline that is red where it was drawn. Measured on patches of random colours as JPEGs: lines of
two or more pixels 0.84 to 1, of one pixel 0.42 to 0.98, no line 0 to 0.39."""


class _Message(msgspec.Struct, frozen=True):
    value: str


class _Record(msgspec.Struct, frozen=True):
    path: str
    bbox: str | list[float]
    captions1: str = ""
    captions2: str = ""
    conversations: list[_Message] = []


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[ImagePair]:
    """The pairs of both files, replacements first, marked where the box is drawn on the images.

    One file may be missing. Images are looked for at their path and by its last part, in `root`,
    `object_<kind>/` and the folder that paths begin with. Counted and left out: pairs whose images
    are missing or differ in size, with a box that is no box within the image, several records of one pair
    (each box is then only a part of the difference), and paths that lead out of `root`. Raises
    `UserError` naming the file of what cannot be read, for another split than `train` (there is one), and if no
    record file or no image is there.
    """
    if split != "train":
        raise UserError(f"img_diff: has no split {split!r}. Use 'train', which is all of it")
    files = {kind: root / f"img_diff_object_{kind}.json" for kind in _KINDS}
    present = {kind: file for kind, file in files.items() if is_file(file)}
    if not present:
        raise UserError(f"{root}: holds neither {files['replacement'].name} nor {files['removal'].name}")
    listing = Listing()
    looked = found = 0
    for kind, file in present.items():
        for record, place in _usable(read_json(file, list[_Record], "records of Img-Diff"), tally):
            looked += 1
            images = _images(root, kind, place, listing)
            if images is None:
                tally.add("pair with an image missing")
                continue
            found += 1
            pair = _pair(f"{kind}-{place.name}", record, *images, tally)
            if pair:
                yield pair
    if looked and not found:
        raise UserError(f"{root}: none of the images of its {looked} pairs are there; unpack object_<kind>.zip in it")


def _usable(records: list[_Record], tally: Tally) -> Iterator[tuple[_Record, PurePosixPath]]:
    """The records whose path is safe and names a pair that no other names, with this path."""
    uses = Counter(record.path for record in records)
    for record in records:
        place = relative(record.path)
        if uses[record.path] > 1:
            tally.add("pair with several boxes")
        elif place is None:
            tally.add("path that leads out of the folder")
        else:
            yield record, place


def _images(root: Path, kind: str, place: PurePosixPath, listing: Listing) -> tuple[Path, Path] | None:
    tops = [root, root / f"object_{kind}"]
    folders = [*tops, *(top / _KINDS[kind] for top in tops)]
    stems = [top / place for top in tops] + [folder / place.name for folder in folders]
    for stem in stems:
        before, after = stem.with_name(f"{stem.name}_0.jpg"), stem.with_name(f"{stem.name}_1.jpg")
        if listing.holds(before) and listing.holds(after):
            return before, after
    return None


def _pair(name: str, record: _Record, before: Path, after: Path, tally: Tally) -> ImagePair | None:
    box = _box(record.bbox)
    if box is None or not box.is_proper:
        tally.add("box that is not x1, y1, x2, y2 within the image")
        return None
    first, second = pixels(before), pixels(after)
    if first.shape != second.shape:
        tally.add("images of a pair differ in size")
        return None
    shown = is_framed(first, box) or is_framed(second, box)
    return ImagePair(name, before, after, box, box, _description(record), box_shown=shown)


def _box(written: str | list[float]) -> Box | None:
    try:
        if isinstance(written, str):
            return Box(*msgspec.json.decode(written, type=tuple[float, float, float, float]))
        return Box(*msgspec.convert(written, tuple[float, float, float, float]))
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def is_framed(image: NDArray[np.uint8], box: Box) -> bool:
    """Whether a red frame is drawn along `box` on an image (H, W, 3), give or take the rounding of the box.

    Lines of two pixels or more are found; of one pixel most are, for a JPEG leaves little of their colour. A frame that
    nothing sets off from red surroundings is not found, and shows nothing. Sides along the image's border are not
    asked for: a frame there may lie outside. A red object that fills its box on all sides counts as a
    frame too; better a pair lost than an answer shown.
    """
    values = image.astype(np.int16)
    redness = values[..., 0] - values[..., 1:].max(axis=2)
    across, down = (box.x1, box.x2), (box.y1, box.y2)
    sides = [
        _side(redness, box.y1, across),
        _side(redness[::-1], 1 - box.y2, across),
        _side(redness.T, box.x1, down),
        _side(redness.T[::-1], 1 - box.x2, down),
    ]
    length = sum(size for _, size in sides)
    return length > 0 and sum(share * size for share, size in sides) / length >= _DRAWN


def _side(redness: NDArray[np.int16], top: float, along: tuple[float, float]) -> tuple[float, int]:
    """Of the upper side of a box: the share that is red in the row near it where most is, and its length in pixels.

    `redness` is (H, W), `top` where the side lies, `along` where it begins and ends, in fractions. The
    length is 0 where the side lies on the image's border. Red is what is redder than what lies above the box.
    """
    height, width = redness.shape
    reach = _ROUNDING * height + _LINE_PX
    begin, end = round(along[0] * width), round(along[1] * width)
    if not (reach <= top * height <= height - reach and end > begin):
        return 0.0, 0
    rows = np.arange(int(top * height - reach), int(top * height + reach) + 1)
    above = (rows - round(2 * reach) - _THICK_PX).clip(0)
    near = redness[rows, begin:end]
    red = (near >= _RED) & (near - redness[above, begin:end] >= _RED)
    return float(red.mean(axis=1).max()), end - begin


_OBJECT = re.compile(r'related to "([^"]+)"')


def _description(record: _Record) -> str:
    """What changed: from the captions, or from the question which image holds an object and its answer."""
    if record.captions1 and record.captions2:
        return f"{_phrase(record.captions1)} becomes {_phrase(record.captions2)}"
    if len(record.conversations) < 2:
        return ""
    question, letter = record.conversations[0].value, record.conversations[1].value.strip(" .()")
    named = _OBJECT.search(question)
    option = re.search(rf"^{re.escape(letter)}\. the (left|right) image", question, re.MULTILINE) if letter else None
    if not (named and option):
        return ""
    return f"{_phrase(named[1])} is {'gone' if option[1] == 'left' else 'new'}"


def _phrase(caption: str) -> str:
    """A caption as a part of a sentence.

    >>> _phrase("A yellow tractor."), _phrase("TV on a wall")
    ('a yellow tractor', 'TV on a wall')
    """
    text = caption.strip().rstrip(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
