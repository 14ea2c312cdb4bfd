"""The source datasets: one reader each, all giving scenes, pairs or tracks.

A new source is one module with `read(root, tally, *, split)` and one line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from migician.scenes import AnyScene, ImagePair, Scene, Tally, Track
from migician.sources import coco, got10k, magicbrush, objects365


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
    "coco": Source(coco.read, "COCO", Scene),
    "got10k": Source(got10k.read, "GOT-10k", Track),
    "magicbrush": Source(magicbrush.read, "MagicBrush", ImagePair),
    "objects365": Source(objects365.read, "Objects365", Scene),
}
