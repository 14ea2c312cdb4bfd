"""Reads questions with their answers as a person would, and says where the two do not agree, or not with the facts.

Nothing here knows how the builders put words together: only what the words mean.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_BOX = re.compile(r"<\|box_start\|>\(\d+,\d+\),\(\d+,\d+\)<\|box_end\|>")
_ONLY_BOX = re.compile(
    r"don't generate additional words|bounding box only|and nothing else|just the coordinates|only the box",
    re.IGNORECASE,
)
_ASKS_IMAGE = re.compile(
    r"name the image|which (?:image|picture)\b|say which|which one, and|(?:which|who) has\b|tell me the image|"
    r"identify the image|which part of which",
    re.IGNORECASE,
)
_FORBIDS_NAMES = re.compile(r"name nothing|without naming|do not name|don't name", re.IGNORECASE)
_REFERENCE = re.compile(r"<\|object_ref_start\|>(.*?)<\|object_ref_end\|>")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_IMAGE = re.compile(
    rf"image-(\d)|\b({'|'.join(_ORDINALS)})\b|\b(\d)(?:st|nd|rd|th)\b|(?:frame|moment) (\d)", re.IGNORECASE
)
_KIND = re.compile(
    r"\b(?:kind|sort|type|class|category|such an?|like|counterpart|example|in common|instance)\b", re.IGNORECASE
)
_MOVES = re.compile(r"\bit (?:has )?moved?\b|\bmoving\b|\bmoves\b|\bgot to\b", re.IGNORECASE)
_HAPPENED = re.compile(r"\b(?:happened|occurred|took place|was done)\b", re.IGNORECASE)


def images_named(text: str) -> set[int]:
    """The images that a text speaks of, from 1."""
    found = set()
    for match in _IMAGE.finditer(text):
        number, word, nth, frame = match.groups()
        found.add(_ORDINALS.index(word.lower()) + 1 if word else int(number or nth or frame))
    return found


def contradictions(question: str, answer: str) -> list[str]:
    """What in a question and its answer does not agree; empty where all does."""
    question = question.replace("<image>", "")
    only_box, asks_image = bool(_ONLY_BOX.search(question)), bool(_ASKS_IMAGE.search(_REFERENCE.sub("", question)))
    found = []
    if only_box and asks_image:
        found.append("asks for the image and for the box alone")
    if only_box and not _BOX.fullmatch(answer):
        found.append("says more than the box that is asked for")
    if asks_image and not images_named(_BOX.sub("", answer)):
        found.append("does not name the image that is asked for")
    if _FORBIDS_NAMES.search(question) and _REFERENCE.search(answer):
        found.append("names what is not to be named")
    order = re.findall(r"Image-(\d)", answer)
    if "mixed up" in question and order == sorted(order):
        found.append("says that images in order are mixed up")
    return found


def false_claims(question: str, answer: str, *, hidden: Collection[int] = ()) -> list[str]:
    """What the annotations of a tracking sample do not bear out; `hidden` images are known to be without the object."""
    unseen = [line for line in answer.split("\n") if "not visible" in line]
    found = [f"{line}: nobody knows" for line in unseen if not images_named(line) <= set(hidden)]
    if _MOVES.search(answer) or _MOVES.search(question):
        found.append("says that the object moves")
    return found


def claims_one_object(question: str, answer: str) -> bool:
    """Whether a turn about objects of a kind in several photographs speaks of them as one object."""
    same = re.search(
        r"\b(?:same|very|this|that) (?:object|thing)\b|which image-2 has\b", f"{question} {answer}", re.IGNORECASE
    )
    return bool(same) or not _KIND.search(question)


def retells(answer: str, instruction: str) -> bool:
    """Whether an answer gives an instruction as something that happened, not as what somebody asked for."""
    at = answer.find(instruction)
    return at >= 0 and (answer[at - 1] != '"' or bool(_HAPPENED.search(answer)))
