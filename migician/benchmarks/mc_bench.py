"""MC-Bench: 2,000 pairs of images and a text that describes objects in both, in one, or in neither; AP at IoU 0.5.

The file, mc-bench_v0.2_val.json, is COCO's with descriptions: {"descriptions": [{"id": 0, "images_id": [0, 1], "text":
"The man who has already swung a golf club", "positive_sample": true, "text_style": "Reasoning"}], "images": [{"id": 0,
"file_name": "D3/018.jpg", "width": 800, "height": 531}], "annotations": [{"image_id": 1, "text_id": 0,
"category_id": 1, "bbox": [236, 210, 74, 193]}]}. Where a text asks for groups ("people with the same role"),
category_id is the group. Source: XuYunqiu/MC-Bench; arXiv 2410.12332.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.rows import against_published
from migician.benchmarks.scoring.average_precision import DETECTION
from migician.benchmarks.scoring.matching import Placed, SetQuestion
from migician.boxes import Box, Size, is_size
from migician.boxtext import plain, reference
from migician.errors import UserError
from migician.files import decode, read_bytes
from migician.models.family import Family

PUBLISHED = {"rows": 2000, "tasks": 3, "figure": "micro"}
PROMPT = "Locate everything in these images that this describes: {phrase}."
FORMAT = "Answer with one line for each object. Format: Image-N: {box}. If there is nothing of it, answer: None"


class _Description(msgspec.Struct, frozen=True):
    id: int
    images_id: list[int]
    text: str
    text_style: str


class _Image(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    text_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class McFile(msgspec.Struct, frozen=True):
    """The parts of the file that are read."""

    descriptions: list[_Description]
    images: list[_Image]
    annotations: list[_Annotation]


def load(path: str | Path) -> Benchmark:
    """The benchmark in its file; each text style is a task.

    Raises `UserError` naming the file and the description of what is not a question.
    """
    file = Path(path)
    content = read_bytes(file)
    data = decode(content, McFile, file, "an MC-Bench file (descriptions, images and annotations)")
    if not data.descriptions:
        raise UserError(f"{file}: holds no description")
    images = {image.id: image for image in data.images}
    boxes: dict[int, list[_Annotation]] = {}
    for box in data.annotations:
        boxes.setdefault(box.text_id, []).append(box)
    questions = [
        _question(index, one, images, boxes.get(one.id, []), file) for index, one in enumerate(data.descriptions)
    ]
    facts = {**against_published(questions, PUBLISHED), "prompt": f"{PROMPT} {FORMAT}"}
    return Benchmark(
        "mc-bench", file, hashlib.sha256(content).hexdigest(), questions, DETECTION, prompt, facts, max_new_tokens=512
    )


def prompt(question: SetQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The description, then how to write boxes with their images; nothing is published for one prompt, so `wording`
    changes nothing.
    """
    no_official("mc-bench", wording)
    box = family.style.filled("x1", "y1", "x2", "y2")
    return f"{family.respelled(question.text, sizes)} {FORMAT.format(box=box)}"


def _question(
    index: int, one: _Description, images: dict[int, _Image], boxes: list[_Annotation], file: Path
) -> SetQuestion:
    place = f"{file}: description {one.id}"
    if missing := [image for image in one.images_id if image not in images]:
        raise UserError(f"{place}: its image {missing[0]} is not in the file")
    if not one.images_id:
        raise UserError(f"{place}: has no images")
    shown = [images[image] for image in one.images_id]
    for image in shown:
        if not is_size((image.width, image.height)):
            raise UserError(f"{place}: an image of {image.width} x {image.height} pixels")
    truths, groups = [], []
    for box in boxes:
        if box.image_id not in one.images_id:
            raise UserError(f"{place}: a box in image {box.image_id}, which is not one of its own")
        number = one.images_id.index(box.image_id)
        size = (shown[number].width, shown[number].height)
        truths.append(Placed(number, Box.from_xywh_pixels(*box.bbox, size)))
        groups.append(box.category_id)
    text = PROMPT.format(phrase=reference(plain(" ".join(one.text.split()))))
    names = tuple(image.file_name for image in shown)
    return SetQuestion(index, one.text_style, names, text, tuple(truths), (index,), tuple(groups))
