"""What a reply says of the options that it names at one place, by the words before and behind them.

Read are the mention's own sentence, or what a colon announces it with, and the clause behind it. "Not" within
such words takes them back; a supposition ("if it barks, it is B") or a question says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum

from migician.benchmarks.scoring.option_mentions import Mention

_BEFORE, _BEHIND = 160, 120
"""How many characters before and behind a mention are read."""

# A sentence ends at a full stop, and at a line's end unless a colon or "is" announces the next line.
_SENTENCE_END = re.compile(
    r"[.!?\n。！？；](?:(?<=[。！？；])|(?<=[.!?])(?=\s)|(?<=\n)(?<![:：]\n)(?<!\b[Ii]s\n)(?<!\b[Bb]e\n)(?<!nswer\n)(?<!NSWER\n))"
)
# What may stand between such words and the option itself.
_LEAD = (
    r"[\s\"'“”‘’:：=(\[{]{0,6}"
    r"(?:(?:most[ ]likely|likely|probably|definitely|clearly|therefore|thus|indeed|actually|only|just|us[ ]with|with"
    r"|the|an?|option|choice|letter|image|picture|point|box|answer|选项|选|是)[\s:：]{0,2}){0,4}[\"'“‘(\[]{0,3}\Z"
)
_IS = r"(?:\b(?:is|are|be|was)\b|['’]s\b|[:：=])"
_GOOD = r"(?:correct|right|best|final|true|most[ ]\w{1,20}|正确|对)"

_CHOICES = r"[^.?!]{0,60}\b(?:choices|options)\b(?:[ ]\w{1,12}){0,3}\s?(?:[:：]|\bare\b)"

# What says that the option behind it is the answer; without one of these words nothing does (a search that costs less).
_STATE_WORDS: tuple[str, ...] = (
    "answer",
    "correct",
    "right",
    "best",
    "final",
    "true",
    "most",
    "choos",
    "chose",
    "pick",
    "select",
)
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
    rf"""\A\W{{0,6}}(?:and[ ])?(?:so|therefore|thus|hence|consequently|accordingly|in[ ](?:conclusion|summary)|overall
        |所以|因此|故|(?:based[ ]on|given)[ ](?:this|these|the[ ]above)[^,.\n]{{0,40}}(?=,))(?!\w)
    (?: [^?]{{0,150}}? {_IS} | [,，:\s]{{0,3}}(?:(?:it|that|i['’]d[ ]say|i[ ]say|i[ ]think)\b)?(?:['’]s)? ) {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
# ... and what takes an earlier word back: "Wait, actually C."
_CORRECTS = re.compile(
    rf"""\b(?:wait|actually|no|sorry|correction|i[ ]mean|on[ ]second[ ]thoughts?|不对)\b\W{{0,3}}
    (?:(?:actually|no|sorry|wait|i[ ]mean|(?:it|that)(?:['’]s|[ ](?:is|must[ ]be|should[ ]be))|make[ ](?:it|that))
        \b\W{{0,3}}){{0,3}}
    {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
# What says so where a clause ends behind the option, or where it is called right or likely.
_SAYS = re.compile(
    rf"""\b(?:i|we)(?:['’]d|[ ]would|[ ]do|[ ]can|[ ]must)?[ ](?:say|think|believe|guess|conclude|vote[ ]for|prefer)\b
    (?:[^?,]{{0,90}}?{_IS}|[ ]that\b)? {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
_PREFERS = re.compile(
    rf"""(?:\b(?:it|this|that|which)(?:['’]s|[ ](?:is|must[ ]be|would[ ]be|has[ ]to[ ]be|should[ ]be))
    |\bbut(?:[ ]rather)?) {_LEAD}""",
    re.IGNORECASE | re.VERBOSE,
)
_ENDS_IS = re.compile(rf"{_IS}{_LEAD}", re.IGNORECASE)
_CLOSE = r"[)\]\"'”’]{0,3}"
_IS_ANSWER = re.compile(
    rf"""{_CLOSE}(?:[ ](?:is|was|seems|appears|would|must|should|has)(?:[ ]to)?(?:[ ]be)?
        (?:[ ](?:therefore|thus|clearly|indeed|overall)){{0,2}}
        [ ](?:the|my|our)(?:[ ]{_GOOD})?[ ](?:answer|choice|option|one)\b
      | [ ]?(?:是|为)(?:正确|最终)?的?答案)""",
    re.IGNORECASE | re.VERBOSE,
)
_LIKELY = r"""(?:more|most)[ ](?:\w{2,12}ly[ ])?(?:likely|probable|plausible|appropriate|suitable|fitting|accurate
    |similar|consistent|convincing|realistic|logical|reasonable)"""
_IS_GOOD = re.compile(
    rf"""{_CLOSE}\s{{0,2}}
    (?: (?:is|seems|appears|would)\s(?:to\s)?(?:be\s)?(?:(?:the|therefore|thus|clearly|indeed)\s){{0,3}}
        (?:correct|right|best|likely|true|{_LIKELY})\b
        (?!\s(?:of|next|behind|in|about|on|above|below|side|under|near|beside|over|with|because\sof)\b)
      | :?\s?(?:best\s)?(?:matches|fits|corresponds)\b
      | 是?(?:正确|对的) )""",
    re.IGNORECASE | re.VERBOSE,
)
# What turns an option down, before it and behind it.
_TURNS_DOWN = re.compile(
    r"""(?: \b(?:not|neither|nor|never|cannot|no|except|than|unlike|rather[ ]than|instead[ ]of
            |(?:compared|opposed)[ ](?:to|with)|versus|vs[.]?|(?:un|less[ ])likely
            |rul(?:e|es|ed|ing)[ ]out|(?:eliminat|exclud)(?:e|es|ed|ing)
            |(?:discard|reject)(?:s|ed|ing)?)
      | n['’]t | 不是 | 不选 | 排除 | 并非 | 不应该?选择? )
    \s{0,2}(?:(?:be|in|the|an?|for|to|that|of|it|is|by|with|both|either|option|choice|选项|choos(?:e|ing)|pick|select|answer
            |say|think)\s{1,2}){0,4}["'“(\[]{0,2}\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_ASKED = re.compile(r"[)\]\"'”’} ]{0,3}[?？](?:\s{0,2}(?P<no>(?:no|nope|not)\b))?", re.IGNORECASE)
_NOT = re.compile(r"\b(?:not|never|cannot|neither|nor|difficult|impossible)\b|n['’]t\b|不", re.IGNORECASE)
_BAD_WORDS: tuple[str, ...] = (
    "not",
    "n't",
    "n’t",
    "never",
    "wrong",
    "incorrect",
    "false",
    "invalid",
    "ruled",
    "eliminated",
    "excluded",
)
_BAD_WORDS += ("discarded", "rejected", "unlikely", "neither", "less", "错", "不")
_IS_BAD = re.compile(
    r"""\b(?:not|never|cannot|wrong|incorrect|false|invalid|ruled[ ]out|eliminated|excluded|discarded|rejected|unlikely
          |neither|less[ ](?:likely|similar|accurate|suitable|appropriate|plausible|visually|closely))\b
    | n['’]t\b | 错 | 不""",
    re.IGNORECASE | re.VERBOSE,
)
_REASON = re.compile(
    r"\b(?:because|since|as|while|whereas|although|though|if)\b|[.!?](?=\s|\Z)|[。！？；\n]", re.IGNORECASE
)
CLAUSE_END = re.compile(
    r"[)\]\"'”’}]{0,3}\s{0,2}(?:[.,;:!?\n。，；！]|\Z|[-–—]\s|(?:because|since|as)\b)", re.IGNORECASE
)
_SUPPOSES = re.compile(r"\b(?:if|whether)\b(?![ ](?:i|we|you)\b)|\bcould[ ]be\b", re.IGNORECASE)
# "B more closely matches ...", or an opening sentence that the next one gives reasons for.
_GIVES_REASON = re.compile(
    r"""[^.?!\n]{0,90}?\b(?:more|most|best|better|closer|closest|nearer|farther|further|darker|lighter|brighter|larger|smaller
          |bigger|higher|lower|longer|shorter|taller|faster|older|younger|same|similar|match(?:es)?|corresponds|correct|shares)\b
    | [^.?!\n]{0,60}?[.]\s{1,2}(?:this|the[ ]reason|here['’]?s?[ ](?:is[ ])?why|explanation|because)\b""",
    re.IGNORECASE | re.VERBOSE,
)


class Said(IntEnum):
    """What a reply says of the options that it names at one place; a higher word outweighs all lower ones."""

    TURNED_DOWN = 0
    NAMED = 1
    PREFERRED = 2
    CONCLUDED = 3
    STATED = 4


def what_is_said(text: str, one: Mention, following: Mention | None, is_item: bool) -> Said:
    """What the words around a mention say of it; what introduces a list of the options says nothing of an item."""
    before = "" if is_item else text[max(0, one.start - _BEFORE) : one.start]
    ends = [end.end() for end in _SENTENCE_END.finditer(before)]
    is_first = not is_item and not ends and one.start < _BEFORE
    before = (before[ends[-1] :] if ends else before).lstrip()
    if _TURNS_DOWN.search(before[-60:]):
        return Said.TURNED_DOWN
    behind = text[one.end : one.end + _BEHIND]
    if asked := _ASKED.match(behind):
        return Said.TURNED_DOWN if asked["no"] else Said.NAMED
    if _SUPPOSES.search(before):
        return Said.NAMED
    ends_clause, is_good = CLAUSE_END.match(behind), _IS_GOOD.match(behind)
    if _IS_ANSWER.match(behind) or (_has(_STATE_WORDS, before) and _affirms(_STATES, before)):
        return Said.STATED
    if (ends_clause and _CORRECTS.search(before)) or ((ends_clause or is_good) and _affirms(_SAYS, before)):
        return Said.STATED
    clause = behind[: following.start - one.end] if following else behind
    if _is_bad(clause):
        return Said.TURNED_DOWN
    is_last = ends_clause or one.letter is not None or not _ENDS_IS.search(before)
    if is_last and _affirms(_CONCLUDES, before):
        return Said.CONCLUDED
    is_named = ends_clause and (_ENDS_IS if text[one.start] in "(（" else _PREFERS).search(before)
    if is_good or is_named:
        return Said.PREFERRED
    is_reasoned = is_first and _GIVES_REASON.match(text[one.start : one.end] + clause)
    return Said.PREFERRED if is_reasoned else Said.NAMED


def _has(words: Sequence[str], text: str) -> bool:
    """Whether any of `words` stands in `text`, even within a word."""
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
