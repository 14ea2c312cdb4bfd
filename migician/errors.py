"""Errors meant for the user; files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON raises for bytes that are no JSON, not of the form asked for, not UTF-8, or nested without end."""


class UserError(Exception):
    """Something the user can fix; the text names the place, the value and the way out in one line."""


def closest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, to append to a sentence; empty where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is not known.

    >>> unknown("task", "diference", ["difference", "free_form"])
    "unknown task 'diference'. Known: difference, free_form. Did you mean 'difference'?"
    """
    names = list(known)
    return f"unknown {kind} {name!r}. Known: {', '.join(names)}.{closest(name, names)}"


def check_place(folder: Path) -> None:
    """Raise `UserError` where no folder can be, as it or what it lies in is a file."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if there.exists() and not there.is_dir():
        raise UserError(f"{folder}: cannot be written: {there}: Not a directory")


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; the new ones are removed again where the block fails and they are empty."""
    check_place(folder)
    new = list(itertools.takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for one in new:
            with contextlib.suppress(OSError):
                one.rmdir()
        raise


@contextlib.contextmanager
def writing(path: str | Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` when the block ends well, and leaves nothing when it does not.

    Writes beside the target and renames, so that a reader never sees half a file. `durable`
    waits until the bytes are on the disk, so that not even a power cut leaves half a file. Raises `UserError` for what
    the file system refuses, also within the block: of another file by that file's name.
    """
    target = Path(path)
    # A name of this thread's own; what a killed process of the same number left there is overwritten.
    partial = target.with_name(f".{target.name[:80]}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with made(target.parent):
            try:
                with partial.open("wb") as stream:
                    yield stream
                    stream.flush()
                    if durable:
                        os.fsync(stream.fileno())
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename not in (None, str(target), str(partial), str(target.parent)):
            raise UserError(f"{error.filename}: {reason}; {target} was not written") from None
        raise UserError(f"{target}: cannot be written: {reason}") from None


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, and vanishes when it does not.

    `target` may be an empty folder. What a killed process left beside it is taken away first. Raises `UserError` for
    what the file system refuses, also within the block.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        check_place(target)
        shutil.rmtree(partial, ignore_errors=True)
        with made(target.parent):
            try:
                partial.mkdir()
                yield partial
                if target.exists():
                    target.rmdir()
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        where = error.filename or target
        raise UserError(f"{where}: {error.strerror or error}; {target} was not written") from None
