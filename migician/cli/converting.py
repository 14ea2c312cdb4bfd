"""Verbs about data in another form: other people's datasets, and other conventions of boxes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.boxes import TRAINED_PIXELS
from migician.cli.options import CORES, ConvertWorkers, Force, RecordPixels, named, record_style
from migician.cli.terminal import note
from migician.errors import Done, UserError, unknown
from migician.printable import counted
from migician.progress import progress_bar
from migician.samples.conventions import RECORD_STYLES, WORDINGS

ROW_FORMS = ("trl", "verl", "easyr1", "swift-rl")
"""As `migician.training.reward_rows.FORMS` has them, which only loads where rows are written."""

if TYPE_CHECKING:
    from migician.build.converters.records import Conversion
    from migician.samples.sample import Sample
    from migician.sources.scenes import Tally


def convert(
    dataset: Annotated[str, typer.Argument(help="llava, refcoco, groma; or records, to write boxes as --to says.")],
    source: Annotated[Path, typer.Option("--from", help="Its annotations: a file, or the folder they are in.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="The .json to write, for records also .jsonl, for rows also .parquet; samples are entered in the "
            "dataset_info.json beside it.",
        ),
    ],
    images: Annotated[Path | None, typer.Option(help="The folder its image paths start from.")] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            help="LLaMA-Factory's media_dir, which paths are relative to; default: the folder of --out, "
            "for records that of --from."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which wordings are chosen.")] = 0,
    split: Annotated[str | None, typer.Option(help="refcoco: the split, if not train.")] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="refcoco: DATASET=PARTITION, such as refcocog=google; repeatable.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help=f"records: how boxes are written: {', '.join(RECORD_STYLES)}; or rows for reinforcement learning with "
            f"{', '.join(ROW_FORMS)}."
        ),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(help="records: how they are written in --from; default: as its card says."),
    ] = None,
    wording: Annotated[
        str, typer.Option(help=f"records: ask for one object in one image as these document: {', '.join(WORDINGS)}.")
    ] = "",
    keep: Annotated[
        str | None,
        typer.Option(help="rows: LOW..HIGH, such as 0.1..0.9: keep turns of whose --answers this share is right."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="rows: a model's replies to the records, several per turn, for --keep.")
    ] = None,
    max_pixels: RecordPixels = TRAINED_PIXELS,
    workers: ConvertWorkers = CORES,
    force: Force = False,
) -> None:
    """Convert LLaVA-style data, RefCOCO/+/g or Groma to training samples, or samples to other boxes or rows for RL."""
    if dataset == "records":
        from migician.build.converters.records import Conversion
        from migician.samples.convention_card import read_convention

        if not to:
            raise UserError("records: --to is missing")
        if images or split or partition:
            raise UserError("--images, --split and --partition are for other datasets, not for records")
        if to in ROW_FORMS:
            if style or wording:
                raise UserError(f"--style and --wording are not for --to {to}: convert the records first")
            _write_rows(source, out, to, media, max_pixels, keep, answers, force=force)
            return
        if to not in RECORD_STYLES:
            raise UserError(unknown("--to", to, [*RECORD_STYLES, *ROW_FORMS]))
        if keep or answers:
            raise UserError(f"--keep and --answers are for --to {', '.join(ROW_FORMS)}, not for {to}")
        if out.suffix not in (".json", ".jsonl"):
            raise UserError(f"--out {out}: expected a .json or .jsonl file")
        if wording and wording not in WORDINGS:
            raise UserError(unknown("wording", wording, WORDINGS))
        card = read_convention(source)
        written = record_style(style or card.convention)
        known = card.max_pixels if written == card.convention else None
        conversion = Conversion(written, to, media or source.parent, max_pixels, known, wording)
        _convert_records(source, out, conversion, force=force, workers=workers)
        return
    from migician.build.converters import CONVERTERS, refcoco
    from migician.build.converters.foreign import ImageFolder
    from migician.samples.dataset_info import add_dataset, entries_beside
    from migician.samples.sample import write_samples
    from migician.sources.scenes import Tally

    if dataset not in CONVERTERS:
        raise UserError(unknown("dataset", dataset, [*CONVERTERS, "records"]))
    if to or style or wording:
        then = shlex.join(["migician", "data", "convert", "records", "--from", str(out)])
        raise UserError(
            f"--to, --style and --wording are for records, not for {dataset}, which is written for qwen2_vl: "
            f"leave them out, then: {then} --to ..."
        )
    if images is None:
        raise UserError(f"{dataset}: --images is missing: the folder that its image paths start from")
    if (split or partition) and dataset != "refcoco":
        raise UserError(f"--split and --partition are for refcoco, not for {dataset}")
    if out.suffix != ".json":
        raise UserError(f"--out {out}: expected a .json file, which gets the samples as one list")
    if not source.exists():
        raise UserError(f"--from {source}: no such file or folder")
    entries_beside(out)
    tally = Tally()
    folder = ImageFolder(images, media or out.parent)
    if dataset == "refcoco":
        partitions = dict(named(one, "--partition") for one in partition or [])
        samples = refcoco.convert(source, folder, tally, seed=seed, split=split or "train", partitions=partitions)
    else:
        samples = CONVERTERS[dataset](source, folder, tally, seed=seed)
    try:
        count = write_samples(out, _some(samples, source, tally), force=force)
    except Done:
        add_dataset(out)  # it may have been killed in between
        raise
    add_dataset(out)
    note(f"{out}: {counted(count, 'sample')}")
    for reason, number in sorted(tally.counts.items(), key=lambda item: -item[1]):
        note(f"  {reason}: {number}")


def _convert_records(source: Path, out: Path, conversion: Conversion, *, force: bool, workers: int) -> None:
    from migician.build.converters.records import CONVERTED, convert_file
    from migician.workers import in_processes

    with in_processes(workers) as pool, progress_bar(f"converting {source.name}") as report:
        card = convert_file(source, out, conversion, force=force, workers=pool, report=report)
    note(f"{out}: {counted(card.counts[CONVERTED], 'record')} in the convention {card.convention}")
    say_lost(card.counts)


def _write_rows(
    source: Path,
    out: Path,
    form: str,
    media: Path | None,
    max_pixels: int,
    keep: str | None,
    answers: Path | None,
    *,
    force: bool,
) -> None:
    from migician.training.reward_rows import write_rows

    if out.suffix not in (".json", ".jsonl", ".parquet"):
        raise UserError(f"--out {out}: expected a .jsonl, .json or .parquet file")
    if (keep is None) != (answers is None):
        raise UserError("--keep and --answers go together: which share of a turn's answers must be right")
    bounds = _bounds(keep) if keep else None
    with progress_bar(f"converting {source.name}") as report:
        card = write_rows(
            source,
            out,
            form,
            media=media,
            max_pixels=max_pixels,
            keep=bounds,
            replies=answers,
            force=force,
            report=report,
        )
    note(f"{out}: {counted(card.rows, 'row')} for {form}; the reward's style is {card.style}")
    if card.unplaced:
        note(f"  {card.unplaced:,} with a true box that may be in any image, because the record does not tell")
    for reason, number in card.left_out.items():
        note(f"  {number:,} left out: {reason}")


def _bounds(given: str) -> tuple[float, float]:
    """The two shares of LOW..HIGH."""
    low, _, high = given.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (1.0, 0.0)
    if not 0 <= bounds[0] <= bounds[1] <= 1:
        raise UserError(f"--keep {given!r}: expected LOW..HIGH between 0 and 1, such as 0.1..0.9")
    return bounds


def say_lost(counts: Mapping[str, int]) -> None:
    """Print what a conversion left out or changed."""
    from migician.build.converters.records import CONVERTED

    for reason, number in counts.items():
        if reason != CONVERTED:
            note(f"  {number:,} {reason}")


def _some(samples: Iterator[Sample], source: Path, tally: Tally) -> Iterator[Sample]:
    """`samples`; raises `UserError` where there are none."""
    empty = True
    for sample in samples:
        empty = False
        yield sample
    if empty:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in sorted(tally.counts.items()))
        raise UserError(f"{source}: no samples could be made: {reasons or 'it has no records'}")
