"""LLaVA's conversations about images: LLaVA-OneVision's data, M4-Instruct, and what else has their form.

A JSON list or JSON lines of {"id": "000000033471", "image": "coco/train2017/000000033471.jpg" or a list of
such, "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A bus."}]};
or turns of role and content in "messages", or instruction, input and output; or as the dataset_info.json beside the
file says.
Source: docs of haotian-liu/LLaVA and LLaVA-VL/LLaVA-NeXT. Parquet is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from migician.boxtext import plain
from migician.build.converters.foreign import ImageFolder
from migician.errors import NOT_JSON, UserError
from migician.files import is_folder
from migician.samples.dataset_info import INFO, layout_beside
from migician.samples.layouts import Layout, LayoutReader, Record, recognised
from migician.samples.record_file import JsonRecords
from migician.samples.sample import IMAGE_MARK, Sample, Turn
from migician.sources.scenes import Tally

# Boxes as fractions, in LLaVA's data of a square that the image was padded to; and other families' tokens.
_DECIMAL = r"\s*[01]?\.[0-9]+\s*"
_FOREIGN_BOX = re.compile(rf"\[{_DECIMAL}(?:,{_DECIMAL}){{3}}\]|<\|box_start\|>|<box>|\bbbox_2d\b")


class _Media(msgspec.Struct, frozen=True):
    """What beside images a record shows."""

    video: Any = None
    videos: Any = None


class _Refused(Exception):
    """A record that is left out; the text is the reason."""


def convert(source: Path, images: ImageFolder, tally: Tally, *, seed: int = 0) -> Iterator[Sample]:
    """The samples of one file, or of all .json and .jsonl files below a folder in the order of their names.

    Each image has one mark in the first question: marks there stay where they are, missing ones follow
    the last, and one in a later question becomes the image's name ("Image-2"). Counted and left out:
    records with a video, a missing image, more marks than images, a mark in an answer, speakers out of
    order, a turn without text, or boxes in a notation whose scale is not known. Nothing is random, so
    `seed` changes nothing. Raises `UserError` naming the file and the record that cannot be read, and a
    file without one record of this form.
    """
    for file, name in record_files(source):
        described = layout_beside(file)
        with JsonRecords(file) as records:
            formed = 0
            for position, content in enumerate(records):
                try:
                    record = _decoded(content, described, file, position)
                    made = _sample(f"{name}-{position}", record, images, tally)
                except msgspec.ValidationError:
                    tally.add("record of another form")
                    continue
                except _Refused as refusal:
                    made = None
                    tally.add(str(refusal))
                formed += 1
                if made:
                    yield made
            if len(records) and not formed:
                raise UserError(
                    f"{file}: none of its {len(records)} records has conversations of 'from' and 'value', messages of "
                    "'role' and 'content', or an instruction"
                )
    images.refuse_if_empty()


def record_files(source: Path) -> list[tuple[Path, str]]:
    """The files of records that `source` is or holds, each with a name for the ids of its samples."""
    if not is_folder(source):
        return [(source, source.stem)]
    found = (file for file in source.rglob("*") if file.suffix in (".json", ".jsonl") and file.is_file())
    files = sorted(file for file in found if file.name != INFO)
    if not files:
        raise UserError(f"{source}: holds no .json or .jsonl files")
    return [(file, file.relative_to(source).with_suffix("").as_posix()) for file in files]


def _decoded(content: bytes, described: Layout | None, file: Path, position: int) -> Record:
    """A record, read in its file's layout or its own; raises `ValidationError` where it is of another form."""
    try:
        media = _MEDIA.decode(content)
        record = LayoutReader(described or recognised(content)).read(content, position)
    except msgspec.ValidationError:
        raise
    except NOT_JSON as error:
        raise UserError(f"{file}: record {position} is not JSON: {error}") from None
    if media.video or media.videos:
        raise _Refused("record with a video")
    return record


def _sample(id: str, record: Record, images: ImageFolder, tally: Tally) -> Sample | None:
    """The sample of a record, None where an image is missing (counted); raises `_Refused` with the reason."""
    has_system = bool(record.conversations) and record.conversations[0].from_ == "system"
    system = [Turn("system", plain(record.conversations[0].value))] if has_system else []
    spoken = [(turn.from_, turn.value) for turn in record.conversations[len(system) :]]
    if not spoken or len(spoken) % 2 or any(role != ("human", "gpt")[i % 2] for i, (role, _) in enumerate(spoken)):
        raise _Refused("speakers out of order")
    if any(_FOREIGN_BOX.search(text) for _, text in spoken):
        raise _Refused("box in a notation whose scale is not known")
    names = [name for name in record.images if name]  # an empty name is no image
    texts = _marked([text for _, text in spoken], len(names))
    if not all(text.replace(IMAGE_MARK, "").strip() for text in texts):
        raise _Refused("turn without text")
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
        raise _Refused("image mark in an answer")
    if sum(marks) > count != 1:
        raise _Refused("image marks without images" if count == 0 else "more image marks than images")
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
