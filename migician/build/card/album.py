"""A few samples on one picture: their images with the boxes drawn, questions and answers below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
"""Questions shown per sample, and letters per text."""
_GROUND = "#EEF1F4"


@dataclass(frozen=True, slots=True)
class Album:
    """The samples that are shown, and how many could not be."""

    picture: Image.Image | None
    """None where no sample could be shown."""
    shown: int
    unreadable: int
    """Samples skipped because one of their images cannot be opened."""


def album(candidates: Mapping[str, Sequence[bytes]], images: ImageRoots, count: int) -> Album:
    """`count` samples, taking turns between the tasks of `candidates` (records by task name).

    A sample whose images are not in `images` or cannot be opened is skipped, and the next of its task
    comes instead.
    """
    queues = {task: list(records) for task, records in candidates.items()}
    sheets: list[Image.Image] = []
    unreadable = 0
    while any(queues.values()) and len(sheets) < count:
        for task, queue in queues.items():
            while queue and len(sheets) < count:
                sample = msgspec.json.decode(queue.pop(0), type=Sample)
                opened = _opened(sample, images)
                if opened:
                    sheets.append(_sheet(task, sample, opened))
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
    """The images, no larger than they are shown; none at all where one cannot be opened."""
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


def _sheet(task: str, sample: Sample, images: Sequence[Image.Image]) -> Image.Image:
    page = BoxNumbers(sample)
    turns = [turn for turn in sample.conversations if turn.from_ != "system"]
    lines: list[str] = []
    question = ""
    for turn in turns[: 2 * _TURNS]:
        asked = turn.from_ == "human"
        question = turn.value if asked else question
        lines.append(f"{'Q' if asked else 'A'}: {_short(page.numbered(turn.value, question, given=asked))}")
    if len(turns) > 2 * _TURNS:
        lines.append(f"... and {len(turns) // 2 - _TURNS} more questions")
    title = f"{task.replace('_', ' ')}  ·  {sample.id}"
    return contact_sheet(
        images,
        page.marks,
        title=title,
        note="\n".join(lines),
        row_height_px=_ROW_PX,
        sheet_width_px=_COLUMN_PX,
        text_px=_TEXT_PX,
    )


class BoxNumbers:
    """Numbers the boxes of a sample's texts, and collects their marks."""

    def __init__(self, sample: Sample) -> None:
        self.marks: list[list[Mark]] = [[] for _ in sample.images]
        """For each image."""
        self._type = sample.type
        self._numbers: dict[tuple[Box, tuple[int, ...]], int] = {}
        questions = [turn.value for turn in sample.conversations if turn.from_ == "human"]
        self._first, _ = anchor(sample.type, sample.images, questions)

    def numbered(self, text: str, question: str, *, given: bool) -> str:
        """`text` in plain words: boxes that are drawn become their number in brackets; others stay as written."""
        pieces, end = [], 0
        for mention in parse_boxes(text).mentions:
            images = places(self._type, mention, text, question, len(self.marks), given=given, first=self._first)
            pieces.append(text[end : mention.span[0]])
            end = mention.span[1]
            if not images or mention.status != "read":
                pieces.append(text[slice(*mention.span)])
                continue
            number = self._numbers.get((mention.box, images))
            if number is None:
                number = self._numbers[mention.box, images] = len(self._numbers) + 1
                line: LineStyle = "solid" if len(images) == 1 else "dotted"
                mark = Mark(mention.box, str(number), GIVEN if given else ANSWER, line)
                for image in images:
                    self.marks[image].append(mark)
            pieces.append(f"[{number}]")
        return plain("".join([*pieces, text[end:]]))


def plain(text: str) -> str:
    """The text as a person reads it: without image marks and the tokens around boxes and references."""
    words = []
    for line in text.splitlines():
        before, mark, after = line.rpartition(IMAGE_MARK)
        words.append(after if mark and _is_introduction(before) else line.replace(IMAGE_MARK, ""))
    shown = " ".join(" ".join(words).split())
    for token, mark in ((REF_START, "“"), (REF_END, "”"), (BOX_START, ""), (BOX_END, "")):
        shown = shown.replace(token, mark)
    return shown


def _is_introduction(text: str) -> bool:
    """Whether a text only names images: "Image-1: "."""
    left = text.replace(IMAGE_MARK, "").strip()
    return not left or (left.startswith("Image-") and left.endswith(":") and left[6:-1].isdigit())


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 4].rsplit(" ", 1)[0] + " ..."


def _columns(sheets: Sequence[Image.Image]) -> Image.Image:
    """All sheets in two columns, each put where there is most room left."""
    heights = [_GAP_PX, _GAP_PX]
    corners = []
    for sheet in sheets:
        column = heights.index(min(heights))
        corners.append((_GAP_PX + column * (_COLUMN_PX + _GAP_PX), heights[column]))
        heights[column] += sheet.height + _GAP_PX
    width = _GAP_PX + (_COLUMN_PX + _GAP_PX) * min(len(sheets), len(heights))
    picture = Image.new("RGB", (width, max(heights)), _GROUND)
    for sheet, (x, y) in zip(sheets, corners, strict=True):
        picture.paste("#FFFFFF", (x, y, x + _COLUMN_PX, y + sheet.height))
        picture.paste(sheet, (x, y))
    return picture
