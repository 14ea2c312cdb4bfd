"""What there is to check at a path: which files of samples, and where the paths in them begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError
from migician.files import status
from migician.samples.dataset_info import INFO, NotRead, files_of, layout_beside, layout_of, read_info
from migician.samples.layouts import Layout
from migician.training.check.data.findings import Findings, Place

_SAMPLES = (".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Samples:
    """One file of samples."""

    file: Path
    layout: Layout | None = None
    """As its entry in dataset_info.json says; None where there is none, and its first record tells."""


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
    if status(path) is None:
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
    return {name: partial(_entry, info, name, entry) for name, entry in read_info(info).items()}


def _entry(info: Path, name: str, content: dict[str, Any], findings: Findings) -> Iterator[Samples]:
    try:
        layout = layout_of(content)
        files = files_of(info, content)
    except UserError as error:
        findings.add("info", Place(str(info), value=f"{name}: {error}"))
    except NotRead as reason:
        value = f"{name} {reason}: {msgspec.json.encode(content).decode()}"
        findings.add("not_checked", Place(str(info), value=value))
    else:
        for file in files:
            yield Samples(file, layout)


def _file(path: Path, findings: Findings) -> Iterator[Samples]:
    yield Samples(path, layout_beside(path))


_READERS: list[tuple[Callable[[Path], bool], Callable[[Path, Findings], Iterator[Samples]]]] = [
    (Path.is_dir, _folder),
    (lambda path: path.name == INFO, _described),
    (lambda path: path.suffix in _SAMPLES, _file),
]
"""What a path may be, first that fits: how to know it, how to list its files."""
