"""The source datasets: one reader each, all giving scenes, pairs or tracks.

A new source is one module with `read(root, tally, *, split)` and one line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from migician.scenes import AnyScene, ImagePair, Scene, Tally, Track
from migician.sources import (
    clevr_change,
    coco,
    got10k,
    imagenet,
    img_diff,
    lasot,
    magicbrush,
    mot17,
    objects365,
    sa1b,
    spot_the_diff,
    trackingnet,
)


class Read(Protocol):
    """What every reader does: stream what `root` holds, always in the same order, counting what it leaves out."""

    def __call__(self, root: Path, tally: Tally, *, split: str = "train") -> Iterator[AnyScene]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Source:
    """One source dataset."""

    read: Read
    folder: str
    """Its name in the released layout, below the task family's folder."""
    gives: type[AnyScene]


SOURCES: dict[str, Source] = {
    "clevr_change": Source(clevr_change.read, "CLEVR-Change", ImagePair),
    "coco": Source(coco.read, "COCO", Scene),
    "got10k": Source(got10k.read, "GOT-10k", Track),
    "imagenet": Source(imagenet.read, "ImageNet", Scene),
    "img_diff": Source(img_diff.read, "Img-Diff", ImagePair),
    "lasot": Source(lasot.read, "LaSOT", Track),
    "magicbrush": Source(magicbrush.read, "MagicBrush", ImagePair),
    "mot17": Source(mot17.read, "MOT17", Track),
    "objects365": Source(objects365.read, "Objects365", Scene),
    "sa1b": Source(sa1b.read, "SA-1B", Scene),
    "spot_the_diff": Source(spot_the_diff.read, "Spot-the-Diff", ImagePair),
    "trackingnet": Source(trackingnet.read, "TrackingNet", Track),
}
