"""Boxes on images: one picture, or several side by side with a caption each."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageColor, ImageDraw, ImageFont

from migician.boxes import Box, Size

# From the palette of Okabe and Ito, told apart with any kind of colour vision; truths are also dashed.
TRUTH = "#009E73"
PREDICTION = "#D55E00"
PALETTE = (PREDICTION, "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", TRUTH)
"""For several boxes that are not truth and prediction, in this order."""

ON_ALL = "no image is named for it, so it is drawn on all"
"""What to say of a box that is dotted: see `migician.imagenames.images_of_box`."""

_INK, _FAINT, _PAPER, _EDGE = "#1F2933", "#52606D", "#FFFFFF", "#CBD2D9"
# What a picture's longer side is brought to: a 112-pixel image is unreadable, a 6000-pixel one unwieldy.
_SMALLEST_PX, _LARGEST_PX = 384, 1280

LineStyle = Literal["solid", "dashed", "dotted"]
_BROKEN: dict[LineStyle, tuple[int, int]] = {"dashed": (4, 3), "dotted": (1, 2)}
"""How long the pieces of a line are and the pauses between them, in breadths of the line."""
_Rectangle = tuple[float, float, float, float]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Mark:
    """One box to draw."""

    box: Box
    label: str = ""
    """Shown at the box's corner; empty for none."""
    colour: str = PREDICTION
    """Any colour Pillow knows, such as "#D55E00"."""
    line: LineStyle = "solid"


def truth(box: Box, label: str = "truth") -> Mark:
    """The mark of a right answer: bluish green, dashed."""
    return Mark(box, label, TRUTH, "dashed")


def prediction(box: Box, label: str = "prediction") -> Mark:
    """The mark of a model's answer: vermillion, solid."""
    return Mark(box, label, PREDICTION)


def draw_boxes(image: Image.Image, marks: Iterable[Mark]) -> Image.Image:
    """A copy of `image` with boxes on it, its longer side brought to 384..1280 pixels.

    Boxes are fractions of the image. One that leaves the image is cut at its edges, one whose
    corners are in the wrong order is drawn between them all the same: a drawing shows what was
    written, it does not judge.
    """
    longer = max(image.size)
    factor = min(max(longer, _SMALLEST_PX), _LARGEST_PX) / longer
    canvas = _scaled(image, (round(image.width * factor), round(image.height * factor)))
    _draw_marks(canvas, list(marks))
    return canvas


def contact_sheet(
    images: Sequence[Image.Image],
    marks: Sequence[Sequence[Mark]] = (),
    captions: Sequence[str] | None = None,
    *,
    title: str = "",
    note: str = "",
    row_height_px: int = 320,
    sheet_width_px: int = 1400,
    text_px: int | None = None,
) -> Image.Image:
    """All images in one picture, left to right and row by row, each under its caption with its marks.

    `marks` has one sequence an image, or is empty; `captions` default to "Image-1", "Image-2",
    .... `title` stands above and `note` below, both wrapped. Images are scaled to
    `row_height_px`; a row holds what fits into `sheet_width_px`. Letters are `text_px` high, by
    default in proportion to the images. Raises ValueError without an image, and where the numbers differ.
    """
    names = [f"Image-{number}" for number in range(1, len(images) + 1)] if captions is None else list(captions)
    drawn = list(marks) if marks else [()] * len(images)
    if not images or len(names) != len(images) or len(drawn) != len(images):
        raise ValueError(f"{len(images)} images, {len(names)} captions, {len(drawn)} sequences of marks")
    gap = max(10, row_height_px // 20)
    text_px = text_px or max(13, row_height_px // 17)
    font, caption_px = ImageFont.load_default(text_px), round(text_px * 1.7)
    sizes = [_fitted(image.size, row_height_px, sheet_width_px - 2 * gap) for image in images]
    rows = _rows([width for width, _ in sizes], sheet_width_px - 2 * gap, gap)
    inner = max(sum(sizes[index][0] for index in row) + gap * (len(row) - 1) for row in rows)
    inner = max(inner, min(480, sheet_width_px - 2 * gap)) if title or note else inner
    heads, foots = _wrapped(title, font, inner), _wrapped(note, font, inner)
    line_px = round(text_px * 1.35)
    heights = [max(sizes[index][1] for index in row) + caption_px for row in rows]
    text_height = line_px * (len(heads) + len(foots)) + gap * (bool(heads) + bool(foots))
    sheet = Image.new("RGB", (inner + 2 * gap, sum(heights) + gap * (len(rows) + 1) + text_height), _PAPER)
    pen = ImageDraw.Draw(sheet)

    y = gap
    for line in heads:
        pen.text((gap, y), line, fill=_INK, font=font)
        y += line_px
    y += gap * bool(heads)
    for row, height in zip(rows, heights, strict=True):
        x = gap
        for index in row:
            picture = _scaled(images[index], sizes[index])
            _draw_marks(picture, drawn[index])
            pen.text((x, y + caption_px * 0.42), names[index], fill=_INK, font=font, anchor="lm")
            pen.rectangle(
                (x - 1, y + caption_px - 1, x + picture.width, y + caption_px + picture.height), outline=_EDGE
            )
            sheet.paste(picture, (x, y + caption_px))
            x += picture.width + gap
        y += height + gap
    for line in foots:
        pen.text((gap, y), line, fill=_FAINT, font=font)
        y += line_px
    return sheet


def _scaled(image: Image.Image, size: Size) -> Image.Image:
    """A new RGB picture of that size, also where the size stays."""
    return image.convert("RGB").resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.LANCZOS)


def _fitted(size: Size, height_px: int, limit_px: int) -> Size:
    """`size` brought to a height, or to the width limit where that is reached first."""
    factor = min(height_px / size[1], limit_px / size[0])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _rows(widths: Sequence[int], limit_px: int, gap: int) -> list[list[int]]:
    """Positions of `widths`, cut into rows that are not wider than the limit."""
    rows: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        if rows[-1] and used + gap + width > limit_px:
            rows.append([])
            used = 0
        used += width + gap * bool(rows[-1])
        rows[-1].append(index)
    return rows


def _wrapped(text: str, font: _Font, width_px: float) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width_px:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _draw_marks(canvas: Image.Image, marks: Sequence[Mark]) -> None:
    """Draw on `canvas` itself: all outlines first, so that no line runs through a label."""
    pen = ImageDraw.Draw(canvas)
    short = min(canvas.size)
    line_px = max(3, round(short / 100))
    outlines = [_outline(mark.box, canvas.size) for mark in marks]
    # Broken lines over solid ones, so that a truth stays visible on a box that hits it exactly.
    order = sorted(range(len(marks)), key=lambda index: marks[index].line != "solid")
    for index in order:
        _frame(pen, outlines[index], marks[index], line_px)
    font = ImageFont.load_default(max(12, round(short / 22)))
    taken: list[_Rectangle] = []
    for mark, outline in zip(marks, outlines, strict=True):
        if mark.label:
            taken.append(_tag(pen, mark, outline, taken, font, canvas.size, line_px))


def _outline(box: Box, size: Size) -> _Rectangle:
    """The box in pixels of the canvas, ordered and cut at its edges."""
    width, height = size
    x1, x2 = sorted(min(max(value, 0.0), 1.0) * (width - 1) for value in (box.x1, box.x2))
    y1, y2 = sorted(min(max(value, 0.0), 1.0) * (height - 1) for value in (box.y1, box.y2))
    return x1, y1, x2, y2


def _frame(pen: ImageDraw.ImageDraw, outline: _Rectangle, mark: Mark, line_px: int) -> None:
    x1, y1, x2, y2 = (round(value) for value in outline)
    inner = line_px - 1
    sides = [
        (x1, y1, x2, y1 + inner),
        (x1, y2 - inner, x2, y2),
        (x1, y1, x1 + inner, y2),
        (x2 - inner, y1, x2, y2),
    ]
    bars = [(left, top, max(left, right), max(top, bottom)) for left, top, right, bottom in sides]
    if mark.line == "solid":
        pieces = bars
    else:
        dash, pause = _BROKEN[mark.line]
        pieces = [piece for bar in bars for piece in _dashes(bar, line_px * dash, line_px * pause)]
    # A thin light rim keeps the line apart from a background of its own colour.
    for left, top, right, bottom in pieces:
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=_PAPER)
    for piece in pieces:
        pen.rectangle(piece, fill=mark.colour)


def _dashes(span: tuple[int, int, int, int], dash_px: int, pause_px: int) -> list[tuple[int, int, int, int]]:
    """A bar cut into dashes along its longer side; it begins and ends with one, so that corners are closed."""
    left, top, right, bottom = span
    level = right - left >= bottom - top
    start, stop = (left, right) if level else (top, bottom)
    count = max(1, round((stop - start + pause_px) / (dash_px + pause_px)))
    step = (stop - start + pause_px) / count
    pieces = []
    for number in range(count):
        begin = round(start + number * step)
        end = min(max(begin, round(start + (number + 1) * step) - pause_px), stop)
        pieces.append((begin, top, end, bottom) if level else (left, begin, right, end))
    return pieces


def _tag(
    pen: ImageDraw.ImageDraw,
    mark: Mark,
    outline: _Rectangle,
    taken: Sequence[_Rectangle],
    font: _Font,
    size: Size,
    line_px: int,
) -> _Rectangle:
    """Write a mark's label where it covers no other label, and give the place it took."""
    left, top, right, bottom = font.getbbox(mark.label)
    pad = line_px + 1
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x1, y1, x2, y2 = outline
    corners = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2), (x1, y1), (x1, y2 - height)]
    # Outside the box if the canvas has room for it, else within.
    fitting = [(x, y) for x, y in corners if 0 <= x <= size[0] - width and 0 <= y <= size[1] - height]
    kept_in = [(min(max(x, 0), max(size[0] - width, 0)), min(max(y, 0), max(size[1] - height, 0))) for x, y in corners]
    places = [(x, y, x + width, y + height) for x, y in (*fitting, *kept_in)]
    place = next((one for one in places if not any(_overlap(one, other) for other in taken)), places[0])
    pen.rectangle(place, fill=mark.colour)
    pen.text((place[0] + pad - left, place[1] + pad - top), mark.label, fill=_text_colour(mark.colour), font=font)
    return place


def _overlap(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text_colour(background: str) -> str:
    red, green, blue = ImageColor.getrgb(background)[:3]
    # Perceived brightness by Rec. 601; above it black reads better than white.
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else _PAPER


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file, made in memory; write these where a picture becomes a file.

    Given a file, Pillow hands its pieces to the system and does not see when only a part of one was taken: on a full
    disk the last piece is cut in silence.
    """
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
