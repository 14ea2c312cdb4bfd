"""Options that several verbs share."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.benchmarks import BENCHMARKS
from migician.benchmarks.scoring.scoring import Protocol
from migician.boxtext import STYLES
from migician.cli.terminal import note
from migician.errors import UserError, unknown
from migician.models import CHECKPOINTS, ENGINES, FAMILIES, MODELS
from migician.samples.conventions import RECORD_STYLES

if TYPE_CHECKING:
    from migician.build.decontamination import Decontaminator

CORES = len(os.sched_getaffinity(0))
"""CPU cores that this process may use."""


def model_names() -> list[str]:
    """What a shell offers for a model: the known names."""
    return [*CHECKPOINTS, *(f"{name}:" for name in (*MODELS, *ENGINES))]


def names_in(module: str, registry: str, *more: str) -> Callable[[], list[str]]:
    """What a shell offers for a name in a registry, whose module is imported only then."""
    return lambda: [*more, *getattr(importlib.import_module(module), registry)]


BenchmarkName = Annotated[
    str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.", autocompletion=lambda: list(BENCHMARKS))
]
DataFile = Annotated[Path, typer.Option("--data", help="The benchmark's file (a folder for some: docs/evaluation.md).")]
OutFolder = Annotated[Path, typer.Option("--out", help="The folder to write into.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
ProtocolName = Annotated[
    Protocol,
    typer.Option(
        help="How replies are read: this project's way, the paper's, UniVG-R1's, the best that guessing could do, or "
        "another harness's."
    ),
]
Style = Annotated[str | None, typer.Option(help=f"How the boxes are formatted, under strict: {', '.join(STYLES)}.")]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        help="The reward: see migician list rewards.",
        autocompletion=names_in("migician.training.rewards", "PRESETS"),
    ),
]
YStretch = Annotated[
    bool, typer.Option("--y-stretch", help="Stretch boxes downwards, as published for the Migician weights.")
]
MaxPixels = Annotated[int | None, typer.Option(min=784, help="Shrink larger images to N pixels.")]
RecordPixels = Annotated[int, typer.Option(min=784, help="Boxes in pixels: image_max_pixels of the training.")]
ConvertWorkers = Annotated[int, typer.Option(min=1, help="Converting boxes: number of processes.")]
Dtype = Annotated[
    str | None, typer.Option(help="bfloat16, float16 or float32; default: whatever suits the weights and the machine.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
FamilyName = Annotated[
    str | None, typer.Option(help=f"What the model is, where its config does not say: {', '.join(FAMILIES)}.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code shipped with the weights; pin it with --revision.")
]
MigBench = Annotated[
    Path | None, typer.Option(help="MIG-Bench's JSON file, if this package does not know that version.")
]
MigBenchImages = Annotated[
    Path | None,
    typer.Option(help="With --mig-bench, the folder of MIG-Bench/: also leave out look-alikes of its images; slower."),
]
KeepMigBench = Annotated[bool, typer.Option("--keep-mig-bench", help="Keep the images that MIG-Bench uses.")]

MediaDir = Annotated[
    Path | None,
    typer.Option(help="The folder image paths start from, as in LLaMA-Factory; by default the file's own."),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="The image folder of coco-json=FILE and jsonl=FILE; default: the file's own."),
]
Roots = Annotated[
    list[Path] | None,
    typer.Option("--root", help="Another folder that image links may lead to; repeatable."),
]


def to_exclude(mig_bench: Path | None, mig_bench_images: Path | None, keep: bool) -> Decontaminator | None:
    """What the three options above say; raises `UserError` where they contradict each other."""
    from migician.build.decontamination import Decontaminator

    if not keep:
        return Decontaminator(mig_bench, mig_bench_images)
    if mig_bench or mig_bench_images:
        raise UserError("--keep-mig-bench leaves nothing out, so --mig-bench and --mig-bench-images have no effect")
    note("--keep-mig-bench: images that MIG-Bench uses are kept; do not evaluate models trained on this on MIG-Bench")
    return None


def named(given: str, option: str) -> tuple[str, str]:
    """The two parts of NAME=VALUE; raises `UserError` naming the option."""
    name, separator, value = given.partition("=")
    if not (name and separator and value):
        raise UserError(f"{option} {given!r}: expected two parts joined by =")
    return name, value


def record_style(name: str) -> str:
    """`name`, if records can have this convention of boxes; raises `UserError` naming those they can have."""
    if name not in RECORD_STYLES:
        raise UserError(unknown("style of boxes", name, RECORD_STYLES))
    return name


def sources_of(given: list[str], images: Path | None, option: str = "--source") -> dict[str, Path]:
    """The roots by name that `option` gives; raises `UserError` where one is given twice, or --images for none."""
    from migician.sources import SOURCES

    pairs = [named(one, option) for one in given]
    roots = {name: Path(root) for name, root in pairs}
    if len(roots) < len(pairs):
        twice = next(name for name in roots if [one for one, _ in pairs].count(name) > 1)
        raise UserError(f"{option} {twice} is given twice; build from each separately, then mix the datasets")
    if images and not any(name in SOURCES and SOURCES[name].of_file for name in roots):
        files = ", ".join(name for name, source in SOURCES.items() if source.of_file)
        raise UserError(f"--images {images}: no {option} is a file of annotations ({files})")
    return roots
