"""RefCOCO, RefCOCO+ and RefCOCOg: phrases that each mean one object of a COCO image.

    refcoco/   refs(unc).p, refs(google).p, instances.json
    refcoco+/  refs(unc).p, instances.json
    refcocog/  refs(umd).p, refs(google).p, instances.json

A refs file is a Python 2 pickle of [{"ref_id", "ann_id", "image_id", "split": "train", "sentences": [{"sent": "the
lady with the blue shirt", ...}], ...}], read without running it; instances.json has COCO's form. Its boxes are
`[x, y, w, h]` in pixels. Source: https://github.com/lichengunc/refer.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.boxes import Box, is_size, is_writable
from migician.boxtext import QWEN, reference
from migician.build.converters.foreign import ImageFolder, plain
from migician.errors import NOT_JSON, UserError, unknown
from migician.files import conform, is_file
from migician.samples.sample import IMAGE_MARK, Sample, sample
from migician.sampling import dice
from migician.sources.formats.plainpickle import read_plain_pickle
from migician.sources.formats.reading import clipped
from migician.sources.scenes import Tally
from migician.tasks.draft import Manner, Speaker

PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""The datasets, and the partition of each that results are usually reported on."""
_TURNS = 3
"""Most objects asked for in one sample."""
_REVERSED = 0.25
"""Share of the turns that give the box and ask for the phrase."""


class _Sentence(msgspec.Struct, frozen=True, gc=False):
    sent: str


class _Ref(msgspec.Struct, frozen=True):
    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: list[_Sentence]


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    image_id: int | None = None


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of an image and the phrases that mean it."""

    box: Box
    phrases: tuple[str, ...]


def convert(
    source: Path,
    images: ImageFolder,
    tally: Tally,
    *,
    seed: int = 0,
    split: str = "train",
    partitions: Mapping[str, str] | None = None,
) -> Iterator[Sample]:
    """Samples of one image and up to three of its objects each, of the datasets below `source`.

    `source` holds the datasets' folders, or is one of them; its neighbours then say what they hold out.
    `partitions` names others than `PARTITIONS`. The three share their images, so for `train` an image
    that any of them has in another split is left out everywhere; datasets that are not there are
    counted, as theirs cannot be. Also counted and left out: phrases that name two objects of an image, or are empty,
    crowds, boxes without area, missing images. Raises `UserError` naming the file and the
    place of what cannot be read, and where nothing of the split is there.
    """
    folders = _folders(source)
    chosen = dict(PARTITIONS) | dict(partitions or {})
    bad = [unknown("dataset", name, PARTITIONS) for name in chosen if name not in PARTITIONS]
    if bad:
        raise UserError("; ".join(bad))
    refs = {name: _read_refs(folder, chosen[name]) for name, folder in folders.items()}
    held_out = _held_out(refs, tally) if split == "train" else frozenset[int]()
    wanted = [source.name] if source.name in folders and _is_dataset(source) else list(folders)
    for name in wanted:
        kept = _of_split(refs[name], split, folders[name])
        yield from _samples(name, split, folders[name], kept, held_out, images, tally, seed)
    images.refuse_if_empty()


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
    refs = _read_refs(folder, PARTITIONS[folder.resolve().name])
    instances = _read_instances(folder / "instances.json")
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


def _folders(source: Path) -> dict[str, Path]:
    """The folders of the datasets that are there."""
    root = source.parent if source.name in PARTITIONS and _is_dataset(source) else source
    folders = {name: root / name for name in PARTITIONS if _is_dataset(root / name)}
    if not folders:
        raise UserError(f"{source}: holds none of the folders {', '.join(PARTITIONS)} with their instances.json")
    return folders


def _is_dataset(folder: Path) -> bool:
    return is_file(folder / "instances.json")


def _read_refs(folder: Path, partition: str) -> list[_Ref]:
    file = folder / f"refs({partition}).p"
    if not is_file(file):
        known = [found.name[5:-3] for found in sorted(folder.glob("refs(*).p"))]
        raise UserError(f"{folder}: {unknown('partition', partition, known)}")
    return conform(read_plain_pickle(file), list[_Ref], file, "a list of references")


def _held_out(refs: Mapping[str, list[_Ref]], tally: Tally) -> frozenset[int]:
    """The images that any dataset has in another split than train."""
    for name in PARTITIONS:
        if name not in refs:
            tally.add(f"dataset not there, so that its held-out images could not be left out: {name}")
    return frozenset(ref.image_id for listed in refs.values() for ref in listed if ref.split != "train")


def _of_split(refs: list[_Ref], split: str, folder: Path) -> list[_Ref]:
    """The references of a split; `test` is all tests (RefCOCO has testA for people and testB for the rest)."""
    kept = [ref for ref in refs if ref.split == split or (split == "test" and ref.split.startswith("test"))]
    if not kept:
        raise UserError(f"{folder}: {unknown('split', split, sorted({ref.split for ref in refs}))}")
    return kept


def _samples(
    name: str,
    split: str,
    folder: Path,
    refs: list[_Ref],
    held_out: frozenset[int],
    images: ImageFolder,
    tally: Tally,
    seed: int,
) -> Iterator[Sample]:
    instances = _read_instances(folder / "instances.json")
    annotations = {annotation.id: annotation for annotation in instances.annotations}
    listed = {image.id: image for image in instances.images}
    of_image: dict[int, list[_Ref]] = {}
    for ref in refs:
        if ref.image_id in held_out:
            tally.add("object of an image that val or test has")
        elif ref.image_id not in listed or ref.ann_id not in annotations:
            tally.add("object that instances.json does not list")
        elif annotations[ref.ann_id].image_id not in (None, ref.image_id):
            tally.add("object that instances.json has in another image")
        else:
            of_image.setdefault(ref.image_id, []).append(ref)
    number = 0
    for image_id, group in of_image.items():
        image = listed[image_id]
        if not is_size((image.width, image.height)):
            raise UserError(f"{folder / 'instances.json'}: image {image_id} has size {image.width} x {image.height}")
        objects = _objects(group, annotations, image, tally)
        path = images.find(_candidates(image), tally) if objects else None
        if path is None:
            continue
        speaker = Speaker(dice(seed, "refcoco", name, split, image_id), Manner())
        for turns in _conversations(objects, speaker):
            yield sample(f"{name}_{split}_{number:06d}", [path], turns, name)
            number += 1


def _read_instances(file: Path) -> _Instances:
    try:
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            return msgspec.json.decode(view, type=_Instances)
    except NOT_JSON as error:
        raise UserError(f"{file}: not an instances file: {error}") from None
    except (OSError, ValueError) as error:  # an empty file cannot be mapped: ValueError
        raise UserError(f"{file}: cannot be read: {error}") from None


def _candidates(image: _Image) -> list[str]:
    """Where COCO's images may lie: all of these are of train2014, which train2017 has under shorter names."""
    short = f"{image.id:012d}.jpg"
    return [image.file_name, f"train2014/{image.file_name}", f"train2017/{short}", short]


def _objects(refs: list[_Ref], annotations: Mapping[int, _Annotation], image: _Image, tally: Tally) -> list[_Object]:
    """The objects of an image that can be asked for, each once, with phrases that mean no other."""
    phrases: dict[int, dict[str, str]] = {}
    for ref in refs:
        named = phrases.setdefault(ref.ann_id, {})
        for sentence in ref.sentences:
            text = plain(" ".join(sentence.sent.split()))
            if text:
                named.setdefault(text.casefold(), text)
            else:
                tally.add("phrase without text")
    uses = Counter(key for named in phrases.values() for key in named)
    shared = {key for key, count in uses.items() if count > 1}
    objects = []
    for ann_id, named in phrases.items():
        for _ in shared & named.keys():
            tally.add("phrase that names two objects")
        own = tuple(text for key, text in named.items() if key not in shared)
        box = _box(annotations[ann_id], image, tally)
        if own and box:
            objects.append(_Object(box, own))
    return objects


def _box(annotation: _Annotation, image: _Image, tally: Tally) -> Box | None:
    if annotation.iscrowd:
        tally.add("box around a crowd")
        return None
    box = clipped(Box.from_xywh_pixels(*annotation.bbox, (image.width, image.height)), tally)
    if box and not is_writable(box):
        tally.add("box too small for thousandths")
        return None
    return box


def _conversations(objects: list[_Object], speaker: Speaker) -> Iterator[list[tuple[str, str]]]:
    """The samples of one image: each phrase is used once, and within a sample every object once."""
    rng = speaker.rng
    orders = [rng.sample(range(len(one.phrases)), len(one.phrases)) for one in objects]
    for turn in range(max(len(order) for order in orders)):
        left = [number for number, order in enumerate(orders) if turn < len(order)]
        left = rng.sample(left, len(left))
        while left:
            count = rng.randint(1, _TURNS)
            turns = [
                _exchange(objects[one].phrases[orders[one][turn]], objects[one].box, speaker) for one in left[:count]
            ]
            turns[0] = (f"{IMAGE_MARK}\n{turns[0][0]}", turns[0][1])
            yield turns
            left = left[count:]


def _exchange(phrase: str, box: Box, speaker: Speaker) -> tuple[str, str]:
    """A question and its answer: the phrase and its box, or the box and its phrase."""
    written = QWEN.write(box)
    if speaker.chance(_REVERSED):
        return speaker.pick(DESCRIBE).format(box=written), phrase
    return speaker.pick(LOCATE).format(phrase=reference(phrase)), written


LOCATE = (
    "Where is {phrase}?",
    "Give the bounding box of {phrase}.",
    "Locate {phrase} in this image.",
    "Box {phrase}.",
    "Which region of the image shows {phrase}? Answer with its box.",
    "Find {phrase} and give its coordinates.",
    "I mean {phrase}. What are its coordinates?",
    "Ground this phrase in the image: {phrase}.",
    "Someone speaks of {phrase}. Which box is meant?",
    "Point out {phrase} with a bounding box.",
    "What is the position of {phrase}?",
    "Mark {phrase}.",
    "Detect the one object that {phrase} describes.",
    "Write the box around {phrase}.",
)
DESCRIBE = (
    "What is at {box}? Describe it so that nothing else in the image fits.",
    "Name the object in {box} in a few words.",
    "Give a phrase that means only the region {box}.",
    "How would you refer to what is in {box}?",
    "Tell me what {box} contains, briefly.",
    "Which object does {box} surround? Say it so that one can find it.",
    "Describe the region {box} in one phrase.",
    "Write a referring expression for {box}.",
    "What would you call the thing marked by {box}?",
    "In a few words: what is inside {box}?",
    "Someone must find {box} from your words alone. What do you say?",
    "Put a short description to this box: {box}.",
)
