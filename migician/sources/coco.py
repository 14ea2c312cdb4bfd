"""COCO 2017 instances: `annotations/instances_<split>2017.json` with `<split>2017/*.jpg`.

Example: {"image_id": 255917, "category_id": 10, "bbox": [222.62, 217.82, 19.19, 21.11],
"iscrowd": 0, ...}. Source: https://cocodataset.org (annotations CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from migician.sources.formats.cocojson import read_instances
from migician.sources.formats.reading import Listing
from migician.sources.scenes import Scene, Tally


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Scene]:
    """The images of a split (`train` or `val`) with their objects; see `read_instances`.

    Images are looked for in `<split>2017/` and in `images/<split>2017/`.
    """
    listing = Listing()
    folders = [root / f"{split}2017", root / "images" / f"{split}2017"]
    file = root / "annotations" / f"instances_{split}2017.json"
    return read_instances(file, lambda name: listing.first([folder / Path(name).name for folder in folders]), tally)
