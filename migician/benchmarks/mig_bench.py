"""MIG-Bench: 4,295 questions over several images, one box each, in ten tasks.

A row of the file: {"task": "diff", "images": ["./MIG-Bench/images/...", ...], "question": "...",
"answer": [x1, y1, x2, y2], "additional_info": "", "need_format": true}. The original file writes
answers as fractions, the revised one (published with UniVG-R1) as integers of 0..1000; averages
over the two are not comparable. Source: Michael4933/MIG-Bench on the Hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion
from migician.boxes import Box, Size
from migician.boxtext import QWEN, REF_END, REF_START, parse_boxes
from migician.errors import UserError
from migician.files import decode, read_bytes
from migician.imagenames import asked_image
from migician.models import official_prompt
from migician.models.family import QWEN2_VL, Family

_LONGEST_SOURCE = 60
"""Letters of `MigBenchRow.source` that are kept."""

# The files that papers' figures are from; any other file of the same form is scored and said to be another.
RELEASED = {
    "8f6e8fce3720dc6e17462533426d455463cda38b441edc2d70d65afa15681300": "MIG_data.json of Michael4933/MIG-Bench",
    "69aea94deef1bd2a9f5e117068b7a325a82bc9c0d11881f98f29338fbe779791": "revised_MIG_bench.json of UniVG-R1",
}


class MigBenchRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    task: str
    images: list[str]
    question: str
    answer: tuple[int | float, int | float, int | float, int | float] | None
    """In a file of one's own null where what is asked for is in none of the images."""
    additional_info: str = ""
    need_format: bool = True
    source: str = ""
    """In a file of one's own: what it is, as the miniature world says it. Released files have no such field."""


def load(path: str | Path) -> Benchmark:
    """The benchmark in a JSON file of either form, recognised by how its numbers are written.

    Answers that are all whole numbers are 0..1000 (the revised form), all else fractions
    (the original). Raises `UserError` naming the file and the row of what is not a question.
    """
    file = Path(path)
    content = read_bytes(file, "Get it with: migician fetch mig-bench")
    rows = decode(content, list[MigBenchRow], file, "a MIG-Bench file (a JSON list of questions)")
    if not rows:
        raise UserError(f"{file}: holds no question")
    numbers = [value for row in rows for value in row.answer or ()]
    revised = bool(numbers) and all(isinstance(value, int) for value in numbers)
    may_be_absent = any(row.answer is None for row in rows)
    questions = tuple(_question(index, row, revised, may_be_absent, file) for index, row in enumerate(rows))
    sha256 = hashlib.sha256(content).hexdigest()
    facts: dict[str, Any] = {
        "file_kind": "revised" if revised else "original",
        "file_released_as": RELEASED.get(sha256),
    }
    sources = {row.source for row in rows}
    if len(sources) == 1 and sha256 not in RELEASED and (declared := " ".join(sources.pop().split())):
        facts["file_declared_as"] = declared[:_LONGEST_SOURCE]
    facts["duplicate_rows"] = _repeats(questions)
    return Benchmark("mig-bench", file, sha256, questions, BOXES, prompt, facts)


def _repeats(questions: Sequence[BoxQuestion]) -> list[dict[str, int]]:
    """The rows that ask the same of the same images as an earlier one, with the same answer."""
    first: dict[tuple[str, tuple[str, ...], str, Box | None], int] = {}
    found = []
    for one in questions:
        earlier = first.setdefault((one.task, one.images, one.text, one.truth), one.index)
        if earlier != one.index:
            found.append({"row": one.index, "repeats": earlier})
    return found


def _question(index: int, row: MigBenchRow, revised: bool, may_be_absent: bool, file: Path) -> BoxQuestion:
    if not row.images:
        raise UserError(f"{file}: row {index} has no images")
    if row.answer is None:
        return BoxQuestion(index, row.task, tuple(row.images), row.question, None, None, row.need_format, True)
    truth = Box.from_permille(*row.answer) if revised else Box(*row.answer)
    target = _target_image(row, truth)
    if target is not None and target >= len(row.images):
        target = None
    return BoxQuestion(index, row.task, tuple(row.images), row.question, truth, target, row.need_format, may_be_absent)


def _target_image(row: MigBenchRow, truth: Box) -> int | None:
    """The image the true box is in, where the row tells."""
    if row.task == "region":
        return 0  # the source image comes first, its regions follow
    if row.task == "correspondence":
        return 1  # asked about the second, though the sentence continues
    if row.task == "group_grounding":
        # The revised file moved boxes without this text: it counts only where it still has the same box.
        parsed = parse_boxes(row.additional_info)
        same = parsed.boxes and max(_gaps(parsed.boxes[0], truth)) < 0.0055
        return parsed.mentions[0].image if same else None
    return asked_image(row.question)


def _gaps(a: Box, b: Box) -> list[float]:
    return [abs(x - y) for x, y in zip(a.as_tuple(), b.as_tuple(), strict=True)]


def prompt(
    question: BoxQuestion,
    wording: str = "corrected",
    family: Family = QWEN2_VL,
    sizes: Sequence[Size] | None = None,
) -> str:
    """What a model of `family` is asked: the question in its box format, then how to write the box.

    The published script adds its sentence to every row; "corrected" fixes the slips of that
    sentence, and asks Qwen2-VL for no format where the row's `need_format` is false, as the published
    chain-of-thought script does. "official" ends in the format sentence of the family's makers, in every row. "trained"
    asks any family as the records it was trained on do, once `migician data convert records` has written them for it:
    references in quotes, and no format where `need_format` is false. Boxes in the question are respelled exactly under
    all. `sizes`: see `Family.respelled`. Raises `UserError` where the published script does not know the family, and
    where its makers document no prompt.

    In a file that also asks for what is not there, the sentence on the format ends with how to say so, in every row
    that has it.
    """
    asked = question.text.rstrip()
    absent = f" {family.if_absent}" if question.may_be_absent else ""
    if wording == "trained":
        if family.style != QWEN:
            asked = asked.replace(REF_START, '"').replace(REF_END, '"')
        text = family.respelled(asked, sizes)
        return f"{text} {family.format}{absent}" if question.need_format else text
    text = family.respelled(asked, sizes)
    if wording == "published":
        if family.published_format is None:
            raise UserError(f"the published script does not ask {family.name}: use --prompt corrected")
        return f"{text} {family.published_format}"
    if wording == "official":
        return f"{text} {official_prompt(family).format}{absent}"
    return f"{text} {family.format}{absent}" if question.need_format or family.format_always else text
