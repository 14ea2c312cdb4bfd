"""The prompts of one file of records, one record after the other; nothing but the current one is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from migician.boxes import TRAINED_PIXELS
from migician.errors import NOT_JSON, UserError
from migician.progress import OnProgress
from migician.samples.convention_card import read_convention
from migician.samples.conventions import CONVENTIONS, MS_SWIFT
from migician.samples.dataset_info import layout_beside
from migician.samples.layouts import Layout, LayoutReader
from migician.samples.lengths import Resize
from migician.samples.record_file import JsonRecords
from migician.training.prompts import Prompt, prompts_of


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
