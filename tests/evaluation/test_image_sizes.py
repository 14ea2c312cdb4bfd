"""Boxes in pixels: of which image, and how large it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import mig_bench
from migician.boxes import Box
from migician.boxtext import STYLES
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.models.engines.sent_images import sent_size
from migician.models.families.qwen2_5_vl import FAMILY
from migician.models.family import QWEN2_VL

SIZES = [(1000, 700), (333, 2000), (64, 40), (2000, 1500)]
"""Of the file, upright."""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """One question for each size, its box a quarter of the image; the last image lies on its side in the file."""
    rows = []
    for number, size in enumerate(SIZES):
        name = f"{number}.jpg"
        turned = Image.Exif()
        turned[0x0112] = 6 if number == 3 else 1
        Image.new("RGB", size[::-1] if number == 3 else size).save(tmp_path / name, exif=turned)
        rows.append({"task": "diff", "images": [name], "question": "Where?", "answer": [0.25, 0.25, 0.75, 0.75]})
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return tmp_path


def replied(world: Path, style: str, sizes: list[tuple[int, int]], *, said: bool = False) -> Path:
    """The perfect answer to each question, in pixels of images of those sizes."""
    rows: list[dict[str, Any]] = [
        {"index": i, "response": STYLES[style].write(Box(0.25, 0.25, 0.75, 0.75), size)} for i, size in enumerate(sizes)
    ]
    if said:
        rows = [row | {"sizes": [list(size)]} for row, size in zip(rows, sizes, strict=True)]
    file = world / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def score(world: Path, answers: Path, *options: Any) -> tuple[int, str, list[float]]:
    """(status, the error, IoU by question)."""
    given = [
        "score",
        "mig-bench",
        "--data",
        world / "data.json",
        "--answers",
        answers,
        "--out",
        world / "out",
        "--force",
    ]
    done = CliRunner().invoke(app, [*map(str, given), *map(str, options)])
    records = world / "out/records.jsonl"
    ious = [json.loads(line)["iou"] for line in records.read_text().splitlines()] if done.exit_code == 0 else []
    return done.exit_code, str(done.exception), ious


@pytest.mark.parametrize("most", [784 * 16, 512 * 512, 12845056])
def test_the_size_a_model_saw_follows_from_its_setting(world, most):
    seen = [sent_size(size, FAMILY, most) for size in SIZES]
    answers = replied(world, "qwen2.5-vl", seen)
    status, _, ious = score(world, answers, "--style", "qwen2.5-vl", "--images", world, "--max-pixels", most)
    assert status == 0 and min(ious) > 0.9  # the pixels are whole
    assert json.loads((world / "out/report.json").read_text())["max_pixels"] == most


def test_the_size_is_that_of_transformers_own_resize(world):
    resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    for width, height in SIZES:
        for most in (784 * 16, 512 * 512, 12845056):
            rows, columns = resize(height, width, 28, 56 * 56, most)
            assert sent_size((width, height), FAMILY, most) == (columns, rows)


def test_sizes_given_with_answers_need_nothing_else(world):
    answers = replied(world, "qwen2.5-vl", [(560, 392)] * 4, said=True)
    status, _, ious = score(world, answers, "--style", "qwen2.5-vl")
    assert status == 0 and ious == [1.0] * 4


def test_pixels_of_the_file_are_those_of_the_upright_image(world):
    for style in ("pairs-pixel", "list-pixel"):
        status, _, ious = score(world, replied(world, style, SIZES), "--style", style, "--images", world)
        assert status == 0 and min(ious) > 0.98


NAMED = [
    # what is said before the box, the image that it then counts pixels of, the outcome where the truth is in the second
    ("", 1, "correct"),
    ("In the second image: ", 1, "correct"),
    ("In the first image: ", 0, "wrong_image"),
    ("In the 7th image: ", 1, "wrong_image"),
]


@pytest.mark.parametrize(("said", "image", "outcome"), NAMED)
@pytest.mark.parametrize("style", ["pairs-pixel", "qwen2.5-vl"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_box_counts_the_pixels_of_the_image_that_the_reply_names(tmp_path, style, said, image, outcome, order):
    sizes = [(560, 392), (112, 168)][::order]
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    row = {"images": ["0.png", "1.png"], "answer": [0.25, 0.25, 0.75, 0.75]}
    rows = [
        {**row, "task": "reasoning", "question": "Find it in the second image."},
        {**row, "task": "diff", "question": "What differs?"},
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    reply = said + STYLES[style].write(Box(0.25, 0.25, 0.75, 0.75), sizes[image])
    answers = tmp_path / "answers.jsonl"
    lines = [{"index": at, "response": reply, "sizes": sizes} for at in range(2)]
    answers.write_text("\n".join(map(json.dumps, lines)))
    status, error, _ = score(tmp_path, answers, "--style", style)
    assert status == 0, error
    found = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_text().splitlines()]
    assert found[0]["outcome"] == outcome and found[0]["boxes"] == [[0.25, 0.25, 0.75, 0.75]]
    if " " in said and "7th" not in said:  # in no image in particular is the truth: it is on each by fractions
        assert found[1]["outcome"] == "correct" and found[1]["boxes"] == [[0.25, 0.25, 0.75, 0.75]]


def test_a_failed_answer_needs_no_size(world):
    answers = replied(world, "qwen2.5-vl", [(560, 392)] * 4, said=True)
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join([*lines[:3], '{"index": 3, "error": "out of memory"}']))
    status, _, ious = score(world, answers, "--style", "qwen2.5-vl")
    assert status == 0 and ious == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("style", "options", "says"),
    [
        ("qwen2.5-vl", [], "4 answers do not say that size (first: index 0). Add `sizes` to them, or --max-pixels N"),
        ("qwen2.5-vl", ["--images", "."], "Add `sizes` to them, or --max-pixels N"),
        ("qwen2.5-vl", ["--max-pixels", "3136"], "say where the images are with --images"),
        ("list-pixel", [], "say where the images are with --images"),
        ("list-pixel", ["--images", ".", "--max-pixels", "3136"], "--max-pixels says how images were resized"),
        ("qwen", ["--max-pixels", "3136"], "--max-pixels says how images were resized"),
        (None, ["--max-pixels", "3136", "--protocol", "published"], "--max-pixels says how images were resized"),
    ],
)
def test_a_scale_that_is_not_known_is_refused(world, style, options, says):
    answers = replied(world, style or "qwen", SIZES)
    status, output, _ = score(world, answers, *(["--style", style] if style else []), *options)
    assert status and says in output and not (world / "out").exists()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([], ":2: `sizes` holds 0, and the question has 1 images"),
        ([[10, 10], [10, 10]], ":2: `sizes` holds 2, and the question has 1 images"),
        ([[0, 10]], r":2: `sizes` holds \[0, 10\]: width and height are pixels, at least 1"),
        ([[10, -1]], r":2: `sizes` holds \[10, -1\]"),
        ([[10]], r":2: .*`\$\.sizes\[0\]`"),
        ([[10, 1e400]], ":2: "),
        ([[10, int("9" * 400)]], ":2: "),
    ],
)
def test_sizes_that_cannot_be_are_named_with_their_line(world, sizes, says):
    file = world / "answers.jsonl"
    rows = [{"index": 0, "response": "x", "sizes": [[10, 10]]}, {"index": 1, "response": "x", "sizes": sizes}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=f"{file}{says}") as raised:
        read_answers(file, mig_bench.load(world / "data.json"))
    assert "\n" not in str(raised.value)


def test_every_style_of_pixels_says_of_which_image():
    resized = {name for name, style in STYLES.items() if style.resized_to}
    assert resized == {"qwen2.5-vl"} and all(STYLES[name].scale == "pixel" for name in resized)
    assert FAMILY.style.resized_to == 28 and QWEN2_VL.style.resized_to is None
