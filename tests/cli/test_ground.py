"""One question about images at hand, from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import command
from PIL import Image

BOX = "constant:100,200,500,600"


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "a.jpg", tmp_path / "b.png"]
    for file, size in zip(files, [(320, 200), (100, 50)], strict=True):
        Image.new("RGB", size).save(file)
    return files


def test_a_box_is_printed_drawn_and_says_so_by_the_status(two: list[Path], tmp_path: Path) -> None:
    ended = command(
        "ground", *two, "the car of Image-1 in Image-2", "--model", BOX, "--save", tmp_path / "new/found.png"
    )
    assert ended.status == 0
    assert ended.output.splitlines()[1:] == [
        "Box 1, Image-2: left 100, top 200, right 500, bottom 600 of 1000",
        f"drawn: {tmp_path / 'new/found.png'}",
    ]
    with Image.open(tmp_path / "new/found.png") as drawn:
        assert drawn.format == "PNG"


def test_json_has_pixels_of_the_boxs_own_image(two: list[Path]) -> None:
    ended = command("ground", *two, "it, in the second image", "--model", BOX, "--json")
    assert json.loads(ended.output) == {
        "question": "it, in the second image",
        "reply": "<|box_start|>(100,200),(500,600)<|box_end|>",
        "status": "read",
        "boxes": [{"image": 2, "permille": [100, 200, 500, 600], "pixels": [10, 10, 50, 30]}],
        "picture": None,
    }


def test_a_reply_without_a_box_is_status_1(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"prompt": "<image><image>the car", "reply": "I see none."}')
    model = f"scripted:{tmp_path / 'replies.jsonl'}"
    assert command("ground", *two, "the car", "--model", BOX).status == 0
    ended = command("ground", *two, "the car", "--model", model)
    assert ended.status == 1 and "the reply has no box" in ended.output and ended.error == ""


def test_questions_of_a_file_have_a_picture_each(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("one in Image-1\n\n two in Image-2 \n")
    words = ["--questions", tmp_path / "questions.txt", "--model", BOX, "--json", "--save", tmp_path / "found.webp"]
    lines = [json.loads(line) for line in command("ground", *two, *words).output.splitlines()]
    assert [(line["question"], Path(line["picture"]).name) for line in lines] == [
        ("one in Image-1", "found-1.webp"),
        ("two in Image-2", "found-2.webp"),
    ]
    assert all(Path(line["picture"]).is_file() for line in lines)


def test_what_is_missing_is_said_before_a_model_is_loaded(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for words, said in [
        ([two[0]], "only this was given; the images come first, then the question"),
        ([two[0], tmp_path / "gone.jpg", "where?"], "gone.jpg: no such image"),
        ([*two, "--questions", tmp_path / "empty.txt"], "empty.txt: holds no question"),
        ([*two, "where?", "--save", tmp_path / "found.tiff"], "found.tiff: unknown picture format"),
        ([*two, "where?", "--save", two[1]], "b.png: is one of the images, and would take its place"),
        ([*two, " "], "migician: the question is empty"),
    ]:
        refused = command("ground", *words, "--model", "no such model")
        assert refused.status == 2 and said in refused.error and len(refused.error.splitlines()) == 1
