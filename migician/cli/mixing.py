"""The verb that mixes files of samples."""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.boxes import TRAINED_PIXELS
from migician.cli.converting import say_lost
from migician.cli.options import CORES, ConvertWorkers, Force, RecordPixels, named, record_style
from migician.cli.terminal import note
from migician.errors import Done, UserError
from migician.progress import progress_bar
from migician.samples.conventions import RECORD_STYLES

if TYPE_CHECKING:
    from migician.training.mixture import MixFile


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
    style: Annotated[
        str | None, typer.Option(help=f"How boxes are written, for another base: {', '.join(RECORD_STYLES)}.")
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="--style in pixels: the folder image paths start from; default: that of --out.")
    ] = None,
    max_pixels: RecordPixels = TRAINED_PIXELS,
    workers: ConvertWorkers = CORES,
    force: Force = False,
) -> None:
    """Mix files of samples by weight, for LLaMA-Factory."""
    from migician.build.converters.records import Conversion, converted, enter
    from migician.samples.convention_card import refuse_card_of, shared_convention
    from migician.samples.dataset_info import entries_beside
    from migician.training.mixture import mix as mix_files
    from migician.training.mixture import parts_of, read_mix_recipe
    from migician.workers import in_processes

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
    written = shared_convention(one.file for one in parts.values())
    target = record_style(style or written.convention)
    changes = target != written.convention
    if changes:
        refuse_card_of((one.file for one in parts.values()), out)
    pixels = max_pixels if changes else written.max_pixels
    conversion = Conversion(
        written.convention, target, media or out.parent, pixels or max_pixels, source_pixels=written.max_pixels
    )
    lost: Counter[str] = Counter()
    with in_processes(workers if changes else 1) as pool, progress_bar(f"mixing {out.name}") as report:
        into = functools.partial(
            converted, total=count, conversion=conversion, name=str(out), counts=lost, workers=pool, report=report
        )
        try:
            counts = mix_files(parts, out, count, seed or 0, force=force, through=into if changes else iter)
        except Done:
            enter(out, conversion, lost)  # it may have been killed in between
            raise
    enter(out, conversion, lost)
    note(f"{out}: " + ", ".join(f"{name} {number}" for name, number in counts.items()))
    say_lost(lost)


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
