"""The records of a JSON list or JSON lines in turn, broken ones too: for checks that go on where `record_file` stops.

Each comes with its place in the file. A released file can be one line of 1.4 GB, and this project's own
have one record a line; either streams in the memory of a few blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from migician.errors import UserError

_BLOCK = 4 << 20
LARGEST = 16 << 20
"""Bytes of a record; a longer one has a bracket or a quote that never closes."""

# A string has no raw control character, so a quote that never closes ends at its line.
# Possessive and unrolled: every byte is looked at once, also where nothing matches.
_OPEN_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+'
_STRING = _OPEN_STRING + rb'"'


def _object(depth: int) -> bytes:
    part = _STRING + rb"|" + _object(depth - 1) if depth else _STRING
    return rb'\{[^{}"]*+(?:(?:' + part + rb')[^{}"]*+)*+\}'


_RECORD = re.compile(_object(8))
_FLAT = re.compile(rb'[^"]*+(?:' + _STRING + rb'[^"]*+)*+(?:' + _OPEN_STRING + rb"\\?+)?+")
_SPACE = re.compile(rb"[\s,]*+")
_BLANK = re.compile(rb"\s*+")


def records(file: str | Path) -> Iterator[tuple[int, bytes]]:
    """Every record of `file` with its offset in bytes; the bytes are as written, not decoded.

    What is no whole JSON object (with objects in it, at most eight deep) comes too, cut at the end
    of its line, so that whoever decodes it can say what is wrong, and the records behind it are
    read. Raises `UserError` where the file cannot be read or where the list around the records
    does not hold: no end, or something behind it.
    """
    path = Path(file)
    try:
        with path.open("rb") as stream:
            yield from _Scanner(path, stream).scan()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def record_at(file: str | Path, offset: int) -> bytes:
    """The record that begins at `offset`, as `records` gave it."""
    with Path(file).open("rb") as stream:
        stream.seek(offset)
        scanner = _Scanner(Path(file), stream)
        return scanner.take()


class _Scanner:
    """A window over the file that begins at the next byte to look at."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._window = b""
        self._position = 0
        self._base = stream.tell()
        self._ended = False

    def scan(self) -> Iterator[tuple[int, bytes]]:
        self._more()
        if self._window.startswith(b"\xef\xbb\xbf"):
            raise UserError(f"{self._path}: begins with a byte order mark; save it as UTF-8 without one")
        listed = self._skip(_BLANK) == b"["
        if listed:
            self._position += 1
        while byte := self._skip(_SPACE):
            if listed and byte == b"]":
                self._position += 1
                if not self._skip(_BLANK):
                    return
                raise UserError(f"{self._path}: byte {self._offset}: there is text behind the end of the list")
            yield self._offset, self.take()
        if listed:
            raise UserError(f"{self._path}: byte {self._offset}: the list has no end; the file seems cut off")

    @property
    def _offset(self) -> int:
        return self._base + self._position

    def _more(self) -> bool:
        """Read on, dropping what is behind; False at the end of the file."""
        # As much again as there is, so that a long record is not looked at once a block.
        block = self._stream.read(max(_BLOCK, len(self._window) - self._position))
        self._window = self._window[self._position :] + block
        self._base += self._position
        self._position = 0
        self._ended = not block
        return bool(block)

    def _skip(self, what: re.Pattern[bytes]) -> bytes:
        """Pass over what separates records; gives the next byte, empty at the end of the file."""
        while True:
            match = what.match(self._window, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._window):
                return self._window[self._position : self._position + 1]
            if not self._more():
                return b""

    def take(self) -> bytes:
        """The record at the window's position, or the broken line there."""
        while True:
            match = _RECORD.match(self._window, self._position)
            if match:
                self._position = match.end()
                return match[0]
            unfinished = self._is_unfinished()
            if unfinished and len(self._window) - self._position < LARGEST and self._more():
                continue
            return self._line()

    def _is_unfinished(self) -> bool:
        """Whether the record may go on beyond the window: no string in it is broken."""
        if self._window[self._position : self._position + 1] not in (b"{", b""):
            return b"\n" not in self._window[self._position :]
        flat = _FLAT.match(self._window, self._position)
        return bool(flat and flat.end() == len(self._window))

    def _line(self) -> bytes:
        """What stands from here to the end of the line; the separator goes with it."""
        end = self._window.find(b"\n", self._position)
        while end < 0 and len(self._window) - self._position < LARGEST and self._more():
            end = self._window.find(b"\n", self._position)
        end = len(self._window) if end < 0 else end
        line = self._window[self._position : end]
        self._position = end
        return line.rstrip().rstrip(b",")
