"""The card of a dataset: what is in it, what was left out and why, how it was made; with two pictures."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from migician.build.balance import Balance, warnings
from migician.build.card.album import album
from migician.build.card.charts import histograms
from migician.build.card.readme import HISTOGRAMS, SAMPLES, BuiltPart, readme
from migician.build.decontamination import Decontamination
from migician.build.image_roots import ImageRoots, linked
from migician.build.recipe import Recipe
from migician.draw import encoded
from migician.errors import writing
from migician.samples.survey import survey
from migician.tasks import TASKS

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What the card says of a dataset beyond what its files hold."""

    title: str
    recipe: Recipe
    parts: Sequence[BuiltPart]
    excluded: Decontamination
    balances: Mapping[str, Balance] = field(default_factory=dict)
    """By task."""

    @property
    def warnings(self) -> list[str]:
        """Where the answers of a task lean to one side."""
        found = ((task, warnings(one, TASKS[task].asks)) for task, one in self.balances.items())
        return [f"{task}: {warning}" for task, one in found for warning in one]

    def copying(self, stem: str) -> dict[str, Any]:
        """How often copying would be right in a task, by source; see `migician.samples.box_places.Copying`."""
        found = {
            source: one
            for task, balance in self.balances.items()
            if TASKS[task].stem == stem
            for source, one in balance.copying.items()
        }
        return {"copying": {source: msgspec.to_builtins(found[source]) for source in sorted(found)}}


def write_card(folder: Path, name: str, facts: DatasetFacts, files: Sequence[str]) -> None:
    """Write card.json, README.md and two pictures about the `files` of `folder`; no dates, so that builds compare.

    Of `files`, `name`.json has all samples, the other .json files those of one task each.
    """
    recipe, parts, excluded = facts.recipe, facts.parts, facts.excluded
    merged = f"{name}.json"
    of_tasks = [file for file in files if file.endswith(".json") and file != merged]
    with ThreadPoolExecutor() as pool:  # a digest leaves the interpreter to others
        others = {file: pool.submit(_sha256, folder / file) for file in files if file not in of_tasks}
        surveys = {file: survey(folder / file, recipe.seed, _SHOWN) for file in of_tasks}
        digests = {file: others[file].result() if file in others else surveys[file].sha256 for file in files}
    paths = sorted(path for path in (folder / name).rglob("*") if not path.name.startswith("."))
    sizes = [path.stat().st_size for path in paths if path.is_file() and not path.is_symlink()]
    used = np.unique(np.concatenate([one.images for one in surveys.values()]))
    links = {str(path.relative_to(folder)): str(path.readlink()) for path in paths if path.is_symlink()}
    roots = ImageRoots([folder], [folder, *linked(folder, links)])
    look = album({Path(file).stem: one.picked for file, one in surveys.items()}, roots, _SHOWN)
    card: dict[str, Any] = {
        "name": facts.title,
        "samples": sum(part.made for part in parts),
        "images": len(used),
        "image_files": len(sizes),
        "image_bytes": sum(sizes),
        "links": links,
        "stored": "files",
        "seed": recipe.seed,
        "recipe": msgspec.to_builtins(recipe),
        "versions": versions(),
        "mig_bench": msgspec.to_builtins(excluded) | {"sentence": excluded.sentence()},
        "files": {file: {"sha256": digests[file], "bytes": (folder / file).stat().st_size} for file in files},
        "parts": msgspec.to_builtins(parts),
        "short": [part.shortfall for part in parts if part.shortfall],
        "balance": {task: one.summary() for task, one in facts.balances.items()},
        "warnings": facts.warnings,
        "figures": {
            Path(file).stem: msgspec.to_builtins(one.figures, str_keys=True) | facts.copying(Path(file).stem)
            for file, one in surveys.items()
        },
        "look": {"samples": look.shown, "unreadable": look.unreadable},
    }
    configs = {Path(file).stem: file for file, one in surveys.items() if one.figures.samples}
    if configs:
        configs = {"default": merged if merged in files else next(iter(configs.values())), **configs}
    with writing(folder / "card.json") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    with writing(folder / "README.md") as stream:
        stream.write(readme(card, configs).encode())
    with writing(folder / HISTOGRAMS) as stream:
        stream.write(histograms({Path(file).stem: one.figures for file, one in surveys.items()}))
    if look.picture:
        with writing(folder / SAMPLES) as stream:
            stream.write(encoded(look.picture, "JPEG", quality=88, subsampling=0))


def versions() -> dict[str, str]:
    """Versions of everything that the bytes of a dataset depend on."""
    versions = {"python": platform.python_version()}
    for package in ("migician", "numpy", "pillow", "matplotlib"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
