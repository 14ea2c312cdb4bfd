"""A zip cut into volumes (.z01, .z02, ... .zip), opened as if it were one file, without joining it on disk.

`zip -s` cuts the bytes of an archive at fixed lengths; joined, they are the archive again. Only the directory
at the end differs: it names a place as a volume and an offset in that volume, and Python's zipfile refuses it. So
the members are served from the volumes as they lie, and the directory from memory, with offsets counted from the
start of the first volume. Every entry gets 64-bit fields, since a joined archive outgrows 4 GiB where no volume does.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 to 4.3.16, 4.5.3 and 8.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from migician.errors import UserError

# Signature first in each; "<" because a zip is little-endian and packed.
_LOCAL = struct.Struct("<4s22xHH")
_ENTRY = struct.Struct("<4s16sIIHHHH6sI")
_END = struct.Struct("<4sHHHHIIH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_EXTRA64 = struct.Struct("<HHQQQ")
_LARGEST_COMMENT = 0xFFFF
SHOWN = 80
"""Letters of a name that is refused."""
_DAMAGED = (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError)


class _End(NamedTuple):
    """What the end of an archive says; volumes are 0-based, offsets count from the start of their volume."""

    volumes: int
    directory_volume: int
    directory_offset: int
    directory_size: int
    entries: int
    volume64: int | None
    offset64: int


@contextlib.contextmanager
def open_zip(file: Path) -> Iterator[zipfile.ZipFile]:
    """The archive whose last (or only) volume is `file`, its other volumes beside it.

    Raises `UserError` naming the volume that is missing, cut, or of another archive.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = _opened(file, stack)
        except _DAMAGED as error:
            raise UserError(f"{file}: not a whole zip: {error}. Fetch it again") from None
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
        yield archive


def _opened(file: Path, stack: contextlib.ExitStack) -> zipfile.ZipFile:
    end = _read_end(file)
    if end.volumes == 1:
        return stack.enter_context(zipfile.ZipFile(file))
    volumes = volume_files(file, end.volumes)
    streams: list[BinaryIO] = [stack.enter_context(volume.open("rb")) for volume in volumes]
    archive = stack.enter_context(zipfile.ZipFile(_joined(streams, volumes, end)))
    _check_order(archive, streams, volumes)
    return archive


def volume_files(file: Path, count: int) -> list[Path]:
    """The files of an archive in `count` volumes that ends with `file`, in order; all must be there."""
    volumes = []
    # One by one: a count is only a claim, of up to four billion.
    for number in range(1, count):
        volume = file.with_suffix(f".z{number:02d}")
        if not volume.is_file():
            raise UserError(
                f"{file}: it is the last of {count:,} volumes, and {volume.name} is not beside it. Fetch it again"
            )
        volumes.append(volume)
    return [*volumes, file]


def _read_end(file: Path) -> _End:
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, size - _LOCATOR.size - _END.size - _LARGEST_COMMENT))
            tail = stream.read()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if at + _END.size <= len(tail):
            _, volume, first, _, entries, length, offset, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                break
    else:
        raise UserError(f"{file}: no zip, or cut short: it has no directory at its end. Fetch it again")
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, volume64, offset64, volumes = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        return _End(max(1, volumes), first, offset, length, entries, volume64, offset64)
    return _End(volume + 1, first, offset, length, entries, None, 0)


def _joined(streams: list[BinaryIO], volumes: list[Path], end: _End) -> BinaryIO:
    """One stream: the members from the volumes, then a directory for the whole."""
    starts = list(itertools.accumulate((volume.stat().st_size for volume in volumes), initial=0))
    if end.volume64 is not None:
        if end.volume64 >= len(volumes):
            raise zipfile.BadZipFile(f"its directory is said to be in volume {end.volume64 + 1} of {len(volumes)}")
        if end.offset64 >= starts[end.volume64 + 1] - starts[end.volume64]:
            raise zipfile.BadZipFile("the 64-bit end record is said to be behind the end of its volume")
        streams[end.volume64].seek(end.offset64)
        content = streams[end.volume64].read(_END64.size)
        signature, _, _, _, _, first, _, entries, length, offset = _END64.unpack(content)
        if signature != b"PK\6\6":
            raise zipfile.BadZipFile("the 64-bit end record is not where it should be")
        end = end._replace(directory_volume=first, directory_offset=offset, directory_size=length, entries=entries)
    if end.directory_volume >= len(volumes):
        raise zipfile.BadZipFile(f"its directory is said to be in volume {end.directory_volume + 1} of {len(volumes)}")
    begin = starts[end.directory_volume] + end.directory_offset
    if begin + end.directory_size > starts[-1]:
        raise zipfile.BadZipFile(f"its directory of {end.directory_size} bytes ends after the last volume")
    whole = io.BufferedReader(_Joined(streams, starts), 1 << 20)
    whole.seek(begin)
    directory = _directory(whole.read(end.directory_size), starts, volumes)
    tail = directory + _ending(begin, len(directory), end.entries)
    return io.BufferedReader(_Joined([*streams, io.BytesIO(tail)], [*_cut(starts, begin), begin + len(tail)]), 1 << 20)


def _cut(starts: list[int], end: int) -> list[int]:
    """The same boundaries for a stream that ends at `end`; volumes after it hold nothing."""
    return [min(start, end) for start in starts]


def _directory(content: bytes, starts: list[int], volumes: list[Path]) -> bytes:
    """The directory with every member placed by one offset from the start of the first volume."""
    entries = []
    at = 0
    while at < len(content):
        entry = _ENTRY.unpack_from(content, at)
        signature, fixed, packed, size, name, extra, comment, volume, attributes, offset = entry
        if signature != b"PK\1\2":
            raise zipfile.BadZipFile(f"no entry of the directory at its byte {at}")
        at += _ENTRY.size
        named = content[at : at + name]
        wide, others = _extras(content[at + name : at + name + extra])
        said = content[at + name + extra : at + name + extra + comment]
        at += name + extra + comment
        size, packed, offset, volume = _widened(wide, size, packed, offset, volume)
        if volume >= len(volumes):
            raise zipfile.BadZipFile(f"member {named[:SHOWN]!r} is said to be in volume {volume + 1} of {len(volumes)}")
        if starts[volume] + offset >= starts[volume + 1]:
            raise zipfile.BadZipFile(f"{volumes[volume].name} is cut: member {named[:SHOWN]!r} begins after its end")
        others = _EXTRA64.pack(1, 24, size, packed, starts[volume] + offset) + others
        full = 0xFFFFFFFF
        head = (b"PK\1\2", fixed, full, full, name, len(others), comment, 0, attributes, full)
        entries += [_ENTRY.pack(*head), named, others, said]
    return b"".join(entries)


def _extras(content: bytes) -> tuple[bytes, bytes]:
    """The 64-bit field of an entry (empty where it has none), and the other fields as they are."""
    wide, others, at = b"", b"", 0
    while at + 4 <= len(content):
        kind, length = struct.unpack_from("<HH", content, at)
        if kind == 1:
            wide = content[at + 4 : at + 4 + length]
        else:
            others += content[at : at + 4 + length]
        at += 4 + length
    return wide, others


def _widened(wide: bytes, size: int, packed: int, offset: int, volume: int) -> tuple[int, int, int, int]:
    """The four values, those that are all ones read from the 64-bit field, which holds no others (4.5.3)."""
    values = [size, packed, offset, volume]
    at = 0
    for position, (full, form) in enumerate([(0xFFFFFFFF, "<Q")] * 3 + [(0xFFFF, "<I")]):
        if values[position] == full:
            (values[position],) = struct.unpack_from(form, wide, at)
            at += struct.calcsize(form)
    return values[0], values[1], values[2], values[3]


def _ending(begin: int, length: int, entries: int) -> bytes:
    """The records that end an archive in one volume, whose directory of `length` bytes starts at `begin`."""
    end64 = _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, entries, entries, length, begin)
    locator = _LOCATOR.pack(b"PK\6\7", 0, begin + length, 1)
    return end64 + locator + _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def _check_order(archive: zipfile.ZipFile, streams: list[BinaryIO], volumes: list[Path]) -> None:
    """Raise where a volume does not hold what the directory places in it, before gigabytes are unpacked.

    The first and the last member that begin in each volume are looked up: a volume of another archive or in another's
    place shows no header there, and a cut one makes its last member run into the next.
    """
    starts = list(itertools.accumulate((volume.stat().st_size for volume in volumes), initial=0))
    whole = io.BufferedReader(_Joined(streams, starts))
    ordered = sorted(archive.infolist(), key=lambda info: info.header_offset)
    offsets = [info.header_offset for info in ordered]
    for number, volume in enumerate(volumes):
        low, high = bisect.bisect_left(offsets, starts[number]), bisect.bisect_left(offsets, starts[number + 1])
        for position in {low, high - 1} if low < high else ():
            info = ordered[position]
            whole.seek(info.header_offset)
            signature, name, extra = _LOCAL.unpack(whole.read(_LOCAL.size))
            if signature != b"PK\3\4":
                raise zipfile.BadZipFile(f"{volume.name} is cut, in another's place, or of another archive")
            data_end = info.header_offset + _LOCAL.size + name + extra + info.compress_size
            following = offsets[position + 1] if position + 1 < len(ordered) else archive.start_dir
            if data_end > following:
                raise zipfile.BadZipFile(f"{volume.name} is cut: member {info.filename[:SHOWN]!r} runs into the next")


class _Joined(io.RawIOBase):
    """Several streams read as one; `starts` are where each begins, and where the last ends."""

    def __init__(self, streams: list[Any], starts: list[int]) -> None:
        self._streams = streams
        self._starts = starts
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise OSError("seek to before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        number = bisect.bisect_right(self._starts, self._at) - 1
        if number >= len(self._streams):
            return 0
        stream = self._streams[number]
        stream.seek(self._at - self._starts[number])
        content = stream.read(min(len(buffer), self._starts[number + 1] - self._at))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
