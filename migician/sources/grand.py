"""GranD's descriptions of SA-1B images: regions with labels, scores and phrases, one file an image.

    {"sa_310343.jpg": {
        "objects": [{"id": 0, "bbox": [532.81, 76.06, 1485.48, 1299.86], "score": 1.0, "labels": ["hot-air_balloon"],
                     "attributes": ["Assistant: a yellow, red and blue hot air balloon"]}, ...],
        "floating_objects": [the same ...],
        "floating_attributes": [{"bbox": [...], "labels": [], "score": 0.61, "attributes": ["red lettering on ..."]}],
        "relationships": {"grounding": [{"phrase": "a hot air balloon", "object_ids": [0]}, ...], ...}, ...}}

`attributes` are a list, one text or null; what was found from a caption alone has no score. A bbox is x1, y1, x2, y2 in
pixels and may leave the image, by 20 pixels and more (seen in sa_302406 and sa_310343 of level_3_dense_caption;
pipeline: mbzuai-oryx/groundingLMM at a444d843, GranD/). Several models wrote the phrases, and not all of them name the
region: "the chair is red" is a sentence, "white and red logo on the kite" is about a balloon.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import read_json
from migician.scenes import Tally, Thing
from migician.sources.reading import clipped

LEAST_SCORE = 0.5
"""Of a region that is asked for. Below it, many of a detector's labels are wrong: a part of a balloon is a "zebra"."""

_REMEMBERED = 1 << 16
"""Texts whose words are kept: most are labels, which repeat."""
_SPEECH = re.compile(r"^\W*(?:assistant|istant)\s*:\s*", re.IGNORECASE)
"""What the describing model left before some of the phrases."""
_MARKUP = re.compile(r"[<>|\[\]{}]")
"""Signs of image marks, box tokens and models' slips: no phrase of words needs them."""
_BRACKETS = re.compile(r"\s*\([^()]*\)")
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
        *(
            "awning",
            "building",
            "ceiling",
            "clothing",
            "covering",
            "crossing",
            "drawing",
            "earring",
            "frosting",
            "icing",
        ),
        *(
            "king",
            "landing",
            "lettering",
            "lighting",
            "opening",
            "painting",
            "railing",
            "ring",
            "scaffolding",
            "seating",
        ),
        *("siding", "sling", "spring", "stocking", "string", "swing", "wing", "wrapping", "writing"),
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


class _Object(msgspec.Struct, frozen=True):
    """One region; files differ in what they give."""

    id: int | None = None
    bbox: list[float] | None = None
    score: float | None = None
    labels: list[str] | str | None = None
    attributes: list[str] | str | None = None
    segmentation_source: str | None = None


class _Grounding(msgspec.Struct, frozen=True):
    phrase: str = ""
    object_ids: list[int] | None = None


class _Relationships(msgspec.Struct, frozen=True):
    grounding: list[_Grounding] | None = None


class _Described(msgspec.Struct, frozen=True):
    objects: list[_Object] | None = None
    floating_objects: list[_Object] | None = None
    floating_attributes: list[_Object] | None = None
    relationships: _Relationships | None = None


@dataclass(frozen=True, slots=True)
class _Region:
    object: _Object
    labels: list[str]
    """None of a floating attribute: only its phrases say what it is."""
    phrases: list[str]

    @property
    def label(self) -> str:
        """The first one; empty where there is none."""
        return self.labels[0] if self.labels else ""


def read_grand(file: Path, image: str, size: Size, tally: Tally) -> tuple[list[Thing], set[str]]:
    """The things of `image`, which has `size`, by its file; and the labels that are there without a box of their own.

    A thing has the first of its labels, empty where it has none, and the first of its phrases that names it and fits
    no other region of the image, empty where there is none. Further labels are in the set: the thing itself may be
    meant by them; so are those of regions below `LEAST_SCORE` or without a usable box. Boxes are clipped to the image.
    Everything left out is counted. Raises `UserError` naming the file and the place of what cannot be read.
    """
    content = read_json(file, dict[str, _Described], "a file of GranD")
    described = content.get(image) or content.get(Path(image).stem)
    if described is None:
        raise UserError(f"{file}: does not describe {image}; it names {', '.join(list(content)[:3]) or 'nothing'}")
    regions = list(_regions(described, tally))
    said = _Said(regions)
    things: list[Thing] = []
    unboxed: set[str] = set()
    for place, region in enumerate(regions):
        box = _box(region.object, size, tally)
        if box is None:
            unboxed.update(region.labels)
            continue
        phrase = _phrase(place, region, said, tally)
        if region.label or phrase:
            things.append(Thing(box, region.label, phrase))
        else:
            tally.add("object of GranD without a label or phrase")
        unboxed.update(label for label in region.labels[1:] if label != region.label)
        if region.label and said.elsewhere(region.label, place):
            unboxed.add(region.label)
    return things, unboxed


class _Said:
    """All that is said of the regions of an image, by the nouns it is about."""

    def __init__(self, regions: list[_Region]) -> None:
        self._by_noun: dict[str, list[tuple[int, frozenset[str]]]] = {}
        for place, region in enumerate(regions):
            for text in (*region.labels, *region.phrases):
                words = _words(text)
                for noun in _nouns(text):
                    self._by_noun.setdefault(_kind(noun), []).append((place, words))

    def elsewhere(self, text: str, place: int) -> bool:
        """Whether another region than that at `place` is said to be what `text` says, or more than that."""
        words = _words(text)
        return any(
            at != place and words <= others
            for noun in _nouns(text)
            for at, others in self._by_noun.get(_kind(noun), [])
        )


def _regions(described: _Described, tally: Tally) -> Iterator[_Region]:
    """All regions, each with the phrases of its own and those that captions have for it alone."""
    objects = [*(described.objects or []), *(described.floating_objects or [])]
    known = {one.id for one in objects}
    grounded: dict[int | None, list[str]] = {}
    for one in (described.relationships.grounding or []) if described.relationships else []:
        ids = one.object_ids or []
        if len(ids) == 1 and ids[0] in known:
            grounded.setdefault(ids[0], []).append(one.phrase)
        else:
            tally.add("phrase of several objects" if len(ids) > 1 else "phrase of an object that is not there")
    for region in (*objects, *(described.floating_attributes or [])):
        # A "car_(automobile)" and a "car" are one kind.
        labels = _texts(_BRACKETS.sub("", label.replace("_", " ")) for label in _several(region.labels))
        given = [*_several(region.attributes), *(grounded.get(region.id, []) if region.id is not None else [])]
        phrases = _texts(_SPEECH.sub("", text) for text in given)
        if len(phrases) < len(given):
            tally.add("phrase that is empty or holds markup", len(given) - len(phrases))
        yield _Region(region, labels, list(dict.fromkeys(phrases)))


def _box(one: _Object, size: Size, tally: Tally) -> Box | None:
    if one.score is not None and not one.score >= LEAST_SCORE:
        tally.add(f"object of GranD with a score below {LEAST_SCORE}")
        return None
    if one.bbox is None or len(one.bbox) != 4:
        tally.add("object of GranD without a box")
        return None
    x1, y1, x2, y2 = one.bbox
    if one.segmentation_source == "SAM":  # taken from SA-1B's own bbox, so it ends on the mask's last pixel
        x2, y2 = x2 + 1, y2 + 1
    if x2 - x1 < 1 or y2 - y1 < 1:
        tally.add("box of GranD smaller than a pixel")
        return None
    return clipped(Box.from_pixels(x1, y1, x2, y2, size), tally)


def _phrase(place: int, region: _Region, said: _Said, tally: Tally) -> str:
    """The first phrase that names the region and fits no other; empty where there is none."""
    usable = []
    for phrase in region.phrases:
        if _is_clause(phrase):
            tally.add("phrase that is a sentence")
        elif region.label and not _names(phrase, region.label):
            tally.add("phrase that names another thing than the label")
        elif said.elsewhere(phrase, place):
            tally.add("phrase that fits another object of the image")
        else:
            usable.append(phrase)
    return usable[0] if usable else ""


def _is_clause(phrase: str) -> bool:
    """Whether a phrase is a sentence rather than a name.

    >>> _is_clause("the chair is red"), _is_clause("a chair that is closest to the camera")
    (True, False)
    """
    for word in _WORD.findall(phrase.lower()):
        if word in _RELATIVES:
            return False
        if word in _VERBS or word in _SHORTENED:
            return True
    return False


def _names(phrase: str, label: str) -> bool:
    """Whether a phrase is about what `label` says, not merely mentions it.

    >>> [_names("a red cup on a table", label) for label in ("cup", "table")]
    [True, False]
    >>> _names("man wearing blue shirt", "person"), _names("a chair leg", "chair"), _names("a glass", "wineglass")
    (True, False, True)
    """
    *_, noun = ["", *_WORD.findall(label.lower())]
    named = _kind(_singular(noun))
    return any(_kind(word) == named or (len(word) > 3 and named.endswith(word)) for word in _nouns(phrase))


@functools.lru_cache(_REMEMBERED)
def _nouns(text: str) -> tuple[str, ...]:
    """The words that a phrase, a sentence or a label is about, in the singular.

    >>> _nouns("two men sitting on a bench"), _nouns("the table and chairs closest to the camera")
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


def _kind(noun: str) -> str:
    return "person" if noun in _PERSONS else noun


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@functools.lru_cache(_REMEMBERED)
def _words(text: str) -> frozenset[str]:
    """What counts in a comparison of two phrases."""
    return frozenset(_kind(_singular(word)) for word in _WORD.findall(text.lower().replace("-", " "))) - _ARTICLES


def _texts(given: Iterable[str]) -> list[str]:
    """Those with words and without markup, on one line each."""
    return [" ".join(text.split()) for text in given if text.strip() and not _MARKUP.search(text)]


def _several(texts: list[str] | str | None) -> list[str]:
    return [texts] if isinstance(texts, str) else texts or []
