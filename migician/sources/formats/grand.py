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

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import read_json
from migician.sources.formats.phrases import is_clause, key_words, kind_of, names, nouns
from migician.sources.formats.reading import clipped
from migician.sources.scenes import Instance, Tally

LEAST_SCORE = 0.5
"""Of a region that is asked for. Below it, many of a detector's labels are wrong: a part of a balloon is a "zebra"."""

_SPEECH = re.compile(r"^\W*(?:assistant|istant)\s*:\s*", re.IGNORECASE)
"""What the describing model left before some of the phrases."""
_MARKUP = re.compile(r"[<>|\[\]{}]")
"""Signs of image marks, box tokens and models' slips: no phrase of words needs them."""
_BRACKETS = re.compile(r"\s*\([^()]*\)")
_NO_THING = frozenset(["ambiance", "ambience", "atmosphere", "mood", "scene", "scenery", "setting", "vibe", "view"])
"""Labels from captions that name nothing to point at; a phrase of such a region may ("a view of the river below")."""


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
    """None of a floating attribute, for example: only its phrases say what it is."""
    phrases: list[str]

    @property
    def label(self) -> str:
        """The first one; empty where there is none."""
        return self.labels[0] if self.labels else ""


def read_grand(file: Path, image: str, size: Size, tally: Tally) -> tuple[list[Instance], set[str]]:
    """The instances of `image`, which has `size`, by its file; and the labels that are there without their own box.

    An instance has the first of its labels, empty where it has none, and the first of its phrases that names it and
    fits no other region of the image, empty where there is none. Further labels are in the set, because they may mean
    the instance itself; so are those of regions below `LEAST_SCORE` or without a usable box. Boxes are clipped to the
    image. Everything left out is counted. Raises `UserError` naming the file and the place of what cannot be read.
    """
    content = read_json(file, dict[str, _Described], "a file of GranD")
    described = content.get(image) or content.get(Path(image).stem)
    if described is None:
        raise UserError(f"{file}: does not describe {image}; it names {', '.join(list(content)[:3]) or 'nothing'}")
    regions = list(_regions(described, tally))
    said = _Said(regions)
    instances: list[Instance] = []
    unboxed: set[str] = set()
    for place, region in enumerate(regions):
        box = _box(region.object, size, tally)
        if box is None:
            unboxed.update(region.labels)
            continue
        phrase = _phrase(place, region, said, tally)
        if region.label or phrase:
            instances.append(Instance(box, region.label, phrase))
        else:
            tally.add("object of GranD without a label or phrase")
        unboxed.update(label for label in region.labels[1:] if label != region.label)
        if region.label and said.elsewhere(region.label, place):
            unboxed.add(region.label)
    return instances, unboxed


class _Said:
    """All that is said of the regions of an image, by the nouns it is about."""

    def __init__(self, regions: list[_Region]) -> None:
        self._by_noun: dict[str, list[tuple[int, frozenset[str]]]] = {}
        for place, region in enumerate(regions):
            for text in (*region.labels, *region.phrases):
                words = key_words(text)
                for noun in nouns(text):
                    self._by_noun.setdefault(kind_of(noun), []).append((place, words))

    def elsewhere(self, text: str, place: int) -> bool:
        """Whether another region than that at `place` is said to be what `text` says, or more than that."""
        words = key_words(text)
        return any(
            at != place and words <= others
            for noun in nouns(text)
            for at, others in self._by_noun.get(kind_of(noun), [])
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
        written = (_BRACKETS.sub("", label.replace("_", " ")) for label in _several(region.labels))
        labels = _texts(label for label in written if label.lower() not in _NO_THING)
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
        if is_clause(phrase):
            tally.add("phrase that is a sentence")
        elif region.label and not names(phrase, region.label):
            tally.add("phrase that names another thing than the label")
        elif said.elsewhere(phrase, place):
            tally.add("phrase that fits another object of the image")
        else:
            usable.append(phrase)
    return usable[0] if usable else ""


def _texts(given: Iterable[str]) -> list[str]:
    """Those with words and without markup, on one line each."""
    return [" ".join(text.split()) for text in given if text.strip() and not _MARKUP.search(text)]


def _several(texts: list[str] | str | None) -> list[str]:
    return [texts] if isinstance(texts, str) else texts or []
