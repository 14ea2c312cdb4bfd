"""From what models wrote to what may be trained on: every refusal has a reason, every box an annotation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from migician.boxes import Box, is_writable
from migician.boxtext import BOX_END, BOX_START, QWEN, REF_END, REF_START, parse_boxes, reference
from migician.build.synthesis.forms import Pair, RefinedObject
from migician.build.synthesis.untrusted import clean, has_markup
from migician.imagenames import image_names, ordinal
from migician.samples.sample import IMAGE_MARK
from migician.sources.scenes import Tally

LONGEST_PHRASE, LONGEST_QUESTION, LONGEST_ANSWER = 120, 500, 1000
"""In characters. Longer phrases are cut, longer questions and answers refused."""
MAX_BOXES = 8
"""In one answer."""


@dataclass(frozen=True, slots=True)
class CheckedObject:
    """An object that may be asked about."""

    annotation: int
    """Its place among the instances of its scene."""
    phrase: str
    box: Box
    is_moved: bool
    """Whether the box is the model's, near the annotated one, and not the annotated one itself."""


@dataclass(frozen=True, slots=True)
class CheckedTurn:
    """A question and its answer, ready for a conversation."""

    question: str
    answer: str
    targets: tuple[tuple[int, int], ...]
    """(image, object) of each box of the answer, 0-based, in order."""


def checked_objects(
    replies: Sequence[RefinedObject], annotated: Sequence[tuple[int, Box]], least_iou: float, tally: Tally
) -> list[CheckedObject]:
    """The objects that the vision model confirmed, in the order asked, each with a phrase of its own.

    `annotated` are (place in the scene, box) of the objects asked about. A box the model gives
    replaces the annotated one only from an IoU of `least_iou` on; else the annotation stands.
    """
    found: dict[int, RefinedObject] = {}
    for reply in replies:
        if not 1 <= reply.object <= len(annotated):
            tally.add("judgement of an object that was not asked about")
        elif reply.object in found:
            tally.add("second judgement of one object")
        else:
            found[reply.object] = reply
    phrases = {number: clean(reply.phrase, LONGEST_PHRASE).rstrip(" .") for number, reply in found.items()}
    uses = Counter(phrases[number].casefold() for number, reply in found.items() if reply.keep)
    kept = []
    for number, (place, box) in enumerate(annotated, 1):
        reason = _why_not(found.get(number), phrases.get(number, ""), uses)
        if reason:
            tally.add(reason)
            continue
        moved = _moved(found[number].box, box, least_iou, tally)
        kept.append(CheckedObject(place, phrases[number], moved or box, moved is not None))
    return kept


def _why_not(reply: RefinedObject | None, phrase: str, uses: Counter[str]) -> str:
    """Why an object cannot be asked about, empty where it can."""
    if reply is None:
        return "object without a judgement"
    if not reply.keep:
        return "object dropped by the vision model"
    if has_markup(reply.phrase) or gives_away(phrase) or image_names(phrase):
        return "phrase with coordinates, object or image numbers, or special tokens"
    if not any(letter.isalpha() for letter in phrase):
        return "object without a phrase"
    if uses[phrase.casefold()] > 1:
        return "phrase that fits several objects"
    return ""


def _moved(values: Sequence[int], annotated: Box, least_iou: float, tally: Tally) -> Box | None:
    """The model's box where it may replace the annotated one."""
    if not values:
        return None
    if len(values) != 4 or not all(0 <= value <= 1000 for value in values):
        tally.add("box of the model that is none: the annotation stands")
        return None
    box = Box.from_permille(*values)
    if box.to_permille() == annotated.to_permille():
        return None
    if not box.is_proper or box.iou(annotated) < least_iou:
        tally.add("box of the model too far from the annotation: the annotation stands")
        return None
    tally.add("box refined by the model")
    return box


# [image 2, object 3], as the prompt asks; models also write (Image 2, Object 3).
_MARK = re.compile(
    r"[\[(]\s{0,3}image[\s#-]{0,3}(\d{1,2})\s{0,3}[,;:]\s{0,3}object[\s#-]{0,3}(\d{1,3})\s{0,3}[\])]", re.I
)
_NUMBERED = re.compile(r"\b(?:object|obj|box|region|item)s?\s{0,3}(?:#|no\.?|number|id)?\s{0,3}\d", re.I)
_COORDINATE = re.compile(
    r"\b[xy][12]?\s{0,3}[=:]\s{0,3}-?\d|\bcoordinates?\b.{0,20}\d|\d\s{0,3}(?:px|pixels?)\b|\d[,;]\s{0,3}\d{1,4}[,;]\s{0,3}\d",
    re.I,
)
_SOURCES = re.compile(r"\b(?:caption|annotation|bounding[ -]box list|json|metadata)s?\b", re.I)


def gives_away(text: str) -> bool:
    """Whether `text` holds coordinates, or numbers objects as only the prompts do.

    >>> gives_away("Where is the dog of (120, 300)?"), gives_away("Find object 3."), gives_away("Which 3 dogs run?")
    (True, True, False)
    """
    return bool(parse_boxes(text).status != "no_box" or _NUMBERED.search(text) or _COORDINATE.search(text))


def checked_turns(
    pairs: Sequence[Pair], images: Sequence[Sequence[CheckedObject]], max_turns: int, tally: Tally
) -> list[CheckedTurn]:
    """The first `max_turns` of `pairs` that pass every check, with their boxes written by this program."""
    turns: list[CheckedTurn] = []
    asked: set[str] = set()
    for pair in pairs:
        if len(turns) == max_turns:
            break
        try:
            turn = _turn(pair, images)
        except _Unfit as unfit:
            tally.add(str(unfit))
            continue
        words = " ".join(re.findall(r"\w+", turn.question.casefold()))
        if words in asked:
            tally.add("question asked twice")
        else:
            asked.add(words)
            turns.append(turn)
    return turns


class _Unfit(Exception):
    """A question or answer that must not be trained on; the text is the reason."""


def _turn(pair: Pair, images: Sequence[Sequence[CheckedObject]]) -> CheckedTurn:
    """The turn; raises `_Unfit` where there is none."""
    question = _question(pair, len(images))
    answer = _cleaned("answer", pair.answer, LONGEST_ANSWER)
    marks = list(_MARK.finditer(answer))
    around = _MARK.sub(" ", answer)
    if not marks:
        raise _Unfit("answer without an object")
    if len(marks) > MAX_BOXES:
        raise _Unfit("answer with too many objects")
    if gives_away(around) or _SOURCES.search(around):
        raise _Unfit("answer with coordinates or object numbers of its own")
    targets = tuple((int(mark[1]) - 1, int(mark[2]) - 1) for mark in marks)
    if not all(0 <= image < len(images) and 0 <= place < len(images[image]) for image, place in targets):
        raise _Unfit("answer with an object that does not exist")
    if len(set(targets)) < len(targets):
        raise _Unfit("answer that boxes one object twice")
    written = "" if _contradicts(answer, marks, targets) else _answer(answer, marks, targets, images)
    if not written:
        raise _Unfit("answer that names another image than its box's")
    return CheckedTurn(question, written, targets)


_BEHIND = re.compile(r"\s{0,3}\(?(?:in|of|from|on|at)\s(?:the\s)?", re.I)


def _contradicts(answer: str, marks: Sequence[re.Match[str]], targets: Sequence[tuple[int, int]]) -> bool:
    """Whether the model's words put an object into another image than its mark does.

    The last image named between one mark and the next leads to the next, unless it follows
    the one at once ("[image 1, object 2] in the first image").
    """
    limits = [0, *(mark.end() for mark in marks)]
    stops = [*(mark.start() for mark in marks), len(answer)]
    for place, (start, stop) in enumerate(zip(limits, stops, strict=True)):
        names = list(image_names(answer, start, stop))
        follows = place and names and _BEHIND.fullmatch(answer, start, names[0].span[0])
        if follows and names.pop(0).image != targets[place - 1][0]:
            return True
        if place < len(marks) and names and names[-1].image != targets[place][0]:
            return True
    return False


def _cleaned(kind: str, text: str, limit: int) -> str:
    if has_markup(text):
        raise _Unfit(f"{kind} with special tokens")
    if len(text) > limit:
        raise _Unfit(f"{kind} too long")
    return clean(text, limit)


def _question(pair: Pair, count: int) -> str:
    """The question about `count` images, its target marked; raises `_Unfit` where there is none."""
    if has_markup(pair.target):
        raise _Unfit("question with special tokens")
    question = _cleaned("question", pair.question, LONGEST_QUESTION)
    if not any(letter.isalpha() for letter in question):
        raise _Unfit("empty question")
    if gives_away(question) or _SOURCES.search(question):
        raise _Unfit("question that gives away coordinates, object numbers or captions")
    if any(name.image >= count for name in image_names(question)):
        raise _Unfit("question about an image that is not there")
    target = clean(pair.target, LONGEST_QUESTION)
    if not target:
        return question
    start = question.find(target)
    if start < 0 or not any(letter.isalpha() for letter in target):
        raise _Unfit("target that is not in its question")
    return question[:start] + reference(target) + question[start + len(target) :]


def _answer(
    answer: str,
    marks: Sequence[re.Match[str]],
    targets: tuple[tuple[int, int], ...],
    images: Sequence[Sequence[CheckedObject]],
) -> str:
    """The answer with phrases and boxes for its marks; empty where a reader would tie a box to another image.

    Where the model's own words do not name the image of each box, this program does.
    """
    for naming in (False, True):
        text, end = "", 0
        for mark, (image, place) in zip(marks, targets, strict=True):
            found = images[image][place]
            name = f" in the {ordinal(image)} image " if naming else ""
            text += answer[end : mark.start()] + reference(found.phrase) + name + QWEN.write(found.box)
            end = mark.end()
        text += answer[end:]
        if _is_sound(text, targets, images):
            return text
    return ""


def _is_sound(text: str, targets: Sequence[tuple[int, int]], images: Sequence[Sequence[CheckedObject]]) -> bool:
    """Whether a reader finds exactly the boxes of `targets`, each tied to its image, and every token has its pair."""
    if any(text.count(token) != len(targets) for token in (BOX_START, BOX_END, REF_START, REF_END)):
        return False
    if IMAGE_MARK in text:
        return False
    read = [(mention.status, mention.image, mention.box.to_permille()) for mention in parse_boxes(text).mentions]
    return read == [("read", image, images[image][place].box.to_permille()) for image, place in targets]


def is_askable(box: Box, area: tuple[float, float]) -> bool:
    """Whether a box survives being written as 0..1000, and covers a share of its image within `area`."""
    return area[0] <= box.area <= area[1] and is_writable(box)
