"""Pickles of lists, dictionaries, text and numbers, read by `pickle` without the instructions that build anything else.

A pickle is a program: it imports and calls what the file names. `pickle`'s own machine in Python is used, since the one
in C sets aside as much memory as the file says.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from migician.errors import UserError
from migician.files import read_bytes

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GET", "BINGET", "LONG_BINGET", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT"),
    *("BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
)
"""All instructions that plain values need, by their names in `pickletools`."""
_KEYS = {"SETITEM": slice(-2, -1), "SETITEMS": slice(None, None, 2), "DICT": slice(None, None, 2)}
"""Where keys stand on the stack."""
_UNSOUND = (
    *(pickle.UnpicklingError, struct.error, EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError),
    AttributeError,
)
_Step = Callable[[Any], None]


def read_plain_pickle(file: str | Path) -> Any:
    """The value in a pickle of any protocol that holds plain values only.

    Text of Python 2, which is bytes there, is read as UTF-8, else as Latin-1. Raises `UserError` naming the
    file, the place and the instruction where it would import, call or build an object, where it is cut
    short or not sound, and where its parts refer to one another so often that they have no end.
    """
    path = Path(file)
    content = read_bytes(path)
    stream = io.BytesIO(content)
    machine = _Machine(stream)
    try:
        value = machine.load()
        if machine.stack or machine.metastack:
            raise ValueError("it does not end with one value")
        return _bounded(value, len(content))
    except _Refused as name:
        raise UserError(
            f"{path}: byte {stream.tell() - 1} is {name}, which plain values do not need: "
            "the file would run code or build objects, and is refused"
        ) from None
    except _UNSOUND as error:
        raise UserError(
            f"{path}: not a sound pickle at byte {stream.tell()}: {str(error) or 'a value is missing'}"
        ) from None


class _Refused(Exception):
    """An instruction that builds more than plain values; the text is its name."""


class _Machine(pickle._Unpickler):
    stack: list[Any]
    metastack: list[list[Any]]
    read: Callable[[int], bytes]

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("PERSID")

    def load_frame(self) -> None:
        """A frame is read as what stands in it, whatever length it names."""
        self.read(8)

    def _decode_string(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")


def _step(instruction: pickletools.OpcodeInfo) -> _Step:
    name = instruction.name

    def refuse(machine: Any) -> NoReturn:
        raise _Refused(name)

    def set_items(machine: Any) -> None:
        # To hash tuples in tuples may end the program.
        if not all(isinstance(key, str | int | float | None) for key in machine.stack[_KEYS[name]]):
            raise ValueError("a key that is neither text nor a number")
        inherited(machine)

    if name not in _PLAIN:
        return refuse
    inherited = _Machine.load_frame if name == "FRAME" else _Machine.dispatch[ord(instruction.code)]
    return set_items if name in _KEYS else inherited


_Machine.dispatch = {ord(one.code): _step(one) for one in pickletools.opcodes}


def _bounded(value: Any, most: int) -> Any:
    """`value`, if it has no more parts than its file has bytes, each counted as often as it is referred to.

    A value that is put in many places at once (a list of lists of lists of the same list) is small in memory
    and endless to walk through. Raises `ValueError`, also for half a character, which no file can hold.
    """
    parts = 0
    open_parts = [iter([value])]
    while open_parts:
        for part in open_parts[-1]:
            parts += 1
            if parts > most:
                raise ValueError("its parts refer to one another without end")
            if isinstance(part, str):
                part.encode()
            if isinstance(part, dict | list | tuple):
                open_parts.append(iter([*part, *part.values()] if isinstance(part, dict) else part))
                break
        else:
            open_parts.pop()
    return value
