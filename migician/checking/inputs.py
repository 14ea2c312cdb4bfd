"""What there is to check at a path: which files of samples, and where the paths in them begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from migician.checking.findings import Findings, Place
from migician.errors import UserError
from migician.files import read_json
from migician.mixture import dataset_entry

INFO = "dataset_info.json"
_SAMPLES = (".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Samples:
    """One file of samples."""

    file: Path
    gives_images: bool = True
    """Whether its entry in dataset_info.json names the column of images."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All there is to check."""

    files: tuple[Samples, ...]
    media_dir: Path
    """What the paths of images are relative to; LLaMA-Factory's setting of this name."""


def inputs_of(path: Path, media_dir: Path | None, findings: Findings) -> Inputs:
    """What `path` names; raises `UserError` where it is nothing that can be checked.

    A new kind of thing to check is one function and one line in `_READERS`.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    for fits, read in _READERS:
        if fits(path):
            return Inputs(tuple(read(path, findings)), media_dir or (path if path.is_dir() else path.parent))
    raise UserError(f"{path}: neither a folder with {INFO} nor a file of samples ({', '.join(_SAMPLES)})")


def _folder(path: Path, findings: Findings) -> Iterator[Samples]:
    info = path / INFO
    if not info.is_file():
        raise UserError(f"{path}: holds no {INFO}; name a JSON file of samples in it, or build it with: migician build")
    yield from _described(info, findings)


def _described(info: Path, findings: Findings) -> Iterator[Samples]:
    """The files that a dataset_info.json names; what cannot be checked is found."""
    for files in dataset_files(info).values():
        yield from files(findings)


def dataset_files(info: Path) -> dict[str, Callable[[Findings], Iterator[Samples]]]:
    """By name of a dataset in a dataset_info.json, what lists its files; raises `UserError` for another form."""
    entries = read_json(info, dict[str, dict[str, Any]], "a dataset_info.json of LLaMA-Factory")
    if not entries:
        raise UserError(f"{info}: names no dataset")
    return {name: partial(_entry, info, name, entry) for name, entry in entries.items()}


class _Entry(msgspec.Struct):
    """One dataset, with LLaMA-Factory's defaults where an entry says nothing."""

    file_name: str | None = None
    formatting: str = "alpaca"
    columns: dict[str, str | None] = {}
    tags: dict[str, str] = {}


def _entry(info: Path, name: str, content: dict[str, Any], findings: Findings) -> Iterator[Samples]:
    own = dataset_entry("")
    try:
        entry = msgspec.convert(content, _Entry)
    except msgspec.ValidationError as error:
        findings.add("info", Place(str(info), value=f"{name}: {error}"))
        return
    if entry.file_name is None:
        findings.add("not_checked", Place(str(info), value=f"{name}: has no file_name"))
        return
    same_tags = all(value == own["tags"].get(tag) for tag, value in entry.tags.items())
    turns = entry.columns.get("messages") or "conversations"
    images = entry.columns.get("images")
    if entry.formatting != "sharegpt" or turns != "conversations" or images not in (None, "images") or not same_tags:
        findings.add("not_checked", Place(str(info), value=f"{name}: {msgspec.json.encode(content).decode()}"))
        return
    target = info.parent / entry.file_name
    files = sorted(one for one in target.iterdir() if one.suffix in _SAMPLES) if target.is_dir() else [target]
    if not files:
        findings.add("info", Place(str(info), value=f"{name}: {entry.file_name} is a folder without files of samples"))
    for file in files:
        if file.is_file():
            yield Samples(file, gives_images=images is not None)
        else:
            findings.add("info", Place(str(info), value=f"{name}: {entry.file_name} is not there"))


def _file(path: Path, findings: Findings) -> Iterator[Samples]:
    yield Samples(path)


_READERS: list[tuple[Callable[[Path], bool], Callable[[Path, Findings], Iterator[Samples]]]] = [
    (Path.is_dir, _folder),
    (lambda path: path.name == INFO, _described),
    (lambda path: path.suffix in _SAMPLES, _file),
]
"""What a path may be, first that fits: how to know it, how to list its files."""
