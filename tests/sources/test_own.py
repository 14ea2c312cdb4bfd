"""Annotations of one's own, in COCO's form and as JSON lines: read, refused by line, and built from by the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from PIL import Image

from migician.boxes import Box
from migician.build.dataset import build
from migician.errors import UserError
from migician.sources import scenes_of
from migician.sources.index import make_index
from migician.sources.scenes import Scene, Tally
from migician.training.check import check

pytestmark = pytest.mark.usefixtures("plain_card")

SIZE = (200, 100)
LABELS = ("mug", "kettle", "spoon", "apple", "clock", "shoe")
_BOX = re.compile(r"<\|box_start\|>\((\d+),(\d+)\),\((\d+),(\d+)\)<\|box_end\|>")

Objects = list[dict[str, Any]]


def picture(file: Path, size: tuple[int, int] = SIZE, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 90)).save(file, **options)
    return file


def json_lines(file: Path, images: dict[str, Objects]) -> Path:
    lines = [json.dumps({"image": image, "objects": objects}) for image, objects in images.items()]
    file.write_text("\n".join(lines) + "\n")
    return file


def coco_json(file: Path, images: dict[str, Objects], **image_fields: Any) -> Path:
    names = sorted({one["label"] for objects in images.values() for one in objects})
    listed = [{"id": at, "file_name": name, **image_fields} for at, name in enumerate(images)]
    boxes = []
    for at, objects in enumerate(images.values()):
        for one in objects:
            x1, y1, x2, y2 = one["box"]
            category = names.index(one["label"])
            boxes.append({"image_id": at, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": at, "name": name} for at, name in enumerate(names)]
    file.write_text(json.dumps({"images": listed, "annotations": boxes, "categories": categories}))
    return file


def read(source: str, file: Path, images: Path) -> tuple[list[Scene], dict[str, int]]:
    tally = Tally()
    scenes = [one for one in scenes_of(source, file, tally, images=images)[1] if isinstance(one, Scene)]
    return scenes, tally.counts


MUG: Objects = [{"label": "mug", "box": [20, 10, 60, 90]}]
FORMS = {"jsonl": json_lines, "coco-json": coco_json}


@pytest.mark.parametrize("source", FORMS)
def test_sizes_come_from_the_images(tmp_path: Path, source: str) -> None:
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "images/deep/b.png", (400, 50))
    file = FORMS[source](tmp_path / "own", {"a.jpg": MUG, "deep/b.png": [{"label": "cup", "box": [380, -5, 420, 25]}]})
    (first, second), counts = read(source, file, tmp_path / "images")
    assert (first.size, second.size) == (SIZE, (400, 50))
    assert [instance.box for instance in first.instances] == [Box(0.1, 0.1, 0.3, 0.9)]
    assert [(instance.label, instance.box) for instance in second.instances] == [("cup", Box(0.95, 0.0, 1.0, 0.5))]
    assert second.image == (tmp_path / "images/deep/b.png").resolve()
    assert counts == {"box clipped to the image": 1}


def test_labels_and_phrases_of_json_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    objects: Objects = [
        {"label": " mug ", "phrase": "the mug with a chip", "box": [0, 0, 20, 20]},
        {"phrase": "a red spoon", "box": [20, 0, 40, 20]},
        {"label": "cup", "phrase": "White cup", "box": [40, 0, 60, 20]},
        {"label": "cup", "phrase": "white cup ", "box": [60, 0, 80, 20], "score": 0.5},
    ]
    (scene,), counts = read("jsonl", json_lines(tmp_path / "own.jsonl", {"a.jpg": objects}), tmp_path)
    assert [(one.label, one.phrase) for one in scene.instances] == [
        ("mug", "the mug with a chip"),
        ("", "a red spoon"),
        ("cup", ""),
        ("cup", ""),
    ]
    assert counts == {"phrase that two objects of an image share": 2}


@pytest.mark.parametrize(
    ("phrase", "label", "unboxed"),
    [
        ("the chipped mug", "mug", set()),
        ("the mug on the kettle", "mug", set()),
        ("A tall Wine glass", "wine glass", {"glass"}),
        ("the keys", "keys", set()),
        ("two mugs", "", {"mug"}),
        ("a mug and a kettle", "", {"mug", "kettle"}),
        ("the woman in red", "person", set()),
        ("a red spoon", "", set()),
        ("something", "", set()),
    ],
)
def test_a_phrase_alone_has_the_label_that_it_names(tmp_path: Path, phrase: str, label: str, unboxed: set[str]) -> None:
    labels = ("mug", "kettle", "glass", "wine glass", "keys", "person")
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    others: Objects = [{"label": one, "box": [0, 0, 20, 20]} for one in labels]
    file = json_lines(tmp_path / "own.jsonl", {"a.jpg": [{"phrase": phrase, "box": [0, 0, 9, 9]}], "b.jpg": others})
    (scene, _), _ = read("jsonl", file, tmp_path)
    assert [(one.label, one.phrase) for one in scene.instances] == [(label, phrase)]
    assert scene.unboxed == unboxed


def test_a_label_is_not_asked_for_where_a_phrase_names_it_too(tmp_path: Path) -> None:
    """The two mugs of the example in the docs, and one in another image."""
    mugs: Objects = [{"label": "mug", "box": [10, 20, 60, 90]}, {"phrase": "the chipped mug", "box": [70, 20, 120, 90]}]
    images: dict[str, Objects] = {"a.jpg": mugs, "b.jpg": [{"phrase": "a tall mug", "box": [0, 0, 90, 90]}]}
    images |= {f"{one}.jpg": [{"label": one, "box": [0, 0, 90, 90]}] for one in LABELS[1:4]}
    for name in images:
        picture(tmp_path / name)
    file = json_lines(tmp_path / "own.jsonl", images)
    settings = {"images": [2, 4], "passes": 9}
    tasks = ["free_form", "group_grounding"]
    built = build(tasks, {"jsonl": file}, tmp_path / "out", images=tmp_path, settings=dict.fromkeys(tasks, settings))
    asked = 0
    for record in json.loads((built.folder / "MGrounding-630k.json").read_text()):
        shown = {Path(image).stem for image in record["images"]}
        text = " ".join(turn["value"] for turn in record["conversations"] if turn["from"] == "human")
        named = set(re.findall(r"ref_start\|>(.*?)<", text))
        assert "a mug" not in named or shown & {"a", "b"} == {"b"}
        assert not named & {"the chipped mug", "a tall mug"} or shown & {"a", "b"} != {"a", "b"}
        asked += bool(named & {"the chipped mug", "a tall mug"})
    assert asked


def test_boxes_are_in_the_pixels_that_are_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a.jpg", exif=exif)
    (scene,), _ = read("jsonl", json_lines(tmp_path / "own.jsonl", {"a.jpg": MUG}), tmp_path)
    assert (scene.size, scene.instances[0].box) == (SIZE, Box(0.1, 0.1, 0.3, 0.9))
    upright = coco_json(tmp_path / "own.json", {"a.jpg": MUG}, width=SIZE[1], height=SIZE[0])
    assert read("coco-json", upright, tmp_path) == ([], {"image of another size than its annotation says": 1})


@pytest.mark.parametrize("source", FORMS)
def test_images_that_cannot_be_used_are_counted(tmp_path: Path, source: str) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    file = FORMS[source](tmp_path / "own", {"a.jpg": MUG, "b.jpg": MUG, "c.jpg": MUG})
    scenes, counts = read(source, file, tmp_path)
    assert [scene.image.name for scene in scenes] == ["a.jpg"]
    assert counts == {"image annotated but missing": 1, "image that cannot be read": 1}
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"own: none of its 3 images .* such as a\.jpg.* Give --images DIR"):
        read(source, file, tmp_path)


@pytest.mark.parametrize(
    ("width", "height", "kept"), [(200, 100, 1), (0, 0, 1), (100, 200, 0), (201, 100, 0), (200, 0, 1)]
)
def test_a_size_that_the_file_states_must_be_right(tmp_path: Path, width: int, height: int, kept: int) -> None:
    picture(tmp_path / "a.jpg")
    file = coco_json(tmp_path / "own.json", {"a.jpg": MUG}, width=width, height=height)
    scenes, counts = read("coco-json", file, tmp_path)
    assert len(scenes) == kept and bool(counts) != bool(kept)


def test_names_in_coco_files_may_have_other_folders(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (scene,), _ = read("coco-json", coco_json(tmp_path / "own.json", {"train2017/a.jpg": MUG}), tmp_path)
    assert scene.image.name == "a.jpg"


GOOD = '{"image": "a.jpg", "objects": [{"label": "mug", "box": [20, 10, 60, 90]}]}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"line 2: Input data was truncated"),
        ("[1]", r"line 2: Expected `object`, got `array`"),
        ('{"image": "b.jpg"}', r"line 2: Object missing required field `objects`"),
        ('{"image": "b.jpg", "objects": [{"label": "mug"}]}', r"line 2: .* missing required field `box` - at `\$.obj"),
        (
            '{"image": "b.jpg", "objects": [{"label": "mug", "box": [1, 2, 3]}]}',
            r"line 2: Expected `array` of length 4",
        ),
        ('{"image": "b.jpg", "objects": [{"label": "mug", "box": [1, 2, "3", 4]}]}', r"line 2: Expected `float`"),
        ('{"image": "b.jpg", "objects": [{"name": "mug", "box": [1, 2, 3, 4]}]}', r"line 2: objects\[0\] has neither"),
        (
            '{"image": "b.jpg", "objects": [{"label": "mug", "box": [50, 20, 30, 40]}]}',
            r"line 2: objects\[0\]\.box .*x1",
        ),
        ('{"image": "../b.jpg", "objects": []}', r"line 2: image '\.\./b\.jpg' is no path below"),
        (GOOD, r"line 2: a\.jpg is in line 1 already"),
        ('{"image": "b\udce9.jpg", "objects": []}', r"line 2: "),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path: Path, line: str, said: str) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    file = tmp_path / "own.jsonl"
    file.write_bytes(f"{GOOD}\n{line}\n".encode("utf-8", "surrogateescape"))
    begins = r"own\.jsonl: line 2: (not an image with its objects: )?"
    with pytest.raises(UserError, match=said.replace("line 2: ", begins, 1)) as raised:
        read("jsonl", file, tmp_path)
    assert "\n" not in str(raised.value)


def test_an_image_that_a_coco_file_lists_twice(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    file = coco_json(tmp_path / "own.json", {"a.jpg": MUG, "x/a.jpg": MUG})
    with pytest.raises(UserError, match=r"own\.json: images\[1\] is x/a\.jpg, as images\[0\] is"):
        read("coco-json", file, tmp_path)


def drawn(folder: Path, phrases: bool) -> dict[str, Objects]:
    """Twelve images with one small and one large object each, no two of a kind in one image."""
    images: dict[str, Objects] = {}
    for number in range(12):
        picture(folder / "pictures" / f"{number}.png")
        small, large = LABELS[number % 6], LABELS[(number + 1 + number // 6) % 6]
        objects: Objects = [
            {"label": small, "box": [10 + number, 10, 50 + number, 40]},
            {"label": large, "box": [100, 15 + number, 190, 85 + number]},
        ]
        if phrases:
            for one in objects:
                one["phrase"] = f"{one['label']} number {number}"
        images[f"{number}.png"] = objects
    return images


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("phrases", [False, True])
def test_all_families_that_fit_are_built_by_the_command(tmp_path: Path, source: str, phrases: bool) -> None:
    images = drawn(tmp_path, phrases)
    file = FORMS[source](tmp_path / "annotations", images)
    out = tmp_path / "out"
    done = command("build", "all", f"--source={source}={file}", "--images", tmp_path / "pictures", "--out", out)
    assert done.status == 0, done.error
    card = json.loads((out / "card.json").read_text())
    made = {part["task"]: part["made"] for part in card["parts"]}
    assert "object_tracking" not in made and "difference" not in made
    assert made["group_grounding"] > 0 < made["free_form"]
    whole = {name: [tuple(one["box"]) for one in objects] for name, objects in images.items()}
    seen = 0
    for record in json.loads((out / "Group_Grounding.json").read_text()):
        assert all((out / image).is_file() for image in record["images"])
        # By hand: x in fives, y in tens of thousandths.
        fits = {
            (x1 * 5, y1 * 10, x2 * 5, y2 * 10)
            for image in record["images"]
            for x1, y1, x2, y2 in whole[Path(image).name]
        }
        for turn in record["conversations"]:
            for match in _BOX.finditer(turn["value"]):
                assert tuple(map(int, match.groups())) in fits
                seen += 1
    assert seen > 0
    assert "of whoever built it" in (out / "README.md").read_text()
    assert not [one for one in check(out).findings if one.severity == "problem" and one.kind != "no_samples"]


def test_an_index_of_a_file_gives_the_same_dataset(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "pictures" / "own.jsonl", drawn(tmp_path, False))
    done = command("dev", "index", f"jsonl={file}", "--out", tmp_path / "index", "--split", "val")
    assert done.status == 0, done.error
    for name, root in (("a", file), ("b", tmp_path / "index")):
        build(["group_grounding", "common_object"], {"jsonl": root}, tmp_path / name, collect=True)
    assert (tmp_path / "a/MGrounding-630k.json").read_bytes() == (tmp_path / "b/MGrounding-630k.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "jsonl=nowhere.jsonl"], "source 'jsonl': nowhere.jsonl: no such file of annotations"),
        (["--source", "jsonl=pictures"], "source 'jsonl': pictures is no file; give the file of annotations"),
        (["--source", "jsonl=own.jsonl", "--images", "nowhere"], "--images nowhere is not a folder"),
        (
            ["--source", "coco=pictures", "--images", "pictures"],
            "no --source is a file of annotations (coco-json, jsonl)",
        ),
        (["--source", "jsonl=own.jsonl", "--source", "jsonl=b.jsonl"], "--source jsonl is given twice"),
        (["--source", "json=own.jsonl"], "Did you mean 'jsonl'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    json_lines(tmp_path / "own.jsonl", drawn(tmp_path, False))
    done = command("build", "all", *words, "--out", "out")
    assert done.status != 0 and said in done.error and "Traceback" not in done.error
    assert not (tmp_path / "out").exists()


def test_an_index_says_where_its_images_are(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    file = json_lines(tmp_path / "own.jsonl", {"a.jpg": MUG})
    index = make_index("jsonl", file, tmp_path / "index", images=tmp_path / "images")
    assert index.root == (tmp_path / "images").resolve() and len(index.items) == 1
