"""What a check found: a type that is JSON, tables for a terminal, and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from rich.console import Group, RenderableType
from rich.table import Table

from migician.printable import counted
from migician.training.check.findings import Finding, Place, Severity


class FileCount(msgspec.Struct):
    """One file of samples."""

    file: str
    samples: int
    shared: int
    """Records that an earlier file has byte for byte; they are checked there."""


class ImageCount(msgspec.Struct):
    """The images that the samples name."""

    distinct: int
    looked_at: int
    decoded: bool
    """False where only their headers were read."""
    seconds: float


class Leakage(msgspec.Struct):
    """How images were compared with a benchmark's."""

    data: str
    images: int
    """Of the benchmark."""
    known_by: dict[str, int]
    """How many of them are recognised by their name, by their sequence, or only by their path."""
    fingerprints: int
    """How many could be compared by content; 0 where only names were."""
    missing: int
    """How many were not below --images, or could not be read."""


class SourceCopying(msgspec.Struct):
    """Answers of one source in another image than the box in their question, as in tracking."""

    source: str
    answers: int
    copyable: int
    """Those whose IoU with the given box is 0.5 or more: copying the box is right."""
    shuffled: int
    """Samples whose frames are out of order: their "first image" is the first in time."""


class TooLong(msgspec.Struct):
    """A sample beyond `cutoff_len`."""

    file: str
    record: int
    tokens: int


class Lengths(msgspec.Struct):
    """Tokens per sample, images included, as LLaMA-Factory counts them for the base model."""

    exact: bool
    """False where the tokens of texts are estimated, without a tokenizer."""
    known: int
    """Samples all of whose images have a size."""
    cutoff_len: int | None
    mean: float
    mean_in_images: float
    """Tokens of images among them."""
    median: int
    p99: int
    longest: int
    histogram: list[tuple[int, int | None, int]]
    """(from, below, samples); the last has no end."""
    too_long: list[TooLong]
    """All of them."""
    mean_images: float = 0.0


class OwnRewards(msgspec.Struct):
    """What the records' own answers earn as a reward."""

    preset: str
    turns: int
    """Those that give boxes."""
    full: int
    """Those among them whose answer earns all there is."""


class Counts(msgspec.Struct, kw_only=True):
    """What a training counts."""

    samples: int
    """Trained on in one epoch."""
    gpus: Annotated[int, Meta(ge=1)]
    batch: int
    """Samples per step, over all GPUs."""
    samples_a_step: float
    """The batch; with packing, as many samples as fill its sequences on average."""
    steps: int
    warmup_steps: int
    checkpoints: int
    """Present at the end."""
    saved_at: list[int] = []
    """Their steps; only the last if there are many."""
    examples: int = 0
    """What LLaMA-Factory calls "Num examples": samples, or with packing the sequences that they fill."""
    evaluated: int = 0
    """Samples that are evaluated on."""


class TrainingCost(Counts, kw_only=True):
    """What a training will take."""

    gpu_memory_gb: float
    """0 where there is no GPU."""
    checkpoint_gb: float
    zero_stage: int
    memory_gb: dict[str, float]
    """On each GPU at the peak, by use, and "total"."""
    smallest: int | None
    """The fewest GPUs of that memory that hold the run at this ZeRO stage."""
    parameters: int
    """Those of an adapter included."""
    trained: int
    shape_known: bool
    """False where the checkpoint is not here, and those of a released one are assumed."""
    petaflops: float
    """10^15 operations for all samples: 6 per trained parameter and token, 2 per frozen one (4 where gradients pass
    through it), attention included."""
    hours: dict[str, float]
    """At the authors' rate, and by kind of GPU at 30% of its peak."""
    gpu: str
    """Its name, where it was given."""
    tokens_a_sample: float
    images_a_sample: float
    flop_a_sample: float
    """On average; the operations that `petaflops` sums."""
    method: str = "full"
    """`finetuning_type`."""
    result_gb: float = 0.0
    """Of the weights in the output folder itself."""


class CheckReport(msgspec.Struct):
    """Everything a check found."""

    path: str
    media_dir: str
    files: list[FileCount]
    samples: int
    """Each once, however many files have it."""
    images: ImageCount
    leakage: Leakage | None
    lengths: Lengths | None
    findings: list[Finding]
    seconds: float
    copying: list[SourceCopying] = []
    rewards: OwnRewards | None = None
    training: TrainingCost | UnsetType = UNSET
    """Of a training YAML."""

    def count(self, severity: Severity) -> int:
        """How many problems, or warnings, there are in all."""
        return sum(one.count for one in self.findings if one.severity == severity)

    def fails(self, strict: bool) -> bool:
        """Whether the data should not be trained on; with `strict` a warning is enough."""
        return bool(self.count("problem") or (strict and self.count("warning")))


def tables(report: CheckReport) -> RenderableType:
    """The report for a terminal."""
    parts: list[RenderableType] = [
        _table(
            report.path,
            ["file", ">samples", ">also in a file above"],
            [(one.file, f"{one.samples:,}", f"{one.shared:,}" if one.shared else "") for one in report.files],
        )
    ]
    if report.lengths and report.lengths.known:
        parts.append(_histogram(report.lengths))
    if report.copying:
        rows = [
            (
                one.source,
                f"{one.answers:,}",
                f"{one.copyable / one.answers:.1%}",
                f"{one.shuffled:,}" if one.shuffled else "",
            )
            for one in report.copying
        ]
        columns = ["source", ">answers", ">right if the given box is copied", ">shuffled samples"]
        parts.append(_table("answers to questions that give a box in another image", columns, rows))
    if report.findings:
        parts.append(_findings(report.findings))
    return Group(*parts)


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table; columns that begin with > hold numbers."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _histogram(lengths: Lengths) -> Table:
    about = "exact" if lengths.exact else "text estimated within about 5%; --tokenizer FOLDER counts it"
    title = f"tokens per sample ({about}): median {lengths.median:,}, 99% {lengths.p99:,}, longest {lengths.longest:,}"
    most = max(count for _, _, count in lengths.histogram)
    rows = [
        (
            f"{low:,} - {high - 1:,}" if high else f"{low:,} and more",
            f"{count:,}",
            "█" * -(-40 * count // most) if count else "",
        )
        for low, high, count in lengths.histogram
    ]
    return _table(title, [">tokens", ">samples", "share"], rows)


def _findings(findings: Sequence[Finding]) -> Table:
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("what", ratio=3)
    table.add_column("count", justify="right")
    table.add_column("where", ratio=5)
    table.add_column("fix", ratio=3)
    for one in findings:
        places = "\n".join(place_line(place) for place in one.places)
        more = f"\nand {one.count - len(one.places):,} more" if one.count > len(one.places) else ""
        table.add_row(one.severity, one.phrase, f"{one.count:,}", places + more, one.fix)
    return table


def place_line(place: Place) -> str:
    """One place in a line.

    >>> place_line(Place("a.json", 3, 700, "x_3", "<image> marks: 2, images: 1"))
    "a.json record 3 (byte 700, id 'x_3'): <image> marks: 2, images: 1"
    """
    name = place.file if place.record is None else f"{place.file} record {place.record}"
    details = [f"byte {place.byte}"] if place.byte is not None else []
    details += [f"id {place.id!r}"] if place.id is not None else []
    where = f"{name} ({', '.join(details)})" if details else name
    return f"{where}: {place.value}" if place.value else where


def sentences(report: CheckReport) -> Iterator[str]:
    """What there is to say beside the tables."""
    if report.training:
        yield from cost_sentences(report.training)
    images = report.images
    if images.looked_at:
        how = "decoded whole" if images.decoded else "headers only"
        rate = images.looked_at / images.seconds if images.seconds else 0.0
        yield f"{images.looked_at:,} of {images.distinct:,} images, {how}, {rate:,.0f} images/s"
    if report.leakage is None:
        yield "images of MIG-Bench were looked for by name only: add --mig-bench MIG_data.json and its --images"
    else:
        yield _leakage_sentence(report.leakage)
    if report.rewards:
        one = report.rewards
        yield f"{one.full:,} of {one.turns:,} own answers earn all that {one.preset} gives"
    problems, warnings = report.count("problem"), report.count("warning")
    yield f"{report.samples:,} samples in {report.seconds:,.1f} s: problems: {problems:,}, warnings: {warnings:,}"


def _leakage_sentence(leakage: Leakage) -> str:
    by = leakage.known_by
    names = f"{by.get('name', 0):,} by their own name, {by.get('sequence', 0):,} by their sequence"
    shown = f"and {leakage.fingerprints:,} by their content" if leakage.fingerprints else "and none by their content"
    missing = f"; {leakage.missing:,} are not below --images" if leakage.missing else ""
    return (
        f"MIG-Bench: {leakage.images:,} images, recognised {names}, {by.get('path', 0):,} only by their path, "
        f"{shown}{missing}"
    )


def cost_sentences(one: TrainingCost) -> Iterator[str]:
    """What a training will take."""
    packed = f" in {one.examples:,} sequences" if one.examples not in (0, one.samples) else ""
    held_out = f", {one.evaluated:,} to evaluate on" if one.evaluated else ""
    yield (
        f"{counted(one.samples, 'sample')}{packed} / {one.batch} per step: {counted(one.steps, 'step')}, "
        f"{one.warmup_steps:,} of them warm-up; checkpoints: {one.checkpoints} of {_size(one.checkpoint_gb)}{held_out}"
    )
    yield f"{one.method}: {one.trained:,} of {one.parameters:,} parameters learn ({one.trained / one.parameters:.2%})"
    parts = ", ".join(f"{name} {value:.1f}" for name, value in one.memory_gb.items() if name != "total")
    if one.gpu_memory_gb:
        yield (
            f"memory per GPU (of {one.gpus}), ZeRO stage {one.zero_stage}: about {one.memory_gb['total']:.1f} of "
            f"{one.gpu_memory_gb:g} GB ({parts}); "
            + (f"fewest such GPUs: {one.smallest}" if one.smallest else "no number of such GPUs is enough")
        )
    else:
        processes = f"{one.gpus} processes" if one.gpus > 1 else "one process"
        yield f"no GPU: {processes} on the CPU, about {one.memory_gb['total']:.1f} GB each ({parts})"
    hours = ", ".join(f"{value:,.1f} h ({name})" for name, value in one.hours.items())
    yield f"{one.petaflops:,.2f} petaFLOP: {hours}, computed, not measured"
    if not one.shape_known:
        yield (
            "the checkpoint is not here, or of an unknown kind: the sizes of a released one of "
            f"{one.parameters / 1e9:.1f} billion parameters were assumed"
        )


def _size(gb: float) -> str:
    return f"{gb:.1f} GB" if gb >= 1 or math.isclose(gb, 0) else f"{1000 * gb:.1f} MB"
