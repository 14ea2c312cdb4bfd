"""A few samples on one picture: their images with the boxes drawn, questions and answers below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from PIL import Image

from migician.boxes import Box
from migician.boxtext import BOX_END, BOX_START, REF_END, REF_START, parse_boxes
from migician.build.image_roots import ImageRoots, dataset_roots
from migician.draw import PALETTE, PREDICTION, LineStyle, Mark, contact_sheet
from migician.errors import UserError
from migician.models.pictures import FORMATS
from migician.samples.box_places import anchor, places
from migician.samples.sample import IMAGE_MARK, Sample

ANSWER, GIVEN = PREDICTION, PALETTE[1]
_COLUMN_PX, _ROW_PX, _TEXT_PX, _GAP_PX = 640, 146, 15, 12
# Four square images fill a row.
_TURNS, _LETTERS = 3, 420
"""Questions shown of a sample, and letters of each text."""
_GROUND = "#EEF1F4"


@dataclass(frozen=True, slots=True)
class Album:
    """What became of the samples that were to be shown."""

    picture: Image.Image | None
    """None where no sample could be shown."""
    shown: int
    unreadable: int
    """Samples passed over, as an image of theirs cannot be opened."""


def album(candidates: Mapping[str, Sequence[bytes]], images: ImageRoots, count: int) -> Album:
    """`count` samples, by turns from each family of `candidates` (records by the family's name).

    A sample whose images are not in `images` or cannot be opened is passed over, and the next of its family comes
    instead.
    """
    queues = {family: list(records) for family, records in candidates.items()}
    sheets: list[Image.Image] = []
    unreadable = 0
    while any(queues.values()) and len(sheets) < count:
        for family, queue in queues.items():
            while queue and len(sheets) < count:
                sample = msgspec.json.decode(queue.pop(0), type=Sample)
                opened = _opened(sample, images)
                if opened:
                    sheets.append(_sheet(family, sample, opened))
                    break
                unreadable += 1
    return Album(_columns(sheets) if sheets else None, len(sheets), unreadable)


def draw_sample(sample: Sample, folder: str | Path) -> Image.Image:
    """One sample as a picture: its images with the boxes drawn, its questions and answers below.

    `folder` is where the paths of images begin: the dataset's own. Raises `UserError` where an image cannot be opened,
    or lies neither there nor in a source that the dataset's card names.
    """
    images = _opened(sample, dataset_roots(Path(folder), [Path(folder)]))
    if not images:
        raise UserError(f"sample {sample.id!r}: an image of it cannot be opened below {folder}: {sample.images[:1]}")
    return _sheet(sample.type, sample, images)


def _opened(sample: Sample, roots: ImageRoots) -> list[Image.Image]:
    """The images no larger than they are shown, or none where one cannot be opened."""
    images = []
    for name in sample.images:
        place = roots.find(name)
        if isinstance(place, str):
            return []
        try:
            with Image.open(place, formats=FORMATS) as opened:
                # A JPEG is decoded at a fraction of its size, which for large photographs saves most of the time.
                opened.draft("RGB", (_COLUMN_PX, _ROW_PX * 2))
                image = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return []
        image.thumbnail((_COLUMN_PX, _ROW_PX * 2))
        images.append(image)
    return images


def _sheet(family: str, sample: Sample, images: Sequence[Image.Image]) -> Image.Image:
    page = BoxNumbers(sample)
    turns = [turn for turn in sample.conversations if turn.from_ != "system"]
    lines: list[str] = []
    question = ""
    for turn in turns[: 2 * _TURNS]:
        asked = turn.from_ == "human"
        question = turn.value if asked else question
        lines.append(f"{'Q' if asked else 'A'}: {_short(page.tell(turn.value, question, given=asked))}")
    if len(turns) > 2 * _TURNS:
        lines.append(f"... and {len(turns) // 2 - _TURNS} more questions")
    title = f"{family.replace('_', ' ')}  ·  {sample.id}"
    return contact_sheet(
        images,
        page.marks,
        title=title,
        note="\n".join(lines),
        row_height_px=_ROW_PX,
        sheet_width_px=_COLUMN_PX,
        text_px=_TEXT_PX,
    )


@dataclass(slots=True)
class BoxNumbers:
    """Numbers the boxes of a sample's texts, and collects their marks."""

    sample: Sample
    marks: list[list[Mark]] = field(init=False)
    """For each image."""
    _first: int = field(init=False)
    _numbers: dict[tuple[Box, tuple[int, ...]], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.marks = [[] for _ in self.sample.images]
        questions = [turn.value for turn in self.sample.conversations if turn.from_ == "human"]
        self._first, _ = anchor(self.sample.type, self.sample.images, questions)

    def tell(self, text: str, question: str, *, given: bool) -> str:
        """`text` in plain words: boxes that are drawn are their number, in brackets; others stay as written."""
        told, end = [], 0
        for mention in parse_boxes(text).mentions:
            images = places(self.sample.type, mention, text, question, len(self.marks), given=given, first=self._first)
            told.append(text[end : mention.span[0]])
            end = mention.span[1]
            if not images or mention.status != "read":
                told.append(text[slice(*mention.span)])
                continue
            number = self._numbers.get((mention.box, images))
            if number is None:
                number = self._numbers[mention.box, images] = len(self._numbers) + 1
                line: LineStyle = "solid" if len(images) == 1 else "dotted"
                mark = Mark(mention.box, str(number), GIVEN if given else ANSWER, line)
                for image in images:
                    self.marks[image].append(mark)
            told.append(f"[{number}]")
        return plain("".join([*told, text[end:]]))


def plain(text: str) -> str:
    """For human eyes: without the marks of images and the tokens around boxes and references."""
    words = []
    for line in text.splitlines():
        before, mark, after = line.rpartition(IMAGE_MARK)
        words.append(after if mark and _is_introduction(before) else line.replace(IMAGE_MARK, ""))
    told = " ".join(" ".join(words).split())
    for token, shown in ((REF_START, "“"), (REF_END, "”"), (BOX_START, ""), (BOX_END, "")):
        told = told.replace(token, shown)
    return told


def _is_introduction(text: str) -> bool:
    """Whether a text only names images: "Image-1: "."""
    left = text.replace(IMAGE_MARK, "").strip()
    return not left or (left.startswith("Image-") and left.endswith(":") and left[6:-1].isdigit())


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 4].rsplit(" ", 1)[0] + " ..."


def _columns(sheets: Sequence[Image.Image]) -> Image.Image:
    """All sheets in two columns, each put where there is most room left."""
    columns: list[list[Image.Image]] = [[], []]
    heights = [_GAP_PX, _GAP_PX]
    for sheet in sheets:
        column = heights.index(min(heights))
        columns[column].append(sheet)
        heights[column] += sheet.height + _GAP_PX
    used = [column for column in columns if column]
    width = _GAP_PX + (_COLUMN_PX + _GAP_PX) * len(used)
    picture = Image.new("RGB", (width, max(heights)), _GROUND)
    for place, pile in enumerate(used):
        x, y = _GAP_PX + place * (_COLUMN_PX + _GAP_PX), _GAP_PX
        for sheet in pile:
            picture.paste("#FFFFFF", (x, y, x + _COLUMN_PX, y + sheet.height))
            picture.paste(sheet, (x, y))
            y += sheet.height + _GAP_PX
    return picture
