"""Spot-the-Diff: two moments of a surveillance camera, with sentences on what changed and no boxes.

`data/annotations/<split>.json` lists {"img_id": "235", "sentences": ["the dark grey suv is gone in the photo
on the right", ...]}, one record an annotator, so that an id may come several times;
`data/resized_images/` holds 235.png and 235_2.png. The box is found from the pixels (see
`changed_region`) and used only where every annotator names exactly one change. The pickled clusters (.obj) that come
with the dataset are never opened: a pickle runs code. Source: https://github.com/harsh19/spot-the-diff (no licence).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from migician.errors import UserError
from migician.files import read_json
from migician.sources.formats.changed_region import changed_region
from migician.sources.formats.pairs import data_folder, pixels, relative
from migician.sources.formats.reading import Listing
from migician.sources.scenes import ImagePair, Tally

# With the slips of annotators: "differnces", "there is know different".
_DIFFERENT = r"(?:dif+[a-z]{0,3}n[a-z]*|chang(?:e|es|ed|ing))"
_A_DIFFERENCE = r"(?:dif+[a-z]{0,3}n(?:c[a-z]*|es)|changes?)"
_CANNOT = (
    r"(?:not|t|cannot|cant|dont|(?:unable|fail(?:ed)?|hard|difficult|impossible) to)(?: (?:really|even|actually))?"
)
_SEE = r"(?:see|spot|notice|find|detect|tell|observe|identify|locate|make out|discern|perceive|recogni[sz]e)"
_WHICH = r"(?:an?|any|the|much|of|in|real|single|major|big|visible|obvious|noticeable|clear|significant|apparent)"
_NO_DIFFERENCE = re.compile(
    "|".join(
        [
            r"^(?:none|nothing|unchanged|n ?a)$",
            r"^(?:all |exact(?:ly)? )*(?:the )?(?:same|identical)(?: (?:image|picture|photo)s?)?$",
            rf"\b(?:no|know|zero|without|little) (?!longer\b|(?:one|m[ae]n|people|persons?|cars?)\b)"
            rf"(?:[a-z]+ ){{0,2}}(?<!longer ){_DIFFERENT}\b",
            rf"\b(?:not?|t) (?:(?:appears?|seems?) to be )?(?:a single|any|much) (?:[a-z]+ ){{0,2}}{_DIFFERENT}\b",
            rf"\bnot(?:hing| much| anything)\b(?: (?!next\b|left\b)[a-z0-9]+){{0,9}}? (?:{_DIFFERENT}|new)\b",
            rf"\b{_CANNOT} {_SEE}(?: {_WHICH})* {_A_DIFFERENCE}\b",
            rf"\b{_CANNOT} {_SEE} (?:any|a) ?thing(?: (?:is|that|has|s|to|be|have))* (?:{_DIFFERENT}|new)\b",
            rf"\b{_CANNOT} {_SEE} (?:what (?:is |has |s )?{_DIFFERENT}|(?:a|any|much) different)\b",
        ]
    )
)
"""Says that no difference is there, or that none is seen."""
_SAME = re.compile(
    r"""
    ^(?P<what>(?:[a-z0-9]+[ ]){0,9}?)(?:is|are|s|looks?|appears?|seems?|stays?|remains?|see)[ ]
    (?:(?:to[ ]be|very|pretty|quite|much|almost|nearly|exactly|virtually|basically|completely|all|both|like|still)[ ])*
    (?:(?:the[ ])?(?:(?:exact|very)[ ])*same(?:[ ](?:image|picture|photo|shot|scene|thing))?|identical|alike|unchanged
       |(?P<near>similar))
    (?:[ ](?:in|to|between|as|from|at|on|for|here)\b(?:[ ][a-z0-9]+){0,6})?$
    """,
    re.VERBOSE,
)
"""Says that what is seen is the same."""
_ALL_OF_IT = re.compile(
    r"^(?:\w+ )*(?:images?|pictures?|photos?|pics?|shots?|scenes?|frames?|views?|both|everything|all|they|lot) "
)
"""A thing may be similar to another that it took the place of; the whole picture may not."""
_NAMES_ONE = re.compile(
    r"\b(?:but|except\w*|other(?:wise)?|else|aside|apart|besides?|outside of|only|with|while|whereas|though|although"
    r"|however|yet|until|moved?|moving|slight\w*|minus|save)\b"
)
"""Where it comes after such a statement, or within one of sameness, a difference is named after all."""
_NEGATION = re.compile(r"\b(?:not|no|t)\b")


_PICTURE = "(?:picture|photo|photograph|image|pic|frame)"
_SIDE = re.compile(
    rf"\b(?:the[ ])?(?:{_PICTURE}[ ](?:on|to|at)[ ]the[ ](right|left)\b(?![ ]side)"
    rf"|(right|left|before|after)(?:[- ]hand)?(?:[- ]side)?[ ]{_PICTURE}\b)",
    re.IGNORECASE,
)
"""A name for one of the two images, which the annotators saw side by side."""
_NAMES = {"left": "the first image", "before": "the first image"}
_STILL_A_SIDE = re.compile(
    r"\b(?:before|after|[lr])\b"
    r"|\b(?:left|right)\b(?![ -](?:side|hand|part|half|end|edge|lane|corner|of|most|arm|turn))",
    re.IGNORECASE,
)
"""May be one of the two images: "right has two people", "in the before"; or a place in both, which nobody can tell."""


class _Record(msgspec.Struct, frozen=True):
    img_id: str
    sentences: list[str]


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[ImagePair]:
    """The pairs of a split (`train`, `val` or `test`) with one change, in the order in which their ids first come.

    The box holds for both images. Counted and left out: pairs where an annotator names no or several
    changes, whose images are missing or differ in size, and where the pixels do not show one region that
    changed. `root` is the folder that holds `data/`, or that folder. Raises `UserError` naming
    the file of what cannot be read, and if no image is there.
    """
    folder = data_folder(root)
    file = folder / "annotations" / f"{split}.json"
    records = read_json(file, list[_Record], "annotations of Spot-the-Diff")
    by_pair: dict[str, list[list[str]]] = {}
    for record in records:
        by_pair.setdefault(record.img_id, []).append([text.strip() for text in record.sentences if text.strip()])
    images = folder / "resized_images"
    listing = Listing()
    present = 0
    for name, annotators in by_pair.items():
        before, after = images / f"{name}.png", images / f"{name}_2.png"
        if relative(name) is None:
            tally.add("name that leads out of the folder")
            continue
        if not (listing.holds(before) and listing.holds(after)):
            tally.add("pair with an image missing")
            continue
        present += 1
        reason = _refusal(annotators)
        if reason:
            tally.add(reason)
            continue
        first, second = pixels(before), pixels(after)
        if first.shape != second.shape:
            tally.add("images of a pair differ in size")
            continue
        box = changed_region(first, second, tally)
        if box:
            yield ImagePair(name, before, after, box, box, _without_sides(annotators[0][0]))
    if by_pair and not present:
        raise UserError(f"{file}: none of its {len(by_pair)} pairs have images; they belong in {images}")


def _refusal(annotators: list[list[str]]) -> str:
    """Why the sentences of a pair's annotators do not speak of one change; empty where they do."""
    if any(not sentences for sentences in annotators):
        return "annotator wrote nothing"
    if any(says_no_difference(text) for sentences in annotators for text in sentences):
        return "annotator sees no difference"
    if any(len(sentences) > 1 for sentences in annotators):
        return "annotator names several changes"
    return ""


def _without_sides(sentence: str) -> str:
    """A sentence that calls the images first and second, since nobody sees them side by side.

    Empty where a word is left that may be the name of an image too.

    >>> _without_sides("the dark grey suv is gone in the photo on the right")
    'the dark grey suv is gone in the second image'
    >>> _without_sides("in the after image there is a man on the left side")
    'in the second image there is a man on the left side'
    >>> _without_sides("the right picture has two people and left does not")
    ''
    """
    both = re.sub(r"\bbefore and (the )?after\b", r"first and \1second", sentence, flags=re.IGNORECASE)
    named = _SIDE.sub(lambda name: _NAMES.get((name[1] or name[2]).lower(), "the second image"), both)
    return "" if _STILL_A_SIDE.search(named) else named


def says_no_difference(sentence: str) -> bool:
    """Whether a sentence says that the images do not differ.

    >>> says_no_difference("I see no differences between the two images")
    True
    >>> says_no_difference("the same people are in the group only they have moved")
    False
    """
    text = sentence.lower().strip(" .!").replace("n't", "n t").replace("'", " ")
    found = _NO_DIFFERENCE.search(text)
    if found:
        return not _NAMES_ONE.search(text, found.end())
    same = _SAME.search(text)
    if same is None or _NAMES_ONE.search(text) or _NEGATION.search(text):
        return False
    return not same["near"] or bool(_ALL_OF_IT.match(same["what"]))
