"""The one-shot form: what is merged, how boxes are matched, and its own report."""

import itertools
import json

import pytest
from command_line import command
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.benchmarks import load_benchmark, mig_bench
from migician.benchmarks.scoring.matching import Placed, SetQuestion, match
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.boxtext import QWEN, STYLES
from migician.errors import UserError
from migician.evaluation.records import score
from migician.models.families.minicpm_v import FAMILY as MINICPM
from migician.models.family import QWEN2_VL

STRICT = Reading("strict", QWEN)

corners = st.tuples(*[st.integers(0, 8)] * 4).map(
    lambda c: Box(min(c[0], c[2]) / 8, min(c[1], c[3]) / 8, max(c[0], c[2]) / 8, max(c[1], c[3]) / 8)
)
placed = st.lists(st.tuples(st.integers(0, 2), corners), max_size=5)


def best_total(truths, boxes):
    """The greatest sum of IoU over all one-to-one assignments, by trying every one."""
    overlap = [[t.iou(b) if i == j else 0.0 for j, b in boxes] for i, t in truths]
    if len(truths) > len(boxes):
        overlap = [list(row) for row in zip(*overlap, strict=True)]
    if not overlap:
        return 0.0
    ways = itertools.permutations(range(len(overlap[0])), len(overlap))
    return max(sum(row[at] for row, at in zip(overlap, way, strict=True)) for way in ways)


@settings(deadline=None)
@given(placed, placed)
def test_the_matching_is_the_best_of_all(truths, boxes):
    pairs = match(truths, boxes)
    assert sum(pair.iou for pair in pairs) == pytest.approx(best_total(truths, boxes))
    assert len({pair.truth for pair in pairs}) == len({pair.box for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert truths[pair.truth][0] == boxes[pair.box][0]
        assert pair.iou == pytest.approx(truths[pair.truth][1].iou(boxes[pair.box][1])) and pair.iou > 0


@pytest.fixture(params=["MIG_data", "revised_MIG_bench"])
def real(request, shared):
    file = shared / f"data/mig_bench/{request.param}.json"
    return mig_bench.load(file), load_benchmark("mig-bench-one-shot", file)


def test_every_polled_row_is_in_one_question_with_its_box(real):
    polling, merged = real
    rows = [row for question in merged.questions for row in question.rows]
    assert len(rows) == len(set(rows)) == len(polling.questions) - sum(merged.facts["rows_left_out"].values())
    assert [question.index for question in merged.questions] == list(range(len(merged.questions)))
    for question in merged.questions:
        members = [polling.questions[row] for row in question.rows]
        assert {(row.task, row.images) for row in members} == {(question.task, question.images)}
        assert {(t.image, t.box) for t in question.truths} == {(row.target, row.truth) for row in members}
        asked = merged.prompt(question, "corrected", QWEN2_VL, None)
        for truth in question.truths if question.task != "group_grounding" else ():
            assert f"Image-{truth.image + 1}" in asked
        assert "th image." not in asked and "{" not in asked


def test_what_is_merged_of_the_released_file(shared):
    merged = load_benchmark("mig-bench-one-shot", shared / "data/mig_bench/MIG_data.json")
    counts = {}
    for question in merged.questions:
        counts.setdefault(question.task, []).append(len(question.truths))
    assert {task: (len(some), sum(some)) for task, some in counts.items()} == {
        "common_object": (201, 816),
        "group_grounding": (499, 499),
        "multi_view": (100, 286),  # 288 rows, of which two are there twice
        "object_tracking": (110, 550),
    }
    assert sum(merged.facts["rows_left_out"].values()) == 4295 - 816 - 499 - 288 - 550
    assert len(merged.malformed) == 7
    assert merged.prompt(merged.questions[0], "published", MINICPM, None).endswith(
        "Format: Image-N: <box>x1 y1 x2 y2</box>"
    )


QUESTION = SetQuestion(
    0,
    "common_object",
    ("a", "b", "c"),
    "Find it.",
    (Placed(0, Box(0, 0, 0.5, 0.5)), Placed(2, Box(0, 0, 1, 1))),
    (0, 1),
)


class Bench:
    def __init__(self, *questions):
        from migician.benchmarks.scoring.matching import MATCHING

        self.questions, self.scoring = questions, MATCHING


@pytest.mark.parametrize(
    ("reply", "outcome", "found", "boxes"),
    [
        ("Image-1: (0,0),(500,500)\nImage-3: (0,0),(1000,1000)", "correct", 2, 2),
        ("Image-3: (0,0),(1000,1000)\nImage-1: (0,0),(500,500)", "correct", 2, 2),
        ("Image-1: (0,0),(500,500)\nImage-2: (0,0),(1000,1000)", "partly", 1, 2),
        ("Image-1: (0,0),(500,500)\nImage-3: (0,0),(1000,1000)\nImage-2: (0,0),(9,9)", "partly", 2, 3),
        ("Image-1: (0,0),(500,500)", "partly", 1, 1),
        ("Image-3: (0,0),(500,500)\nImage-1: (0,0),(1000,1000)", "missed", 0, 2),
        ("(0,0),(500,500)(0,0),(1000,1000)", "missed", 0, 2),  # in no image
        ("Image-1: (0,0),(500,1500)", "missed", 0, 1),  # off the scale, still a box that was given
        ("<think>Image-1: (0,0),(500,500)</think>Image-3: (0,0),(1000,1000)", "partly", 1, 1),
        ("nothing there", "no_box", 0, 0),
        ("[0, 0, 500, 500]", "garbled", 0, 0),
    ],
)
def test_outcomes(reply, outcome, found, boxes):
    (record,) = score(Bench(QUESTION), {0: Answer(0, reply)}, STRICT)
    assert (record.outcome, record.found, len(record.boxes)) == (outcome, found, boxes)
    assert record.reply == reply


def test_pixels_are_those_of_the_image_a_box_is_in():
    sizes = [(100, 100), (100, 100), (200, 50)]
    reply = "Image-1: [0, 0, 50, 50]\nImage-3: [0, 0, 200, 50]"
    (record,) = score(
        Bench(QUESTION), {0: Answer(0, reply)}, Reading("strict", STYLES["list-pixel"]), size_of=lambda q, i: sizes[i]
    )
    assert record.found == 2 and [box.image for box in record.boxes] == [0, 2]
    answer = Answer(0, reply, sizes=tuple(sizes))  # as the model saw them
    assert score(Bench(QUESTION), {0: answer}, Reading("strict", STYLES["list-pixel"]))[0].pairs == record.pairs


def row(image, answer, task="common_object", names=("a.png", "b.png")):
    return {
        "task": task,
        "images": list(names),
        "question": f"These share one object. Recognize and locate this object in the {image}th image. ",
        "answer": answer,
    }


def test_its_report_is_its_own_and_never_beside_polling(tmp_path):
    data = tmp_path / "data.json"
    first, second = [0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]
    other = ("c.png", "d.png")
    rows = [row(1, first), row(2, second), row(1, first, names=other), row(2, second, names=other)]
    data.write_text(json.dumps([*rows, row(1, first, task="diff")]))
    answers = tmp_path / "answers.jsonl"
    replies = ["Image-1: (100,100),(500,500)\nImage-2: (200,200),(900,900)", "Image-1: (100,100),(500,500)"]
    answers.write_text("".join(json.dumps({"index": i, "response": reply}) + "\n" for i, reply in enumerate(replies)))
    done = command(
        "score", "mig-bench-one-shot", "--data", data, "--answers", answers, "--out", tmp_path / "one", "--json"
    )
    assert done[0] == 0, done[2]
    report = json.loads(done[1])
    assert report["benchmark"] == "mig-bench-one-shot" and report["scoring"] == "matching"
    assert report["rows_left_out"] == {"diff": 1} and report["rows_merged"] == 4 and report["n"] == 2
    figures = report["per_task"]["common_object"]
    assert figures["precision@0.5"] == 100 and figures["recall@0.5"] == 75
    assert figures["f1@0.5"] == pytest.approx(100 * 2 * 3 / (3 + 4)) and figures["mean_iou"] == pytest.approx(75)
    assert (figures["truths"], figures["boxes"], figures["found"]) == (4, 3, 3)
    assert figures["outcomes"] == {"correct": 1, "partly": 1}
    assert command("score", "mig-bench", "--data", data, "--answers", answers, "--out", tmp_path / "poll")[0] == 0
    status, _, error = command("compare", tmp_path / "one", tmp_path / "poll")
    assert status == 2 and "different benchmarks (mig-bench-one-shot, mig-bench)" in error
    assert command("report", tmp_path / "one", tmp_path / "poll", "--images", tmp_path)[0] == 2
    assert command("compare", tmp_path / "one", tmp_path / "one")[0] == 0
    given = ["--data", data, "--answers", answers, "--out", tmp_path / "x"]
    status, _, error = command("score", "mig-bench-one-shot", *given, "--protocol", "published")
    assert status == 2 and error.endswith("published does not read this benchmark: use strict\n")
    assert not (tmp_path / "x").exists()


def test_a_file_with_nothing_to_ask_at_once(tmp_path):
    data = tmp_path / "data.json"
    data.write_text(json.dumps([row(1, [0.1, 0.1, 0.5, 0.5], task="diff")]))
    with pytest.raises(UserError, match="none to ask in one shot"):
        load_benchmark("mig-bench-one-shot", data)
