"""Draws the pictures of the miniature world; every number that decides how they look is in `Style`.

Boxes are x1 y1 x2 y2 in whole pixels, right and bottom edge not included. They are exact.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_Option = TypeVar("_Option")
PixelBox = tuple[int, int, int, int]
Colour = tuple[int, int, int]

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "diamond", "house")
COLOURS: dict[str, Colour] = {  # all of them brighter than most of the ground
    "red": (255, 70, 70),
    "green": (70, 235, 80),
    "blue": (90, 130, 255),
    "yellow": (255, 235, 60),
    "pink": (255, 130, 225),
    "cyan": (80, 240, 240),
    "white": (250, 250, 250),
    "orange": (255, 160, 40),
}
MIDDLE_GREY = np.array([122, 116, 104], dtype=np.float32)
"""What image processors subtract: on a dark ground all patches would look alike to a tower of random weights."""
MAT = "mat"
"""A framed part of the ground: what regions are cut from."""
KINDS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True, slots=True)
class Style:
    """How pictures look."""

    size: int = 112
    """Side of a picture in pixels: 4 x 4 tokens of Qwen2-VL."""
    cell: int = 28
    """Pixels of the grid that targets lie on, one token of the language model; it divides `size`."""
    extents: tuple[tuple[int, int], ...] = ((1, 1), (1, 1), (1, 2), (2, 1))
    """Width and height a target may have, in cells, each as likely."""
    clutter_px: tuple[int, int] = (6, 10)
    """Smallest and largest side of the small shapes around it."""
    clutter: tuple[int, int] = (0, 2)
    """How many there are."""
    crowd: int = 11
    """How many in a crowded picture, beside its mat."""
    large: tuple[int, int] = (3, 4)
    """Smallest and largest side, in cells, of an object that is alone in its picture."""
    small: tuple[int, int] = (1, 3)
    """How many small shapes hide an object."""
    several: tuple[int, int] = (1, 1)
    """How many objects share a picture that describes each: distinguishing two by a phrase takes more than minutes."""
    mat_cell: int = 14
    """Mats lie on a finer grid; it divides `size`."""
    mat_area: tuple[float, float] = (0.06, 0.22)
    mat_aspect: tuple[float, float] = (0.5, 2.0)
    step: int = 2
    """Furthest a tracked object moves from one frame to the next, in cells."""
    frames: int = 2
    """Of a sequence."""
    shift: int = 1
    """Furthest that what stands on the ground moves when the camera does, in cells."""
    slope: float = 160.0
    """How much redder the ground gets to the right, and greener to the bottom."""
    light: float = 140.0
    """How far the paint of objects runs the other way: what is painted shows its place too, and stands out."""
    weave: float = 60.0
    """How strong the threads are that run over ground and objects: crosswise they turn from pale to dark from left to
    right, lengthwise from top to bottom. A patch that is all paint shows its place by them alone."""
    thread: int = 7
    """Pixels from one thread to the next; it divides `cell`, so that all patches cut the threads alike."""
    noise: int = 8


STYLE = Style()


@dataclass(frozen=True, slots=True)
class Drawn:
    """One object in a picture: a shape such as "red disc", or a mat."""

    label: str
    box: PixelBox


def still(rng: np.random.Generator, style: Style = STYLE) -> tuple[Image.Image, Drawn]:
    """A picture of one large object among a few small shapes, and this object."""
    target = Drawn(kind(rng), target_box(rng, style))
    return with_clutter(rng, target, style), target


def sequence(
    rng: np.random.Generator, style: Style = STYLE, absent: int | None = None
) -> tuple[list[Image.Image], list[Drawn]]:
    """The frames of one moving object, and the object in each of them; it is not painted in the frame `absent`."""
    frames, objects = _moving(rng, [Drawn(kind(rng), target_box(rng, style))], style, absent)
    return frames, [one for (one,) in objects]


def sequence_of_several(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], list[list[Drawn]]]:
    """The frames of two or three objects of different kinds that move at once, and the objects in each of them.

    None ever covers another; in every frame they come in the same order.
    """
    return _moving(rng, _apart(rng, int(rng.integers(2, 3, endpoint=True)), style), style)


def _moving(
    rng: np.random.Generator, there: list[Drawn], style: Style, absent: int | None = None
) -> tuple[list[Image.Image], list[list[Drawn]]]:
    small = clutter(rng, style)
    frames, objects = [], []
    for position in range(style.frames):
        objects.append(there)
        frames.append(picture(rng, small if position == absent else [*small, *there], style))
        while _overlap(there := [Drawn(one.label, moved(rng, one.box, style)) for one in objects[-1]]):
            pass
    return frames, objects


def _apart(rng: np.random.Generator, count: int, style: Style) -> list[Drawn]:
    """Large objects of different labels, none over another."""
    labels = some_kinds(rng, count)
    while _overlap(objects := [Drawn(label, target_box(rng, style)) for label in labels]):
        pass
    return objects


def _overlap(objects: Sequence[Drawn]) -> bool:
    boxes = itertools.combinations([one.box for one in objects], 2)
    return any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in boxes)


def crowded(rng: np.random.Generator, style: Style = STYLE) -> tuple[Image.Image, list[Drawn]]:
    """A picture of many small shapes and one mat, and its objects, the mat last."""
    small = [Drawn(kind(rng), small_box(rng, style)) for _ in range(style.crowd)]
    mat = Drawn(MAT, _mat_box(rng, style))
    image = picture(rng, small, style)
    x1, y1, x2, y2 = mat.box
    ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), outline=(150, 150, 150))
    return image, [*small, mat]


def alone(rng: np.random.Generator, label: str, style: Style = STYLE) -> tuple[Image.Image, Drawn]:
    """A picture of nothing but one object of this label, large and whole, and the object."""
    width, height = rng.integers(*style.large, size=2, endpoint=True).tolist()
    target = Drawn(label, on_grid(rng, width, height, style.size, style.cell))
    return picture(rng, [target], style), target


def hidden(
    rng: np.random.Generator, label: str, style: Style = STYLE, others: Sequence[str] = ()
) -> tuple[Image.Image, Drawn]:
    """A picture of one object of this label among smaller shapes of `others` (any other label), and the object."""
    target = Drawn(label, target_box(rng, style))
    count = int(rng.integers(*style.small, endpoint=True))
    others = others or [name for name in KINDS if name != label]
    small = [Drawn(one_of(rng, others), small_box(rng, style)) for _ in range(count)]
    return picture(rng, [*small, target], style), target


def several(rng: np.random.Generator, style: Style = STYLE) -> tuple[Image.Image, list[Drawn]]:
    """A picture of large objects of different labels, apart from each other, and the objects."""
    objects = _apart(rng, int(rng.integers(*style.several, endpoint=True)), style)
    return picture(rng, [*clutter(rng, style), *objects], style), objects


def edit(rng: np.random.Generator, style: Style = STYLE) -> tuple[Image.Image, Image.Image, PixelBox, str]:
    """A picture, the same with one large object added, removed or recoloured, its box, and the instruction."""
    small, label, box = clutter(rng, style), kind(rng), target_box(rng, style)
    with_object, without = [*small, Drawn(label, box)], small
    how = int(rng.integers(3))
    if how == 0:
        before, after, instruction = without, with_object, f"add a {label}"
    elif how == 1:
        before, after, instruction = with_object, without, f"remove the {label}"
    else:
        colour, shape = label.split()
        other = one_of(rng, [name for name in COLOURS if name != colour])
        before, after = with_object, [*small, Drawn(f"{other} {shape}", box)]
        instruction = f"make the {label} {other}"
    bare = ground(rng, style)
    return painted(bare, before, style), painted(bare, after, style), box, instruction


def kind(rng: np.random.Generator) -> str:
    """The label of an object, such as "red disc"."""
    return one_of(rng, KINDS)


def some_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """`count` different labels."""
    return [KINDS[number] for number in rng.choice(len(KINDS), count, replace=False).tolist()]


def one_of(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """One of `options`, each as likely."""
    return options[int(rng.integers(len(options)))]


def with_clutter(rng: np.random.Generator, target: Drawn, style: Style = STYLE) -> Image.Image:
    """A picture of `target` among a few small shapes, which never hide it."""
    return picture(rng, [*clutter(rng, style), target], style)


def picture(rng: np.random.Generator, objects: Sequence[Drawn], style: Style = STYLE) -> Image.Image:
    """A ground with `objects` painted on it in order."""
    return painted(ground(rng, style), objects, style)


def target_box(rng: np.random.Generator, style: Style = STYLE) -> PixelBox:
    """Where a large object may be: anywhere on the grid."""
    width, height = one_of(rng, style.extents)
    return on_grid(rng, width, height, style.size, style.cell)


def on_grid(rng: np.random.Generator, width: int, height: int, size: int, cell: int) -> PixelBox:
    """A box of `width` x `height` cells anywhere on the grid of a picture."""
    x, y = int(rng.integers(size // cell - width + 1)), int(rng.integers(size // cell - height + 1))
    return x * cell, y * cell, (x + width) * cell, (y + height) * cell


def _mat_box(rng: np.random.Generator, style: Style) -> PixelBox:
    cells = style.size // style.mat_cell
    fitting = [
        (width, height)
        for width in range(1, cells + 1)
        for height in range(1, cells + 1)
        if style.mat_area[0] <= width * height / cells**2 <= style.mat_area[1]
        and style.mat_aspect[0] <= width / height <= style.mat_aspect[1]
    ]
    return on_grid(rng, *one_of(rng, fitting), style.size, style.mat_cell)


def small_box(rng: np.random.Generator, style: Style) -> PixelBox:
    """Where a small shape may be: anywhere."""
    width, height = rng.integers(*style.clutter_px, size=2, endpoint=True).tolist()
    x, y = int(rng.integers(style.size - width + 1)), int(rng.integers(style.size - height + 1))
    return x, y, x + width, y + height


def clutter(rng: np.random.Generator, style: Style) -> list[Drawn]:
    """A few small shapes."""
    count = int(rng.integers(*style.clutter, endpoint=True))
    return [Drawn(kind(rng), small_box(rng, style)) for _ in range(count)]


def moved(rng: np.random.Generator, box: PixelBox, style: Style) -> PixelBox:
    """Where an object is in the next frame: some cells further, within the picture.

    One in seven stays where it is, as in MIG-Bench: of those that would, every third is drawn again.
    """
    to = _onwards(rng, box, style)
    return to if to != box or rng.random() > 1 / 3 else _onwards(rng, box, style)


def _onwards(rng: np.random.Generator, box: PixelBox, style: Style) -> PixelBox:
    x1, y1, x2, y2 = box
    across, down = (rng.integers(-style.step, style.step, size=2, endpoint=True) * style.cell).tolist()
    return shifted(box, min(max(across, -x1), style.size - x2), min(max(down, -y1), style.size - y2))


def shifted(box: PixelBox, across: int, down: int) -> PixelBox:
    """A box moved by pixels to the right and down."""
    x1, y1, x2, y2 = box
    return x1 + across, y1 + down, x2 + across, y2 + down


def ground(rng: np.random.Generator, style: Style) -> Image.Image:
    """What pictures are painted on: the slope, lit and grained as no other."""
    light = rng.uniform(-style.noise, style.noise)
    grain = rng.integers(-style.noise, style.noise, (style.size, style.size, 1), dtype=np.int8, endpoint=True)
    pixels = MIDDLE_GREY + style.slope * _slope(style) + np.float32(light) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def painted(bare: Image.Image, objects: Sequence[Drawn], style: Style) -> Image.Image:
    """`objects` painted in order on the ground `bare`, all lit as their place is; what lies outside is cut off."""
    paint = Image.new("RGB", bare.size)
    draw = ImageDraw.Draw(paint)
    for drawn in objects:
        colour, shape = drawn.label.split()
        _paint(draw, shape, drawn.box, COLOURS[colour])
    pixels = np.asarray(paint)
    unpainted = ~pixels.any(axis=-1, keepdims=True)  # no colour is black
    lit = np.where(unpainted, np.asarray(bare), pixels - style.light * _slope(style)) + style.weave * _weave(style)
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


@functools.cache
def _slope(style: Style) -> NDArray[np.float32]:
    """What the place adds to a colour, -0.5..0.5, (size, size, 3): redder to the right, greener to the bottom."""
    y, x = np.mgrid[0 : style.size, 0 : style.size] / (style.size - 1)
    x, y = x - 0.5, y - 0.5
    slope = np.stack([x, y, -(x + y) / 2], axis=-1)
    return slope.astype(np.float32)


@functools.cache
def _weave(style: Style) -> NDArray[np.float32]:
    """The threads over a picture, -2..2, (size, size, 1): of one strength in each cell."""
    pixels = np.arange(style.size)
    strength = 2 * (pixels // style.cell) / (style.size // style.cell - 1) - 1
    threads = strength * np.sin(2 * np.pi * pixels / style.thread)
    return (threads[None, :, None] + threads[:, None, None]).astype(np.float32)


def _paint(draw: ImageDraw.ImageDraw, shape: str, box: PixelBox, colour: Colour) -> None:
    """Paint `shape` so that it touches all four sides of `box`."""
    x1, y1, x2, y2 = box[0], box[1], box[2] - 1, box[3] - 1  # ImageDraw includes the last pixel
    width, height = x2 - x1, y2 - y1
    if shape == "disc":
        draw.ellipse((x1, y1, x2, y2), fill=colour)
    elif shape == "square":
        draw.rectangle((x1, y1, x2, y2), fill=colour)
    elif shape == "ring":
        draw.ellipse((x1, y1, x2, y2), outline=colour, width=max(3, min(width, height) // 4))
    elif shape == "cross":
        draw.rectangle((x1 + width // 3, y1, x2 - width // 3, y2), fill=colour)
        draw.rectangle((x1, y1 + height // 3, x2, y2 - height // 3), fill=colour)
    else:
        draw.polygon([(x1 + x * width, y1 + y * height) for x, y in _OUTLINES[shape]], fill=colour)


def _star() -> tuple[tuple[float, float], ...]:
    """A five-pointed star stretched to touch the four sides of the unit square."""
    angles = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
    corners = np.array([(1 - at % 2 / 2) * np.array([math.cos(a), math.sin(a)]) for at, a in enumerate(angles)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return tuple((float(x), float(y)) for x, y in (corners - low) / (high - low))


_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
    "house": ((0.5, 0), (1, 0.45), (1, 1), (0, 1), (0, 0.45)),
    "star": _star(),
}
