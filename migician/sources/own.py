"""Annotations of one's own, a file over a folder of images, in either of two forms.

    coco-json   COCO's: `images`, `annotations` with `bbox` [x, y, w, h] in pixels, `categories` (see `cocojson`)
    jsonl       a line an image: {"image": "a/1.jpg", "objects": [{"label": "mug", "box": [10, 20, 60, 90]},
                {"phrase": "the mug with a chip", "box": [x1, y1, x2, y2]}]}, boxes in pixels

Names of images begin at the folder. Sizes are those of the images themselves. Boxes are in pixels as these are stored:
an EXIF rotation is applied neither here nor where a model is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from migician.boxes import Box, Size
from migician.errors import UserError
from migician.files import decode
from migician.sources.formats.cocojson import read_instances
from migician.sources.formats.pairs import relative
from migician.sources.formats.phrases import key_words, kind_of, nouns
from migician.sources.formats.reading import UNREADABLE, Listing, clipped, size_of
from migician.sources.scenes import Instance, Scene, Tally


class _Object(msgspec.Struct, frozen=True):
    box: tuple[float, float, float, float]
    label: str = ""
    phrase: str = ""


class _ImageLine(msgspec.Struct, frozen=True):
    image: str
    objects: list[_Object]


def read_coco_json(images: Path, tally: Tally, *, file: Path) -> Iterator[Scene]:
    """The images of a file in COCO's form; see `read_instances`.

    An image is looked for by its whole `file_name` below `images`, then by its last part. Where the file states a size,
    an image of another one is left out and counted.
    """
    listing = Listing()

    def locate(name: str) -> Path | None:
        path = relative(name)
        return listing.first([images / path, images / path.name]) if path else None

    return read_instances(file, locate, tally, measured=True)


def read_json_lines(images: Path, tally: Tally, *, file: Path) -> Iterator[Scene]:
    """The images of a file of JSON lines, in its order; boxes are clipped to their image, and dropped without area.

    An object with a phrase alone has the label of the file that its phrase names, so that "the chipped mug" is a mug to
    all families. Counted: images that are missing or cannot be read, what clipping counts, and phrases that two objects
    of an image share, which are dropped. Raises `UserError` naming the file and the line of what is not of the form,
    and if no image is there.
    """
    listing = Listing()
    labels = _Labels(one.label.strip() for _, line in _lines(file) for one in line.objects)
    first: dict[str, int] = {}
    found = False
    for number, line in _lines(file):
        path = relative(line.image)
        if path is None:
            raise UserError(f"{file}: line {number}: image {line.image!r} is no path below {images}")
        if line.image in first:
            raise UserError(
                f"{file}: line {number}: {line.image} is in line {first[line.image]} already; put all objects of an "
                "image in one line"
            )
        first[line.image] = number
        if not listing.holds(images / path):
            tally.add("image annotated but missing")
            continue
        found = True
        try:
            size = size_of(images / path)
        except UserError:
            tally.add(UNREADABLE)
            continue
        instances, unboxed = _instances_of(line, size, f"{file}: line {number}", labels, tally)
        if instances:
            yield Scene(str(number), images / path, size, instances, unboxed)
        else:
            tally.add("image without a usable box")
    if not found:
        example = f", such as {next(iter(first))}" if first else ""
        raise UserError(
            f"{file}: none of its {len(first)} images are in {images}{example}. Give --images DIR, the folder "
            "that their names begin at"
        )


def _lines(file: Path) -> Iterator[tuple[int, _ImageLine]]:
    expected = 'Expected {"image": "a.jpg", "objects": [{"label": "dog", "box": [x1, y1, x2, y2]}]}'
    try:
        with file.open("rb") as stream:
            for number, content in enumerate(stream, start=1):
                text = content.removeprefix(b"\xef\xbb\xbf") if number == 1 else content
                if text.strip():
                    yield number, decode(text, _ImageLine, f"{file}: line {number}", "", expected)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None


class _Labels:
    """The labels of a file, by the nouns they are about."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._by_noun: dict[str, list[str]] = {}
        for label in sorted(set(labels)):
            for noun in nouns(label)[-1:]:
                self._by_noun.setdefault(kind_of(noun), []).append(label)

    def named(self, phrase: str) -> tuple[str, list[str]]:
        """The longest label that says what `phrase` is about, empty where it is about several; and all that do."""
        heads, said, written = nouns(phrase), key_words(phrase), phrase.lower().split()
        found = [label for noun in heads for label in self._by_noun.get(kind_of(noun), []) if key_words(label) <= said]
        # "Two mugs" are no mug, but "the keys" are keys.
        one = [label for label in found if heads[0] in written or label.lower().split()[-1] in written]
        return max(one, key=len, default="") if len(heads) == 1 else "", found


def _instances_of(
    line: _ImageLine, size: Size, place: str, labels: _Labels, tally: Tally
) -> tuple[tuple[Instance, ...], frozenset[str]]:
    """The instances of an image, and the labels that are there without a box of their own."""
    unboxed: set[str] = set()
    phrases = Counter(one.phrase.strip().lower() for one in line.objects)
    instances = []
    for at, one in enumerate(line.objects):
        label, phrase = one.label.strip(), one.phrase.strip()
        if not (label or phrase):
            raise UserError(f"{place}: objects[{at}] has neither a label nor a phrase")
        x1, y1, x2, y2 = one.box
        if x2 < x1 or y2 < y1:
            raise UserError(
                f"{place}: objects[{at}].box {list(one.box)} ends before it begins; give x1, y1, x2, y2 in px"
            )
        if phrase and phrases[phrase.lower()] > 1:
            tally.add("phrase that two objects of an image share")
            phrase = ""
        if not label:
            label, named = labels.named(one.phrase)
            unboxed.update(other for other in named if other != label)
        box = clipped(Box.from_pixels(x1, y1, x2, y2, size), tally)
        if box and (label or phrase):
            instances.append(Instance(box, label, phrase))
        elif label:
            unboxed.add(label)
    return tuple(instances), frozenset(unboxed)
