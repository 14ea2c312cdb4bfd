"""Which image files a run was asked about, so that none is exchanged between a stop and the same command again.

`images.jsonl` beside the answers has a line for each: its name in the benchmark, size and time, and its digest where
content is compared. A run of an earlier version has no such file: it resumes, and has one from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from migician.errors import UserError, writing
from migician.files import read_lines
from migician.scoring import Count


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image file as it was."""

    name: str
    size: Count
    """In bytes."""
    mtime_ns: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    sha256: str | None = None
    """None where content was never compared."""


def keep_images(out: Path, files: Mapping[str, Path], asked: Mapping[str, int], *, by_content: bool) -> None:
    """Write down the images of a run in `out`, by name; those of its answers must be what they were.

    `asked` are the names that answers are about, each with such a question. An image counts as what it was where its
    size and time are the same, and where its content is: that is looked at where another time leaves a doubt and the
    digest is known, with `by_content` of every image. With that, what has no digest from before is told by its size
    alone. Raises `UserError` that names the first that is another.
    """
    record = out / "images.jsonl"
    before = {one.name: one for one in _read(record)} if record.exists() else {}
    now, later = [], []
    for name, path in files.items():
        then = before.get(name)
        one = _seen(name, path, then, by_content)
        now.append(one)
        if then is None or name not in asked:
            continue
        if one.size != then.size or (then.sha256 and one.sha256 != then.sha256):
            raise UserError(
                f"{path}: another image than when question {asked[name]} was asked ({_told(then)}, and is now "
                f"{_told(one)}): put it back, or choose another --out to ask again"
            )
        if one.mtime_ns != then.mtime_ns and not (then.sha256 or by_content):
            later.append(path)
    if later:
        more = f" and {len(later) - 1:,} more have" if len(later) > 1 else " has"
        raise UserError(
            f"{later[0]}{more} another time than when questions were asked, and the size of then: add --check-images "
            "if you know that it is a true copy (cp -p keeps times), else choose another --out to ask again"
        )
    if now != list(before.values()):
        with writing(record) as stream:
            stream.writelines(msgspec.json.encode(one) + b"\n" for one in now)


def _read(record: Path) -> list[Seen]:
    try:
        return list(read_lines(record, Seen, "a line on an image"))
    except UserError as error:
        raise UserError(f"{error}: remove it to resume without knowing whether images are what they were") from None


def _seen(name: str, path: Path, then: Seen | None, by_content: bool) -> Seen:
    """The file as it is now; its content is read only where that decides, or is asked for."""
    try:
        status = path.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        same = then is not None and (then.size, then.mtime_ns) == (size, mtime_ns)
        sha256 = then.sha256 if then else None
        if by_content or (sha256 and not same):
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return Seen(name, size, mtime_ns, sha256)


def _told(one: Seen) -> str:
    return f"{one.size:,} bytes" + (f" of sha256 {one.sha256[:12]}" if one.sha256 else "")
