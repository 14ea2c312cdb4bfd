"""Columns on disk: numbers and texts that grow while a source is read, and are mapped, not loaded, afterwards."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

SCALE = 2**31
"""Boxes are kept as whole parts of 2**31 (uint32): errors stay below 3e-10, and halves and quarters are exact."""
_BUFFERED = 1 << 16


class Column:
    """Numbers of one kind appended to a file; `typecode` as in `array.array`."""

    def __init__(self, file: Path, typecode: str) -> None:
        self._stream = file.open("wb")
        self._buffer: array[Any] = array(typecode)
        self._flushed = 0

    def append(self, *values: float) -> None:
        """Add `values` at the end."""
        self._buffer.extend(values)
        if len(self._buffer) >= _BUFFERED:
            self._flush()

    def extend(self, numbers: NDArray[Any]) -> None:
        """Add many, of the kind of the column."""
        self._buffer.frombytes(np.ascontiguousarray(numbers).tobytes())
        if len(self._buffer) >= _BUFFERED:
            self._flush()

    def __len__(self) -> int:
        return self._flushed + len(self._buffer)

    def _flush(self) -> None:
        self._buffer.tofile(self._stream)
        self._flushed += len(self._buffer)
        del self._buffer[:]

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._stream.close()


class TextColumn:
    """Texts appended to a file, and where each begins in another beside it."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("wb")
        self._starts = Column(file.with_suffix(".starts"), "q")
        self._starts.append(0)
        self._end = 0

    def append(self, *texts: str) -> None:
        """Add `texts` at the end; surrogates of undecodable file names are kept."""
        for text in texts:
            self._end += self._stream.write(text.encode("utf-8", "surrogateescape")) if text else 0
            self._starts.append(self._end)

    def close(self) -> None:
        """Write what is left."""
        self._stream.close()
        self._starts.close()


class NumberedTexts:
    """Texts that repeat: each is written once, and is a number from then on."""

    def __init__(self, file: Path) -> None:
        self._texts = TextColumn(file)
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of `text`, counted from 0 in the order of first use."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self._numbers)
            self._texts.append(text)
        return found

    def close(self) -> None:
        """Write what is left."""
        self._texts.close()


class PathColumn:
    """Paths below one root; a folder's name is kept once."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root = str(root)
        self._folders = NumberedTexts(folder / "folders.txt")
        self._numbers: dict[str, int] = {}
        self._folder_of = Column(folder / "folder_of.u32", "I")
        self._names = TextColumn(folder / "names.txt")

    def append(self, path: Path) -> None:
        """Add a path; raises ValueError where it is not below the root."""
        folder, _, name = str(path).rpartition(os.sep)
        if folder not in self._numbers:
            parent = path.parent.relative_to(self._root)
            if ".." in parent.parts:
                raise ValueError(f"{path} leads out of {self._root}")
            self._numbers[folder] = self._folders.number("" if parent == Path() else f"{parent.as_posix()}/")
        self._folder_of.append(self._numbers[folder])
        self._names.append(name)

    def __len__(self) -> int:
        return len(self._folder_of)

    def close(self) -> None:
        """Write what is left."""
        for column in (self._folders, self._folder_of, self._names):
            column.close()


@contextlib.contextmanager
def closing(*columns: Column | TextColumn | NumberedTexts | PathColumn) -> Iterator[None]:
    """Close several columns when the block ends."""
    with contextlib.ExitStack() as stack:
        for column in columns:
            stack.callback(column.close)
        yield


def mapped(file: Path, dtype: str, width: int = 1) -> NDArray[Any]:
    """The numbers of a file without reading it: (n,), or (n, width)."""
    if file.stat().st_size == 0:  # an empty file has no map
        numbers: NDArray[Any] = np.empty(0, dtype)
    else:
        numbers = np.memmap(file, dtype, mode="r").view(np.ndarray)  # a memmap's own items are slow to get
    return numbers.reshape(-1, width) if width > 1 else numbers


def view(numbers: NDArray[Any]) -> memoryview[int]:
    """The same numbers, of one dimension; single ones are read ten times as fast as from an array."""
    return memoryview(cast("Any", numbers))


class Texts:
    """What a `TextColumn` wrote, by number."""

    def __init__(self, file: Path) -> None:
        self._bytes = view(mapped(file, "u1"))
        self._starts = view(mapped(file.with_suffix(".starts"), "i8"))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> str:
        start, stop = self._starts[number], self._starts[number + 1]
        return str(self._bytes[start:stop], "utf-8", "surrogateescape") if start < stop else ""

    def filled(self) -> NDArray[np.bool_]:
        """(n,): which are not empty."""
        starts = np.asarray(self._starts)
        filled: NDArray[np.bool_] = starts[1:] > starts[:-1]
        return filled

    def all(self) -> list[str]:
        """Every text."""
        return [self[number] for number in range(len(self))]


class Paths:
    """What a `PathColumn` wrote: paths relative to the root, with forward slashes, by number."""

    def __init__(self, folder: Path) -> None:
        self._folders = Texts(folder / "folders.txt").all()
        self._folder_of = view(mapped(folder / "folder_of.u32", "u4"))
        self._names = Texts(folder / "names.txt")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> str:
        return self._folders[self._folder_of[number]] + self._names[number]

    def share_folder(self, one: int, other: int) -> bool:
        """Whether two paths are in the same folder."""
        return self._folder_of[one] == self._folder_of[other]


def fractions(corners: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 4) written corners as fractions of the image, 0..1."""
    parts: NDArray[np.float64] = corners / np.float64(SCALE)
    return parts
