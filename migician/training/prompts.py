"""Prompts for reinforcement learning: every turn of a record whose answer gives boxes, with the turns before it.

The truth of a turn is what its own answer says: its boxes, and their images where the record tells them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from migician.boxes import TRAINED_PIXELS, Size
from migician.boxtext import BoxStyle
from migician.build.converters.records import file_size, seen_size
from migician.errors import NOT_JSON, UserError, unknown
from migician.progress import OnProgress
from migician.samples.convention_card import read_convention, shared_convention
from migician.samples.conventions import CONVENTIONS, MS_SWIFT, Convention
from migician.samples.dataset_info import INFO, NotRead, files_of, layout_beside, layout_of, read_info
from migician.samples.dialogue import Dialogue, Exchange, placed, scaled
from migician.samples.layouts import Layout, LayoutReader
from migician.samples.lengths import Resize
from migician.samples.record_file import JsonRecords
from migician.samples.sample import Sample, Turn
from migician.samples.segments import Absent, Boxed
from migician.training.reward_adapters import TrueBox


class Prompt(msgspec.Struct, frozen=True):
    """One question that is to be answered with boxes, and what the true ones are."""

    id: str | int
    turn: int
    """Which exchange of its record, from 0."""
    type: str
    turns: list[Turn]
    """What was said before the answer; the last one is the question."""
    images: list[str]
    truths: list[TrueBox]
    answer: str
    """The record's own."""
    sizes: list[Size] | None = None
    """(width, height) in pixels of the images as the model sees them, where its boxes count these."""


@dataclass(slots=True)
class Prompts:
    """The prompts of a dataset."""

    style: BoxStyle
    """How its boxes are written."""
    prompts: list[Prompt] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """How many turns are no prompts, by the reason."""


def read_prompts(dataset_dir: Path, names: str, media: Path, *, max_pixels: int = TRAINED_PIXELS) -> Prompts:
    """The prompts of the datasets that `names` names, with commas between them, as a training YAML does.

    `media` is the folder that image names start from; only conventions in pixels open images here. Raises `UserError`
    naming the dataset, the file or the record that cannot be read, and where not one turn gives a box.
    """
    info = dataset_dir / INFO
    entries = read_info(info)
    files = []
    for name in (one.strip() for one in names.split(",")):
        if name not in entries:
            raise UserError(f"{info}: {unknown('dataset', name, entries)}")
        try:
            layout = layout_of(entries[name])
            files += [(file, layout) for file in files_of(info, entries[name])]
        except (NotRead, UserError) as error:
            raise UserError(f"{info}: {name}: {error}") from None
    card = shared_convention([file for file, _ in files])
    convention = CONVENTIONS[card.convention]
    if convention.counts_pixels and card.max_pixels not in (None, max_pixels):
        raise UserError(
            f"{files[0][0]}: its boxes count pixels of images of at most {card.max_pixels}; "
            f"set image_max_pixels to that instead of {max_pixels}"
        )
    found = Prompts(convention.style)
    for file, layout in files:
        reader = PromptReader(file, media, max_pixels, layout)
        found.prompts += [prompt for _, prompt in reader.all()]
        found.left_out += reader.left_out
    if not found.prompts:
        raise UserError(
            f"{files[0][0]}: no turn gives a box as {convention.name} writes it, so there is nothing to reward"
        )
    return found


class PromptReader:
    """Reads the prompts of single records of one file."""

    def __init__(
        self, file: Path, media: Path | None = None, max_pixels: int | None = None, layout: Layout | None = None
    ) -> None:
        """Boxes are read in the convention that the file's card says; only those in pixels open images below `media`.

        Raises `UserError` for a card that cannot be read, and for records of ms-swift.
        """
        card = read_convention(file)
        if card.convention == MS_SWIFT:
            raise UserError(f"{file}: records of ms-swift have their boxes beside the text; convert them first")
        self.file, self.media = file, media or file.parent
        self.convention = CONVENTIONS[card.convention]
        self.max_pixels = card.max_pixels or max_pixels or TRAINED_PIXELS
        self.left_out: Counter[str] = Counter()
        self._reader = LayoutReader(layout or layout_beside(file), file.name)

    @property
    def style(self) -> str:
        """How its boxes are written: one of `migician.boxtext.STYLES`."""
        return self.convention.style.name

    def of(self, content: bytes, number: int) -> list[Prompt]:
        """The prompts of the `number`th record; what is none is counted. Raises `UserError` naming the record."""
        try:
            sample = self._reader.sample(content, number)
            resize = Resize(image_max_pixels=self.max_pixels)
            return list(prompts_of(sample, self.convention, self.media, resize, self.left_out))
        except (*NOT_JSON, ValueError) as error:
            raise UserError(f"{self.file}: record {number}: {error}") from None

    def all(self, report: OnProgress | None = None) -> Iterator[tuple[int, Prompt]]:
        """Every prompt with the number of its record; raises `UserError` also for a file that is none of records."""
        with JsonRecords(self.file) as records:
            for number, content in enumerate(records):
                if report:
                    report(number + 1, len(records))
                for prompt in self.of(content, number):
                    yield number, prompt


def prompts_of(
    sample: Sample, convention: Convention, media: Path, resize: Resize, left_out: Counter[str]
) -> Iterator[Prompt]:
    """The prompts of one sample; what is none is counted in `left_out`."""
    turns = sample.conversations
    system = [turn for turn in turns if turn.from_ == "system"]
    spoken = turns[len(system) :]
    if not spoken or len(spoken) % 2 or [turn.from_ for turn in spoken] != ["human", "gpt"] * (len(spoken) // 2):
        left_out["not a conversation of questions and answers"] += 1
        return
    pairs = list(zip(spoken[::2], spoken[1::2], strict=True))
    read = [Exchange(*convention.read(asked.value, answered.value)) for asked, answered in pairs]
    dialogue = placed(Dialogue(sample.id, sample.images, sample.type, [one.value for one in system], read))
    sizes = None
    if convention.counts_pixels:
        sizes = [seen_size(file_size(media / name), resize) for name in sample.images]
        if any(one.image is None for one in dialogue.boxed()):
            left_out["a box in pixels, and the text does not tell of which image"] += 1
            return
        dialogue = scaled(dialogue, sizes.__getitem__)
    for number, (exchange, (_, answered)) in enumerate(zip(dialogue.turns, pairs, strict=True)):
        truths = [
            TrueBox(one.image, box.as_tuple()) for one in exchange.answer if isinstance(one, Boxed) for box in one.boxes
        ]
        if not truths and exchange.answer != [Absent()]:
            left_out["answers without a box"] += 1
            continue
        before = turns[: len(system) + 2 * number + 1]
        yield Prompt(sample.id, number, sample.type, before, sample.images, truths, answered.value, sizes)
