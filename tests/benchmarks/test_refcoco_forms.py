"""RefCOCO in the forms in which it circulates: the same questions from each, and its grain said."""

import json

import pytest
from benchmarks.released_forms import inside, picture, script_of, write_lines, write_parquet, write_tsv
from typer.testing import CliRunner

from migician.benchmarks import load_benchmark
from migician.benchmarks.refcoco import OBJECT, SENTENCE, _phrase, _task
from migician.boxes import Box
from migician.cli import app
from migician.errors import UserError
from migician.models.families.qwen2_5_vl import FAMILY as QWEN2_5_VL
from migician.models.families.qwen3_vl import FAMILY as QWEN3_VL

PHRASES = ("woman in white", "left lady")
TRUTH = Box(0.1, 0.125, 0.5, 0.5)


def lmms_row(shade=1, phrases=PHRASES, **fields):
    return {
        "question_id": "469306",
        "image": inside(shade, "JPEG", (100, 80)),
        "question": "Please carefully observe the area circled in the image and come up with a caption for the area.",
        "answer": list(phrases),
        "segmentation": [1.0, 2.0],
        "bbox": [10.0, 10.0, 40.0, 30.0],
        "iscrowd": 0,
        "file_name": "COCO_train2014_000000000001_0.jpg",
    } | fields


def tsv_row(phrase, number, **fields):
    return {
        "index": str(number),
        "image": picture(1, "JPEG", (100, 80)) if number == 0 else "0",
        "question": f"Please provide the bounding box of the region this sentence describes: <ref>{phrase}</ref>",
        "split": "RefCOCO_testA",
        "bbox_x1": "10.0",
        "bbox_y1": "10.0",
        "bbox_x2": "50.0",
        "bbox_y2": "40.0",
        "width": "100",
        "height": "80",
    } | fields


def r1_row(phrase, **fields):
    return {
        "image": "train2014/a.jpg",
        "normal_caption": phrase,
        "problem": f"Please provide the bounding box coordinate of the region this sentence describes: {phrase}.",
        "solution": [10, 10, 50, 40],
        "width": 100,
        "height": 80,
    } | fields


def line(phrase):
    return {"image": "train2014/a.jpg", "sent": phrase, "bbox": [10, 10, 50, 40], "width": 100, "height": 80}


@pytest.fixture
def forms(tmp_path):
    r1 = tmp_path / "refcoco_testA.json"
    r1.write_text(json.dumps([r1_row(phrase) for phrase in PHRASES]))
    lines = [line(phrase) | {"task": "refcoco_testA"} for phrase in PHRASES]
    return {
        "parquet": write_parquet(tmp_path / "RefCOCO/data/testA-00000-of-00001.parquet", [lmms_row()]),
        "tsv": write_tsv(tmp_path / "RefCOCO.tsv", [tsv_row(phrase, at) for at, phrase in enumerate(PHRASES)]),
        "list": r1,
        "lines": write_lines(tmp_path / "lines.jsonl", lines),
    }


@pytest.mark.parametrize("form", ["parquet", "tsv", "list", "lines"])
def test_each_form_asks_the_same(forms, form):
    bench = load_benchmark("refcoco", forms[form])
    plain = load_benchmark("refcoco", forms["lines"])
    assert [one.text for one in bench.questions] == [one.text for one in plain.questions]
    assert [one.truth for one in bench.questions] == [TRUTH] * 2 and len({one.images for one in bench.questions}) == 1
    assert {one.task.casefold() for one in bench.questions} == {"refcoco_testa"}
    assert bench.facts["form"] == form and bench.facts["grain"] == (OBJECT if form == "parquet" else SENTENCE)
    assert (bench.pictures is None) == (form in ("list", "lines"))
    assert bench.facts.get("rows_of_the_file") == {"parquet": 1, "tsv": 2, "list": 2}.get(form)


def test_a_folder_of_splits_without_training(tmp_path):
    for split in ("train", "val", "testB"):
        write_parquet(tmp_path / f"RefCOCOplus/data/{split}-00000-of-00001.parquet", [lmms_row(phrases=[split])])
    bench = load_benchmark("refcoco", tmp_path / "RefCOCOplus")
    assert [question.task for question in bench.questions] == ["refcoco+_testB", "refcoco+_val"]
    with pytest.raises(UserError, match="holds nothing but the training split"):
        load_benchmark("refcoco", tmp_path / "RefCOCOplus/data/train-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("place", "split", "task"),
    [
        ("RefCOCO/data/x.parquet", "val", "refcoco_val"),
        ("datasets--lmms-lab--RefCOCOg/snapshots/1/data/x.parquet", "test", "refcocog_test"),
        ("refcocop_testA.json", "", "refcoco+_testA"),
        ("refcoco+_val.json", "", "refcoco+_val"),
        ("eval/mine.json", "val", "refcoco_val"),
        ("eval/mine.json", "", "refcoco"),
    ],
)
def test_the_task_is_named_by_file_and_folders(tmp_path, place, split, task):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert _task(file, split) == task


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ('Locate every object that matches the description "a dog" in the image.', "a dog"),
        ("the region this sentence describes: a dog", "a dog"),
        ("Where is <ref>a dog</ref>?", "a dog"),
        ("a dog", "a dog"),
    ],
)
def test_the_phrase_in_a_question_of_others(question, phrase):
    assert _phrase(question) == phrase


def test_the_official_prompts(forms):
    question = load_benchmark("refcoco", forms["parquet"]).questions[0]
    bench = load_benchmark("refcoco", forms["parquet"])
    asked = {family.name: bench.prompt(question, "official", family, [(100, 80)]) for family in (QWEN2_5_VL, QWEN3_VL)}
    assert asked == {
        "qwen2_5_vl": "Locate woman in white in this image and output the bbox coordinates in JSON format.",
        "qwen3_vl": 'Locate every object that matches the description "woman in white" in the image. '
        "Report bbox coordinates in JSON format.",
    }


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([r1_row("a", width=None)], "row 0: says no width and height of train2014/a.jpg"),
        ([r1_row("a"), r1_row("", problem="")], "row 1: holds no phrase"),
        ([r1_row("a", solution=[1, 2, 3])], "row 0: not a RefCOCO file"),
        ([{"image": "a.jpg", "width": 4, "height": 4, "bbox": "4 by 4", "answer": "a"}], "no box of four numbers"),
        ([{"image": "a.jpg", "width": 4, "height": 4, "bbox": [1, 1, 2, 2]}], "row 0: holds no phrase"),
    ],
)
def test_what_is_no_row_is_named(tmp_path, rows, says):
    file = tmp_path / "refcoco_val.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=says):
        load_benchmark("refcoco", file)


def test_a_model_asked_by_the_command(forms, tmp_path):
    bench = load_benchmark("refcoco", forms["parquet"])
    model = script_of(tmp_path / "script", bench, lambda question: "(100,125),(500,500)")
    given = ["--data", forms["parquet"], "--images", tmp_path / "images", "--model", model, "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["eval", "refcoco", *map(str, given), "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["average"]["acc@0.5"] == 100 and report["grain"] == OBJECT and report["n"] == 2
    assert report["micro"]["clusters"] == 1
