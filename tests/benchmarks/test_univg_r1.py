"""The protocol of UniVG-R1's script. What it reads and scores was found by running its own functions."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.scoring.scoring import Answer, Reading, reading_named
from migician.benchmarks.scoring.univg_r1 import as_box, find_boxes, overlap, stretch_y
from migician.boxes import Box
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.records import score

TRUTH = (100, 100, 500, 500)
UNREAD = "garbled"
ABSENT = "no_box"

# reply, what its script takes for the box, with the IoU; the same after its y-stretch.
READ = [
    ("(100,100),(500,500)", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("(100, 100),  (500,500)", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("[100, 100, 500, 500]", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("[[100,100,500,500]]", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("<box>100 100 500 500</box>", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ('{"bbox_2d": [100, 100, 500, 500]}', (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("(١٠٠,100),(500,500)", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    # Of several the last is dropped and the first taken, thinking or not; and the first is stretched then too.
    ("(100,100),(500,500)(0,0),(1,1)", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("(0,0),(1,1)(100,100),(500,500)", (0, 0, 1, 1), 0.0, (0, 0, 1, 1), 0.0),
    ("(0,0),(1,1)(100,100),(500,500)(7,7),(8,8)", (0, 0, 1, 1), 0.0, (0, 0, 1, 1), 0.0),
    ("<think>(0,0),(50,50)</think><answer>(100,100),(500,500)</answer>", (0, 0, 50, 50), 0.0, (0, 0, 50, 55), 0.0),
    ("<think>[1, 2, 3, 4]</think>(100,100),(500,500)", (100, 100, 500, 500), 1.0, (100, 105, 500, 550), 0.877778),
    ("<think>(1,1),(2,2)</think>[100, 100, 500, 500]", (1, 1, 2, 2), 0.0, (1, 1, 2, 2), 0.0),
    # An IoU of exactly a half is a hit.
    ("(100,100),(500,300)", (100, 100, 500, 300), 0.5, (100, 105, 500, 330), 0.5625),
    ("(100,100),(500,299)", (100, 100, 500, 299), 0.4975, (100, 105, 500, 329), 0.56),
    # Nothing is off its scale, and nothing but the stretch is cut.
    ("(0,0),(1000,1000)", (0, 0, 1000, 1000), 0.16, (0, 0, 1000, 999), 0.16016),
    ("(100,100),(500,5000)", (100, 100, 500, 5000), 0.081633, (100, 105, 500, 999), 0.439377),
    ("(500,500),(100,100)", (500, 500, 100, 100), 0.0, (500, 525, 100, 110), 0.0),
    ("(0,0),(0,0)", (0, 0, 0, 0), 0.0, (0, 0, 0, 0), 0.0),
    ("(552,552),(557,579)", (552, 552, 557, 579), 0.0, (552, 580, 557, 637), 0.0),
    ("(100,0),(500,951)", (100, 0, 500, 951), 0.42061, (100, 0, 500, 999), 0.4004),
]
# reply, and why its script takes [0, 0, 0, 0] for the box.
NOT_READ = [
    ("[0.1, 0.1, 0.5, 0.5]", UNREAD),
    ("(0.1,0.1),(0.5,0.5)", UNREAD),
    ("(100.0, 100.0, 500.0, 500.0)", UNREAD),
    ("[100,100,500,500] [0.1, 0.1, 0.5, 0.5]", UNREAD),  # decimals are looked for first
    (f"(1,1),({'9' * 4301},5) (2,2),(3,3)", UNREAD),  # no int to Python
    ("(100, 100, 500, 500)", ABSENT),
    ("( 100,100),(500,500)", ABSENT),
    ("(-100,100),(500,500)", ABSENT),
    ("nothing", ABSENT),
    ("", ABSENT),
]


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    row = {"task": "diff", "images": ["a.png"], "question": "Where?", "answer": list(TRUTH)}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    return mig_bench.load(tmp_path / "data.json")


@pytest.mark.parametrize(("reply", "box", "iou", "stretched", "stretched_iou"), READ, ids=[one[0] for one in READ])
def test_boxes_are_read_and_scored_as_its_script_does(bench, reply, box, iou, stretched, stretched_iou):
    for stretch, wanted, expected in ((False, box, iou), (True, stretched, stretched_iou)):
        record = score(bench, {0: Answer(0, reply)}, Reading("univg-r1", QWEN, stretch))[0]
        assert record.boxes[0] == as_box(wanted).as_tuple()
        assert record.iou == pytest.approx(expected, abs=5e-7)
        assert record.outcome == ("correct" if expected >= 0.5 else "wrong_box")
        assert record.several == (len(find_boxes(reply)) > 1)


@pytest.mark.parametrize(("reply", "outcome"), NOT_READ, ids=[one[0][:40] for one in NOT_READ])
@pytest.mark.parametrize("stretch", [False, True])
def test_what_its_script_cannot_read_scores_nothing(bench, reply, outcome, stretch):
    record = score(bench, {0: Answer(0, reply)}, Reading("univg-r1", QWEN, stretch))[0]
    assert (record.outcome, record.iou, record.several) == (outcome, 0, False)
    assert record.boxes == ([(0, 0, 0, 0)] if outcome == UNREAD else [])


def test_numbers_too_long_to_be_a_float_are_off_scale(bench):
    long = "9" * 400
    for reply in (f"(0,0),({long},500)", f"({long},0),(1,1)", f"(0,0),(1,{long}) (1,1),(2,2)"):
        record = score(bench, {0: Answer(0, reply)}, Reading("univg-r1", QWEN))[0]
        assert (record.outcome, record.iou) == ("off_scale", 0)
        assert max(record.boxes[0]) == 1e9
    # The last of several is not looked at.
    assert score(bench, {0: Answer(0, f"(100,100),(500,500) (0,0),(1,{long})")}, Reading("univg-r1", QWEN))[0].iou == 1
    # Its stretch stops at the first number that is no float, and what it did to the one before stays.
    assert stretch_y((1, int(long), 2, 500)) == (1, int(long), 2, 500)
    assert stretch_y((1, 100, 2, int(long))) == (1, 105, 2, int(long))


def test_an_iou_of_exactly_a_threshold_is_a_hit():
    """In fractions many of these come out below: 0.1 to 0.4 is not 0.3 long."""
    for x in range(0, 900, 7):
        truth = Box.from_permille(x, 0, x + 100, 10)
        assert overlap((x, 0, x + 50, 10), truth) == 0.5
        assert overlap((x, 0, x + 30, 10), truth) == 0.3
        assert overlap((x, 0, x + 70, 10), truth) == 0.7


def test_the_protocol_is_named_wherever_a_figure_stands(bench, tmp_path):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "run"
    answers.write_text(json.dumps({"index": 0, "response": "(100,100),(500,550) (1,1),(2,2)"}) + "\n")
    given = ["score", "mig-bench", "--data", bench.path, "--answers", answers, "--out", out, "--protocol", "univg-r1"]
    done = CliRunner().invoke(app, [*map(str, given), "--y-stretch"])
    assert done.exit_code == 0, done.output
    assert "univg-r1 protocol with y-stretch" in " ".join(done.output.split())
    report = json.loads((out / "report.json").read_text())
    assert (report["protocol"], report["y_stretch"], report["style"]) == ("univg-r1", True, None)
    table = CliRunner().invoke(app, ["table", str(out), "--published", "univg-r1"]).output
    assert "univg-r1 protocol with y-stretch" in " ".join(table.split())
    assert "scored by UniVG-R1's script" in " ".join(table.split())


def test_it_says_where_it_stands_on_another_form(bench, tmp_path):
    data, answers = tmp_path / "original.json", tmp_path / "answers.jsonl"
    row = json.loads(bench.path.read_text())[0] | {"answer": [0.1, 0.1, 0.5, 0.5]}
    data.write_text(json.dumps([row]))
    answers.write_text(json.dumps({"index": 0, "response": "(100,100),(500,500)"}) + "\n")
    given = ["--answers", answers, "--out", tmp_path / "run", "--protocol", "univg-r1"]
    done = CliRunner().invoke(app, list(map(str, ["score", "mig-bench", "--data", data, *given])))
    assert "knows the revised form of MIG-Bench only" in " ".join(done.output.split())
    record = json.loads((tmp_path / "run/records.jsonl").read_text())
    assert record["iou"] == 1


def test_a_style_and_options_do_not_go_with_it(bench):
    with pytest.raises(UserError, match="--style is for --protocol strict: univg-r1 reads every reply by rules"):
        reading_named("univg-r1", "qwen")
    with pytest.raises(UserError, match=r"unknown protocol 'univg_r1'.*Did you mean 'univg-r1'"):
        reading_named("univg_r1")


def test_real_answers_give_the_figures_of_its_functions(shared):
    """Acc@0.5 averaged over the tasks, made by running its own functions on the same answers."""
    revised = mig_bench.load(shared / "data/mig_bench/revised_MIG_bench.json")
    for name, stretch, expected in (
        ("migician", False, 55.3436),
        ("migician", True, 63.3744),
        ("qwen2_vl", False, 30.0206),
        ("qwen2_vl", True, 26.1562),
    ):
        lines = (shared / f"data/model_answers/{name}.jsonl").read_text().splitlines()
        answers = {row["index"]: Answer(row["index"], row["response"]) for row in map(json.loads, lines)}
        hits: dict[str, list[bool]] = {}
        for record in score(revised, answers, Reading("univg-r1", QWEN, stretch)):
            hits.setdefault(record.task, []).append(record.iou >= 0.5)
        mean = 100 * sum(sum(one) / len(one) for one in hits.values()) / len(hits)
        assert mean == pytest.approx(expected, abs=5e-5), (name, stretch)
