"""RefCOCO, RefCOCO+ and RefCOCOg: one phrase, one image, one box; a check that single images are not forgotten.

Two forms. A file of JSON lines, as several model families publish for their own evaluation: {"image":
"train2014/COCO_train2014_000000581857.jpg", "sent": "woman in white shirt", "bbox": [x1, y1, x2, y2] in pixels,
"width": 640, "height": 427}, and optionally "task": "refcoco_testA". Or the folder of one dataset as its authors
publish it, with refs(unc).p (refs(umd).p for RefCOCOg) and instances.json: see `migician.sources.refcoco`.
Then each split but train is a task ("refcoco_val", "refcoco_testA", ...), and each sentence a question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion
from migician.boxes import Box, Size, is_size
from migician.boxtext import REF_END, REF_START, plain, reference
from migician.errors import UserError
from migician.files import decode, is_file, is_folder, read_bytes
from migician.models import official_prompt
from migician.models.family import Family
from migician.sources.refcoco import PARTITIONS, read_held_out

PROMPT = "Give the bounding box of {phrase}."


def prompt(question: BoxQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """As MIG-Bench's; under "official" the phrase alone, in the prompt that the family's makers use for it."""
    if wording == "official":
        phrase = question.text.partition(REF_START)[2].rpartition(REF_END)[0]
        return official_prompt(family).phrase.replace("{ref}", phrase)
    return mig_bench.prompt(question, wording, family, sizes)


class PhraseRow(msgspec.Struct, frozen=True):
    """One question of a file of JSON lines."""

    image: str
    sent: str
    bbox: tuple[float, float, float, float]
    width: int
    height: int
    task: str = "refcoco"


def load(path: str | Path) -> Benchmark:
    """The questions of a file of JSON lines, or of a dataset's folder; of that, the sha256 is over both files.

    Raises `UserError` naming the file and the line of what is not a question.
    """
    given = Path(path)
    digest = hashlib.sha256()
    if is_folder(given):
        form, lines = "folder", list(_of_folder(given, digest))
    else:
        form, lines = "lines", list(_of_file(given, digest))
    if not lines:
        raise UserError(f"{given}: holds no phrase")
    questions = tuple(_question(index, line) for index, line in enumerate(lines))
    facts = {"form": form, "prompt": PROMPT}
    return Benchmark("refcoco", given, digest.hexdigest(), questions, BOXES, prompt, facts)


def _question(index: int, line: PhraseRow) -> BoxQuestion:
    text = PROMPT.format(phrase=reference(plain(" ".join(line.sent.split()))))
    truth = Box.from_pixels(*line.bbox, (line.width, line.height))
    return BoxQuestion(index, line.task, (line.image,), text, truth, 0, True)


def _of_file(file: Path, digest: Any) -> Iterator[PhraseRow]:
    content = read_bytes(file)
    digest.update(content)
    what = '{"image", "sent", "bbox": [x1, y1, x2, y2] in pixels, "width", "height"} on one line'
    for number, row in enumerate(content.split(b"\n"), start=1):
        if not row.strip():
            continue
        line = decode(row, PhraseRow, f"{file}:{number}", what)
        if not is_size((line.width, line.height)):
            raise UserError(f"{file}:{number}: an image of {line.width} x {line.height} pixels")
        yield line


def _of_folder(folder: Path, digest: Any) -> Iterator[PhraseRow]:
    name = folder.resolve().name
    if name not in PARTITIONS:
        raise UserError(f"{folder}: name one dataset's folder: {', '.join(PARTITIONS)}, or a file of JSON lines")
    for file in (folder / f"refs({PARTITIONS[name]}).p", folder / "instances.json"):
        if is_file(file):
            with file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
    for phrase in read_held_out(folder):
        x, y, width, height = phrase.xywh_px
        yield PhraseRow(
            phrase.image,
            phrase.text,
            (x, y, x + width, y + height),
            *phrase.size,
            f"{name}_{phrase.split}",
        )
