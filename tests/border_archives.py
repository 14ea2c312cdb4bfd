"""Archives that were made to do harm, and what must be said of each; `test_border_archives` fetches every one.

Each is a small file: what it claims is more than any disk, memory or file system has.
"""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from split_zip import write_split

FAMILY = "Difference"
_FILE = stat.S_IFREG | 0o644


@dataclass(frozen=True)
class Hostile:
    """The files of one archive, by their endings, and what must be said of it."""

    files: Callable[[], dict[str, bytes]]
    says: str


def packed(members: Sequence[tuple[str, bytes]], mode: int = _FILE, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of some members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, content)
    return stream.getvalue()


def _one(name: str, mode: int = _FILE) -> Callable[[], dict[str, bytes]]:
    return lambda: {"zip": packed([("good.jpg", b"good"), (name, b"bad")], mode)}


def _renamed(old: bytes, new: bytes) -> Callable[[], dict[str, bytes]]:
    """A name that Python's writer would not write."""
    return lambda: {"zip": packed([(old.decode(), b"bad")]).replace(old, new)}


def _fields(entry: int | None, local: int | None, form: str, value: int) -> Callable[[], dict[str, bytes]]:
    """One number of a member, in the directory at byte `entry` and before its data at byte `local`."""

    def files() -> dict[str, bytes]:
        content = bytearray(packed([("a.jpg", bytes(50_000))]))
        for signature, at in ((b"PK\1\2", entry), (b"PK\3\4", local)):
            if at is not None:
                struct.pack_into(form, content, content.index(signature) + at, value)
        return {"zip": bytes(content)}

    return files


def _volumes(count: int) -> Callable[[], dict[str, bytes]]:
    """A last volume that claims to be one of `count`."""

    def files() -> dict[str, bytes]:
        members = {f"{at}.jpg": random.Random(at).randbytes(3000) for at in range(4)}
        volumes = [bytearray(one) for one in write_split(members, 8000, zip64=True).volumes]
        struct.pack_into("<I", volumes[-1], volumes[-1].rindex(b"PK\6\7") + 16, count)
        return {f"z{at:02d}": bytes(one) for at, one in enumerate(volumes[:-1], 1)} | {"zip": bytes(volumes[-1])}

    return files


def _far_directory(offset: int) -> Callable[[], dict[str, bytes]]:
    """All volumes are there, and the record of what they hold is said to be at `offset` of its own."""

    def files() -> dict[str, bytes]:
        content = _volumes(2)()
        last = bytearray(content["zip"])
        struct.pack_into("<Q", last, last.rindex(b"PK\6\7") + 8, offset)
        return content | {"zip": bytes(last)}

    return files


def _short_volumes(count: int) -> Callable[[], dict[str, bytes]]:
    """As `_volumes`, by the field of 16 bits."""

    def files() -> dict[str, bytes]:
        content = bytearray(packed([("a.jpg", b"a")]))
        struct.pack_into("<H", content, content.rindex(b"PK\5\6") + 4, count - 1)
        return {"zip": bytes(content)}

    return files


def _cut(share: float) -> Callable[[], dict[str, bytes]]:
    def files() -> dict[str, bytes]:
        content = packed([(f"{at}.jpg", random.Random(at).randbytes(3000)) for at in range(4)])
        return {"zip": content[: int(share * len(content))]}

    return files


def _petabyte() -> dict[str, bytes]:
    """By the field of 64 bits."""
    content = packed([("a.jpg", b"a")])
    at, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = bytearray(content[at:end] + struct.pack("<HHQ", 1, 8, 10**15))
    struct.pack_into("<IHH", entry, 24, 0xFFFFFFFF, len("a.jpg"), 12)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), at, 0)
    return {"zip": content[:at] + bytes(entry) + last}


def _shared() -> dict[str, bytes]:
    """Two names for the same bytes: how a small file becomes a large one."""
    content = packed([("a.jpg", bytes(10_000))])
    begin, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    twice = content[begin:end] + content[begin:end].replace(b"a.jpg", b"b.jpg")
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(twice), begin, 0)
    return {"zip": content[:begin] + twice + last}


ARCHIVES: dict[str, Hostile] = {
    "4 billion volumes": Hostile(_volumes(2**32 - 1), "z02 is not beside it"),
    "a record of 64 bits behind its volume": Hostile(_far_directory(2**40), "after the end of its volume"),
    "a record of 64 bits where no file can reach": Hostile(_far_directory(2**64 - 1), "after the end of its volume"),
    "as many volumes as 16 bits name": Hostile(_short_volumes(2**16 - 1), "z01 is not beside it"),
    "a name of 256 bytes": Hostile(_one("a" * 252 + ".jpg"), "longer than"),
    "a folder's name of 256 bytes": Hostile(_one("a" * 256 + "/a.jpg"), "longer than"),
    "a name of 256 bytes in 129 letters": Hostile(_one("é" * 126 + ".jpg"), "longer than"),
    "a name of 60,000 bytes": Hostile(_one("a" * 60_000), "longer than"),
    "a path of 5,000 bytes": Hostile(_one("/".join(["a" * 100] * 50)), "longer than"),
    "3,000 folders deep": Hostile(_one("a/" * 3_000 + "a.jpg"), "deep"),
    "1,500 folders deep": Hostile(_one("a/" * 1_500 + "a.jpg"), "deep"),
    "30,000 folders deep": Hostile(_one("a/" * 30_000 + "a.jpg"), "deep"),
    "named as an unfinished member": Hostile(_one(f"{FAMILY}/.unpacking.part"), "unfinished"),
    "in a folder named as an unfinished member": Hostile(
        lambda: {"zip": packed([(f"{FAMILY}/a.jpg", b"good"), (".unpacking.part/a.jpg", b"bad")])}, "unfinished"
    ),
    "named as an unfinished file": Hostile(_one(".fetched.json.part"), "unfinished"),
    "named as the record of what was fetched": Hostile(
        lambda: {"zip": packed([(f"{FAMILY}/a.jpg", b"good"), ("fetched.json", b"{}")])}, "fetched.json"
    ),
    "in the folder of archives": Hostile(
        lambda: {"zip": packed([(f"{FAMILY}/a.jpg", b"good"), ("archives/a.jpg", b"bad")])}, "archives"
    ),
    "absolute": Hostile(_one("/etc/a.jpg"), "is absolute"),
    "out of the folder": Hostile(_one("../../a.jpg"), "leads out of the folder"),
    "a drive": Hostile(_one("C:/a.jpg"), "drive letter"),
    "a backslash": Hostile(_one("..\\a.jpg"), "backslash"),
    "a zero byte": Hostile(_renamed(b"goodX..", b"good\0.."), "control character"),
    "a link": Hostile(_one("d", stat.S_IFLNK | 0o777), "is a link"),
    "a device": Hostile(_one("d", stat.S_IFCHR | 0o644), "is neither a file nor a folder"),
    "a pipe": Hostile(_one("d", stat.S_IFIFO | 0o644), "is neither a file nor a folder"),
    "one name twice": Hostile(
        lambda: {"zip": packed([("a.jpg", b"1"), ("b.jpg", b"2")]).replace(b"b.jpg", b"a.jpg")}, "would be one file"
    ),
    "one name in two cases": Hostile(lambda: {"zip": packed([("a.jpg", b"1"), ("A.JPG", b"2")])}, "would be one file"),
    "a file where another needs a folder": Hostile(
        lambda: {"zip": packed([("d", b"1"), ("d/a.jpg", b"2")])}, "is also the folder of another"
    ),
    "members that share their bytes": Hostile(_shared, "overlaps"),
    "encrypted": Hostile(_fields(8, 6, "<H", 1), "is encrypted"),
    "an unknown compression": Hostile(_fields(10, 8, "<H", 99), "method 99"),
    "a petabyte": Hostile(_petabyte, "are missing"),
    "fewer bytes than there are": Hostile(_fields(24, None, "<I", 10), "a.jpg"),
    "cut in the middle": Hostile(_cut(0.5), "Fetch it again"),
    "cut at the end": Hostile(_cut(0.99), "Fetch it again"),
    "nothing": Hostile(lambda: {"zip": b""}, "Fetch it again"),
    "something behind its end": Hostile(lambda: {"zip": packed([("a.jpg", b"a")]) + b"x" * 70_000}, "Fetch it again"),
}
