"""The one scanner of large JSON files: lists of records, JSON lines, and the lists within one object.

A released file can be one line of 1.4 GB, and this project's own have one record per line; both are read in the memory
of a few blocks (`migician.samples.json_window`).
"""

from __future__ import annotations

import bisect
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from migician.errors import UserError
from migician.files import BYTE_ORDER_MARK, opened
from migician.samples.json_window import (
    BLANKS,
    BLOCK,
    MARK,
    RAW,
    RECORD,
    SEPARATORS,
    SHOWN,
    Window,
    readable,
    window_of,
)


def records(file: str | Path) -> Iterator[tuple[int, bytes]]:
    """Every record of a JSON list or of JSON lines with its offset in bytes, as written, broken ones too.

    What is no whole JSON object (with objects in it, at most 16 deep) comes too, cut at the end of its line, so that
    whoever decodes it can say what is wrong, and the records after it are read. Raises `UserError` where the file
    cannot be read or where the list around the records is broken: no end, or text after it.
    """
    path = Path(file)
    with window_of(path) as window:
        if window.beginning.startswith(BYTE_ORDER_MARK):
            raise UserError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
        yield from _scan(window, strict=False)


def record_at(file: str | Path, offset: int) -> bytes:
    """The record that begins at `offset`, as `records` gave it."""
    with window_of(Path(file), offset) as window:
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
        with window_of(self.file) as window:
            if window.beginning.startswith(BYTE_ORDER_MARK):
                window.next(MARK)
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
        with readable(self.file), opened(self.file) as stream:
            if os.fstat(stream.fileno()).st_ino != self.inode:
                raise UserError(f"{self.file}: it was replaced while it was read")
            yield from self.read(stream.fileno())

    def read(self, descriptor: int) -> Iterator[bytes]:
        """The records, of the file opened as `descriptor`."""
        starts, ends, first = self.starts, self.ends, 0
        while first < len(starts):
            start = starts[first]
            # As many as are whole within a block, or one.
            after = max(first + 1, bisect.bisect_right(ends, start + BLOCK))
            content = _between(self.file, descriptor, start, ends[after - 1])
            for position in range(first, after):
                yield content[starts[position] - start : ends[position] - start]
            first = after


def _between(file: Path, descriptor: int, start: int, end: int) -> bytes:
    with readable(file):
        content = os.pread(descriptor, end - start, start)
    if len(content) != end - start:
        raise UserError(f"{file}: ends before byte {end}: it was changed while it was read")
    return content


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
    with window_of(file) as window:
        if not window.next():
            raise UserError(f"{file}: cannot be read: it is empty")
        try:
            yield from _members(window, forms)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: cannot be read: {error}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: not {kind}: {_reason(error, window.place)}") from None


def _members(window: Window, forms: Mapping[str, type[Any]]) -> Iterator[tuple[str, list[Any]]]:
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


def _elements(window: Window, key: str, form: type[Any] | None) -> Iterator[list[Any]]:
    """All elements up to the array's end as `form`, many at once where that works; without `form` they are skipped."""
    decoder = msgspec.json.Decoder(list[form]) if form else RAW  # type: ignore[valid-type]
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


def _scan(window: Window, *, strict: bool) -> Iterator[tuple[int, bytes]]:
    """The records of a file from its beginning, with their offsets; `strict` refuses what `records` lets pass."""
    listed, number = window.passes("["), 0
    while byte := window.next(BLANKS if strict else SEPARATORS):
        if listed and byte == b"]":
            window.at += 1
            if not window.next():
                return
            raise UserError(f"{window.file}: byte {window.offset}: there is text after the end of the list")
        text, at, base = window.text, window.at, window.offset - window.at
        several = window.many(RAW, lines=not listed)
        elements = several or [window.take()]
        for begin, one in zip(_places(text, at, elements), elements, strict=True):
            at = begin + len(one)
            content = bytes(one)
            if strict and not content.startswith(b"{"):
                raise UserError(f"{window.file}: record {number} (byte {base + begin}) is not an object")
            if strict and not several and not RECORD.fullmatch(content):
                where = f"in record {number} (byte {base + begin})"
                raise UserError(f"{window.file}: cut short {where}, or broken there; fetch or make the file again")
            yield base + begin, content
            number += 1
        if strict and not window.separates(listed):
            found = window.text[window.at : window.at + SHOWN].decode("utf-8", "replace")
            what = f"expected {'a comma' if listed else 'a new line'}, found {found!r}" if found else "cut short"
            raise UserError(f"{window.file}: after record {number - 1} (byte {base + at}): {what}")
    if listed:
        raise UserError(f"{window.file}: byte {window.offset}: the list has no end; the file seems cut off")


def _places(text: bytes, at: int, elements: Sequence[Sized]) -> list[int]:
    """Where in `text` the elements begin that follow one another from `at`."""
    ends = SEPARATORS.match
    first = ends(text, at).end()  # type: ignore[union-attr]  # it always matches
    after = first + len(elements[0])
    gap = text[after : ends(text, after).end()]  # type: ignore[union-attr]
    lengths = np.fromiter(map(len, elements), np.int64, len(elements))
    places = first + np.cumsum(lengths + len(gap)) - lengths - len(gap)
    if places[-1] < len(text):
        signs = np.frombuffer(text, np.uint8)
        before = [signs[places[1:] - len(gap) + number] == sign for number, sign in enumerate(gap)]
        if (signs[places] == ord("{")).all() and all(map(np.all, before)):
            found: list[int] = places.tolist()  # the same bytes are between any two, and an object begins behind them
            return found
    listed = []
    for one in elements:
        at = ends(text, at).end()  # type: ignore[union-attr]
        listed.append(at)
        at += len(one)
    return listed
