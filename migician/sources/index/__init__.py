"""A source read once: its scenes in columns on disk, for any number of builds.

An index is a folder: `index.json` (which source, split and root, what was left out and why) and
the columns. It is mapped into memory, so that 25 million boxes cost no more than what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from migician.again import making, stamp
from migician.errors import UserError, unknown
from migician.files import is_file, is_folder, read_json, write_json
from migician.sources import SOURCES, scenes_of
from migician.sources.index.pairs import Pairs, write_pairs
from migician.sources.index.scenes import Scenes, write_scenes
from migician.sources.index.tracks import Tracks, write_tracks
from migician.sources.scenes import ImagePair, Scene, Tally, Track

__all__ = ["Index", "Pairs", "Scenes", "Tracks", "is_index", "make_index", "open_index", "write_index"]

VERSION = 2
_READ_OTHERWISE = ("sa1b", "magicbrush")
"""Their indexes of version 1 do not say which phrases fit one instance alone, and which texts are instructions."""
_KINDS: dict[Any, tuple[Callable[..., int], Callable[[Path, Path], Any]]] = {
    Scene: (write_scenes, lambda folder, _: Scenes(folder)),
    Track: (write_tracks, Tracks),
    ImagePair: (write_pairs, lambda folder, _: Pairs(folder)),
}


class _About(msgspec.Struct, frozen=True):
    """`index.json`."""

    version: int
    source: str
    split: str
    root: str
    count: int
    left_out: dict[str, int]
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """An open index."""

    source: str
    split: str
    root: Path
    """Of the source; paths of images are relative to it."""
    items: Scenes | Tracks | Pairs
    left_out: dict[str, int]
    """Rows of the source that were dropped or fixed, by reason."""


def make_index(
    source: str,
    root: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    images: str | Path | None = None,
    force: bool = False,
) -> Index:
    """Read `source` below `root` into the new folder `out`, which appears whole or not at all, and open it.

    Where `root` is a file of annotations, its images are in the folder `images`, by default the file's own.
    Memory does not grow with the source beyond what its reader needs. Raises `Done` where `out` is this index already,
    `UserError` for an unknown source, an `out` that holds anything else (another index is replaced with `force`), and
    what the reader cannot read.
    """
    if source not in SOURCES:
        raise UserError(unknown("source", source, SOURCES))
    target = Path(out)
    where = str(Path(images).resolve()) if images else None
    settings = {"source": source, "split": split, "root": stamp(root, but=target), "images": where, "version": VERSION}
    with making(target, settings, force=force, mark="index.json") as partial:
        write_index(source, Path(root), partial, split=split, images=images)
    return open_index(target)


def write_index(source: str, root: Path, folder: Path, *, split: str, images: str | Path | None) -> None:
    """Write the files of an index into an empty folder; see `make_index`."""
    left_out = Tally()
    base, scenes = scenes_of(source, root, left_out, split=split, images=Path(images) if images else None)
    write, _ = _KINDS[SOURCES[source].gives]
    count = write(scenes, folder, base)
    about = _About(VERSION, source, split, str(base), count, left_out.counts)
    write_json(folder / "index.json", about)


def is_index(folder: str | Path) -> bool:
    """Whether `folder` is what `make_index` writes."""
    return is_file(Path(folder) / "index.json")


def open_index(folder: str | Path) -> Index:
    """The index in a folder; raises `UserError` for anything else, another version, or a source that has moved."""
    file = Path(folder) / "index.json"
    if not is_index(folder):
        raise UserError(f"{folder}: not an index: there is no {file.name}. Make it with: migician dev index")
    about = read_json(file, _About, "an index of migician (make it with: migician dev index)")
    is_readable = about.version == VERSION or (about.version == 1 and about.source not in _READ_OTHERWISE)
    if not is_readable or about.source not in SOURCES:
        raise UserError(f"{file}: made by another version of migician; make it again with migician index")
    if not is_folder(about.root):
        raise UserError(f"{file}: its source {about.source!r} is no longer at {about.root}; make the index again")
    _, opened = _KINDS[SOURCES[about.source].gives]
    items = opened(Path(folder), Path(about.root))
    if isinstance(items, Tracks) and not len(items.fps):
        items.fps = np.full(len(items), SOURCES[about.source].fps, np.float32)
    return Index(about.source, about.split, Path(about.root), items, about.left_out)
