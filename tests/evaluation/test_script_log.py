"""Logs of the published scripts: rows without a number find their questions, or say why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from migician.benchmarks import Benchmark, load_benchmark, mig_bench
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers

UNIVG = (
    " First output the thinking process in <think> </think> tags and then output the bounding box in <answer> "
    "</answer> tags."
)
PUBLISHED = "Format:<|box_start|>(x1,y1),(x2,y2)<|box_start|>. Don't generate addtional words."
TAGS = {
    "<|box_start|>": "<box>",
    "<|box_end|>": "</box>",
    "<|object_ref_start|>": "<ref>",
    "<|object_ref_end|>": "</ref>",
}


def tagged(text: str) -> str:
    for token, tag in TAGS.items():
        text = text.replace(token, tag)
    return text


def marked(mark: str, text: str, count: int = 2) -> str:
    return "".join(mark.format(n=n) for n in range(1, count + 1)) + text


# How each family's question stands in the log, as the scripts put it together.
FAMILIES = {
    "migician": lambda text: text + PUBLISHED,
    "univg-r1": lambda text: text + UNIVG,
    "a sentence of one's own": lambda text: text + " Answer in JSON.",
    "no sentence": lambda text: text,
    "internvl2": lambda text: marked("Image-{n}: <image>\n", tagged(text + "Format:<box>[[x1,y1,x2,y2]]</box>.")),
    "llava": lambda text: marked("image{n}:<image>\n", tagged(text + " Format:<box>[x1, y1, x2, y2]</box>.")),
    "mplug": lambda text: marked("Image-{n}:<|image|>\n", tagged(text + " Format:<box>[x1, y1, x2, y2]</box>.")),
    "minicpm, mantis": lambda text: tagged(text + "Format:<box>x1 y1 x2 y2</box>. Don't generate addtional words."),
}

SAME = "Compare these two images and give me the coordinates of their difference. "
MARKED = (
    "The object marked in the first image(<|box_start|>(483,284),(805,912)<|box_end|>), locate it in the 2th image. "
)
ROWS = [
    {"task": "diff", "images": ["a.png", "b.png"], "question": SAME, "answer": [100, 100, 500, 500]},
    {"task": "diff", "images": ["c.png", "d.png"], "question": SAME, "answer": [1, 2, 3, 4]},
    {"task": "multi_view", "images": ["e.png", "f.png"], "question": MARKED, "answer": [100, 100, 500, 500]},
    {"task": "diff", "images": ["g.png", "h.png"], "question": SAME, "answer": [0, 0, 998, 998]},
    {"task": "diff", "images": ["i.png", "j.png"], "question": SAME, "answer": [0, 0, 998, 998]},
    {"task": "region", "images": ["a.png", "b.png"], "question": "Find it", "answer": [0, 0, 9, 9]},
    {"task": "region", "images": ["a.png", "b.png"], "question": "Find it in the first image.", "answer": [0, 0, 9, 9]},
]
REPLIES = [f"({i},{i}),({i + 5},{i + 5})" for i in range(len(ROWS))]
TOTALS = {task: {"IOU@0.7": 1, "IOU@0.5": 1, "IOU@0.3": 1, "AVE_IOU": 0.5, "TOTAL": 4} for task in ("diff", "region")}


def log(rows: list[dict[str, Any]] = ROWS, ask: Any = FAMILIES["univg-r1"]) -> list[dict[str, Any]]:
    """As the scripts write it."""
    return [
        {
            "task": row["task"],
            "question": ask(row["question"]),
            "answer": REPLIES[ROWS.index(row)],
            "filter_answer": [0, 0, 5, 5],
            "iou": 0.25,
            "groundtruth": row["answer"],
        }
        for row in rows
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    return mig_bench.load(tmp_path / "data.json")


def written(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False))
    return path


@pytest.mark.parametrize("ask", FAMILIES.values(), ids=FAMILIES)
def test_each_row_finds_its_question(bench, tmp_path, ask):
    answers = read_answers(written(tmp_path / "log.json", [*log(ask=ask), TOTALS]), bench)
    assert [answers[i].response for i in range(len(ROWS))] == REPLIES


def test_the_order_of_tasks_is_free_and_that_of_equal_questions_counts(bench, tmp_path):
    rows = log()
    shuffled = [rows[i] for i in (6, 3, 2, 1, 5, 0, 4)]
    answers = read_answers(written(tmp_path / "log.json", [*shuffled, TOTALS]), bench)
    assert [answers[i].response for i in range(len(ROWS))] == REPLIES


def test_the_original_form_and_json_lines_are_read_too(tmp_path):
    rows = [row | {"answer": [value / 1000 for value in row["answer"]]} for row in ROWS]
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows))
    file = tmp_path / "log.jsonl"
    given = [one | {"groundtruth": row["answer"]} for one, row in zip(log(), rows, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*given, TOTALS]))
    answers = read_answers(file, mig_bench.load(data))
    assert [answers[i].response for i in range(len(ROWS))] == REPLIES


def test_a_folder_of_logs_is_one_run(bench, tmp_path):
    folder = tmp_path / "eval_output"
    folder.mkdir()
    for task in ("diff", "multi_view", "region"):
        written(folder / f"univgr1_{task}_0102_030405.json", [*log([r for r in ROWS if r["task"] == task]), TOTALS])
    given = ["score", "mig-bench", "--data", bench.path, "--answers", folder, "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, [*map(str, given), "--protocol", "univg-r1"])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (report["n"], report["unanswered"], report["answers"]) == (len(ROWS), 0, "eval_output")
    records = [json.loads(line) for line in (tmp_path / "run/records.jsonl").read_text().splitlines()]
    assert [record["reply"] for record in records] == REPLIES


def test_what_python_writes_and_no_json_is_read(bench, tmp_path):
    rows = log()
    rows[0] |= {"answer": f"(0,0),({'9' * 400},1)", "filter_answer": [0, 0, int("9" * 400), 1], "iou": float("nan")}
    answers = read_answers(
        written(tmp_path / "log.json", [*rows, {"diff": TOTALS["diff"] | {"AVE_IOU": float("nan")}}]), bench
    )
    assert answers[0].response == rows[0]["answer"]


def changed(**fields: Any) -> list[dict[str, Any]]:
    return [log()[0] | fields, *log()[1:]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (changed(question="Something else?"), "row 0: no question of .* in diff begins 'Something else"),
        (changed(task="dif"), "row 0: task 'dif' is not in .*Its tasks: diff, multi_view, region"),
        (changed(groundtruth=[0.1, 0.1, 0.5, 0.6]), "row 0: `groundtruth`.*original or revised"),
        (changed(groundtruth="none"), "row 0: `groundtruth` 'none'"),
        (changed(groundtruth=None), "row 0: `groundtruth` None"),
        (changed(answer=None), "row 0: `question` and `answer` must be texts"),
        (changed(answer="("), r"row 0: the reply is cut to '\('.*first character"),
        ([*log(), log()[0]], "row 7: answers again what .*row 0 does"),
        (log([ROWS[3]]), "row 0: may answer any of the rows 3, 4 .* and the log has 1"),
        ([*log(), {"task": "diff", "question": SAME, "answer": "x"}], "row 7: `filter_answer` is missing"),
    ],
)
def test_rows_that_match_nothing_or_several_are_named(bench, tmp_path, rows, says):
    with pytest.raises(UserError, match=says) as raised:
        read_answers(written(tmp_path / "log.json", rows), bench)
    assert "\n" not in str(raised.value)


def test_a_reply_of_one_character_without_a_box_is_a_reply(bench, tmp_path):
    for nothing in ([], [0.0, 0.0, 0.0, 0.0]):
        answers = read_answers(written(tmp_path / "log.json", changed(answer="7", filter_answer=nothing)), bench)
        assert answers[0].response == "7"


def test_other_benchmarks_have_no_such_logs(bench, tmp_path):
    file = written(tmp_path / "log.json", log())
    with pytest.raises(UserError, match="holds answers to mig-bench, not to mig-bench-one-shot"):
        read_answers(file, load_benchmark("mig-bench-one-shot", bench.path))


def test_a_folder_without_logs_is_refused(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: a folder without \.json files"):
        read_answers(tmp_path / "empty", bench)


def test_a_log_over_the_released_file_finds_every_row(shared, tmp_path):
    file = shared / "data/mig_bench/revised_MIG_bench.json"
    bench, rows = mig_bench.load(file), json.loads(file.read_text())
    content = [
        {"task": row["task"], "question": row["question"] + UNIVG, "answer": f"reply {number}", "filter_answer": [],
         "iou": 0, "groundtruth": row["answer"]}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    answers = read_answers(written(tmp_path / "log.json", [*content, TOTALS]), bench)
    assert [answers[i].response for i in range(len(rows))] == [f"reply {i}" for i in range(len(rows))]
