"""A part of a large JSON file that moves along it, and takes many elements at once out of what it holds.

msgspec decodes many elements of a block at once. Only an element that it cannot take, because it is broken, cut by the
block's end or holds NaN, is looked at by itself.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from migician.errors import NOT_JSON, UserError
from migician.files import BYTE_ORDER_MARK, opened

if TYPE_CHECKING:
    from io import BufferedReader

BLOCK = 1 << 20
LARGEST = 16 << 20
"""Bytes of a record; a longer one has a bracket or a quote that never closes."""
_LARGEST_VALUE = 1 << 26
"""Bytes of any other value; a longer one is taken for broken, and the rest of the file is not read for it."""
SHOWN = 40
"""Bytes of a file that an error quotes."""
_TRIES = 8
"""Places where a block is cut before its elements are taken one by one."""

# A string has no raw control character, so a quote that never closes ends at its line.
# Possessive and unrolled: every byte is looked at once, also where nothing matches.
_OPEN_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+'
_STRING = _OPEN_STRING + rb'"'


def _object(depth: int) -> bytes:
    part = _STRING + rb"|" + _object(depth - 1) if depth else _STRING
    return rb'\{[^{}"]*+(?:(?:' + part + rb')[^{}"]*+)*+\}'


RECORD = re.compile(_object(16))
_FLAT = re.compile(rb'[^"]*+(?:' + _STRING + rb'[^"]*+)*+(?:' + _OPEN_STRING + rb"\\?+)?+")
BLANKS, _BLANKS_IN_LINE = re.compile(rb"[ \t\r\n]*+"), re.compile(rb"[ \t\r]*+")
MARK = re.compile(rb"[%b]*+" % BYTE_ORDER_MARK)
SEPARATORS = re.compile(rb"[\s,]*+")
RAW = msgspec.json.Decoder(list[msgspec.Raw])
_raw_decode = json.JSONDecoder().raw_decode


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Raises `UserError` naming `file` for an error of the system within the block."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def window_of(file: Path, offset: int = 0) -> Iterator[Window]:
    """A window that begins at `offset`; raises `UserError` where the file cannot be read."""
    with readable(file), opened(file) as stream:
        stream.seek(offset)
        yield Window(file, stream)


class Window:
    """A part of a file, of some megabytes, that begins near the next byte to look at."""

    def __init__(self, file: Path, stream: BufferedReader) -> None:
        self.file = file
        self.beginning = stream.peek(SHOWN)[:SHOWN]
        self.place = "at its beginning"
        self.text, self.at = b"", 0
        self.stream, self._start = stream, stream.tell()
        self._latin = ""
        self._tried = False

    @property
    def offset(self) -> int:
        """The place in the file of the next byte to look at."""
        return self._start + self.at

    def next(self, blanks: re.Pattern[bytes] = BLANKS) -> bytes:
        """The next byte that is no blank, which stays; empty at the end of the file."""
        while True:
            self.at = blanks.match(self.text, self.at).end()  # type: ignore[union-attr]  # it always matches
            if self.at < len(self.text):
                return self.text[self.at : self.at + 1]
            if not self._more():
                return b""

    def passes(self, sign: str) -> bool:
        """Whether `sign` comes next; if so it is passed."""
        found = self.next() == sign.encode()
        self.at += found
        return found

    def expect(self, sign: str) -> None:
        """Pass `sign`; raises ValueError where something else comes next."""
        if not self.passes(sign):
            found, _ = codecs.utf_8_decode(self.text[self.at : self.at + 4])
            raise ValueError(f"expected {sign!r}, found {found[0]!r}" if found else "the file ends too early")

    def separates(self, listed: bool) -> bool:
        """Whether a separator comes next, which is passed, or the end of a list or of the file."""
        if not listed:
            return self.next(_BLANKS_IN_LINE) in (b"\n", b"")
        return self.next() == b"]" or (self.passes(",") and self.next() not in (b"]", b""))

    def many(self, decoder: msgspec.json.Decoder[list[Any]], *, lines: bool = False) -> list[Any]:
        """Elements that follow one another, which are passed; empty where the next has to be looked at by itself.

        The text is cut where an object begins as the next one does. That may be within another, but then what is
        before it is no list once put in brackets: what decodes as one is whole elements.
        """
        if self._tried:
            return []
        self._tried = True  # until more is read
        head, end = self.text[self.at : self.text.find(b":", self.at) + 1], len(self.text)
        for _ in range(_TRIES if head.startswith(b"{") else 0):
            end = self.text.rfind(head, self.at + 1, end)
            if end < 0:
                break
            part = self.text[self.at : end].rstrip()
            part = part.replace(b"\n", b",") if lines else part.removesuffix(b",")
            try:
                found = decoder.decode(b"[%b]" % part)
            except NOT_JSON:
                continue
            self.at += len(part)
            return found
        return []

    def value(self) -> Any:
        """The next value of any kind, which is passed; raises ValueError where there is none."""
        self.next()
        while True:
            self._latin = self._latin or self.text.decode("latin-1")  # so that places are bytes
            try:
                _, end = _raw_decode(self._latin, self.at)
            except json.JSONDecodeError:  # perhaps only cut by the end of what has been read
                if len(self.text) - self.at > _LARGEST_VALUE or not self._more():
                    raise
                continue
            if end < len(self.text) or not self._more():  # a number may have more digits
                content = self.text[self.at : end].decode()
                self.at = end
                return json.loads(content)

    def take(self) -> bytes:
        """The record that comes next, or the broken line there; it is passed."""
        while True:
            if match := RECORD.match(self.text, self.at):
                self.at = match.end()
                return match[0]
            unfinished = self._is_unfinished()
            if unfinished and len(self.text) - self.at < LARGEST and self._more():
                continue
            return self._line()

    def _is_unfinished(self) -> bool:
        """Whether the record may continue beyond the window: no string in it is broken."""
        if self.text[self.at : self.at + 1] not in (b"{", b""):
            return b"\n" not in self.text[self.at :]
        flat = _FLAT.match(self.text, self.at)
        return bool(flat and flat.end() == len(self.text))

    def _line(self) -> bytes:
        """What stands from here to the end of the line; the separator goes with it."""
        end = self.text.find(b"\n", self.at)
        while end < 0 and len(self.text) - self.at < LARGEST and self._more():
            end = self.text.find(b"\n", self.at)
        end = len(self.text) if end < 0 else end
        line = self.text[self.at : end]
        self.at = end
        return line.rstrip().rstrip(b",")

    def _more(self) -> bool:
        """Read on, dropping what is passed; False at the end of the file."""
        unread = self.text[self.at :]
        # As much again as there is, so that a long element is not looked at once per block.
        block = self.stream.read(max(BLOCK, len(unread)))
        if block:
            self._start += self.at
            self.text, self.at, self._latin, self._tried = unread + block, 0, "", False
        return bool(block)
