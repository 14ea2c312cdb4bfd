"""The rows of a file of answers, whatever its form: JSON lines, a JSON list, a table, a sheet.

The form of a file is recognised by its first bytes; a byte order mark before them is skipped.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from migician.errors import NOT_JSON, UserError

_ZIP = b"PK\x03\x04"  # what .xlsx files are
_LONGEST_CELL = 1 << 24
_LONGEST_PLACE = 18
"""Digits."""

AnswerRow = Mapping[str, Any]
"""By the names of the form it is from."""


def rows_of(file: Path) -> Iterator[tuple[str, AnswerRow]]:
    """Each row of the file with its place in it; raises `UserError` naming the file and the place of what is none."""
    try:
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    beginning = content[:4096].lstrip()
    if content.startswith(_ZIP):
        return _sheet_rows(file, content)
    if beginning.startswith(b"["):
        return _list_rows(file, content)
    header = content.split(b"\n", 1)[0]
    if b"\t" in header and not beginning.startswith(b"{"):
        return _table_rows(file, content, "\t")
    if {b"index", b"prediction"} <= {name.strip().strip(b'"') for name in header.split(b",")}:
        return _table_rows(file, content, ",")
    return _line_rows(file, content)


def _line_rows(file: Path, content: bytes) -> Iterator[tuple[str, AnswerRow]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", _decoded(line, dict[str, Any])
        except NOT_JSON as error:
            raise UserError(
                f'{file}:{number}: {error}; expected {{"index": row, "response": "text"}} on one line'
            ) from None


def _list_rows(file: Path, content: bytes) -> Iterator[tuple[str, AnswerRow]]:
    try:
        rows = _decoded(content, list[dict[str, Any]])
    except NOT_JSON as error:
        raise UserError(f"{file}: not a JSON list of rows with index and prediction: {error}") from None
    return ((f"{file}, row {number}", row) for number, row in enumerate(rows))


Decoded = TypeVar("Decoded")


def _decoded(content: bytes, form: type[Decoded]) -> Decoded:
    """JSON, also as Python's own writer has it: with NaN, half a character, or a number too long for a float."""
    try:
        return msgspec.json.decode(content, type=form)
    except NOT_JSON as error:
        try:
            return msgspec.convert(json.loads(content.decode()), form)
        except (ValueError, RecursionError):
            raise error from None


def _table_rows(file: Path, content: bytes, delimiter: str) -> Iterator[tuple[str, AnswerRow]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter)
        header = next(reader)
        for cells in reader:
            if cells:
                yield f"{file}:{reader.line_num}", _from_cells(dict(zip(header, cells, strict=False)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a table of columns: {error}") from None


def _sheet_rows(file: Path, content: bytes) -> Iterator[tuple[str, AnswerRow]]:
    try:
        load_workbook = importlib.import_module("openpyxl").load_workbook
    except ImportError:
        raise UserError(
            f"{file}: reading .xlsx needs the package openpyxl: pip install openpyxl, or save it as .tsv"
        ) from None
    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        cells: list[tuple[Any, ...]] = list(book.worksheets[0].values)
    except Exception as error:  # noqa: BLE001 - a damaged zip, XML or style: the library raises what it met
        raise UserError(f"{file}: a damaged sheet ({type(error).__name__}); save it again, or as .tsv") from None
    if not cells:
        raise UserError(f"{file}: its first sheet is empty; expected a row of names such as index and prediction")
    header = [str(name) for name in cells[0]]
    for number, row in enumerate(cells[1:], start=2):
        yield f"{file}, row {number}", _from_cells(dict(zip(header, row, strict=False)))


def _from_cells(row: dict[str, Any]) -> AnswerRow:
    """A row of a table, where every cell may be text and an empty one is an empty reply."""
    index = str(row.get("index", "")).strip().removesuffix(".0")
    kept = {name: row[name] for name in ("task", "question") if row.get(name) not in (None, "")}
    if "prediction" in row:
        kept["prediction"] = "" if row["prediction"] is None else str(row["prediction"])
    return {**kept, "index": place_in_file(index, row.get("index"))}


def place_in_file(text: str, otherwise: Any) -> Any:
    """The number that `text` writes in digits; else `otherwise`."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_PLACE else otherwise
