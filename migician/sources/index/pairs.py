"""Image pairs on disk: few enough to be held, slow enough to read (boxes come from pixels) to be kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from migician.boxes import Box
from migician.files import read_lines
from migician.sources.scenes import ImagePair

Corners = tuple[float, float, float, float]


class Pair(msgspec.Struct, frozen=True):
    """An `ImagePair` whose paths are relative to the root of its source."""

    before: str
    after: str
    corners_before: Corners | None
    corners_after: Corners | None
    description: str
    is_instruction: bool = False
    box_shown: bool = False

    @property
    def boxes(self) -> tuple[Box | None, Box | None]:
        """The change in the first and in the second image."""
        first, second = self.corners_before, self.corners_after
        return Box(*first) if first else None, Box(*second) if second else None


def write_pairs(pairs: Iterable[ImagePair], folder: Path, root: Path) -> int:
    """Write `pairs`, whose images lie below `root`, as JSON lines into `folder`; gives how many."""
    count = 0
    with (folder / "pairs.jsonl").open("wb") as stream:
        for pair in pairs:
            kept = Pair(
                pair.before.relative_to(root).as_posix(),
                pair.after.relative_to(root).as_posix(),
                pair.box_before.as_tuple() if pair.box_before else None,
                pair.box_after.as_tuple() if pair.box_after else None,
                pair.description,
                pair.is_instruction,
                pair.box_shown,
            )
            stream.write(msgspec.json.encode(kept) + b"\n")
            count += 1
    return count


class Pairs:
    """The pairs of one source, counted from 0."""

    def __init__(self, folder: Path) -> None:
        self._pairs = list(read_lines(folder / "pairs.jsonl", Pair, "a pair of an index"))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Pair:
        return self._pairs[number]
