"""A zip cut into volumes (.z01, .z02, ... .zip), opened as if it were one file, without joining it on disk.

`zip -s` cuts the bytes of an archive at fixed lengths; joined, they are the archive again. Only its end differs: it
names a place as a volume and an offset in that volume, and Python's zipfile refuses it. So zipfile reads the volumes as
they lie and then the directory with another end, and its members are moved to where they are in the joined archive.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.14 to 4.3.16, 4.5.3 and 8.
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
_END = struct.Struct("<4sHHHHIIH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
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
    starts = list(itertools.accumulate((volume.stat().st_size for volume in volumes), initial=0))
    begin, directory = _directory(streams, starts, end)
    # The end says that the directory begins at 0: zipfile takes all before it for data put in front of an archive.
    tail = directory + _END.pack(b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    parts = [*(min(start, begin) for start in starts), begin + len(tail)]
    whole = io.BufferedReader(_Joined([*streams, io.BytesIO(tail)], parts), 1 << 20)
    archive = stack.enter_context(zipfile.ZipFile(whole))
    for info in archive.infolist():
        _place(info, begin, starts, volumes)
    _check_order(archive, whole, starts, volumes)
    return archive


def volume_files(file: Path, count: int) -> list[Path]:
    """The files of an archive in `count` volumes that ends with `file`, in order.

    Raises `UserError` naming one that is missing.
    """
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
            _, volume, first, _, _, length, offset, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                break
    else:
        raise UserError(f"{file}: no zip, or cut short: it has no directory at its end. Fetch it again")
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, volume64, offset64, volumes = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        return _End(max(1, volumes), first, offset, length, volume64, offset64)
    return _End(volume + 1, first, offset, length, None, 0)


def _directory(streams: list[BinaryIO], starts: list[int], end: _End) -> tuple[int, bytes]:
    """Where the directory begins in the joined archive, and its bytes."""
    count = len(streams)
    if end.volume64 is not None:
        if end.volume64 >= count:
            raise zipfile.BadZipFile(f"its directory is said to be in volume {end.volume64 + 1} of {count}")
        if end.offset64 >= starts[end.volume64 + 1] - starts[end.volume64]:
            raise zipfile.BadZipFile("the 64-bit end record is said to be after the end of its volume")
        streams[end.volume64].seek(end.offset64)
        signature, *_, first, _, _, size, offset = _END64.unpack(streams[end.volume64].read(_END64.size))
        if signature != b"PK\6\6":
            raise zipfile.BadZipFile("the 64-bit end record is not where it should be")
        end = end._replace(directory_volume=first, directory_offset=offset, directory_size=size)
    if end.directory_volume >= count:
        raise zipfile.BadZipFile(f"its directory is said to be in volume {end.directory_volume + 1} of {count}")
    begin = starts[end.directory_volume] + end.directory_offset
    if begin + end.directory_size > starts[-1]:
        raise zipfile.BadZipFile(f"its directory of {end.directory_size} bytes ends after the last volume")
    whole = io.BufferedReader(_Joined(streams, starts))
    whole.seek(begin)
    return begin, whole.read(end.directory_size)


def _place(info: zipfile.ZipInfo, begin: int, starts: list[int], volumes: list[Path]) -> None:
    """Move a member, which zipfile counts from its volume's start plus `begin`, to its place in the joined archive."""
    volume, extra = info.volume, info.extra
    while volume == 0xFFFF and len(extra) >= 4:  # it is the last value of the 64-bit field (4.5.3)
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            (volume,) = struct.unpack_from("<I", extra, length)
        extra = extra[4 + length :]
    if volume >= len(volumes):
        raise zipfile.BadZipFile(
            f"member {info.filename[:SHOWN]!r} is said to be in volume {volume + 1} of {len(volumes)}"
        )
    info.header_offset += starts[volume] - begin
    if info.header_offset >= starts[volume + 1]:
        raise zipfile.BadZipFile(
            f"{volumes[volume].name} is cut: member {info.filename[:SHOWN]!r} begins after its end"
        )
    # zipfile's own check of overlaps, which not every version has, was made for the offsets within volumes.
    with contextlib.suppress(AttributeError):
        info._end_offset = None  # type: ignore[attr-defined]


def _check_order(archive: zipfile.ZipFile, whole: BinaryIO, starts: list[int], volumes: list[Path]) -> None:
    """Raise where a volume does not hold what the directory places in it, before gigabytes are unpacked.

    The first and the last member that begin in each volume are looked up: a volume of another archive or in another's
    place shows no header there, and a cut one makes its last member run into the next.
    """
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
