"""Chain of thought: what each step shows and says, which image it is about, and how its replies are scored."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxtext import QWEN, STYLES
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.ask import Asking, Plan
from migician.evaluation.chain_of_thought import chained, describing, evaluate_chain, locating, target_image
from migician.evaluation.records import score
from migician.evaluation.run_folder import read_run
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

STRICT = Reading("strict", QWEN)
BOX = "<|box_start|>(100,100),(500,500)<|box_end|>"
FORMAT = "Format:<|box_start|>(x1,y1),(x2,y2)<|box_end|>. Don't generate additional words."
ROWS = [
    ("diff", 2, "Compare these two images and box the difference. ", ""),
    ("object_tracking", 3, "The object marked in the first image: please locate it in the 3th image. ", ""),
    ("group_grounding", 3, "Where is the red hat?", f"It is in the second image. {BOX}. "),
    ("region", 2, "Please locate the 1th region picture in the source image. ", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A MIG-Bench file and its images, each of a size of its own."""
    rows = []
    for number, (task, count, question, info) in enumerate(ROWS):
        names = [f"./MIG-Bench/images/{task}/{number}_{image}.png" for image in range(count)]
        for image, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60 + image, 50), (number, image, 0)).save(tmp_path / name)
        row = {"task": task, "images": names, "question": question, "answer": [0.1, 0.1, 0.5, 0.5]}
        rows.append(row | {"additional_info": info, "need_format": task != "group_grounding"})
    (tmp_path / "MIG_data.json").write_text(json.dumps(rows))
    return tmp_path


class Watched(Scripted):
    """Answers step 1 with `words` and step 2 with `box`, and keeps what it was asked."""

    def __init__(self, words: str | None, box: str = BOX) -> None:
        super().__init__(self._reply, "watched")
        self.words, self.box = words, box
        self.requests: list[Request] = []

    def _reply(self, request: Request) -> str:
        self.requests.append(request)
        if "Give no coordinates" not in request.prompt:
            return self.box
        if self.words is None:
            raise RuntimeError("no words today")
        return self.words

    def of_step(self, step: int) -> list[Request]:
        return [one for one in self.requests if ("Give no coordinates" in one.prompt) == (step == 1)]


def run(folder: Path, model: Watched, mode: Any, out: str = "out", reading: Reading = STRICT) -> tuple[Any, list[Any]]:
    bench = mig_bench.load(folder / "MIG_data.json")
    report = evaluate_chain(bench, Asking(model, folder, folder / out, Plan()), reading, mode)
    return report, list(read_run(folder / out)[1].values())


def names(request: Request) -> list[str]:
    return [Path(str(image)).stem for image in request.images]


def test_single_shows_the_target_alone(folder: Path) -> None:
    model = Watched("It's in the second image: a red hat on a chair.")
    report, records = run(folder, model, "single")
    assert [len(one.images) for one in model.of_step(1)] and not any(FORMAT in one.prompt for one in model.of_step(1))
    shown = {name for one in model.of_step(2) for name in names(one)}
    assert shown == {"0_1", "1_2", "2_1", "3_0"}
    assert all(len(one.images) == 1 and "a red hat on a chair" in one.prompt for one in model.of_step(2))
    assert [record.outcome for record in records] == ["correct"] * 4
    assert all("a red hat on a chair" in record.question for record in records)
    # Clusters are the rows' own tuples of images.
    assert [len(record.images) for record in records] == [2, 3, 3, 2]
    assert report["chain_of_thought"]["mode"] == "single" and report["chain_of_thought"]["step_1_failed"] == 0


def test_multi_shows_all_again(folder: Path) -> None:
    model = Watched("a red hat")
    _, records = run(folder, model, "multi")
    assert sorted(len(one.images) for one in model.of_step(2)) == [2, 2, 3, 3]
    assert [record.outcome for record in records] == ["correct"] * 4


def test_the_wrong_image_chosen_is_the_wrong_image_whatever_the_box(folder: Path) -> None:
    _, records = run(folder, Watched("The third image shows it."), "single")
    chosen = next(record for record in records if record.task == "group_grounding")
    assert (chosen.outcome, chosen.iou, chosen.image, chosen.target) == ("wrong_image", 0.0, 2, 1)
    # The paper's script looks at no image.
    _, records = run(folder, Watched("The third image shows it."), "single", "published", Reading("published", QWEN))
    assert next(record for record in records if record.task == "group_grounding").outcome == "correct"


def test_a_reply_about_the_one_image_it_saw_is_not_held_against_it(folder: Path) -> None:
    _, records = run(folder, Watched("in the second image", f"Image-1: {BOX}"), "single")
    assert [record.outcome for record in records] == ["correct"] * 4


def test_pixels_are_those_of_the_one_image_shown_whatever_the_reply_calls_it(folder: Path) -> None:
    bench = mig_bench.load(folder / "MIG_data.json")
    _, scored = locating(bench, dict.fromkeys(range(4), "a hat"), {0: 1, 1: 2, 2: 1, 3: 0}, "single")
    reply = 'In the second image: {"bbox_2d": [20, 10, 100, 50]}'
    answers = {index: Answer(index, reply, sizes=((200, 100),)) for index in range(4)}
    records = score(scored, answers, Reading("strict", STYLES["qwen2.5-vl"]))
    assert [record.boxes for record in records] == [[(0.1, 0.1, 0.5, 0.5)]] * 4
    assert [record.iou for record in records] == [1.0] * 4


def test_step_1_may_fail(folder: Path) -> None:
    with pytest.raises(UserError, match="none of the 4 questions asked was answered: RuntimeError: no words today"):
        run(folder, Watched(None), "single")


def test_a_second_run_asks_nothing(folder: Path) -> None:
    first, _ = run(folder, Watched("a red hat"), "single")
    model = Watched("something else")
    again, _ = run(folder, model, "single")
    assert model.requests == []
    assert again["per_task"] == first["per_task"]


@pytest.mark.parametrize(
    ("description", "image"),
    [("It's in the third image.", 2), ("Image-2 has it", 1), ("a hat", 0), (None, 0), ("the ninth image", 0)],
)
def test_group_grounding_goes_by_the_description(folder: Path, description: str | None, image: int) -> None:
    bench = mig_bench.load(folder / "MIG_data.json")
    assert target_image(bench.questions[2], description) == image


def test_the_targets_of_the_real_file(shared: Path) -> None:
    """Where the benchmark knows the target, step 2 shows it; for group_grounding the file's own hint names it."""
    bench = mig_bench.load(shared / "data/mig_bench/MIG_data.json")
    rows = json.loads((shared / "data/mig_bench/MIG_data.json").read_text())
    for question, row in zip(bench.questions, rows, strict=True):
        if question.target is not None:
            assert target_image(question, row["additional_info"]) == question.target, question.index
    asked = describing(bench)
    assert (
        len({one.text.split("\n")[-1] for one in asked.questions}) == 10 - 1
    )  # tracking and several views share theirs
    for one in asked.questions[:50]:
        assert FORMAT not in asked.prompt(one, "corrected", mig_bench.QWEN2_VL, None)


def test_only_the_questions_that_were_described_are_changed(folder: Path) -> None:
    bench = mig_bench.load(folder / "MIG_data.json")
    asked, scored = locating(bench, {0: "a hat"}, {0: 1}, "single")
    assert asked.questions[1:] == scored.questions[1:] == bench.questions[1:]
    assert len(asked.questions[0].images) == 1 and len(scored.questions[0].images) == 2


def test_the_script_takes_the_commands_options(folder: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "eval/MIG_bench_cot.py"
    words = [str(script), "--model", "constant:100,100,500,500", "--data", str(folder / "MIG_data.json")]
    words += ["--images", str(folder), "--out", str(folder / "x"), "--json"]
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["chain_of_thought"]["mode"] == "single" and report["n"] == len(ROWS)


def test_published_prompts_task_by_task(folder: Path) -> None:
    bench = mig_bench.load(folder / "MIG_data.json")
    family = mig_bench.QWEN2_VL
    first = describing(bench, "published")
    diff, tracking, group, region = (first.prompt(one, "published", family, None) for one in first.questions)
    assert diff.startswith("Compare these two images carefully and tell me where does they differ.")
    assert tracking.endswith("marked with red bounding box with simple phrase.")
    assert group == (
        "Where is the red hat? Just recognize and tell me which image is it in. "
        "Strictly answer from choice list: Image1 | Image2 | Image3."
    )
    # The source image is the first picture, so that the first region is the second.
    assert region == "Describe the content of the 2th picture with simple phrase or words."
    words = {0: " a {hat}. ", 1: "a hat", 2: "Image2", 3: "a hat <image>"}
    shown = {0: 1, 1: 2, 2: 1, 3: 0}
    asked, scored = locating(bench, words, shown, "single", "published")
    prompts = [asked.prompt(one, "published", family, None) for one in asked.questions]
    assert prompts[0] == (
        "According to the object difference/change: a {hat}, please ground this difference with bounding box "
        f"coordinates. {FORMAT}"
    )
    assert "<|object_ref_start|>" not in prompts[0] and "<ref>a hat<ref>" in prompts[1]
    assert prompts[2] == f"Where is the red hat? {FORMAT}"
    assert "<image>" not in prompts[3] and [len(one.images) for one in asked.questions] == [1] * 4
    assert [len(one.images) for one in scored.questions] == [2, 3, 3, 2]
    asked, _ = locating(bench, words, shown, "multi", "published")
    openings = [one.text[: one.text.index(". ") + 1] for one in asked.questions]
    assert openings == [
        "Now ONIY look at Image2.",
        "Now ONIY look at the third image.",
        "Now ONIY look at the second image.",
        "Now ONIY look at Image1.",
    ]


def test_published_prompts_know_every_task_of_the_real_file(shared: Path) -> None:
    bench = mig_bench.load(shared / "data/mig_bench/MIG_data.json")
    asked = describing(bench, "published")
    assert all(not re.search(r"[{}]", one.text) for one in asked.questions)
    pictures = {match[1] for one in asked.questions if (match := re.search(r"of the (\d)th picture", one.text))}
    assert pictures >= {"2", "3"} and "1" not in pictures
    reasoning = [one.text for one in asked.questions if one.task == "reasoning"]
    assert not any("locate it in the second image" in text for text in reasoning)


def test_a_task_that_the_published_script_does_not_know(folder: Path) -> None:
    bench = mig_bench.load(folder / "MIG_data.json")
    other = dataclasses.replace(bench, questions=(dataclasses.replace(bench.questions[0], task="new"),))
    with pytest.raises(UserError, match="does not know 'new': use --prompt corrected"):
        describing(other, "published")


@pytest.mark.parametrize("wording", ["corrected", "published"])
def test_a_dry_run_shows_both_steps(folder: Path, wording: str) -> None:
    words = ["eval", "mig-bench", "--model", "constant:100,100,500,500", "--data", folder / "MIG_data.json"]
    words += ["--images", folder, "--out", folder / "x", "--dry-run", "--cot", "single", "--prompt", wording]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    heads = [line for line in done.stdout.splitlines() if line.startswith("---")]
    assert heads[0] == "--- step 1, row 0, diff, 2 images" and heads[len(ROWS)] == "--- step 2, row 0, diff, 1 image"
    assert done.stdout.count("(the reply of step 1)") == len(ROWS) - (wording == "published")  # one asks without it
    assert not (folder / "x").exists()


def test_other_benchmarks_are_refused(folder: Path) -> None:
    from migician.benchmarks import load_benchmark

    with pytest.raises(UserError, match="chain of thought is for mig-bench"):
        chained(load_benchmark("mig-bench-one-shot", folder / "MIG_data.json"))
