"""Questions for what is in none of the images: which replies refuse, what they are worth, what a report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from PIL import Image

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.mig_bench_one_shot import load as one_shot
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.boxtext import QWEN, STYLES, parse_boxes
from migician.evaluation.baseline import constant_answers
from migician.evaluation.records import score
from migician.models import FAMILIES, find_family, load_model
from migician.models.family import QWEN2_VL
from migician.training.rewards import PRESETS, best_reply, reward

THERE, ABSENT = 0, 1


def row(answer: Any, second: str, **changed: Any) -> dict[str, Any]:
    images = ["./w/a.png", f"./w/{second}.png"]
    question = "Find it in the 2th image."
    return {"task": "refer_grounding", "images": images, "question": question, "answer": answer, **changed}


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    """The same question twice: its target is there, and is in none of the images."""
    return written(tmp_path, [row([0.1, 0.1, 0.5, 0.5], "b"), row(None, "c")])


def written(folder: Path, rows: list[dict[str, Any]]) -> Benchmark:
    (folder / "data.json").write_text(json.dumps(rows))
    return mig_bench.load(folder / "data.json")


REPLIES = [
    # reply, style, outcome where the target is there, where it is not
    ("There is no such object.", "qwen", "refused", "correct"),
    ("I can see no dog in either of the images.", "qwen", "refused", "correct"),
    ("<think>a box (1,1),(2,2)?</think><answer>none</answer>", "qwen", "refused", "correct"),
    ("None", "qwen", "refused", "correct"),
    ("[]", "qwen3-vl", "refused", "correct"),
    ("```json\n[\n]\n```", "qwen3-vl", "refused", "correct"),
    ('<answer>{"boxes": []}</answer>', "onethinker", "refused", "correct"),
    ('{"boxes": []}', "qwen3-vl", "garbled", "garbled"),  # another family's form
    ("<|box_start|>None<|box_end|>", "rex-omni", "refused", "correct"),
    ("(100,100),(500,500)", "qwen", "correct", "wrong_box"),
    ("(600,600),(700,700)", "qwen", "wrong_box", "wrong_box"),
    ("There is no such object. (100,100),(500,500)", "qwen", "correct", "wrong_box"),
    ("Image-1: (100,100),(500,500)", "qwen", "wrong_image", "wrong_box"),
    ("(100,100),(500", "qwen", "garbled", "garbled"),
    ("(500,500),(100,100)", "qwen", "garbled", "garbled"),
    ("(100,100),(500,1500)", "qwen", "off_scale", "off_scale"),
    ("", "qwen", "no_box", "no_box"),
    (" \n", "qwen", "no_box", "no_box"),
    ("<think>it is not there, or is it", "qwen", "no_box", "no_box"),
    (None, "qwen", "failed", "failed"),
]


@pytest.mark.parametrize(("reply", "style", "there", "absent"), REPLIES)
def test_what_a_reply_is_worth(bench: Benchmark, reply: str | None, style: str, there: str, absent: str) -> None:
    answers = {index: Answer(index, reply, error=None if reply is not None else "out of memory") for index in (0, 1)}
    first, second = score(bench, answers, Reading("strict", STYLES[style]))
    assert (first.outcome, second.outcome) == (there, absent)
    assert second.iou == float(absent == "correct") and second.truth is None
    assert first.iou == float(there == "correct")
    # A refusal earns a reward exactly where it is right here.
    if reply is not None:
        assert reward(reply, [], style=style)["image"] == second.iou


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_s_own_form_refuses(bench: Benchmark, name: str) -> None:
    family = find_family("", name)
    style, form = family.style, family.style.absent
    for reply in (form, f"<think>?</think><answer>{form}</answer>", f"{form}\n"):
        parsed = parse_boxes(reply, style, (1000, 1000))
        assert (parsed.status, parsed.refused, parsed.boxes) == ("no_box", True, ())
        (record,) = score(
            bench, {ABSENT: Answer(ABSENT, reply, sizes=((9, 9),) * 2)}, Reading("strict", style), partial=True
        )
        assert (record.outcome, record.iou) == ("correct", 1)
    assert not parse_boxes(style.write(Box(0.1, 0.1, 0.5, 0.5), (100, 100)), style, (100, 100)).refused
    asked = mig_bench.prompt(bench.questions[THERE], "corrected", family, [(1000, 1000)] * 2)
    assert asked.endswith(f"answer: {form}")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("style", STYLES)
def test_each_style_s_own_form_earns_the_most(preset: str, style: str) -> None:
    form = STYLES[style].absent
    reply = f"<think></think><answer>{form}</answer>" if PRESETS[preset].thinks else form
    assert best_reply([], preset=preset, style=style) == reply
    truth = [(0, (0.0, 0.0, 0.5, 0.5))]
    sizes = [(100, 100)]
    assert reward(reply, [], preset=preset, style=style, sizes=sizes)["total"] == pytest.approx(PRESETS[preset].most(0))
    assert reward(reply, truth, preset=preset, style=style, sizes=sizes)["total"] < PRESETS[preset].most(1)


@pytest.mark.parametrize("reply", ["", "<think>it is not there, or is it", "<think></think><answer> </answer>"])
def test_saying_nothing_refuses_nothing(reply: str) -> None:
    earned = reward(reply, [])
    assert (earned["image"], earned["iou"]) == (0, 0)


class TestThePrompt:
    def test_is_the_same_whether_it_is_there_or_not(self, bench: Benchmark) -> None:
        for wording in ("corrected", "published", "trained"):
            there, absent = (mig_bench.prompt(one, wording, QWEN2_VL) for one in bench.questions)
            assert there == absent
            assert there.count("none of the images") == (wording != "published")

    def test_says_how_to_refuse_only_with_the_format_and_only_where_a_file_asks_for_it(self, tmp_path: Path) -> None:
        rows = [row([0.1, 0.1, 0.5, 0.5], "b", need_format=False), row(None, "c", need_format=False)]
        assert "none of" not in mig_bench.prompt(written(tmp_path, rows).questions[ABSENT], "corrected", QWEN2_VL)
        rows = [row([0.1, 0.1, 0.5, 0.5], "b")]
        assert mig_bench.prompt(written(tmp_path, rows).questions[THERE], "corrected", QWEN2_VL).endswith("words.")


def scored(bench: Benchmark, replies: list[str], out: Path, *options: str) -> Any:
    answers = out.with_suffix(".jsonl")
    answers.write_text("".join(json.dumps({"index": at, "response": one}) + "\n" for at, one in enumerate(replies)))
    return command("score", "mig-bench", "--data", bench.path, "--answers", answers, "--out", out, *options)


BOX, NONE = "(100,100),(500,500)", "There is no such object."


class TestTheReport:
    def test_absent_and_present_stand_apart(self, tmp_path: Path) -> None:
        rows = [row([0.1, 0.1, 0.5, 0.5], f"p{at}") for at in range(4)] + [row(None, f"a{at}") for at in range(6)]
        bench = written(tmp_path, rows)
        done = scored(bench, [BOX, BOX, BOX, NONE, NONE, NONE, BOX, BOX, BOX, BOX], tmp_path / "run")
        assert "6 of 10 questions ask for what is in none of their images: percent of these refused 33.33" in done.error
        assert "Acc@0.5 on the others 75.00" in done.error
        report = json.loads((tmp_path / "run/report.json").read_text())
        found = report["breakdowns"]["by_target"]
        assert {name: (one["n"], round(one["acc@0.5"], 2)) for name, one in found.items()} == {
            "present": (4, 75.0),
            "absent": (6, 33.33),
        }
        assert report["micro"]["acc@0.5"] == pytest.approx(50)
        assert report["per_task"]["refer_grounding"]["outcomes"] == {"correct": 5, "wrong_box": 4, "refused": 1}
        assert report["malformed_rows"] == [] and report["breakdowns"]["by_box_size"]["10% to 30%"]["n"] == 4
        table = command("table", tmp_path / "run", "--format", "markdown").output
        assert "present" in table and "absent" in table and "33.33" in table
        (tmp_path / "w").mkdir()
        for name in {Path(image).name for one in rows for image in one["images"]}:
            Image.new("RGB", (40, 30), "white").save(tmp_path / "w" / name)
        page = command("report", tmp_path / "run", "--images", tmp_path)
        assert page.status == 0, page.error
        content = (tmp_path / "run/page/index.html").read_text()
        assert '"refused"' in content and "in none of the images" in content
        exported = command(
            "data", "export", tmp_path / "run", "--coco", "--to", tmp_path / "coco", "--images", tmp_path
        )
        assert exported.status == 0 and "4 true boxes and 7 predictions" in exported.error
        other = scored(bench, [BOX] * 4 + [NONE] * 6, tmp_path / "other")
        compared = json.loads(command("compare", tmp_path / "run", tmp_path / "other", "--json").output)
        assert other.status == 0 and compared["average"]["acc@0.5"] == pytest.approx(50)
        assert compared["per_task"]["refer_grounding"]["mcnemar"]["second_only"] == 5

    def test_a_benchmark_without_such_questions_shows_nothing_of_it(self, tmp_path: Path) -> None:
        bench = written(tmp_path, [row([0.1, 0.1, 0.5, 0.5], "a"), row([0.1, 0.1, 0.5, 0.5], "b")])
        done = scored(bench, [BOX, NONE], tmp_path / "run")
        report = json.loads((tmp_path / "run/report.json").read_text())
        assert report["per_task"]["refer_grounding"]["outcomes"] == {"correct": 1, "no_box": 1}
        assert "by_target" not in report["breakdowns"] and "none of" not in done.error
        (tmp_path / "w").mkdir()
        for name in "ab":
            Image.new("RGB", (40, 30), "white").save(tmp_path / "w" / f"{name}.png")
        assert command("report", tmp_path / "run", "--images", tmp_path).status == 0
        assert '"refused"' not in (tmp_path / "run/page/index.html").read_text()

    @pytest.mark.parametrize("protocol", ["published", "univg-r1"])
    def test_published_protocols_have_no_rule_for_it(self, bench: Benchmark, tmp_path: Path, protocol: str) -> None:
        done = scored(bench, [BOX, NONE], tmp_path / "run", "--protocol", protocol)
        assert done.status == 2 and "1 of its questions ask for what is not there" in done.error
        assert len(done.error.splitlines()) == 1 and not (tmp_path / "run").exists()

    def test_neither_has_a_chain_of_thought(self, bench: Benchmark, tmp_path: Path) -> None:
        asked = ["eval", "mig-bench", "--data", bench.path, "--images", tmp_path, "--model", "constant", "--dry-run"]
        done = command(*asked, "--cot", "multi", "--out", tmp_path / "run")
        assert done.status == 2 and "not all are there" in done.error


def test_the_file_s_form_is_told_by_its_numbers(tmp_path: Path) -> None:
    assert written(tmp_path, [row(None, "a"), row([100, 100, 500, 500], "b")]).facts["file_kind"] == "revised"
    assert written(tmp_path, [row(None, "a"), row([0.1, 0.1, 0.5, 0.5], "b")]).facts["file_kind"] == "original"
    only = written(tmp_path, [row(None, "a")])
    assert only.facts["file_kind"] == "original" and only.malformed == []


def test_the_baseline_and_one_shot_leave_it_out(tmp_path: Path) -> None:
    rows = [row(None, "a", task="region"), row([0.1, 0.1, 0.5, 0.5], "b", task="common_object"), row(None, "b")]
    bench = written(tmp_path, rows)
    replies = [constant_answers(bench)[index].response for index in range(3)]
    assert replies == [QWEN.absent, QWEN.write(Box(0.1, 0.1, 0.5, 0.5)), QWEN.absent]
    assert one_shot(bench.path).facts["rows_left_out"] == {"region": 1, "refer_grounding": 1}


def test_a_notebook_says_so() -> None:
    from migician.chat.grounding import ground
    from migician.models.stand_ins.scripted import Scripted

    image = Image.new("RGB", (64, 64))
    found = ground(Scripted(lambda request: NONE), [image, image], "Where is the dog?")
    assert found.refused and found.boxes == () and found.status == "no_box"
    for model in (Scripted(lambda request: ""), Scripted(lambda request: "(1,1),(2"), load_model("constant")):
        assert not ground(model, [image], "Where is the dog?").refused
