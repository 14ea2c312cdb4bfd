"""Records from one convention of boxes into another, as a stream."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from PIL import Image

from migician.boxes import TRAINED_PIXELS, Size
from migician.errors import NOT_JSON, Done, UserError, writing
from migician.files import opened
from migician.models.pictures import read_size
from migician.progress import OnProgress
from migician.samples import ms_swift
from migician.samples.convention_card import ConventionCard, refuse_card_of, write_convention
from migician.samples.conventions import CONVENTIONS, MS_SWIFT, OBJECT, WORDINGS, Convention, SizeOf, phrase_asked
from migician.samples.dataset_info import add_dataset, entries_beside
from migician.samples.dialogue import Dialogue, Exchange, placed, scaled
from migician.samples.layouts import Layout, LayoutReader, unread
from migician.samples.lengths import PIXELS_A_SIDE, Resize, cells, prepared
from migician.samples.plain_turns import STRICT, plain_turns
from migician.samples.record_file import JsonRecords, blocks_of
from migician.samples.sample import IMAGE_MARK, Sample, Turn
from migician.samples.segments import Absent, Boxed, Phrase, Segment
from migician.workers import Workers, here

_AT_ONCE = 1000
"""Records that one worker takes at a time."""

_MOST_REASONS = 20
"""Fields beyond these are counted as one."""
CONVERTED = "converted"
LEFT_OUT = {
    "image": "left out: the text does not say which image a box is in, and they differ in size",
    "form": "left out: not a conversation of questions and answers",
}
INEXACT = "not the same text when converted back: marked references that the convention has no place for"
REWORDED = "questions in the wording asked for"
UNREAD = "records without their field {!r}, which has no place in the convention"
UNKNOWN = "boxes whose image the text does not say"
NO_BOX = "records, and not one box that is written as {} writes it: see --style of 'migician data convert records'"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is converted into what."""

    source: str
    """One of `RECORD_STYLES`."""
    target: str
    media: Path
    """The folder that image names start from; only conventions in pixels open images."""
    max_pixels: int = TRAINED_PIXELS
    """Of an image as training resizes it: `image_max_pixels` of LLaMA-Factory's YAML."""
    source_pixels: int | None = None
    """The same of the source, whose card says it; None for `max_pixels`."""
    wording: str = ""
    """The one of `WORDINGS` in which one reference in one image is asked for; "" leaves questions as they are."""


def convert_file(
    source: Path,
    out: Path,
    conversion: Conversion,
    *,
    force: bool = False,
    workers: Workers = here,
    report: OnProgress | None = None,
) -> ConventionCard:
    """Write the records of `source` to `out` in another convention, with their card beside it.

    `out` is a JSON list with one record a line, or JSON lines where its name ends in `.jsonl`; for LLaMA-Factory it is
    entered in the dataset_info.json beside it. Same file, same bytes. Raises `Done` where `out` is that already, and
    `UserError` naming the file and the record that cannot be read, and where not one record has a form there.
    """
    counts: Counter[str] = Counter()
    refuse_card_of([source], out)
    entries_beside(out)
    with JsonRecords(source) as records:
        pieces = records.parts(_AT_ONCE)
        made = _converted(pieces, len(records), conversion, str(source), counts, workers=workers, report=report)
        try:
            with writing(out, force=force) as target:
                target.writelines(blocks_of(made, as_list=out.suffix != ".jsonl"))
        except Done:
            enter(out, conversion, counts)  # it may have been killed in between
            raise
    return enter(out, conversion, counts)


def converted(
    records: Iterator[bytes],
    total: int,
    conversion: Conversion,
    name: str,
    counts: Counter[str],
    *,
    workers: Workers = here,
    report: OnProgress | None = None,
) -> Iterator[bytes]:
    """`total` records of the file `name`, given as their bytes, in another convention and the same order.

    What is converted, left out and lost is added to `counts`. Raises `UserError` naming the record that is none, or
    whose image cannot be opened, and where not one has a form there.
    """
    listed = iter(lambda: list(itertools.islice(records, _AT_ONCE)), [])
    pieces = zip(itertools.count(step=_AT_ONCE), listed, strict=False)
    for made in _converted(pieces, total, conversion, name, counts, workers=workers, report=report):
        yield from made


def _converted(
    pieces: Iterable[tuple[int, Iterable[bytes]]],
    total: int,
    conversion: Conversion,
    name: str,
    counts: Counter[str],
    *,
    workers: Workers,
    report: OnProgress | None,
) -> Iterator[list[bytes]]:
    """As `converted`, of records in pieces, each with the number of its first."""
    found = False
    for piece in workers(functools.partial(_convert_piece, conversion, name), pieces):
        counts.update(piece.counts)
        found = found or piece.boxed
        if report:
            report(sum(counts[what] for what in (CONVERTED, *LEFT_OUT.values())), total)
        yield piece.records
    if not counts[CONVERTED]:
        said = ", ".join(f"{number} {reason}" for reason, number in counts.items()) or "it holds none"
        raise UserError(f"{name}: not one of its {total} records can be converted: {said}")
    if not found:
        counts[NO_BOX.format(conversion.source)] = counts[CONVERTED]


def enter(out: Path, conversion: Conversion, counts: Counter[str]) -> ConventionCard:
    """Write the card of converted records beside `out`, and for LLaMA-Factory an entry in dataset_info.json."""
    if conversion.target != MS_SWIFT:
        add_dataset(out)
    return write_convention(
        out, conversion.target, source=conversion.source, max_pixels=conversion.max_pixels, counts=counts
    )


@dataclass(slots=True)
class Piece:
    """Some converted records, and what was counted."""

    records: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    boxed: bool = False
    """Whether any record has a box that the convention it is in can read."""


def _convert_piece(conversion: Conversion, name: str, numbered: tuple[int, Iterable[bytes]]) -> Piece:
    converter = _Converter(conversion, name)
    piece = Piece(counts=converter.counts)
    for number, content in enumerate(numbered[1], numbered[0]):
        converted = converter.convert(content, number)
        if converted is not None:
            piece.records.append(converted)
    piece.boxed = converter.boxed
    return piece


class _Left(Exception):
    """A record that is left out; the text says why."""


class _Converter:
    """Converts single records, and counts what is lost."""

    def __init__(self, conversion: Conversion, name: str) -> None:
        self._media, self._name = conversion.media, name
        self._wording = WORDINGS.get(conversion.wording, "")
        self._source, self._target = CONVENTIONS.get(conversion.source), CONVENTIONS.get(conversion.target)
        self._resize = Resize(image_max_pixels=conversion.max_pixels)
        self._source_resize = Resize(image_max_pixels=conversion.source_pixels or conversion.max_pixels)
        self._reader = LayoutReader(name=name)
        self._plain = None if self._wording else plain_turns(conversion.source, conversion.target)
        self.counts: Counter[str] = Counter({REWORDED: 0} if conversion.wording else {})
        self.boxed = False

    def convert(self, content: bytes, number: int) -> bytes | None:
        """A record in the other convention; None, counted, for one that has no form there."""
        # Not before a record with boxes is read: the first shows how the file is laid out.
        if self.boxed and self._plain and (quick := self._plain.sample(content)):
            made, lossy = quick
            self.counts[CONVERTED] += 1
            if lossy:
                self.counts[INEXACT] += lossy
            return _ENCODER.encode(made)
        try:
            dialogue = self._read(content, number)
            written = self._write(dialogue)
            self._count_unread(content)
        except _Left as reason:
            self.counts[str(reason)] += 1
            return None
        except (*NOT_JSON, ValueError, OverflowError) as error:
            raise UserError(f"{self._name}: record {number}: {error}") from None
        self.counts[CONVERTED] += 1
        if not self.boxed and next(dialogue.boxed(), None) is not None:
            self.boxed = True
            self._plain = self._plain if self._reader.layout.is_own else None
        return _ENCODER.encode(written)

    def _read(self, content: bytes, number: int) -> Dialogue:
        if self._source is None:
            record = _SWIFT.decode(content)
            dialogue = ms_swift.read(record)
            return scaled(dialogue, self._sizes(dialogue)) if record.objects.bbox_type == "real" else dialogue
        sample = self._reader.sample(content, number)
        turns = sample.conversations
        system = [turn.value for turn in itertools.takewhile(_is_system, turns)]
        spoken = turns[len(system) :]
        if not spoken or len(spoken) % 2:
            raise _Left(LEFT_OUT["form"])
        exchanges = []
        for asked, answered in zip(spoken[::2], spoken[1::2], strict=True):
            if asked.from_ != "human" or answered.from_ != "gpt":
                raise _Left(LEFT_OUT["form"])
            exchanges.append(Exchange(*self._source.read(asked.value, answered.value)))
        dialogue = Dialogue(sample.id, sample.images, sample.type, system, exchanges)
        if self._source.counts_pixels:
            size_of = self._sizes(dialogue, self._source_resize)
            dialogue = scaled(self._known(placed(dialogue), size_of), size_of)
        return dialogue

    def _write(self, dialogue: Dialogue) -> Any:
        target = self._target
        if target is None:
            return ms_swift.write(self._known(placed(dialogue), self._sizes(dialogue)))
        size_of = self._sizes(dialogue, self._resize)
        if target.counts_pixels:
            dialogue = self._known(placed(dialogue), size_of)
        turns = [Turn("system", text) for text in dialogue.system]
        for one in dialogue.turns:
            asked, answered = target.write(one.question, one.answer, size_of)
            if self._wording and len(dialogue.images) == 1:
                asked = self._reworded(one, asked)
            turns += [Turn("human", asked), Turn("gpt", answered)]
            if (self._wording or _may_lose(one)) and not _comes_back(one, target, asked, answered):
                self.counts[INEXACT] += 1
        return Sample(dialogue.id, dialogue.images, turns, dialogue.type)

    def _count_unread(self, content: bytes) -> None:
        with contextlib.suppress(*NOT_JSON):
            STRICT.decode(content)
            return
        for name in sorted(unread(content, self._reader.layout) if self._source else unread(content, _SWIFT_LAYOUT)):
            self.counts[UNREAD.format(name if len(self.counts) < _MOST_REASONS else "others")] += 1

    def _reworded(self, turn: Exchange, asked: str) -> str:
        phrase = phrase_asked(turn.question, turn.answer)
        if phrase is None:
            return asked
        self.counts[REWORDED] += 1
        return IMAGE_MARK * asked.count(IMAGE_MARK) + self._wording.format(ref=phrase)

    def _sizes(self, dialogue: Dialogue, resize: Resize | None = None) -> SizeOf:
        """The sizes of a dialogue's images: of the files, or as training resizes them."""

        def size_of(image: int) -> Size:
            if image >= len(dialogue.images):
                raise ValueError(f"names Image-{image + 1} of {len(dialogue.images)} images")
            size = file_size(self._media / dialogue.images[image])
            return seen_size(size, resize) if resize else size

        return size_of

    def _known(self, dialogue: Dialogue, size_of: SizeOf) -> Dialogue:
        """A placed dialogue with an image for every box: any, where all are of one size; raises `_Left` for others."""
        unknown = sum(len(one.boxes) for one in dialogue.boxed() if one.image is None)
        if not unknown:
            return dialogue
        if len({size_of(image) for image in range(len(dialogue.images))}) != 1:
            raise _Left(LEFT_OUT["image"])
        self.counts[UNKNOWN] += unknown
        turns = [Exchange(_in_first(one.question), _in_first(one.answer)) for one in dialogue.turns]
        return replace(dialogue, turns=turns)


@functools.lru_cache(maxsize=1 << 16)
def file_size(file: Path) -> Size:
    """(width, height) of an image as a trainer opens it; raises `UserError` where it cannot be opened."""
    try:
        with opened(file), Image.open(file) as image:  # a pipe is refused
            return read_size(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file}: not an image whose size can be read: {error}; check --media") from None


def seen_size(size: Size, resize: Resize, side: int = PIXELS_A_SIDE) -> Size:
    """(width, height) in pixels that Qwen2.5-VL sees an image of `size` at, trained through LLaMA-Factory.

    >>> seen_size((640, 480), Resize())
    (644, 476)
    """
    columns, rows = cells(*prepared(size, resize), resize.processor_min_pixels, resize.processor_max_pixels, side)
    return columns * side, rows * side


def _is_system(turn: Turn) -> bool:
    return turn.from_ == "system"


def _in_first(segments: list[Segment]) -> list[Segment]:
    return [replace(one, image=0) if isinstance(one, Boxed) and one.image is None else one for one in segments]


def _may_lose(turn: Exchange) -> bool:
    """Whether a turn has marks that may not come back, so that it must be read to know.

    That is where it has more than one reference, or one that labels no box, or text that may be read as more.
    """
    named, texts = None, []
    for one in (*turn.question, *turn.answer):
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, Phrase):
            if one.text == OBJECT or named not in (None, one.text):
                return True
            named = one.text
            texts.append(named)
        elif isinstance(one, Boxed) and one.label is not None:
            return True
    if named is not None and not any(isinstance(one, Boxed) for one in turn.answer):
        return True
    text = "\n".join(texts)
    if turn.answer == [Absent()] and '"' in text:
        return True
    return any(sign in text for sign in "[{`") or f'"{named or OBJECT}"' in text


def _comes_back(turn: Exchange, target: Convention, asked: str, answered: str) -> bool:
    """Whether the text of a turn is read back as the same marks and text; the numbers are those of the grid."""
    read = target.read(asked, answered)
    return [_shape(one) for one in (*turn.question, *turn.answer)] == [_shape(one) for one in (*read[0], *read[1])]


def _shape(segment: Segment) -> object:
    return (segment.label, len(segment.boxes)) if isinstance(segment, Boxed) else segment


_SWIFT_LAYOUT = Layout(messages="messages", system="objects", role_tag="role", content_tag="content")
_SWIFT = msgspec.json.Decoder(ms_swift.SwiftRecord)
_ENCODER = msgspec.json.Encoder()
