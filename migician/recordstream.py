"""The records of a JSON list, one at a time: a merged dataset file has gigabytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migician.errors import UserError

_CHUNK = 1 << 20  # characters
_LARGEST = 64 << 20
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def stream_records(file: Path) -> Iterator[Any]:
    """Each element of the list that is `file`'s whole content, holding few of them in memory.

    Raises `UserError` naming the record, 0-based, and the byte or character where it is not JSON.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            yield from _records(stream.read, file)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8: {error.reason} at byte {error.start} of a piece") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None


def _records(read: Any, file: Path) -> Iterator[Any]:
    text = read(_CHUNK).lstrip(_SPACE)
    if not text.startswith("["):
        raise UserError(f"{file}: not a JSON list of records")
    at, count = 1, 0
    while True:
        at = _skip_space(text, at)
        if count == 0 and text[at : at + 1] == "]":
            return
        problem = "neither a comma nor the end of the list follows it"
        try:
            record, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            end, problem = len(text), error.msg
        end = _skip_space(text, end)
        # Only what follows shows that a record is whole: a number may go on in the next piece.
        if text[end : end + 1] in (",", "]"):
            yield record
            if text[end] == "]":
                return
            at, count = end + 1, count + 1
            continue
        more = read(_CHUNK)
        if not more or len(text) - at > _LARGEST:
            raise UserError(f"{file}: record {count} is not JSON, or the file is cut: {problem}")
        text, at = text[at:] + more, 0


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
