"""Ask a model about a few images and see its boxes on them: one question, or a conversation."""

from __future__ import annotations

import html
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from migician.boxes import Box, Size
from migician.boxtext import Parsed, Status, parse_boxes
from migician.draw import ON_ALL, PALETTE, LineStyle, Mark, contact_sheet, encoded
from migician.errors import UserError, writing
from migician.imagenames import asked_image, images_of_box
from migician.models import seen_sizes
from migician.models.pictures import ImageInputs, as_list, load_pictures
from migician.models.protocol import Model, Request, Speaking
from migician.printable import counted
from migician.samples.sample import IMAGE_MARK


@dataclass(frozen=True, slots=True)
class FoundBox:
    """One box of a reply."""

    box: Box
    """In fractions of its image."""
    images: tuple[int, ...]
    """The images (0-based) it belongs to: one, or all where none is named for it, or none; see `images_of_box`."""
    pixels: tuple[int, int, int, int] | None
    """(x1, y1, x2, y2) in its one image, ready for `image.crop`; None with `image`."""

    @property
    def image(self) -> int | None:
        """Which image (0-based); None where it is no particular one."""
        return self.images[0] if len(self.images) == 1 else None


@dataclass(frozen=True)
class Grounding:
    """What a model answered, its boxes, and a picture of them; in a notebook it shows itself."""

    query: str
    reply: str
    """Whole, with its box tokens."""
    boxes: tuple[FoundBox, ...]
    """The boxes that could be read, in the order of the reply."""
    status: Status
    """Outcome of reading the reply: "read", "no_box", "garbled" or "off_scale" (see `parse_boxes`)."""
    images: tuple[Image.Image, ...] = field(repr=False)
    """The images asked about, upright and in RGB."""
    refused: bool = False
    """Whether the reply says something and gives no box: what the query describes is in none of the images."""

    @cached_property
    def picture(self) -> Image.Image:
        """All images side by side, each box on its image, or dotted on all if the reply names none for it."""
        note = self.reply.strip()[:600]
        if any(len(found.images) > 1 for found in self.boxes):
            note += f"\nDotted: {ON_ALL}."
        if lost := [str(found.box.to_permille()) for found in self.boxes if not found.images]:
            note += f"\nNot drawn, because the reply names an image that does not exist: {', '.join(lost)} (0..1000)"
        if not self.boxes:
            note += f"\n{WITHOUT_BOX[self.status]}"
        return contact_sheet(self.images, self.marks, title=self.query.replace(IMAGE_MARK, "").strip(), note=note)

    @property
    def marks(self) -> list[list[Mark]]:
        """What to draw on each image: its boxes, numbered as in the reply if there are several."""
        marks: list[list[Mark]] = [[] for _ in self.images]
        for number, found in enumerate(self.boxes):
            label = str(number + 1) if len(self.boxes) > 1 else ""
            line: LineStyle = "solid" if len(found.images) == 1 else "dotted"
            for image in found.images:
                marks[image].append(Mark(found.box, label, PALETTE[number % len(PALETTE)], line))
        return marks

    def save(self, path: str | Path) -> Path:
        """Write the picture to `path`, in the format of its suffix (.png, .jpg, .jpeg or .webp), and return the path.

        Raises `UserError` for any other suffix.
        """
        kind = picture_format(path)
        with writing(path) as stream:
            stream.write(encoded(self.picture, kind))
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        """Question, reply, status and boxes as JSON holds them: images from 1, corners in 0..1000 and in pixels."""
        boxes = [
            {
                "image": None if found.image is None else found.image + 1,
                "permille": found.box.to_permille(),
                "pixels": found.pixels,
            }
            for found in self.boxes
        ]
        return {"question": self.query, "reply": self.reply, "status": self.status, "boxes": boxes}

    def to_supervision(self) -> list[Any]:
        """One `supervision.Detections` for each image, in order: boxes in its pixels, named by the query.

        `data["box"]` is a box's place in `boxes`; a box of no particular image is in none of them. There is one
        class, 0, and no confidence, since the models give none. Raises `UserError` where supervision is not installed.
        """
        try:
            detections = importlib.import_module("supervision").Detections
        except ImportError:
            raise UserError("this needs supervision: pip install supervision") from None
        made = []
        for image in range(len(self.images)):
            numbers = [number for number, found in enumerate(self.boxes) if found.image == image]
            corners = [self.boxes[number].box.to_pixels(self.images[image].size) for number in numbers]
            name = self.query.replace(IMAGE_MARK, "").strip()
            made.append(
                detections(
                    xyxy=np.array(corners, dtype=np.float32).reshape(-1, 4),
                    class_id=np.zeros(len(numbers), dtype=int),
                    data={
                        "class_name": np.array([name] * len(numbers), dtype=str),
                        "box": np.array(numbers, dtype=int),
                    },
                )
            )
        return made

    def __repr__(self) -> str:
        if not self.boxes:
            return f"Grounding({self.status}, reply={self.reply!r:.120})"
        named = [f"{_name(found.image)} {found.box.to_permille()}" for found in self.boxes]
        return f"Grounding({'; '.join(named)})"

    def _repr_png_(self) -> bytes:
        return encoded(self.picture, "PNG")


def picture_format(path: str | Path) -> str:
    """The format of a picture by the suffix of its name; raises `UserError` for any but .png, .jpg, .jpeg, .webp."""
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    kind = formats.get(Path(path).suffix.lower())
    if kind is None:
        raise UserError(f"{path}: unknown picture format; use a name that ends in one of {', '.join(formats)}")
    return kind


WITHOUT_BOX: dict[Status, str] = {
    "read": "(the box is in pixels of an unknown image)",
    "no_box": "(the reply has no box)",
    "garbled": "(the reply has a box that cannot be read)",
    "off_scale": "(the box is outside the image)",
}
"""What to say about a reply without a readable box, by its status."""


def ground(model: Model, images: ImageInputs, query: str, *, max_new_tokens: int = 128) -> Grounding:
    """Ask `model` to find what `query` describes in `images`.

    `images` is one image or several: paths, PIL images or uint8 arrays, in any mix. A box belongs to
    the image that the reply names for it, else to the one that the query asks about, else to no
    particular one (`FoundBox.image` is None, and it is drawn on all). Raises `UserError` naming an
    image that cannot be used.
    """
    return Chat(model, images).say(query, max_new_tokens=max_new_tokens)


class Chat:
    """A conversation about some images, kept turn by turn.

    >>> from migician.models import load_model
    >>> chat = Chat(load_model("constant:100,200,500,600"), [Image.new("RGB", (64, 64))])
    >>> chat.say("Where is the dog?")
    Grounding(Image-1 (100, 200, 500, 600))
    >>> chat.say("And in this one?", images=Image.new("RGB", (32, 32))).boxes[0].image is None
    True
    >>> len(chat.history)
    2

    Given the `history` of another conversation it resumes that one, with its images first.
    """

    def __init__(self, model: Model, images: ImageInputs = (), history: Sequence[tuple[str, str]] = ()) -> None:
        self.model = model
        self.history: list[tuple[str, str]] = list(history)
        """(question, reply) pairs so far, with an `<image>` mark in place of each image."""
        self._pictures = load_pictures(as_list(images))
        self._unplaced = len(self._pictures) - sum(said.count(IMAGE_MARK) for said, _ in self.history)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All images shown so far; "Image-1" is the first of them."""
        return tuple(self._pictures)

    def say(
        self,
        text: str,
        images: ImageInputs = (),
        *,
        max_new_tokens: int = 128,
        on_token: Callable[[str], None] | None = None,
    ) -> Grounding:
        """Say something, with more images if wanted, and get the reply with its boxes.

        New images come before the text, or where it has `<image>` marks. `on_token` is called with the reply so
        far after each token of a model that is `Speaking`, and once with the whole reply of any other; it may raise
        to stop. A turn is kept only if it was answered, so one that failed can be repeated. Raises `UserError` where
        there is no image, or a number of marks other than that of the new images.
        """
        fresh = load_pictures(as_list(images))
        pictures, waiting = [*self._pictures, *fresh], self._unplaced + len(fresh)
        if not pictures:
            raise UserError("no image to look at: add at least one")
        marks = text.count(IMAGE_MARK)
        if marks not in (0, waiting):
            raise UserError(
                f"{counted(marks, f'{IMAGE_MARK} mark')} in the text for {counted(waiting, 'new image')}; "
                "use one per image, or none"
            )
        said = text if marks else IMAGE_MARK * waiting + text
        request = Request(tuple(pictures), said, max_new_tokens, tuple(self.history))
        reply = _answer(self.model, request, on_token)
        self._pictures, self._unplaced = pictures, 0
        self.history.append((said, reply))
        boxes, parsed = _located(self.model, reply, text, pictures)
        return Grounding(text, reply, boxes, parsed.status, tuple(pictures), parsed.refused)

    def _repr_html_(self) -> str:
        shown = (
            (html.escape(said.replace(IMAGE_MARK, "[image] ")), html.escape(reply)) for said, reply in self.history
        )
        lines = [f"<p><b>you</b> {said}<br><b>model</b> {reply}</p>" for said, reply in shown]
        return "".join(lines) or "<p>(nothing said yet)</p>"

    def __repr__(self) -> str:
        return f"Chat({self.model.name}, {counted(len(self._pictures), 'image')}, {counted(len(self.history), 'turn')})"


def _answer(model: Model, request: Request, on_token: Callable[[str], None] | None) -> str:
    try:
        if on_token is not None and isinstance(model, Speaking):
            return model.speak(request, on_token)
        reply = model.answer([request])[0]
        if on_token is not None:
            on_token(reply)
        return reply
    except RuntimeError as error:
        # torch's class, known by its name: this module serves models without torch too.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise UserError(
            f"out of memory on {counted(len(request.images), 'image')}; "
            "load with a lower max_pixels, or use fewer images"
        ) from None


def _located(model: Model, reply: str, query: str, pictures: list[Image.Image]) -> tuple[tuple[FoundBox, ...], Parsed]:
    """The readable boxes of a reply with their images, and what became of it.

    For a family that writes pixels each box is read by the size of its own image; one of no particular image can
    then only be read if all have the same size.
    """
    asked, count = asked_image(query), len(pictures)
    sizes = seen_sizes(model, pictures)

    def size_at(tied: int | None) -> Size | None:
        images = images_of_box(tied, asked, count)
        return sizes[images[0] if images else 0] if sizes is not None else None

    parsed = parse_boxes(reply, model.box_style, size_at)
    found = []
    for mention in parsed.mentions:
        images = images_of_box(mention.image, asked, count)
        is_sized = sizes is None or len({sizes[image] for image in images}) == 1
        if mention.status != "read" or not is_sized:
            continue
        pixels = None
        if len(images) == 1:
            x1, y1, x2, y2 = (round(value) for value in mention.box.to_pixels(pictures[images[0]].size))
            pixels = (x1, y1, x2, y2)
        found.append(FoundBox(mention.box, images, pixels))
    return tuple(found), parsed


def _name(image: int | None) -> str:
    return "image not named" if image is None else f"Image-{image + 1}"
