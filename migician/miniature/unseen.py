"""Draws what only the held-out set asks about: no task family trains these questions.

Each function gives the pictures of one question, and the box of its answer in the second of them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from migician.miniature import drawing
from migician.miniature.drawing import STYLE, Colour, Drawn, PixelBox, Style

FRAME: Colour = (255, 0, 0)
"""What marks a part, as MIG-Bench marks it."""
BODY: Colour = (150, 150, 150)
GROWTH = 4
"""The object that continues a row is so many times as large as the row's first."""


def moved_camera(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """Two views of a scene in different light: all has moved as one, and the second has one object more, or another."""
    small, box = drawing.clutter(rng, style), drawing.target_box(rng, style)
    first, second = (drawing.KINDS[int(one)] for one in rng.choice(len(drawing.KINDS), 2, replace=False))
    other = [Drawn(first, box)] if rng.integers(2) else []
    across, down = (_way(rng, low, high, style) for low, high in ((box[0], box[2]), (box[1], box[3])))
    before = [Drawn(one.label, _shifted(one.box, across, down)) for one in (*small, *other)]
    views = [drawing.picture(rng, before, style), drawing.picture(rng, [*small, Drawn(second, box)], style)]
    return views, box


def two_views(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox, PixelBox]:
    """One object in two surroundings, elsewhere and in another size in the second; its boxes in both."""
    label, first = drawing.kind(rng), drawing.target_box(rng, style)
    second = drawing.target_box(rng, style)
    while _sides(second) == _sides(first):
        second = drawing.target_box(rng, style)
    return [drawing.with_clutter(rng, Drawn(label, box), style) for box in (first, second)], first, second


def like_parts(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """A crate and a barrel, each with one part of the same shape, which the first picture frames in red."""
    shape = drawing.SHAPES[int(rng.integers(len(drawing.SHAPES)))]
    colours = rng.choice(list(drawing.COLOURS), 2, replace=False).tolist()
    round_first = int(rng.integers(2))
    pictures = []
    for number, colour in enumerate(colours):
        part = drawing.target_box(rng, style)
        body = _around(rng, part, style)
        image = drawing.picture(rng, [*drawing.clutter(rng, style), Drawn(f"{colour} {shape}", part)], style)
        draw = ImageDraw.Draw(image)
        outline = draw.ellipse if number == round_first else draw.rectangle
        outline((body[0], body[1], body[2] - 1, body[3] - 1), outline=BODY, width=2)
        if number == 0:
            draw.rectangle((part[0], part[1], part[2] - 1, part[3] - 1), outline=FRAME, width=2)
        pictures.append(image)
    return pictures, part


def growing_row(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """A row of one object that grows by the same step each time, and a scene that hides it at the next size."""
    label = drawing.kind(rng)
    scene, target = drawing.hidden(rng, label, style)
    width, height = (side // GROWTH for side in _sides(target.box))
    bottom = int(rng.integers((GROWTH - 1) * height, style.size, endpoint=True))
    gap = (style.size - width * sum(range(1, GROWTH))) // GROWTH
    row, x = [], gap
    for size in range(1, GROWTH):
        row.append(Drawn(label, (x, bottom - size * height, x + size * width, bottom)))
        x += size * width + gap
    return [drawing.picture(rng, row, style), scene], target.box


def _way(rng: np.random.Generator, low: int, high: int, style: Style) -> int:
    """How far the first view is from the second along one axis, so that the object from `low` to `high` is in both."""
    furthest = style.shift * style.cell
    fewest, most = -min(low, furthest) // style.cell, min(style.size - high, furthest) // style.cell
    return int(rng.integers(fewest, most, endpoint=True)) * style.cell


def _shifted(box: PixelBox, across: int, down: int) -> PixelBox:
    x1, y1, x2, y2 = box
    return x1 + across, y1 + down, x2 + across, y2 + down


def _sides(box: PixelBox) -> tuple[int, int]:
    x1, y1, x2, y2 = box
    return x2 - x1, y2 - y1


def _around(rng: np.random.Generator, part: PixelBox, style: Style) -> PixelBox:
    """Where a body may be that has this part: anywhere on the grid around it."""
    while True:
        width, height = rng.integers(style.large[0], style.large[1], size=2, endpoint=True).tolist()
        x1, y1, x2, y2 = body = drawing.on_grid(rng, width, height, style.size, style.cell)
        if x1 <= part[0] and y1 <= part[1] and part[2] <= x2 and part[3] <= y2:
            return body
