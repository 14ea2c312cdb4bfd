"""Which images MIG-Bench uses, so that no training set holds one: by name, and by what they show.

By name (see `image_keys`), since a builder can ask it of every image at no cost and without the benchmark: a list
of what its names come to is part of this package. By what they show, since copies get other names: near
fingerprints first, then a look at both (see `fingerprints`).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np

from migician.benchmarks.contamination.fingerprints import (
    ALIKE,
    NEAR,
    VERSION,
    fingerprint,
    likeness,
    near_pairs,
    prepare,
)
from migician.benchmarks.contamination.image_keys import benchmark_keys, digest, keys_of
from migician.benchmarks.images import find_image
from migician.errors import NOT_JSON, UserError, writing
from migician.files import decode, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIST = Path(__file__).with_name("mig_bench_images.json")
_DIGEST = 8
"""Bytes of one."""


class Listed(msgspec.Struct, frozen=True):
    """One of the benchmark's files whose images are in the list."""

    sha256: str
    images: int


class NameList(msgspec.Struct, frozen=True):
    """What the names of the benchmark's images come to, without the names."""

    files: dict[str, Listed]
    digests: bytes
    """Of every key (see `image_keys.digest`), sorted and joined."""


class _QuestionImages(msgspec.Struct):
    images: list[str]


class _Known(msgspec.Struct):
    """A stored fingerprint, and the file it was taken of."""

    bytes: int
    changed_ns: int
    fingerprint: int | None


class _Store(msgspec.Struct):
    version: int
    images: dict[str, _Known]


@dataclass(frozen=True, slots=True)
class Leaks:
    """The images of a benchmark, to be asked about others.

    >>> leaks = Leaks.named(["./MIG-Bench/images/group_grounding/sa_6136360.jpg"])
    >>> leaks.of("SA-1B/sa_000012/sa_6136360.jpg")
    './MIG-Bench/images/group_grounding/sa_6136360.jpg'
    >>> leaks.of("sa_61363.jpg") is None
    True
    """

    names: tuple[str, ...]
    """As the benchmark's file has them, each once."""
    root: Path | None = None
    """Where its images lie; None where only names are known."""
    fingerprints: dict[str, int] = field(default_factory=dict)
    """By name; empty where only names are compared."""
    missing: int = 0
    """Images that were not below the root given for them, or could not be read: compared by name only."""
    flat: int = 0
    """Images too flat for a fingerprint."""
    _keys: dict[bytes, str] = field(default_factory=dict)

    @classmethod
    def named(cls, names: Sequence[str]) -> Self:
        """What leaks where only the names of a benchmark's images are known."""
        distinct = tuple(dict.fromkeys(names))
        keys: dict[bytes, str] = {}
        for name in distinct:
            for key in benchmark_keys(name):
                keys.setdefault(digest(key), name)
        return cls(distinct, _keys=keys)

    @classmethod
    def listed(cls) -> Self:
        """What leaks by the list that comes with this package: it knows the images, but cannot name the benchmark's."""
        digests = name_list().digests
        keys = [digests[at : at + _DIGEST] for at in range(0, len(digests), _DIGEST)]
        return cls((), _keys=dict.fromkeys(keys, "an image of MIG-Bench"))

    def with_listed(self) -> Self:
        """These, and what the list of this package recognises beside them."""
        return replace(self, _keys={**self.listed()._keys, **self._keys})

    @classmethod
    def read(cls, data: str | Path, images: str | Path | None = None, store: Path | None = None) -> Self:
        """What leaks by the JSON file of MIG-Bench (either form), and with `images`, its root, by what is shown.

        Fingerprints are kept in `store` (by default below the user's cache folder) and taken
        again only of files that changed. Raises `UserError` where `data` is no list of records
        with images, or where none of the images is below `images`.
        """
        file = Path(data)
        content, names = names_in(file)
        leaks = cls.named(names)
        if images is None:
            return leaks
        kept = store or _cache_file(content)
        known, missing = _fingerprints(leaks.names, Path(images), kept)
        if leaks.names and missing == len(leaks.names):
            raise UserError(
                f"{images}: none of the {len(leaks.names)} images of {file} is there, such as {leaks.names[0]}; "
                "give the folder that holds MIG-Bench/"
            )
        prints = {name: one.fingerprint for name, one in known.items() if one.fingerprint is not None}
        flat = len(known) - len(prints)
        return cls(leaks.names, Path(images), prints, missing, flat, leaks._keys)

    def of(self, path: str | Path) -> str | None:
        """The benchmark's image that `path` is by its name, None for an image it does not use: some microseconds."""
        for key in keys_of(str(path)):
            name = self._keys.get(digest(key))
            if name is not None:
                return name
        return None

    def shown_in(self, path: str | Path) -> str | None:
        """The benchmark's image that the file at `path` shows, whatever its name; None also for what is no image.

        Costs decoding the image, and about a millisecond.
        """
        from PIL import Image

        try:
            with Image.open(path) as picture:
                prepare(picture)
                taken = fingerprint(picture)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        if taken is None:
            return None
        near = self.near(np.array([taken], np.uint64))
        return self.confirmed(path, near[0]) if near else None

    def near(self, fingerprints: NDArray[np.uint64]) -> dict[int, list[str]]:
        """The benchmark's images with a fingerprint near one of `fingerprints`, nearest first, by position there."""
        names = list(self.fingerprints)
        known = np.fromiter(self.fingerprints.values(), dtype=np.uint64, count=len(names))
        # The longer side is gone through at once, the shorter one by one.
        if len(known) > len(fingerprints):
            near = [(position, image, bits) for image, position, bits in near_pairs(known, fingerprints, NEAR)]
        else:
            near = list(near_pairs(fingerprints, known, NEAR))
        pairs = sorted(near, key=lambda pair: (pair[0], pair[2], pair[1]))
        found: dict[int, list[str]] = {}
        for position, image, _ in pairs:
            found.setdefault(position, []).append(names[image])
        return found

    def confirmed(self, path: str | Path, candidates: Sequence[str]) -> str | None:
        """The first of `candidates`, the benchmark's images, that looks like the one at `path`, None without any."""
        for name in candidates:
            known = find_image(name, self.root) if self.root else None
            if known and _likeness(Path(path), known) >= ALIKE:
                return name
        return None

    def telling(self) -> dict[str, int]:
        """How many images are known by what: their own name wherever it lies, their sequence, their path only."""
        return dict(Counter(_kind(benchmark_keys(name)[0]) for name in self.names))


def names_in(file: Path) -> tuple[bytes, list[str]]:
    """The bytes of a JSON file of MIG-Bench, and the images of its questions; raises `UserError` for another file."""
    content = read_bytes(file, "Get it with: migician fetch mig-bench")
    rows = decode(content, list[_QuestionImages], file, "a MIG-Bench file (a JSON list of questions)")
    if not rows:
        raise UserError(f"{file}: holds no question")
    return content, [name for row in rows for name in row.images]


@functools.lru_cache(maxsize=1)
def name_list() -> NameList:
    """The list that comes with this package; scripts/mig_bench_images.py makes it."""
    return msgspec.json.decode(_LIST.read_bytes(), type=NameList)


def _kind(key: str) -> str:
    if key.startswith("path "):
        return "path"
    return "sequence" if key.startswith("got-10k") else "name"


def _cache_file(content: bytes) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "migician" / f"mig-bench-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _fingerprints(names: Sequence[str], root: Path, store: Path) -> tuple[dict[str, _Known], int]:
    """The fingerprint of each image that is there, by name, and how many are missing or unreadable."""
    from migician.progress import progress_bar

    before = _stored(store)
    found: dict[str, _Known] = {}
    missing = 0
    with progress_bar("fingerprints of MIG-Bench") as report:
        for position, name in enumerate(names):
            one = _fingerprint_of(name, root, before.get(name))
            if one is None:
                missing += 1
            else:
                found[name] = one
            report(position + 1, len(names))
    if found != before:
        with writing(store) as stream:
            stream.write(msgspec.json.encode(_Store(VERSION, found)))
    return found, missing


def _fingerprint_of(name: str, root: Path, before: _Known | None) -> _Known | None:
    from PIL import Image

    path = find_image(name, root)
    if path is None:
        return None
    state = path.stat()
    if before and (before.bytes, before.changed_ns) == (state.st_size, state.st_mtime_ns):
        return before
    try:
        with Image.open(path) as picture:
            prepare(picture)
            return _Known(state.st_size, state.st_mtime_ns, fingerprint(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _likeness(one: Path, other: Path) -> float:
    from PIL import Image

    try:
        with Image.open(one) as first, Image.open(other) as second:
            prepare(first)
            prepare(second)
            return likeness(first, second)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0.0


def _stored(store: Path) -> dict[str, _Known]:
    """What an earlier run kept; nothing where that is not usable."""
    try:
        kept = msgspec.json.decode(read_bytes(store), type=_Store)  # a fingerprint fills its 64 bits
    except (UserError, *NOT_JSON):
        return {}
    return kept.images if kept.version == VERSION else {}
