"""Everything wrong with a dataset.

reading   one pass over the records: structure, repeats, text lengths
rewards   another, where asked for: whether own answers earn all that a reward gives
images    each distinct image once, in several processes
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.models.pictures import ROTATED, THIN, stretched
from migician.progress import progress_bar
from migician.samples.dataset_info import Inputs, inputs_of
from migician.samples.lengths import EstimatedTokens, Resize, TextTokens, TokenizerTokens, cells, image_tokens
from migician.training.check.data.annotated_sizes import crop_fault, frame_faults
from migician.training.check.data.images import ImageLook, look_at_all
from migician.training.check.data.reading import Reader, ReadSamples
from migician.training.check.data.rewards import own_rewards
from migician.training.check.findings import Findings
from migician.training.check.options import CheckOptions
from migician.training.check.report import (
    CheckReport,
    FileCount,
    ImageCount,
    Leakage,
    Lengths,
    SourceCopying,
    TooLong,
)

if TYPE_CHECKING:
    from migician.benchmarks.contamination.leakage import Leaks

_EDGES = (0, 256, 512, 1024, 2048, 4096, 6000, 8192, 16384)
"""Of the histogram; 6000 and 8192 are the published `cutoff_len` of the two stages."""
_LONGEST_RATIO = 200
_TINY_PX = 28


def check_data(path: Path, options: CheckOptions) -> CheckReport:
    """Everything wrong with what `path` names: a dataset folder, its dataset_info.json, or one file of samples."""
    findings = Findings()
    inputs = inputs_of(path, options.media_dir, findings.in_file)
    return check_inputs(path, inputs, findings, options)[0]


def check_inputs(
    path: Path, inputs: Inputs, findings: Findings, options: CheckOptions
) -> tuple[CheckReport, list[NDArray[np.int64]]]:
    """(a report on these files of samples, with what `findings` holds already; tokens of each record by file).

    Tokens that are not known are the mean.
    """
    began = time.monotonic()
    leaks = _leaks(options)
    text_tokens: TextTokens = TokenizerTokens(options.tokenizer) if options.tokenizer else EstimatedTokens()
    learned = (options.base.convention, options.resize.image_max_pixels) if options.training else None
    reader = Reader(findings, text_tokens, options.preprocessing_workers, options.template, learned)
    for samples in inputs.files:
        reader.add(samples)
    read = reader.read
    sizes, images = _images(read, inputs.media_dir, options, leaks, findings)
    totals, lengths = _lengths(read, sizes, text_tokens.exact, options, findings)
    rewards = own_rewards(inputs, options, findings) if options.preset else None
    files = [FileCount(str(file), *counts) for file, counts in zip(read.files, read.counts, strict=True)]
    leakage = None
    if options.mig_bench:
        known_by, compared = leaks.telling(), len(leaks.fingerprints)
        leakage = Leakage(str(options.mig_bench), len(leaks.names), known_by, compared, leaks.missing)
    seconds = time.monotonic() - began
    report = CheckReport(
        str(path),
        str(inputs.media_dir),
        files,
        read.samples,
        images,
        leakage,
        lengths,
        findings.listed(),
        round(seconds, 2),
        [SourceCopying(name, *msgspec.structs.astuple(one)) for name, one in sorted(read.copying.items())],
        rewards,
    )
    return report, list(_by_file(read, totals, lengths))


def _by_file(read: ReadSamples, totals: NDArray[np.int64], lengths: Lengths | None) -> Iterator[NDArray[np.int64]]:
    """The tokens of every record of each file; unknown for one that an earlier file has."""
    of, at = np.frombuffer(read.file_of, np.uint32), np.frombuffer(read.record_of, np.uint64).astype(np.int64)
    ends = np.searchsorted(of, np.arange(len(read.counts) + 1))
    for (records, _), start, end in zip(read.counts, ends[:-1], ends[1:], strict=True):
        tokens = np.full(records, round(lengths.mean) if lengths else 0, np.int64)
        tokens[at[start:end]] = totals[start:end]
        yield tokens


def _leaks(options: CheckOptions) -> Leaks:
    from migician.benchmarks.contamination.leakage import Leaks

    if options.mig_bench is None:
        return Leaks.listed()
    return Leaks.read(options.mig_bench, None if options.quick else options.mig_bench_images).with_listed()


def _images(
    read: ReadSamples, media_dir: Path, options: CheckOptions, leaks: Leaks, findings: Findings
) -> tuple[NDArray[np.int64], ImageCount]:
    """Look at every image; gives (width, height) by number, shape (images, 2), 0 if unknown."""
    names = list(read.image_numbers)
    sizes = np.zeros((len(names), 2), np.int64)
    inside = []
    for number, name in enumerate(names):
        if _leads_out(name):
            findings.add("path", partial(read.place, read.first_use[number], name))
        else:
            inside.append(name)
        used = leaks.of(name)
        if used:
            findings.add("leak_name", partial(read.place, read.first_use[number], f"{name} is {used}"))
    prints: dict[int, int] = {}
    began = time.monotonic()
    with progress_bar("images") as report:
        looks = look_at_all(
            media_dir, inside, options.workers, quick=options.quick, fingerprints=bool(leaks.fingerprints)
        )
        for done, (name, one) in enumerate(zip(inside, looks, strict=True)):
            number = read.image_numbers[name]
            sizes[number] = one.width, one.height
            if one.fingerprint is not None:
                prints[number] = one.fingerprint
            for kind, value in _image_faults(name, one, options.resize):
                findings.add(kind, partial(read.place, read.first_use[number], value))
            report(done + 1, len(inside))
    for sample, value in frame_faults(read, sizes):
        findings.add("annotated_size", partial(read.place, sample, value))
    seconds = time.monotonic() - began
    if prints:
        _shown_leaks(read, media_dir, names, prints, leaks, findings)
    return sizes, ImageCount(len(names), len(inside), not options.quick, round(seconds, 3))


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or name[1:3] in (":\\", ":/")


def _image_faults(name: str, look: ImageLook, resize: Resize) -> Iterator[tuple[str, str]]:
    if look.fault:
        yield look.fault, f"{name}: {look.value}" if look.value else name
    if not (look.width and look.height):
        return
    size = f"{name}: {look.width} x {look.height}"
    if max(look.width, look.height) > _LONGEST_RATIO * min(look.width, look.height):
        yield "narrow", size
    if stretched((look.width, look.height), resize) != (look.width, look.height):
        limits = resize.processor_min_pixels, resize.processor_max_pixels
        asked = cells(look.width, look.height, *limits, resize.side)
        trained = _tokens(look.width, look.height, resize)
        yield THIN, f"{size}, {trained} tokens in training, {asked[0] * asked[1]} in evaluation"
    elif min(look.width, look.height) < _TINY_PX:
        yield "tiny", size
    if fault := crop_fault(name, (look.width, look.height)):
        yield "annotated_size", fault
    if look.apart:
        yield look.apart, f"{name}: orientation {look.rotation}" if look.apart == ROTATED else size


def _shown_leaks(
    read: ReadSamples, media_dir: Path, names: list[str], prints: dict[int, int], leaks: Leaks, findings: Findings
) -> None:
    """Find images of the benchmark by content, without those already found by name."""
    numbers = [number for number in prints if not leaks.of(names[number])]
    near = leaks.near(np.array([prints[number] for number in numbers], np.uint64))
    for position, candidates in near.items():
        number = numbers[position]
        used = leaks.confirmed(media_dir / names[number], candidates)
        if used:
            findings.add("leak_picture", partial(read.place, read.first_use[number], f"{names[number]} is {used}"))


def _lengths(
    read: ReadSamples, sizes: NDArray[np.int64], exact: bool, options: CheckOptions, findings: Findings
) -> tuple[NDArray[np.int64], Lengths | None]:
    """(tokens of every sample, statistics of those whose images all have a size)."""
    if not read.samples:
        return np.empty(0, np.int64), None
    of_image = np.array([_tokens(width, height, options.resize) for width, height in sizes.tolist()], np.int64)
    used = of_image[np.frombuffer(read.images_of, np.uint32)] if len(read.images_of) else np.empty(0, np.int64)
    ends = np.frombuffer(read.image_ends, np.uint64).astype(np.int64)
    # A text has one token of each image already.
    in_images = np.diff(np.concatenate([[0], np.cumsum(used - 1)])[np.concatenate([[0], ends])])
    unknown = np.diff(np.concatenate([[0], np.cumsum(used == 0)])[np.concatenate([[0], ends])])
    totals = np.frombuffer(read.text_tokens, np.uint32).astype(np.int64) + in_images
    known = totals[unknown == 0]
    too_long = []
    if options.cutoff_len is not None:
        for sample in np.flatnonzero((totals > options.cutoff_len) & (unknown == 0)).tolist():
            tokens = int(totals[sample])
            findings.add("too_long", partial(read.place, sample, f"{tokens} tokens"))
            file = str(read.files[read.file_of[sample]])
            too_long.append(TooLong(file, read.record_of[sample], tokens))
    counts = np.histogram(known, [*_EDGES, np.iinfo(np.int64).max])[0].tolist()
    histogram = list(zip(_EDGES, [*_EDGES[1:], None], counts, strict=True))
    median, p99, longest = np.percentile(known, [50, 99, 100], method="higher").tolist() if len(known) else (0, 0, 0)
    mean = float(known.mean()) if len(known) else 0.0
    mean_images = float(np.diff(ends, prepend=0)[unknown == 0].mean()) if len(known) else 0.0
    mean_in_images = float(in_images[unknown == 0].mean()) + mean_images if len(known) else 0.0
    return totals, Lengths(
        exact,
        len(known),
        options.cutoff_len,
        mean,
        mean_in_images,
        median,
        p99,
        longest,
        histogram,
        too_long,
        mean_images,
    )


def _tokens(width: int, height: int, resize: Resize) -> int:
    """Of one image; 0 if it has no size or LLaMA-Factory could not scale it."""
    if not (width and height):
        return 0
    try:
        return image_tokens((width, height), resize)
    except ValueError:
        return 0
