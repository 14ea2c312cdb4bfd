"""MMIU: 11,698 multiple-choice questions over up to 62 images, in 52 tasks, for which the file has 60 names.

A row of the file: {"task": "person_reid", "question": "Which picture ...?", "context": "... Select from the
following choices.\\nA: the first image\\nB: the second image", "input_image_path":
["./High-level-obj-semantic/person_reid/person_reid_0_0.jpg", ...], "output": "B"}; also as parquet.
Images below a folder into which the seven archives are unpacked. Source: FanqingM/MMIU-Benchmark on
the Hub (all.parquet), and the test.json that eval/MIG_bench_eval.py of thunlp/Migician reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.rows import against_published, read_rows
from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion
from migician.boxes import Size
from migician.boxtext import plain
from migician.errors import UserError
from migician.models.family import Family

MAX_SIDE_PX = 800
"""The published script shrinks images to fit 800 x 800, so that 62 of them fit."""

PROMPT = "Question:\n{question}\nSpecifically:\n{context}"

OFFICIAL_END = "Please answer the option directly like A,B,C,D..."
PUBLISHED = {"rows": 11698, "tasks": 60, "figure": "average"}
QUESTION_FIRST = {
    "person_reid", "multiple_image_captioning", "spot_the_similarity", "face_retrieval", "sketch2image_retrieval",
    "handwritten_retrieval", "spot_the_diff", "image2image_retrieval", "vehicle_retrieval", "text2image_retrieval",
    "general_action_recognition", "video_captioning", "next_img_prediction", "temporal_ordering",
    "meme_vedio_understanding", "action_quality_assessment", "temporal_localization", "mevis",
    "ravens_progressive_matrices", "threed_indoor_recognition", "point_tracking", "threed_cad_recognition",
    "single_object_tracking",
}  # fmt: skip
"""The tasks in whose official prompt the context follows the question."""
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[ \t]*[:.)][ \t]*", re.MULTILINE)


class MmiuRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    task: str
    question: str
    input_image_path: list[str]
    context: str | None = None
    options: str | None = None
    output: str | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in a JSON list or a parquet file, recognised by its first bytes, or in a folder of parquet files.

    Rows whose `output` is null or no letter of theirs are kept and listed as malformed. Raises `UserError`
    naming the file and the row of what is not a question.
    """
    found = read_rows(path, MmiuRow, "an MMIU file (questions with options)", otherwise="migician fetch mmiu")
    questions = [_question(index, row, Path(path)) for index, row in enumerate(found.rows)]
    facts = {**found.facts, **against_published(questions, PUBLISHED), "prompt": PROMPT}
    return Benchmark(
        "mmiu", Path(path), found.sha256, questions, CHOICES, prompt, facts, MAX_SIDE_PX, pictures=found.pictures
    )


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The published prompt of Migician's script: the question, then the context with the lettered options.

    "published" adds what that script adds for some families. "official" is the prompt of the benchmark's authors: the
    question comes first in 23 tasks and last in the others, and a sentence asks for the letter.
    """
    if wording == "official":
        parts = [plain(question.text), plain(question.context)]
        return "\n".join([*(parts if question.task in QUESTION_FIRST else reversed(parts)), OFFICIAL_END])
    end = family.published_choice_ends.get("mmiu", "") if wording == "published" else ""
    return PROMPT.format(question=plain(question.text), context=plain(question.context)) + end


def _question(index: int, row: MmiuRow, file: Path) -> ChoiceQuestion:
    if not row.input_image_path:
        raise UserError(f"{file}: row {index} has no images")
    context = row.context or ""
    options = split_options(row.options or "") or split_options(context)
    gold = row.output
    letter = (gold or "").strip().strip("().:").strip()
    answer = ascii_uppercase.find(letter) if len(letter) == 1 else -1
    return ChoiceQuestion(
        index=index,
        task=row.task,
        images=tuple(row.input_image_path),
        text=row.question,
        options=options,
        gold=gold,
        answer=answer if 0 <= answer < len(options) else None,
        context=context,
    )


def split_options(text: str) -> tuple[str, ...]:
    """The texts behind "A:", "B:", ... at the beginnings of lines: the last run of letters from A that is unbroken.

    Fewer than two options are none.

    >>> split_options("Select from the following choices.\\nA: CLICK: (3, 4)\\nB: SCROLL: UP")
    ('CLICK: (3, 4)', 'SCROLL: UP')
    """
    run: list[re.Match[str]] = []
    for mark in _OPTION.finditer(text):
        if mark[1] == "A":
            run = [mark]
        elif run and mark[1] == ascii_uppercase[len(run)]:
            run.append(mark)
    if len(run) < 2:
        return ()
    ends = [mark.start() for mark in run[1:]] + [len(text)]
    return tuple(text[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True))
