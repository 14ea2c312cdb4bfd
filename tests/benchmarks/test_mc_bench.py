"""MC-Bench: its file, boxes in both images of a pair or in none, groups, AP by pycocotools, and a run of it."""

import json

import pytest
from benchmarks.released_forms import script_of
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import load_benchmark
from migician.benchmarks.scoring.average_precision import DETECTION, ap50
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.models.family import QWEN2_VL

STRICT = Reading("strict", QWEN)
LEFT, RIGHT = [0, 0, 40, 40], [50, 40, 50, 40]
IN_PERMILLE = {"left": "(0,0),(400,500)", "right": "(500,500),(1000,1000)"}


def description(number, style="Referring", text="the dog"):
    images = [2 * number, 2 * number + 1]
    return {"id": number, "images_id": images, "text": text, "positive_sample": True, "text_style": style}


def box(pair, place, corners, group=1):
    return {"id": 0, "image_id": 2 * pair + place, "text_id": pair, "category_id": group, "bbox": corners}


def write(tmp_path, descriptions, annotations):
    images = [
        {"id": number, "file_name": f"D/{number}.png", "width": 100, "height": 80, "text_id": 0, "inter_img_id": 0}
        for number in range(2 * len(descriptions))
    ]
    (tmp_path / "D").mkdir(exist_ok=True)
    for image in images:
        Image.new("RGB", (100, 80)).save(tmp_path / image["file_name"])
    file = tmp_path / "mc-bench_v0.2_val.json"
    file.write_text(json.dumps({"descriptions": descriptions, "images": images, "annotations": annotations}))
    return file


@pytest.fixture
def bench(tmp_path):
    """One box in the second image; one in each; none at all; two groups."""
    descriptions = [
        description(at, style) for at, style in enumerate(("Referring", "Reasoning", "Comparison", "Reasoning"))
    ]
    boxes = [box(0, 1, LEFT), box(1, 0, LEFT), box(1, 1, RIGHT), box(3, 0, LEFT), box(3, 1, RIGHT, 2)]
    return load_benchmark("mc-bench", write(tmp_path, descriptions, boxes))


def scored(bench, *replies):
    sizes = lambda *_: None  # noqa: E731
    answers = [Answer(at, reply) for at, reply in enumerate(replies)]
    return [DETECTION.score_one(bench.questions[one.index], one, STRICT, sizes) for one in answers]


RIGHT_REPLIES = (
    f"Image-2: {IN_PERMILLE['left']}",
    f"Image-1: {IN_PERMILLE['left']}\nImage-2: {IN_PERMILLE['right']}",
    "None",
    f"Image-1: {IN_PERMILLE['left']}\nImage-2: {IN_PERMILLE['right']}",
)


def test_the_file_and_the_prompt(bench):
    first = bench.questions[0]
    assert first.images == ("D/0.png", "D/1.png") and first.truths[0].image == 1
    assert first.truths[0].box == Box(0, 0, 0.4, 0.5) and bench.questions[3].groups == (1, 2)
    assert bench.prompt(first, "corrected", QWEN2_VL, None) == (
        "Locate everything in these images that this describes: <|object_ref_start|>the dog<|object_ref_end|>. "
        "Answer with one line for each object. Format: Image-N: <|box_start|>(x1,y1),(x2,y2)<|box_end|>. "
        "If there is nothing of it, answer: None"
    )
    assert not bench.facts["is_whole"] and not bench.questions[2].truths


@pytest.mark.parametrize(
    ("replies", "outcomes", "image_accuracy", "value"),
    [
        # Of the two groups of the last question a reply without groups can stand for one: its other box is a false one.
        (RIGHT_REPLIES, ["correct"] * 4, 1, 80),
        (("None", *RIGHT_REPLIES[1:]), ["no_box", "correct", "correct", "correct"], 0.75, 60),
        ((*RIGHT_REPLIES[:2], RIGHT_REPLIES[0], RIGHT_REPLIES[3]), ["correct"] * 2 + ["missed", "correct"], 0.75, None),
        (("None", "None", "None", "None"), ["no_box"] * 2 + ["correct", "no_box"], 0.25, 0),
        ((None,) * 4, ["failed"] * 4, 0, 0),
    ],
)
def test_what_is_found_and_what_is_not_there(bench, replies, outcomes, image_accuracy, value):
    records = scored(bench, *replies)
    assert [record.outcome for record in records] == outcomes
    right, _ = DETECTION.measures(records)["image_accuracy"]
    assert right.mean() == image_accuracy
    found = ap50(records)["ap50"]
    assert found["n"] == 5 and found["interval"][0] <= found["value"] <= found["interval"][1]
    if value is None:
        assert 0 < found["value"] < 80
    else:
        assert found["value"] == pytest.approx(value, abs=1)


def test_the_first_box_counts_like_any_other(bench):
    """COCOeval takes a truth with the id 0 for none, as the published script numbers its first."""
    only = scored(bench, RIGHT_REPLIES[0], "None", "None", "None")
    assert ap50(only[:1])["ap50"]["value"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("descriptions", "boxes", "says"),
    [
        ([], [], "holds no description"),
        ([description(0)], [box(0, 5, LEFT)], "description 0: a box in image 5, which is not one of its own"),
        ([description(0) | {"images_id": [0, 7]}], [], "description 0: its image 7 is not in the file"),
        ([description(0) | {"images_id": []}], [], "description 0: has no images"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, descriptions, boxes, says):
    with pytest.raises(UserError, match=says):
        load_benchmark("mc-bench", write(tmp_path, descriptions, boxes))


def test_a_run(bench, tmp_path):
    texts = [f"the dog {place}" for place in range(4)]
    data = json.loads(bench.path.read_text())
    for one, text in zip(data["descriptions"], texts, strict=True):
        one["text"] = text
    bench.path.write_text(json.dumps(data))
    again = load_benchmark("mc-bench", bench.path)
    model = script_of(tmp_path / "script", again, lambda question: RIGHT_REPLIES[question.index])
    given = [
        "eval",
        "mc-bench",
        "--data",
        bench.path,
        "--images",
        tmp_path,
        "--model",
        model,
        "--out",
        tmp_path / "out",
    ]
    done = CliRunner().invoke(app, list(map(str, given)), catch_exceptions=False)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["scoring"] == "detection" and report["micro"]["image_accuracy"] == 100
    assert report["ap50"]["value"] == pytest.approx(80, abs=1) and "AP50 80" in " ".join(done.output.split())
    assert CliRunner().invoke(app, ["report", str(tmp_path / "out")], catch_exceptions=False).exit_code == 0
