"""Verbs about datasets: build, mix, miniature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.cli.options import (
    CORES,
    Force,
    Images,
    KeepMigBench,
    MigBench,
    MigBenchImages,
    OutFolder,
    named,
    names_in,
    sources_of,
    to_exclude,
)
from migician.cli.terminal import note
from migician.errors import Done, UserError
from migician.printable import counted

if TYPE_CHECKING:
    from migician.training.mixture import MixFile


def build(
    tasks: Annotated[
        list[str], typer.Argument(help="Tasks, or all.", autocompletion=names_in("migician.tasks", "TASKS", "all"))
    ],
    source: Annotated[list[str], typer.Option(help="NAME=ROOT of a source dataset or its index; repeatable.")],
    out: OutFolder,
    images: Images = None,
    count: Annotated[int | None, typer.Option(min=1, help="Samples per task; default: as many as possible.")] = None,
    seed: Annotated[int | None, typer.Option(help="A seed other than the recipe's.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = CORES,
    ray: Annotated[bool, typer.Option("--ray", help="Run on the Ray cluster at RAY_ADDRESS instead.")] = False,
    config: Annotated[Path | None, typer.Option(help="A recipe, such as configs/mgrounding-630k.yaml.")] = None,
    collect: Annotated[
        bool,
        typer.Option(
            "--collect", help="Copy whole images into the dataset, checked, instead of linking to the sources."
        ),
    ] = False,
    shuffle: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of tracking samples with shuffled frames.")
    ] = None,
    force: Force = False,
    name: Annotated[str, typer.Option(help="Title of the dataset's card.")] = "MGrounding-630k",
    mig_bench: MigBench = None,
    mig_bench_images: MigBenchImages = None,
    keep_mig_bench: KeepMigBench = False,
) -> None:
    """Build an MGrounding-style dataset from source datasets, leaving out MIG-Bench's images."""
    from migician.build.dataset import build as build_dataset

    roots = sources_of(source, images)
    built = build_dataset(
        tasks,
        roots,
        out,
        count=count,
        seed=seed,
        workers=workers,
        ray=ray,
        config=config,
        collect=collect,
        force=force,
        exclude=to_exclude(mig_bench, mig_bench_images, keep_mig_bench),
        name=name,
        images=images,
        settings={} if shuffle is None else {"object_tracking": {"shuffle": shuffle}},
    )
    for part in built.short:
        note(part.shortfall)
    for warning in built.warnings:
        note(f"warning: {warning}")
    note(f"{counted(built.samples, 'sample')} in {built.folder}; see {built.folder / 'README.md'}")


def index(
    source: Annotated[str, typer.Argument(help="NAME=ROOT of a source dataset.")],
    out: OutFolder,
    split: Annotated[str, typer.Option(help="The source's split.")] = "train",
    images: Images = None,
    force: Force = False,
) -> None:
    """Index a source once for any number of builds, which take it as --source NAME=THIS-FOLDER."""
    from migician.sources.index import make_index

    ((name, root),) = sources_of([source], images, "index").items()
    made = make_index(name, root, out, split=split, images=images, force=force)
    for reason, count in sorted(made.left_out.items()):
        note(f"{count:,} {reason}")
    note(f"{out}: {len(made.items):,} of {name}")


def mix(
    out: Annotated[
        Path, typer.Option("--out", help="The .json or .jsonl to write; dataset_info.json is written beside it.")
    ],
    part: Annotated[
        list[str] | None, typer.Option(help="FILE=WEIGHT, a file of samples and its share; repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A mix file instead, such as configs/stage-1-mix.yaml.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Total samples; with --config, overrides its number.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which samples are chosen, and their order.")] = None,
    force: Force = False,
) -> None:
    """Mix files of samples by weight, for LLaMA-Factory."""
    from migician.samples.dataset_info import add_dataset, entries_beside
    from migician.training.mixture import mix as mix_files
    from migician.training.mixture import parts_of, read_mix_recipe

    if bool(part) == bool(config):
        raise UserError("give either --part FILE=WEIGHT for each file, or --config FILE")
    if config:
        recipe = read_mix_recipe(config)
        count = count or recipe.count
        seed = recipe.seed if seed is None else seed
        parts = parts_of(recipe, count)
    elif count:
        parts = _given_parts(part or [])
    else:
        raise UserError("with --part, add --count, the total number of samples")
    entries_beside(out)
    try:
        counts = mix_files(parts, out, count, seed or 0, force=force)
    except Done:
        add_dataset(out)  # it may have been killed in between
        raise
    add_dataset(out)
    note(f"{out}: " + ", ".join(f"{name} {number}" for name, number in counts.items()))


def _given_parts(given: list[str]) -> dict[str, MixFile]:
    """Parts by the stem of their file, or by the whole path where two files have one stem."""
    from migician.training.mixture import MixFile

    parts: dict[str, MixFile] = {}
    for file, weight in (named(one, "--part") for one in given):
        if any(one.file == Path(file) for one in parts.values()):
            raise UserError(f"--part {file} is given twice")
        name = file if Path(file).stem in parts else Path(file).stem
        try:
            parts[name] = MixFile(Path(file), float(weight))
        except ValueError:
            raise UserError(f"--part {file}={weight}: the weight must be a number, such as 0.5") from None
        if not 0 <= parts[name].weight < math.inf:
            raise UserError(f"--part {file}={weight}: the weight must be 0 or more")
    if not any(one.weight for one in parts.values()):
        raise UserError("--part: at least one weight must be more than 0")
    return parts


def miniature(
    out: OutFolder,
    seed: Annotated[int, typer.Option(help="Which world is drawn.")] = 0,
    force: Force = False,
) -> None:
    """Draw a small world in the sources' native formats, with a held-out set in MIG-Bench's format."""
    from migician.miniature import make_world

    make_world(out, seed, force=force)
    note(f"sources in {out / 'sources'}, held-out questions in {out / 'MIG-Bench/MIG_data.json'}")
