"""What a check found: as a type that is JSON, and as tables."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table

from migician.training.check.data.findings import Finding, Place, Severity


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
    """Whether they were decoded whole, or only their headers read."""
    seconds: float

    @property
    def per_second(self) -> float:
        """Images a second."""
        return self.looked_at / self.seconds if self.seconds else 0.0


class Leakage(msgspec.Struct):
    """How images were compared with a benchmark's."""

    data: str
    images: int
    """Of the benchmark."""
    known_by: dict[str, int]
    """How many of them have a name that tells, a sequence that tells, or only a path."""
    fingerprints: int
    """How many could be compared by what they show; 0 where only names were."""
    missing: int
    """How many were not below --images, or could not be read."""


class SourceCopying(msgspec.Struct):
    """Answers of one source in other images than a box that their question gives, as in tracking."""

    source: str
    answers: int
    copyable: int
    """Those whose IoU with the given box is 0.5 or more: who copies the box is right."""
    shuffled: int
    """Samples whose frames are out of order: their "first image" is the first in time."""


class TooLong(msgspec.Struct):
    """A sample beyond `cutoff_len`."""

    file: str
    record: int
    tokens: int


class Lengths(msgspec.Struct):
    """Tokens a sample, images included, as LLaMA-Factory counts them for Qwen2-VL."""

    exact: bool
    """False where the text's share is estimated, for want of a tokenizer."""
    known: int
    """Samples all of whose images have a size."""
    cutoff_len: int | None
    mean: float
    mean_in_images: float
    """Of them the tokens of images."""
    median: int
    p99: int
    longest: int
    histogram: list[tuple[int, int | None, int]]
    """(from, below, samples); the last has no end."""
    too_long: list[TooLong]
    """All of them."""
    mean_images: float = 0.0


class Report(msgspec.Struct):
    """All that a check has to say."""

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

    def count(self, severity: Severity) -> int:
        """How many problems, or warnings, there are in all."""
        return sum(one.count for one in self.findings if one.severity == severity)

    def fails(self, strict: bool) -> bool:
        """Whether the data should not be trained on; with `strict` a warning is enough."""
        return bool(self.count("problem") or (strict and self.count("warning")))


def tables(report: Report) -> RenderableType:
    """The report for a terminal."""
    parts: list[RenderableType] = [_files(report)]
    if report.lengths and report.lengths.known:
        parts.append(_histogram(report.lengths))
    if report.copying:
        parts.append(_copying(report.copying))
    if report.findings:
        parts.append(_findings(report))
    return Group(*parts)


def sentences(report: Report) -> Iterator[str]:
    """What there is to say beside the tables."""
    images = report.images
    if images.looked_at:
        how = "decoded whole" if images.decoded else "headers only"
        yield f"{images.looked_at:,} of {images.distinct:,} images, {how}, {images.per_second:,.0f} images/s"
    if report.leakage is None:
        yield "images of MIG-Bench were looked for by name only: give --mig-bench MIG_data.json and its --images"
    else:
        yield _leakage_sentence(report.leakage)
    problems, warnings = report.count("problem"), report.count("warning")
    yield f"{report.samples:,} samples in {report.seconds:,.1f} s: {problems:,} problems, {warnings:,} warnings"


def _leakage_sentence(leakage: Leakage) -> str:
    by = leakage.known_by
    names = f"{by.get('name', 0):,} by their own name, {by.get('sequence', 0):,} by their sequence"
    shown = f"and {leakage.fingerprints:,} by what they show" if leakage.fingerprints else "and none by what they show"
    missing = f"; {leakage.missing:,} are not below --images" if leakage.missing else ""
    return (
        f"MIG-Bench: {leakage.images:,} images, known {names}, {by.get('path', 0):,} only by their path, "
        f"{shown}{missing}"
    )


def _files(report: Report) -> Table:
    table = Table(title=report.path, title_justify="left")
    table.add_column("file")
    table.add_column("samples", justify="right")
    table.add_column("also in a file above", justify="right")
    for one in report.files:
        table.add_row(one.file, f"{one.samples:,}", f"{one.shared:,}" if one.shared else "")
    return table


def _histogram(lengths: Lengths) -> Table:
    about = "exact" if lengths.exact else "text estimated within some 5%; --tokenizer FOLDER counts it"
    title = f"tokens a sample ({about}): median {lengths.median:,}, 99% {lengths.p99:,}, longest {lengths.longest:,}"
    table = Table(title=title, title_justify="left")
    table.add_column("tokens", justify="right")
    table.add_column("samples", justify="right")
    table.add_column("share")
    most = max(count for _, _, count in lengths.histogram)
    for low, high, count in lengths.histogram:
        bounds = f"{low:,} - {high - 1:,}" if high else f"{low:,} and more"
        table.add_row(bounds, f"{count:,}", "█" * -(-40 * count // most) if count else "")
    return table


def _copying(sources: list[SourceCopying]) -> Table:
    table = Table(title="answers to questions that give a box in another image", title_justify="left")
    table.add_column("source")
    for column in ("answers", "right if the given box is copied", "shuffled samples"):
        table.add_column(column, justify="right")
    for one in sources:
        shuffled = f"{one.shuffled:,}" if one.shuffled else ""
        table.add_row(one.source, f"{one.answers:,}", f"{one.copyable / one.answers:.1%}", shuffled)
    return table


def _findings(report: Report) -> Table:
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("what", ratio=3)
    table.add_column("count", justify="right")
    table.add_column("where", ratio=5)
    table.add_column("cure", ratio=3)
    for one in report.findings:
        places = "\n".join(place_line(place) for place in one.places)
        more = f"\nand {one.count - len(one.places):,} more" if one.count > len(one.places) else ""
        table.add_row(one.severity, one.phrase, f"{one.count:,}", places + more, one.cure)
    return table


def place_line(place: Place) -> str:
    """One place in a line.

    >>> place_line(Place("a.json", 3, 700, "x_3", "2 <image> for 1 images"))
    "a.json record 3 (byte 700, id 'x_3'): 2 <image> for 1 images"
    """
    name = place.file if place.record is None else f"{place.file} record {place.record}"
    details = [f"byte {place.byte}"] if place.byte is not None else []
    details += [f"id {place.id!r}"] if place.id is not None else []
    where = f"{name} ({', '.join(details)})" if details else name
    return f"{where}: {place.value}" if place.value else where
