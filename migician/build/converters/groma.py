"""Groma-Instruct: conversations about one image of Visual Genome whose answers are tied to regions.

One JSON list, `groma_instruct.json`, of {"file_name": "2364297.jpg", "width": 500, "height": 375, "boxes":
[[x, y, w, h], ...], "conversation": [{"from": "human", "value": "Who is it?"}, {"from": "gpt", "value":
"<p>A man</p> <roi><ground_box></roi> waves.", "box_inds": [0]}]}. Boxes are in pixels; `box_inds` says, for each
`<ground_box>` in order, which one it is. Source: groma/data/datasets/groma.py of FoundationVision/Groma at cf01ed8;
the released file itself was not seen, so what departs from this is counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from migician.boxes import Box, is_size, is_writable
from migician.boxtext import QWEN, plain, reference
from migician.build.converters.foreign import ImageFolder, RecordRefused, converted
from migician.samples.sample import IMAGE_MARK, Sample, sample
from migician.sampling import stream
from migician.sources.formats.reading import clipped
from migician.sources.scenes import Tally

_GROUNDED = re.compile(r"<p>([^<>]*)</p>\s*<roi>((?:\s*<ground_box>)+)\s*</roi>")
_PHRASE = re.compile(r"<p>([^<>]*)</p>")
_BOX = "<ground_box>"
_TAG = re.compile(r"</?(?:p|roi|ground_box|refer_box|refer_feat|region|img|sep|r[0-9]{1,2})>|\[grounding\]")
"""What is left of Groma's own tokens after reading is not understood."""


class _Said(msgspec.Struct, frozen=True):
    value: str
    box_inds: list[int] | None = None


class _Record(msgspec.Struct, frozen=True):
    file_name: str
    width: int
    height: int
    boxes: list[tuple[float, float, float, float]]
    conversation: list[_Said]


def convert(source: Path, images: ImageFolder, tally: Tally, *, seed: int = 0) -> Iterator[Sample]:
    """The samples of the records of `source`, read as `converted` reads them.

    Phrases become references followed by their boxes. Groma's model is asked to ground by a token; here the
    first question says so in one of several wordings, where an answer has boxes. Counted and left out:
    records with a missing image, a turn without its answer or without text, region tokens in a question
    or out of place, or a box that is not there or has no area. Raises `UserError` as `converted` does.
    """
    decoder = msgspec.json.Decoder(_Record)

    def sample_of(content: bytes, id: str) -> Sample | None:
        record = decoder.decode(content)
        turns = _turns(record, tally, seed, id)
        # Visual Genome's images come in two archives.
        places = [f"{folder}{record.file_name}" for folder in ("", "VG_100K/", "VG_100K_2/")]
        path = images.find(places, tally)
        return sample(id, [path], turns, "groma") if path else None

    return converted(source, images, tally, "the form of Groma-Instruct", lambda file: sample_of)


def _turns(record: _Record, tally: Tally, seed: int, id: str) -> list[tuple[str, str]]:
    """The questions and answers of a record; raises `RecordRefused` with the reason."""
    said = record.conversation
    if not said or len(said) % 2:
        raise RecordRefused("question without an answer")
    if not is_size((record.width, record.height)):
        raise RecordRefused("image without a size")
    questions = [plain(one.value).strip() for one in said[::2]]
    if any(_TAG.search(question) for question in questions):
        raise RecordRefused("region token in a question")
    answers = [_answer(one, record, tally) for one in said[1::2]]
    if not all([*questions, *answers]):
        raise RecordRefused("turn without text")
    if any(one.box_inds for one in said[1::2]):
        rng = stream(seed, "groma", id)
        questions[0] += " " + REQUESTS[int(rng.integers(len(REQUESTS)))]
    questions[0] = f"{IMAGE_MARK}\n{questions[0]}"
    return list(zip(questions, answers, strict=True))


def _answer(said: _Said, record: _Record, tally: Tally) -> str:
    """An answer with its boxes written out."""
    text = plain(said.value)
    chosen = said.box_inds or []
    if text.count(_BOX) != len(chosen):
        raise RecordRefused("region tokens and boxes differ in number")
    boxes = iter([_written(record, index, tally) for index in chosen])

    def grounded(found: re.Match[str]) -> str:
        marks = "".join(next(boxes) for _ in range(found[2].count(_BOX)))
        return reference(" ".join(found[1].split())) + marks

    text = _PHRASE.sub(lambda found: " ".join(found[1].split()), _GROUNDED.sub(grounded, text))
    if _TAG.search(text):
        raise RecordRefused("region token out of place")
    return text.strip()


def _written(record: _Record, index: int, tally: Tally) -> str:
    if not 0 <= index < len(record.boxes):
        raise RecordRefused("region token for a box that is not there")
    box = clipped(Box.from_xywh_pixels(*record.boxes[index], (record.width, record.height)), tally)
    if box is None or not is_writable(box):
        raise RecordRefused("answer with a box that cannot be written")
    return QWEN.write(box)


REQUESTS = (
    "Give a bounding box for each thing you name.",
    "Ground your answer: put boxes behind what you mention.",
    "Mark the objects of your answer with boxes.",
    "Show with bounding boxes what you speak of.",
    "Say where each thing is, too.",
    "Answer with grounded phrases.",
    "Add the coordinates of the objects.",
    "Tie your words to regions of the image.",
    "Include the box of every object in your answer.",
    "As you answer, box what you refer to.",
    "Point to each thing with its box.",
    "Answer, and locate what you mention.",
)
