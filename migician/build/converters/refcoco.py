"""RefCOCO, RefCOCO+ and RefCOCOg: phrases that each mean one object of a COCO image (see `sources.refcoco`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from migician.boxes import Box, is_size
from migician.boxtext import QWEN, plain, reference
from migician.build.converters.foreign import ImageFolder
from migician.errors import UserError, unknown
from migician.samples.sample import IMAGE_MARK, Sample, sample
from migician.sampling import dice
from migician.sources import refcoco
from migician.sources.scenes import Tally
from migician.tasks.draft import Manner, Speaker

_TURNS = 3
"""Maximum of objects asked for in one sample."""
_REVERSED = 0.25
"""Share of the turns that give the box and ask for the phrase."""


_Object = tuple[Box, list[str]]
"""One object of an image and the phrases that mean it."""


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
    that any of them has in another split is left out everywhere; datasets that are missing are counted,
    because the images of their splits are not known. Also counted and left out: phrases that name two
    objects of an image, or are empty, crowds, boxes without area, missing images. Raises `UserError`
    naming the file and the place of what cannot be read, and where nothing of the split is there.
    """
    folders = refcoco.folders_of(source)
    chosen = dict(refcoco.PARTITIONS) | dict(partitions or {})
    bad = [unknown("dataset", name, refcoco.PARTITIONS) for name in chosen if name not in refcoco.PARTITIONS]
    if bad:
        raise UserError("; ".join(bad))
    refs = {name: refcoco.read_refs(folder, chosen[name]) for name, folder in folders.items()}
    withheld = refcoco.held_out(refs, tally) if split == "train" else frozenset[int]()
    wanted = [source.name] if source.name in folders and refcoco.is_dataset(source) else list(folders)
    for name in wanted:
        kept = refcoco.of_split(refs[name], split, folders[name])
        yield from _samples(name, split, folders[name], kept, withheld, images, tally, seed)
    images.refuse_if_empty()


def _samples(
    name: str,
    split: str,
    folder: Path,
    refs: list[refcoco.Ref],
    withheld: frozenset[int],
    images: ImageFolder,
    tally: Tally,
    seed: int,
) -> Iterator[Sample]:
    instances = refcoco.read_instances(folder / "instances.json")
    annotations = {annotation.id: annotation for annotation in instances.annotations}
    listed = {image.id: image for image in instances.images}
    of_image: dict[int, list[refcoco.Ref]] = {}
    for ref in refs:
        if ref.image_id in withheld:
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
        path = images.find(refcoco.candidates(image), tally) if objects else None
        if path is None:
            continue
        speaker = Speaker(dice(seed, "refcoco", name, split, image_id), Manner())
        for turns in _conversations(objects, speaker):
            yield sample(f"{name}_{split}_{number:06d}", [path], turns, name)
            number += 1


def _objects(
    refs: list[refcoco.Ref], annotations: Mapping[int, refcoco.Annotation], image: refcoco.ListedImage, tally: Tally
) -> list[_Object]:
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
        own = [text for key, text in named.items() if key not in shared]
        box = refcoco.box_of(annotations[ann_id], image, tally)
        if own and box:
            objects.append((box, own))
    return objects


def _conversations(objects: list[_Object], speaker: Speaker) -> Iterator[list[tuple[str, str]]]:
    """The samples of one image: each phrase is used once, and within a sample every object once."""
    rng = speaker.rng
    shuffled = [(box, rng.sample(phrases, len(phrases))) for box, phrases in objects]
    for turn in range(max(len(phrases) for _, phrases in shuffled)):
        left = [(phrases[turn], box) for box, phrases in shuffled if turn < len(phrases)]
        left = rng.sample(left, len(left))
        while left:
            count = rng.randint(1, _TURNS)
            turns = [_exchange(phrase, box, speaker) for phrase, box in left[:count]]
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
