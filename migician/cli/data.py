"""Verbs that make datasets: build, index, miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import (
    CORES,
    Force,
    Images,
    KeepMigBench,
    MigBench,
    MigBenchImages,
    OutFolder,
    names_in,
    sources_of,
    to_exclude,
)
from migician.cli.terminal import note
from migician.printable import counted


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
    absent: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of samples that ask for what is in none of their images, where annotations tell; default: 0.",
        ),
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
        absent=absent,
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


def miniature(
    out: OutFolder,
    seed: Annotated[int, typer.Option(help="Which world is drawn.")] = 0,
    absent: Annotated[
        int, typer.Option(min=0, help="Also ask for what is not there: N questions of a task, and N for what is there.")
    ] = 0,
    force: Force = False,
) -> None:
    """Draw a small world in the sources' native formats, with a held-out set in MIG-Bench's format."""
    from migician.miniature import make_world

    make_world(out, seed, absent=absent, force=force)
    note(f"sources in {out / 'sources'}, held-out questions in {out / 'MIG-Bench/MIG_data.json'}")
    if absent:
        note(f"questions for what is there and for what is not in {out / 'MIG-Bench/absent.json'}")
