"""Files that others wrote: read whole, or refused in one line that names the file and what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from migician.errors import NOT_JSON, UserError

_Form = TypeVar("_Form")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some editors put before UTF-8."""


def read_bytes(file: Path, otherwise: str = "") -> bytes:
    """The bytes of a file; `UserError` where it cannot be read, with `otherwise`, a sentence, as the way out."""
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        raise UserError(f"{file}: cannot be read: {_reason(error)}{otherwise and f'. {otherwise}'}") from None


def read_text(file: Path) -> str:
    """The text of a UTF-8 file; `UserError` where it is none."""
    try:
        return read_bytes(file).removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8: {error}") from None


def decode(content: bytes, form: type[_Form], place: object, what: str) -> _Form:
    """JSON as `form`; `UserError` that says at `place` it is not `what`, and why.

    Whatever the bytes are: not UTF-8, nested without end, or JSON of another form.

    >>> decode(b"[1, 2]", list[int], "a.json", "a list of numbers")
    [1, 2]
    """
    try:
        return msgspec.json.decode(content.removeprefix(BYTE_ORDER_MARK), type=form)
    except NOT_JSON as error:
        raise UserError(f"{place}: not {what}: {error}") from None


def read_json(file: Path, form: type[_Form], what: str, otherwise: str = "") -> _Form:
    """The content of a JSON file as `form`; `UserError` as of `read_bytes` and `decode`."""
    return decode(read_bytes(file, otherwise), form, file, what)


def read_lines(file: Path, form: type[_Form], what: str, otherwise: str = "") -> Iterator[_Form]:
    """The lines of a file of JSON lines as `form`, empty ones left out; `UserError` names the number of the line."""
    decoder = msgspec.json.Decoder(form)
    content = read_bytes(file, otherwise).removeprefix(BYTE_ORDER_MARK)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except NOT_JSON as error:
                raise UserError(f"{file}:{number}: not {what}: {error}") from None


@overload
def read_object(file: Path) -> dict[str, Any]: ...


@overload
def read_object(file: Path, form: type[_Form]) -> _Form: ...


def read_object(file: Path, form: Any = dict[str, Any]) -> Any:
    """The JSON object in a file that Python wrote, as `form`; `UserError` naming the file where it is none.

    Unlike JSON proper it may hold NaN and Infinity: a trainer's state has them where a loss has run away.
    """
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(content).__name__}")
    try:
        return msgspec.convert(content, form)
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: {error}") from None


def read_yaml(file: Path) -> Any:
    """What a YAML file says; `UserError` naming the file, and the line where it is no YAML."""
    return decode_yaml(read_text(file), file)


def decode_yaml(text: str, place: object) -> Any:
    """What some YAML says; `UserError` naming `place` where it is none."""
    import yaml  # late: scoring needs none of it

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that does not exist is a ValueError
        raise UserError(f"{place}: not YAML: {' '.join(str(error).split())}") from None


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
