"""MIBench: multiple choice over several images, 1,000 questions a task; its multi-image and its knowledge part.

A row of a file: {"task": "subtle_difference", "image": ["image/...", ...], "question": "What ... <image> ...?",
"options": ["red", "blue"], "answer": "red"}. The options have no letters; the answer is an option's text.
The in-context part (multimodal_in_context_learning.json) is refused: what its records mean is not
documented. Source: StarBottle/MIBench on the Hub; fields as eval/MIG_bench_eval.py of thunlp/Migician reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion
from migician.boxes import Size
from migician.boxtext import plain
from migician.errors import UserError
from migician.files import decode, is_file, is_folder, read_bytes
from migician.models.family import Family
from migician.samples.sample import IMAGE_MARK

PARTS: dict[str, tuple[str, ...]] = {
    "multi_image_instruction.json": (
        "general_comparison",
        "subtle_difference",
        "visual_referring",
        "temporal_reasoning",
        "logical_reasoning",
    ),
    "multimodal_knowledge_seeking.json": (
        "fine_grained_visual_recognition",
        "text_rich_images",
        "vision_linked_textual_knowledge",
        "text_linked_visual_knowledge",
    ),
}
"""Each part's file and its tasks."""

PROMPT = "{question}Please only strictly answer from the choice list: {options}"


class MiBenchRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    task: str
    image: list[str]
    question: str
    options: list[str]
    answer: str | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in one part's file, or in a folder with one or both; of two, the sha256 is over both in order.

    Rows whose answer is none of their options are kept and listed as malformed. Raises `UserError`
    naming the file and the row of what is not a question, and for the in-context part.
    """
    given = Path(path)
    files = [given / name for name in PARTS if is_file(given / name)] if is_folder(given) else [given]
    if not files:
        raise UserError(f"{given}: holds neither {' nor '.join(PARTS)}. Get them with: migician fetch mibench")
    digest = hashlib.sha256()
    rows: list[MiBenchRow] = []
    for file in files:
        content = read_bytes(file, "Get it with: migician fetch mibench")
        digest.update(content)
        rows += _rows(content, file)
    if not rows:
        raise UserError(f"{given}: holds no question")
    questions = [_question(index, row, given) for index, row in enumerate(rows)]
    facts = {"files": [file.name for file in files], "prompt": PROMPT}
    return Benchmark("mibench", given, digest.hexdigest(), questions, CHOICES, prompt, facts)


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The question, then the options joined by " | ".

    Images stand at the `<image>` marks of the question. "published" joins the two without a blank, and has
    "Image-1", "Image-2" in place of the marks, with all images before the text. The published script does so for
    MiniCPM-V; for other families it leaves the marks as plain text, which means nothing to them.
    """
    no_official("mibench", wording)
    text = question.text
    if wording == "published":
        for number in range(1, text.count(IMAGE_MARK) + 1):
            text = text.replace(IMAGE_MARK, f"Image-{number}", 1)
    elif text.count(IMAGE_MARK) == len(question.images):
        text = text.rstrip() + " "
    else:
        text = text.replace(IMAGE_MARK, "").strip() + " "
    parts = IMAGE_MARK.join(plain(part) for part in text.split(IMAGE_MARK))
    end = family.published_choice_ends.get("mibench", "") if wording == "published" else ""
    return PROMPT.format(question=parts, options=plain(" | ".join(question.options))) + end


def _rows(content: bytes, file: Path) -> list[MiBenchRow]:
    refused = (
        f"{file}: not one of MIBench's parts {' and '.join(PARTS)}; the form of its in-context part is not "
        "documented, so it is not asked"
    )
    if "in_context" in file.name:
        raise UserError(refused)
    rows = decode(content, list[MiBenchRow], file, "a MIBench file (a JSON list of questions with options)")
    known = {task for tasks in PARTS.values() for task in tasks}
    for index, row in enumerate(rows):
        if row.task not in known:
            raise UserError(f"{refused} (row {index} has task {row.task!r})")
    return rows


def _question(index: int, row: MiBenchRow, file: Path) -> ChoiceQuestion:
    if not row.image:
        raise UserError(f"{file}: row {index} has no images")
    wanted = _bare(row.answer or "")
    options = [_bare(option) for option in row.options]
    return ChoiceQuestion(
        index=index,
        task=row.task,
        images=tuple(row.image),
        text=row.question,
        options=tuple(row.options),
        gold=row.answer,
        answer=options.index(wanted) if wanted and wanted in options else None,
        lettered=False,
    )


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
