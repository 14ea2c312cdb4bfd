"""Keeps MIG-Bench's images out of what is built: by name always, by what they show where its images are given.

A sample is asked about when its pictures are known and before they are made, so that no builder has to think
of it and only images of samples are opened. One that is refused is counted, and another takes its place.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.benchmarks.contamination.leakage import Leaks, name_list
from migician.errors import UserError

BY_NAME = "image that MIG-Bench uses"
BY_PICTURE = "image that looks like one that MIG-Bench uses"
_REMEMBERED = 1 << 15
"""Images at most: some megabytes of paths."""


@dataclass(frozen=True, slots=True)
class Decontaminator:
    """What is known of MIG-Bench; the list in this package is enough to know its images by name."""

    mig_bench: Path | None = None
    """Its JSON file: needed with `images`, or if it is neither of the two versions that this package knows."""
    images: Path | None = None
    """The folder that holds MIG-Bench/: each image of a sample is decoded and compared with those in it."""
    state: str = ""
    """What both held when a build began (see `begin`), so that no process reuses what it knew of older files."""

    def __post_init__(self) -> None:
        if self.images and not self.mig_bench:
            raise UserError(f"{self.images}: MIG-Bench's images are of use only with the JSON file that names them")


MIG_BENCH = Decontaminator()
"""Its images by name, as this package knows them: the default."""


class Decontamination(msgspec.Struct, frozen=True):
    """What was left out of a dataset, for its card; the bytes depend on it."""

    left_out: bool = False
    """Whether samples with images of MIG-Bench were."""
    lists: dict[str, str] = {}
    """The sha256 of each of its files whose images are known by name, by the file's name."""
    pictures: int = 0
    """Images of MIG-Bench that others were compared with."""
    by_name_only: int = 0
    """Images of MIG-Bench that they could not be compared with: not there, unreadable, or too flat to compare."""
    fingerprints_sha256: str = ""

    def sentence(self) -> str:
        """The same as text for a card."""
        if not self.left_out:
            return (
                "**Images that MIG-Bench uses were not left out, as was asked for: "
                "a score on MIG-Bench of a model trained on this says nothing.**"
            )
        known = f"known by name, from {', '.join(f'{name} ({sha256[:12]})' for name, sha256 in self.lists.items())}"
        if self.pictures:
            known += f", or by likeness to one of {self.pictures:,} images ({self.by_name_only:,} by name only)"
        return f"Samples with an image that MIG-Bench uses were left out: {known}."


def begin(exclude: Decontaminator | None) -> tuple[Decontaminator | None, Decontamination]:
    """`exclude` made ready for `refuser`, on this machine and others, and what it leaves out; None leaves out nothing.

    Takes the fingerprints of MIG-Bench's images where they are not stored yet. Raises `UserError` for a
    file that is not MIG-Bench's, and where none of the images is there.
    """
    if exclude is None:
        return None, Decontamination()
    lists = {name: file.sha256 for name, file in name_list().files.items()}
    if exclude.mig_bench is None:
        return exclude, Decontamination(True, lists)
    leaks = Leaks.read(exclude.mig_bench, exclude.images)
    sha256 = hashlib.sha256(exclude.mig_bench.read_bytes()).hexdigest()
    if sha256 not in lists.values():
        lists[f"{exclude.mig_bench.name} as given"] = sha256
    about = Decontamination(True, lists)
    if exclude.images is not None:
        prints = hashlib.sha256(msgspec.json.encode(leaks.fingerprints, order="sorted")).hexdigest()
        about = Decontamination(True, lists, len(leaks.fingerprints), leaks.missing + leaks.flat, prints)
    images = exclude.images and exclude.images.resolve()
    return Decontaminator(exclude.mig_bench.resolve(), images, f"{sha256} {about.fingerprints_sha256}"), about


@functools.lru_cache(maxsize=4)
def refuser(exclude: Decontaminator | None, root: str = "") -> Callable[[Sequence[str]], str]:
    """A function of a sample's images, paths below `root`, that says why it must not be made; empty where it may.

    Both checks are remembered: an image may be in many samples, and decoding is slow.
    """
    if exclude is None:
        return lambda images: ""
    leaks = _leaks(exclude)
    by_name = functools.lru_cache(_REMEMBERED)(lambda image: leaks.of(root + image))
    by_picture = functools.lru_cache(_REMEMBERED)(lambda image: leaks.shown_in(root + image))

    def refusal(images: Sequence[str]) -> str:
        if any(map(by_name, images)):
            return BY_NAME
        return BY_PICTURE if leaks.fingerprints and any(map(by_picture, images)) else ""

    return refusal


@functools.lru_cache(maxsize=2)
def _leaks(exclude: Decontaminator) -> Leaks:
    """Read once for all sources; other processes find the fingerprints where the first has stored them."""
    if exclude.mig_bench is None:
        return Leaks.listed()
    return Leaks.read(exclude.mig_bench, exclude.images).with_listed()
