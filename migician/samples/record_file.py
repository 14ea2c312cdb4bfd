"""The one scanner of large JSON files: lists of records, JSON lines, and the lists within one object.

A released file can be one line of 1.4 GB, and this project's own have one record per line; both are read in the memory
of a few blocks. msgspec decodes many elements of a block at once. Only an element that it cannot take, because it is
broken, cut by the block's end or holds NaN, is looked at by itself.
"""

from __future__ import annotations

import bisect
import codecs
import contextlib
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from migician.errors import NOT_JSON, UserError
from migician.files import BYTE_ORDER_MARK, opened

if TYPE_CHECKING:
    from io import BufferedReader

_BLOCK = 1 << 20
LARGEST = 16 << 20
"""Bytes of a record; a longer one has a bracket or a quote that never closes."""
_LARGEST_VALUE = 1 << 26
"""Bytes of any other value; a longer one is taken for broken, and the rest of the file is not read for it."""
_SHOWN = 40
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


_RECORD = re.compile(_object(16))
_FLAT = re.compile(rb'[^"]*+(?:' + _STRING + rb'[^"]*+)*+(?:' + _OPEN_STRING + rb"\\?+)?+")
_BLANKS, _BLANKS_IN_LINE = re.compile(rb"[ \t\r\n]*+"), re.compile(rb"[ \t\r]*+")
_MARK = re.compile(rb"[%b]*+" % BYTE_ORDER_MARK)
_SEPARATORS = re.compile(rb"[\s,]*+")
_RAW = msgspec.json.Decoder(list[msgspec.Raw])
_raw_decode = json.JSONDecoder().raw_decode


def records(file: str | Path) -> Iterator[tuple[int, bytes]]:
    """Every record of a JSON list or of JSON lines with its offset in bytes, as written, broken ones too.

    What is no whole JSON object (with objects in it, at most 16 deep) comes too, cut at the end of its line, so that
    whoever decodes it can say what is wrong, and the records after it are read. Raises `UserError` where the file
    cannot be read or where the list around the records is broken: no end, or text after it.
    """
    path = Path(file)
    with _window(path) as window:
        if window.beginning.startswith(BYTE_ORDER_MARK):
            raise UserError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
        yield from _scan(window, strict=False)


def record_at(file: str | Path, offset: int) -> bytes:
    """The record that begins at `offset`, as `records` gave it."""
    with _window(Path(file), offset) as window:
        return window.take()


class JsonRecords:
    """The objects of one file, each as its bytes: `records[7]`, `len(records)`, `for record in records`.

    A file that begins with `[` is one JSON list, one that begins with `{` is JSON lines. Opening reads it once, for
    where each object begins and ends, and keeps 16 bytes per record. Raises `UserError` naming the file and the place
    where it is cut short, and of anything that is no object.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._starts, self._ends = array("Q"), array("Q")
        with _window(self.file) as window:
            if window.beginning.startswith(BYTE_ORDER_MARK):
                window.next(_MARK)
            if window.next() not in (b"[", b"{"):
                shown = window.beginning.decode("utf-8", "replace")
                begins = f"it begins with {repr(shown) if shown else 'nothing'}"
                raise UserError(f"{self.file}: neither a JSON list nor JSON lines: {begins}")
            for offset, content in _scan(window, strict=True):
                self._starts.append(offset)
                self._ends.append(offset + len(content))
            # Unbuffered, as records are read by position, and its own, as the window's is closed.
            self._stream = os.fdopen(os.dup(window.stream.fileno()), "rb", buffering=0)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, position: int) -> bytes:
        return _between(self.file, self._stream.fileno(), self._starts[position], self._ends[position])

    def __iter__(self) -> Iterator[bytes]:
        return self._part(0, len(self)).read(self._stream.fileno())

    def parts(self, size: int) -> Iterator[tuple[int, Part]]:
        """All records, `size` at a time, each part with the number of its first."""
        return ((first, self._part(first, first + size)) for first in range(0, len(self), size))

    def _part(self, first: int, after: int) -> Part:
        inode = os.fstat(self._stream.fileno()).st_ino
        return Part(self.file, inode, self._starts[first:after], self._ends[first:after])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


@dataclass(frozen=True, slots=True)
class Part:
    """Some records of a file, by where they are: what another process needs to read them by itself."""

    file: Path
    inode: int
    starts: array[int]
    ends: array[int]

    def __iter__(self) -> Iterator[bytes]:
        """The records; raises `UserError` where the file is another by now."""
        with _readable(self.file), opened(self.file) as stream:
            if os.fstat(stream.fileno()).st_ino != self.inode:
                raise UserError(f"{self.file}: it was replaced while it was read")
            yield from self.read(stream.fileno())

    def read(self, descriptor: int) -> Iterator[bytes]:
        """The records, of the file opened as `descriptor`."""
        starts, ends, first = self.starts, self.ends, 0
        while first < len(starts):
            start = starts[first]
            # As many as are whole within a block, or one.
            after = max(first + 1, bisect.bisect_right(ends, start + _BLOCK))
            content = _between(self.file, descriptor, start, ends[after - 1])
            for position in range(first, after):
                yield content[starts[position] - start : ends[position] - start]
            first = after


def _between(file: Path, descriptor: int, start: int, end: int) -> bytes:
    with _readable(file):
        content = os.pread(descriptor, end - start, start)
    if len(content) != end - start:
        raise UserError(f"{file}: ends before byte {end}: it was changed while it was read")
    return content


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None


def blocks_of(pieces: Iterable[list[bytes]], *, as_list: bool) -> Iterator[bytes]:
    """As `lines_of`, of records that are one line each already, many at once."""
    separator = b",\n" if as_list else b"\n"
    joined = (separator.join(records) for records in pieces if records)
    return lines_of(joined, as_list=True) if as_list else (block + b"\n" for block in joined)


def lines_of(records: Iterable[bytes], *, as_list: bool) -> Iterator[bytes]:
    """A file of records, one per line: a JSON list in as many pieces as records and one more, or JSON lines."""
    if not as_list:
        for record in records:
            # A record of several lines is put on one: line ends in JSON are never part of a text.
            yield (msgspec.json.format(record, indent=-1) if b"\n" in record else record) + b"\n"
        return
    opening = b"[\n"
    for record in records:
        yield opening + record
        opening = b",\n"
    yield b"[]\n" if opening == b"[\n" else b"\n]\n"


def arrays(file: Path, forms: Mapping[str, type[Any]], kind: str) -> Iterator[tuple[str, list[Any]]]:
    """(key, elements) of the arrays that the object in `file` holds under the keys of `forms`, some thousand at a time.

    Elements come in the file's order, each decoded to what `forms` says of its key; an empty array gives an empty
    list, so that it is known to be there. Other members are passed over. Raises `UserError` naming the file and the
    place where it cannot be read, is not JSON or has another form; `kind` says what it should have been ("an
    instances file").
    """
    with _window(file) as window:
        if not window.next():
            raise UserError(f"{file}: cannot be read: it is empty")
        try:
            yield from _members(window, forms)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: cannot be read: {error}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: not {kind}: {_reason(error, window.place)}") from None


def _members(window: _Window, forms: Mapping[str, type[Any]]) -> Iterator[tuple[str, list[Any]]]:
    window.expect("{")
    while not window.passes("}"):
        key = window.value()
        if not isinstance(key, str):
            raise ValueError("a key is no string")
        window.place = key
        window.expect(":")
        if window.passes("["):
            for elements in _elements(window, key, forms.get(key)):
                if key in forms:
                    yield key, elements
        elif key in forms:
            raise ValueError("expected a list")
        else:
            window.value()
        window.place = f"after {key}"
        if not window.passes(","):
            window.expect("}")
            break
    if window.next():
        raise ValueError("more follows the object")


def _elements(window: _Window, key: str, form: type[Any] | None) -> Iterator[list[Any]]:
    """All elements up to the array's end as `form`, many at once where that works; without `form` they are skipped."""
    decoder = msgspec.json.Decoder(list[form]) if form else _RAW  # type: ignore[valid-type]
    yield []
    if window.passes("]"):
        return
    position = 0
    while True:
        window.next()
        elements = window.many(decoder)
        if not elements:
            window.place = f"{key}[{position}]"
            value = window.value()
            elements = [msgspec.convert(value, form) if form else value]
        yield elements
        position += len(elements)
        if not window.passes(","):
            window.expect("]")
            return


def _reason(error: Exception, place: str) -> str:
    if isinstance(error, msgspec.ValidationError):  # such as "Expected `int`, got `str` - at `$.image_id`"
        text = str(error)
        return text.replace("`$", f"`{place}", 1) if "`$" in text else f"{text} - at `{place}`"
    if isinstance(error, json.JSONDecodeError):
        return f"{place}: cut off, or not JSON"
    return f"{place}: {'nested too deeply' if isinstance(error, RecursionError) else error}"


def _scan(window: _Window, *, strict: bool) -> Iterator[tuple[int, bytes]]:
    """The records of a file from its beginning, with their offsets; `strict` refuses what `records` lets pass."""
    listed, number = window.passes("["), 0
    while byte := window.next(_BLANKS if strict else _SEPARATORS):
        if listed and byte == b"]":
            window.at += 1
            if not window.next():
                return
            raise UserError(f"{window.file}: byte {window.offset}: there is text after the end of the list")
        text, at, base = window.text, window.at, window.offset - window.at
        several = window.many(_RAW, lines=not listed)
        for one in several or [window.take()]:
            begin = _SEPARATORS.match(text, at).end()  # type: ignore[union-attr]  # it always matches
            at = begin + len(one)
            content = bytes(one)
            if strict and not content.startswith(b"{"):
                raise UserError(f"{window.file}: record {number} (byte {base + begin}) is not an object")
            if strict and not several and not _RECORD.fullmatch(content):
                where = f"in record {number} (byte {base + begin})"
                raise UserError(f"{window.file}: cut short {where}, or broken there; fetch or make the file again")
            yield base + begin, content
            number += 1
        if strict and not window.separates(listed):
            found = window.text[window.at : window.at + _SHOWN].decode("utf-8", "replace")
            what = f"expected {'a comma' if listed else 'a new line'}, found {found!r}" if found else "cut short"
            raise UserError(f"{window.file}: after record {number - 1} (byte {base + at}): {what}")
    if listed:
        raise UserError(f"{window.file}: byte {window.offset}: the list has no end; the file seems cut off")


@contextlib.contextmanager
def _window(file: Path, offset: int = 0) -> Iterator[_Window]:
    with _readable(file), opened(file) as stream:
        stream.seek(offset)
        yield _Window(file, stream)


class _Window:
    """A part of a file, of some megabytes, that begins near the next byte to look at."""

    def __init__(self, file: Path, stream: BufferedReader) -> None:
        self.file = file
        self.beginning = stream.peek(_SHOWN)[:_SHOWN]
        self.place = "at its beginning"
        self.text, self.at = b"", 0
        self.stream, self._start = stream, stream.tell()
        self._latin = ""
        self._tried = False

    @property
    def offset(self) -> int:
        """The place in the file of the next byte to look at."""
        return self._start + self.at

    def next(self, blanks: re.Pattern[bytes] = _BLANKS) -> bytes:
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
            if match := _RECORD.match(self.text, self.at):
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
        block = self.stream.read(max(_BLOCK, len(unread)))
        if block:
            self._start += self.at
            self.text, self.at, self._latin, self._tried = unread + block, 0, "", False
        return bool(block)
