"""Pickles of lists, dictionaries, text and numbers, read without the `pickle` module.

A pickle is a program, and `pickle` runs it: it imports and calls what the file names, and sets aside
as much memory as the file says. This reads the few instructions that plain values need and refuses all
others by name, before their arguments are looked at. Source of the instructions: `pickletools` of Python.
"""

from __future__ import annotations

import codecs
import io
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from migician.errors import UserError


def read_plain_pickle(file: str | Path) -> Any:
    """The value in a pickle of any protocol that holds plain values only.

    Text of Python 2, which is bytes there, is read as UTF-8, else as Latin-1. Raises `UserError` naming the
    file, the place and the instruction where it would import, call or build an object, where it is cut
    short or not sound, and where its parts refer to one another so often that they have no end.
    """
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    stream = io.BytesIO(content)
    machine = _Machine()
    while True:
        place = stream.tell()
        try:
            instruction = _INSTRUCTIONS.get(stream.read(1))
            if instruction is None:
                raise ValueError("no such instruction")
            if instruction.name == "STOP":
                return _bounded(machine.result(), len(content))
            step = _STEPS.get(instruction.name)
            if step is None:
                raise UserError(
                    f"{path}: byte {place} is {instruction.name}, which plain values do not need: "
                    "the file would run code or build objects, and is refused"
                )
            step(machine, _argument(instruction, stream))
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise UserError(
                f"{path}: not a sound pickle at byte {place}: {str(error) or 'a value is missing'}"
            ) from None


class _Machine:
    """The stack and the memory that the instructions work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The one value that is left at the end."""
        if len(self.stack) != 1 or self.marks:
            raise ValueError("it does not end with one value")
        return self.stack[0]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_text(self, value: str) -> None:
        value.encode()  # raises ValueError for half a character, which no file could hold
        self.stack.append(value)

    def push_bytes_as_text(self, value: str) -> None:
        # pickletools gives bytes as Latin-1 text.
        self.stack.append(_text(value.encode("latin-1")))

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def items(self) -> list[Any]:
        """What stands above the last mark, taken off."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a value is missing")
        taken = self.stack[-count:]
        del self.stack[-count:]
        self.stack.append(tuple(taken))

    def append(self, values: list[Any]) -> None:
        """Puts values at the end of the list on top."""
        if type(self.stack[-1]) is not list:
            raise ValueError("something is appended to what is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Puts key, value, key, value into the dictionary on top."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("an item is set in what is no dictionary")
        self.stack[-1].update(_paired(values))

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


# What each instruction does, by its name in pickletools. A name that is not here is refused.
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _Machine.push
    ),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push_text),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _Machine.push_bytes_as_text),
    "STRING": _Machine.push,
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "LIST": lambda machine, argument: machine.push(machine.items()),
    "APPEND": lambda machine, argument: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, argument: machine.append(machine.items()),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.items())),
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "DICT": lambda machine, argument: machine.push(_paired(machine.items())),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, argument: machine.set_items(machine.items()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    "MEMOIZE": lambda machine, argument: machine.remember(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
}
_INSTRUCTIONS = {one.code.encode("latin-1"): one for one in pickletools.opcodes}


def _argument(instruction: pickletools.OpcodeInfo, stream: io.BytesIO) -> Any:
    """What follows an instruction; no more is read than the file has, whatever length it names."""
    if instruction.arg is None:
        return None
    if instruction.name == "STRING":
        # Written by Python 2 as in source code; pickletools takes it for ASCII.
        return _text(codecs.escape_decode(_quoted(stream.readline()))[0])
    return instruction.arg.reader(stream)


def _quoted(line: bytes) -> bytes:
    """What stands between the quotes of a line."""
    text = line.rstrip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"') or not line.endswith(b"\n"):
        raise ValueError("a text without its quotes")
    return text[1:-1]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _paired(values: list[Any]) -> dict[Any, Any]:
    """key, value, key, value as a dictionary whose keys have no parts: to hash tuples in tuples may end the program."""
    if len(values) % 2:
        raise ValueError("a key without a value")
    if not all(isinstance(key, str | int | float | None) for key in values[::2]):
        raise ValueError("a key that is neither text nor a number")
    return dict(zip(values[::2], values[1::2], strict=True))


def _bounded(value: Any, most: int) -> Any:
    """`value`, if it has no more parts than its file has bytes, each counted as often as it is referred to.

    A value that is put in many places at once (a list of lists of lists of the same list) is small in memory
    and endless to walk through.
    """
    parts = 0
    open_parts = [iter([value])]
    while open_parts:
        for part in open_parts[-1]:
            parts += 1
            if parts > most:
                raise ValueError("its parts refer to one another without end")
            if isinstance(part, dict | list | tuple):
                open_parts.append(iter([*part, *part.values()] if isinstance(part, dict) else part))
                break
        else:
            open_parts.pop()
    return value
