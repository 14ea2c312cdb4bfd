"""The held-out set of the miniature world, in MIG-Bench's format and wording.

A row: {"task": "object_tracking", "images": ["./MIG-Bench/images/object_tracking/000000_1.jpg", ...],
"question": "...", "answer": [0.082, 0.338, 0.54, 0.812], "additional_info": "", "need_format": false,
"source": "miniature world"}. By the last, which released files do not have, no figure over it looks like MIG-Bench's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.miniature import drawing
from migician.miniature.drawing import STYLE, Colour, Drawn, PixelBox, Style
from migician.miniature.saving import TEST, save, write_json
from migician.sampling import stream
from migician.tasks import (
    common_object,
    difference,
    group_grounding,
    object_tracking,
    referring_grounding,
    region_locating,
)
from migician.tasks.draft import image_fields
from migician.tasks.naming import named_kind

GROUP = 2
"""Images of a common_object or group_grounding question."""


class HeldOutRow(msgspec.Struct, frozen=True):
    """One question: the released fields in their order, and what world it is of."""

    task: str
    images: list[str]
    question: str
    answer: tuple[float, ...] | None
    additional_info: str
    need_format: bool = False
    source: str = "miniature world"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question before its pictures are saved."""

    pictures: list[Image.Image]
    box: PixelBox | None
    """None where what is asked for is in none of the pictures."""
    question: str
    info: str = ""


def write_bench(folder: Path, count: int, seed: int, style: Style) -> None:
    """Write `folder/MIG-Bench/MIG_data.json` and its images: `count` questions of each task."""
    rows = [
        saved(ask(stream(seed, TEST, task, position), style), folder, task, f"{task}/{position:06d}", style)
        for task, ask in QUESTIONS.items()
        for position in range(count)
    ]
    write_json(folder / "MIG-Bench" / "MIG_data.json", rows)


def saved(asked: Asked, folder: Path, task: str, name: str, style: Style) -> HeldOutRow:
    """The row of a question, whose pictures are written below `folder/MIG-Bench/images`, called `name` and a number."""
    paths = []
    for number, picture in enumerate(asked.pictures, start=1):
        paths.append(f"./MIG-Bench/images/{name}_{number}.jpg")
        save(picture, folder / paths[-1])
    box = asked.box and _box(asked.box, style)
    answer = tuple(value / 1000 for value in box.to_permille()) if box else None  # MIG-Bench's decimals
    return HeldOutRow(task, paths, asked.question, answer, asked.info)


def _difference(rng: np.random.Generator, style: Style) -> Asked:
    before, after, box, _ = drawing.edit(rng, style)
    return Asked([before, after], box, difference.EITHER.benchmark[0])


def _common_object(rng: np.random.Generator, style: Style) -> Asked:
    label = drawing.kind(rng)
    objects = [Drawn(label, drawing.target_box(rng, style)) for _ in range(GROUP)]
    asked = int(rng.integers(GROUP))
    question = common_object.QUESTIONS.benchmark[0].format(**image_fields(asked))
    return Asked([drawing.with_clutter(rng, one, style) for one in objects], objects[asked].box, question)


def _object_tracking(rng: np.random.Generator, style: Style) -> Asked:
    frames, objects = drawing.sequence(rng, style)
    asked = int(rng.integers(1, len(frames)))
    question = object_tracking.ONE.benchmark[0].format(box=_written(objects[0].box, style), **image_fields(asked))
    return Asked(frames, objects[asked].box, question)


def _multi_view(rng: np.random.Generator, style: Style) -> Asked:
    pictures, first, second = two_views(rng, style)
    return Asked(pictures, second, MULTI_VIEW.format(box=_written(first, style), **image_fields(1)))


def _region(rng: np.random.Generator, style: Style) -> Asked:
    image, objects = drawing.crowded(rng, style)
    mat = objects[-1].box
    question = region_locating.QUESTIONS.benchmark[0].format(**image_fields(0))
    return Asked([image, image.crop(mat)], mat, question)


def _referring(rng: np.random.Generator, style: Style) -> Asked:
    label = drawing.kind(rng)
    shown, _ = drawing.alone(rng, label, style)
    scene, target = drawing.hidden(rng, label, style)
    return Asked([shown, scene], target.box, referring_grounding.QUESTIONS.benchmark[0])


def _group_grounding(rng: np.random.Generator, style: Style) -> Asked:
    labels = drawing.some_kinds(rng, GROUP)
    objects = [Drawn(label, drawing.target_box(rng, style)) for label in labels]
    asked = int(rng.integers(GROUP))
    question = drawing.one_of(rng, group_grounding.QUESTIONS.benchmark).format(object=named_kind(labels[asked]))
    box = objects[asked].box
    info = f"It is in the {image_fields(asked)['ordinal']} image. {_written(box, style)}. "
    return Asked([drawing.with_clutter(rng, one, style) for one in objects], box, question, info)


QUESTIONS: dict[str, Callable[[np.random.Generator, Style], Asked]] = {
    "object_tracking": _object_tracking,
    "common_object": _common_object,
    "region": _region,
    "diff": _difference,
    "group_grounding": _group_grounding,
    "refer_grounding": _referring,
    "view_diff": lambda rng, style: Asked(*moved_camera(rng, style), VIEW_DIFFERENCE),
    "multi_view": _multi_view,
    "correspondence": lambda rng, style: Asked(*like_parts(rng, style), CORRESPONDENCE),
    "reasoning": lambda rng, style: Asked(*repainted(rng, style), drawing.one_of(rng, REASONING)),
}

# What no task asks; all except the reasoning in MIG-Bench's own wording.
VIEW_DIFFERENCE: str = difference.ONE.benchmark[1].format(**image_fields(1))
MULTI_VIEW = (
    "These images share one object in common(the object marked with red bounding box in the first image({box}). "
    "Recognize and locate this object in the {nth} image. "
)
CORRESPONDENCE = (
    "You are now presented with two objects. For the area marked by the red bounding box in the first image, identify "
    "and locate the corresponding area in the second image that serves a similar function or shares a similar meaning. "
)
REASONING: tuple[str, ...] = (
    "Which object in Image-2 would be the object in Image-1 if only its colour were changed? "
    "Find it and locate it in the second image. ",
    "Suppose the object in Image-1 were painted in another colour. Which object in Image-2 would it be? "
    "Find it and locate it in the second image. ",
    "Where in Image-2 is an object that has the shape of the one in Image-1, though not its colour? "
    "Find it and locate it in the second image. ",
)


def _written(box: PixelBox, style: Style) -> str:
    return QWEN.write(_box(box, style))


def _box(box: PixelBox, style: Style) -> Box:
    return Box.from_pixels(*box, (style.size, style.size))


# Pictures for what no task asks, and so nothing trains: with each, the box of the answer in the second of them.

FRAME: Colour = (255, 0, 0)
"""What marks a part, as MIG-Bench marks it."""


def moved_camera(rng: np.random.Generator, style: Style = STYLE) -> tuple[list[Image.Image], PixelBox]:
    """Two views of a scene in different light, all of it moved; the second has one more object, or another one."""
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
    lowest, highest = -min(low, furthest) // style.cell, min(style.size - high, furthest) // style.cell
    return int(rng.integers(lowest, highest, endpoint=True)) * style.cell
