"""The verb that has models write questions: synthesise."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import (
    Force,
    Images,
    KeepMigBench,
    MigBench,
    MigBenchImages,
    OutFolder,
    sources_of,
    to_exclude,
)
from migician.cli.terminal import note, say
from migician.errors import UserError
from migician.printable import counted


class GroupingName(StrEnum):
    """Which images are shown together."""

    random = "random"
    common = "common"
    clip = "clip"


def synthesise(
    source: Annotated[list[str], typer.Option(help="NAME=ROOT of a source dataset of images with boxes; repeatable.")],
    vision_model: Annotated[
        str, typer.Option(help="The model that describes images and checks boxes, as the server names it.")
    ],
    text_model: Annotated[str, typer.Option(help="The model that writes the questions, as the server names it.")],
    count: Annotated[int, typer.Option(min=1, help="Total samples.")],
    out: OutFolder,
    cache: Annotated[Path, typer.Option(help="The folder of replies; keep it to resume after a stop.")],
    server: Annotated[
        str, typer.Option(help="An OpenAI-compatible server; its key, if any, is read from MIGICIAN_API_KEY.")
    ] = "http://localhost:8000/v1",
    grouping: Annotated[GroupingName, typer.Option(help="Which images are shown together.")] = GroupingName.random,
    clip_model: Annotated[
        str | None, typer.Option(help="For --grouping clip: a CLIP model on the Hub, or a folder.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Questions per sample at most.")] = 3,
    seed: Annotated[int, typer.Option(help="Which groups are chosen, and the seeds of the requests.")] = 0,
    split: Annotated[str, typer.Option(help="The sources' split: train or val.")] = "train",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for an answer.")] = 300.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the first prompts and the number of requests.")
    ] = False,
    images: Images = None,
    mig_bench: MigBench = None,
    mig_bench_images: MigBenchImages = None,
    keep_mig_bench: KeepMigBench = False,
    force: Force = False,
) -> None:
    """Have models write free-form questions across images; every box comes from an annotation."""
    from migician.build.synthesis import SynthesisSettings
    from migician.build.synthesis import synthesise as write_samples
    from migician.build.synthesis.pipeline import dry_run as what_is_asked
    from migician.build.synthesis.requests import CLIP_MODEL
    from migician.models.engines.chat_completions import api_key

    roots = sources_of(source, images)
    if clip_model and grouping is not GroupingName.clip:
        raise UserError("--clip-model has no effect without --grouping clip")
    settings = SynthesisSettings(
        vision_model, text_model, grouping.value, turns=turns, clip_model=clip_model or CLIP_MODEL
    )
    exclude = to_exclude(mig_bench, mig_bench_images, keep_mig_bench)
    if dry_run:
        planned = what_is_asked(
            roots, settings, cache=cache, count=count, seed=seed, split=split, exclude=exclude, images=images
        )
        for prompt in planned.prompts:
            say(f"{prompt}\n")
        note(
            f"{counted(planned.groups, 'group')}, {counted(planned.images, 'image')}: "
            f"{counted(planned.requests, 'request')}, "
            f"{2 * planned.images} to {vision_model} and {planned.groups} to {text_model}"
            " (more if replies are rejected)"
        )
        return
    built = write_samples(
        roots,
        out,
        settings,
        server=server,
        cache=cache,
        count=count,
        seed=seed,
        split=split,
        concurrency=concurrency,
        api_key=api_key(),
        timeout_s=timeout,
        exclude=exclude,
        images=images,
        force=force,
    )
    for part in built.short:
        note(
            f"synthesis from {part.source}: {part.made:,} of {counted(part.asked or 0, 'sample')}; the card counts why"
        )
    note(f"{counted(built.samples, 'sample')} in {built.folder}; see {built.folder / 'README.md'}")
