"""MMIU: 11,698 multiple-choice questions over up to 62 images, in 52 tasks.

A row of the file: {"task": "person_reid", "question": "Which picture ...?", "context": "... Select from the
following choices.\\nA: the first image\\nB: the second image", "input_image_path":
["./High-level-obj-semantic/person_reid/person_reid_0_0.jpg", ...], "output": "B"}; also as parquet.
Images below a folder into which the seven archives are unpacked. Source: FanqingM/MMIU-Benchmark on
the Hub (all.parquet), and the test.json that eval/MIG_bench_eval.py of thunlp/Migician reads.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion
from migician.boxes import Size
from migician.boxtext import plain
from migician.errors import UserError
from migician.files import conform, decode, read_bytes
from migician.models.family import Family

MAX_SIDE_PX = 800
"""The published script shrinks images to fit 800 x 800, so that 62 of them fit."""

PROMPT = "Question:\n{question}\nSpecifically:\n{context}"

_PARQUET = b"PAR1"
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
    """The benchmark in a JSON list or a parquet file, recognised by its first bytes.

    Rows whose `output` is null or no letter of theirs are kept and listed as malformed. Raises `UserError`
    naming the file and the row of what is not a question.
    """
    file = Path(path)
    content = read_bytes(file, "Get it with: migician fetch mmiu")
    is_parquet = content.startswith(_PARQUET)
    what = "an MMIU file (questions with options)"
    rows = (
        conform(_parquet_rows(file), list[MmiuRow], file, what)
        if is_parquet
        else decode(content, list[MmiuRow], file, what)
    )
    if not rows:
        raise UserError(f"{file}: holds no question")
    questions = [_question(index, row, file) for index, row in enumerate(rows)]
    facts = {"file_form": "parquet" if is_parquet else "json", "prompt": PROMPT}
    return Benchmark("mmiu", file, hashlib.sha256(content).hexdigest(), questions, CHOICES, prompt, facts, MAX_SIDE_PX)


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The published prompt, in either wording: the question, then the context with the lettered options.

    "published" adds what the published script adds for some families.
    """
    no_official("mmiu", wording)
    end = family.published_choice_ends.get("mmiu", "") if wording == "published" else ""
    return PROMPT.format(question=plain(question.text), context=plain(question.context)) + end


def _parquet_rows(file: Path) -> list[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        arrow_error: type[Exception] = importlib.import_module("pyarrow").ArrowException
    except ImportError:
        raise UserError(f"{file}: reading parquet needs pyarrow: pip install 'migician[data]'") from None
    try:
        known = set(parquet.read_schema(file).names)
        wanted = [field.name for field in msgspec.structs.fields(MmiuRow) if field.name in known]
        rows: list[dict[str, Any]] = parquet.read_table(file, columns=wanted).to_pylist()
    except (arrow_error, OSError) as error:
        raise UserError(f"{file}: a damaged parquet file ({str(error).splitlines()[0]:.120}); fetch it again") from None
    return rows


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
