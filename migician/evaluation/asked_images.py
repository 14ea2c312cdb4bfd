"""Which image files an answer is about, so that none is swapped unnoticed between a stop and the same command again.

Each answer of a run keeps the size and time of its images, and their digests where content is compared. Answers of
earlier versions keep nothing: they are taken as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from migician.errors import UserError
from migician.evaluation.answer_log import ImageFile, Logged

Look = Callable[[Path, ImageFile | None], ImageFile]
"""(path, how it was where that is known) -> how an image file is now."""


def looking(by_content: bool) -> Look:
    """A look that opens a file where another time leaves a doubt and the digest is known; with `by_content` any."""
    found: dict[Path, ImageFile] = {}

    def look(path: Path, then: ImageFile | None) -> ImageFile:
        try:
            if path not in found:
                status = path.stat()
                found[path] = ImageFile(status.st_size, status.st_mtime_ns)
            now = found[path]
            if then is not None and not by_content and (then.size, then.mtime_ns) == (now.size, now.mtime_ns):
                return then
            if now.sha256 is None and (by_content or (then is not None and then.sha256)):
                with path.open("rb") as stream:
                    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                found[path] = now = msgspec.structs.replace(now, sha256=sha256)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        return now

    return look


def known_again(
    answers: Mapping[int, Logged], paths: Mapping[int, Sequence[Path]], look: Look, *, by_content: bool
) -> dict[int, Logged]:
    """The answers, by question, with their images as these are now; raises `UserError` that names one that is another.

    An image is what it was where its size and its time are, or its content. With `by_content`, what has no digest
    from then is compared by its size alone: that option says that the images are true copies without their times.
    """
    kept: dict[int, Logged] = {}
    later: dict[Path, None] = {}
    for index, answer in answers.items():
        kept[index] = answer
        if answer.image_files is None:
            continue
        now = tuple(map(look, paths[index], answer.image_files))
        if now == answer.image_files:
            continue
        for path, then, one in zip(paths[index], answer.image_files, now, strict=True):
            if one.size != then.size or (then.sha256 and one.sha256 != then.sha256):
                again = ", or ask it again with --retry-failed" if answer.fault else ""
                raise UserError(
                    f"{path}: another image than when question {index} was asked ({_described(then)}, and is now "
                    f"{_described(one)}): put it back{again}, or choose another --out to ask all again"
                )
            if one.mtime_ns != then.mtime_ns and not (then.sha256 or by_content):
                later[path] = None
        kept[index] = msgspec.structs.replace(answer, image_files=now)
    if later:
        more = f" and {len(later) - 1:,} more have" if len(later) > 1 else " has"
        raise UserError(
            f"{next(iter(later))}{more} another time than when questions were asked, and the size of then: add "
            "--check-images if you know that it is a true copy (cp -p keeps times), else choose another --out to ask "
            "all again"
        )
    return kept


def _described(one: ImageFile) -> str:
    return f"{one.size:,} bytes" + (f" of sha256 {one.sha256[:12]}" if one.sha256 else "")
