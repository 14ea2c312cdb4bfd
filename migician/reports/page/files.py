"""What every page to look at is made of: one index.html that needs no server, and its images beside it, once each."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from migician.draw import encoded
from migician.errors import UserError, made, writing
from migician.models.pictures import FORMATS, load_picture, read_size, shrunk, upright
from migician.progress import progress_bar
from migician.workers import in_processes

LONGEST_PX = 640
"""The longer side of an image on the page; smaller ones stay as they are."""
_QUALITY = 80
_RULE = 2
"""Of how images are shown; those that an earlier rule made are made again."""
_BATCH = 16
_OWN = re.compile(r"[0-9a-f]{24}\.jpg")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One image as the page shows it."""

    file: str
    """Its name below `images/`; empty where the image cannot be shown."""
    width: int = 4
    """Of the original as it is shown, in pixels, as `height`; 4 to 3 where it is not known."""
    height: int = 3
    fault: str = ""
    """Why it cannot be shown."""


class AssetStore:
    """The images of a page: each has a number, however often it is asked for.

    They are shown as a model that is asked sees them; `as_trained`, as a trainer reads them: unturned, and with what
    transparency hides.
    """

    def __init__(self, find: Callable[[str], Path | str], *, as_trained: bool = False) -> None:
        """`find` gives where the image of a name is, or in words why it cannot be shown."""
        self._find, self._as_trained = find, as_trained
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of the image of that name."""
        return self._numbers.setdefault(name, len(self._numbers))

    def fill(self, folder: Path, processes: int) -> tuple[list[list[Any]], list[str]]:
        """Make all thumbnails in `folder`; gives the images as the page has them, and what was wrong with some.

        Those that `folder` has already are left as they are.
        """
        names = list(self._numbers)
        made = _make_all([self._find(name) for name in names], folder, processes, self._as_trained)
        shown = [[one.file, one.width, one.height, name] for name, one in zip(names, made, strict=True)]
        faults = [f"{name}: {one.fault}" for name, one in zip(names, made, strict=True) if one.fault]
        return shown, faults


@contextlib.contextmanager
def page_in(out: Path) -> Iterator[None]:
    """Write a page into `out` while the block lasts.

    Where it fails, so that a full disk is left as it was, all images that were made meanwhile go again, and
    `UserError` is raised. Those of a page that was interrupted stay, and are used by the next.
    """
    folder = out / "images"
    before = set(folder.glob("*.jpg"))
    try:
        with made(folder):
            try:
                yield
            except (UserError, OSError):
                for file in set(folder.glob("*.jpg")) - before:
                    file.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from None


def write_index(out: Path, content: dict[str, Any]) -> Path:
    """Write `out/index.html`, which shows `content` and nothing else, and drop images it no longer shows.

    Texts of `content` are data to the page, never markup. Its policy allows the page's own style and
    script, by their digests, and images beside it; no address is ever asked for anything.
    """
    parts = files("migician.reports.page") / "assets"
    style = (parts / "style.css").read_text("utf-8")
    script = '"use strict";\n' + "\n".join((parts / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (parts / "index.html").read_text("utf-8")
    # The data comes last: what it holds is not looked at again.
    for mark, text in (("policy", policy), ("style", style), ("script", script), ("data", _as_data(content))):
        before, _, after = page.partition("{{" + mark + "}}")
        page = before + text + after
    with writing(out / "index.html") as stream:
        stream.write(page.encode())
    _drop_others(out / "images", {image[0] for image in content["images"]})
    return out / "index.html"


_SCRIPTS = ("elements", "figures", "overview", "gallery", "viewer", "start")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _as_data(content: dict[str, Any]) -> str:
    """JSON that ends no element, whatever the texts in it hold."""
    text = msgspec.json.encode(content).decode()
    for sign, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(sign, escaped)
    return text


def _drop_others(folder: Path, wanted: set[str]) -> None:
    for file in folder.glob("*.jpg"):
        if _OWN.fullmatch(file.name) and file.name not in wanted:
            file.unlink(missing_ok=True)


_Piece = tuple[Path, bool, list[Path | str]]


def _make_all(paths: Sequence[Path | str], folder: Path, processes: int, as_trained: bool) -> list[Thumbnail]:
    pieces = [(folder, as_trained, list(paths[start : start + _BATCH])) for start in range(0, len(paths), _BATCH)]
    made: list[Thumbnail] = []
    with contextlib.ExitStack() as stack:
        several = len(pieces) >= 8  # starting processes takes longer than a few pieces
        workers = stack.enter_context(in_processes(processes if several else 1))
        progress = stack.enter_context(progress_bar("images"))
        progress(0, len(paths))
        for batch in workers(_make_batch, pieces):
            made += batch
            progress(len(made), len(paths))
    return made


def _make_batch(piece: _Piece) -> list[Thumbnail]:
    folder, as_trained, paths = piece
    return [Thumbnail("", fault=one) if isinstance(one, str) else _make(one, folder, as_trained) for one in paths]


def _make(path: Path, folder: Path, as_trained: bool) -> Thumbnail:
    """The thumbnail of `path`, made if `folder` does not have it; raises only where it cannot be written."""
    try:
        status = path.stat()
        # Names of files are untrusted text; and another content gets another name.
        key = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}\n{LONGEST_PX}\n{_QUALITY}\n{_RULE}{as_trained}"
        file = f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.jpg"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                size = read_size(image) if as_trained else upright(image)
                content = b"" if (folder / file).exists() else _shrunk(image, as_trained)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
        return Thumbnail("", fault=f"cannot be read as an image ({type(error).__name__})")
    if content:
        with writing(folder / file, durable=False) as stream:
            stream.write(content)
    return Thumbnail(file, *size)


def _shrunk(image: Image.Image, as_trained: bool) -> bytes:
    width, height = shrunk(image.size, LONGEST_PX)
    image.draft(None, (2 * width, 2 * height))  # a JPEG is decoded not much larger than needed
    shown = image.convert("RGB") if as_trained else load_picture(image)
    shown.thumbnail((LONGEST_PX, LONGEST_PX))
    return encoded(shown, "JPEG", quality=_QUALITY)
