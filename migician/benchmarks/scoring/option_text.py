"""Which option of a multiple-choice question a reply chooses.

A reply that settles on no option, or on several, is undecided; none is guessed. Every place that names
options is read for itself, by what stands before and behind it in its sentence; then the reply as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from migician.benchmarks.scoring.option_mentions import Mention, clean, mentions, option_of, phrase
from migician.benchmarks.scoring.option_words import CLAUSE_END, Said, what_is_said
from migician.boxtext import final_answer

_WHOLE_LETTER = re.compile(r"[\W_]{0,9}(?:(?:option|choice)[ ])?[\W_]{0,3}([A-Za-z])[\W_]{0,9}", re.IGNORECASE)
_WHOLE_PAIR = re.compile(r"\(?([A-Za-z])[).:]{1,2}\s?(.*)", re.DOTALL)
_LINE_END = re.compile(r"[)\]\"'”’}.,:;!。 ]{0,6}(?:\n|\Z)")
_HEAD = re.compile(r"(?:\A|(?<=\n)|(?<=[.;-][ ]))(?:(?i:option|choice)[ ])?\(?[A-Z](?:[).:]|\n|\Z| -|, )")
_OPENING = re.compile(r"[\s\"'“‘(\[{>#-]{0,6}")
_ENDED = re.compile(r"[.!?。！？)\]}\"'”’>*…:~]\s*\Z")
_DENIES = re.compile(
    r"\bnone[ ]of[ ](?:the|these|them)\b(?![ ]other)|\bneither[ ]of\b|\bno[ ]correct[ ](?:answer|option)"
    r"|\b(?:cannot|can['’]t|not[ ]possible[ ]to|impossible[ ]to|unable[ ]to)[ ](?:\w{2,14}[ ]){0,3}?"
    r"(?:determined?|choose|select|answer(?:ed)?|identify|make)\b(?![^.\n]{0,30}certain)",
    re.IGNORECASE,
)


_ASKED = re.compile(r"[)\].\"'”]{0,3}\?\s{0,3}\S")


@dataclass(frozen=True, slots=True)
class _Claim:
    """Options, what the reply says of them, and where."""

    options: frozenset[int]
    weight: Said
    end: int


def read_option(reply: str, options: Sequence[str], lettered: bool) -> tuple[int, ...]:
    """The options (0-based) that a reply settles on: one where it decides, none or several where it does not.

    Only the final answer is read (see `boxtext.final_answer`). `lettered` says whether the question
    showed letters, so that "B" stands for the second option. The rules, in order, are in
    docs/evaluation.md. Never raises; linear in the reply.

    >>> read_option("Answer: b.", ["a cat", "a dog"], lettered=True)
    (1,)
    >>> read_option("A dog, I think.", ["a cat", "a dog"], lettered=True)
    (1,)
    >>> read_option("Final answer: B. Wait, actually A.", ["a cat", "a dog"], lettered=True)
    (0,)
    >>> read_option("Either A or B", ["a cat", "a dog"], lettered=True)
    (0, 1)
    """
    phrases = tuple(phrase(option) for option in options)
    text = clean(final_answer(reply))
    whole = _whole(text, phrases, lettered)
    if whole is not None:
        return (whole,)
    found = mentions(text, phrases, lettered)
    return tuple(sorted(_settled(text, found)))


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
        return option_of(letter[1], phrases)
    both = _WHOLE_PAIR.match(flat)
    option = option_of(both[1], phrases) if both else None
    return option if both and option is not None and both[2].lower().rstrip(" .") == phrases[option] else None


def _settled(text: str, found: Sequence[Mention]) -> frozenset[int]:
    """The options that a reply settles on, of all the places where it names some."""
    if not found:
        return frozenset()
    rows, items = _rows(text, found), _items(text, found)
    everything = _claims(text, found, rows, items)
    claims = [claim for claim in everything if claim.weight is not Said.TURNED_DOWN]
    strongest = max((claim.weight for claim in claims), default=Said.TURNED_DOWN)
    if strongest < Said.CONCLUDED:
        denied = max((match.end() for match in _DENIES.finditer(text)), default=0)
        claims = [claim for claim in claims if claim.end >= denied]
        strongest = max((claim.weight for claim in claims), default=Said.TURNED_DOWN)
    if strongest < Said.PREFERRED and _leads(text, found[0]) and 0 not in rows | items:
        return found[0].options
    if not claims:
        return frozenset()
    # An answer may end a reply without a full stop; a list's next item, or a lone letter below, may be its cut end.
    ends_named = found[-1].end == len(text)
    if ends_named and strongest >= Said.CONCLUDED and text[-2:-1] != "\n":
        is_cut = False
    else:
        is_cut = _is_cut_off(text) or (ends_named and len(found) - 1 in items)
    floor = Said.NAMED if is_cut and strongest < Said.STATED else strongest
    weighed = [claim for claim in claims if claim.weight >= floor]
    together = frozenset[int]().union(*(claim.options for claim in weighed))
    if strongest is Said.NAMED:
        is_doubted = any(claim.weight is Said.TURNED_DOWN and claim.options & together for claim in everything)
        return frozenset() if len(together) == 1 and (is_cut or is_doubted) else together
    # The last word counts; but who says of three that each is the answer goes through the options.
    singles = {claim.options for claim in weighed if len(claim.options) == 1}
    if strongest is Said.PREFERRED or is_cut or len(singles) > 2:
        return together
    last = max(place for place, claim in enumerate(claims) if claim.weight is strongest)
    return claims[last].options.union(*(claim.options for claim in claims[last:] if claim.weight >= Said.CONCLUDED))


def _claims(text: str, found: Sequence[Mention], rows: set[int], items: set[int]) -> list[_Claim]:
    """What a reply says of the options, place by place; the lines of a row together."""
    own = {place for place in (0, len(found) - 1) if place not in rows | items and _is_own(text, found[place])}
    if found[0].letter is not None and _leads(text, found[0]) and 0 not in rows | items:
        own.add(0)
    claims: list[_Claim] = []
    for place, (one, following) in enumerate(zip_longest(found, found[1:])):
        if place in rows and place - 1 in rows:
            previous = claims.pop()
            claims.append(_Claim(previous.options | one.options, previous.weight, one.end))
            continue
        said = Said.STATED if place in own else what_is_said(text, one, following, place in items - rows)
        if not one.is_small or said is Said.STATED:
            is_asked = said is Said.STATED and place not in own
            claims.append(_Claim(one.stated if is_asked else one.options, said, one.end))
    return claims


def _line(text: str, one: Mention) -> tuple[int, int] | None:
    """Begin and end of the line that is nothing but this mention; None where it stands among other words."""
    begin = text.rfind("\n", max(0, one.start - 8), one.start) + 1
    ended = _LINE_END.match(text, one.end)
    is_alone = (begin or one.start < 8) and _OPENING.fullmatch(text, begin, one.start)
    return (begin, ended.end()) if ended and is_alone else None


def _is_own(text: str, one: Mention) -> bool:
    """Whether the reply's first or last line is nothing but this mention."""
    line = _line(text, one)
    return line is not None and (line[0] == 0 or line[1] == len(text))


def _rows(text: str, found: Sequence[Mention]) -> set[int]:
    """The mentions that are whole lines, one right below the other: a list of the options."""
    lines = [_line(text, one) for one in found]
    rows: set[int] = set()
    for place, (line, below) in enumerate(pairwise(lines)):
        if line and below and line[1] == below[0] and found[place].options != found[place + 1].options:
            rows |= {place, place + 1}
    return rows


def _items(text: str, found: Sequence[Mention]) -> set[int]:
    """The mentions that are items of a list of the options: lines or sentences that begin "A: ...", "B: ..."."""
    heads = [place for place, one in enumerate(found) if one.letter is not None and _HEAD.match(text, one.start)]
    items: set[int] = set()
    for one, following in pairwise(heads):
        if (found[following].letter or 0) - (found[one].letter or 0) == 1:
            items |= {one, following}
    return items


def _leads(text: str, one: Mention) -> bool:
    """Whether the reply begins with this mention, and a clause ends behind it; not one that it asks itself."""
    opening = _OPENING.match(text)
    begins = opening and one.start <= opening.end() and CLAUSE_END.match(text, one.end)
    return bool(begins and not _ASKED.match(text, one.end))


def _is_cut_off(text: str) -> bool:
    """Whether the reply ends within a sentence that is not its first."""
    tail = text[-400:]
    return not _ENDED.search(tail[-4:]) and (len(text) > 400 or re.search(r"[.!?]\s|[。！？；\n]", tail) is not None)
