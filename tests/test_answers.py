"""Answers made elsewhere: this project's lines, lmms-eval's sample logs, VLMEvalKit's result files."""

import csv
import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from migician.answers import read_answers
from migician.benchmarks import mig_bench
from migician.errors import UserError

REPLIES = ["(100,100),(500,500)", 'two\nlines, "quoted"\tand a tab', "(1,1),(2,2)"]
QUESTIONS = [f"Question {number}: locate it in the 2th image. " for number in range(3)]


@pytest.fixture
def bench(tmp_path):
    file = tmp_path / "data.json"
    rows = [
        {"task": "diff", "images": ["a.png", "b.png"], "question": question, "answer": [0.1, 0.1, 0.5, 0.5]}
        for question in QUESTIONS
    ]
    file.write_text(json.dumps(rows))
    return mig_bench.load(file)


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lmms_rows(**fields):
    """As lmms_eval/loggers/evaluation_tracker.py writes them: `doc` gone, `resps` only where the filter changed it."""
    return [
        {
            "doc_id": number,
            "target": "[0.1, 0.1, 0.5, 0.5]",
            "filtered_resps": [reply],
            "doc_hash": "0" * 64,
            "input": QUESTIONS[number],
            "submission": {"IoU": 0.0},
        }
        | fields
        for number, reply in enumerate(REPLIES)
    ]


def kit_rows(**fields):
    return [
        {"index": number, "question": QUESTIONS[number], "answer": "B", "category": "diff", "prediction": reply}
        | fields
        for number, reply in enumerate(REPLIES)
    ]


def tsv(path, rows):
    """As pandas writes it for VLMEvalKit: every field quoted, the header too."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_json(path, rows):
    path.write_text(json.dumps(rows, indent=4))
    return path


FORMS = {
    "index and response": lambda d: lines(d / "a.jsonl", [{"index": i, "response": r} for i, r in enumerate(REPLIES)]),
    "id and text": lambda d: lines(d / "a.jsonl", [{"id": i, "text": r} for i, r in enumerate(REPLIES)]),
    "id as text": lambda d: lines(d / "a.jsonl", [{"id": str(i), "prediction": r} for i, r in enumerate(REPLIES)]),
    "lmms-eval": lambda d: lines(d / "x_samples_mig.jsonl", lmms_rows()),
    "lmms-eval, nested": lambda d: lines(
        d / "x_samples_mig.jsonl", [row | {"filtered_resps": [row["filtered_resps"]]} for row in lmms_rows()]
    ),
    "lmms-eval, filtered": lambda d: lines(
        d / "x_samples_mig.jsonl",
        [row | {"resps": [row["filtered_resps"]], "filtered_resps": ["cut"]} for row in lmms_rows()],
    ),
    "lmms-eval with doc": lambda d: lines(
        d / "x_samples_mig.jsonl", [row | {"doc": {"question": QUESTIONS[row["doc_id"]]}} for row in lmms_rows()]
    ),
    "VLMEvalKit tsv": lambda d: tsv(d / "m_MIG.tsv", kit_rows()),
    "VLMEvalKit json": lambda d: as_json(d / "m_MIG.json", kit_rows()),
    "VLMEvalKit jsonl": lambda d: lines(d / "m_MIG.jsonl", kit_rows()),
    "an asked question with a format": lambda d: lines(
        d / "a.jsonl", [row | {"question": f"Image: {row['question']} Format: (x1,y1)"} for row in kit_rows()]
    ),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_replies_whole(bench, tmp_path, make):
    answers = read_answers(make(tmp_path), bench)
    assert [answers[number].response for number in range(3)] == REPLIES


def test_a_sheet_is_read_as_a_table(bench, tmp_path, monkeypatch):
    """Against a stand-in that honours the documented calls of openpyxl."""
    cells = [tuple(kit_rows()[0]), *(tuple(row.values()) for row in kit_rows())]
    sheet = SimpleNamespace(values=iter(cells))
    stand_in = SimpleNamespace(load_workbook=lambda file, **options: SimpleNamespace(worksheets=[sheet]))
    monkeypatch.setitem(sys.modules, "openpyxl", stand_in)
    (tmp_path / "m_MIG.xlsx").write_bytes(b"PK\x03\x04 a workbook")
    assert [one.response for one in read_answers(tmp_path / "m_MIG.xlsx", bench).values()] == REPLIES


@pytest.mark.skipif(not importlib.util.find_spec("openpyxl"), reason="openpyxl is not installed")
def test_a_sheet_gives_the_same_replies(bench, tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(list(kit_rows()[0]))
    for row in kit_rows():
        book.active.append(list(row.values()))
    book.save(tmp_path / "m_MIG.xlsx")
    assert [one.response for one in read_answers(tmp_path / "m_MIG.xlsx", bench).values()] == REPLIES


def test_a_sheet_without_its_reader_says_what_to_do(bench, tmp_path, monkeypatch):
    (tmp_path / "m.xlsx").write_bytes(b"PK\x03\x04 a workbook")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"m\.xlsx: reading \.xlsx needs the package openpyxl: pip install openpyxl"):
        read_answers(tmp_path / "m.xlsx", bench)


def test_a_failure_is_a_failure_and_no_reply(bench, tmp_path):
    failed = "Failed to obtain answer via API."
    answers = read_answers(as_json(tmp_path / "a.json", [kit_rows()[0] | {"prediction": failed}]), bench)
    assert (answers[0].response, answers[0].error) == (None, failed)
    own = read_answers(lines(tmp_path / "b.jsonl", [{"index": 0, "error": "out of memory"}]), bench)
    assert (own[0].response, own[0].error) == (None, "out of memory")
    said = read_answers(lines(tmp_path / "c.jsonl", [{"index": 0, "response": failed}]), bench)
    assert said[0].response == failed  # a model's own words


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: tsv(d / "a.tsv", [row | {"index": row["index"] + 1} for row in kit_rows()[:2]]), "counted from 0"),
        (lambda d: lines(d / "a.jsonl", [lmms_rows()[0] | {"doc": {"question": "Another?"}}]), ":1: asks 'Another"),
        (lambda d: as_json(d / "a.json", [{"index": 1.5, "prediction": "x"}]), "row 0: `index`"),
        (lambda d: as_json(d / "a.json", [{"prediction": "x"}]), "row 0: `index`.* not None"),
        (lambda d: tsv(d / "a.tsv", [{"index": "x", "prediction": "y"}]), ":2: `index`.* not 'x'"),
        (lambda d: tsv(d / "a.tsv", [{"index": 0, "answer": "y"}]), ':2: "response" is missing'),
        (lambda d: lines(d / "a.jsonl", lmms_rows(filtered_resps=[])), ':1: "response" is missing'),
        (
            lambda d: lines(d / "a.jsonl", lmms_rows(filtered_resps=[[-0.5, True]])),
            "`filtered_resps` must be the reply",
        ),
        (lambda d: lines(d / "a.jsonl", [*lmms_rows(), lmms_rows()[0]]), r":4: index 0 was answered at .*:1 already"),
        (lambda d: lines(d / "a.jsonl", [{"index": 0, "text": "x", "sizes": [[1]]}]), r":1: .*`\$\.sizes\[0\]`"),
        (lambda d: lines(d / "a.jsonl", [{"id": "mig_7", "text": "x"}]), "`index` must be .* not 'mig_7'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(bench, tmp_path, make, says):
    with pytest.raises(UserError, match=says) as raised:
        read_answers(make(tmp_path), bench)
    assert "\n" not in str(raised.value)
