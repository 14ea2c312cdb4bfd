"""Reads the arrays within one large JSON object (`broken_records`: lists of records) in the memory of megabytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import msgspec

from migician.errors import UserError

_CHUNK = 1 << 20
_LARGEST = 1 << 26
"""Characters that one element may have: beyond, it is taken for broken, and the rest of the file is not read for it."""
_TRIES = 4
"""Places at which the text read is cut before its elements are taken one by one."""
_BLANK = re.compile(r"[ \t\n\r]*")


def arrays(file: Path, forms: Mapping[str, type[Any]], kind: str) -> Iterator[tuple[str, list[Any]]]:
    """(key, elements) of the arrays that the object in `file` holds under the keys of `forms`, some thousand at a time.

    Elements come in the file's order, each decoded to what `forms` says of its key; an empty array
    gives an empty list, so that it is known to be there. Other members are passed over. Raises
    `UserError` naming the file and the place where it cannot be read, is not JSON or has another
    form; `kind` says what it should have been ("an instances file").
    """
    try:
        with file.open(encoding="utf-8") as stream:
            text = _Text(stream)
            if not text.sign():
                raise UserError(f"{file}: cannot be read: it is empty")
            try:
                yield from _members(text, forms)
            except (ValueError, RecursionError) as error:
                if isinstance(error, UnicodeDecodeError):
                    raise
                raise UserError(f"{file}: not {kind}: {_reason(error, text.place)}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: cannot be read: {error}") from None


def _members(text: _Text, forms: Mapping[str, type[Any]]) -> Iterator[tuple[str, list[Any]]]:
    text.expect("{")
    while not text.passes("}"):
        key = text.value()
        if not isinstance(key, str):
            raise ValueError("a key is no string")
        text.place = key
        text.expect(":")
        if text.passes("["):
            for elements in _array(text, key, forms.get(key, object)):
                if key in forms:
                    yield key, elements
        elif key in forms:
            raise ValueError("expected a list")
        else:
            text.value()
        text.place = f"after {key}"
        if not text.passes(","):
            text.expect("}")
            break
    if text.sign():
        raise ValueError("more follows the object")


def _array(text: _Text, key: str, form: type[Any]) -> Iterator[list[Any]]:
    """All elements up to the array's end: many at once where that works, else one by one."""
    decoder = msgspec.json.Decoder(list[form])  # type: ignore[valid-type]
    yield []
    if text.passes("]"):
        return
    position = 0
    while True:
        elements = text.values(decoder)
        if not elements:
            text.place = f"{key}[{position}]"
            elements = [msgspec.convert(text.value(), form)]
        yield elements
        position += len(elements)
        if not text.passes(","):
            text.expect("]")
            return


class _Text:
    """A stream of JSON text, decoded from the front; holds some megabytes of it."""

    def __init__(self, stream: TextIO) -> None:
        self.place = "at its beginning"
        self._stream = stream
        self._text = ""
        self._at = 0
        self._tried = False
        self._decode = json.JSONDecoder().raw_decode

    def sign(self) -> str:
        """The next sign that is no blank, which stays; empty at the end."""
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def passes(self, sign: str) -> bool:
        """Whether `sign` comes next; if so it is passed."""
        found = self.sign() == sign
        self._at += found
        return found

    def expect(self, sign: str) -> None:
        """Pass `sign`; raises ValueError where something else comes next."""
        if not self.passes(sign):
            found = self.sign()
            raise ValueError(f"expected {sign!r}, found {found!r}" if found else "the file ends too early")

    def value(self) -> Any:
        """The next value, which is passed; raises ValueError where there is none."""
        self.sign()
        while True:
            try:
                found, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:  # perhaps only cut by the end of what has been read
                if len(self._text) - self._at > _LARGEST or not self._more():
                    raise
                continue
            if end < len(self._text) or not self._more():  # the digits of a number could go on
                self._at = end
                return found

    def values(self, decoder: msgspec.json.Decoder[list[Any]]) -> list[Any]:
        """Many objects of an array at once, which are passed; empty where `value` has to look at the next.

        Text up to some "}," may end within an element or beyond the array, but then it is no list
        once put in brackets: what decodes as one is whole elements.
        """
        self.sign()
        if self._tried:
            return []
        self._tried = True  # until more is read
        end = len(self._text)
        for _ in range(_TRIES):
            end = self._text.rfind("},", self._at, end)
            if end < 0:
                break
            try:
                found = decoder.decode(f"[{self._text[self._at : end + 1]}]")
            except (msgspec.DecodeError, RecursionError):
                continue
            self._at = end + 1
            return found
        return []

    def _more(self) -> bool:
        unread = len(self._text) - self._at
        piece = self._stream.read(max(_CHUNK, unread))  # doubling, so that a long element is not tried too often
        if piece:
            self._text, self._at, self._tried = self._text[self._at :] + piece, 0, False
        return bool(piece)


def _reason(error: Exception, place: str) -> str:
    if isinstance(error, msgspec.ValidationError):  # such as "Expected `int`, got `str` - at `$.image_id`"
        text = str(error)
        return text.replace("`$", f"`{place}", 1) if "`$" in text else f"{text} - at `{place}`"
    if isinstance(error, json.JSONDecodeError):
        return f"{place}: cut off, or not JSON"
    return f"{place}: {'nested too deeply' if isinstance(error, RecursionError) else error}"
