"""RefCOCO, RefCOCO+ and RefCOCOg as their authors publish them: references to the objects of COCO images.

    refcoco/   refs(unc).p, refs(google).p, instances.json
    refcoco+/  refs(unc).p, instances.json
    refcocog/  refs(umd).p, refs(google).p, instances.json

A refs file is a Python 2 pickle of [{"ref_id", "ann_id", "image_id", "split": "train", "sentences": [{"sent": "the
lady with the blue shirt", ...}], ...}], read without running it; instances.json has COCO's form. Its boxes are
`[x, y, w, h]` in pixels. Source: https://github.com/lichengunc/refer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.boxes import Box, is_writable
from migician.errors import UserError, unknown
from migician.files import conform, is_file, read_json
from migician.sources.formats.plainpickle import read_plain_pickle
from migician.sources.formats.reading import clipped
from migician.sources.scenes import Tally

PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""The datasets, and the partition of each that results are usually reported on."""


class _Sentence(msgspec.Struct, frozen=True, gc=False):
    sent: str


class Ref(msgspec.Struct, frozen=True):
    """One reference."""

    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: list[_Sentence]


class ListedImage(msgspec.Struct, frozen=True, gc=False):
    """One image, with its size in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """One object."""

    id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    image_id: int | None = None


class Instances(msgspec.Struct):
    """What an instances.json lists."""

    images: list[ListedImage]
    annotations: list[Annotation]


@dataclass(frozen=True, slots=True)
class Phrase:
    """One sentence of a reference, as the files have it."""

    split: str
    text: str
    image: str
    """The image's name in COCO, below the folder of all its splits."""
    size: tuple[int, int]
    xywh_px: tuple[float, float, float, float]


def read_held_out(folder: Path) -> Iterator[Phrase]:
    """The phrases of a dataset's folder that are not of its `train` split, to evaluate on, every one kept.

    Raises `UserError` naming the file and the place of what cannot be read, and a reference to what
    instances.json does not list.
    """
    refs = read_refs(folder, PARTITIONS[folder.resolve().name])
    instances = read_instances(folder / "instances.json")
    boxes = {annotation.id: annotation.bbox for annotation in instances.annotations}
    listed = {image.id: image for image in instances.images}
    for ref in refs:
        if ref.split == "train":
            continue
        if ref.image_id not in listed or ref.ann_id not in boxes:
            raise UserError(f"{folder / 'instances.json'}: does not list image or object of reference {ref.ref_id}")
        image = listed[ref.image_id]
        for sentence in ref.sentences:
            yield Phrase(
                ref.split, sentence.sent, f"train2014/{image.file_name}", (image.width, image.height), boxes[ref.ann_id]
            )


def folders_of(source: Path) -> dict[str, Path]:
    """The folders of the datasets that are there; raises `UserError` if none is."""
    root = source.parent if source.name in PARTITIONS and is_dataset(source) else source
    folders = {name: root / name for name in PARTITIONS if is_dataset(root / name)}
    if not folders:
        raise UserError(f"{source}: holds none of the folders {', '.join(PARTITIONS)} with their instances.json")
    return folders


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds one of the datasets."""
    return is_file(folder / "instances.json")


def read_refs(folder: Path, partition: str) -> list[Ref]:
    """The references of one partition; raises `UserError` where it is not there or not of this form."""
    file = folder / f"refs({partition}).p"
    if not is_file(file):
        known = [found.name[5:-3] for found in sorted(folder.glob("refs(*).p"))]
        raise UserError(f"{folder}: {unknown('partition', partition, known)}")
    return conform(read_plain_pickle(file), list[Ref], file, "a list of references")


def held_out(refs: Mapping[str, list[Ref]], tally: Tally) -> frozenset[int]:
    """The images that any dataset has in another split than train."""
    for name in PARTITIONS:
        if name not in refs:
            tally.add(f"dataset not there, so that its held-out images could not be left out: {name}")
    return frozenset(ref.image_id for listed in refs.values() for ref in listed if ref.split != "train")


def of_split(refs: list[Ref], split: str, folder: Path) -> list[Ref]:
    """The references of a split; `test` is all tests (RefCOCO has testA for people and testB for the rest).

    Raises `UserError` naming the splits there are, if it has none.
    """
    kept = [ref for ref in refs if ref.split == split or (split == "test" and ref.split.startswith("test"))]
    if not kept:
        raise UserError(f"{folder}: {unknown('split', split, sorted({ref.split for ref in refs}))}")
    return kept


def read_instances(file: Path) -> Instances:
    """The images and objects of an instances.json; raises `UserError` for another form."""
    return read_json(file, Instances, "an instances file")


def candidates(image: ListedImage) -> list[str]:
    """Where COCO's images may lie: all of these are of train2014, which train2017 has under shorter names."""
    short = f"{image.id:012d}.jpg"
    return [image.file_name, f"train2014/{image.file_name}", f"train2017/{short}", short]


def box_of(annotation: Annotation, image: ListedImage, tally: Tally) -> Box | None:
    """The box of one object; None, counted, for a crowd and for a box that cannot be written."""
    if annotation.iscrowd:
        tally.add("box around a crowd")
        return None
    box = clipped(Box.from_xywh_pixels(*annotation.bbox, (image.width, image.height)), tally)
    if box and not is_writable(box):
        tally.add("box too small for 0..1000")
        return None
    return box
