"""The card of a dataset: what is in it, what was left out and why, and what made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import writing
from migician.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of one task from one source."""

    task: str
    source: str
    asked: int | None
    """None where all there are were wanted."""
    made: int
    left_out: dict[str, int]
    """Rows of the source that were dropped or mended, by reason."""
    refused: dict[str, int]
    """Scenes and samples that the task did not take, by reason."""


def write_card(folder: Path, name: str, recipe: Recipe, parts: Sequence[Part], files: Sequence[str]) -> None:
    """Write `card.json` and `README.md` about the sample files of `folder`; no dates, so that builds compare."""
    paths = sorted((folder / name).rglob("*"))
    images = [path.stat().st_size for path in paths if path.is_file() and not path.is_symlink()]
    links = {str(path.relative_to(folder)): str(path.readlink()) for path in paths if path.is_symlink()}
    with ThreadPoolExecutor() as pool:  # a digest leaves the interpreter to others
        digests = list(pool.map(lambda file: _sha256(folder / file), files))
    card: dict[str, Any] = {
        "name": name,
        "samples": sum(part.made for part in parts),
        "images": len(images),
        "image_bytes": sum(images),
        "links": links,
        "seed": recipe.seed,
        "recipe": msgspec.to_builtins(recipe),
        "versions": versions(),
        "files": {
            file: {"sha256": digest, "bytes": (folder / file).stat().st_size}
            for file, digest in zip(files, digests, strict=True)
        },
        "parts": [asdict(part) for part in parts],
    }
    with writing(folder / "card.json") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    with writing(folder / "README.md") as stream:
        stream.write(_readme(card, parts).encode())


def versions() -> dict[str, str]:
    """Of what decides over the bytes."""
    versions = {"python": platform.python_version()}
    for package in ("migician", "numpy", "pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _readme(card: dict[str, Any], parts: Sequence[Part]) -> str:
    lines = [
        f"# {card['name']}, built by migician",
        "",
        f"{card['samples']:,} samples over {card['images']:,} images, seed {card['seed']}: multi-image grounding in",
        "the record format of MGrounding-630k. Paths are relative to this folder, boxes are in thousandths.",
        "",
        "| task | source | asked | made | left out when reading | refused by the task |",
        "|---|---|---|---|---|---|",
    ]
    for part in parts:
        asked = "all" if part.asked is None else f"{part.asked:,}"
        reasons = f"{_reasons(part.left_out)} | {_reasons(part.refused)}"
        lines.append(f"| {part.task} | {part.source} | {asked} | {part.made:,} | {reasons} |")
    lines += ["", "`card.json` has the recipe, the versions and the sha256 of each file. The images keep the terms of"]
    lines += ["their source datasets.", ""]
    return "\n".join(lines)


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items())) or "none"
