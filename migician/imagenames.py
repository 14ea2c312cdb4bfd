"""Which image a text names ("the third image", "Image-2", "2th", "第二张图"), and which one a box belongs to."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import msgspec

_NOUN = r"(?:image|picture|photo|photograph|frame|img)"
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_CHINESE = "一二三四五六七八九十"

# Every repetition is bounded: a reply can be a megabyte of anything.
_NAME = re.compile(
    rf"""
    \b{_NOUN}[\ \t_#-]{{0,3}}(?P<after>[0-9]{{1,3}})(?![0-9]|[.,][0-9])       # Image-2, image 2
    | \b(?P<nth>[0-9]{{1,3}})(?:st|nd|rd|th)\b
      (?:[\ \t-]{{1,3}}(?:{_NOUN}|one)\b | (?=\s{{0,3}}(?:[:,.;()<\[]|\Z)))   # 2th image, and 2th alone
    | \b(?P<word>(?ai:{"|".join(_ORDINALS)}))[\ \t-]{{1,3}}(?:{_NOUN}|one)\b        # third image
    | 第\s?(?P<zh>[0-9]{{1,3}}|[{_CHINESE}])\s?[张幅个副]?\s?(?:图|照片)          # 第二张图
    | "image"\s{{0,3}}:\s{{0,3}}(?P<key>[0-9]{{1,3}})(?![0-9.])                 # {{"image": 2}}, from 1
    | 图[片像]?\s?(?P<zh2>[0-9]{{1,3}}|[{_CHINESE}])(?![0-9])                 # 图2
    """,
    re.IGNORECASE | re.VERBOSE,
)
# In a text of ASCII alone: a sign that a name may begin here, or at the digits right before. It begins with one of a
# set of letters, which a search skips to; few stand in boxes.
_SIGN = re.compile(
    r'["EFINPRSTefinprst](?:(?P<nth>(?<=[0-9].)[DHTdht])|(?<!\w.)(?i:mag|mg|ict|hot|ram|irs|eco|hir|our|ift|ixt|eve|igh|int|ent)'
    r'|(?<=")(?i:image"))'
)
# A name is clear where a clause starts with it ("Image-2: ...", "In the third image, ..."), where
# it follows a bracket ("(10,20),(30,40) in the second image") or a verb of being leads to it
# ("It's in the third image"). "the object in the first image" describes the object, as questions
# do, and says nothing of where the answer is.
_LEAD = re.compile(
    r"""
    (?: \A | [\n.;:!?,，。；：！？(（\[{)）\]>] | ['’]s[ ] | 在 | 是 | 于
      | \b(?:and|but|while|whereas|is|are|was|were|be|lies|located|found|seen|visible|shown|appears?)[ ] )
    \s{0,3} (?:(?:in|on|within|at)[ ])? (?:the[ ])? [*_"“]{0,2} \Z
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LEADING_SIGNS = frozenset("\n.;:!?,，。；：！？(（[{)）]>")
"""What `_LEAD` takes right before a name."""
_COPULA = re.compile(r"[*_\"”]{0,2}[ ](?:is|at)[ ]", re.IGNORECASE)
_REACH = 48
# What stands before a name in a question. A box in any family's form, and that it is of this image; that something else
# is; another image, with which it is named together.
_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,12})?"
_GIVEN_BOX = re.compile(
    rf"(?:{_NUMBER}[\s,()]{{1,6}}){{3}}{_NUMBER}\s{{0,3}}(?:[)\]}}\s]|<\|box_end\|>|</box>){{1,8}}"
    r"(?:of|in|on|from)\s{1,3}(?:the\s)?\Z",
    re.IGNORECASE,
)
_OF = re.compile(r"\b(?:of|from)\s{1,3}(?:the\s)?\Z", re.IGNORECASE)
_TOGETHER = re.compile(
    rf"(?:\b(?:{_NOUN}[\ \t_#-]{{0,3}}[0-9]{{1,3}}|[0-9]{{1,3}}(?:st|nd|rd|th)|{'|'.join(_ORDINALS)})(?:\s{_NOUN})?"
    rf"\s{{0,3}},?\s{{0,3}}(?:and|or|vs\.?|&)|[0-9{_CHINESE}]\s?[张幅个副]?\s?(?:图片?|照片)?\s?[和与、或])"
    r"\s{0,3}(?:in\s)?(?:the\s)?\Z",
    re.IGNORECASE,
)


class ImageName(msgspec.Struct, frozen=True, gc=False):
    """One place where a text names an image (0-based)."""

    image: int
    span: tuple[int, int]


@functools.lru_cache(maxsize=4)  # a question is asked for each of its boxes
def image_names(text: str, begin: int = 0, end: int | None = None) -> tuple[ImageName, ...]:
    """Every image named in `text[begin:end]`, in order, whatever is said of it.

    >>> [name.image for name in image_names("See Image-1. Find it in the 2th image, or the third picture.")]
    [0, 1, 2]
    """
    return tuple(_names(text, begin, len(text) if end is None else end))


def clear_names(text: str, begin: int = 0, end: int | None = None) -> list[ImageName]:
    """The images that a reply clearly says its answer is in, in order.

    >>> [name.image for name in clear_names("It's in the third image.")]
    [2]
    >>> clear_names("the object marked with red bounding box in the first image")
    []
    """
    names = _names(text, begin, len(text) if end is None else end)
    return [name for name in names if _is_clear(text, name, begin)]


def images_of_box(tied: int | None, asked: int | None, count: int) -> tuple[int, ...]:
    """The images (0-based, of `count`) that a box belongs to: whoever draws, exports or scores a box asks here.

    The image that the box's own text ties it to (`Mention.image`); none where that one is not there. Else the
    image that the question asks about (`asked_image`, or what a benchmark's file says). Else all, because
    nothing says which: such a box is drawn on each of them, and marked as such.

    >>> images_of_box(2, 0, 3), images_of_box(None, 0, 3), images_of_box(None, None, 3), images_of_box(8, 0, 3)
    ((2,), (0,), (0, 1, 2), ())
    """
    if tied is not None:
        return (tied,) if tied < count else ()
    return tuple(range(count)) if asked is None or asked >= count else (asked,)


def asked_image(question: str) -> int | None:
    """The image (0-based) that a question asks about: the last one it names; None where that is not clear.

    A name that says where a box of the question is ("(10,20),(30,40) of Image-1") asks for nothing; one that
    describes ("the dog of Image-1") asks only where no other does. Of images named together ("in Image-1 and
    Image-2") none is clear.

    >>> asked_image("For the object in the first image, please locate it in the 5th image.")
    4
    >>> asked_image("Find it in Image-2: the region (10,20),(30,40) of Image-1")
    1
    >>> asked_image("What differs between Image-1 and Image-2?")
    """
    names = [name for name in image_names(question) if not _follows(_GIVEN_BOX, question, name)]
    name = next((name for name in reversed(names) if not _follows(_OF, question, name)), names[-1] if names else None)
    return None if name is None or _follows(_TOGETHER, question, name) else name.image


def image_of_given(question: str, span: tuple[int, int]) -> int | None:
    """The image (0-based) that a question says the box at `span` of it is of; None where it does not say.

    >>> image_of_given("Find (10,20),(30,40) of Image-1 in Image-2.", (5, 20))
    0
    """
    name = next(iter(image_names(question, span[1])), None)
    return name.image if name and _GIVEN_BOX.search(question, span[0], name.span[0]) else None


def ordinal(position: int) -> str:
    """The English word for a 0-based position: 0 is "first"; from the eleventh on "11th".

    >>> ordinal(1), ordinal(11), ordinal(21)
    ('second', '12th', '22nd')
    """
    if position < len(_ORDINALS):
        return _ORDINALS[position]
    number = position + 1
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _names(text: str, begin: int, limit: int) -> list[ImageName]:
    return [name for name in map(_read, _matches(text, begin, limit)) if name.image >= 0]


def _matches(text: str, begin: int, limit: int) -> Iterator[re.Match[str]]:
    """What `_NAME.finditer` gives, several times as fast."""
    if not text.isascii():
        yield from _NAME.finditer(text, begin, limit)
        return
    position = begin
    while sign := _SIGN.search(text, position, limit):
        start = sign.start()
        position = start + 1
        while sign.lastgroup and start > begin and text[start - 1].isdigit():
            start -= 1
        if match := _NAME.match(text, start, limit):
            yield match
            begin = position = match.end()


def _read(match: re.Match[str]) -> ImageName:
    kind = match.lastgroup or ""  # the only one of the groups that is there
    found = match[kind]
    if kind == "word":
        return ImageName(_ORDINALS.index(found.lower()), match.span())
    number = _CHINESE.index(found) + 1 if found in _CHINESE else int(found)
    return ImageName(number - 1, match.span())


def _follows(what: re.Pattern[str], text: str, name: ImageName) -> bool:
    """Whether `what` stands right before a name."""
    start = name.span[0]
    return what.search(text, max(0, start - 2 * _REACH), start) is not None


def _is_clear(text: str, name: ImageName, begin: int) -> bool:
    start, stop = name.span
    if text[start] == '"':  # the field of a JSON object, as `samples.conventions` writes it
        return True
    if start == begin or text[start - 1] in _LEADING_SIGNS:  # as `_LEAD` says, which takes longer
        return True
    before = text[max(begin, start - _REACH) : start]
    if start - begin > _REACH:
        before = "~" + before  # so that \A only matches the true beginning
    return bool(_LEAD.search(before) or _COPULA.match(text, stop))
