"""Which images MIG-Bench uses, so that no training set holds one: by name, and by what they show.

By name, since a builder can ask it of every image at no cost; the names of MIG-Bench tell the
source for most of its images:

    objects365_v2_00900613.jpg       that photo of Objects365, and every crop of it (..._00900613_2.jpg)
    sa_6136360.jpg                   that photo of SA-1B
    GOT-10k_Val_000001/00000001.jpg  that sequence: its other frames show the same
    static_diff/100081_1_source.png  that session of MagicBrush (MIG-Bench has exactly its dev split), which edits
                                     the COCO photo of that number
    common/bear/2318253.jpg, refer_grounding/case003_285864_raw.jpg   numbers of Visual Genome, by their ranges
    reasoning/case001_2.png, common/Car/car_1.jpg                     any other, by its path below `images/`

By what they show, since copies get other names: near fingerprints first, then a look at both
(see `fingerprints`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np

from migician.benchmarks.images import find_image
from migician.errors import UserError, writing
from migician.fingerprints import ALIKE, NEAR, VERSION, fingerprint, likeness, near_pairs, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Names that tell their source wherever the file lies, on either side.
_TELLING = (
    (re.compile(r"obj(?:ects)?365_(v[12])_(\d{8})(?!\d)"), "objects365"),
    (re.compile(r"(?<![a-z0-9])sa_(\d+)(?!\d)"), "sa-1b"),
    # The edit of turn 2 starts from what turn 1 gave: a session is one picture.
    (re.compile(r"^(\d+)-(?:input|output\d+|mask\d+)$"), "coco"),
    (re.compile(r"^(\d+)_\d_(?:source|target)$"), "coco"),
    (re.compile(r"^(?:coco_(?:train|val|test)20\d\d_)?(\d{12})$"), "coco"),
)
_SEQUENCE = re.compile(r"^got-10k_(train|val|test)_(\d{6})$")
_VISUAL_GENOME = re.compile(r"^(?:case\d{3}_)?(\d{6,7})(?:_raw|_refer|_ref)?$")
_LONG_NUMBER = re.compile(r"\d{5}")
_LETTER = re.compile(r"[a-z]")


class _Row(msgspec.Struct):
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
    _keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def named(cls, names: Sequence[str]) -> Self:
        """What leaks where only the names of a benchmark's images are known."""
        distinct = tuple(dict.fromkeys(names))
        keys: dict[str, str] = {}
        for name in distinct:
            for key in _benchmark_keys(name):
                keys.setdefault(key, name)
        return cls(distinct, _keys=keys)

    @classmethod
    def read(cls, data: str | Path, images: str | Path | None = None, store: Path | None = None) -> Self:
        """What leaks by the JSON file of MIG-Bench (either form), and with `images`, its root, by what is shown.

        Fingerprints are kept in `store` (by default below the user's cache folder) and taken
        again only of files that changed. Raises `UserError` where `data` is no list of records
        with images, or where none of the images is below `images`.
        """
        file = Path(data)
        try:
            content = file.read_bytes()
            rows = msgspec.json.decode(content, type=list[_Row])
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read: {error.strerror}. Get it with: migician fetch mig-bench"
            ) from None
        except msgspec.DecodeError as error:
            raise UserError(f"{file}: not a MIG-Bench file (a JSON list of questions): {error}") from None
        leaks = cls.named([name for row in rows for name in row.images])
        if images is None:
            return leaks
        kept = store or _cache_file(content)
        known, missing = _fingerprints(leaks.names, Path(images), kept)
        if leaks.names and missing == len(leaks.names):
            raise UserError(
                f"{images}: none of the {len(leaks.names)} images of {file} is there, such as {leaks.names[0]}; "
                "--images must name the folder that holds MIG-Bench/"
            )
        prints = {name: one.fingerprint for name, one in known.items() if one.fingerprint is not None}
        flat = len(known) - len(prints)
        return cls(leaks.names, Path(images), prints, missing, flat, leaks._keys)

    def of(self, path: str | Path) -> str | None:
        """The benchmark's image that `path` is by its name, None for an image it does not use: some microseconds."""
        for key in _keys_of(str(path)):
            name = self._keys.get(key)
            if name is not None:
                return name
        return None

    def shown_in(self, path: str | Path) -> str | None:
        """The benchmark's image that the file at `path` shows, whatever its name; None also for what is no image.

        Costs decoding the image, and about 0.1 ms.
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
        pairs = sorted(near_pairs(fingerprints, known, NEAR), key=lambda pair: (pair[0], pair[2], pair[1]))
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
        return dict(Counter(_kind(next(iter(_benchmark_keys(name)))) for name in self.names))


def _kind(key: str) -> str:
    if key.startswith("path "):
        return "path"
    return "sequence" if key.startswith("got-10k") else "name"


def _benchmark_keys(name: str) -> list[str]:
    """Under which keys a benchmark's image is found: what its name tells, and its path below `images/`."""
    folders, stem = _split(name)
    keys = list(_source_keys(folders, stem))
    if {"common", "refer_grounding"} & set(folders) and (match := _VISUAL_GENOME.match(stem)):
        keys.append(f"visual-genome {match[1]}")
    if not keys and _is_telling(stem):
        keys.append(f"stem {stem}")
    below = folders[folders.index("images") + 1 :] if "images" in folders else folders[-2:]
    return [*keys, "path " + "/".join([*below[-2:], stem])]


def _keys_of(path: str) -> Iterator[str]:
    """Under which keys any image may be one of the benchmark's."""
    folders, stem = _split(path)
    yield from _source_keys(folders, stem)
    if folders and folders[-1].startswith("vg_100k"):
        yield f"visual-genome {stem}"
    yield f"stem {stem}"
    for depth in (2, 1):
        yield "path " + "/".join([*folders[-depth:], stem])


def _split(path: str) -> tuple[list[str], str]:
    """Folders and stem in lower case: copies change the kind of file and the case of names."""
    *folders, name = path.replace("\\", "/").lower().split("/")
    return [folder for folder in folders if folder not in ("", ".")], name.rpartition(".")[0] or name


def _source_keys(folders: list[str], stem: str) -> Iterator[str]:
    for pattern, source in _TELLING:
        match = pattern.search(stem)
        if match:
            numbers = [part.lstrip("0") or "0" for part in match.groups()]
            yield " ".join([source, *numbers])
            return
    for folder in folders:
        match = _SEQUENCE.match(folder)
        if match:
            yield f"got-10k {match[1]} {match[2]}"
            return


def _is_telling(stem: str) -> bool:
    """Whether a name says which image it is: letters and a long number, or a date with the time.

    "case008_498281_raw" does; "00000001", "130900" (a time), "images1" and "car_1" do not.
    """
    return bool(_LONG_NUMBER.search(stem)) and (bool(_LETTER.search(stem)) or len(stem) >= 12)


def _cache_file(content: bytes) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "migician" / f"mig-bench-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _fingerprints(names: Sequence[str], root: Path, store: Path) -> tuple[dict[str, _Known], int]:
    """The fingerprint of each image that is there, by name, and how many are not or cannot be read."""
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
    """What an earlier run kept; nothing where that cannot be used."""
    try:
        kept = msgspec.json.decode(store.read_bytes(), type=_Store)
    except (OSError, msgspec.DecodeError):
        return {}
    return kept.images if kept.version == VERSION else {}
