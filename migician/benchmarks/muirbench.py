"""MuirBench: 2,600 multiple-choice questions over several images, in 12 tasks, half of them without a true answer.

A row of data/test-*.parquet: {"idx": "5", "task": "Counting", "image_relation": "Multiview", "image_type":
"Photography", "image_list": [{"bytes": ..., "path": ...}, ...], "question": "How many ... <image> ... <image>?",
"options": ["one", "None of the choices provided"], "answer": "B"}. Options may be images: "<image>". Source:
MUIRBENCH/MUIRBENCH on the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.rows import against_published, read_rows
from migician.benchmarks.scoring.choices import PEER_CHOICES, ChoiceQuestion
from migician.benchmarks.wordings import LETTER_ONLY, in_place, lettered, name_images, place_of
from migician.boxes import Size
from migician.errors import UserError
from migician.models.family import Family
from migician.samples.sample import IMAGE_MARK

PUBLISHED = {"rows": 2600, "tasks": 12, "figure": "micro"}
PROMPT = "{question}\n{options}\n" + LETTER_ONLY
_NONE_FITS = "none of the choices"


class MuirRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    task: str
    image_list: list[str]
    question: str
    options: list[str]
    answer: str | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in a parquet file or the folder of its parts.

    Rows whose answer is no letter of theirs are kept and listed as malformed. Raises `UserError` naming the file and
    the row of what is not a question.
    """
    found = read_rows(path, MuirRow, "a MuirBench file", split="test")
    questions = [_question(index, row, Path(path)) for index, row in enumerate(found.rows)]
    unanswerable = sum(
        one.answer is not None and one.options[one.answer].casefold().startswith(_NONE_FITS) for one in questions
    )
    facts = {**found.facts, **against_published(questions, PUBLISHED), "unanswerable": unanswerable, "prompt": PROMPT}
    return Benchmark(
        "muirbench", Path(path), found.sha256, questions, PEER_CHOICES, prompt, facts, pictures=found.pictures
    )


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The question, its options with letters, and the sentence that asks for one letter; images at their marks."""
    no_official("muirbench", wording)
    return in_place(PROMPT.format(question=question.text, options=question.context), len(question.images))


def _question(index: int, row: MuirRow, file: Path) -> ChoiceQuestion:
    if not row.image_list:
        raise UserError(f"{file}: row {index} has no images")
    return ChoiceQuestion(
        index=index,
        task=row.task,
        images=tuple(row.image_list),
        text=row.question,
        options=name_images(row.options, row.question.count(IMAGE_MARK)),
        gold=row.answer,
        answer=place_of(row.answer or "", row.options),
        context=lettered(row.options),
        lmms_eval="muirbench",
    )
