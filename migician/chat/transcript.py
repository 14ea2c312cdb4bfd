"""Images and answers as HTML: whatever was typed, uploaded or replied stands in it as text, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from PIL import Image

from migician.chat.grounding import WITHOUT_BOX, Grounding
from migician.chat.uploads import thumbnail
from migician.draw import ON_ALL, draw_boxes
from migician.samples.sample import IMAGE_MARK


def strip(addresses: Sequence[str]) -> str:
    """All images of the conversation, each with its name; `style.HEAD` lets one draw a region on them."""
    if not addresses:
        return '<p class="mg-empty">No images yet: add some, or begin with an example below.</p>'
    figures = [
        f'<figure class="mg-shot" data-number="{number}"><div class="mg-frame">'
        f'<img src="{escape(address)}" alt="Image-{number}" draggable="false"></div>'
        f"<figcaption>Image-{number}</figcaption></figure>"
        for number, address in enumerate(addresses, 1)
    ]
    return f'<div class="mg-strip{" mg-many" if len(addresses) > 2 else ""}">{"".join(figures)}</div>'


def transcript(turns: Sequence[str]) -> str:
    """The conversation so far, each of its `answered` turns, the newest last."""
    return f'<div class="mg-talk">{"".join(turns)}</div>'


def growing(question: str, reply: str) -> str:
    """The turn under way."""
    return f'<div class="mg-talk">{_said("you", question)}{_said("model", reply or "...")}</div>'


def line(text: str, *, bad: bool = False) -> str:
    """A line under the images, read out by screen readers."""
    return f'<p role="status" class="mg-line{" mg-bad" if bad else ""}">{escape(text)}</p>'


def boxes_drawn(turn: Grounding) -> list[tuple[int, Image.Image]]:
    """The images that have boxes, each with its place and its boxes drawn on it, numbered as in the reply."""
    return [(image, draw_boxes(turn.images[image], marks)) for image, marks in enumerate(turn.marks) if marks]


def boxes_told(turn: Grounding) -> list[str]:
    """A line for each box: its image and its place in thousandths; or why there is no box."""
    if not turn.boxes:
        return [WITHOUT_BOX[turn.status].strip("()")]
    lines = []
    for number, found in enumerate(turn.boxes, 1):
        if found.image is not None:
            where = f"Image-{found.image + 1}"
        else:
            where = f"dotted, {ON_ALL}" if found.images else "named for an image that is not there, so not drawn"
        left, top, right, bottom = found.box.to_permille()
        lines.append(f"Box {number}, {where}: left {left}, top {top}, right {right}, bottom {bottom} thousandths")
    return lines


def answered(turn: Grounding, show: Callable[[bytes], str]) -> str:
    """A turn; `show` gets each picture of its boxes as a JPEG, and gives the address at which the page finds it."""
    figures = "".join(
        f'<figure><img src="{escape(show(thumbnail(drawn)))}" alt="Boxes on Image-{image + 1}">'
        f"<figcaption>Image-{image + 1}</figcaption></figure>"
        for image, drawn in boxes_drawn(turn)
    )
    told = "".join(f"<li>{escape(one)}</li>" for one in boxes_told(turn))
    shown = f'<div class="mg-strip">{figures}</div>' if figures else ""
    return f'{_said("you", turn.query)}{_said("model", turn.reply)}{shown}<ul class="mg-boxes">{told}</ul>'


def _said(who: str, text: str) -> str:
    shown = escape(text.replace(IMAGE_MARK, "").strip())
    return f'<div class="mg-said mg-{who}"><b>{"You" if who == "you" else "Model"}</b><div>{shown}</div></div>'
