"""Which image a box belongs to: one rule, and every place that draws or exports a box follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_page import data_of
from typer.testing import CliRunner

from migician.boxtext import parse_boxes
from migician.chat.grounding import ground
from migician.cli import app
from migician.imagenames import asked_image, images_of_box
from migician.models.stand_ins.scripted import Scripted
from migician.reports.runs import open_run

DIFFERENCE = "Compare these two images carefully and give me the coordinates of their difference. "
TRACKED = (
    "For the object in the first image marked with red bounding box(<|box_start|>(93,222),(750,663)<|box_end|>), "
    "please locate it in the {}th image."
)
LOCATE = "These images share one object in common. Recognize and locate this object in the {}th image. "
ADVERT = "Please find the bounding box coordinates for the area described by: a white dome on the building."

SECOND = "Find it and locate it in the second image. "
VIEW = f"Which things can display the view in Image-1? Ground it in Image-2. {SECOND}"

# Replies of Migician and Qwen2-VL to MIG-Bench: (question, images, reply, the images each box belongs to).
REPLIES: list[tuple[str, int, str, list[tuple[int, ...]]]] = [
    (DIFFERENCE, 2, "(142,91),(875,299)", [(0, 1)]),
    (DIFFERENCE, 2, "In the second image, the fork is located at the coordinates (738,106),(999,298).", [(1,)]),
    (DIFFERENCE, 2, "the 1th image(0,0),(999,999)", [(0,)]),
    (ADVERT, 4, "(700,259),(939,537)", [(0, 1, 2, 3)]),
    (ADVERT, 5, "It's in the fifth image. (0,0),(999,629)", [(4,)]),
    (ADVERT, 3, "the man is wearing a jacket(379,228),(533,663)", [(0, 1, 2)]),
    (LOCATE.format(4), 5, "(121,238),(686,902)", [(3,)]),
    (LOCATE.format(3), 5, "4th image(0,0),(999,999)", [(3,)]),
    (LOCATE.format(3), 3, "4th image(0,0),(999,999)", [()]),
    (
        TRACKED.format(2),
        6,
        "the boat(93,222),(750,663) in the first image is located at (100,225),(749,663) in the 2th image.",
        [(0,), (1,)],
    ),
    (TRACKED.format(6), 6, "object(429,484),(516,600) in 6th image is a bag(429,484),(516,600).", [(5,), (5,)]),
    (VIEW, 2, "which things can display the view(1,1),(996,994) in Image-1", [(0,)]),
    (SECOND, 2, "The bicycle(475,229),(975,505) in the second image is not as in the first image.", [(1,)]),
    # a single image is the one, whatever the question calls it
    ("Where is it?", 1, "(10,20),(30,40)", [(0,)]),
    ("Where is it in Image-2?", 1, "(10,20),(30,40)", [(0,)]),
]


@pytest.mark.parametrize(("question", "count", "reply", "wanted"), REPLIES)
def test_real_replies(question: str, count: int, reply: str, wanted: list[tuple[int, ...]]) -> None:
    asked = asked_image(question)
    assert [images_of_box(one.image, asked, count) for one in parse_boxes(reply).mentions] == wanted
    turn = ground(Scripted(lambda _: reply), [Image.new("RGB", (9, 9))] * count, question)
    assert [found.images for found in turn.boxes] == wanted


images = st.none() | st.integers(0, 9)


@given(images, images, st.integers(1, 6))
def test_a_box_is_in_one_image_in_all_or_in_none(tied: int | None, asked: int | None, count: int) -> None:
    found = images_of_box(tied, asked, count)
    assert set(found) <= set(range(count))
    assert len(found) in (0, 1, count)
    assert (found == ()) == (tied is not None and tied >= count)
    if tied is not None and tied < count:
        assert found == (tied,), "what the reply says goes before what the question asks"


REGION = "the region <|box_start|>(250,100),(700,900)<|box_end|> of Image-1"


@pytest.mark.parametrize(
    ("question", "image"),
    [
        ("Recognize and locate this object in the 2th image. ", 1),
        ("For the object in the first image marked with red bounding box, please locate it in the 6th image. ", 5),
        ("Find and locate where does the object in image-1 locate in the image-2.", 1),
        (DIFFERENCE, None),
        ("What differs between Image-1 and Image-2? Find it in Image-2.", 1),
        # named together, so none of them alone
        ("What differs between Image-1 and Image-2?", None),
        ("Find the dog in the first and the second image.", None),
        ("Is it in Image-1, Image-2 or Image-3?", None),
        ("第一张图和第二张图有什么不同?", None),
        ("在第二张图中找到它。", 1),
        # a box that is given, in the words of any family, asks for nothing
        (f"Find it in Image-2: {REGION}", 1),
        (f"{REGION} Find it in Image-2.", 1),
        (f"What is at {REGION}?", None),
        ("Find the region <box>[[250, 100, 700, 900]]</box> of Image-3 in Image-2", 1),
        ("In Image-2, where is the region <box>[0.250, 0.100, 0.700, 0.900]</box> of Image-1?", 1),
        ("In Image-2, where is <box>250 100 700 900</box> in the first image?", 1),
        ('In Image-2, where is the region {"bbox_2d": [12, 34, 56, 78]} of Image-1?', 1),
        ("Where is the region [[250,100,700,900]] of Image-1?", None),
        ("What is left of (250,100),(700,900) in the 2th image? Find it in the first image.", 0),
        # what describes asks only where nothing else does
        ("Find in Image-2 the dog of Image-1.", 1),
        ("Find the left dog of Image-1.", 0),
        ("Find the dog (one of 2, 3, 4 or 5) in Image-2.", 1),
    ],
)
def test_the_image_a_question_asks_about(question: str, image: int | None) -> None:
    assert asked_image(question) == image


@given(st.text(), st.integers(1, 9), st.integers(1, 9))
def test_a_region_put_into_a_question_never_changes_which_image_is_asked(text: str, region: int, at: int) -> None:
    before = asked_image(text)
    given_box = f" the region (250,100),(700,900) of Image-{region} "
    assert asked_image(text + given_box) == before
    assert asked_image(given_box + text) == before
    asked = f"Find it in Image-{at}."
    assert asked_image(asked + given_box) == asked_image(given_box + asked) == at - 1


# ---- one run, everywhere ----

# (images, question, reply, images of the truth, images of the reply's box or None where it has none)
ROWS: list[tuple[int, str, str, tuple[int, ...], tuple[int, ...] | None]] = [
    (2, DIFFERENCE, "(120,220),(520,620)", (0, 1), (0, 1)),
    (3, DIFFERENCE, "(120,220),(520,620)", (0, 1, 2), (0, 1, 2)),
    (2, DIFFERENCE, "In the second image, it is at (120,220),(520,620)", (0, 1), (1,)),
    (2, DIFFERENCE, "no difference", (0, 1), None),
    (2, "Find it in the second image.", "(120,220),(520,620)", (1,), (1,)),
    (2, "Find it in the second image.", "Image-1: (120,220),(520,620)", (1,), (0,)),
    (2, "Find it in the first image.", "Image-9: (120,220),(520,620)", (0,), ()),
    (1, DIFFERENCE, "(120,220),(520,620)", (0,), (0,)),
]
TRUTH = [0.1, 0.2, 0.5, 0.6]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ROWS` asked and scored; the second image of row 1 is not there when the page is made."""
    root = tmp_path_factory.mktemp("world")
    rows = []
    for number, (count, question, *_) in enumerate(ROWS):
        names = [f"{number}-{image}.png" for image in range(count)]
        for image, name in enumerate(names):
            Image.new("RGB", (60 + 40 * image, 80), "grey").save(root / name)
        task = "diff" if question == DIFFERENCE else "view_diff"
        rows.append({"task": task, "images": names, "question": question, "answer": TRUTH})
    (root / "data.json").write_text(json.dumps(rows))
    lines = [json.dumps({"index": at, "response": row[2]}) + "\n" for at, row in enumerate(ROWS)]
    (root / "answers.jsonl").write_text("".join(lines))
    score("mig-bench", root, root / "run")
    return root / "run"


def score(bench: str, root: Path, out: Path) -> None:
    invoke("score", bench, "--data", root / "data.json", "--answers", root / "answers.jsonl", "--out", out)


def invoke(*words: str | Path) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    gone = run.parent / "1-1.png"
    gone.rename(run.parent / "kept.png")
    invoke("report", run, "--images", run.parent, "--out", run.parent / "page")
    (run.parent / "kept.png").rename(gone)
    return run.parent / "page" / "index.html"


def on_page(sample: dict[str, Any], look: int) -> tuple[int, ...] | None:
    """The images that a page draws the box of a look on; None where it has none."""
    found = {mark[1] for mark in sample["marks"] if mark[0] == look}
    if None in found:
        return tuple(range(len(sample["images"])))
    return tuple(sorted(found)) or None


def test_the_page_says_which_images(page: Path) -> None:
    for sample, (*_, truth, box) in zip(data_of(page)["samples"], ROWS, strict=True):
        assert on_page(sample, 0) == truth
        assert (on_page(sample, 1) or None) == (box or None)
    assert "named for Image-9 of 2, so not drawn" in data_of(page)["samples"][6]["texts"][1][2]


def test_cocos_form_agrees_with_the_page_and_with_the_report(run: Path, tmp_path: Path) -> None:
    invoke("data", "export", run, "--coco", "--images", run.parent, "--to", tmp_path / "coco")
    labels, predictions = (
        json.loads((tmp_path / f"coco/{name}.json").read_text()) for name in ("labels", "predictions")
    )
    images = {one["id"]: (one["question"], int(one["file_name"].split("-")[1][:2]) - 1) for one in labels["images"]}

    def drawn(boxes: list[dict[str, Any]]) -> dict[int, tuple[int, ...]]:
        assert all({images[image][0] for image in one["drawn_on"]} == {one["question"]} for one in boxes)
        return {one["question"]: tuple(images[image][1] for image in one["drawn_on"]) for one in boxes}

    assert drawn(labels["annotations"]) == {at: row[3] for at, row in enumerate(ROWS)}
    assert drawn(predictions) == {at: row[4] for at, row in enumerate(ROWS) if row[4]}
    # A reply is on the truth's image exactly where the report compares the two.
    truths = {one["question"]: one["image_id"] for one in labels["annotations"]}
    records = open_run(run).records
    beside = {one["question"] for one in predictions if one["image_id"] == truths[one["question"]]}
    assert beside == {at for at, record in records.items() if record.outcome in ("correct", "wrong_box")}


def test_the_columns_of_a_table_say_the_same(run: Path, tmp_path: Path) -> None:
    """As docs/evaluation.md has it: `image`, else `target`, else all."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="data extra not installed: bash scripts/setup.sh")
    invoke("report", run, "--parquet", tmp_path / "run.parquet")
    for row, (count, *_, truth, box) in zip(
        parquet.read_table(tmp_path / "run.parquet").to_pylist(), ROWS, strict=True
    ):
        everywhere = tuple(range(count))
        named = row["target"] if row["image"] is None else row["image"]
        assert truth == (everywhere if row["target"] is None else (row["target"],))
        if row["boxes"]:
            assert box == (everywhere if named is None else (named,) if named < count else ())


def test_a_run_in_a_notebook_shows_them(run: Path) -> None:
    shown = open_run(run, images=run.parent)
    vermillion = [
        bool((np.asarray(shown.show(at)) == (0xD5, 0x5E, 0x00)).all(axis=-1).any()) for at in range(len(ROWS))
    ]
    assert vermillion == [bool(row[4]) for row in ROWS]


@pytest.mark.parametrize(
    ("reply", "matched", "where"),
    [
        ("(100,200),(500,600)", [], [(0, 1)]),
        ("Image-2: (100,200),(500,600)", [0], [(1,)]),
        ("Image-9: (100,200),(500,600)", [], [()]),
        ("Image-1: (100,200),(500,600). Image-2: (100,200),(500,600)", [0, 1], [(0,), (1,)]),
    ],
)
def test_several_boxes_at_once(tmp_path: Path, reply: str, matched: list[int], where: list[tuple[int, ...]]) -> None:
    """In one shot a box that no image is named for matches nothing, and is drawn all the same."""
    question = {"task": "common_object", "images": ["a.png", "b.png"], "answer": TRUTH}
    rows = [{**question, "question": f"Locate it in the {nth}th image. "} for nth in (1, 2)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    (tmp_path / "answers.jsonl").write_text(json.dumps({"index": 0, "response": reply}))
    score("mig-bench-one-shot", tmp_path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert [pair.box for pair in run.records[0].pairs] == matched
    assert [images for images, _ in run.scoring.show(run.records[0]).boxes] == where


def test_dotted_boxes_in_the_browser(chromium: Any, page: Path) -> None:
    tab = chromium.new_page(viewport={"width": 1280, "height": 800})
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    says = "no image is named for the box, so it is drawn on all"
    for at, (count, *_, truth, box) in enumerate(ROWS):
        tab.goto(f"{page.as_uri()}#row-{at}")
        tab.locator("dialog h2", has_text=f"row {at}").wait_for()
        for look, wanted in ((0, truth), (1, box or ())):
            figures = tab.locator("dialog figure")
            assert figures.count() == count
            places = [
                place for place in range(count) if figures.nth(place).locator(f"rect.mark[data-look='{look}']").count()
            ]
            assert tuple(places) == wanted
            dotted = tab.locator(f"dialog rect.dotted[data-look='{look}']").count()
            assert dotted == (len(wanted) if len(wanted) > 1 else 0)
        assert (says in tab.locator("dialog .legend").inner_text()) == (max(len(truth), len(box or ())) > 1)
    # Each box is at its place in each image, also where the image is missing.
    tab.goto(f"{page.as_uri()}#row-1")
    tab.locator("dialog h2", has_text="row 1").wait_for()
    for place in range(3):
        x, y, width, height = on_screen(tab.locator("dialog figure").nth(place))
        wanted = (x + 0.1 * width, y + 0.2 * height, 0.4 * width, 0.4 * height)
        mark = tab.locator("dialog figure").nth(place).locator("rect.mark[data-look='0']")
        assert on_screen(mark) == pytest.approx(wanted, abs=0.6)
    assert "cannot be shown" in tab.locator("dialog figure").nth(1).inner_text()
    assert says in tab.locator("#legend").inner_text() and faults == []
    tab.close()


def on_screen(locator: Any) -> list[float]:
    found: list[float] = locator.evaluate(
        "one => { const b = one.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }"
    )
    return found


def test_every_row_of_the_original_file_has_its_truth_drawn(shared: Path, chromium: Any, tmp_path: Path) -> None:
    """Also where images are missing, which here most are."""
    content = (shared / "data/mig_bench/MIG_data.json").read_bytes()
    rows = json.loads(content)
    (tmp_path / "data.json").write_bytes(content)
    for row in rows[900:1000]:
        for name in row["images"]:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6)).save(tmp_path / name)
    lines = [json.dumps({"index": at, "response": "(142,91),(875,299)"}) + "\n" for at in range(len(rows))]
    (tmp_path / "answers.jsonl").write_text("".join(lines))
    score("mig-bench", tmp_path, tmp_path / "run")
    invoke("report", tmp_path / "run", "--images", tmp_path, "--out", tmp_path / "page", "--workers", "1")
    tab = chromium.new_page()
    tab.goto((tmp_path / "page/index.html").as_uri())
    drawn = """look => PAGE.samples.map((sample) => sample.images.filter((_, place) =>
        picture(sample, place).querySelector(`rect.mark[data-look='${look}']`)).length)"""
    wanted = [len(row["images"]) if row["task"] == "diff" else 1 for row in rows]
    for look in (0, 1):
        assert tab.evaluate(drawn, look) == wanted
    assert len(wanted) == 4295
    tab.close()
