"""The border: files, names and numbers that others wrote, taken whole or refused in one line.

Whoever reads JSON or YAML, or asks whether a path that stands in a file is there, does it by these functions, and
catches nothing but `UserError`.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from migician.errors import NOT_JSON, UserError, writing

_Form = TypeVar("_Form")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some editors put before UTF-8."""

_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBADF, errno.ENAMETOOLONG})
_DIGITS = bytes(48 if chr(byte) in "0123456789" else 32 for byte in range(256))
_MANY_DIGITS = b"0" * 19
"""With fewer digits a whole number has no more than 64 bits."""
HALF = re.compile("[\ud800-\udfff]")
"""Of a character: nothing writes it to a file. Python reads it from names of files that are not UTF-8."""
_WORD = range(-(2**63), 2**64)
_DEEPEST, _MOST = 100, 10_000_000
"""Of values in each other, and in all: a few lines of YAML can say more than any memory holds."""


def is_file(path: str | Path) -> bool:
    """Whether a file is there; False, too, for a name that no file system takes."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False, too, for a name that no file system takes."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def status(path: str | Path) -> os.stat_result | None:
    """What is known of a file or folder, links followed; None where nothing is, or can be, of that name.

    Raises `OSError` where that cannot be found out, such as in a folder without permission.

    >>> status("a" * 300), status("a" + chr(0)), status(chr(0xD800))
    (None, None, None)
    """
    try:
        return os.stat(path)  # noqa: PTH116 - asked of every image of some sources; a `Path` costs as much again
    except ValueError:  # a zero byte, or half a character
        return None
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return None


def opened(file: Path) -> BufferedReader:
    """A file to read; raises `OSError` where it cannot be opened or is not a regular file: a pipe may never end."""
    kind = file.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return file.open("rb")


def read_bytes(file: Path, otherwise: str = "") -> bytes:
    """The bytes of a file; `UserError` where it cannot be read, with `otherwise`, a sentence, as the way out."""
    try:
        with opened(file) as stream:
            return stream.read()
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        raise UserError(f"{file}: cannot be read: {_reason(error)}{otherwise and f'. {otherwise}'}") from None


def read_text(file: Path) -> str:
    """The text of a UTF-8 file; `UserError` where it is not."""
    content = read_bytes(file).removeprefix(BYTE_ORDER_MARK)
    try:
        if b"\0" in content:  # so UTF-16 looks where all of it is ASCII
            raise ValueError("it holds zero bytes")
        return content.decode()
    except ValueError as error:
        raise UserError(f"{file}: cannot be read: not UTF-8: {error}") from None


def decode(content: bytes | str, form: type[_Form], place: object, what: str = "", otherwise: str = "") -> _Form:
    """JSON as `form`; `UserError` that says at `place` it is not `what`, and why, with `otherwise` as the way out.

    Whatever the bytes are: not UTF-8, nested without end, JSON of another form, or with whole numbers beyond 64 bits,
    which nothing that counts or stores them takes.

    >>> decode(b"[1, 2]", list[int], "a.json", "a list of numbers")
    [1, 2]
    """
    try:
        raw = content.encode() if isinstance(content, str) else content.removeprefix(BYTE_ORDER_MARK)
        found: _Form = _decoder(form).decode(raw)  # type: ignore[arg-type]
        # There are digits in texts and after decimal points, too.
        fault = unfit(msgspec.json.decode(raw)) if _has_many_digits(raw) else ""
    except (*NOT_JSON, UnicodeEncodeError) as error:
        fault = str(error)
    if fault:
        raise _not(what, place, fault, otherwise)
    return found


def decoded(content: bytes | str, form: type[_Form]) -> _Form | None:
    """JSON as `form`, None where it is not: for what can be done without, or made again.

    >>> decoded(b"{", dict[str, int])
    """
    try:
        return decode(content, form, "")
    except UserError:
        return None


@functools.cache
def _decoder(form: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(form)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with opened(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _has_many_digits(raw: bytes) -> bool:
    """Whether a whole number beyond 64 bits may be in it, found many times as quickly as by a pattern."""
    return _MANY_DIGITS in raw.translate(_DIGITS)


def conform(value: Any, form: type[_Form], place: object, what: str = "", otherwise: str = "") -> _Form:
    """Plain values as `form`; `UserError` that says at `place` it is not `what`, and why.

    >>> conform({"a": 1}, dict[str, int], "a.yaml")
    {'a': 1}
    """
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise _not(what, place, str(error), otherwise) from None


def _not(what: str, place: object, why: str, otherwise: str) -> UserError:
    return UserError(f"{place}: {what and f'not {what}: '}{why}{otherwise and f'. {otherwise}'}")


def whole(text: str) -> int:
    """The whole number that a text writes; raises `ValueError` for other text, and for a number beyond 64 bits.

    >>> whole("-12")
    -12
    """
    number = int(text)
    if number not in _WORD:
        raise ValueError(f"a whole number of {len(text)} digits")
    return number


def unfit(value: Any) -> str:
    """Why plain values are more than can be worked on; empty where they are not.

    >>> unfit([{"a": 2**64 - 1}]), unfit([{"a": 2**64}])
    ('', 'a whole number beyond 64 bits')
    """
    waiting, seen = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if isinstance(one, int) and one not in _WORD:
            return "a whole number beyond 64 bits"
        if isinstance(one, str) and HALF.search(one):
            return "half a character"
        if isinstance(one, dict | list | tuple | set):
            if depth > _DEEPEST:
                return f"nested more than {_DEEPEST} deep"
            if seen + len(waiting) > _MOST:
                return f"more than {_MOST:,} values"
            inside = [*one, *one.values()] if isinstance(one, dict) else one
            waiting += [(inner, depth + 1) for inner in inside]
    return ""


def read_json(file: Path, form: type[_Form], what: str, otherwise: str = "") -> _Form:
    """The content of a JSON file as `form`; `UserError` as of `read_bytes` and `decode`."""
    return decode(read_bytes(file, otherwise), form, file, what)


def write_json(file: Path, value: Any) -> None:
    """Write a value as indented JSON; the file appears whole or not at all. Raises `UserError` as `writing` does."""
    with writing(file) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def read_lines(file: Path, form: type[_Form], what: str, otherwise: str = "") -> Iterator[_Form]:
    """The lines of a file of JSON lines as `form`, empty ones left out; `UserError` names the number of the line."""
    content = read_bytes(file, otherwise).removeprefix(BYTE_ORDER_MARK)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield decode(line, form, f"{file}:{number}", what)


@overload
def read_object(file: Path) -> dict[str, Any]: ...


@overload
def read_object(file: Path, form: type[_Form]) -> _Form: ...


def read_object(file: Path, form: Any = dict[str, Any]) -> Any:
    """The JSON object in a file that Python wrote, as `form`; `UserError` naming the file where it is not.

    Unlike JSON proper it may hold NaN and Infinity: a trainer's state has them where a loss has run away.
    """
    text = read_text(file)
    try:
        content = json.loads(text)
        fault = unfit(content) if _has_many_digits(text.encode()) or "\\u" in text else ""
    except (ValueError, RecursionError) as error:
        fault = str(error)
    if fault:
        raise UserError(f"{file}: not JSON: {fault}")
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return conform(content, form, file)


def read_yaml(file: Path) -> Any:
    """What a YAML file says; `UserError` naming the file, and the line where it is no YAML."""
    return decode_yaml(read_text(file), file)


def decode_yaml(text: str, place: object) -> Any:
    """What some YAML says; `UserError` naming `place` where it is not YAML."""
    import yaml  # late: scoring needs none of it

    try:
        content = yaml.safe_load(text)
        fault = unfit(content)
    except (yaml.YAMLError, RecursionError) as error:
        fault = " ".join(str(error).split())
    # Its constructors raise what they meet: ValueError for a date that does not exist, KeyError for `!!bool x`.
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        fault = f"a value that does not fit what it is said to be: {error}"
    if fault:
        raise UserError(f"{place}: not YAML: {fault}")
    return content


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
