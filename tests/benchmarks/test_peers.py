"""Replies read as lmms-eval and VLMEvalKit read them: what their own functions gave for these replies stands beside."""

import json
import time
from collections import Counter

import pytest
from benchmarks.released_forms import inside, muir_row, vstar_row, write_lines, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import load_benchmark
from migician.benchmarks.scoring import peers
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion
from migician.benchmarks.scoring.option_text import read_option
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.evaluation.records import score

OPTIONS = ["a cat", "a dog", "the third image", "None of the choices provided"]
# Right is B. lmms-eval 0.7.3: muirbench (whether right), blink (letter), mantis (whether right), vstar_bench (letter);
# VLMEvalKit e8e78f05: can_infer. First, what strict settles on.
READ = [
        ('B', "B", True, 'B', True, 'B', 'B'),
        ('B.', "B", True, 'B', True, 'B', 'B'),
        ('(B)', "B", False, 'B', True, 'B', 'B'),
        ('b', "B", True, 'B', True, 'B', None),
        ('B) a dog', "B", False, 'B', True, 'B', 'B'),
        ('A dog.', "B", False, 'A', False, 'A', 'A'),
        ('a dog', "B", False, 'A', False, 'A', 'B'),
        ('The answer is B.', "B", False, 'B', True, 'B', 'B'),
        ('the correct answer is **B**', "B", False, '', False, None, 'B'),
        ('Both cats', "", False, 'B', True, 'B', None),
        ('Final Answer: C', "C", False, 'C', False, 'C', 'C'),
        ('Answer: B. Wait, C.', "C", False, 'B', True, 'A', None),
        ('Between A and B, B is right', "B", False, 'B', True, 'B', None),
        ('Not A. B', "", False, '', False, 'A', None),
        ('A or B', "AB", False, 'A', False, 'A', None),
        ('Option B', "B", False, '', False, 'B', 'B'),
        ('', "", False, '', False, None, None),
        ('Dog', "", False, 'D', False, 'D', None),
        ('```B```', "B", False, '', True, 'B', None),
        ('Because of this\nB', "B", False, 'B', True, 'B', 'B'),
        ('Cannot determine the answer (B)', "B", False, 'B', False, 'C', 'Z'),
        ('Z', "", False, '', False, None, 'Z'),
        ('E', "", False, '', False, None, None),
        ('**B**', "B", False, '', True, 'B', 'B'),
        ('I choose B, since A is common', "B", False, '', False, 'A', None),
        ('<think>A</think>B', "B", False, '', False, None, None),
]  # fmt: skip
# The truth is (0.1, 0.2) to (0.3, 0.4) of an image of 640 x 427.
# IoU by refcoco_grounding of lmms-eval, and by RefCOCO of VLMEvalKit.
BOXED = [
        ('(100,200),(300,400)', 0.0, 1.0),
        ('[100, 200, 300, 400]', 1.0, 1.0),
        ('{"bbox_2d": [64, 85, 192, 171]}', 0.993023, 0.0),
        ('```json\n[{"bbox": [1, 2, 3, 4]}, {"bbox_2d": [100, 200, 300, 400]}]\n```', 1.0, 0.0),
        ('0.1 0.2 0.3 0.4', 0.0, 1.0),
        ('[0.1, 0.2, 0.3, 0.4]', 0.0, 1.0),
        ('[300, 400, 100, 200]', 0.0, 1.0),
        ('[1200, 10, 1500, 20]', 0.0, 0.0),
        ('no box', 0.0, 0.0),
        ('x1=100, y1=200, x2=300, y2=400', 0.0, 0.0),
        ('{"box": ["100", "200", "300", "400"]}', 1.0, 1.0),
        ('[100, 200, 300, 400', 1.0, 1.0),
]  # fmt: skip
SIZE = (640, 427)
TRUTH = Box.from_xywh_pixels(64, 85.4, 128, 85.4, SIZE)


def invoke(*args):
    return CliRunner().invoke(app, [str(one) for one in args], catch_exceptions=False)


@pytest.mark.parametrize(("reply", "strict", "muirbench", "blink", "mantis", "vstar", "vlmevalkit"), READ)
def test_options_are_read_as_their_own_functions_do(reply, strict, muirbench, blink, mantis, vstar, vlmevalkit):
    assert "".join("ABCD"[place] for place in read_option(reply, OPTIONS, lettered=True)) == strict
    assert peers.lmms_eval_option("muirbench", reply, OPTIONS, "B")[1] == muirbench
    assert peers.lmms_eval_option("blink", reply, OPTIONS, "(B)") == (blink or None, blink == "B")
    assert peers.lmms_eval_option("mantis", reply, OPTIONS, "B")[1] == mantis
    assert peers.lmms_eval_option("vstar_bench", reply, OPTIONS, "B") == (vstar, vstar == "B")
    assert peers.vlmevalkit_option(reply, OPTIONS) == vlmevalkit


def iou(reply, protocol):
    question = BoxQuestion(0, "t", ("a.png",), "?", TRUTH, 0, True)
    return BOXES.score_one(question, Answer(0, reply), Reading(protocol, QWEN), lambda *_: SIZE).iou


@pytest.mark.parametrize(("reply", "lmms_eval", "vlmevalkit"), BOXED)
def test_boxes_are_read_as_their_own_functions_do(reply, lmms_eval, vlmevalkit):
    assert iou(reply, "lmms-eval") == pytest.approx(lmms_eval, abs=1e-6)
    assert iou(reply, "vlmevalkit") == pytest.approx(vlmevalkit, abs=1e-6)
    assert iou(reply, "oracle") >= max(iou(reply, protocol) for protocol in ("strict", "lmms-eval")) - 1e-12


numbers = st.sampled_from(["0", "1", "0.5", "100", "999", "1500", "-3", "9" * 400, "1e9", "NaN"])
pieces = st.sampled_from(
    [*'()[]{},:. "\n', "bbox_2d", "```json", "```", "B", "(B)", "answer is ", "Image-2: ", "\u0663"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers | pieces | st.text(max_size=4), max_size=30).map("".join))
def test_no_reply_is_too_odd(reply):
    for protocol in peers.BOX_READINGS:
        assert 0 <= iou(reply, protocol) <= 1
    for task in ("muirbench", "blink", "mantis", "vstar_bench"):
        assert peers.lmms_eval_option(task, reply, OPTIONS, "B")[1] in (True, False)
    assert peers.vlmevalkit_option(reply, OPTIONS) in (None, *"ABCDZ")


@pytest.mark.parametrize("unit", ["1 ", "1, ", " ", "9", "[", "{", "```", "(B) ", "answer is "])
def test_long_replies_take_time_in_proportion(unit):
    started = time.process_time()
    reply = unit * (60_000 // len(unit))
    for readings in peers.BOX_READINGS.values():
        readings(reply, SIZE)
    for task in ("muirbench", "blink", "mantis", "vstar_bench"):
        peers.lmms_eval_option(task, reply, OPTIONS, "B")
    peers.vlmevalkit_option(reply, OPTIONS)
    assert time.process_time() - started < 5


class TestCommands:
    @pytest.mark.parametrize(("protocol", "accuracy"), [("strict", 100), ("lmms-eval", 50), ("vlmevalkit", 100)])
    def test_options(self, tmp_path, protocol, accuracy):
        data = write_parquet(tmp_path / "a.parquet", [muir_row(), muir_row("Ordering")])
        answers = write_lines(
            tmp_path / "a.jsonl", [{"index": 0, "response": "B."}, {"index": 1, "response": "(B) two"}]
        )
        given = ["--data", data, "--answers", answers, "--out", tmp_path / "out", "--protocol", protocol, "--json"]
        report = json.loads(invoke("score", "muirbench", *given).stdout)
        assert report["average"]["accuracy"] == accuracy and report["protocol"] == protocol

    def test_boxes(self, tmp_path):
        row = {"image": "a.png", "sent": "a dog", "bbox": [64, 85, 192, 171], "width": 640, "height": 427}
        data, out = write_lines(tmp_path / "a.jsonl", [row]), tmp_path / "out"
        Image.new("RGB", SIZE).save(tmp_path / "a.png")
        answers = write_lines(tmp_path / "b.jsonl", [{"index": 0, "response": '{"bbox_2d": [64, 85, 192, 171]}'}])
        given = ["score", "refcoco", "--data", data, "--answers", answers, "--json"]
        found = {}
        for protocol, more in (("strict", []), ("lmms-eval", ["--images", tmp_path]), ("oracle", [])):
            done = invoke(*given, "--protocol", protocol, "--out", out / protocol, *more)
            found[protocol] = json.loads(done.stdout)["average"]["mean_iou"]
        assert found["lmms-eval"] == pytest.approx(100) and found["strict"] == 0 and found["oracle"] < 50
        assert invoke("report", out / "lmms-eval", "--images", tmp_path).exit_code == 0
        with pytest.raises(UserError, match="--protocol lmms-eval takes boxes for pixels, too"):
            invoke(*given, "--protocol", "lmms-eval", "--out", out / "without")

    @pytest.mark.parametrize(
        ("name", "protocol", "says"),
        [
            ("vstar", "oracle", "oracle does not read this benchmark: use strict, published, lmms-eval or vlmevalkit"),
            ("vstar", "univg-r1", "univg-r1 does not read this benchmark"),
        ],
    )
    def test_a_protocol_that_does_not_apply(self, tmp_path, name, protocol, says):
        data = write_parquet(tmp_path / "a.parquet", [vstar_row(image=inside(1))])
        answers = write_lines(tmp_path / "b.jsonl", [{"index": 0, "response": "A"}])
        given = ["--data", data, "--answers", answers, "--out", tmp_path / "out", "--protocol", protocol]
        with pytest.raises(UserError, match=says):
            invoke("score", name, *given)


def hits(bench, file, protocol):
    """By task: how many replies of a file hit at IoU 0.5."""
    reading = Reading(protocol, QWEN)
    records = score(bench, read_answers(file, bench), reading)
    return Counter(record.task for record in records if record.outcome == "correct")


def test_what_the_oracle_adds_to_real_answers(shared):
    """The counts behind the table in docs/evaluation.md: nothing where each reply is one box on the declared scale."""
    bench = load_benchmark("mig-bench", shared / "data/mig_bench/revised_MIG_bench.json")
    files = {model: shared / f"data/model_answers/{model}.jsonl" for model in ("migician", "qwen2_vl")}
    strict, oracle = ({model: hits(bench, file, one) for model, file in files.items()} for one in ("strict", "oracle"))
    assert strict["migician"] == oracle["migician"] and strict["qwen2_vl"] <= oracle["qwen2_vl"]
    assert oracle["qwen2_vl"] - strict["qwen2_vl"] == {
        "group_grounding": 32,
        "diff": 6,
        "object_tracking": 4,
        "multi_view": 3,
        "common_object": 2,
        "reasoning": 1,
    }
