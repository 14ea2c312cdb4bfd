"""V*: 191 multiple-choice questions about small things in large photographs, up to 5,759 pixels wide.

A line of test_questions.jsonl: {"question_id": 0, "image": "direct_attributes/sa_4690.jpg", "text": "What is the
material of the glove?\n(A) rubber\n(B) cotton\nAnswer with the option's letter from the given choices directly.",
"category": "direct_attributes", "label": "A"}; or parquet with the images inside. Source: craigwu/vstar_bench on the
Hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark, no_official
from migician.benchmarks.rows import against_published, read_rows
from migician.benchmarks.scoring.choices import PEER_CHOICES, ChoiceQuestion
from migician.benchmarks.wordings import LETTER_ONLY, in_place, lettered, place_of
from migician.boxes import Size
from migician.models.family import Family

PUBLISHED = {"rows": 191, "tasks": 2, "figure": "micro"}
PROMPT = "{question}\n{options}\n" + LETTER_ONLY
_OPTION = re.compile(r"\s*\((?P<letter>[A-Z])\)\s*")


class VStarRow(msgspec.Struct, frozen=True):
    """One question as the file has it."""

    image: str
    text: str
    category: str
    label: str | None = None


def load(path: str | Path) -> Benchmark:
    """The benchmark in its file of JSON lines, in a parquet file, or in a folder of those.

    Rows whose label is none of their letters are kept and listed as malformed. Raises `UserError` naming the file and
    the row of what is not a question.
    """
    found = read_rows(path, VStarRow, "a V* file", split="test")
    questions = [_question(index, row) for index, row in enumerate(found.rows)]
    facts = {**found.facts, **against_published(questions, PUBLISHED), "prompt": PROMPT}
    return Benchmark("vstar", Path(path), found.sha256, questions, PEER_CHOICES, prompt, facts, pictures=found.pictures)


def prompt(question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The question, its options with letters, and the sentence that asks for one letter."""
    no_official("vstar", wording)
    return in_place(PROMPT.format(question=question.text, options=question.context), len(question.images))


def _question(index: int, row: VStarRow) -> ChoiceQuestion:
    asked, *rest = _OPTION.split(row.text.replace(LETTER_ONLY, "").strip())
    options = tuple(text.strip() for text in rest[1::2])
    return ChoiceQuestion(
        index=index,
        task=row.category,
        images=(row.image,),
        text=asked.strip(),
        options=options,
        gold=row.label,
        answer=place_of(row.label or "", options),
        context=lettered(options),
        lmms_eval="vstar_bench",
    )
