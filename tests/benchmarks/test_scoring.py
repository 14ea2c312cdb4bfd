"""Scoring: golden files, real answers, the strict rules, and bad input."""

import json
import subprocess
import sys

import pytest
from command_line import command
from typer.testing import CliRunner

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.published import find_boxes, stretch_y
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.evaluation.records import score

STRICT = Reading("strict", QWEN)
GOLDEN_METRICS = {"IOU@0.3": "acc@0.3", "IOU@0.5": "acc@0.5", "IOU@0.7": "acc@0.7", "AVE_IOU": "mean_iou"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def row(task="common_object", question="Locate this object in the 2th image. ", answer=(0.1, 0.1, 0.5, 0.5), images=3):
    return {
        "task": task,
        "images": [f"./MIG-Bench/images/{task}/{i}.png" for i in range(images)],
        "question": question,
        "answer": list(answer),
        "additional_info": "",
        "need_format": True,
    }


@pytest.fixture
def small(tmp_path):
    """Two questions about the second of three images, and one that names no image."""
    file = tmp_path / "data.json"
    file.write_text(json.dumps([row(), row(), row("diff", "Find the difference. ", images=2)]))
    return mig_bench.load(file)


def answered(bench, reply, index=0):
    return score(bench, {index: Answer(index, reply)}, STRICT, partial=True)[0]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("(100,100),(500,500)", "correct"),
        ("Image-2: (100,100),(500,500)", "correct"),
        ("Image-3: (100,100),(500,500)", "wrong_image"),
        ("Image-1: (1,1),(2,2). Image-2: (100,100),(500,500)", "correct"),
        ("(600,600),(700,700)", "wrong_box"),
        ("(100,100),(500,1001)", "off_scale"),
        ("(500,100),(100,500)", "garbled"),
        ("[100, 100, 500, 500]", "garbled"),
        ("nothing", "no_box"),
        ("", "no_box"),
    ],
)
def test_strict_tells_the_ways_to_miss_apart(small, reply, outcome):
    record = answered(small, reply)
    assert record.outcome == outcome
    assert (record.iou > 0.5) == (outcome == "correct")
    assert record.reply == reply


def test_naming_an_image_is_no_fault_where_the_truth_names_none(small):
    assert answered(small, "Image-1: (100,100),(500,500)", index=2).outcome == "correct"


def test_several_boxes_are_counted_and_the_first_is_scored(small):
    record = answered(small, "(100,100),(500,500)(0,0),(1,1)")
    assert (record.outcome, record.several, len(record.boxes)) == ("correct", True, 2)
    assert answered(small, "(0,0),(1,1)(100,100),(500,500)").outcome == "wrong_box"


def test_a_missing_answer_gains_nothing(small):
    records = score(small, {0: Answer(0, "(100,100),(500,500)")}, STRICT)
    assert [record.outcome for record in records] == ["correct", "failed", "failed"]


def test_published_finds_what_the_published_script_finds(shared):
    golden = shared / "data/golden"
    replies = [one["response"] for one in lines(golden / "synthetic_predictions.jsonl")]
    bench = mig_bench.load(shared / "data/mig_bench/MIG_data.json")
    for name, stretched in (("synthetic_unscaled", False), ("synthetic_y_scaled", True)):
        for question, reply, expected in zip(bench.questions, replies, lines(golden / f"{name}.jsonl"), strict=True):
            boxes = find_boxes(reply)
            if stretched and len(boxes) == 1:
                boxes = [stretch_y(boxes[0])]
            prediction = expected["prediction"] or []
            wanted = prediction if not prediction or isinstance(prediction[0], list) else [prediction]
            assert [list(box.as_tuple()) for box in boxes] == wanted, reply
            overlap = boxes[0].iou(question.truth) if boxes else 0
            assert overlap == pytest.approx(expected["iou"], abs=1e-6), reply


@pytest.mark.parametrize(
    ("file", "answers", "golden", "key", "stretched", "tolerance"),
    [
        ("MIG_data", "golden/synthetic_predictions", "synthetic_report", "qwen2_vl", False, 1e-6),
        ("MIG_data", "golden/synthetic_predictions", "synthetic_report", "migician", True, 1e-6),
        (
            "revised_MIG_bench",
            "model_answers/migician",
            "real_answers_revised_report",
            "migician|unscaled",
            False,
            0.01,
        ),
        ("revised_MIG_bench", "model_answers/migician", "real_answers_revised_report", "migician|y_scaled", True, 0.01),
        (
            "revised_MIG_bench",
            "model_answers/qwen2_vl",
            "real_answers_revised_report",
            "qwen2_vl|unscaled",
            False,
            0.01,
        ),
    ],
)
def test_published_figures_are_reproduced(shared, tmp_path, file, answers, golden, key, stretched, tolerance):
    data = shared / "data"
    status, _, error = command(
        "score", "mig-bench", "--data", data / f"mig_bench/{file}.json", "--answers", data / f"{answers}.jsonl",
        "--protocol", "published", *(["--y-stretch"] if stretched else []), "--out", tmp_path,
    )  # fmt: skip
    assert status == 0, error
    report = json.loads((tmp_path / "report.json").read_text())
    expected = json.loads((data / f"golden/{golden}.json").read_text())[key]
    assert report["per_task"].keys() == expected["per_task"].keys()
    for task, figures in expected["per_task"].items():
        assert report["per_task"][task]["n"] == figures["TOTAL"]
        for theirs, ours in GOLDEN_METRICS.items():
            assert report["per_task"][task][ours] == pytest.approx(figures[theirs], abs=tolerance), (task, ours)
    for theirs, ours in GOLDEN_METRICS.items():
        assert report["average"][ours] == pytest.approx(expected["average"][theirs], abs=tolerance)


def test_the_headline_figures(shared, tmp_path):
    data = shared / "data"
    for answers, options, ave in (
        ("migician", ["--protocol", "published"], 55.34),
        ("migician", ["--protocol", "published", "--y-stretch"], 63.37),
        ("qwen2_vl", ["--protocol", "published"], 30.64),
    ):
        out = tmp_path / f"{answers}{len(options)}"
        given = data / f"model_answers/{answers}.jsonl"
        status, printed, _ = command(
            "score",
            "mig-bench",
            "--data",
            data / "mig_bench/revised_MIG_bench.json",
            "--answers",
            given,
            "--out",
            out,
            *options,
        )
        assert status == 0
        assert f"{ave:.2f}" in next(line for line in printed.splitlines() if "average of 10 tasks" in line)


def test_a_report_says_where_it_comes_from(small, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"index": i, "response": "(100,100),(500,500)"}) + "\n" for i in range(3)))
    assert command("score", "mig-bench", "--data", small.path, "--answers", answers, "--out", tmp_path / "out")[0] == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    for name in (
        "benchmark",
        "protocol",
        "data_sha256",
        "n",
        "per_task",
        "average",
        "micro",
        "versions",
        "hardware",
        "date",
    ):
        assert name in report
    assert report["data_sha256"] == small.sha256 and report["file_kind"] == "original"
    low, high = report["average"]["interval"]["acc@0.5"]
    assert low <= report["average"]["acc@0.5"] <= high
    assert sum(sum(figures["outcomes"].values()) for figures in report["per_task"].values()) == report["n"] == 3
    records = lines(tmp_path / "out/records.jsonl")
    assert {"index", "task", "boxes", "outcome", "iou"} <= records[0].keys()


GOOD = '{"index": 0, "response": "(1,1),(2,2)"}\n'
BAD_ANSWERS = {
    "cut JSON": (GOOD + '{"index": 1, "resp', ":2:"),
    "index too large": ('{"index": 3, "response": "x"}', "index 3 is not a row"),
    "index negative": ('{"index": -1, "response": "x"}', "index -1 is not a row"),
    "index no number": ('{"index": "0", "response": "x"}', "`index`"),
    "index true": ('{"index": true, "response": "x"}', "`index`"),
    "index missing": ('{"response": "x"}', "`index`"),
    "reply a list": ('{"index": 0, "response": [1, 2, 3, 4]}', "`response`"),
    "reply null": ('{"index": 0, "response": null}', '"response" is missing or null'),
    "reply missing": ('{"index": 0}', '"response" is missing or null'),
    "index twice": (GOOD + GOOD, ":1 already"),
    "other task": ('{"index": 0, "task": "region", "response": "x"}', "belong to another benchmark file"),
    "empty": ("", "holds no answer"),
    "blank": ("\n \n", "holds no answer"),
    "not text": ("\xff\xfe", ":1:"),
    "a list of something else": ("[1, 2]", "not a JSON list of rows"),
}


@pytest.mark.parametrize(("content", "says"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_bad_answers_are_named_with_file_place_and_cure(small, tmp_path, content, says):
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as raised:
        read_answers(answers, small)
    assert says in str(raised.value) and str(answers) in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_fails_in_one_line_and_leaves_nothing(small, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(BAD_ANSWERS["cut JSON"][0])
    out = tmp_path / "out"
    status, printed, error = command("score", "mig-bench", "--data", small.path, "--answers", answers, "--out", out)
    assert status != 0 and printed == ""
    assert len(error.splitlines()) == 1 and "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--y-stretch"], "--protocol published"),
        (["--style", "qwn"], "Did you mean 'qwen'"),
        (["--style", "qwen", "--protocol", "published"], "Drop one"),
        (["--style", "list-pixel"], "--images"),
    ],
)
def test_options_that_do_not_go_together(small, tmp_path, options, says):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(GOOD)
    status, _, error = command(
        "score", "mig-bench", "--data", small.path, "--answers", answers, "--out", tmp_path / "out", *options
    )
    assert status == 2 and says in error and len(error.splitlines()) == 1


def test_an_out_folder_that_cannot_be_written_is_named(small, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(GOOD)
    (tmp_path / "file").write_text("")
    status, _, error = command(
        "score", "mig-bench", "--data", small.path, "--answers", answers, "--out", tmp_path / "file" / "out"
    )
    assert status == 2 and str(tmp_path / "file") in error and len(error.splitlines()) == 1


def test_comparing_two_runs(small, tmp_path):
    for name, reply in (("first", "(600,600),(700,700)"), ("second", "(100,100),(500,500)")):
        answers = tmp_path / f"{name}.jsonl"
        answers.write_text("".join(json.dumps({"index": i, "response": reply}) + "\n" for i in range(3)))
        command("score", "mig-bench", "--data", small.path, "--answers", answers, "--out", tmp_path / name)
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "first"), str(tmp_path / "second"), "--json"])
    comparison = json.loads(result.stdout)
    assert comparison["average"]["acc@0.5"] == 100 and comparison["n"] == 3
    assert comparison["per_task"]["diff"]["interval"]["acc@0.5"] == [-100, 100]  # one cluster says nothing
    swapped = json.loads(
        CliRunner().invoke(app, ["compare", str(tmp_path / "second"), str(tmp_path / "first"), "--json"]).stdout
    )
    assert swapped["average"]["mean_iou"] == pytest.approx(-comparison["average"]["mean_iou"])


def test_runs_over_different_files_are_not_compared(small, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([row()]))
    (tmp_path / "a.jsonl").write_text(GOOD)
    for name, data in (("first", small.path), ("second", other)):
        command("score", "mig-bench", "--data", data, "--answers", tmp_path / "a.jsonl", "--out", tmp_path / name)
    status, _, error = command("compare", tmp_path / "first", tmp_path / "second")
    assert status == 2 and "different benchmark files" in error
    status, _, error = command("compare", tmp_path / "first", tmp_path / "nowhere")
    assert status == 2 and "nowhere" in error and len(error.splitlines()) == 1


def test_importing_and_scoring_load_no_torch():
    code = (
        "import sys, migician, migician.cli, migician.evaluation.report, migician.evaluation.ask\n"
        "import migician.evaluation.comparison\n"
        "heavy = {'torch', 'transformers', 'gradio', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
