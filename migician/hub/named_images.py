"""Whether every image that a fetched dataset names is there."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migician.errors import UserError
from migician.files import decode
from migician.hub.archives import check_name
from migician.samples.record_file import records
from migician.sources.formats.reading import Listing

_SHOWN = 5
_OURS = {"fetched.json", "dataset_info.json"}


@dataclass(slots=True)
class ImageCheck:
    """What the data files of a folder name, and what of it is missing."""

    files: list[Path] = field(default_factory=list)
    """The files of records, merged and by part."""
    records: int = 0
    named: int = 0
    missing: int = 0
    first_missing: list[str] = field(default_factory=list)
    """`FILE: record N: IMAGE`, the first few."""
    unchecked: list[str] = field(default_factory=list)
    """Files that could not be looked into, and why."""


def check_images(folder: Path, images: str, merged: str | None = None) -> ImageCheck:
    """Look for every image named in the field `images` of the records in `folder`, and in the folders in it.

    Names start at the folder above (`./MIG-Bench/images/a.jpg`) or at `folder` itself. Each place is looked up once,
    records are streamed. JSON files that hold no such records are passed over. Where the file `merged` is there, the
    files of single parts, which say the same, are counted in `files` alone.
    """
    check, listing = ImageCheck(), Listing()
    candidates = sorted(file for file in (*folder.glob("*.json"), *folder.glob("*/*.json")) if file.name not in _OURS)
    merged_file = folder / merged if merged else None
    for file in candidates:
        found = _records_with(file, images)
        if found is None:
            continue
        check.files.append(file)
        if merged_file is None or file == merged_file or merged_file not in candidates:
            _check_file(file, found, images, folder, listing, check)
    for file in sorted(folder.glob("*.parquet")):
        _check_file(file, _parquet_records(file, images, check), images, folder, listing, check)
    return check


def _records_with(file: Path, images: str) -> Iterator[Any] | None:
    """The records of a list whose first one has the field; None for files of another kind."""
    found = _decoded(file)
    with file.open("rb") as stream:
        if not stream.read(64).lstrip().startswith(b"["):
            return None
    try:
        first = next(found, None)
    except UserError:
        return None
    if not isinstance(first, dict) or images not in first:
        return None
    return itertools.chain([first], found)


def _decoded(file: Path) -> Iterator[Any]:
    for position, (offset, content) in enumerate(records(file)):
        yield decode(content, object, f"{file}: record {position} (byte {offset})", "JSON, or the file is cut")


def _parquet_records(file: Path, images: str, check: ImageCheck) -> Iterator[Any]:
    try:
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        check.unchecked.append(f"{file}: to look for its images: pip install pyarrow")
        return
    try:
        for batch in parquet.ParquetFile(file).iter_batches(columns=[images]):
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        check.unchecked.append(f"{file}: cannot be read: {str(error).splitlines()[0]}")


def _check_file(
    file: Path, found: Iterator[Any], images: str, folder: Path, listing: Listing, check: ImageCheck
) -> None:
    for position, record in enumerate(found):
        check.records += 1
        named = record.get(images) if isinstance(record, dict) else None
        if not isinstance(named, list):
            named = [named]
        for name in named:
            check.named += 1
            if isinstance(name, str) and _is_there(name, folder, listing):
                continue
            check.missing += 1
            if len(check.first_missing) < _SHOWN:
                check.first_missing.append(f"{file.name}: record {position}: {name}")


def _is_there(name: str, folder: Path, listing: Listing) -> bool:
    relative = name.removeprefix("./")
    if check_name(relative):
        return False
    return listing.first([folder.parent / relative, folder / relative]) is not None
