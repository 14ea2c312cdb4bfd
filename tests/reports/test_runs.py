"""Runs as notebooks hold them: tables, pictures, two runs side by side; and in the forms of other tools."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import migician
from migician.chat.grounding import ground
from migician.cli import app
from migician.draw import PALETTE, TRUTH
from migician.errors import UserError
from migician.models.stand_ins.scripted import Scripted
from migician.reports.coco import write_coco
from migician.reports.runs import Run, compare, evaluate, open_run, score

HIT, MISS = "(100,200),(500,600)", "(600,700),(900,950)"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Four questions over two images of different shape; the last has its corners in the wrong order."""
    names = ["./MIG-Bench/images/a.png", "./MIG-Bench/images/b.png"]
    for name, size in zip(names, [(900, 300), (60, 80)], strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(tmp_path / name)
    rows = [
        {"task": task, "images": names, "question": f"Find <|box_start|>it in the {nth}th image. ", "answer": answer}
        for task, nth, answer in (
            ("view_diff", 1, [0.1, 0.2, 0.5, 0.6]),
            ("view_diff", 2, [0.1, 0.2, 0.5, 0.6]),
            ("region", 1, [0.1, 0.2, 0.5, 0.6]),
            ("region", 1, [0.5, 0.2, 0.1, 0.6]),
        )
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return tmp_path


def scored(world: Path, name: str, replies: list[str]) -> Run:
    lines = [json.dumps({"index": index, "response": reply}) for index, reply in enumerate(replies)]
    (world / f"{name}.jsonl").write_text("\n".join(lines))
    return score("mig-bench", world / "data.json", world / f"{name}.jsonl", world / name, images=world)


def has(picture: Image.Image, colour: str) -> bool:
    wanted = tuple(bytes.fromhex(colour[1:]))
    return bool((np.asarray(picture) == wanted).all(axis=-1).any())


def test_a_run_tells_what_its_report_holds(world: Path) -> None:
    run = scored(world, "mine", [HIT, MISS, "nothing", HIT])
    assert run.report == json.loads((world / "mine/report.json").read_text())
    assert f"Acc@0.5 {run.report['average']['acc@0.5']:.2f}" in repr(run)
    lines = run._repr_markdown_().splitlines()
    row = next(line for line in lines if line.startswith("| robust difference"))
    assert row.split("|")[2].strip() == "2" and row.split("|")[4].strip().startswith("50.00 (")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1, "one number of columns"
    assert [one.index for one in run.select(task="view_diff")] == [0, 1]
    assert [one.index for one in run.select(outcome="no_box")] == [2]
    with pytest.raises(UserError, match="unknown task 'regoin'.*Did you mean 'region'"):
        run.select(task="regoin")


def test_a_question_is_shown_with_truth_and_reply(world: Path) -> None:
    run = scored(world, "mine", [HIT, MISS, "nothing", HIT])
    assert has(run.show(1), TRUTH) and has(run.show(1), PALETTE[0])
    assert has(run.show(2), TRUTH) and not has(run.show(2), PALETTE[0])
    with pytest.raises(UserError, match="holds no question 9"):
        run.show(9)
    elsewhere = open_run(run.folder)
    with pytest.raises(UserError, match="open_run\\(folder, images="):
        elsewhere.show(0)


def test_two_runs_side_by_side(world: Path) -> None:
    first = scored(world, "first", [HIT, MISS, HIT, HIT])
    second = scored(world, "second", [HIT, HIT, "nothing", HIT])
    found = compare(first, second)
    assert (found.only_first, found.only_second) == ([2], [1])
    assert has(found.show(1), PALETTE[0]) and has(found.show(1), PALETTE[1])
    *_, average = (line for line in found._repr_markdown_().splitlines() if line.startswith("| average"))
    assert [cell.strip() for cell in average.split("|")][-4:-1] == ["1", "1", "1.000"]
    assert "second minus first: Acc@0.5 +0.00" in repr(found)


def test_two_runs_that_are_not_like_for_like_say_so(world: Path) -> None:
    """Answers scored twice over: each run is headed with its own words, where the figure is."""
    strict = scored(world, "strict", [HIT, MISS, HIT, HIT])
    stretched = score(
        "mig-bench", world / "data.json", world / "strict.jsonl", world / "lax", protocol="published", y_stretch=True
    )
    found = compare(strict, stretched)
    for told in (repr(found), found._repr_markdown_()):
        assert "lax (published protocol, with y-stretch) minus strict (strict protocol, without y-stretch)" in told
        assert "Not like for like, the runs differ in protocol and y-stretch" in told
    again = compare(strict, strict)
    assert "like for like" not in repr(again) + again._repr_markdown_()


def test_what_the_command_gives_the_call_gives(world: Path) -> None:
    run = scored(world, "mine", [HIT, MISS, "nothing", HIT])
    given = ["--data", world / "data.json", "--answers", world / "mine.jsonl", "--out", world / "typed"]
    assert CliRunner().invoke(app, ["score", "mig-bench", *map(str, given)]).exit_code == 0
    typed = json.loads((world / "typed/report.json").read_text())
    assert {**run.report, "date": ""} == {**typed, "date": ""}
    with pytest.raises(UserError, match="--style is for --protocol strict"):
        score("mig-bench", world / "data.json", world / "mine.jsonl", world / "x", protocol="published", style="qwen")
    with pytest.raises(UserError, match="unknown protocol 'lenient'"):
        score("mig-bench", world / "data.json", world / "mine.jsonl", world / "x", protocol="lenient")


def test_a_model_is_asked_and_goes_on(world: Path) -> None:
    asked = []
    model = Scripted(lambda request: asked.append(request) or HIT)  # type: ignore[func-returns-value]
    run = evaluate("mig-bench", model, world / "data.json", world, world / "asked", tasks=["region"])
    assert len(asked) == 2 and sorted(run.records) == [2, 3]
    assert evaluate("mig-bench", model, world / "data.json", world, run.folder, tasks=["region"]).records == run.records
    assert len(asked) == 2
    assert run.images == world
    whole = evaluate("mig-bench", "constant:100,200,500,600", world / "data.json", world, world / "whole")
    assert whole.report["per_task"]["view_diff"]["acc@0.5"] == 100


def test_a_run_of_the_notebook_is_resumed_by_the_command_and_the_other_way_round(world: Path) -> None:
    given = ["--data", str(world / "data.json"), "--images", str(world), "--json"]
    ask = ["eval", "mig-bench", "--model", "constant:100,200,500,600", *given, "--out"]
    run = evaluate("mig-bench", "constant:100,200,500,600", world / "data.json", world, world / "called")
    done = CliRunner().invoke(app, [*ask, str(run.folder)], catch_exceptions=False)
    assert "done already" in done.stderr and json.loads(done.stdout) == run.report
    CliRunner().invoke(app, [*ask, str(world / "typed")], catch_exceptions=False)
    before = (world / "typed/records.jsonl").stat().st_mtime_ns
    typed = evaluate("mig-bench", "constant:100,200,500,600", world / "data.json", world, world / "typed")
    assert (world / "typed/records.jsonl").stat().st_mtime_ns == before and typed.records.keys() == run.records.keys()
    assert (world / "typed/run.json").read_bytes() == (world / "called/run.json").read_bytes()


def test_every_public_name_is_there_and_none_is_hidden_by_a_module() -> None:
    for name in migician.__all__:
        assert getattr(migician, name) is not None
    for place in migician._LATER.values():
        importlib.import_module(place.partition(":")[0])
    for name in migician._LATER:
        assert not isinstance(getattr(migician, name), types.ModuleType), f"migician.{name} is a module too"
    assert set(migician._LATER) <= set(migician.__all__)


# ---- in the forms of other tools ----


def test_records_as_a_dataset(world: Path) -> None:
    pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")
    run = scored(world, "mine", [HIT, MISS, "nothing", HIT])
    lines = [json.loads(line) for line in (world / "mine/records.jsonl").read_text().splitlines()]
    assert list(run.to_dataset()) == [{"run": "mine", **line} for line in lines]
    assert run.to_dataset().filter(lambda row: row["iou"] >= 0.5)["index"] == [0]


def check_coco(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The pair, held against what cocodataset.org asks of instances and of results."""
    labels, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("labels", "predictions"))
    assert {"info", "licenses", "images", "categories", "annotations"} == labels.keys()
    images = {one["id"]: one for one in labels["images"]}
    kinds = {one["id"] for one in labels["categories"]}
    assert len(images) == len(labels["images"]) and min(images) == min(kinds) == 1
    names = [one["file_name"] for one in labels["images"]]
    assert names == sorted(set(names)) and list(images) == list(range(1, len(names) + 1))
    for image in images.values():
        with Image.open(folder / "data" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])
    for boxes in (labels["annotations"], results):
        assert [one["id"] for one in boxes] == list(range(1, len(boxes) + 1))
        for one in boxes:
            assert one["image_id"] in images and one["category_id"] in kinds
            x, y, width, height = one["bbox"]
            assert width > 0 and height > 0 and one["area"] == pytest.approx(width * height, abs=0.01)
    assert all(one["iscrowd"] == 0 for one in labels["annotations"])
    assert all(isinstance(one["score"], float) for one in results)
    return labels, results


def test_a_run_in_cocos_form(world: Path) -> None:
    run = scored(world, "mine", [HIT, f"Image-1: {HIT}", "nothing", HIT])
    labels, results = check_coco(run.to_coco(world / "coco"))
    assert len(labels["images"]) == 8 and len({one["source"] for one in labels["images"]}) == 2
    assert [(one["image_id"], one["bbox"]) for one in labels["annotations"]] == [
        (1, [90, 60, 360, 120]),
        (4, [6, 16, 24, 32]),
        (5, [90, 60, 360, 120]),
    ]
    # The second reply is a box in another image than the asked one: it stands there, and hits nothing.
    assert [(one["image_id"], one["outcome"]) for one in results] == [
        (1, "correct"),
        (3, "wrong_image"),
        (7, "wrong_box"),
    ]
    assert write_coco(run.folder, world / "again", images=world).impossible == (3,)


def test_pycocotools_agrees_with_the_report(world: Path) -> None:
    """Its recall at IoU 0.5 with one box an image is Acc@0.5."""
    coco = pytest.importorskip("pycocotools.coco", reason="dev extra not installed: bash scripts/setup.sh")
    from pycocotools.cocoeval import COCOeval

    run = scored(world, "mine", [HIT, MISS, HIT, "nothing"])
    folder = run.to_coco(world / "coco")
    truths = coco.COCO(str(folder / "labels.json"))
    found = COCOeval(truths, truths.loadRes(str(folder / "predictions.json")), "bbox")
    found.params.iouThrs, found.params.maxDets = np.array([0.5]), [1]
    found.evaluate()
    found.accumulate()
    recall = found.eval["recall"][0, :, 0, 0]
    assert recall.tolist() == [0.5, 1.0]  # the impossible truth of the second task is left out


@pytest.mark.parametrize("replies", [[HIT, MISS, HIT, HIT], ["nothing"] * 4], ids=["boxes", "no box"])
def test_the_documented_code_runs(world: Path, monkeypatch: pytest.MonkeyPatch, replies: list[str]) -> None:
    """Also over a run in which no reply held a box."""
    pytest.importorskip("pycocotools", reason="dev extra not installed: bash scripts/setup.sh")
    scored(world, "mine", replies).to_coco(world / "outputs/coco")
    page = Path(__file__).parents[2] / "docs/interoperability.md"
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if "COCOeval" in one)
    monkeypatch.chdir(world)
    names: dict[str, Any] = {}
    exec(code, names)
    recall = names["result"].eval["recall"]
    assert recall[0, 0, 0, 0] == (0.5 if HIT in replies else 0.0)  # of the first task at IoU 0.5, one box an image
    assert recall.shape[1] == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "is a run: --coco writes its boxes"),
        (["--coco"], "does not say where its images are: add --images"),
        (["--images", "x"], "--images needs --coco"),
        (["--coco", "--no-images"], "with --coco, give --images"),
        (["--coco", "--images", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_written_says_so(world: Path, options: list[str], says: str) -> None:
    run = scored(world, "mine", [HIT] * 4)
    done = CliRunner().invoke(app, ["data", "export", str(run.folder), "--to", str(world / "coco"), *options])
    assert isinstance(done.exception, UserError) and says in str(done.exception)
    assert not (world / "coco").exists()


def test_the_command_writes_cocos_form(world: Path) -> None:
    run = scored(world, "mine", [HIT] * 4)
    given = ["data", "export", str(run.folder), "--coco", "--to", str(world / "coco"), "--images", str(world)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0 and "3 true boxes and 4 predictions on 8 images" in done.output
    assert "questions 3: left out, because a true box has its corners swapped" in done.output
    check_coco(world / "coco")


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_boxes_for_supervision() -> None:
    pytest.importorskip("supervision", reason="dev extra not installed: bash scripts/setup.sh")
    reply = f"Image-1: {HIT}, Image-3: {HIT}, Image-3: {MISS}"
    images = [Image.new("RGB", size) for size in ((100, 200), (50, 50), (1000, 1000))]
    first, second, third = ground(Scripted(lambda _: reply), images, "<image><image><image>red car").to_supervision()
    assert first.xyxy.tolist() == [[10, 40, 50, 120]] and first.data["box"].tolist() == [0]
    assert second.xyxy.shape == (0, 4)
    assert third.xyxy.tolist() == [[100, 200, 500, 600], [600, 700, 900, 950]]
    assert third.data["class_name"].tolist() == ["red car"] * 2 and third.data["box"].tolist() == [1, 2]
    assert third.class_id.tolist() == [0, 0] and third.confidence is None


def test_supervision_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    found = ground(Scripted(lambda _: HIT), Image.new("RGB", (9, 9)), "it")
    with pytest.raises(UserError, match="pip install supervision"):
        found.to_supervision()
