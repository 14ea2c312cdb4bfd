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


def moved_camera(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """Two views of a scene in different light: all has moved as one, and the second has one object more, or another."""
    small, box = drawing.clutter(rng, style), drawing.target_box(rng, style)
    first, second = drawing.some_kinds(rng, 2)
    other = [Drawn(first, box)] if rng.integers(2) else []
    across, down = (_way(rng, low, high, style) for low, high in ((box[0], box[2]), (box[1], box[3])))
    before = [Drawn(one.label, drawing.shifted(one.box, across, down)) for one in (*small, *other)]
    views = [drawing.picture(rng, before, style), drawing.picture(rng, [*small, Drawn(second, box)], style)]
    return views, box


def two_views(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox, PixelBox]:
    """One object from two sides: in other light and other surroundings, and not far off; its boxes in both."""
    label, first = drawing.kind(rng), drawing.target_box(rng, style)
    second = drawing.moved(rng, first, style)
    return [drawing.with_clutter(rng, Drawn(label, box), style) for box in (first, second)], first, second


def like_parts(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """Two things of one shape and two colours, the first of them framed in red."""
    shape, colours = drawing.one_of(rng, drawing.SHAPES), rng.choice(list(drawing.COLOURS), 2, replace=False).tolist()
    things = [Drawn(f"{colour} {shape}", drawing.target_box(rng, style)) for colour in colours]
    pictures = [drawing.with_clutter(rng, thing, style) for thing in things]
    x1, y1, x2, y2 = things[0].box
    ImageDraw.Draw(pictures[0]).rectangle((x1, y1, x2 - 1, y2 - 1), outline=FRAME, width=2)
    return pictures, things[1].box


def repainted(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """A large object, and a scene that hides one of its shape in another colour."""
    shape, colours = drawing.one_of(rng, drawing.SHAPES), rng.choice(list(drawing.COLOURS), 2, replace=False).tolist()
    shown, _ = drawing.alone(rng, f"{colours[0]} {shape}", style)
    others = [kind for kind in drawing.KINDS if not kind.endswith(f" {shape}")]
    scene, target = drawing.hidden(rng, f"{colours[1]} {shape}", style, others)
    return [shown, scene], target.box


def _way(rng: np.random.Generator, low: int, high: int, style: Style) -> int:
    """How far the first view is from the second along one axis, so that the object from `low` to `high` is in both."""
    furthest = style.shift * style.cell
    fewest, most = -min(low, furthest) // style.cell, min(style.size - high, furthest) // style.cell
    return int(rng.integers(fewest, most, endpoint=True)) * style.cell
