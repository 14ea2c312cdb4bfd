"""Region locating: parts cut out of an image, to be found in it again.

Source: Objects365 (arXiv 2501.05767, section 4.1: images with more than 10 boxes; regions of
aspect ratio 0.5-2, of 0.2-0.49 of the image, of more than 2,000 pixels). Example:
images: 00900003.jpg, and two annotated regions of it as images of their own
human: You are given a source image followed by its several regions. Please locate the 1th region
       picture in the source image.
gpt:   <|box_start|>(421,104),(606,507)<|box_end|>
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from migician.boxes import Box, Size
from migician.scenes import Scene, Tally, Thing
from migician.seeds import stream
from migician.tasks.draft import (
    Count,
    Draft,
    Manner,
    Picture,
    Share,
    Speaker,
    Wordings,
    image_fields,
    is_writable,
    ordered,
)

Crop = tuple[int, int, int, int]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which regions are cut out, and of which images."""

    min_boxes: Count = 11
    """Fewest boxes in the source image: crowded images make the question hard."""
    aspect: tuple[float, float] = (0.5, 2.0)
    """Of a region, width over height in pixels."""
    area: tuple[Share, Share] = (0.2, 0.49)
    """Share of the image a region covers."""
    min_pixels: Count = 2001
    regions: tuple[Count, Count] = (1, 3)
    """Of a sample; one of them is asked for."""
    overlap: Share = 0.7
    """IoU from which two regions count as the same."""
    passes: Count = 1
    """Samples one image may give."""
    manner: Manner = Manner(sentence=0.2)

    def __post_init__(self) -> None:
        ordered("aspect", self.aspect)
        ordered("area", self.area)
        ordered("regions", self.regions)


def build(scenes: Iterable[Scene], seed: int, tally: Tally, settings: Settings) -> Iterator[Draft]:
    """Drafts from the images that have usable regions, in random order, pass after pass."""
    usable = []
    for scene in scenes:
        crops = _crops(scene, tally, settings)
        if crops:
            usable.append((scene, crops))
    for turn in range(settings.passes):
        for position in stream(seed, "order", turn).permutation(len(usable)).tolist():
            scene, crops = usable[position]
            yield _draft(scene, crops, stream(seed, turn, position), settings)


def _crops(scene: Scene, tally: Tally, settings: Settings) -> list[Crop]:
    if len(scene.things) < settings.min_boxes:
        tally.add("image with too few boxes")
        return []
    crops: list[Crop] = []
    for thing in scene.things:
        crop = _crop(thing, scene.size)
        reason = _refusal(crop, scene.size, settings)
        box = _box(crop, scene.size)
        if not reason and any(box.iou(_box(other, scene.size)) >= settings.overlap for other in crops):
            reason = "region much like another"
        if reason:
            tally.add(reason)
        else:
            crops.append(crop)
    if not crops:
        tally.add("image without a usable region")
    return crops


def _crop(thing: Thing, size: Size) -> Crop:
    """The whole pixels nearest to a thing's box, as the crop and its answer must agree."""
    x1, y1, x2, y2 = (round(value) for value in thing.box.to_pixels(size))
    return x1, y1, x2, y2


def _box(crop: Crop, size: Size) -> Box:
    return Box.from_pixels(*crop, size)


def _refusal(crop: Crop, size: Size, settings: Settings) -> str | None:
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    if width < 1 or height < 1 or not is_writable(_box(crop, size)):
        return "region without area"
    if not settings.aspect[0] <= width / height <= settings.aspect[1]:
        return "region too long or too flat"
    if not settings.area[0] <= _box(crop, size).area <= settings.area[1]:
        return "region too small or too large for its image"
    if width * height < settings.min_pixels:
        return "region with too few pixels"
    return None


def _draft(scene: Scene, crops: list[Crop], rng: np.random.Generator, settings: Settings) -> Draft:
    lowest, highest = min(settings.regions[0], len(crops)), min(settings.regions[1], len(crops))
    count = int(rng.integers(lowest, highest, endpoint=True))
    chosen = [crops[position] for position in rng.choice(len(crops), count, replace=False).tolist()]
    asked = int(rng.integers(count))
    speaker = Speaker(rng, settings.manner)
    # The regions are counted from 1 behind the source image, so region 1 is Image-2.
    fields = image_fields(asked) | {"image": str(asked + 2)}
    turn = speaker.exchange(QUESTIONS, SENTENCES, _box(chosen[asked], scene.size), fields)
    source = Picture(scene.image, scene.size)
    return speaker.draft([source, *(Picture(scene.image, scene.size, crop) for crop in chosen)], [turn])


QUESTIONS = Wordings(
    benchmark=(
        "You are given a source image followed by its several regions. Please locate the {nth} region picture in the "
        "source image. ",
    ),
    own=(
        "The first image is whole, the others are cut out of it. Where does the {ordinal} cut-out come from?",
        "Image-1 is the source; the rest are parts of it. Locate Image-{image} in Image-1.",
        "Find the place in the first image that Image-{image} shows.",
        "Image-{image} is a crop of Image-1. Give the box it was cropped from.",
        "After the source image you see pieces of it. Point to the {ordinal} piece in the source image.",
        "Which area of the first image is repeated as the {ordinal} region picture?",
        "Match the {ordinal} region to its place in the source picture.",
        "Please box in Image-1 the part that was taken out as Image-{image}.",
        "The pictures after the first are details of it. Where in the first is detail number {number}?",
        "Look at Image-{image}, then find the same region in the source image.",
        "From where in the first image was the {ordinal} crop taken?",
        "Localise Image-{image} within the first image.",
        "The source image is given first. What are the coordinates of its {ordinal} region in it?",
        "Identify the part of Image-1 that equals Image-{image}.",
        "Put the {ordinal} puzzle piece back: which box of the source image does it fill?",
        "Region {number} is a cut-out of the first image. Report its bounding box there.",
        "Search the source image for what Image-{image} displays and give its position.",
        "Where is the {ordinal} region situated in the big picture?",
        "Image-1 contains the content of Image-{image}. Box it.",
        "Trace the {ordinal} region picture back to the source image.",
    ),
)
SENTENCES = (
    "It's in the first image.",
    "The {ordinal} region is here in the source image:",
    "Image-{image} was cut from this part of Image-1:",
)
