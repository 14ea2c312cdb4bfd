"""How each model family writes a box: write one, read a reply.

A family's scale is declared here and never guessed from the size of a number. Reading is one
pass of expressions without backtracking, so a megabyte of brackets costs milliseconds, and it
never raises: what could not be read is part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from migician.boxes import Box, Size
from migician.imagenames import ImageName, clear_names

BOX_START, BOX_END = "<|box_start|>", "<|box_end|>"
REF_START, REF_END = "<|object_ref_start|>", "<|object_ref_end|>"

Scale = Literal["permille", "fraction", "pixel", "bins"]
Status = Literal["read", "no_box", "garbled", "off_scale"]

_NUMBER = r"(-?+(?:[0-9]++(?:\.[0-9]++)?+|\.[0-9]++))"
_GAP = r"\s*+,\s*+"
_FOUR = _GAP.join([_NUMBER] * 4)
_FORMS = {
    "pairs": rf"\(\s*+{_NUMBER}{_GAP}{_NUMBER}\s*+\){_GAP}\(\s*+{_NUMBER}{_GAP}{_NUMBER}\s*+\)",
    "tuple": rf"\(\s*+{_FOUR}\s*+\)",
    "list": rf"\[\s*+{_FOUR}\s*+\]",
    "blanks": rf"<box>\s*+{_NUMBER}\s++{_NUMBER}\s++{_NUMBER}\s++{_NUMBER}\s*+</box>",
    "tokens": r"\s*+".join([rf"<{_NUMBER}>"] * 4),
}
_READERS = {form: re.compile(pattern) for form, pattern in _FORMS.items()}
NOTHING = "There is no such object."
"""What is answered in words where nothing fits: in none of the images there is what the question asks for."""
NO_ITEMS = "[]"
_SCALES = {"permille": 1000.0, "fraction": 1.0, "bins": 999.0}


@dataclass(frozen=True, slots=True)
class BoxStyle:
    """One way to write a box.

    `template` has the four fields x1 y1 x2 y2; `form` says which brackets are read back;
    `scale` is what 1.0 of the image is written as (1000, 1, 999 for tokens that count bins, or the image's width and
    height in pixels); `decimals` is how many digits follow the decimal point when writing. A style with no
    decimals reads whole numbers only. With `y_first` the numbers are y1 x1 y2 x2.

    A style that counts pixels says of which image. With `resized_to`, of the image as the model saw it: its
    processor made both sides multiples of that many pixels (`lengths.cells`). Without, of the file itself.
    """

    name: str
    template: str
    form: Literal["pairs", "tuple", "list", "blanks", "tokens"]
    scale: Scale
    decimals: int = 0
    resized_to: int | None = None
    y_first: bool = False
    absent: str = NOTHING
    """What stands in place of a box where nothing fits."""

    def write(self, box: Box, size: Size | None = None) -> str:
        """`box` in this style; `size` (width, height) is needed by pixel styles only, which raise ValueError without.

        >>> QWEN.write(Box(0.316, 0.058, 0.764, 0.999))
        '<|box_start|>(316,58),(764,999)<|box_end|>'
        >>> STYLES["llava-onevision"].write(Box(0.316, 0.058, 0.764, 0.999))
        '<box>[0.316, 0.058, 0.764, 0.999]</box>'
        """
        if self.scale == "permille":
            return self.filled(*box.to_permille())
        width, height = self.extent(size)
        values = (box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height)
        return self.filled(*[f"{value:.{self.decimals}f}" for value in values])

    def is_absent(self, answer: str) -> bool:
        """Whether an answer is `absent`, in any case and spacing, perhaps in a fence, and nothing else.

        >>> STYLES["qwen3-vl"].is_absent("```json\\n[\\n]\\n```"), QWEN.is_absent("[]")
        (True, False)
        """
        return len(answer) <= _LONGEST_ABSENT and _bare(answer) == _bare(self.absent)

    def filled(self, x1: object, y1: object, x2: object, y2: object) -> str:
        """The template with these in the order that it writes them in."""
        return self.template.format(*((y1, x1, y2, x2) if self.y_first else (x1, y1, x2, y2)))

    def extent(self, size: Size | None) -> tuple[float, float]:
        """What the right and the bottom edge of the image are written as; raises ValueError as `write` does."""
        if self.scale != "pixel":
            return _SCALES[self.scale], _SCALES[self.scale]
        if size is None:
            raise ValueError(f"box style {self.name!r} counts pixels: give the image's size (width, height)")
        return float(size[0]), float(size[1])


_LONGEST_ABSENT = 200
_FENCE = re.compile(r"```(?:json)?|\s+|\.\s*\Z")


def _bare(answer: str) -> str:
    return _FENCE.sub("", answer).casefold()


_PAIRS = BOX_START + "({},{}),({},{})" + BOX_END
_NONE = f"{BOX_START}None{BOX_END}"
_BOXED_LIST = "<box>[{}, {}, {}, {}]</box>"

STYLES: dict[str, BoxStyle] = {
    style.name: style
    for style in (
        # What the families write; the scale of each is what it was trained on.
        BoxStyle("qwen", _PAIRS, "pairs", "permille"),
        BoxStyle("internvl", "<box>[[{}, {}, {}, {}]]</box>", "list", "permille"),
        BoxStyle("minicpm", "<box>{} {} {} {}</box>", "blanks", "permille"),
        BoxStyle("cogvlm", "[[{},{},{},{}]]", "list", "permille"),
        BoxStyle("llava-onevision", _BOXED_LIST, "list", "fraction", 3),
        BoxStyle("mplug-owl3", _BOXED_LIST, "list", "fraction", 3),
        BoxStyle("mantis", _BOXED_LIST, "list", "fraction", 3),
        BoxStyle("qwen2.5-vl", '{{"bbox_2d": [{}, {}, {}, {}]}}', "list", "pixel", resized_to=28, absent=NO_ITEMS),
        BoxStyle("qwen3-vl", '{{"bbox_2d": [{}, {}, {}, {}]}}', "list", "permille", absent=NO_ITEMS),
        BoxStyle("glm-v", "[[{},{},{},{}]]", "list", "permille"),
        BoxStyle("gemini", '{{"box_2d": [{}, {}, {}, {}]}}', "list", "permille", y_first=True, absent=NO_ITEMS),
        BoxStyle("onethinker", '{{"boxes": [{}, {}, {}, {}]}}', "list", "permille", absent='{"boxes": []}'),
        BoxStyle("rex-omni", BOX_START + "<{}><{}><{}><{}>" + BOX_END, "tokens", "bins", absent=_NONE),
        # What a family is asked for whose makers document no form: its own words say the scale.
        BoxStyle("generic", '{{"bbox_2d": [{}, {}, {}, {}]}}', "list", "permille", absent=NO_ITEMS),
        # The bare forms, for answers that come from elsewhere; pixels are those of the image file.
        BoxStyle("pairs-fraction", "({},{}),({},{})", "pairs", "fraction", 3),
        BoxStyle("pairs-pixel", "({},{}),({},{})", "pairs", "pixel"),
        BoxStyle("tuple-fraction", "({}, {}, {}, {})", "tuple", "fraction", 3),
        BoxStyle("list-permille", "[{}, {}, {}, {}]", "list", "permille", absent=NO_ITEMS),
        BoxStyle("list-fraction", "[{}, {}, {}, {}]", "list", "fraction", 3, absent=NO_ITEMS),
        BoxStyle("list-pixel", "[{}, {}, {}, {}]", "list", "pixel", 1, absent=NO_ITEMS),
    )
}
QWEN = STYLES["qwen"]


_TOKENED = re.compile(re.escape(BOX_START) + _FORMS["pairs"] + re.escape(BOX_END))


def translate(text: str, style: BoxStyle, size_at: Callable[[int], Size] | None = None) -> str:
    """`text` with every box between Qwen2-VL's tokens written as `style` writes it; the rest as it is.

    The numbers are those of the box, not its digits pasted elsewhere. `size_at` says, for the
    position of a box in `text`, the size (width, height) of the image it is in; only styles that
    count pixels ask. Raises ValueError where such a style is given no sizes.

    >>> translate("the dog (<|box_start|>(58,7),(764,1000)<|box_end|>)?", STYLES["mantis"])
    'the dog (<box>[0.058, 0.007, 0.764, 1.000]</box>)?'
    """

    def rewritten(match: re.Match[str]) -> str:
        size = size_at(match.start()) if size_at is not None and style.scale == "pixel" else None
        x1, y1, x2, y2 = (float(number) for number in match.groups())
        return style.write(Box.from_permille(x1, y1, x2, y2).bounded(), size)

    return _TOKENED.sub(rewritten, text)


def reference(text: str) -> str:
    """`text` between Qwen2-VL's reference tokens, as MGrounding-630k marks what a box belongs to."""
    return f"{REF_START}{text}{REF_END}"


class Mention(msgspec.Struct, frozen=True, gc=False):
    """One box in a reply."""

    box: Box
    """As written, in fractions; an impossible box stays impossible, and no further off than `Box.bounded` says."""
    status: Literal["read", "garbled", "off_scale"]
    image: int | None
    """The image (0-based) that the reply clearly ties this box to; None where it does not say."""
    span: tuple[int, int]
    """Where the box stands in the reply."""


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """What became of a reply."""

    mentions: tuple[Mention, ...]
    status: Status
    """Of the first box; without any, whether the reply tried to write one."""
    refused: bool = False
    """Whether the final answer says something, gives no box and does not try to: so does every style's `absent`."""

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes that could be read, in order."""
        return tuple(mention.box for mention in self.mentions if mention.status == "read")

    def pick(self, asked: int | None) -> Mention | None:
        """The box that answers a question about image `asked`: one tied to that image, else the first."""
        tied = (mention for mention in self.mentions if asked is not None and mention.image == asked)
        return next(tied, self.mentions[0] if self.mentions else None)


SizeAt = Callable[[int | None], Size | None]
"""The size of the image that a box is in, given the one (0-based) that the reply ties it to, None where to none."""


def parse_boxes(text: str, style: BoxStyle = QWEN, size: Size | SizeAt | None = None) -> Parsed:
    """The boxes of a reply, each with the image it is tied to; never raises on any text.

    Only the final answer is read (see `final_answer`). A box whose corners are in the wrong
    order, or whose numbers do not fit the style (a decimal where whole numbers are declared),
    is "garbled"; one beyond the scale is "off_scale"; neither is repaired. `size` (width,
    height) is needed by pixel styles only; where images differ in it, it is given as a function.

    >>> parsed = parse_boxes("It's in the third image. <|box_start|>(316,58),(764,999)<|box_end|>")
    >>> parsed.status, parsed.mentions[0].image, parsed.boxes
    ('read', 2, (Box(x1=0.316, y1=0.058, x2=0.764, y2=0.999),))
    >>> parse_boxes("There is no such object.")
    Parsed(mentions=(), status='no_box', refused=True)
    """
    begin, end = _final_span(text)
    found = list(_READERS[style.form].finditer(text, begin, end))
    if not found:
        answer = text[begin:end].strip()
        if not style.is_absent(answer) and any(pattern.search(text, begin, end) for pattern in _ATTEMPTS):
            return Parsed((), "garbled")
        return Parsed((), "no_box", refused=bool(answer))
    images = _tied(text, found, clear_names(text, begin, end))
    mentions = []
    for match, image in zip(found, images, strict=True):
        mentions.append(_mention(match, style, size(image) if callable(size) else size, image))
    return Parsed(tuple(mentions), mentions[0].status)


def final_answer(text: str) -> str:
    """The part of a reply that counts: after the last `</think>`, and within the last `<answer>` where there is one.

    A reply whose thinking never ends has no final answer.

    >>> final_answer("<think>(1,1),(2,2)?</think><answer>(3,3),(4,4)</answer>")
    '(3,3),(4,4)'
    """
    begin, end = _final_span(text)
    return text[begin:end]


def _final_span(text: str) -> tuple[int, int]:
    begin, end = 0, len(text)
    closed = text.rfind("</think>")
    if closed >= 0:
        begin = closed + len("</think>")
    opened = text.rfind("<answer>", begin)
    if opened >= 0:
        begin = opened + len("<answer>")
        shut = text.find("</answer>", begin)
        return begin, shut if shut >= 0 else end
    if closed < 0 and "<think>" in text:
        return end, end
    return begin, end


# Signs that a box was meant though none could be read: a box token, one point, four numbers in
# a row, a box cut off at the end. All repetitions are bounded, so each stays linear.
_PART = r"-?[0-9]{1,12}(?:\.[0-9]{1,18})?"
_ATTEMPTS = [
    re.compile(pattern)
    for pattern in (
        r"<\|box_start\|>(?!\s{0,4}None\b)|<box>|<\|begin_of_box\|>|box_2d|\"boxes\"",  # Rex-Omni's None is no box
        rf"[(\[（]\s{{0,4}}{_PART}\s{{0,4}}[,，]\s{{0,4}}{_PART}\s{{0,4}}[)\]）]",
        rf"{_PART}(?:[\s,，;()（）\[\]{{}}]{{1,6}}{_PART}){{3}}",
        rf"[(\[]\s{{0,4}}{_PART}\s{{0,4}},[^()\[\]]{{0,60}}\Z",
    )
]


def _mention(match: re.Match[str], style: BoxStyle, size: Size | None, image: int | None) -> Mention:
    width, height = style.extent(size)
    written = match.groups()
    x1, y1, x2, y2 = map(float, written)
    if style.y_first:
        x1, y1, x2, y2 = y1, x1, y2, x2
    box = Box(x1 / width, y1 / height, x2 / width, y2 / height)
    status: Literal["read", "garbled", "off_scale"] = "read"
    if style.decimals == 0 and "." in match[0] and any("." in number for number in written):
        status = "garbled"
    elif not box.is_inside:
        status = "off_scale"
    elif not box.is_ordered:
        status = "garbled"
    return Mention(box if status == "read" else box.bounded(), status, image, match.span())


def _tied(text: str, boxes: list[re.Match[str]], names: list[ImageName]) -> list[int | None]:
    """The image each box belongs to, in one walk over both lists, which are in order.

    A reply names the image before its boxes ("Image-2: (..)") or after each ("(..) in the
    second image"); what comes first in it tells which. Before its boxes, a name holds for all
    up to the next name.
    """
    if not names:
        return [None] * len(boxes)
    if len(boxes) == len(names) == 1:
        return [names[0].image]
    starts = [box.start() for box in boxes]
    leading = names[0].span[0] < starts[0]
    stops = starts if leading else [*starts[1:], len(text)]
    tied: list[int | None] = []
    position, current = 0, None
    for stop in stops:
        since = position
        while position < len(names) and names[position].span[0] < stop:
            position += 1
        between = names[since:position]
        if not leading:
            current = between[0].image if between else None
        elif between:
            current = _meant(text, between, stop)
        tied.append(current)
    return tied


def _meant(text: str, names: list[ImageName], stop: int) -> int | None:
    """The one image that `names`, all before the box at `stop`, speak of.

    Where they differ ("in the first image it is full, in the second empty. It is at (..)"),
    only a name in the box's own sentence is clear.
    """
    last = names[-1]
    if all(name.image == last.image for name in names):
        return last.image
    return None if _SENTENCE_END.search(text, last.span[1], stop) else last.image


_SENTENCE_END = re.compile(r"[.!?]\s|[。！？\n]")


# Qwen2-VL's tokens, and the marks that LLaMA-Factory counts against a sample's images, videos and sounds.
_SPECIAL = re.compile(r"<(\|[A-Za-z0-9_]{1,40}\||image|video|audio)>")


def plain(text: str) -> str:
    """`text` without anything that a tokenizer or LLaMA-Factory takes for more than text.

    The characters stay and blanks set them apart, so nothing new can come to stand together.

    >>> plain("see <|im_end|> and <video>")
    'see < |im_end| > and < video >'
    """
    return _SPECIAL.sub(r"< \1 >", text)
