"""Region locating: parts cut out of an image, to be found in it again.

Source: Objects365 (arXiv 2501.05767, section 4.1: images with more than 10 boxes; regions of
aspect ratio 0.5-2, of 0.2-0.49 of the image, of more than 2,000 pixels). Example:
images: 00900003.jpg, and two annotated regions of it as images of their own
human: You are given a source image followed by its several regions. Please locate the 1th region
       picture in the source image.
gpt:   <|box_start|>(421,104),(606,507)<|box_end|>
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from migician.boxes import Size, iou_pairs, writable
from migician.sampling import dice, stream
from migician.sources.index.columns import fractions
from migician.sources.index.scenes import Scenes
from migician.sources.scenes import Tally
from migician.tasks.draft import (
    AnswerSettings,
    Count,
    Draft,
    Manner,
    Picture,
    Plan,
    Share,
    Speaker,
    Wordings,
    image_fields,
    picture,
    target_in,
)
from migician.tasks.naming import with_article
from migician.tasks.reasoning import origin

_BLOCK = 1 << 16
"""Images that are checked together."""
_TOKEN_PX = 28
"""Side of the square that Qwen2-VL makes one token of."""


class RegionSettings(AnswerSettings, frozen=True, forbid_unknown_fields=True):
    """Which regions are cut out, and of which images."""

    min_boxes: Count = 11
    """Least number of boxes in the source image: crowded images make the question hard."""
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
    """Samples one image may give at most, each about another of its regions."""
    manner: Manner = Manner(sentence=0.2)


def plan(scenes: Scenes, seed: int, tally: Tally, settings: RegionSettings) -> Iterator[Plan]:
    """(pass, image, instance asked for, other instances ...): images with usable regions, in random order.

    The order is the same in each pass, and another region is asked for: no sample repeats.
    """
    blocks = [
        _usable(scenes, np.arange(start, min(start + _BLOCK, len(scenes))), tally, settings)
        for start in range(0, len(scenes), _BLOCK)
    ]
    usable = np.concatenate([np.empty(0, np.int64), *blocks])
    images, starts = np.unique(scenes.images_of(usable), return_index=True)
    ends = [*starts.tolist(), len(usable)]
    first = stream(seed, "asked").random(len(images))
    for turn in range(settings.passes):
        for position in stream(seed, "order").permutation(len(images)).tolist():
            instances = usable[ends[position] : ends[position + 1]].tolist()
            if turn < len(instances):
                at = (int(first[position] * len(instances)) + turn) % len(instances)
                yield turn, int(images[position]), instances[at], *instances[:at], *instances[at + 1 :]
            else:
                tally.add("no other region in the image")


def _usable(scenes: Scenes, images: NDArray[np.int64], tally: Tally, settings: RegionSettings) -> NDArray[np.int64]:
    """The instances of `images`, in order, that give a region; what does not is counted by reason."""
    crowded = images[np.diff(scenes.ends[images[0] : images[-1] + 2]) >= settings.min_boxes]
    tally.add("image with too few boxes", len(images) - len(crowded))
    instances, rows = scenes.instances_in(crowded)
    sizes = scenes.sizes[crowded[rows]].astype(np.int64)
    crops = _crops(scenes, instances, sizes)
    width, height = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
    share = width * height / (sizes[:, 0] * sizes[:, 1])
    aspect = width / np.maximum(height, 1)
    left = np.ones(len(instances), bool)
    for reason, refused in (
        ("region without area", (width < 1) | (height < 1) | ~writable(fractions(scenes.corners[instances]))),
        ("region too long or too flat", (aspect < settings.aspect[0]) | (aspect > settings.aspect[1])),
        ("region too small or too large for its image", (share < settings.area[0]) | (share > settings.area[1])),
        ("region with too few pixels", width * height < settings.min_pixels),
        ("region narrower than a token of the model", np.minimum(width, height) < _TOKEN_PX),
    ):
        tally.add_marked(reason, left & refused)
        left &= ~refused
    tally.add("image without a usable region", len(crowded) - len(np.unique(rows[left])))
    different = _different(crops[left], rows[left], settings.overlap)
    tally.add_marked("region much like another", ~different)
    return instances[left][different]


def _crops(scenes: Scenes, instances: NDArray[np.int64], sizes: NDArray[np.int64] | Size) -> NDArray[np.int64]:
    """(n, 4): the whole pixels nearest to each box of `instances` (n,); `sizes` (n, 2) or (2,) of images."""
    crops: NDArray[np.int64] = np.rint(fractions(scenes.corners[instances]) * np.tile(sizes, 2)).astype(np.int64)
    return crops


def _different(crops: NDArray[np.int64], rows: NDArray[np.int64], overlap: float) -> NDArray[np.bool_]:
    """(n,): whether no kept earlier crop of the same image (`rows`, sorted) has an IoU of `overlap` or more with it."""
    kept = np.ones(len(crops), bool)
    alike: list[tuple[int, int]] = []
    for distance in itertools.count(1):
        first = np.flatnonzero(rows[distance:] == rows[:-distance])
        if not len(first):
            break
        first = first[iou_pairs(crops[first], crops[first + distance]) >= overlap]
        alike += zip((first + distance).tolist(), first.tolist(), strict=True)
    for later, earlier in sorted(alike):
        kept[later] &= not kept[earlier]
    return kept


def drafts(scenes: Scenes, plans: Sequence[Plan], seed: int, settings: RegionSettings) -> Iterator[Draft | str]:
    """A whole image and some of its regions, one of which is asked for."""
    return (_draft(scenes, plan, seed, settings) for plan in plans)


def _draft(scenes: Scenes, plan: Plan, seed: int, settings: RegionSettings) -> Draft:
    turn, image, instance, *others = plan
    rng, size = dice(seed, turn, image, "words"), scenes.size(image)
    lowest, highest = (min(count, len(others) + 1) for count in settings.regions)
    shown = rng.sample(others, rng.randint(lowest, highest) - 1)
    asked = rng.randrange(len(shown) + 1)
    shown.insert(asked, instance)
    crops = _crops(scenes, np.array(shown), size).tolist()
    speaker = Speaker(rng, settings.manner, settings.reasoning)
    # The regions are counted from 1 behind the source image, so region 1 is Image-2.
    fields = image_fields(asked) | {"image": str(asked + 2)}
    # The answer is the annotation's own box; the crop is cut at the whole pixels nearest to it.
    target = target_in(scenes, [image], instance)

    def thought() -> str:
        return origin(with_article(target.label) if target.label else "", asked + 2, target.box)

    turns = [speaker.exchange(QUESTIONS, SENTENCES, target, fields, thought)]
    source = picture(scenes, image)
    return speaker.draft([source, *(Picture(source.image, size, tuple(crop)) for crop in crops)], turns)


QUESTIONS = Wordings(
    benchmark=(
        "You are given a source image followed by its several regions. Please locate the {nth} region picture in the "
        "source image. ",
    ),
    own=(
        "The first image is whole, what follows was cut out of it. Where does the {ordinal} cut-out come from?",
        "Image-1 is the source, Image-{image} a part of it. Locate Image-{image} in Image-1.",
        "Find the place in the first image that Image-{image} shows.",
        "Image-{image} is a crop of Image-1. Give the box it was cropped from.",
        "Behind the source image comes what was cut out of it. Point to the {ordinal} piece in the source image.",
        "Which area of the first image is repeated as the {ordinal} region picture?",
        "Match the {ordinal} region to its place in the source picture.",
        "Please box in Image-1 the part that was taken out as Image-{image}.",
        "Each picture after the first is a detail of it. Where in the first is detail number {number}?",
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
