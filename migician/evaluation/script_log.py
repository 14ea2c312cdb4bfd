"""Logs of MIG-Bench's published script and of UniVG-R1's: rows that do not say which question they answer.

Each is a JSON list with a row a question: {"task", "question", "answer": the reply, "filter_answer": the box that the
script read, "iou", "groundtruth"}, and last the totals by task. `question` is the benchmark's with a sentence on
the box's format behind it and, for some families, marks of images before it and other tags in it. Many questions of
MIG-Bench have one text, so a row is found by its task, text and truth; the seven that share all three are taken in
the order of the file. Source: eval/MIG_bench_eval.py of thunlp/Migician, eval/MIG_bench/ of AMAP-ML/UniVG-R1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.errors import UserError
from migician.evaluation.answer_rows import AnswerRow

_FIELDS = ("task", "question", "answer", "filter_answer", "groundtruth")
_NO_BOX: tuple[list[Any], ...] = ([], [0.0, 0.0, 0.0, 0.0])
_MARKS = re.compile(r"\A(?:image-?[0-9]+:\s?<\|?image\|?>\n)+", re.IGNORECASE)
_TAGS = re.compile(r"<\|(?:box|object_ref)_(?:start|end)\|>|</?(?:box|ref)>|<image>|\s")

Truth = tuple[float, ...]


def is_log(row: AnswerRow) -> bool:
    """Whether a file that begins with `row` is such a log."""
    return all(name in row for name in _FIELDS)


def indexed(rows: Iterable[tuple[str, AnswerRow]], bench: Benchmark) -> Iterator[tuple[str, AnswerRow]]:
    """Each row of a log (with its place) as `{"index", "task", "response"}`.

    Raises `UserError` naming the place of a row that no question or several could be meant by, of one that answers
    a question again, and of a reply that was cut to its first character, as the script does for some families.
    """
    asked = _Asked(bench)
    answers: dict[tuple[str, str, Truth], list[tuple[str, AnswerRow]]] = {}
    for place, row in rows:
        if not _is_totals(row):
            answers.setdefault(asked.key(row, place), []).append((place, row))
    for key, given in answers.items():
        for index, (place, row) in zip(asked.meant(key, [place for place, _ in given]), given, strict=True):
            yield place, {"index": index, "task": row["task"], "response": row["answer"]}


def _is_totals(row: AnswerRow) -> bool:
    return bool(row) and all(isinstance(figures, Mapping) and "TOTAL" in figures for figures in row.values())


class _Asked:
    """The questions of a benchmark by what a log says of them."""

    def __init__(self, bench: Benchmark) -> None:
        self.path = bench.path
        self.questions: Sequence[Any] = bench.questions
        if not isinstance(self.questions[0], BoxQuestion):
            raise UserError(f"a log of MIG_bench_eval.py holds answers to mig-bench, not to {bench.name}")
        self.rows: dict[tuple[str, str, Truth], list[int]] = {}
        self.texts: dict[str, dict[str, int]] = {}
        """By task: each text, and how many rows have it."""
        for question in self.questions:
            if question.is_absent:
                continue  # the script knows no such row
            text = _bare(question.text)
            self.rows.setdefault((question.task, text, question.truth.as_tuple()), []).append(question.index)
            of_task = self.texts.setdefault(question.task, {})
            of_task[text] = of_task.get(text, 0) + 1
        self.lengths = {
            task: sorted({len(text) for text in texts} - {0}, reverse=True) for task, texts in self.texts.items()
        }

    def key(self, row: AnswerRow, place: str) -> tuple[str, str, Truth]:
        """Task, text and truth of the question that a row of a log answers."""
        if not is_log(row):
            missing = next(name for name in _FIELDS if name not in row)
            raise UserError(f"{place}: `{missing}` is missing; every row of such a log has {', '.join(_FIELDS)}")
        task, asked, answer = row["task"], row["question"], row["answer"]
        if not isinstance(asked, str) or not isinstance(answer, str):
            raise UserError(f"{place}: `question` and `answer` must be texts, as the script writes them")
        if len(answer) == 1 and row["filter_answer"] not in _NO_BOX:
            raise UserError(
                f"{place}: the reply is cut to {answer!r}, though a box was read in it: the script logs the first "
                "character alone for some families. Its replies are lost; only its own totals remain"
            )
        if task not in self.texts:
            raise UserError(f"{place}: task {task!r} is not in {self.path}. Its tasks: {', '.join(self.texts)}")
        text = self._text(task, asked)
        if text is None:
            raise UserError(f"{place}: no question of {self.path} in {task} begins {asked!r:.80}")
        for truth in _readings(row["groundtruth"]):
            if (task, text, truth) in self.rows:
                return task, text, truth
        raise UserError(
            f"{place}: `groundtruth` {row['groundtruth']!r:.60} is none of the {self.texts[task][text]} rows' of "
            f"{self.path} that ask this. Is it the file that the script ran on (original or revised)?"
        )

    def _text(self, task: str, asked: str) -> str | None:
        """The longest text of the task that `asked` begins with: what follows is a sentence on the format."""
        bare = _bare(_MARKS.sub("", asked))
        texts = self.texts[task]
        return next((bare[:length] for length in self.lengths[task] if bare[:length] in texts), None)

    def meant(self, key: tuple[str, str, Truth], places: Sequence[str]) -> list[int]:
        """The questions that the rows at `places` answer, in order."""
        rows = self.rows[key]
        if len(places) > len(rows):
            raise UserError(
                f"{places[len(rows)]}: answers again what {places[len(rows) - 1]} does: {self.path} asks it "
                f"{len(rows)} times. Keep one log a task"
            )
        if len(places) < len(rows) and len({self.questions[row].images for row in rows}) > 1:
            raise UserError(
                f"{places[0]}: may answer any of the rows {', '.join(map(str, rows))} of {self.path}, which ask the "
                f"same with the same truth, and the log has {len(places)} of them"
            )
        return rows[: len(places)]


def _readings(truth: Any) -> list[Truth]:
    """A truth as the benchmark has it, in fractions: the script writes what the file does, fractions or 0..1000."""
    if not isinstance(truth, list) or not all(isinstance(value, int | float) for value in truth):
        return []
    return [tuple(truth), tuple(value / 1000 for value in truth)]


def _bare(text: str) -> str:
    return _TAGS.sub("", text)
