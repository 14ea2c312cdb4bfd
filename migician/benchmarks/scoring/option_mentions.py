"""Where a reply names the options of its question: by letter, by text, or by both ("B. the dog").

Never by substring: the "A" of "Answer" and the "no" of "nothing" name nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

_BOXED = re.compile(r"\\boxed\{([^{}]{0,200})\}")
_MARKUP = re.compile(r"[*`$]|\\text(?:bf|rm)?\b|</?s>|<\|[^|<>\n]{0,40}\|>")

_BEFORE_LETTER = r"(?<![A-Za-z0-9_'’-])"
_AFTER_LETTER = r"(?![A-Za-z0-9_'’-]|[.][A-Za-z0-9])"
# "A" and "I" are words too: alone they need a sign behind them, or a verb of choosing.
_SIGN = (
    r"(?=\s{0,2}(?:[).:,;!?|/&\"”}\]\n。，、；：！？）]|\Z)|[\u3400-\u9fff]"
    r"|[ ](?:and|or|nor|is|was|because|since)\b"
    r"|(?<=A)[ ](?:matches|fits|seems|appears|would|does|cannot|rather|instead)\b)"
)
_LETTER = re.compile(
    rf"""
    {_BEFORE_LETTER}
    (?: [(（[]\s?(?P<bracketed>[A-Z])\s?[)）\]]
      | (?i:\b(?:option|choice)|选项)[ ]?[(（]?
        (?: (?P<named>[B-HJ-Zb-hj-z]){_AFTER_LETTER} | (?P<named_word>[AIai]){_SIGN} )
      | (?i:image|picture|photo|frame|figure|view|point|box)[ ](?P<shown>[A-Z]){_AFTER_LETTER}
      | (?P<word>[AI]){_SIGN}
      | (?P<bare>[B-HJ-Z]){_AFTER_LETTER}
      | (?P<small> [(（]\s?[a-z]\s?[)）] | (?:[a-z](?=[).:,;!?"”}}\]。，]{{1,3}}(?:\s|\Z)) | [b-hj-z](?=\n|\Z)
          | (?<=nswer[ ]is[ ])[ai](?=\n|\Z) | (?<=nswer:[ ])[ai](?=\n|\Z)) (?![.][A-Za-z0-9]) )
    )
    """,
    re.VERBOSE,
)
# What stands between an option's letter and its text, and between two options of a list.
_PAIR = re.compile(r"[\s).:\]\"'“(=,（）：-]{0,6}(?:(?:is|the)\s)?", re.IGNORECASE)
_LIST = re.compile(
    r"[).\]\"'”]{0,3}[ ]?(?:[,/|;&、]|\b(?:and|or|nor)\b|和|或)"
    r"[ ,]{0,3}(?:(?:and|or|nor)[ ])?(?:the[ ])?[\"'“(\[]{0,2}",
    re.IGNORECASE,
)
_LIST_CONTINUES = re.compile(r"[)\].\"'”]{0,3}\s{0,3}(?:[,/|;&.!?、。\n]|(?:and|or|nor)\b|和|或|\Z)")


@dataclass(frozen=True, slots=True)
class Mention:
    """Options named together: one ("B", "B. the dog"), or a list of them ("A, B and C")."""

    start: int
    end: int
    options: frozenset[int]
    stated: frozenset[int]
    """The same, but of a letter and a text behind it that disagree only the letter, as the question asks for it."""
    letter: int | None
    """The option that the first letter stands for; None where the list begins with a text."""
    is_small: bool
    """Whether that is a lower-case letter, which names an option only where the reply states one."""


@dataclass(frozen=True, slots=True)
class _Name:
    start: int
    end: int
    option: int
    is_letter: bool
    is_small: bool = False


def clean(text: str) -> str:
    """`text` without the marks of Markdown, LaTeX and tokenizers, blanks made single, empty lines dropped.

    >>> clean("**Answer:** $\\\\boxed{B}$<|im_end|>")
    'Answer: B'
    """
    bare = _MARKUP.sub("", _BOXED.sub(r"\1", text))
    return "\n".join(filter(None, (" ".join(line.split()) for line in bare.splitlines())))


@lru_cache(maxsize=4096)
def phrase(option: str) -> str:
    """An option's text as it is looked for."""
    return " ".join(clean(option).split()).lower().rstrip(".").strip()


def option_of(letter: str, phrases: Sequence[str]) -> int | None:
    """The place of the option that a letter stands for; None beyond the last."""
    position = ascii_uppercase.index(letter.upper())
    return position if position < len(phrases) else None


def mentions(text: str, phrases: tuple[str, ...], lettered: bool) -> list[Mention]:
    """Every place of a cleaned text that names options, in order, lists joined; linear in the text."""
    found: list[Mention] = []
    names = _names(text, phrases, lettered)
    first = 0
    while first < len(names):
        last = first
        options, stated = {names[first].option}, {names[first].option}
        while last + 1 < len(names) and (joint := _joint(text, names[last], names[last + 1])):
            last += 1
            options.add(names[last].option)
            if joint == "list" or not names[last - 1].is_letter:
                stated.add(names[last].option)
        one = names[first]
        letter = one.option if one.is_letter else None
        found.append(Mention(one.start, names[last].end, frozenset(options), frozenset(stated), letter, one.is_small))
        first = last + 1
    return found


def _joint(text: str, one: _Name, following: _Name) -> str:
    """How two names belong together: "pair" (a letter and its text), "list", or "" where they do not."""
    between = text[one.end : following.start]
    if len(between) > 16 or (one.is_letter and following.is_letter and one.is_small != following.is_small):
        return ""
    is_both = one.is_letter != following.is_letter and "\n" not in between and _PAIR.fullmatch(between)
    if is_both and (one.is_letter or one.option == following.option or text[following.start] in "(（"):
        return "pair"
    if not _LIST.fullmatch(between):
        return ""
    only_comma = between.strip(" )].\"'”“([") in {",", ";"}
    return "list" if not only_comma or _LIST_CONTINUES.match(text, following.end) else ""


def _names(text: str, phrases: tuple[str, ...], lettered: bool) -> list[_Name]:
    """Every place that names one option, in order; a letter within an option's text is part of that."""
    lowered = text.lower() if len(text.lower()) == len(text) else text
    places = {known: number for number, known in reversed(list(enumerate(phrases)))}
    found = [
        _Name(*match.span(), places[match[0].replace("\n", " ")], False) for match in _finder(phrases).finditer(lowered)
    ]
    if not lettered:
        return found
    taken = bytearray(len(text) + 1)
    for one in found:
        taken[one.start : one.end] = b"\1" * (one.end - one.start)
    own = _speak_of_themselves(phrases)
    for match in _LETTER.finditer(text):
        kind = match.lastgroup or ""
        option = option_of(match[kind].strip("()（） "), phrases)
        # "Image B" names an option only where the options speak so of themselves.
        is_meant = option is not None and (kind != "shown" or own)
        if option is not None and is_meant and not taken[match.start()] and not taken[match.end() - 1]:
            found.append(_Name(*match.span(), option, True, kind == "small"))
    return sorted(found, key=lambda one: one.start)


@lru_cache(maxsize=256)
def _speak_of_themselves(phrases: tuple[str, ...]) -> bool:
    """Whether an option's text holds its own letter and no other's ("A is closer", "B is closer", "the same")."""
    letters = [
        {option_of(word, phrases) for word in re.findall(r"\b[a-z]\b", text)} - {None, 0 if number else None}
        for number, text in enumerate(phrases)
    ]
    named = [(number, found) for number, found in enumerate(letters) if found]
    return len(named) > 1 and all(found == {number} for number, found in named)


@lru_cache(maxsize=256)
def _finder(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the options' texts as whole words, of two at one place the longer."""
    known = sorted({text for text in phrases if text}, key=len, reverse=True)
    either = "|".join(re.escape(text).replace(r"\ ", r"[ \n]") for text in known) or r"(?!)"
    return re.compile(rf"(?<![\w-])(?<![0-9][.,])(?:{either})(?!\w|-\w|[.,][0-9])")
