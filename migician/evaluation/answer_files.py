"""Answers that exist already, read from this project's form and from other harnesses', recognised by their content.

- JSON lines, one answer each. Which question: `index`, `id` (a number, or digits as text) or `doc_id`, which all
  mean its place in the benchmark file from 0. The reply: `response`, `text` or `prediction`. Optional: `task`,
  `error` (why there is no reply), `seconds`, `reasoning` (what was thought before the reply, kept and not scored),
  `sizes` ([[width, height], ...] of the images as the model saw them, for boxes in pixels).
- Sample logs of lmms-eval (`*_samples_*.jsonl`): JSON lines with `doc_id` and `filtered_resps`, and with `resps`
  where the filter changed something; the reply is the first of `resps`, whole, else of `filtered_resps`.
  `target` is not read: the truth is the benchmark file's.
- Result files of VLMEvalKit: a table with the columns `index` and `prediction`, as .tsv or .csv, as .json (a list of
  rows), or as .xlsx where openpyxl is installed. A prediction that begins with "Failed to obtain answer" is a failure.
- Logs of MIG-Bench's published script and of UniVG-R1's, which number nothing: see `migician.evaluation.script_log`. A
  folder is read as all the .json files in it, since those scripts write one a task.

Where a row has `question` (in lmms-eval's logs `doc.question`), it must be the benchmark's: an index counted
from 1, or made for another file, is found out by it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, load_benchmark
from migician.benchmarks.images import unpack_images
from migician.benchmarks.scoring.scoring import Answer, reading_named
from migician.boxes import Size
from migician.errors import UserError
from migician.evaluation.answer_rows import AnswerRow, place_in_file, rows_of
from migician.evaluation.report import Report, score_answers
from migician.evaluation.script_log import indexed, is_log

QUESTION_FIELDS = ("index", "id", "doc_id")
REPLY_FIELDS = ("response", "text", "prediction")
_FAILED = "Failed to obtain answer"
_LONGEST_SIDE = 10**6


def score_file(
    benchmark: str,
    data: str | Path,
    answers: str | Path,
    out: str | Path,
    *,
    protocol: str,
    style: str | None,
    y_stretch: bool,
    images: Path | None,
    max_pixels: int | None,
    partial: bool,
    force: bool = False,
) -> Report:
    """Score a file of answers, as `migician score` does with the same options; writes into `out`, gives the report.

    For a report that `out` has already, and `force`, see `score_answers`. Raises `UserError` for a benchmark, style or
    protocol that is not known, and naming what is unreadable.
    """
    reading = reading_named(protocol, style, y_stretch)
    bench = load_benchmark(benchmark, data)
    if style is not None and not bench.scoring.has_boxes:
        raise UserError(f"--style says how boxes are formatted, and {benchmark} asks for options. Drop it")
    bench.check(reading)
    path = Path(answers)
    given = read_answers(path, bench)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.read_bytes())
    spec = {"answers": path.name or path.resolve().name, "answers_sha256": digest.hexdigest()}
    if images is not None:
        unpack_images(bench, bench.questions, images)
    return score_answers(
        bench,
        given,
        reading,
        Path(out),
        images=images,
        partial=partial,
        spec=spec,
        max_pixels=max_pixels,
        force=force,
    )


def read_answers(path: str | Path, bench: Benchmark) -> dict[int, Answer]:
    """The answers of a file by question of the benchmark, in any of the forms above.

    Raises `UserError` naming the file, the line and the fix for: a line that is not of a form, a
    missing field, a reply that is not text, an index outside the benchmark or given twice, a task or a
    question that is not the benchmark's (answers to another file), sizes that are not those of its
    images, and a file without answers.
    """
    file = Path(path)
    answers: dict[int, Answer] = {}
    places: dict[int, str] = {}
    for place, row in _numbered(file, bench):
        answer = _answer(row, place)
        if not 0 <= answer.index < len(bench.questions):
            raise UserError(
                f"{place}: index {answer.index} is not a row of {bench.path} (0 to {len(bench.questions) - 1}). "
                "Is this the file the answers were made for?"
            )
        if answer.index in places:
            raise UserError(
                f"{place}: index {answer.index} was answered at {places[answer.index]} already. Keep one answer a row"
            )
        _check_belongs(row, answer, bench, place)
        places[answer.index] = place
        answers[answer.index] = answer
    if not answers:
        raise UserError(f'{file}: holds no answer; expected lines like {{"index": 0, "response": "..."}}')
    return answers


def _numbered(path: Path, bench: Benchmark) -> Iterator[tuple[str, AnswerRow]]:
    """Each row with its place, and with an index of its own where the form is one without."""
    rows = itertools.chain.from_iterable(rows_of(file) for file in _files(path))
    first = next(rows, None)
    rows = rows if first is None else itertools.chain([first], rows)
    return indexed(rows, bench) if first is not None and is_log(first[1]) else rows


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise UserError(f"{path}: a folder without .json files; name a file of answers, or a folder of a script's logs")
    return files


def _answer(row: AnswerRow, place: str) -> Answer:
    """One answer of any form; raises `UserError` for what is missing or of another type."""
    index = next((row[name] for name in QUESTION_FIELDS if name in row), None)
    thought = row.get("reasoning")
    if isinstance(index, str) and "index" not in row:
        index = place_in_file(index, index)
    if not isinstance(index, int) or isinstance(index, bool):
        raise UserError(
            f"{place}: `index` must be the question's place in the benchmark file, a whole number from 0, not "
            f"{index!r:.60} (also read: {', '.join(QUESTION_FIELDS[1:])})"
        )
    reply, error = _reply(row, place), row.get("error")
    if reply is not None and "prediction" in row and reply.startswith(_FAILED):
        reply, error = None, reply
    if reply is None and error is None:
        raise UserError(
            f'{place}: "response" is missing or null; give the reply as text, or "error" with the reason there is none '
            f"(also read: {', '.join(REPLY_FIELDS[1:])}, and lmms-eval's resps and filtered_resps)"
        )
    try:
        return msgspec.convert(
            {
                "index": index,
                "response": reply,
                "task": row.get("task"),
                "error": None if error is None else str(error),
                "seconds": row.get("seconds"),
                "sizes": row.get("sizes"),
                "reasoning": thought if isinstance(thought, str) else None,
            },
            Answer,
        )
    except msgspec.ValidationError as wrong:
        raise UserError(f"{place}: {wrong}") from None


def _reply(row: AnswerRow, place: str) -> str | None:
    for name in REPLY_FIELDS:
        if row.get(name) is not None:
            return _text(row[name], name, place)
    for name in ("resps", "filtered_resps"):
        found = row.get(name)
        while isinstance(found, list) and found:
            found = found[0]
        if found is not None and found != []:
            return _text(found, name, place)
    return None


def _text(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: `{name}` must be the reply as text, not {value!r:.60}")
    return value


def _check_belongs(row: AnswerRow, answer: Answer, bench: Benchmark, place: str) -> None:
    expected = bench.questions[answer.index]
    if answer.task is not None and answer.task != expected.task:
        raise UserError(
            f"{place}: task {answer.task!r}, but row {answer.index} of {bench.path} is {expected.task!r}. "
            "The answers belong to another benchmark file"
        )
    if answer.sizes is not None:
        _check_sizes(answer.sizes, len(expected.images), place)
    doc = row.get("doc")
    asked = doc.get("question") if isinstance(doc, dict) else row.get("question")
    if isinstance(asked, str) and not _same_question(asked, expected.text):
        raise UserError(
            f"{place}: asks {asked!r:.80}, but row {answer.index} of {bench.path} asks {expected.text!r:.80}. "
            "Is the index counted from 0, and is this the file the answers were made for?"
        )


def _same_question(asked: str, expected: str) -> bool:
    """Whether one text holds the other, blanks apart: what was asked may have a format or options added."""
    given, wanted = ("".join(text.split()) for text in (asked, expected))
    return given in wanted or wanted in given


def _check_sizes(sizes: Sequence[Size], images: int, place: str) -> None:
    if len(sizes) != images:
        raise UserError(f"{place}: `sizes` holds {len(sizes)}, and the question has {images} images: give each its own")
    for size in sizes:
        if min(size) < 1 or max(size) > _LONGEST_SIDE:
            raise UserError(f"{place}: `sizes` holds {list(size)!s:.60}: width and height are pixels, at least 1")
