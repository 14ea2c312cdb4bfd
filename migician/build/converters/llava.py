"""LLaVA's conversations about images: LLaVA-OneVision's data, M4-Instruct, and what else has their form.

A JSON list or JSON lines of {"id": "000000033471", "image": "coco/train2017/000000033471.jpg" or a list of
such, "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A bus."}]};
or turns of role and content in "messages", or instruction, input and output; or as the dataset_info.json beside the
file says.
Source: docs of haotian-liu/LLaVA and LLaVA-VL/LLaVA-NeXT. Parquet is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from migician.boxtext import plain
from migician.build.converters.foreign import ImageFolder, RecordRefused, converted
from migician.samples.dataset_info import layout_beside
from migician.samples.layouts import LayoutReader, Record, recognised
from migician.samples.sample import IMAGE_MARK, Sample, Turn
from migician.sources.scenes import Tally

# Boxes as fractions, in LLaVA's data of a square that the image was padded to; and other families' tokens.
_DECIMAL = r"\s*[01]?\.[0-9]+\s*"
_FOREIGN_BOX = re.compile(rf"\[{_DECIMAL}(?:,{_DECIMAL}){{3}}\]|<\|box_start\|>|<box>|\bbbox_2d\b")


class _Media(msgspec.Struct, frozen=True):
    """What a record shows apart from images."""

    video: Any = None
    videos: Any = None


def convert(source: Path, images: ImageFolder, tally: Tally, *, seed: int = 0) -> Iterator[Sample]:
    """The samples of the records of `source`, read as `converted` reads them.

    Each image has one mark in the first question: marks there stay where they are, missing ones follow
    the last, and one in a later question becomes the image's name ("Image-2"). Counted and left out:
    records with a video, a missing image, more marks than images, a mark in an answer, speakers out of
    order, a turn without text, or boxes in a notation whose scale is not known. Nothing is random, so
    `seed` changes nothing. Raises `UserError` as `converted` does.
    """

    def reader(file: Path) -> Callable[[bytes, str], Sample | None]:
        described = layout_beside(file)

        def sample_of(content: bytes, id: str) -> Sample | None:
            media = _MEDIA.decode(content)
            record = LayoutReader(described or recognised(content)).read(content)
            if media.video or media.videos:
                raise RecordRefused("record with a video")
            return _sample(id, record, images, tally)

        return sample_of

    form = "conversations of 'from' and 'value', messages of 'role' and 'content', or an instruction"
    return converted(source, images, tally, form, reader)


def _sample(id: str, record: Record, images: ImageFolder, tally: Tally) -> Sample | None:
    """The sample of a record, None where an image is missing (counted); raises `RecordRefused` with the reason."""
    has_system = bool(record.conversations) and record.conversations[0].from_ == "system"
    system = [Turn("system", plain(record.conversations[0].value))] if has_system else []
    spoken = [(turn.from_, turn.value) for turn in record.conversations[len(system) :]]
    if not spoken or len(spoken) % 2 or any(role != ("human", "gpt")[i % 2] for i, (role, _) in enumerate(spoken)):
        raise RecordRefused("speakers out of order")
    if any(_FOREIGN_BOX.search(text) for _, text in spoken):
        raise RecordRefused("box in a notation whose scale is not known")
    names = [name for name in record.images if name]  # an empty name is no image
    texts = _marked([text for _, text in spoken], len(names))
    if not all(text.replace(IMAGE_MARK, "").strip() for text in texts):
        raise RecordRefused("turn without text")
    paths = []
    for name in names:
        path = images.find([name], tally)
        if path is None:
            return None
        paths.append(path)
    said = [Turn("gpt" if number % 2 else "human", text.strip()) for number, text in enumerate(texts)]
    return Sample(id, paths, [*system, *said], "llava")


def _marked(texts: list[str], count: int) -> list[str]:
    """The turns with their marks where a sample has them: one an image, all in the first question."""
    marks = [text.count(IMAGE_MARK) for text in texts]
    if any(marks[1::2]):
        raise RecordRefused("image mark in an answer")
    if sum(marks) > count != 1:
        raise RecordRefused("image marks without images" if count == 0 else "more image marks than images")
    first, *rest = texts
    # Of a single image, every mark means that one image.
    kept = min(marks[0], count)
    pieces = first.split(IMAGE_MARK)
    opening, closing = pieces[:kept], "".join(pieces[kept:])
    text = IMAGE_MARK.join([*(plain(piece) for piece in opening), ""]) if kept else ""
    text += IMAGE_MARK * (count - kept) + ("\n" if count and not kept else "") + plain(closing)
    later = []
    number = kept
    for one in rest:
        start, *behind = one.split(IMAGE_MARK)
        for piece in behind:
            number += 1
            start += (f"Image-{number}" if count > 1 else "") + piece
        later.append(plain(start))
    return [text, *later]


_MEDIA = msgspec.json.Decoder(_Media)
