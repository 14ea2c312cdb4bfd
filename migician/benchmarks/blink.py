"""BLINK: multiple choice over one to four images, 14 tasks; the validation split has 1,901 rows with their answers.

A row of Art_Style/val-*.parquet: {"idx": "val_Art_Style_1", "question": "...", "sub_task": "Art_Style", "image_1":
{"bytes": ..., "path": ...}, ..., "image_4": null, "choices": ["the second image", "the third image"], "answer": "(A)",
"prompt": "... Select from the following choices.\n(A) the second image\n(B) the third image"}. The answers of the test
split are hidden. Source: BLINK-Benchmark/BLINK on the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.rows import against_published, read_rows
from migician.benchmarks.scoring.choices import PEER_CHOICES, ChoiceQuestion
from migician.benchmarks.wordings import LETTER_ONLY, in_place, lettered, place_of
from migician.boxes import Size
from migician.errors import UserError
from migician.models.family import Family

PUBLISHED = {"rows": 1901, "tasks": 14, "figure": "average"}
PROMPT = "{prompt}\n" + LETTER_ONLY


class BlinkRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    question: str
    sub_task: str
    choices: list[str]
    image_1: str
    image_2: str | None = None
    image_3: str | None = None
    image_4: str | None = None
    answer: str | None = None
    prompt: str | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in the folder of its 14 tasks, or in one file; of a folder the validation split.

    Rows whose answer is none of their letters, as all of the test split, are kept and listed as malformed. Raises
    `UserError` naming the file and the row of what is not a question.
    """
    found = read_rows(path, BlinkRow, "a BLINK file", split="val")
    questions = [_question(index, row) for index, row in enumerate(found.rows)]
    if all(question.is_malformed for question in questions):
        raise UserError(f"{path}: no row has an answer: BLINK's test split hides them, so give the val files")
    facts = {**found.facts, **against_published(questions, PUBLISHED), "prompt": PROMPT}
    return Benchmark("blink", Path(path), found.sha256, questions, PEER_CHOICES, prompt, facts, pictures=found.pictures)


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """All images, then the file's own prompt, which has the options, and the sentence that asks for one letter.

    "official" leaves the sentence out, as the authors' code does.
    """
    text = question.context if wording == "official" else PROMPT.format(prompt=question.context)
    return in_place(text, len(question.images))


def _question(index: int, row: BlinkRow) -> ChoiceQuestion:
    images = (row.image_1, row.image_2, row.image_3, row.image_4)
    return ChoiceQuestion(
        index=index,
        task=row.sub_task,
        images=tuple(image for image in images if image),
        text=row.question,
        options=tuple(row.choices),
        gold=row.answer,
        answer=place_of(row.answer or "", row.choices),
        context=row.prompt or f"{row.question}\n{lettered(row.choices)}",
        lmms_eval="blink",
    )
