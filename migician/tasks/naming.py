"""What a question may call a thing of a label: "a dog", "an hourglass", "scissors", "a monitor or TV".

Datasets write labels as they like: "Leather Shoes", "cell_phone", "sandal_(type_of_shoe)", "Picture/Frame", "tv". A few
rules make English of them, and the tables below hold what no rule knows. Read on the lists of COCO, both versions of
Objects365, ImageNet, LaSOT and TrackingNet; `tests/tasks/labels.tsv` has every phrase.
"""

from __future__ import annotations

import functools
import re

from migician.boxtext import reference

_BRACKETS = re.compile(r"\s*\([^()]*\)")
_SLASH = re.compile(r"\s*/\s*")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_OWN_ARTICLE = re.compile("(?:an?|the) ", re.IGNORECASE)
"""Captions as labels have one already."""
_VOWEL = re.compile("[AEIOUY]")
_OF = re.compile(" (?:or|of|with|in|on|for) ")
"""What follows the noun that decides."""
_SINGULAR_END = re.compile("(?:ss|us|is|ics)$")
_AS_YOU = re.compile(r"eu|ew|one(?:s|-|\b)|once|u(?:-|fo|k|rin|s[aeu]|t[eio])|uni(?![nm]|dent)", re.IGNORECASE)
"""Vowels that sound like a consonant: a European, a one-piece, a ukulele, a urinal, a utensil, a unicorn."""
_SILENT_H = re.compile("h(?:eir|onest|onou?r|our)", re.IGNORECASE)
_SPELT_WITH_VOWEL = re.compile(r"[AEFHILMNORSX](?:[A-Z]|-|\b)|8|1[18]\b")
"""What is read letter by letter and begins with a vowel sound: an SUV, an X-ray, an 8-ball."""


@functools.cache
def named_kind(label: str) -> str:
    """A label as a reference, with its article where English has one.

    >>> named_kind("Picture/Frame")
    '<|object_ref_start|>a picture or frame<|object_ref_end|>'
    """
    return reference(with_article(label))


@functools.cache
def with_article(label: str) -> str:
    """A label in English, with the article it takes: none before plurals and what is not counted.

    >>> [with_article(label) for label in ("SUV", "Street Lights", "unicycle", "broccoli", "wine_glass")]
    ['an SUV', 'street lights', 'a unicycle', 'broccoli', 'a wine glass']
    """
    plain = " ".join(_BRACKETS.sub("", label).replace("_", " ").split())
    if not any(letter.isalnum() for letter in plain):
        return label
    known = _PHRASES.get(plain.lower())
    if known is not None:
        return known
    words = _SLASH.sub(" or ", _cased(plain))
    if _OWN_ARTICLE.match(plain):
        return words[0].lower() + words[1:]
    if _takes_none(_OF.split(words)[0] or words):
        return words
    return f"{'an' if _begins_with_vowel(words) else 'a'} {words}"


def _cased(label: str) -> str:
    """In lower case, except acronyms and names."""
    is_mixed = any(letter.islower() for letter in label)

    def cased(word: re.Match[str]) -> str:
        text, small = word[0], word[0].lower()
        if len(text) == 1:  # an X-ray, a T-shirt, but "a" and "d" of "3d" as they are
            return text.upper() if label[word.end() : word.end() + 1] == "-" else text
        is_acronym = text.isupper() and (is_mixed or not _VOWEL.search(text))
        return _CAPITALS.get(small) or (text if is_acronym else small)

    return _WORD.sub(cased, label)


def _takes_none(head: str) -> bool:
    """Whether a noun takes no article: it is a plural, or what it names is not counted."""
    *_, before, last = ["", *head.lower().split()]
    if head.lower().startswith("other ") or last in _NO_ARTICLE or f"{before} {last}" in _NO_ARTICLE:
        return True
    return last in _PLURALS or (last.endswith("s") and last not in _SINGULARS and not _SINGULAR_END.search(last))


def _begins_with_vowel(words: str) -> bool:
    """By sound."""
    if _SPELT_WITH_VOWEL.match(words) or _SILENT_H.match(words):
        return True
    return not words[:2].isupper() and words[0].lower() in "aeiou" and not _AS_YOU.match(words)


_PROPER = """
    Border collie, Border terrier, Bouvier des Flandres, Chesapeake Bay retriever, Dandie Dinmont, Gordon setter,
    Great Dane, Great Pyrenees, Greater Swiss Mountain dog, Kerry Blue terrier, Model T, Norfolk terrier, Saint Bernard,
    Walker hound, West Highland white terrier
"""
"""Names of a kind whose words have capitals in no other label."""

_PHRASES = {" ".join(name.split()).lower(): f"a {' '.join(name.split())}" for name in _PROPER.split(",")} | {
    # Names that mean more or something else than they say.
    "american football": "an American football",
    "badminton": "a shuttlecock",
    "band aid": "a Band-Aid",
    "bar soap": "a bar of soap",
    "bread/bun": "bread or a bun",
    "canned": "canned food",
    "cosplay": "a person in costume",
    "crock pot": "a Crock-Pot",
    "curling": "a curling stone",
    "dancingshoe": "a dancing shoe",
    "electricfan": "an electric fan",
    "electronic stove and gas stove": "an electronic stove or gas stove",
    "extractor": "an extractor hood",
    "formula 1": "a Formula 1 car",
    "french": "a French horn",
    "gametarget": "a game target",
    "granny smith": "a Granny Smith apple",
    "head cabbage": "a head of cabbage",
    "head phone": "headphones",
    "hockey": "a hockey stick",
    "hotair balloon": "a hot-air balloon",
    "jean": "jeans",
    "kiwi fruit": "a kiwi fruit",
    "licenseplate": "a license plate",
    "meat ball": "a meatball",
    "meat balls": "meatballs",
    "misc": "an object",
    "old english sheepdog": "an Old English sheepdog",
    "pajama": "pajamas",
    "pine apple": "a pineapple",
    "racing": "a racing car",
    "rubiccube": "a Rubik's Cube",
    "rule": "a ruler",
    "sepia": "a cuttlefish",
    "skatingshoe": "a skating shoe",
    "sky": "the sky",
    "slot": "a slot machine",
    "soccer": "a soccer ball",
    "sunglass": "sunglasses",
    "table tennis": "a table tennis ball",
    "tea pot": "a teapot",
    "tennis": "a tennis ball",
    "toiletry": "toiletries",
    "tong": "tongs",
    "trash bin can": "a trash can",
    "upright": "an upright piano",
    "web site": "a website",
    "yoyo": "a yo-yo",
}
"""Whole labels, in lower case, without brackets."""

_NAMES = """
    ATM ATV BMX BMW CD CPR CRT DVD GPS HDTV LCD LED MP MRI PC PVC RV SUV TV UFO UPS USB VCR VHS iPad iPhone iPod
    Afghan African Airedale American Angora Appenzeller Arabian Arctic Asian Australian Bedlington Bernese Blenheim
    Boston Brabancon British Brittany Canadian Cheddar Chihuahua Chinese Christmas Doberman Dungeness Dutch Easter
    Egyptian English EntleBucher Eskimo European Ferris French German Gila Greek Hami Hawaiian Ibizan Indian Irish
    Italian Japanese Jeep Komodo Korean Labrador Lakeland Latin Lego Leonberg Lhasa Madagascar Maltese Mexican
    Newfoundland Norwegian Norwich Pekinese Pembroke Persian Petri Polaroid Pomeranian Rhodesian Roman Rottweiler
    Rubik Russian Saluki Samoyed Scotch Scottish Sealyham Shetland Shih Tzu Siamese Siberian Spanish Staffordshire
    Sussex Swiss Thai Tibetan Turkish Victorian Weimaraner Welsh Windsor Yorkshire
"""
_CAPITALS = {name.lower(): name for name in _NAMES.split()}
"""Acronyms and names: they keep their capitals, and get them where a dataset has none."""

_UNCOUNTED = """
    asparagus baggage bread broccoli candy carbonara cardboard cattle celery cheese cloth clothing coffee consomme corn
    cosmetics cream dough eggnog equipment fabric fire foliage food footwear fruit furniture garlic ginger glassware
    graffiti grass guacamole hair hay honey ice jewelry juice laundry lettuce lingerie lotion luggage machinery mail
    meat milk mud mustard notepaper okra paper parsley pasta perfume popcorn pottery powder produce rapeseed rice salt
    sand sauce seafood seaweed shampoo silverware smoke snow soap spaghetti spinach spray steam sugar sunscreen sushi
    tableware tape thatch tofu toothpaste traffic underwear vegetation velvet water wheat wine wood wool
"""
_NO_ARTICLE = frozenset([*_UNCOUNTED.split(), "mashed potato", "toilet tissue", "shower gel", "lettering", "seating"])
"""Nouns in lower case that take no article although they are not plurals."""

_PLURALS = frozenset(
    ["children", "feet", "geese", "men", "mice", "people", "police", "skis", "taxis", "teeth", "women"]
)
"""Plurals that do not look like plurals."""

_SINGULARS = frozenset(["atlas", "canvas", "christmas", "gas", "lens", "patas", "series", "species", "triceratops"])
"""Singulars that look like plurals."""
