"""RefCOCO, RefCOCO+ and RefCOCOg: one phrase, one image, one box; a check that single images are not forgotten.

It circulates in these forms, of two grains: a row for each sentence, or a row for each object with all of its
sentences. A question is one sentence in all of them; the report says which grain the file has.

- JSON lines, as several model families publish for their own evaluation: {"image":
"train2014/COCO_train2014_000000581857.jpg", "sent": "woman in white shirt", "bbox": [x1, y1, x2, y2] in pixels,
"width": 640, "height": 427}, and optionally "task": "refcoco_testA". - A JSON list, as VLM-R1 has it: {"image": ...,
"normal_caption": "woman in white shirt", "problem": "... describes: woman in white shirt", "solution": [x1, y1, x2,
y2] in pixels, "width": 640, "height": 427}. - VLMEvalKit's TSV: index, image (base64), question, split
("RefCOCO_testA"), bbox_x1 to bbox_y2 in pixels, width, height. - Parquet of lmms-lab, a row for each object:
question_id, image, question, answer (its sentences), bbox (x, y, width and height in pixels). - The folder of one
dataset as its authors publish it, with refs(unc).p (refs(umd).p for RefCOCOg) and instances.json: see
`migician.sources.refcoco`. Each split but train is a task ("refcoco_val", "refcoco_testA", ...).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.rows import Rows, read_rows
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion
from migician.boxes import Box, Size, is_size
from migician.boxtext import REF_END, REF_START, plain, reference
from migician.errors import UserError
from migician.files import decode, is_file, is_folder, opened, read_bytes
from migician.models import official_prompt
from migician.models.family import Family
from migician.sources.refcoco import PARTITIONS, read_held_out

SCORING = replace(BOXES, protocols=(*BOXES.protocols, "lmms-eval", "vlmevalkit"))
PROMPT = "Give the bounding box of {phrase}."
SENTENCE, OBJECT = "a row for each sentence", "a row for each object, asked once for each of its sentences"
_DATASET = re.compile(r"refcoco(?P<kind>plus|\+|p(?=_|\b)|g)?(?=_|\b)", re.IGNORECASE)
_MARKED = [re.compile(form, re.DOTALL) for form in ("<ref>(.+?)</ref>", '"(.+)"', "describes?: *(.+)")]


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


class TableRow(msgspec.Struct, frozen=True):
    """A row of a JSON list, a TSV or a parquet file: in each form other fields."""

    image: str
    index: str | int | None = None
    split: str | None = None
    width: float | None = None
    height: float | None = None
    question: str | None = None
    answer: Any = None
    bbox: Any = None
    normal_caption: str | None = None
    problem: str | None = None
    solution: tuple[float, float, float, float] | None = None
    bbox_x1: float | None = None
    bbox_y1: float | None = None
    bbox_x2: float | None = None
    bbox_y2: float | None = None


def load(path: str | Path) -> Benchmark:
    """The questions of a file or folder in one of the forms above; of the authors' folder, the sha256 is over both
    files.

    Raises `UserError` naming the file and the line or row of what is not a question.
    """
    given = Path(path)
    if is_folder(given) and not (is_file(given / "instances.json") or given.resolve().name in PARTITIONS):
        return _of_table(given)
    if is_file(given) and not is_folder(given):
        with opened(given) as stream:
            start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not start.startswith(b"{") and start:
            return _of_table(given)
    digest = hashlib.sha256()
    if is_folder(given):
        form, lines = "folder", list(_of_folder(given, digest))
    else:
        form, lines = "lines", list(_of_file(given, digest))
    if not lines:
        raise UserError(f"{given}: holds no phrase")
    questions = tuple(_question(index, line) for index, line in enumerate(lines))
    facts = {"form": form, "grain": OBJECT if form == "folder" else SENTENCE, "prompt": PROMPT}
    return Benchmark("refcoco", given, digest.hexdigest(), questions, SCORING, prompt, facts)


def _of_table(given: Path) -> Benchmark:
    found = read_rows(given, TableRow, "a RefCOCO file", measure=True)
    asked = [number for number, split in enumerate(found.splits) if split != "train"]
    lines = [line for number in asked for line in _lines(found, number, given)]
    if not lines:
        raise UserError(f"{given}: holds nothing but the training split")
    questions = tuple(_question(index, line) for index, line in enumerate(lines))
    form = "parquet" if found.sizes and found.rows[0].bbox_x1 is None else "tsv" if given.suffix == ".tsv" else "list"
    grain = OBJECT if found.rows[0].bbox is not None else SENTENCE
    facts = {"form": form, "grain": grain, "rows_of_the_file": len(found.rows), **found.facts, "prompt": PROMPT}
    return Benchmark("refcoco", given, found.sha256, questions, SCORING, prompt, facts, pictures=found.pictures)


def _lines(found: Rows[TableRow], number: int, given: Path) -> Iterator[PhraseRow]:
    """The sentences of one row."""
    row, place = found.rows[number], f"{given}: row {number}"
    size = (int(row.width), int(row.height)) if row.width and row.height else found.sizes.get(row.image)
    if size is None:
        raise UserError(f"{place}: says no width and height of {row.image}, and does not hold it: add both")
    task = row.split or _task(given, found.splits[number])
    corners = (row.bbox_x1, row.bbox_y1, row.bbox_x2, row.bbox_y2)
    if row.solution is not None:
        box, phrases = row.solution, [row.normal_caption or _phrase(row.problem or "")]
    elif row.bbox is not None:
        x, y, width, height = _four(row.bbox, place)
        answers = [row.answer] if isinstance(row.answer, str) else row.answer
        box, phrases = (x, y, x + width, y + height), answers
    else:
        box, phrases = _four(corners, place), [_phrase(row.question or "")]
    if not isinstance(phrases, list) or not phrases or not all(isinstance(one, str) and one.strip() for one in phrases):
        raise UserError(f"{place}: holds no phrase")
    for phrase in phrases:
        yield PhraseRow(row.image, phrase, box, *size, task)


def _four(values: Any, place: str) -> tuple[float, float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(type(one) in (int, float) for one in values):
        raise UserError(f"{place}: holds no box of four numbers")
    x1, y1, x2, y2 = map(float, values)
    return x1, y1, x2, y2


def _phrase(question: str) -> str:
    """What a question of another harness asks for: between <ref> tags, in quotes or behind "describes:"; else all of
    it.

    >>> _phrase("Please provide the bounding box of the region this sentence describes: <ref>a dog</ref>")
    'a dog'
    """
    found = next((match for form in _MARKED if (match := form.search(question))), None)
    return (found[1] if found else question).strip()


def _task(given: Path, split: str) -> str:
    """The task's name, of the names of file and folders: "refcoco+_testA" for RefCOCOplus/data/testA-*.parquet."""
    for name in (given.stem if is_file(given) else given.name, *(folder.name for folder in given.absolute().parents)):
        if dataset := _DATASET.search(name):
            kind = {"plus": "+", "p": "+"}.get((dataset["kind"] or "").lower(), (dataset["kind"] or "").lower())
            named = re.search(r"(val|testA|testB|test)(?=\W|_|\Z)", name[dataset.end() :])
            part = split or (named[1] if named else "")
            return f"refcoco{kind}_{part}" if part else f"refcoco{kind}"
    return f"refcoco_{split}" if split else "refcoco"


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
