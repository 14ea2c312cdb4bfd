"""Which files a page or an export of a dataset or a run may contain: only those below its own folders.

Whoever wrote the dataset chose the names of images and sample files and the links on the way to them. A page or an
export is passed on, so nothing else of this machine may get into it.
"""

from __future__ import annotations

import itertools
import os
import stat
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from migician.benchmarks.images import find_image
from migician.build.card.readme import read_card
from migician.errors import UserError
from migician.models.pictures import FORMATS
from migician.samples.dataset_info import home_of


class ImageRoots:
    """Folders where names of images begin, and all those that images may lie in once links are resolved."""

    def __init__(self, bases: Sequence[Path], folders: Iterable[Path]) -> None:
        """`bases` are where names begin, the first that has one."""
        self._bases = bases
        real = (_resolved(_whole(one)) for one in folders)
        self.folders = tuple(dict.fromkeys(one for one in real if one is not None))

    def find(self, name: str) -> Path | str:
        """The file of the image of that name, links resolved; or in words why there is none."""
        found = next((path for base in self._bases if (path := find_image(name, base)) is not None), None)
        return "not found" if found is None else self.real(found)

    def real(self, path: Path) -> Path | str:
        """Where the file at a path is, links resolved; or in words why it must not be taken."""
        real = _resolved(path)
        if real is None:
            return "not found"
        if not any(real.is_relative_to(folder) for folder in self.folders):
            allowed = ", ".join(map(str, self.folders))
            return f"lies outside of {allowed}; if it may be taken, allow its folder with --root"
        return real

    def check(self, files: Iterable[Path], namer: Path) -> None:
        """Raise `UserError` for the first of some files, which `namer` names, that must not be taken."""
        for file in files:
            if isinstance(fault := self.real(file), str):
                raise UserError(f"{namer}: {file} {fault}")


def dataset_roots(path: Path, bases: Sequence[Path], more: Iterable[Path] = ()) -> ImageRoots:
    """Of a dataset, or a file of it: its own folder, the first of `bases`, and the roots of sources that a card names.

    `UserError` for a card of another form.
    """
    own = dict.fromkeys((home_of(path), bases[0]))
    sources = (linked(folder, (read_card(folder) or {}).get("links", {})) for folder in own)
    return ImageRoots(bases, [*own, *itertools.chain(*sources), *more])


def linked(folder: Path, links: Mapping[str, str]) -> list[Path]:
    """Where the links of a dataset in `folder` lead, as its card writes them: target by the link's path in it."""
    return [(folder / link).parent / target for link, target in links.items()]


def read_image(path: Path) -> bytes:
    """The bytes of an image file; `UserError`, which says no path, for a file that is none by its content."""
    # Without waiting: a pipe has nobody at its other end.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise UserError("it is no file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Image.open(stream, formats=FORMATS)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise UserError(f"it is no image ({', '.join(FORMATS)})") from None
        stream.seek(0)
        return stream.read()


def _resolved(path: Path) -> Path | None:
    """Where a path leads, links resolved; None for one that nothing can be at."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a zero byte, or half a character
        return None


def _whole(base: Path) -> Path:
    """A folder that images lie in; of a snapshot in the Hub's cache, whose files are links, with what it links to."""
    full = base.absolute()
    return next((one.parent for one in (full, *full.parents) if one.name == "snapshots"), full)
