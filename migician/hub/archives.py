"""Unpacking zips that are not trusted: nothing outside the target, no half file, and a stopped run resumes.

Members are written one by one, beside their place and then renamed, so that a file that is there is whole.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from migician.errors import UserError
from migician.hub.volumes import SHOWN, open_zip
from migician.progress import OnProgress

_CHUNK = 1 << 20
_BLOCK = 4096  # what a file takes on disk is a multiple of it
_HEADER = 30  # bytes before the name of a member
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEFTOVERS = {"__MACOSX", ".DS_Store", "Thumbs.db"}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_PARTIAL = ".unpacking.part"
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes that file systems take."""
_DEEPEST = 100
"""Folders in each other: far more than data has, and few enough for whatever removes them again."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What became of an archive's members: how many files were written, and how many were there before."""

    written: int
    there: int


_Member = tuple[zipfile.ZipInfo, str]
"""What the archive says of it, and where it goes, relative to the target."""


def unpack(
    file: Path,
    target: Path,
    *,
    strip: Iterable[str] = (),
    below: str | None = None,
    reserved: Collection[str] = (),
    report: OnProgress | None = None,
) -> Unpacked:
    """Unpack the zip `file` (the last volume, where there are several) into `target`.

    The first of `strip` that a member's name starts with is cut off. Where then no member lies in a folder named
    `below`, all go into one. A member that is there already, with the same size and CRC, is skipped. `report` is
    given the bytes done and in all.

    Raises `UserError`, with nothing written, for a member that would leave `target`, that is neither file nor folder,
    that no file system takes, or that shares its place with another (letter case aside), or with a file of this
    project's (`reserved` are names in `target`); and for too little room on the disk. Raises it in the
    middle for damaged data, and for a file in the way that is not the member: it is never overwritten.
    """
    with open_zip(file) as archive:
        members = _members(archive, file, target, tuple(strip), below, reserved)
        missing = [(info, path) for info, path in members if not _is_there(info, target / path, file)]
        check_room(target, _on_disk(missing), f"unpacking {file.name}")
        total, done = sum(info.file_size for info, _ in missing), 0
        folders: set[Path] = set()
        _remove(target / _PARTIAL)  # of a run that was killed; never written through a link
        for info, path in missing:
            _write(archive, info, path, target, file, folders)
            done += info.file_size
            if report:
                report(done, total)
    return Unpacked(len(missing), len(members) - len(missing))


def missing_bytes(
    file: Path,
    target: Path,
    *,
    strip: Iterable[str] = (),
    below: str | None = None,
    reserved: Collection[str] = (),
) -> int:
    """Room on disk that unpacking needs, less the members that are there, by name and size."""
    with open_zip(file) as archive:
        members = _members(archive, file, target, tuple(strip), below, reserved)
        return _on_disk([(info, path) for info, path in members if not _has_size(target / path, info.file_size)])


def check_name(name: str) -> str | None:
    """Why a name from outside must not become a path below a folder; None where it may.

    >>> check_name("a/b.jpg")
    >>> check_name("../b.jpg")
    'leads out of the folder'
    """
    if not name or name.startswith("/"):
        return "is absolute" if name else "is empty"
    if "\\" in name or ":" in name.split("/")[0]:
        return "has a backslash or a drive letter"
    if _CONTROL.search(name):
        return "has a control character"
    parts = name.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of the folder" if ".." in parts else "has an empty part"
    if len(parts) > _DEEPEST:
        return f"lies {len(parts):,} folders deep, more than {_DEEPEST}"
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in parts):
        return f"has a name longer than {_LONGEST_NAME} bytes"
    if any(part.startswith(".") and part.endswith(".part") for part in parts):
        return "has the name of an unfinished file"
    return None


def _members(
    archive: zipfile.ZipFile,
    file: Path,
    target: Path,
    strip: tuple[str, ...],
    below: str | None,
    reserved: Collection[str],
) -> list[_Member]:
    """Every file of the archive and its place, after all checks that need no data."""
    _check_overlaps(archive, file)
    found = []
    for info in archive.infolist():
        fault = check_name(info.orig_filename) or _fault_of_kind(info)
        if fault:
            raise _refused(file, info, fault)
        if info.is_dir() or not _LEFTOVERS.isdisjoint(info.filename.split("/")):
            continue
        prefix = next((one for one in strip if info.filename.startswith(one)), "")
        found.append((info, info.filename.removeprefix(prefix)))
    if below and not any(path.startswith(f"{below}/") for _, path in found):
        found = [(info, f"{below}/{path}") for info, path in found]
    longest = _LONGEST_PATH - len(os.fsencode(target.absolute())) - 1
    for info, path in found:
        if len(path.encode("utf-8", "surrogatepass")) > longest:
            raise _refused(file, info, f"has a path longer than {_LONGEST_PATH} bytes in {target}")
        if path.partition("/")[0].casefold() in reserved:
            raise _refused(file, info, f"would stand in the place of this command's own {path.partition('/')[0]}")
    _check_places(found, file)
    return found


def _refused(file: Path, info: zipfile.ZipInfo, fault: str) -> UserError:
    name = info.orig_filename
    shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
    return UserError(f"{file}: member {shown!r} {fault}; nothing was unpacked")


def _fault_of_kind(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    # Archives made on Windows leave the kind out: 0.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and info.file_size):
        return "is neither a file nor a folder"
    if info.flag_bits & 1:
        return "is encrypted"
    return None if info.compress_type in _METHODS else f"is compressed by method {info.compress_type}, not known here"


def _check_overlaps(archive: zipfile.ZipFile, file: Path) -> None:
    """Refuse members that share bytes: so a small archive unpacks to petabytes."""
    end, last = 0, ""
    for info in sorted(archive.infolist(), key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise UserError(f"{file}: member {info.filename[:SHOWN]!r} overlaps {last[:SHOWN]!r}; nothing was unpacked")
        end, last = info.header_offset + _HEADER + len(info.orig_filename) + info.compress_size, info.filename


def _check_places(found: list[tuple[zipfile.ZipInfo, str]], file: Path) -> None:
    """Refuse two members at one place, on any file system, and a file where another needs a folder."""
    names: dict[str, str] = {}
    folders: set[str] = set()
    for info, path in found:
        key = unicodedata.normalize("NFC", path).casefold()
        if key in names:
            raise UserError(
                f"{file}: members {names[key]!r} and {info.filename!r} would be one file; nothing was unpacked"
            )
        names[key] = info.filename
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for key in folders & names.keys():
        raise UserError(f"{file}: member {names[key]!r} is also the folder of another; nothing was unpacked")


def _is_there(info: zipfile.ZipInfo, path: Path, file: Path) -> bool:
    """Whether the member was unpacked before; raises `UserError` where another file is in its place."""
    if not (path.exists() or path.is_symlink()):
        return False
    if _has_size(path, info.file_size) and _crc(path) == info.CRC:
        return True
    raise UserError(
        f"{path}: is there, and is not member {info.filename!r} of {file.name}. It is left alone: move it away"
    )


def _has_size(path: Path, size: int) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _on_disk(members: list[_Member]) -> int:
    return sum(-(-info.file_size // _BLOCK) * _BLOCK for info, _ in members)


def check_room(folder: Path, needed: int, purpose: str) -> None:
    """Raise `UserError` where the disk that `folder` is on, or will be on, has fewer free bytes than `needed`."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder}: {purpose} needs {gigabytes(needed)} and {gigabytes(free)} are free: "
            f"{gigabytes(needed - free)} are missing. Make room, or name a folder on another disk"
        )


def gigabytes(size: int) -> str:
    """A size as the Hub shows it, in powers of ten.

    >>> gigabytes(16_600_000_000), gigabytes(2_880_000), gigabytes(31)
    ('16.6 GB', '2.9 MB', '31 bytes')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def _write(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, target: Path, file: Path, folders: set[Path]
) -> None:
    _make_folder((target / path).parent, target, folders)
    partial = target / _PARTIAL
    try:
        with partial.open("xb") as sink:
            for chunk in _content(archive, info, file):
                sink.write(chunk)
        if (size := partial.stat().st_size) != info.file_size:
            raise UserError(f"{file}: member {info.filename!r} has {size} bytes, not {info.file_size}. Fetch it again")
        partial.rename(target / path)
    except OSError as error:
        raise UserError(f"{target / path}: cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> Iterator[bytes]:
    try:
        with archive.open(info) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except _UNREADABLE as error:
        raise UserError(f"{file}: member {info.filename!r} is damaged: {error}. Fetch it again") from None


def _make_folder(folder: Path, target: Path, made: set[Path]) -> None:
    """Make `folder`, and refuse one that is a link: it could lead out of the target."""
    if folder in made:
        return
    if folder != target:
        _make_folder(folder.parent, target, made)
    if folder != target and folder.is_symlink():
        raise UserError(f"{folder}: is a link; members are not unpacked through it. Replace it by a folder")
    try:
        folder.mkdir(parents=folder == target, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}") from None
    made.add(folder)
