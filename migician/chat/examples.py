"""Examples to start with: pictures drawn on demand, each with a question about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from migician.miniature import drawing

_SHOWN_PX = 448


@dataclass(frozen=True, slots=True)
class Example:
    """Some images and a question about them."""

    images: list[Image.Image]
    question: str


def _difference() -> Example:
    before, after, _, _ = drawing.edit(np.random.default_rng(3))
    return Example([before, after], "What differs between Image-1 and Image-2? Find it in Image-2.")


def _moving() -> Example:
    frames, objects = drawing.sequence(np.random.default_rng(5))
    return Example(frames, f"Where has the {objects[0].label} of Image-1 gone in Image-2?")


def _common() -> Example:
    rng = np.random.default_rng(7)
    label = drawing.kind(rng)
    images = [drawing.hidden(rng, label)[0] for _ in range(3)]
    return Example(images, "Which object is in all three images? Find it in Image-3.")


EXAMPLES: dict[str, Callable[[], Example]] = {
    "Spot the difference": _difference,
    "Follow an object": _moving,
    "What do they share": _common,
}
"""Label of the button: function that draws the example."""


def example(name: str) -> Example:
    """The example of that name, with images enlarged so that one can draw on them."""
    made = EXAMPLES[name]()
    size = (_SHOWN_PX, _SHOWN_PX)
    return Example([image.resize(size, Image.Resampling.NEAREST) for image in made.images], made.question)
