"""Answers made elsewhere: this project's lines, lmms-eval's sample logs, VLMEvalKit's result files."""

import codecs
import csv
import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from migician.benchmarks import mig_bench
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers

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


def tsv(path, rows, delimiter="\t", quoting=csv.QUOTE_ALL):
    """As pandas writes it for VLMEvalKit: every field quoted, the header too."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, quoting=quoting, lineterminator="\n")
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
    "VLMEvalKit csv": lambda d: tsv(d / "m_MIG.csv", kit_rows(), ","),
    "a csv that nothing is quoted in": lambda d: tsv(d / "m_MIG.csv", kit_rows(), ",", csv.QUOTE_MINIMAL),
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


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_a_byte_order_mark_changes_nothing(bench, tmp_path, make):
    """As Windows' editors and pandas' "utf-8-sig" write it; before the benchmark's file too."""
    file = make(tmp_path)
    for marked in (file, bench.path):
        marked.write_bytes(codecs.BOM_UTF8 + marked.read_bytes())
    answers = read_answers(file, mig_bench.load(bench.path))
    assert [answers[number].response for number in range(3)] == REPLIES


def test_what_only_python_reads_as_json_is_read(bench, tmp_path):
    """Its writer has NaN, half a character where an engine cut a reply, and whole numbers of any length."""
    rows = lmms_rows(metric=float("nan"), tokens=int("9" * 400))
    rows[0]["filtered_resps"] = ["a smile: \ud83d"]
    answers = read_answers(lines(tmp_path / "x_samples_mig.jsonl", rows), bench)
    assert [answers[number].response for number in range(3)] == ["a smile: \ufffd", *REPLIES[1:]]


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 cut off", r"m\.xlsx: a damaged sheet \(BadZipFile\); save it again, or as \.tsv"),
        (b"", "m.xlsx: holds no answer"),
        (b"\xd0\xcf\x11\xe0 an old workbook", r"m\.xlsx:1: .*expected"),
    ],
)
def test_a_sheet_that_is_none_is_refused_in_one_line(bench, tmp_path, content, says):
    if content.startswith(b"PK"):
        pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    (tmp_path / "m.xlsx").write_bytes(content)
    with pytest.raises(UserError, match=says) as raised:
        read_answers(tmp_path / "m.xlsx", bench)
    assert "\n" not in str(raised.value)


def test_any_damage_to_a_sheet_is_one_line(bench, tmp_path):
    """Bytes of a sound one cut, or changed in its directory and its parts."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    book.active.append(list(kit_rows()[0]))
    for row in kit_rows():
        book.active.append(list(row.values()))
    file = tmp_path / "m.xlsx"
    book.save(file)
    sound = file.read_bytes()
    refused = 0
    for place in range(4, len(sound), 97):
        for damaged in (sound[:place], sound[:place] + b"\xff\x00" + sound[place + 2 :]):
            file.write_bytes(damaged)
            try:
                read_answers(file, bench)
            except UserError as error:
                refused += 1
                assert str(file) in str(error) and "\n" not in str(error)
    assert refused > 50


@pytest.mark.parametrize("rows", [[], [[]], [["index", "prediction"]]])
def test_an_empty_sheet_is_refused_in_one_line(bench, tmp_path, rows):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "m.xlsx")
    with pytest.raises(UserError, match=r"m\.xlsx: (its first sheet is empty|holds no answer)"):
        read_answers(tmp_path / "m.xlsx", bench)


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
        (lambda d: lines(d / "a.jsonl", [{"id": "9" * 5000, "text": "x"}]), "`index` must be .* not '999"),
        (lambda d: tsv(d / "a.tsv", [{"index": "9" * 5000, "prediction": "y"}]), ":2: `index`.* not '999"),
        (lambda d: lines(d / "a.jsonl", [{"id": "mig_7", "text": "x"}]), "`index` must be .* not 'mig_7'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(bench, tmp_path, make, says):
    with pytest.raises(UserError, match=says) as raised:
        read_answers(make(tmp_path), bench)
    assert "\n" not in str(raised.value)
