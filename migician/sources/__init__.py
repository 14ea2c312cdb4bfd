"""The source datasets: one reader each, all giving scenes, pairs or tracks.

A new source is one module with `read(root, tally, *, split)` and one line in `SOURCES`; annotations of one's own need
neither (`own`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from migician.errors import UserError
from migician.files import is_file, is_folder, status
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
    own,
    sa1b,
    spot_the_diff,
    trackingnet,
)
from migician.sources.scenes import AnyScene, ImagePair, Scene, Tally, Track


@dataclass(frozen=True, slots=True)
class Source:
    """One source dataset."""

    read: Callable[..., Iterator[AnyScene]]
    """`read(root, tally, *, split="train")` or, with `of_file`, `read(images, tally, *, file)`.

    It streams what is there, always in the same order, and counts what it leaves out.
    """
    folder: str
    """Its name in the released layout, below the task family's folder."""
    gives: type[AnyScene]
    terms: str
    """Its licence, for the card; "unverified" where no text of its authors was read."""
    withheld: bool = False
    """Whether its images may not be passed on, so that no public dataset may hold them."""
    fps: float = 0.0
    """Frames per second of its sequences, unless they say otherwise; 0 for other sources."""
    of_file: bool = False
    """Whether its root is a file of annotations, whose images are in a folder given beside it."""
    exhaustive: bool = False
    """Whether all objects of its categories are annotated in every image, so that what has no label there is absent.

    Of one's own annotations that is taken for granted: nothing is asked for as absent unless a build says so.
    """


_OWN = "images and annotations of whoever built it, who may add their terms"

SOURCES: dict[str, Source] = {
    "clevr_change": Source(clevr_change.read, "CLEVR-Change", ImagePair, "its repository states none"),
    "coco": Source(
        coco.read,
        "COCO",
        Scene,
        "annotations CC BY 4.0 (unverified); each image under its own Flickr licence, whose id the annotations give",
        exhaustive=True,
    ),
    "got10k": Source(got10k.read, "GOT-10k", Track, "licence unverified", fps=got10k.FPS),
    "imagenet": Source(imagenet.read, "ImageNet", Scene, "non-commercial research (unverified)"),
    "img_diff": Source(img_diff.read, "Img-Diff", ImagePair, "Apache-2.0, by its card on the Hub"),
    "lasot": Source(lasot.read, "LaSOT", Track, "licence unverified", fps=lasot.FPS),
    "magicbrush": Source(
        magicbrush.read, "MagicBrush", ImagePair, "CC BY 4.0 for train and dev, by its card on the Hub"
    ),
    "mot17": Source(mot17.read, "MOT17", Track, "CC BY-NC-SA 3.0 (unverified)", fps=mot17.FPS),
    "objects365": Source(
        objects365.read,
        "Objects365",
        Scene,
        "annotations CC BY 4.0; images may not be redistributed",
        withheld=True,
        exhaustive=True,
    ),
    "sa1b": Source(sa1b.read, "SA-1B", Scene, "SA-1B Dataset Research License; GranD's phrases: unverified"),
    "spot_the_diff": Source(spot_the_diff.read, "Spot-the-Diff", ImagePair, "its repository states none"),
    "trackingnet": Source(
        trackingnet.read, "TrackingNet", Track, "GPL-3.0, by its card on the Hub", fps=trackingnet.FPS
    ),
    "coco-json": Source(own.read_coco_json, "COCO-JSON", Scene, _OWN, of_file=True, exhaustive=True),
    "jsonl": Source(own.read_json_lines, "JSON-Lines", Scene, _OWN, of_file=True, exhaustive=True),
}


def misplaced(name: str, root: Path) -> str:
    """Why `root` is no root or index of the source `name`, in a few words; empty if it may be one."""
    if SOURCES[name].of_file:
        return "" if status(root) else f"source {name!r}: {root}: no such file of annotations"
    return "" if is_folder(root) else f"source {name!r}: {root} is not a folder"


def scenes_of(
    name: str, root: Path, tally: Tally, *, split: str = "train", images: Path | None = None
) -> tuple[Path, Iterator[AnyScene]]:
    """The folder that the images of a source lie below, and what its reader gives.

    `images` is that folder where the source is a file (without it, the file's own). Raises `UserError` where they are
    not there.
    """
    fault = misplaced(name, root)
    base = ((images or root.parent) if SOURCES[name].of_file else root).resolve()
    if not fault and SOURCES[name].of_file and not is_file(root):
        fault = f"source {name!r}: {root} is no file; give the file of annotations, and --images DIR"
    if not fault and not is_folder(base):
        fault = f"--images {images} is not a folder"
    if fault:
        raise UserError(fault)
    if SOURCES[name].of_file:
        return base, SOURCES[name].read(base, tally, file=root)
    return base, SOURCES[name].read(base, tally, split=split)
