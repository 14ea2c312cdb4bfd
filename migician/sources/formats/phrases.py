"""What a phrase is about: "a red cup on a table" is about a cup, "men wearing blue shirts" about a person.

A few rules and tables, made for the phrases of GranD; read on its files.
"""

from __future__ import annotations

import functools
import re

_REMEMBERED = 1 << 16
"""Texts whose words are kept: most are labels, which repeat."""
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_ARTICLES = frozenset(["a", "an", "the"])
_VERBS = frozenset(["is", "are", "was", "were", "has", "have", "can", "will", "there"])
_SHORTENED = frozenset(["it's", "he's", "she's", "there's", "they're"])
_RELATIVES = frozenset(["that", "which", "who", "whose", "where", "while", "as"])
_ENDS = _RELATIVES | frozenset(
    [
        *("about", "above", "across", "against", "along", "around", "at", "atop", "behind", "below", "beneath"),
        *("beside", "between", "by", "down", "for", "from", "hanging", "in", "inside", "into", "near", "next", "of"),
        *("off", "on", "onto", "out", "outside", "over", "through", "to", "under", "underneath", "up", "with"),
        *("without", "and", "closest", "nearest"),
    ]
)
"""What may follow the noun that a phrase is about, beside "-ing" and "-ed"."""
_THINGS_IN_ING = frozenset(
    [
        *("awning", "building", "ceiling", "clothing", "covering", "crossing", "drawing", "earring", "frosting"),
        *("icing", "king", "landing", "lettering", "lighting", "opening", "painting", "railing", "ring"),
        *("scaffolding", "seating", "siding", "sling", "spring", "stocking", "string", "swing", "wing", "wrapping"),
        *("writing",),
    ]
)
_PERSONS = frozenset(
    [
        *("person", "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "lady", "guy", "gentleman"),
        *("pedestrian", "player", "skier", "surfer", "rider", "worker", "tourist", "adult", "teenager"),
    ]
)
"""Whoever has one of these labels may be called by another."""
_IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child"}


def is_clause(phrase: str) -> bool:
    """Whether a phrase is a sentence rather than a name.

    >>> is_clause("the chair is red"), is_clause("a chair that is closest to the camera")
    (True, False)
    """
    for word in _WORD.findall(phrase.lower()):
        if word in _RELATIVES:
            return False
        if word in _VERBS or word in _SHORTENED:
            return True
    return False


def names(phrase: str, label: str) -> bool:
    """Whether a phrase is about what `label` says, not merely mentions it.

    >>> [names("a red cup on a table", label) for label in ("cup", "table")]
    [True, False]
    >>> names("man wearing blue shirt", "person"), names("a chair leg", "chair"), names("a glass", "wineglass")
    (True, False, True)
    """
    *_, noun = ["", *_WORD.findall(label.lower())]
    named = kind_of(_singular(noun))
    return any(kind_of(word) == named or (len(word) > 3 and named.endswith(word)) for word in nouns(phrase))


@functools.lru_cache(_REMEMBERED)
def nouns(text: str) -> tuple[str, ...]:
    """The words that a phrase, a sentence or a label is about, in the singular.

    >>> nouns("two men sitting on a bench"), nouns("the table and chairs closest to the camera")
    (('man',), ('table', 'chair'))
    """
    found = []
    words = [*(word for word in _WORD.findall(text.lower()) if word not in _ARTICLES), "of", "of"]
    for word, following, after in zip(words, words[1:], words[2:], strict=False):
        if word in _VERBS or (word in _ENDS and word != "and"):
            break
        is_verbal = _is_verbal(following, after)
        if following in _ENDS or following in _VERBS or is_verbal:
            found.append(_singular(word))
        if is_verbal:
            break
    return tuple(found)


def _is_verbal(word: str, following: str) -> bool:
    """Whether a word begins what a noun does or has done to it: "wearing a hat", "covered with snow"."""
    if word.endswith("ing"):
        return word not in _THINGS_IN_ING
    return len(word) > 4 and word.endswith("ed") and following in _ENDS  # not "red and blue"


def kind_of(noun: str) -> str:
    """What a noun counts as: all words for a person are one.

    >>> kind_of("woman"), kind_of("cup")
    ('person', 'cup')
    """
    return "person" if noun in _PERSONS else noun


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@functools.lru_cache(_REMEMBERED)
def key_words(text: str) -> frozenset[str]:
    """What counts in a comparison of two phrases."""
    return frozenset(kind_of(_singular(word)) for word in _WORD.findall(text.lower().replace("-", " "))) - _ARTICLES
