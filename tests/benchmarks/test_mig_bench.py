"""MIG-Bench files: both forms, their known faults, and what cannot be read."""

import json

import pytest

from migician.benchmarks import mig_bench
from migician.benchmarks.images import resolve_images
from migician.boxes import Box
from migician.errors import UserError
from migician.models.family import QWEN2_VL

ROW = {
    "task": "diff",
    "images": ["./MIG-Bench/images/a.png", "./MIG-Bench/images/b.png"],
    "question": "Compare these two images carefully and give me the coordinates of their difference. ",
    "answer": [0.1, 0.2, 0.3, 0.4],
    "additional_info": "",
    "need_format": True,
}


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def original(shared):
    return mig_bench.load(shared / "data/mig_bench/MIG_data.json")


@pytest.fixture(scope="module")
def revised(shared):
    return mig_bench.load(shared / "data/mig_bench/revised_MIG_bench.json")


def test_the_original_file(original):
    assert (len(original.questions), original.facts["file_kind"]) == (4295, "original")
    assert original.malformed == [7, 34, 105, 126, 163, 512, 703]
    assert original.facts["duplicate_rows"] == [{"row": row, "repeats": row - 2} for row in (2094, 2095)]
    assert len({question.images for question in original.questions}) == 1974
    assert "MIG_data.json" in original.facts["file_released_as"]


def test_the_revised_file(revised):
    assert (len(revised.questions), revised.facts["file_kind"]) == (4276, "revised")
    assert revised.malformed == []
    assert revised.questions[0].truth == Box(0.024, 0.093, 0.999, 0.91)
    assert "UniVG-R1" in revised.facts["file_released_as"]


def test_the_image_that_holds_the_truth(original, revised):
    by_task = {}
    for question in original.questions:
        by_task.setdefault(question.task, []).append(question.target)
    assert set(by_task["diff"]) == {None}  # the original does not say which of the two
    assert set(by_task["region"]) == {0}
    for task in ("view_diff", "correspondence", "reasoning", "refer_grounding"):
        assert set(by_task[task]) == {1}
    assert None not in by_task["group_grounding"]
    # The revised file moved 126 boxes of group_grounding and kept the old hint beside them.
    stale = [q for q in revised.questions if q.task == "group_grounding" and q.target is None]
    assert len(stale) == 126
    assert {q.target for q in revised.questions if q.task == "diff"} == {0, 1}


def test_prompts(original):
    grouped = next(q for q in original.questions if q.task == "group_grounding")
    common = original.questions[0]
    assert mig_bench.prompt(grouped) == grouped.text.rstrip()
    assert mig_bench.prompt(grouped, "published").endswith("(x2,y2)<|box_start|>. Don't generate addtional words.")
    assert mig_bench.prompt(common).endswith("1th image. " + QWEN2_VL.format)


def test_the_form_is_told_by_how_numbers_are_written(tmp_path):
    fractions = mig_bench.load(write(tmp_path / "a.json", [ROW, ROW | {"answer": [0, 0, 1, 1]}]))
    assert fractions.facts["file_kind"] == "original" and fractions.questions[1].truth == Box(0, 0, 1, 1)
    thousandths = mig_bench.load(write(tmp_path / "b.json", [ROW | {"answer": [0, 0, 1, 1]}]))
    assert thousandths.facts["file_kind"] == "revised" and thousandths.questions[0].truth == Box(0, 0, 0.001, 0.001)
    assert thousandths.facts["file_released_as"] is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a MIG-Bench file"),
        ("[", "not a MIG-Bench file"),
        ("{}", "Expected `array`"),
        ("[]", "no question"),
        (
            json.dumps([ROW, {key: ROW[key] for key in ROW if key != "answer"}]),
            r"missing required field `answer` - at `\$\[1\]",
        ),
        (json.dumps([ROW | {"answer": [1, 2, 3]}]), r"length 4"),
        (json.dumps([ROW | {"answer": [1, 2, 3, "x"]}]), r"\$\[0\]\.answer\[3\]"),
        (json.dumps([ROW | {"images": []}]), "row 0 has no images"),
        (json.dumps([ROW])[:-20], "not a MIG-Bench file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(tmp_path, content, says):
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(UserError, match=says) as raised:
        mig_bench.load(file)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_images_lie_below_the_root_or_nowhere(tmp_path):
    bench = mig_bench.load(write(tmp_path / "a.json", [ROW]))
    folder = tmp_path / "MIG-Bench" / "images"
    folder.mkdir(parents=True)
    for name in "ab":
        (folder / f"{name}.png").write_bytes(b"x")
    expected = [folder / "a.png", folder / "b.png"]
    assert resolve_images(bench.questions[0], tmp_path) == expected
    assert resolve_images(bench.questions[0], tmp_path / "MIG-Bench") == expected
    with pytest.raises(UserError, match="row 0: image .* is not below"):
        resolve_images(bench.questions[0], tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "./MIG-Bench/../../secret.png"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(b"x")
    bench = mig_bench.load(write(tmp_path / "a.json", [ROW | {"images": [name]}]))
    root = tmp_path / "root" / "deeper"
    root.mkdir(parents=True)
    with pytest.raises(UserError, match="is not below"):
        resolve_images(bench.questions[0], root)
