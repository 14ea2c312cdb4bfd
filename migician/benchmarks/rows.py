"""The rows of a benchmark as the Hub and other harnesses have them, with the images that are inside taken out by name.

A parquet file, a folder of them (`data/test-00000-of-00004.parquet`, `Art_Style/val-00000-of-00001.parquet`,
`test/0000.parquet`), a TSV with images in base64, or JSON. An image inside a row becomes the name of a file, `<digest
of its bytes>.jpg`: so equal images have one name, and nothing but names stays in memory. What is inside is read once
more, a few rows at a time, when `unpack_images` of `migician.benchmarks.images` makes files of it.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import importlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from migician.benchmarks import Question
from migician.boxes import Size
from migician.errors import UserError
from migician.files import BYTE_ORDER_MARK, decode, is_folder, opened, read_bytes, read_lines

_Row = TypeVar("_Row", bound=msgspec.Struct)

_PARQUET = b"PAR1"
_AT_ONCE = 16
"""Rows read at once: each may hold several images."""
_BUFFER = 1 << 20
"""Bytes of a column that are read ahead; without it pyarrow reads the whole column of a row group."""
_SHARD = re.compile(r"(?P<split>\w+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-\w+)?\.parquet")
_REVISION = re.compile(r"[0-9a-f]{40}")
_KINDS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
_BASE64 = re.compile(r"[A-Za-z0-9+/]{60,}={0,2}")
_DIGITS = 32
"""Of a digest that make a name: 128 bits."""
_SHORTEST_BASE64 = 64
"""In a TSV of VLMEvalKit a shorter text is the `index` of the row whose image is meant."""


@dataclass(frozen=True)
class Rows(Generic[_Row]):
    """What a file or folder holds."""

    rows: list[_Row]
    splits: list[str]
    """The split of each row; empty where neither file nor folder says one."""
    sha256: str
    """Of the file's bytes; of several files, of all in their order."""
    facts: dict[str, Any]
    """For the report: files, splits, revision, and how many different images are inside."""
    pictures: Callable[[], Iterator[tuple[str, bytes]]] | None
    """The images that are inside, as (name, bytes), in the order of the rows; None where there are none."""
    sizes: dict[str, Size]
    """(width, height) as stored of each image that is inside, where that was asked for."""


def read_rows(
    path: str | Path,
    form: type[_Row],
    what: str,
    *,
    split: str | None = None,
    otherwise: str = "",
    measure: bool = False,
) -> Rows[_Row]:
    """The rows of a benchmark as `form`, a struct whose fields name the columns that are read.

    An image is a `str` there (or a list of them), whatever the file has: a name, bytes, {"bytes", "path"}, or base64.
    Of a folder only the files of `split` are read, where one is given and files say theirs. Raises `UserError` naming
    the file, and the row where one is at fault, for what is not `what`, and for a shard that is missing.
    `otherwise` is the command that fetches a file which is not there. With `measure` the sizes of images are read, too.
    """
    given = Path(path)
    files = _files(given, split, what)
    columns = [field.encode_name for field in msgspec.structs.fields(form)]
    names: set[str] = set()
    sizes: dict[str, Size] = {}
    rows: list[_Row] = []
    splits: list[str] = []
    digest = hashlib.sha256()
    for file in files:
        try:
            with opened(file) as stream:
                hashlib.file_digest(stream, lambda: digest)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{file}: cannot be read: {reason}{otherwise and f'. Get it with: {otherwise}'}") from None
        for number, values in enumerate(_values(file, columns, what)):
            named = {column: _named(value, names) for column, value in values.items()}
            if measure:
                for content in (one for value in values.values() for one in _contents(value)):
                    sizes.setdefault(_name(content), _size(content, f"{file}: row {number}"))
            try:
                rows.append(msgspec.convert(named, form, strict=file.suffix != ".tsv"))  # which has texts only
            except msgspec.ValidationError as error:
                raise UserError(f"{file}: row {number}: not {what}: {error}") from None
            splits.append(_split_of(file))
    if not rows:
        raise UserError(f"{given}: holds no question")
    facts: dict[str, Any] = {"files": [_within(file, given) for file in files]}
    if known := sorted(set(filter(None, splits))):
        facts["splits"] = known
    if revision := next((part for part in reversed(given.absolute().parts) if _REVISION.fullmatch(part)), None):
        facts["revision"] = revision
    if not names:
        return Rows(rows, splits, digest.hexdigest(), facts, None, sizes)
    facts["images_inside"] = len(names)

    def pictures() -> Iterator[tuple[str, bytes]]:
        for file in files:
            for values in _values(file, columns, what):
                for value in values.values():
                    yield from ((_name(content), content) for content in _contents(value))

    return Rows(rows, splits, digest.hexdigest(), facts, pictures, sizes)


def against_published(questions: Sequence[Question], published: Mapping[str, Any]) -> dict[str, Any]:
    """For the report: whether a file has as many rows and tasks as the whole benchmark, and which mean papers quote.

    `published` holds "rows", "tasks" where the benchmark has several, and "figure": "micro" or "average".
    """
    found = {"rows": len(questions), "tasks": len({question.task for question in questions})}
    counts = {name: published[name] for name in found if name in published}
    return {
        "published_counts": counts,
        "is_whole": all(found[name] == count for name, count in counts.items()),
        "published_figure": published["figure"],
    }


def _files(given: Path, split: str | None, what: str) -> list[Path]:
    if not is_folder(given):
        return [given]
    files = sorted(given.rglob("*.parquet"))
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(given).parts)]
    found = {_split_of(file) for file in files}
    if split is not None and found != {""}:
        files = [file for file in files if _split_of(file) == split]
    if not files:
        other = f"; its splits: {', '.join(sorted(found))}" if found else ""
        wanted = f" of split {split}" if split else ""
        raise UserError(f"{given}: holds no parquet file{wanted}, expected {what}{other}")
    shards: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if shard := _SHARD.fullmatch(file.name):
            shards.setdefault((file.parent, shard["split"], int(shard["count"])), set()).add(int(shard["number"]))
    for (folder, name, count), numbers in shards.items():
        if missing := sorted(set(range(count)) - numbers):
            raise UserError(f"{folder}: lacks {name}-{missing[0]:05}-of-{count:05}.parquet; fetch it")
    return files


def _split_of(file: Path) -> str:
    """The split that the name of a file says, or its folder's name where the file's is only a number."""
    if shard := _SHARD.fullmatch(file.name):
        return shard["split"]
    return file.parent.name if file.suffix == ".parquet" and file.stem.isdecimal() else ""


def _within(file: Path, given: Path) -> str:
    return file.name if file == given else file.relative_to(given).as_posix()


def _values(file: Path, columns: Sequence[str], what: str) -> Iterator[dict[str, Any]]:
    """The rows of one file, by the columns that it has."""
    with opened(file) as stream:
        start = stream.read(64).removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(_PARQUET):
        yield from _parquet(file, columns)
    elif start.startswith(b"version https://git-lfs"):
        raise UserError(f"{file}: a pointer of Git LFS, not the file itself; fetch it with: git lfs pull")
    elif file.suffix == ".tsv":
        yield from _tsv(file, columns)
    elif start.startswith(b"["):
        yield from decode(read_bytes(file), list[dict[str, Any]], file, what)
    else:
        yield from read_lines(file, dict[str, Any], what)


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        arrow_error: type[Exception] = importlib.import_module("pyarrow").ArrowException
    except ImportError:
        raise UserError(f"{file}: reading parquet needs pyarrow: pip install 'migician[data]'") from None
    try:
        # With its default, `pre_buffer`, pyarrow keeps every row group that it has read.
        with parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
            known = set(table.schema_arrow.names)
            wanted = [name for name in columns if name in known]
            for batch in table.iter_batches(_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
    except (arrow_error, OSError, ValueError, OverflowError) as error:  # text that is no UTF-8, a date beyond all
        raise UserError(f"{file}: a damaged parquet file ({str(error).splitlines()[0]:.120}); fetch it again") from None


def _tsv(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a TSV as VLMEvalKit has them: images in base64, or the `index` of the row that has the same ones."""
    csv.field_size_limit(sys.maxsize)
    known: dict[str, list[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream, delimiter="\t")):
                values: dict[str, Any] = {name: row[name] for name in columns if row.get(name) is not None}
                text = values.get("image", "")
                if len(text) > _SHORTEST_BASE64:
                    contents = [base64.b64decode(one, validate=True) for one in _BASE64.findall(text)]
                    if not contents:
                        raise UserError(f"{file}: row {number}: its image is no base64")
                    known[row.get("index") or ""] = [_name(content) for content in contents]
                    values["image"] = contents[0] if len(contents) == 1 else contents
                elif text in known:
                    values["image"] = known[text][0] if len(known[text]) == 1 else known[text]
                elif text.isdecimal():
                    raise UserError(f"{file}: row {number}: its image is that of row {text}, which is not before it")
                yield values
    except (OSError, UnicodeDecodeError, csv.Error, binascii.Error) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _named(value: Any, names: set[str]) -> Any:
    """A value of a row with names in place of the images in it; a name that the file has itself stays."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    content = _content(value)
    if content is not None:
        name = _name(content)
        names.add(name)
        return name
    return value.get("path") if _is_image(value) else value


def _contents(value: Any) -> Iterator[bytes]:
    """The images in a value of a row."""
    for one in value if isinstance(value, list) else [value]:
        content = _content(one)
        if content is not None:
            yield content


def _content(value: Any) -> bytes | None:
    found = value.get("bytes") if _is_image(value) else value
    return found if isinstance(found, bytes) else None


def _size(content: bytes, place: str) -> Size:
    """(width, height) as stored, from the header."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            return width, height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{place}: holds an image that cannot be read") from None


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= {"bytes", "path"}


def _name(content: bytes) -> str:
    kind = next((suffix for start, suffix in _KINDS.items() if content.startswith(start)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = ".webp"
    return hashlib.sha256(content).hexdigest()[:_DIGITS] + (kind or ".img")
