"""Any text can be a reply: it is scored, and everything that reads the records afterwards reads them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.evaluation.answer_files import score_file
from migician.evaluation.comparison import compare_folders
from migician.evaluation.run_folder import read_run
from migician.reports.coco import write_coco
from migician.reports.page.runs import write_page
from migician.reports.parquet import write_table

LONG = "9" * 400
PIECES = [
    "(", ")", "[", "]", "[[", "]]", "{", "}", ",", ", ", ".", "-", " ", "\n", "\t", "\x00", "\x1b", "\x85", "\u2028",
    "0", "1", "500", "1000", "1001", "0.5", "1e999", "-1", LONG, f"{LONG}.5", f"0.{LONG}", "9" * 4301, "٣", "５",
    "，", "NaN", "Infinity", "null", "inf",
    "<think>", "</think>", "<answer>", "</answer>", "<box>", "</box>", "<|box_start|>", "<|box_end|>", '{"bbox_2d": [',
    "<script>", "</script>", "<!--", "[/b]", "&amp;", '"', "\\", "\\u0000", "=1+1",
    "Image-1", "Image-2: ", "Image-999", f"Image-{LONG}", "in the second image", "2th image", "第二张图", f"第{LONG}图",
    "A", "B", "(B)", "the answer is ", "Final answer: B", "the second image", "not",
    "\ud800", "\udfff", "\ud83d", "\ude00", "😀", "é", "\ufffd", "\ufeff",
]  # fmt: skip
BOXES = [
    f"({LONG},0),(1,1)", f"(0,0),({LONG},{LONG})", f"({LONG},{LONG}),({LONG},{LONG})", f"(0,{LONG}),(1000,1)",
    f"[0, 0, {LONG}, 1]", f"[0.1, 0.1, {LONG}.5, 0.2]", f"({LONG}.0,0.1),(0.5,0.5)", f"(0.1, 0.1, {LONG}.5, 0.2)",
    f"<box>0 0 {LONG} 1</box>", f"[-{LONG}, 0, 5, 5]", f"(0,0),(9,{'9' * 4301})", f"(1,1),(2,2) (0,0),(1,{LONG})",
    f"(0,0),(1,{LONG}) (1,1),(2,2)", "(100,100),(500,500)", "Image-2: (100,100),(500,500)", "(0,0),(0,0)",
    f"{{\"bbox_2d\": [1, 2, {LONG}, 4]}}", "[1e999, 0, 1, 1]", "(,),(,)",
]  # fmt: skip
pieced = st.lists(st.sampled_from(PIECES + BOXES), max_size=8).map("".join)
anything = st.text(st.characters(exclude_categories=()), max_size=60)
replies = st.lists(pieced | anything, min_size=3, max_size=6)

ANY_BOX = [("strict", style, False) for style in ("qwen", "list-fraction", "minicpm", "qwen2.5-vl", "pairs-pixel")]
BY_SCRIPT = [(protocol, None, stretch) for protocol in ("published", "univg-r1") for stretch in (False, True)]
BY_SCRIPT += [("oracle", None, False)]
WAYS = {
    "mig-bench": [*ANY_BOX, *BY_SCRIPT],
    "mig-bench-one-shot": ANY_BOX,
    "mmiu": [("strict", None, False), ("published", None, False)],
}


def questions(benchmark: str) -> list[dict[str, Any]]:
    images = ["./w/a.png", "./w/b.png"]
    if benchmark == "mmiu":
        options = "A: the first image\nB: the second image"
        return [
            {"task": f"t{i % 2}", "input_image_path": images, "question": f"{i}?", "options": options, "output": "B"}
            for i in range(6)
        ]
    return [
        {
            "task": ("common_object", "object_tracking")[i % 2],
            "images": [f"./w/{'ab'[i % 2]}.png", "./w/b.png"],
            "question": f"Object {i // 2}: locate it in the 2th image.",
            "answer": [0.1, 0.1, 0.5, 0.5],
        }
        for i in range(6)
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("world")
    (home / "w").mkdir()
    for name in "ab":
        Image.new("RGB", (64, 40)).save(home / "w" / f"{name}.png")
    for benchmark in WAYS:
        (home / f"{benchmark}.json").write_text(json.dumps(questions(benchmark)))
    return home


def numbers_in(value: Any) -> Iterator[float | None]:
    """Those of the boxes of a record; None for what JSON could not hold. The image of a box may be unknown."""
    if isinstance(value, dict):
        yield from numbers_in(value["box"])
    elif isinstance(value, list):
        for part in value:
            yield from numbers_in(part)
    else:
        yield value


def scored(world: Path, benchmark: str, given: list[str], way: tuple[str, str | None, bool], out: Path) -> Path:
    """A run over `given`, again and again, as Python's own JSON writer has it."""
    protocol, style, stretch = way
    rows = [{"index": i, "response": reply, "sizes": [[64, 40], [64, 40]]} for i, reply in zip(range(6), cycle(given))]
    answers = out.with_suffix(".jsonl")
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = world / f"{benchmark}.json"
    score_file(
        benchmark, data, answers, out,
        protocol=protocol, style=style, y_stretch=stretch, images=world, max_pixels=None, partial=False,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("benchmark", WAYS)
@settings(max_examples=40)
@given(data=st.data())
def test_any_reply_is_scored_and_its_record_read_back(world: Path, benchmark: str, data: st.DataObject) -> None:
    ways = data.draw(st.tuples(*[st.sampled_from(WAYS[benchmark])] * 2))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        runs = [
            scored(world, benchmark, data.draw(replies), way, home / name) for name, way in zip("AB", ways, strict=True)
        ]
        for run in runs:
            assert len(read_run(run)[1]) == 6
            for line in (run / "records.jsonl").read_bytes().splitlines():
                numbers = list(numbers_in(json.loads(line).get("boxes", [])))
                assert all(number is not None and abs(number) <= 1e9 for number in numbers), line
        compare_folders(*runs)
        page = write_page(runs, ["A", "B"], world, home / "page")
        assert page.stat().st_size > 0
        assert write_table(runs, ["A", "B"], home / "records.parquet") > 0
        if benchmark != "mmiu":
            coco = write_coco(runs[0], home / "coco", images=world).folder
            for one in json.loads((coco / "predictions.json").read_text()):
                assert None not in (one["area"], *one["bbox"]), one


@pytest.mark.parametrize(("protocol", "style"), [("strict", "qwen"), ("published", None), ("univg-r1", None)])
def test_the_commands_read_what_was_scored(world: Path, tmp_path: Path, protocol: str, style: str | None) -> None:
    given = [BOXES[0], BOXES[1], "\ud83d", "\x00<think>", f"(0,0),(1,{LONG}) [/b]", f"Image-{LONG}"]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"index": i, "response": text}) + "\n" for i, text in enumerate(given)))
    told = ["--protocol", protocol, *(["--style", style] if style else [])]
    run, data = tmp_path / "run", world / "mig-bench.json"
    for arguments in (
        ["score", "mig-bench", "--data", data, "--answers", answers, "--out", run, *told],
        ["compare", run, run],
        ["report", run, "--images", world],
        ["report", run, "--images", world, "--parquet", tmp_path / "records.parquet"],
        ["table", run],
        ["data", "export", run, "--coco", "--to", tmp_path / "coco", "--images", world],
    ):
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, (arguments[0], done.output, done.exception)
    outcomes = [json.loads(line)["outcome"] for line in (run / "records.jsonl").read_bytes().splitlines()]
    assert outcomes[:3] == ["off_scale", "off_scale", "no_box"]
