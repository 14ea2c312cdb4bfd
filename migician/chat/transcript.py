"""Images and answers as HTML, with whatever was typed, uploaded or replied as text, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from PIL import Image

from migician.chat.grounding import WITHOUT_BOX, Grounding
from migician.chat.uploads import thumbnail
from migician.draw import ON_ALL, draw_boxes
from migician.samples.sample import IMAGE_MARK


def strip(addresses: Sequence[str]) -> str:
    """All images of the conversation with their names; `style.HEAD` lets one draw a region on them."""
    if not addresses:
        return '<p class="mg-empty">No images yet: add some, or start with an example below.</p>'
    figures = [
        f'<figure class="mg-shot" data-number="{number}"><div class="mg-frame">'
        f'<img src="{escape(address)}" alt="Image-{number}" draggable="false"></div>'
        f"<figcaption>Image-{number}</figcaption></figure>"
        for number, address in enumerate(addresses, 1)
    ]
    return f'<div class="mg-strip{" mg-many" if len(addresses) > 2 else ""}">{"".join(figures)}</div>'


def transcript(turns: Sequence[str]) -> str:
    """The conversation so far: its `answered` turns, newest last."""
    return f'<div class="mg-talk">{"".join(turns)}</div>'


def growing(question: str, reply: str) -> str:
    """The turn in progress."""
    return f'<div class="mg-talk">{_said("you", question)}{_said("model", reply or "...")}</div>'


def line(text: str, *, bad: bool = False) -> str:
    """A line under the images, read out by screen readers."""
    return f'<p role="status" class="mg-line{" mg-bad" if bad else ""}">{escape(text)}</p>'


def boxes_drawn(turn: Grounding) -> list[tuple[int, Image.Image]]:
    """(index, image) of each image with boxes, the boxes drawn on it and numbered as in the reply."""
    return [(image, draw_boxes(turn.images[image], marks)) for image, marks in enumerate(turn.marks) if marks]


def box_lines(turn: Grounding) -> list[str]:
    """One line per box: its image and its corners in 0..1000; or why there is no box."""
    if not turn.boxes:
        return [WITHOUT_BOX[turn.status].strip("()")]
    lines = []
    for number, found in enumerate(turn.boxes, 1):
        if found.image is not None:
            where = f"Image-{found.image + 1}"
        else:
            where = f"dotted, {ON_ALL}" if found.images else "names an image that does not exist, so not drawn"
        left, top, right, bottom = found.box.to_permille()
        lines.append(f"Box {number}, {where}: left {left}, top {top}, right {right}, bottom {bottom} of 1000")
    return lines


def answered(turn: Grounding, show: Callable[[bytes], str]) -> str:
    """A turn as HTML; `show` takes each picture of its boxes as JPEG bytes and returns its address on the page."""
    figures = "".join(
        f'<figure><img src="{escape(show(thumbnail(drawn)))}" alt="Boxes on Image-{image + 1}">'
        f"<figcaption>Image-{image + 1}</figcaption></figure>"
        for image, drawn in boxes_drawn(turn)
    )
    listed = "".join(f"<li>{escape(one)}</li>" for one in box_lines(turn))
    shown = f'<div class="mg-strip">{figures}</div>' if figures else ""
    return f'{_said("you", turn.query)}{_said("model", turn.reply)}{shown}<ul class="mg-boxes">{listed}</ul>'


def _said(who: str, text: str) -> str:
    shown = escape(text.replace(IMAGE_MARK, "").strip())
    return f'<div class="mg-said mg-{who}"><b>{"You" if who == "you" else "Model"}</b><div>{shown}</div></div>'
