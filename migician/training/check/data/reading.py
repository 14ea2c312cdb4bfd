"""One pass over the files of samples: the faults of each record, and what later passes need of it.

Of a record about forty bytes are kept, and of an image its name, so a million samples take some hundred MB.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.errors import NOT_JSON, UserError
from migician.files import decoded
from migician.progress import progress_bar
from migician.samples.bases import QWEN2_VL, Template
from migician.samples.box_places import Copying, count_seen
from migician.samples.convention_card import ConventionCard, read_convention
from migician.samples.dataset_info import Samples
from migician.samples.layouts import Layout, LayoutReader, Record
from migician.samples.lengths import TextTokens, rendered
from migician.samples.record_file import record_at, records
from migician.training.check.data.conventions import card_faults, text_faults
from migician.training.check.data.samples import sample_faults
from migician.training.check.findings import Findings, Place

_BATCH = 512
_KNOWN_BY = 1000
"""Records from which `datasets` infers the type of a column when LLaMA-Factory maps them."""
_64_BITS = (1 << 64) - 1
_BYTE_OF_ERROR = re.compile(r"\(byte (\d+)\)")


@dataclass(slots=True)
class ReadSamples:
    """All records of all files, in order; one that an earlier file has too is only counted there."""

    files: list[Path] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    """(records, those among them that an earlier file has too) by file."""
    image_numbers: dict[str, int] = field(default_factory=dict)
    """Number of each image by its name, in order of first use."""
    first_use: array[int] = field(default_factory=lambda: array("Q"))
    """The sample that names each image first."""
    file_of: array[int] = field(default_factory=lambda: array("I"))
    record_of: array[int] = field(default_factory=lambda: array("Q"))
    byte_of: array[int] = field(default_factory=lambda: array("Q"))
    text_tokens: array[int] = field(default_factory=lambda: array("I"))
    images_of: array[int] = field(default_factory=lambda: array("I"))
    """Numbers of the images of all samples, one after the other."""
    image_ends: array[int] = field(default_factory=lambda: array("Q"))
    """The end of each sample's images in `images_of`."""
    copying: dict[str, Copying] = field(default_factory=dict)
    """By source: answers in another image than the box in their question."""

    @property
    def samples(self) -> int:
        """Number of samples, each counted once."""
        return len(self.file_of)

    def place(self, sample: int, value: str = "") -> Place:
        """The place of a sample; its id is read from the file again."""
        file, offset = self.files[self.file_of[sample]], self.byte_of[sample]
        return Place(str(file), self.record_of[sample], offset, _id_at(file, offset), value)


class _Id(msgspec.Struct):
    id: str | int | None = None


def _id_at(file: Path, offset: int) -> str | int | None:
    found = decoded(record_at(file, offset), _Id)
    return found.id if found else None


class Reader:
    """Reads files of samples one after the other into `read`."""

    def __init__(
        self,
        findings: Findings,
        text_tokens: TextTokens,
        parts: int = 1,
        template: Template = QWEN2_VL.template,
        learned: tuple[str, int] | None = None,
    ) -> None:
        """A file's records are prepared in `parts`: LLaMA-Factory's `preprocessing_num_workers`.

        `learned` is the convention that the base model learns and `image_max_pixels`; None where any may be stated.
        """
        self.read = ReadSamples()
        self._parts = max(parts, 1)
        self._template, self._learned = template, learned
        self._convention = QWEN2_VL.convention
        self._findings = findings
        self._text_tokens = text_tokens
        self._layout = LayoutReader()
        # Of every record of the earlier files by layout, sorted. Python's own hash: 64 bits, fast, of this run only.
        self._earlier: dict[str, NDArray[np.uint64]] = {}

    def add(self, samples: Samples) -> None:
        """Read one file and find what is wrong with it."""
        file = samples.file
        self.read.files.append(file)
        self._layout = LayoutReader(samples.layout)
        self._convention = self._convention_of(file)
        hashes, contents, ids, offsets = array("Q"), array("Q"), array("Q"), array("Q")
        shared, images_before = 0, len(self.read.images_of)
        earlier = self._earlier.get(repr(samples.layout), np.empty(0, np.uint64))
        found = self._records(file)
        while batch := list(itertools.islice(found, _BATCH)):
            own = [hash(content) & _64_BITS for _, content in batch]
            known = self._known(np.array(own, np.uint64), earlier)
            shared += sum(known)
            # A shared record is compared by its bytes, any other by its images and turns.
            kept = self._take(file, len(hashes), batch, known)
            for position, one in enumerate(own):
                content, identity = kept.get(position, (one, 0))
                contents.append(content)
                ids.append(identity)
            hashes.extend(own)
            offsets.extend(offset for offset, _ in batch)
        self.read.counts.append((len(hashes), shared))
        if not hashes:
            self._findings.in_file("no_samples", file)
        if samples.layout:
            self._columns(samples.layout, file, len(self.read.images_of) > images_before, shared)
        for name, kinds, number in self._layout.mixed():
            value = f"{name}: {' and '.join(kinds)}"
            self._findings.add("mixed", Place(str(file), number, offsets[number], value=value))
        if not shared:
            self._late_images(file, len(hashes))
        self._repeats("repeated", file, contents, offsets)
        self._repeats("id_repeated", file, ids, offsets)
        self._earlier[repr(samples.layout)] = np.sort(np.concatenate([earlier, np.frombuffer(hashes, np.uint64)]))

    def _convention_of(self, file: Path) -> str:
        """How the records of a file must write boxes: as its card says, else as the base model learns them."""
        try:
            card = read_convention(file)
        except UserError as error:
            self._findings.in_file("convention", file, str(error))
            card = ConventionCard()
        if not self._learned:
            return card.convention
        for value in card_faults(card, *self._learned):
            self._findings.in_file("convention", file, value)
        return self._learned[0] if card.convention == QWEN2_VL.convention else card.convention

    def _columns(self, layout: Layout, file: Path, has_images: bool, shared: int) -> None:
        """Find where the records of a file do not match its entry."""
        if not layout.images and has_images:
            value = "its entry names no column of images, and its samples have some"
            self._findings.in_file("info", file, value)
        for name in self._layout.missing() if self._layout.kinds and not shared else ():
            value = f"its entry names the column {name!r}, and no record has it: LLaMA-Factory stops at it"
            self._findings.in_file("info", file, value)

    def _late_images(self, file: Path, records: int) -> None:
        """Find the first image of each part of a file, if it comes so late that LLaMA-Factory expects none."""
        read = self.read
        first = bisect.bisect_left(read.file_of, len(read.files) - 1)
        counts = np.diff(np.frombuffer(read.image_ends, np.uint64).astype(np.int64), prepend=0)[first:]
        having = np.flatnonzero(counts)
        numbers = np.frombuffer(read.record_of, np.uint64)[first:][having].astype(np.int64)
        size, rest = divmod(records, self._parts)
        for part in range(self._parts):
            start = part * size + min(part, rest)
            end = start + size + (part < rest)
            at = int(np.searchsorted(numbers, start))
            if at < len(numbers) and start + _KNOWN_BY <= numbers[at] < end:
                self._findings.add("late_images", functools.partial(read.place, first + int(having[at])))

    def _records(self, file: Path) -> Iterator[tuple[int, bytes]]:
        """The records, up to where the file is damaged."""
        total = file.stat().st_size >> 20
        with progress_bar(f"reading {file.name}, MiB") as report:
            try:
                for number, (offset, content) in enumerate(records(file)):
                    if number % _BATCH == 0:
                        report(offset >> 20, total)
                    yield offset, content
            except UserError as error:
                self._findings.in_file("file", file, str(error).removeprefix(f"{file}: "))

    def _known(self, hashes: NDArray[np.uint64], earlier: NDArray[np.uint64]) -> list[bool]:
        if not len(earlier):
            return [False] * len(hashes)
        at = np.minimum(np.searchsorted(earlier, hashes), len(earlier) - 1)
        found: list[bool] = (earlier[at] == hashes).tolist()
        return found

    def _take(
        self, file: Path, first: int, batch: list[tuple[int, bytes]], known: list[bool]
    ) -> dict[int, tuple[int, int]]:
        """Check the new records; gives (hash of content, hash of id) by position in `batch`."""
        kept: dict[int, tuple[int, int]] = {}
        texts = []
        for position, (offset, content) in enumerate(batch):
            if known[position]:
                continue
            try:
                record = self._layout.read(content, first + position)
            except NOT_JSON as error:
                kind = "record" if isinstance(error, msgspec.ValidationError) else "not_json"
                self._findings.add(kind, _bad_place(file, first + position, offset, content, error))
                kept[position] = (0, 0)
                continue
            faults = itertools.chain(
                sample_faults(record),
                *(text_faults(turn.value, self._convention) for turn in record.conversations),
            )
            for kind, value in faults:
                self._findings.add(kind, Place(str(file), first + position, offset, record.id, value))
            turns = [(turn.from_, turn.value) for turn in record.conversations]
            self._copying(record, Place(str(file), first + position, offset, record.id))
            texts.append(rendered(turns, self._template))
            self._keep(first + position, offset, record)
            kept[position] = (hash((*record.images, *turns)) & _64_BITS, hash(repr(record.id)) & _64_BITS)
            if record.id is None:
                kept[position] = (kept[position][0], 0)
        self.read.text_tokens.extend(self._text_tokens.count(texts))
        return kept

    def _copying(self, record: Record, place: Place) -> None:
        spoken = [turn.value for turn in record.conversations if turn.from_ != "system"]
        turns = list(zip(spoken[::2], spoken[1::2], strict=False))
        found = count_seen(str(record.type), record.images, turns, self.read.copying)
        if found and found.answers_anchor:
            self._findings.add("anchor", place)

    def _keep(self, number: int, offset: int, record: Record) -> None:
        read = self.read
        for name in record.images:
            image = read.image_numbers.setdefault(name, len(read.image_numbers))
            if image == len(read.first_use):
                read.first_use.append(read.samples)
            read.images_of.append(image)
        read.image_ends.append(len(read.images_of))
        read.file_of.append(len(read.files) - 1)
        read.record_of.append(number)
        read.byte_of.append(offset)

    def _repeats(self, kind: str, file: Path, hashes: array[int], offsets: array[int]) -> None:
        """Find records with the same hash as an earlier one of the file; 0 means no hash."""
        values = np.frombuffer(hashes, np.uint64)
        order = np.argsort(values, kind="stable")
        same = (values[order][1:] == values[order][:-1]) & (values[order][1:] != 0)
        for later in np.sort(order[1:][same]).tolist():
            self._findings.add(kind, functools.partial(_repeat_place, file, later, offsets[later], values))


def _repeat_place(file: Path, number: int, offset: int, values: NDArray[np.uint64]) -> Place:
    first = int(np.flatnonzero(values == values[number])[0])
    return Place(str(file), number, offset, _id_at(file, offset), f"as record {first}")


def _bad_place(file: Path, number: int, offset: int, content: bytes, error: Exception) -> Place:
    """The place of an unreadable record, to the byte if the decoder gives it."""
    found = _BYTE_OF_ERROR.search(str(error))
    byte = offset + int(found[1]) if found else offset
    start = content[:60].decode(errors="replace")
    return Place(str(file), number, byte, value=f"{_BYTE_OF_ERROR.sub('', str(error)).strip()}: {start}")
