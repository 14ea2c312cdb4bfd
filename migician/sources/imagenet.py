"""ImageNet (ILSVRC2012) with the boxes of CLS-LOC, in the layout of the official and the Kaggle archives.

    LOC_synset_mapping.txt                                  n01440764 tench, Tinca tinca
    LOC_val_solution.csv                                    ILSVRC2012_val_00000236,n01443537 130 71 476 446
    ILSVRC/ImageSets/CLS-LOC/{train_loc,val}.txt            n01440764/n01440764_10040 1
    ILSVRC/Annotations/CLS-LOC/train/<wnid>/<wnid>_<n>.xml  and val/ILSVRC2012_val_<n>.xml
    ILSVRC/Data/CLS-LOC/...                                 the same with .JPEG

An XML holds <size> and objects with a wnid as <name> and <bndbox> in whole pixels from 0, both ends
inside the box: a box over 64..369 is 306 wide. Source: https://image-net.org (research use).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from migician.boxes import Box, Size, is_size
from migician.errors import UserError
from migician.files import is_file, is_folder, read_bytes, read_text, whole
from migician.sources.formats.reading import clipped, size_of, text_lines
from migician.sources.scenes import Instance, Scene, Tally

_Object = tuple[str, int, int, int, int]
"""wnid, xmin, ymin, xmax, ymax."""
_Labels = dict[str, str | None]
"""By wnid; None where another class has the same name."""


_MEANT = {
    "admiral": "admiral butterfly",
    "basset": "basset hound",
    "bearskin": "bearskin hat",
    "boxer": "boxer dog",
    "brass": "brass plaque",
    "buckeye": "horse chestnut",
    "cairn": "cairn terrier",
    "chow": "chow dog",
    "ear": "ear of corn",
    "file": "filing cabinet",
    "groom": "bridegroom",
    "hand blower": "hair dryer",
    "hip": "rose hip",
    "liner": "ocean liner",
    "monarch": "monarch butterfly",
    "organ": "pipe organ",
    "papillon": "papillon dog",
    "pick": "guitar pick",
    "racer": "race car",
    "ringlet": "ringlet butterfly",
    "sorrel": "sorrel horse",
    "walking stick": "stick insect",
    "washer": "washing machine",
}
"""First names of classes that mean another thing to who sees a photo: what to call the class."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of annotations and the folder of their images."""

    annotations: Path
    images: Path


def read(root: Path, tally: Tally, *, split: str = "train") -> Iterator[Scene]:
    """The annotated images of a split (`train` or `val`), class by class and in order of their names.

    The label of a class is the first of its names, but for those of `_MEANT`; classes that share it with another
    class (crane, maillot) are left out and counted. `train` is what XML is there; what train_loc.txt lists
    beyond it is counted. `val` is what val.txt lists, or without it what is there; where an XML is
    missing the boxes come from LOC_val_solution.csv (counted). Raises `UserError` naming the file
    and the place of what cannot be read, for `test` (it has no boxes), and if no image is there.
    """
    if split not in ("train", "val"):
        raise UserError(f"imagenet: split {split!r} has no boxes. Use 'train' or 'val'")
    labels = _labels(root / "LOC_synset_mapping.txt")
    folder = _Folder(root / "ILSVRC/Annotations/CLS-LOC" / split, root / "ILSVRC/Data/CLS-LOC" / split)
    lists = root / "ILSVRC/ImageSets/CLS-LOC"
    if split == "train":
        scenes = _train(folder, lists / "train_loc.txt", labels, tally)
    else:
        scenes = _val(folder, lists / "val.txt", root / "LOC_val_solution.csv", labels, tally)
    found = False
    for scene in scenes:
        found = True
        yield scene
    if not found:
        raise UserError(f"{folder.images}: holds no image that has a box in {folder.annotations}")


def _train(folder: _Folder, listed: Path, labels: _Labels, tally: Tally) -> Iterator[Scene]:
    expected = Counter(line.partition("/")[0] for line in text_lines(listed)) if is_file(listed) else Counter()
    for wnid in sorted(_names(folder.annotations)):
        one = _Folder(folder.annotations / wnid, folder.images / wnid)
        annotated, images = _stems(one.annotations, ".xml"), _names(one.images)
        for name in annotated:
            if f"{name}.JPEG" in images:
                yield from _annotated(one, name, labels, tally)
            else:
                tally.add("image annotated but missing")
        expected[wnid] -= len(annotated)
    if lacking := sum(count for count in expected.values() if count > 0):
        tally.add("image of train_loc.txt without an XML", lacking)


def _val(folder: _Folder, listed: Path, solution: Path, labels: _Labels, tally: Tally) -> Iterator[Scene]:
    solved = _solution(solution, tally) if is_file(solution) else {}
    annotated, images = set(_stems(folder.annotations, ".xml")), _names(folder.images)
    lines = text_lines(listed) if is_file(listed) else sorted({*annotated, *solved})
    names = [line.split()[0] for line in lines if line.strip()]
    for name in names:
        image = f"{name}.JPEG"
        if name not in annotated and name not in solved:
            tally.add("image of val.txt without boxes")
        elif image not in images:
            tally.add("image annotated but missing")
        elif name in annotated:
            yield from _annotated(folder, name, labels, tally)
        else:
            tally.add("image without an XML: boxes of LOC_val_solution.csv")
            path = folder.images / image
            yield from _scene(name, path, size_of(path), solved[name], labels, tally)


def _annotated(folder: _Folder, name: str, labels: _Labels, tally: Tally) -> Iterator[Scene]:
    """The scene of one image by its XML, if a box of it can be used."""
    file = folder.annotations / f"{name}.xml"
    annotation = _tree(file)
    try:
        width, height = (whole(annotation.findtext(f"size/{side}") or "0") for side in ("width", "height"))
        objects = [_object(one) for one in annotation.iter("object")]
    except ValueError as error:
        raise UserError(f"{file}: not an annotation of ImageNet: {error}") from None
    if Path(annotation.findtext("filename") or name).stem != name:
        tally.add("annotation that names another image")
    elif not is_size((width, height)):
        tally.add("annotation without the image's size")
    else:
        yield from _scene(name, folder.images / f"{name}.JPEG", (width, height), objects, labels, tally)


def _scene(
    name: str, image: Path, size: Size, objects: list[_Object], labels: _Labels, tally: Tally
) -> Iterator[Scene]:
    instances: list[Instance] = []
    unboxed: set[str] = set()
    for wnid, xmin, ymin, xmax, ymax in objects:
        label = labels.get(wnid)
        if label is None:
            tally.add("class that shares its name with another" if wnid in labels else "class without a name")
            continue
        box = clipped(Box.from_pixels(xmin, ymin, xmax + 1, ymax + 1, size), tally)
        if box:
            instances.append(Instance(box, label))
        else:
            unboxed.add(label)
    if instances:
        yield Scene(name, image, size, tuple(instances), frozenset(unboxed))
    else:
        tally.add("image without a usable box")


def _object(element: ElementTree.Element) -> _Object:
    numbers = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{side}")
        if text is None:
            raise ValueError(f"an object has no {side}")
        numbers.append(whole(text))
    return (element.findtext("name") or "", numbers[0], numbers[1], numbers[2], numbers[3])


def _tree(file: Path) -> ElementTree.Element:
    """The root element of an XML without a document type: nothing in it can expand or name another file."""
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(
            f"{file}: declares a document type or entities, as no annotation of ImageNet does; it is refused"
        )
    try:
        return ElementTree.fromstring(text)  # noqa: S314  # without entities there is nothing to expand
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: not XML ({error}); unpack it again") from None


def _labels(file: Path) -> _Labels:
    """Each class's first name, None where another class has it too: such a label names both."""
    names: dict[str, str] = {}
    for number, line in enumerate(text_lines(file), start=1):
        wnid, _, text = line.partition(" ")
        name = text.split(",")[0].strip()
        names[wnid] = _MEANT.get(name, name)
        if not name:
            raise UserError(f"{file}: line {number} is not 'wnid name, name ...': {line[:60]!r}")
    shared = Counter(name.lower() for name in names.values())
    return {wnid: name if shared[name.lower()] == 1 else None for wnid, name in names.items()}


def _solution(file: Path, tally: Tally) -> dict[str, list[_Object]]:
    """The objects of each image in LOC_val_solution.csv: "<image>,<wnid> xmin ymin xmax ymax " repeated."""
    solved: dict[str, list[_Object]] = {}
    lines = text_lines(file)
    # Every list of numbers ends with a space: without it the last number may lack digits.
    if not read_bytes(file)[-1:].isspace():
        tally.add("last line of LOC_val_solution.csv cut off")
        del lines[-1:]
    for number, line in enumerate(lines[1:], start=2):
        name, _, text = line.partition(",")
        words = text.split()
        try:
            solved[name] = [
                (wnid, whole(xmin), whole(ymin), whole(xmax), whole(ymax))
                for wnid, xmin, ymin, xmax, ymax in zip(*[iter(words)] * 5, strict=True)
            ]
        except ValueError:
            raise UserError(
                f"{file}: line {number} is not 'image,wnid xmin ymin xmax ymax ...': {line[:60]!r}"
            ) from None
    return solved


def _names(folder: Path) -> frozenset[str]:
    """What lies in a folder, from one look at it; nothing where it is missing."""
    return frozenset(entry.name for entry in folder.iterdir()) if is_folder(folder) else frozenset()


def _stems(folder: Path, suffix: str) -> list[str]:
    return sorted(name.removesuffix(suffix) for name in _names(folder) if name.endswith(suffix))
