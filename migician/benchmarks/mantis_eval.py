"""Mantis-Eval: 217 questions over two to five images, most with options, some for a word or two.

A row of the parquet file: {"id": "mantis_eval_3", "question_type": "multi-choice", "question": "... <image> <image>",
"images": [{"bytes": ..., "path": ...}, ...], "options": ["(A) Yes", "(B) No"], "answer": "A"}; of "short-answer" the
options are empty and the answer is a text, or several. Source: TIGER-Lab/Mantis-Eval on the Hub, split test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.rows import against_published, read_rows
from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion
from migician.benchmarks.wordings import (
    LETTER_ONLY,
    in_place,
    lettered,
    name_images,
    place_of,
    without_letters,
)
from migician.boxes import Size
from migician.errors import UserError
from migician.models.family import Family
from migician.samples.sample import IMAGE_MARK

PUBLISHED = {"rows": 217, "figure": "micro"}
PROMPT = "{question}\n{options}\n" + LETTER_ONLY
SCORING = replace(CHOICES, protocols=(*CHOICES.protocols, "lmms-eval"))
SHORT_PROMPT = "{question}\nAnswer with a single word or number, and nothing else."


class MantisRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    question_type: str
    question: str
    images: list[str]
    answer: str | list[str]
    options: list[str] | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in its parquet file or folder.

    Rows whose answer is no letter of theirs, or is empty, are kept and listed as malformed. Raises `UserError` naming
    the file and the row of what is not a question.
    """
    found = read_rows(path, MantisRow, "a Mantis-Eval file", split="test")
    questions = [_question(index, row, Path(path)) for index, row in enumerate(found.rows)]
    facts = {**found.facts, **against_published(questions, PUBLISHED), "prompt": PROMPT, "short_prompt": SHORT_PROMPT}
    return Benchmark(
        "mantis-eval", Path(path), found.sha256, questions, SCORING, prompt, facts, pictures=found.pictures
    )


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The question with its options and a request for a letter, or with a request for a word; images at their marks."""
    no_official("mantis-eval", wording)
    form = PROMPT if question.options else SHORT_PROMPT
    return in_place(form.format(question=question.text, options=question.context), len(question.images))


def _question(index: int, row: MantisRow, file: Path) -> ChoiceQuestion:
    if not row.images:
        raise UserError(f"{file}: row {index} has no images")
    answers = [row.answer] if isinstance(row.answer, str) else row.answer
    shown = without_letters(row.options or []) if row.question_type == "multi-choice" else ()
    return ChoiceQuestion(
        index=index,
        task=row.question_type,
        images=tuple(row.images),
        text=row.question,
        options=name_images(shown, row.question.count(IMAGE_MARK)),
        gold=" | ".join(answers),
        answer=place_of(answers[0], shown) if shown and answers else None,
        context=lettered(shown),
        lmms_eval="mantis",
        accepted=() if shown else tuple(answer for answer in answers if answer.strip()),
    )
