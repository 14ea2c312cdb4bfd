"""Answers that exist already, read from this project's form and from other harnesses', told apart by content.

- JSON lines, one answer each. Which question: `index`, `id` (a number, or digits as text) or `doc_id`, which all
  mean its place in the benchmark file from 0. The reply: `response`, `text` or `prediction`. Optional: `task`,
  `error` (why there is no reply), `seconds`, `sizes` ([[width, height], ...] of the images as the model saw them,
  for boxes in pixels).
- Sample logs of lmms-eval (`*_samples_*.jsonl`): JSON lines with `doc_id` and `filtered_resps`, and with `resps`
  where the filter changed something; the reply is the first of `resps`, whole, else of `filtered_resps`.
  `target` is not read: the truth is the benchmark file's.
- Result files of VLMEvalKit: a table with the columns `index` and `prediction`, as .tsv, as .json (a list of rows),
  or as .xlsx where openpyxl is installed. A prediction that begins with "Failed to obtain answer" is a failure.

Where a row has `question` (in lmms-eval's logs `doc.question`), it must be the benchmark's: an index counted
from 1, or made for another file, is found out by it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, load_benchmark
from migician.errors import NOT_JSON, UserError
from migician.report import Report, score_answers
from migician.scoring import Answer, reading_named

QUESTION_FIELDS = ("index", "id", "doc_id")
REPLY_FIELDS = ("response", "text", "prediction")
_FAILED = "Failed to obtain answer"
_ZIP = b"PK\x03\x04"  # what .xlsx files are
_LONGEST_CELL = 1 << 24

Row = Mapping[str, Any]


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
    partial: bool,
) -> Report:
    """Score a file of answers, as `migician score` does with the same options; writes into `out`, gives the report.

    Raises `UserError` for a benchmark, style or protocol that is not known, and naming what cannot be read.
    """
    reading = reading_named(protocol, style, y_stretch)
    bench = load_benchmark(benchmark, data)
    if style is not None and not bench.scoring.has_boxes:
        raise UserError(f"--style says how boxes are spelled, and {benchmark} asks for options. Drop it")
    bench.scoring.check(reading)
    file = Path(answers)
    given = read_answers(file, bench)
    spec = {"answers": file.name, "answers_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return score_answers(bench, given, reading, Path(out), images=images, partial=partial, spec=spec)


def read_answers(path: str | Path, bench: Benchmark) -> dict[int, Answer]:
    """The answers of a file by question of the benchmark, in any of the forms above.

    Raises `UserError` naming the file, the line and the cure for: a line that is not of a form, a
    missing field, a reply that is not text, an index outside the benchmark or given twice, a task or a
    question that is not the benchmark's (answers to another file), and a file without answers.
    """
    file = Path(path)
    answers: dict[int, Answer] = {}
    places: dict[int, str] = {}
    for place, row in _rows(file):
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


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Each row of the file with its place in it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    beginning = content[:4096].lstrip()
    if content.startswith(_ZIP):
        return _sheet_rows(file)
    if beginning.startswith(b"["):
        return _list_rows(file, content)
    header = content.split(b"\n", 1)[0].rstrip(b"\r").split(b"\t")
    if len(header) > 1 and not beginning.startswith(b"{"):
        return _table_rows(file, content)
    return _line_rows(file, content)


def _line_rows(file: Path, content: bytes) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", msgspec.json.decode(line, type=dict[str, Any])
        except NOT_JSON as error:
            raise UserError(
                f'{file}:{number}: {error}; expected {{"index": row, "response": "text"}} on one line'
            ) from None


def _list_rows(file: Path, content: bytes) -> Iterator[tuple[str, Row]]:
    try:
        rows = msgspec.json.decode(content, type=list[dict[str, Any]])
    except NOT_JSON as error:
        raise UserError(f"{file}: not a JSON list of rows with index and prediction: {error}") from None
    return ((f"{file}, row {number}", row) for number, row in enumerate(rows))


def _table_rows(file: Path, content: bytes) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter="\t")
        header = next(reader)
        for cells in reader:
            if cells:
                yield f"{file}:{reader.line_num}", _from_cells(dict(zip(header, cells, strict=False)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a table of tab-separated columns: {error}") from None


def _sheet_rows(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        load_workbook = importlib.import_module("openpyxl").load_workbook
    except ImportError:
        raise UserError(
            f"{file}: reading .xlsx needs the package openpyxl: pip install openpyxl, or save it as .tsv"
        ) from None
    rows: Iterable[tuple[Any, ...]] = load_workbook(file, read_only=True, data_only=True).worksheets[0].values
    numbered = enumerate(rows, start=1)
    header = [str(name) for name in next(numbered)[1]]
    for number, cells in numbered:
        yield f"{file}, row {number}", _from_cells(dict(zip(header, cells, strict=False)))


def _from_cells(row: dict[str, Any]) -> Row:
    """A row of a table, where every cell may be text and an empty one is an empty reply."""
    index = str(row.get("index", "")).strip().removesuffix(".0")
    kept = {name: row[name] for name in ("task", "question") if row.get(name) not in (None, "")}
    if "prediction" in row:
        kept["prediction"] = "" if row["prediction"] is None else str(row["prediction"])
    return {**kept, "index": int(index) if index.isdecimal() else row.get("index")}


def _answer(row: Row, place: str) -> Answer:
    """One answer of any form; raises `UserError` for what is missing or of another type."""
    index = next((row[name] for name in QUESTION_FIELDS if name in row), None)
    if isinstance(index, str) and "index" not in row and index.isdecimal():
        index = int(index)
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
            },
            Answer,
        )
    except msgspec.ValidationError as wrong:
        raise UserError(f"{place}: {wrong}") from None


def _reply(row: Row, place: str) -> str | None:
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


def _check_belongs(row: Row, answer: Answer, bench: Benchmark, place: str) -> None:
    expected = bench.questions[answer.index]
    if answer.task is not None and answer.task != expected.task:
        raise UserError(
            f"{place}: task {answer.task!r}, but row {answer.index} of {bench.path} is {expected.task!r}. "
            "The answers belong to another benchmark file"
        )
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
