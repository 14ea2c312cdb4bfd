"""Which option of a multiple-choice question a reply chooses: by letter, by text, or by "the answer is ...".

Never by substring: the "A" of "Answer" and the "no" of "nothing" choose nothing. A reply that settles on
no option, or on several, is undecided; none is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

from migician.boxtext import final_answer

_BOXED = re.compile(r"\\boxed\{([^{}]{0,200})\}")
_MARKUP = re.compile(r"[*`$]|\\text\b")
_WHOLE_LETTER = re.compile(r"[\W_]{0,9}(?:(?:option|choice)[ ])?[\W_]{0,3}([A-Za-z])[\W_]{0,9}", re.IGNORECASE)

# A capital that stands alone names an option, but "A" and "I" are words too: those need a sign behind them.
# Nor is "Image B" an option, unless it is an option's text.
_LETTER = re.compile(
    r"""
    (?<![A-Za-z0-9_'’-])
    (?<!(?i:image)[ ]) (?<!(?i:picture)[ ]) (?<!(?i:photo)[ ]) (?<!(?i:frame)[ ]) (?<!(?i:figure)[ ])
    (?<!(?i:view)[ ]) (?<!(?i:point)[ ])
    (?: \(\s?(?P<bracketed>[A-Z])\s?\)
      | (?i:option|choice)[ ](?P<named>[A-Z])(?![A-Za-z0-9_'’-])
      | (?P<article>[AI])(?=\s{0,2}(?:[).:,;!?|/&"”\]]|\n|\Z)|[ ](?:and|or|is|because|since)\b)
      | (?P<bare>[B-HJ-Z])(?![A-Za-z0-9_'’-])
    )
    """,
    re.VERBOSE,
)
_STATED = re.compile(
    r"""
    \b answers? \b [^.\n:]{0,40}? (?: \b(?:is|be|was)\b | [:=：] ) \s{0,3} [:：]?
    | \b(?:correct|right|best|final)[ ](?:option|choice|one)\b [^.\n:]{0,40}? (?: \b(?:is|be)\b | [:：] )
    | \b(?:choose|chose|pick|select|go[ ]with)\b
    | 答案 (?: 是|为 )? [:：]? | 选择?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LEAD_IN = re.compile(
    r"[\s\"'“”‘’:：(\[]{0,6}(?:(?:the|option|choice|letter|image)\s){0,3}[\"'“”‘’(\[]{0,3}", re.IGNORECASE
)
_CONFIRMED = re.compile(
    r"[\s)\]\"'”’]{0,4}(?:is|seems|appears)\s(?:to\sbe\s)?(?:the\s)?(?:most\s)?(?:correct|right|best|likely|answer)\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:\b(?:not|neither|nor|never|cannot|except|unlike|rather\sthan|instead\sof)|n['’]t)"
    r"\s+(?:(?:be|in|the|option|choice)\s+){0,3}[\"'“(\[]{0,2}\Z",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:not|never|cannot)\b|n['’]t\b", re.IGNORECASE)
# What stands between an option's letter and its text, and between two options of a list.
_PAIR = re.compile(r"[\s).:\]\"'“(=-]{1,6}")
_LIST = re.compile(
    r"[).\]\"'”]{0,3}\s{0,3}(?:[,/|;&\n]|\b(?:and|or)\b)[\s,]{0,3}(?:(?:and|or)\s)?(?:the\s)?[\"'“(\[]{0,2}"
)
_CLAUSE_END = re.compile(r"[)\]\"'”’]{0,3}\s{0,2}(?:[.,;:!?\n]|\Z|[-–—]\s)")
_OPENING = re.compile(r"[\s\"'“‘(\[>#-]{0,6}")


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    end: int
    option: int
    is_letter: bool


def read_option(reply: str, options: Sequence[str], lettered: bool) -> tuple[int, ...]:
    """The options (0-based) that a reply settles on: one where it decides, none or several where it does not.

    Only the final answer is read (see `boxtext.final_answer`). `lettered` says whether the question
    showed letters, so that "B" stands for the second option. In this order: the reply is a letter or
    an option's text; it states the answer ("the answer is B"); it begins with an option; it names one
    option alone. Never raises.

    >>> read_option("Answer: B", ["a cat", "a dog"], lettered=True)
    (1,)
    >>> read_option("A dog, I think.", ["a cat", "a dog"], lettered=True)
    (1,)
    >>> read_option("Either A or B", ["a cat", "a dog"], lettered=True)
    (0, 1)
    """
    phrases = tuple(_phrase(option) for option in options)
    text = _clean(final_answer(reply))
    whole = _whole(text, phrases, lettered)
    if whole is not None:
        return (whole,)
    mentions = _mentions(text, phrases, lettered)
    stated = _stated(text, mentions)
    if stated:
        return tuple(sorted(stated))
    if leading := _leading(text, mentions):
        return tuple(sorted(leading))
    named = {one.option for one in mentions if not _NEGATED.search(text, max(0, one.start - 40), one.start)}
    return tuple(sorted(named))


def _clean(text: str) -> str:
    """`text` without the marks of Markdown and LaTeX, blanks made single, line ends kept."""
    bare = _MARKUP.sub("", _BOXED.sub(r"\1", text))
    return "\n".join(line for line in (" ".join(line.split()) for line in bare.splitlines()) if line)


def _phrase(option: str) -> str:
    """An option's text as it is looked for."""
    return " ".join(_clean(option).split()).lower().rstrip(".").strip()


def _whole(text: str, phrases: Sequence[str], lettered: bool) -> int | None:
    """The option that is the whole of a reply: its letter, its text, or both."""
    flat = " ".join(text.split())
    said = flat.lower().strip(" .\"'“”")
    if said in phrases:
        return phrases.index(said)
    if not lettered:
        return None
    letter = _WHOLE_LETTER.fullmatch(flat)
    if letter:
        return _option_of(letter[1].upper(), phrases)
    both = re.fullmatch(r"\(?([A-Za-z])[).:]{1,2}\s?(.*)", flat, re.DOTALL)
    option = _option_of(both[1].upper(), phrases) if both else None
    return option if both and option is not None and both[2].lower().rstrip(" .") == phrases[option] else None


def _option_of(letter: str, phrases: Sequence[str]) -> int | None:
    position = ascii_uppercase.index(letter)
    return position if position < len(phrases) else None


def _mentions(text: str, phrases: tuple[str, ...], lettered: bool) -> list[_Mention]:
    """Every place that names an option, in order; a letter within an option's text is part of that."""
    lowered = text.lower() if len(text.lower()) == len(text) else text
    places = {phrase: number for number, phrase in reversed(list(enumerate(phrases)))}
    found = [
        _Mention(*match.span(), places[match[0].replace("\n", " ")], False)
        for match in _finder(phrases).finditer(lowered)
    ]
    if not lettered:
        return found
    taken = bytearray(len(text) + 1)
    for one in found:
        taken[one.start : one.end] = b"\1" * (one.end - one.start)
    for match in _LETTER.finditer(text):
        letter = match["bracketed"] or match["named"] or match["article"] or match["bare"]
        option = _option_of(letter, phrases)
        if option is not None and not taken[match.start()]:
            found.append(_Mention(*match.span(), option, True))
    return sorted(found, key=lambda one: one.start)


@lru_cache(maxsize=256)
def _finder(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the options' texts as whole words, of two at one place the longer."""
    known = sorted({phrase for phrase in phrases if phrase}, key=len, reverse=True)
    either = "|".join(re.escape(phrase).replace(r"\ ", r"[ \n]") for phrase in known) or r"(?!)"
    return re.compile(rf"(?<![\w-])(?<![0-9][.,])(?:{either})(?!\w|-\w|[.,][0-9])")


def _stated(text: str, mentions: Sequence[_Mention]) -> set[int]:
    """The options that the reply says are the answer."""
    said: set[int] = set()
    starts = {one.start: position for position, one in enumerate(mentions)}
    for statement in _STATED.finditer(text):
        if _NOT.search(statement[0]):
            continue
        lead = _LEAD_IN.match(text, statement.end())
        reach = lead.end() if lead else statement.end()
        first = next((starts[at] for at in range(statement.end(), reach + 1) if at in starts), None)
        if first is not None:
            said |= _group(text, mentions, first)[0]
    for position, one in enumerate(mentions):
        if _CONFIRMED.match(text, one.end):
            said |= _group(text, mentions, position)[0]
    return said


def _leading(text: str, mentions: Sequence[_Mention]) -> set[int]:
    """The options that the reply begins with, where a clause ends behind them."""
    opening = _OPENING.match(text)
    if not mentions or opening is None or mentions[0].start > opening.end():
        return set()
    options, end = _group(text, mentions, 0)
    return options if _CLAUSE_END.match(text, end) else set()


def _group(text: str, mentions: Sequence[_Mention], first: int) -> tuple[set[int], int]:
    """The options of a mention and of what is joined to it ("B. the dog", "A, B or C"), and where that ends."""
    options = {mentions[first].option}
    last = mentions[first]
    for place in range(first + 1, len(mentions)):
        following = mentions[place]
        between = text[last.end : following.start]
        is_pair = last.is_letter and not following.is_letter and _PAIR.fullmatch(between)
        if not (is_pair or _LIST.fullmatch(between)):
            break
        options.add(following.option)
        last = following
    return options, last.end
