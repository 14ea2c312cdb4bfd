"""Which option of a multiple-choice question a reply chooses.

A reply that settles on no option, or on several, is undecided; none is guessed. Every place that names
options is read for itself, by what stands before and behind it in its sentence; then the reply as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise, zip_longest

from migician.boxtext import final_answer
from migician.optionmentions import Mention, clean, mentions, option_of, phrase

_BEFORE, _BEHIND = 160, 120
"""How many characters before and behind a mention are read."""

_WHOLE_LETTER = re.compile(r"[\W_]{0,9}(?:(?:option|choice)[ ])?[\W_]{0,3}([A-Za-z])[\W_]{0,9}", re.IGNORECASE)
_WHOLE_PAIR = re.compile(r"\(?([A-Za-z])[).:]{1,2}\s?(.*)", re.DOTALL)

# A sentence ends at a full stop, and at a line's end unless a colon or "is" announces the next line.
_SENTENCE_END = re.compile(
    r"[.!?\n。！？；](?:(?<=[。！？；])|(?<=[.!?])(?=\s)|(?<=\n)(?<![:：]\n)(?<!\b[Ii]s\n)(?<!\b[Bb]e\n)(?<!nswer\n)(?<!NSWER\n))"
)
_LEAD = (
    r"[\s\"'“”‘’:：=(\[{]{0,6}(?:(?:most[ ]likely|likely|probably|definitely|clearly|therefore|thus|indeed|actually"
    r"|only|just|us[ ]with|with|the|an?|option|choice|letter|image|picture|point|box|answer|选项|选|是)[\s:：]{0,2}){0,4}[\"'“‘(\[]{0,3}\Z"
)
_IS = r"(?:\b(?:is|are|be|was)\b|['’]s\b|[:：=])"
_GOOD = r"(?:correct|right|best|final|true|most[ ]\w{1,20}|正确|对)"

_CHOICES = r"[^.?!]{0,60}\b(?:choices|options)\b(?:[ ]\w{1,12}){0,3}\s?(?:[:：]|\bare\b)"

# What says that the option behind it is the answer; without one of these words nothing does (a search that costs less).
_STATE_WORDS = ("answer", "correct", "right", "best", "final", "true", "most", "choos", "chose", "pick", "select")
_STATE_WORDS += ("go with", "opt for", "leav", "答", "选", "正", "对")
_STATES = re.compile(
    rf"""
    (?: \banswers?\b (?!{_CHOICES}) ["'”]{{0,2}} (?:(?:(?!is[ ]that\b|because\b|["'],)[^?]){{0,110}}? {_IS} | \s)
      | \b{_GOOD}[ ](?!{_CHOICES})(?:option|choice|one)\b (?!s) [^?]{{0,110}}? {_IS}
      | \b(?:i|we|i['’]d|would|will|should|must|to|can)[ ](?:\w{{2,12}}[ ])?(?:choose|pick|select|go[ ]with|opt[ ]for)
      | \b(?:choose|chose|picked|selected|choosing|selecting) | (?:^|[\n,.][ ]?)(?:pick|select|choose|go[ ]with)
      | \bleav(?:es?|ing)
      | 答案[^。？\n]{{0,20}}? (?:是|为|应为|[:：])? | 选择?
    ) {_LEAD}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONCLUDES = re.compile(
    rf"""\A\W{{0,6}}(?:and[ ])?(?:so|therefore|thus|hence|consequently|accordingly|in[ ](?:conclusion|summary)|overall|所以|因此|故
        |(?:based[ ]on|given)[ ](?:this|these|the[ ]above)[^,.\n]{{0,40}}(?=,))(?!\w)
    (?: [^?]{{0,150}}? {_IS} | [,，:\s]{{0,3}}(?:(?:it|that|i['’]d[ ]say|i[ ]say|i[ ]think)\b)?(?:['’]s)? ) {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
# ... and what takes an earlier word back: "Wait, actually C."
_CORRECTS = re.compile(
    rf"""\b(?:wait|actually|no|sorry|correction|i[ ]mean|on[ ]second[ ]thoughts?|不对)\b[\W]{{0,3}}
    (?:(?:actually|no|sorry|wait|i[ ]mean|(?:it|that)[ ](?:is|must[ ]be|should[ ]be)|(?:it|that)['’]s|make[ ](?:it|that))\b[\W]{{0,3}}){{0,3}} {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
# What says so where a clause ends behind the option, or where it is called right or likely.
_SAYS = re.compile(
    rf"\b(?:i|we)(?:['’]d|[ ]would|[ ]do|[ ]can|[ ]must)?[ ](?:say|think|believe|guess|conclude|vote[ ]for|prefer)\b(?:[^?,]{{0,90}}?{_IS}|[ ]that\b)?{_LEAD}",
    re.IGNORECASE,
)
_PREFERS = re.compile(
    rf"(?:\b(?:it|this|that|which)(?:['’]s|[ ](?:is|must[ ]be|would[ ]be|has[ ]to[ ]be|should[ ]be))|\bbut(?:[ ]rather)?){_LEAD}",
    re.IGNORECASE,
)
_ENDS_IS = re.compile(rf"{_IS}{_LEAD}", re.IGNORECASE)
_CLOSE = r"[)\]\"'”’]{0,3}"
_IS_ANSWER = re.compile(
    rf"""{_CLOSE}(?:[ ](?:is|was|seems|appears|would|must|should|has)(?:[ ]to)?(?:[ ]be)?
        (?:[ ](?:therefore|thus|clearly|indeed|overall)){{0,2}}[ ](?:the|my|our)(?:[ ]{_GOOD})?[ ](?:answer|choice|option|one)\b
      | [ ]?(?:是|为)(?:正确|最终)?的?答案)""",
    re.IGNORECASE | re.VERBOSE,
)
_IS_GOOD = re.compile(
    rf"""{_CLOSE}\s{{0,2}}(?:(?:is|seems|appears|would)\s(?:to\s)?(?:be\s)?(?:(?:the|therefore|thus|clearly|indeed)\s){{0,3}}
         (?:correct|right|best|likely|true|(?:more|most)\s(?:\w{{2,12}}ly\s)?(?:likely|probable|plausible|appropriate|suitable|fitting|accurate|similar|consistent|convincing|realistic|logical|reasonable))\b
         (?!\s(?:of|next|behind|in|about|on|above|below|side|under|near|beside|over|with|because\sof)\b)
      | :?\s?(?:best\s)?(?:matches|fits|corresponds)\b
      | 是?(?:正确|对的))""",
    re.IGNORECASE | re.VERBOSE,
)
# What turns an option down, before it and behind it.
_TURNS_DOWN = re.compile(
    r"(?:\b(?:not|neither|nor|never|cannot|no|except|than|unlike|rather[ ]than|instead[ ]of|(?:compared|opposed)[ ](?:to|with)"
    r"|versus|vs[.]?|(?:un|less[ ])likely|rul(?:e|es|ed|ing)[ ]out|(?:eliminat|exclud)(?:e|es|ed|ing)|(?:discard|reject)(?:s|ed|ing)?)"
    r"|n['’]t|不是|不选|排除|并非|不应该?选择?)"
    r"\s{0,2}(?:(?:be|in|the|an?|for|to|that|of|it|is|by|with|both|either|option|choice|选项|choos(?:e|ing)|pick|select|answer"
    r"|say|think)\s{1,2}){0,4}[\"'“(\[]{0,2}\Z",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:not|never|cannot|neither|nor|difficult|impossible)\b|n['’]t\b|不", re.IGNORECASE)
_BAD_WORDS = ("not", "n't", "n’t", "never", "wrong", "incorrect", "false", "invalid", "ruled", "eliminated", "excluded")
_BAD_WORDS += ("discarded", "rejected", "unlikely", "neither", "less", "错", "不")
_IS_BAD = re.compile(
    r"\b(?:not|never|cannot|wrong|incorrect|false|invalid|ruled[ ]out|eliminated|excluded|discarded|rejected|unlikely|neither|less[ ](?:likely|similar|accurate|suitable|appropriate|plausible|visually|closely))\b"
    r"|n['’]t\b|错|不",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\b(?:because|since|as|while|whereas|although|though|if)\b|[.!?](?=\s|\Z)|[。！？；\n]", re.IGNORECASE
)
_CLAUSE_END = re.compile(
    r"[)\]\"'”’}]{0,3}\s{0,2}(?:[.,;:!?\n。，；！]|\Z|[-–—]\s|(?:because|since|as)\b)", re.IGNORECASE
)
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
_SUPPOSES = re.compile(r"\b(?:if|whether)\b(?![ ](?:i|we|you)\b)|\bcould[ ]be\b", re.IGNORECASE)
# "B more closely matches ...", or an opening sentence that the next one gives reasons for.
_MORE = "nearer|farther|further|darker|lighter|brighter|larger|smaller|bigger|higher|lower|longer|shorter|taller|faster|older|younger"
_GIVES_REASON = re.compile(
    rf"(?:[^.?!\n]{{0,90}}?\b(?:more|most|best|better|closer|closest|{_MORE}|same|similar|match(?:es)?|corresponds|correct|shares)\b"
    r"|[^.?!\n]{0,60}?[.]\s{1,2}(?:this|the[ ]reason|here['’]?s?[ ](?:is[ ])?why|explanation|because)\b)",
    re.IGNORECASE,
)


class _Said(IntEnum):
    """What a reply says of the options that it names at one place; a higher word outweighs all lower ones."""

    TURNED_DOWN = 0
    NAMED = 1
    PREFERRED = 2
    CONCLUDED = 3
    STATED = 4


@dataclass(frozen=True, slots=True)
class _Claim:
    """Options, what the reply says of them, and where."""

    options: frozenset[int]
    weight: _Said
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
    claims = [claim for claim in everything if claim.weight is not _Said.TURNED_DOWN]
    strongest = max((claim.weight for claim in claims), default=_Said.TURNED_DOWN)
    if strongest < _Said.CONCLUDED:
        denied = max((match.end() for match in _DENIES.finditer(text)), default=0)
        claims = [claim for claim in claims if claim.end >= denied]
        strongest = max((claim.weight for claim in claims), default=_Said.TURNED_DOWN)
    if strongest < _Said.PREFERRED and _leads(text, found[0]) and 0 not in rows | items:
        return found[0].options
    if not claims:
        return frozenset()
    is_complete = claims[-1].end == len(text) and strongest >= _Said.CONCLUDED and text[-2:-1] != "\n"
    is_cut = not is_complete and (_is_cut_off(text) or (len(found) - 1 in items and found[-1].end == len(text)))
    floor = _Said.NAMED if is_cut and strongest < _Said.STATED else strongest
    weighed = [claim for claim in claims if claim.weight >= floor]
    together = frozenset[int]().union(*(claim.options for claim in weighed))
    if strongest is _Said.NAMED:
        is_doubted = any(claim.weight is _Said.TURNED_DOWN and claim.options & together for claim in everything)
        return frozenset() if len(together) == 1 and (is_cut or is_doubted) else together
    # The last word counts; but who says of three that each is the answer goes through the options.
    singles = {claim.options for claim in weighed if len(claim.options) == 1}
    if strongest is _Said.PREFERRED or is_cut or len(singles) > 2:
        return together
    last = max(place for place, claim in enumerate(claims) if claim.weight is strongest)
    return claims[last].options.union(*(claim.options for claim in claims[last:] if claim.weight >= _Said.CONCLUDED))


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
        said = _Said.STATED if place in own else _said(text, one, following, place in items - rows)
        if not one.is_small or said is _Said.STATED:
            is_asked = said is _Said.STATED and place not in own
            claims.append(_Claim(one.stated if is_asked else one.options, said, one.end))
    return claims


def _said(text: str, one: Mention, following: Mention | None, is_item: bool) -> _Said:
    """What the words around a mention say of it; what introduces a list of the options says nothing of an item."""
    before = "" if is_item else text[max(0, one.start - _BEFORE) : one.start]
    ends = [end.end() for end in _SENTENCE_END.finditer(before)]
    is_first = not is_item and not ends and one.start < _BEFORE
    before = (before[ends[-1] :] if ends else before).lstrip()
    if _TURNS_DOWN.search(before[-60:]):
        return _Said.TURNED_DOWN
    behind = text[one.end : one.end + _BEHIND]
    if behind[:4].lstrip(")]\"'”’} ").startswith(("?", "？")) or _SUPPOSES.search(before):
        return _Said.NAMED
    ends_clause, is_good = _CLAUSE_END.match(behind), _IS_GOOD.match(behind)
    if _IS_ANSWER.match(behind) or (_has(_STATE_WORDS, before) and _affirms(_STATES, before)):
        return _Said.STATED
    if (ends_clause and _CORRECTS.search(before)) or ((ends_clause or is_good) and _affirms(_SAYS, before)):
        return _Said.STATED
    clause = behind[: following.start - one.end] if following else behind
    if _is_bad(clause):
        return _Said.TURNED_DOWN
    is_last = ends_clause or one.letter is not None or not _ENDS_IS.search(before)
    if is_last and _affirms(_CONCLUDES, before):
        return _Said.CONCLUDED
    is_named = ends_clause and (_PREFERS if text[one.start] not in "(（" else _ENDS_IS).search(before)
    if is_good or is_named:
        return _Said.PREFERRED
    is_reasoned = is_first and _GIVES_REASON.match(text[one.start : one.end] + clause)
    return _Said.PREFERRED if is_reasoned else _Said.NAMED


def _has(words: Sequence[str], text: str) -> bool:
    """Whether any of `words` stands in `text`, be it within a word."""
    lowered = text.lower()
    return any(word in lowered for word in words)


def _affirms(words: re.Pattern[str], before: str) -> bool:
    """Whether `words` end right before an option, without a "not" in them."""
    match = words.search(before)
    return match is not None and _NOT.search(match[0]) is None


def _is_bad(clause: str) -> bool:
    """Whether the clause behind an option turns it down ("B is wrong", "B, which does not fit")."""
    if not _has(_BAD_WORDS, clause) or not _IS_BAD.search(clause):
        return False
    clause = clause.lstrip(").:]\"'”")
    reason = _REASON.search(clause)
    return _IS_BAD.search(clause[: reason.start()] if reason else _TURNS_DOWN.sub("", clause)) is not None


def _line(text: str, one: Mention) -> tuple[int, int] | None:
    """Begin and end of the line that is nothing but this mention; None where it stands among other words."""
    begin = text.rfind("\n", max(0, one.start - 8), one.start) + 1
    ended = _LINE_END.match(text, one.end)
    return (
        (begin, ended.end())
        if ended and (begin or one.start < 8) and _OPENING.fullmatch(text, begin, one.start)
        else None
    )


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
    """Whether the reply begins with this mention, and a clause ends behind it."""
    opening = _OPENING.match(text)
    return bool(opening and one.start <= opening.end() and _CLAUSE_END.match(text, one.end))


def _is_cut_off(text: str) -> bool:
    """Whether the reply ends within a sentence that is not its first."""
    tail = text[-400:]
    return not _ENDED.search(tail[-4:]) and (len(text) > 400 or re.search(r"[.!?]\s|[。！？；\n]", tail) is not None)
