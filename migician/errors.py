"""Errors meant for the user; files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON raises for bytes that are no JSON, not of the form asked for, not UTF-8, or nested without end."""

_PATIENCE_S, _PAUSE_S = 60.0, 0.01
_LONGEST_NAME = 200
"""Bytes of a hidden name; file systems take 255."""
_DEEPEST = 200
"""Folders in each other: few enough for all that makes and removes them."""


class UserError(Exception):
    """Something the user can fix; the text names the place, the value and the way out in one line."""


class Done(UserError):
    """What was asked for is there already, just as it would be made; to the command line no failure."""


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
    """Raise `UserError` where no folder can be, as it or what it lies in is a file, or as it lies too deep."""
    if len(folder.parts) > _DEEPEST:
        raise UserError(f"{folder}: cannot be written: lies more than {_DEEPEST} folders deep")
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
def writing(path: str | Path, *, durable: bool = True, force: bool = True) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` when the block ends well, and leaves nothing when it does not.

    Writes beside the target and renames, so that a reader never sees half a file. `durable`
    waits until the bytes are on the disk, so that not even a power cut leaves half a file.
    A file that has these bytes already is not touched; without `force` that raises `Done`, and other bytes `UserError`.
    What a killed process left there is written over. Raises `UserError` for what the file system refuses, also within
    the block, of another file by that file's name, and where another process still writes the same file after
    `_PATIENCE_S`.
    """
    target = Path(path)
    partial = partial_of(target)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        with made(target.parent):
            # Not emptied on opening: whoever holds it may be writing.
            handle = _claimed(partial, os.O_RDWR | os.O_CREAT, _PATIENCE_S)
            if handle is None:
                raise UserError(f"{target}: another process is writing it; wait for it, or choose another place")
            try:
                with open(handle, "w+b", closefd=False) as stream:
                    if os.fstat(handle).st_size:  # what was truncated is written to the disk at once by ext4
                        stream.truncate(0)
                    yield stream
                    stream.flush()
                    is_there = target.is_file() and _same(stream, target)
                    if is_there and not force:
                        raise Done(f"{target}: done already: the same command makes the same file")
                    if target.is_file() and not force:
                        raise UserError(
                            f"{target}: is there, and this command makes another file: --force replaces it, or choose "
                            "another place"
                        )
                    if durable and not is_there:
                        os.fsync(handle)
                partial.unlink() if is_there else partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            finally:
                _let_go(handle)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename not in (None, str(target), str(partial), str(target.parent)):
            raise UserError(f"{error.filename}: {reason}; {target} was not written") from None
        raise UserError(f"{target}: cannot be written: {reason}") from None


@contextlib.contextmanager
def appearing(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, and vanishes when it does not.

    `target` may be an empty folder; with `replace` it may be any, and stays until the new one is whole. What a killed
    process left beside it is taken away first. Raises `UserError` for what the file system refuses, also within the
    block, and where another process is writing `target`.
    """
    partial = partial_of(target)
    try:
        check_place(target)
        with made(target.parent), alone(partial, target):
            try:
                empty(partial)
                yield partial
                if target.exists() and not replace:
                    target.rmdir()
                swap(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        where = error.filename or target
        raise UserError(f"{where}: {error.strerror or error}; {target} was not written") from None


def swap(partial: Path, target: Path) -> None:
    """Give the folder `partial` the name `target`, whatever folder has it now.

    Killed in between, the next to write `target` finds the earlier one under its hidden name, and removes it.
    """
    old = partial_of(target.with_name(f"{target.name}.old"))
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def alone(folder: Path, target: Path) -> Iterator[None]:
    """Make `folder` and keep it for this process while the block lasts; a killed process keeps nothing.

    There is no lock file: the folder itself is locked. Raises `UserError` that names `target` where another process has
    it. Some network disks cannot lock a folder; there the user must see to it.
    """
    handle = _claimed(folder, os.O_RDONLY | os.O_DIRECTORY, 0)
    if handle is None:
        raise UserError(f"{target}: another process is writing it; wait for it, or choose another place")
    try:
        yield
    finally:
        _let_go(handle)


def empty(folder: Path) -> None:
    """Remove all that is in a folder."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def partial_of(target: Path) -> Path:
    """Where `target` is written: hidden, beside it, and the same for every process, so that leftovers are met again.

    `UserError` for a path without a name of its own, such as `.`: nothing can be beside it, or take its place.
    """
    if target.name in ("", ".."):
        raise UserError(f"{target}: is no name for what is to be written; choose another")
    whole = os.fsencode(target.name)
    name = os.fsdecode(whole[:_LONGEST_NAME])
    return target.with_name(f".{name}.part" if name == target.name else f".{name}.{crc32(whole):08x}.part")


def _same(stream: BinaryIO, file: Path) -> bool:
    """Whether a file holds what a stream has, from its beginning to its end."""
    if stream.seek(0, os.SEEK_END) != file.stat().st_size:
        return False
    stream.seek(0)
    with file.open("rb") as other:
        return all(piece == stream.read(len(piece)) for piece in iter(lambda: other.read(1 << 20), b""))


def _claimed(place: Path, flags: int, patience_s: float) -> int | None:
    """An open, locked handle of a file or folder; None where another process holds it for longer than that.

    A lock belongs to what was opened. Meanwhile its holder may have renamed or removed that, so it is looked at again.
    """
    import fcntl  # late: Windows has none

    end = time.monotonic() + patience_s
    while True:
        try:
            handle = os.open(place, flags | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if not flags & os.O_DIRECTORY:
                raise
            place.mkdir(exist_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= end:
                return None
            time.sleep(_PAUSE_S)
            continue
        except OSError:
            return handle  # some network disks cannot lock
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), place.stat()):
                return handle
        os.close(handle)


def _let_go(handle: int) -> None:
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the handle, too
    os.close(handle)
