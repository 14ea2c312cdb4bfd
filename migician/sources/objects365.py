"""Objects365, v2 (`zhiyuan_objv2_<split>.json`) or v1 (`objects365_<split>.json`).

Example of v2: {"file_name": "images/v2/patch16/objects365_v2_00900613.jpg", "id": 900613, ...}
with boxes such as {"bbox": [-0.24, 230.94, 153.03, 281.16], "iscrowd": 0, "isfake": 0,
"isreflected": 0, "category_id": 51, ...}: slightly beyond the image, so they are clipped. Of v1:
"objects365_v1_00320532.jpg", in one folder a split. The releases number their categories
differently; names come from the `categories` of the very file read, so they never mix. v2 holds the images
of v1. Source: https://www.objects365.org (annotations CC BY 4.0, images not to be passed on).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from migician.errors import UserError
from migician.sources.formats.cocojson import read_instances
from migician.sources.formats.reading import Listing
from migician.sources.scenes import Scene, Tally

_FILES = ("zhiyuan_objv2_{split}.json", "objects365_{split}.json")
_SPELLING = {
    "bakset": "Basket",
    "ballon": "Balloon",
    "billards": "Billiards",
    "buttefly": "Butterfly",
    "campel": "Camel",
    "dinning table": "Dining Table",
    "extention cord": "Extension Cord",
    "hamimelon": "Hami melon",
    "hotair ballon": "Hot-air balloon",
    "moniter/tv": "Monitor/TV",
    "mushroon": "Mushroom",
    "noddles": "Noodles",
    "table teniis paddle": "Table Tennis paddle",
    "tape measur/ ruler": "Tape Measure/Ruler",
}
"""The names of v2 that are misspelt, in small letters, and what they mean."""


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Scene]:
    """The images of a split (`train` or `val`) with their objects; see `read_instances`.

    The file is looked for in `root`, `annotations/` and `<split>/`, v2 first; images by their last
    two parts (`patchN/<name>`, as the archives unpack) or their name alone, in `<split>/`,
    `images/<split>/`, `images/`, `images/v1|v2/` and `root`. Three images of v2's training set are
    in no archive: a complete copy counts them as "image annotated but missing".
    """
    listing = Listing()
    file = _annotations(root, split, listing)
    folders = [root / split, root / "images" / split, root / "images", root]

    def locate(name: str) -> Path | None:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts:  # never a file from outside of `root`
            return None
        # Texts: paths of a million images take long to make, and mostly the second is where the image lies.
        ends = ("/".join(parts[-2:]), parts[-1])
        return listing.first(
            itertools.chain([f"{root}/{name}"], (f"{place}/{end}" for end in ends for place in folders))
        )

    return read_instances(file, locate, tally, _spelt)


def _spelt(name: str) -> str:
    plain = name.strip()
    return _SPELLING.get(plain.lower(), plain)


def _annotations(root: Path, split: str, listing: Listing) -> Path:
    names = [form.format(split=split) for form in _FILES]
    file = listing.first([folder / name for name in names for folder in (root, root / "annotations", root / split)])
    if file is None:
        raise UserError(f"{root}: holds neither {names[0]} nor {names[1]}, nor do annotations/ and {split}/ in it")
    return file
