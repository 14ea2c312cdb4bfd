"""A writer of zips in several volumes, by the published format (PKWARE APPNOTE 6.3), for the tests of the reader."""

import struct
import zlib
from dataclasses import dataclass


@dataclass
class Written:
    volumes: list[bytes]
    """In order; the last one is the .zip."""

    def save(self, folder, stem="a"):
        for number, content in enumerate(self.volumes[:-1], 1):
            (folder / f"{stem}.z{number:02d}").write_bytes(content)
        (folder / f"{stem}.zip").write_bytes(self.volumes[-1])
        return folder / f"{stem}.zip"


class _Tape:
    def __init__(self, length):
        self.length, self.volumes = length, [bytearray(b"PK\7\x08")]  # the mark of a split archive

    def header(self, content):
        """Headers are never cut: one that does not fit opens the next volume."""
        if len(self.volumes[-1]) + len(content) > self.length:
            self.volumes.append(bytearray())
        place = len(self.volumes) - 1, len(self.volumes[-1])
        self.volumes[-1] += content
        return place

    def data(self, content):
        while content:
            room = self.length - len(self.volumes[-1])
            if room <= 0:
                self.volumes.append(bytearray())
                continue
            self.volumes[-1] += content[:room]
            content = content[room:]


def write_split(members, length, zip64=False, comment=b""):
    """Volumes of at most `length` bytes; with `zip64` every value stands in 64-bit fields, the volume too."""
    tape, entries = _Tape(length), []
    for name, content in members.items():
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = squeeze.compress(content) + squeeze.flush()
        raw, crc = name.encode(), zlib.crc32(content)
        sizes = (0xFFFFFFFF, 0xFFFFFFFF) if zip64 else (len(packed), len(content))
        extra = struct.pack("<HHQQ", 1, 16, len(content), len(packed)) if zip64 else b""
        fixed = struct.pack("<HHHHH", 0x800, 8, 0, 0x5821, 0)[:8]
        version = struct.pack("<H", 45)
        lengths = struct.pack("<HH", len(raw), len(extra))
        local = b"PK\3\4" + version + fixed + struct.pack("<III", crc, *sizes) + lengths + raw + extra
        volume, offset = tape.header(local)
        tape.data(packed)
        extra = struct.pack("<HH4sHHQQQI", 0x5455, 4, b"time", 1, 28, len(content), len(packed), offset, volume)
        extra = extra if zip64 else extra[:8]
        shown = (0xFFFF, 0xFFFFFFFF) if zip64 else (volume, offset)
        entry = b"PK\1\2" + struct.pack("<H", 0x32D) + version + fixed + struct.pack("<III", crc, *sizes)
        entry += struct.pack("<HHHHHII", len(raw), len(extra), 3, shown[0], 0, 0o100644 << 16, shown[1])
        entries.append(entry + raw + extra + b"hey")
    first, begin = tape.header(entries[0])
    for entry in entries[1:]:
        tape.header(entry)
    size, count = sum(map(len, entries)), len(entries)
    if zip64:
        end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, first, count, count, size, begin)
        volume64, offset64 = tape.header(end64)
        locator = struct.pack("<4sIQI", b"PK\6\7", volume64, offset64, 0)
        tape.header(locator + bytes(22))  # the end record stays with its locator
        del tape.volumes[-1][-len(locator) - 22 :]
        tape.volumes[-1] += struct.pack("<4sIQI", b"PK\6\7", volume64, offset64, len(tape.volumes))
        fields = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    else:
        tape.header(bytes(22))
        del tape.volumes[-1][-22:]
        fields = (len(tape.volumes) - 1, first, count, count, size, begin)
    tape.volumes[-1] += b"PK\5\6" + struct.pack("<HHHHIIH", *fields, len(comment)) + comment
    return Written([bytes(volume) for volume in tape.volumes])
