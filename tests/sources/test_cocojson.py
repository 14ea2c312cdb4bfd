"""The streaming reader of instances files against plain json, in pieces of any size, and with broken files."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.samples import json_window, record_file
from migician.sources import coco, objects365
from migician.sources.formats import cocojson, reading
from migician.sources.formats.reading import CLIPPED, CLIPPING
from migician.sources.scenes import Instance, Scene, Tally

FLAGS = {"iscrowd": "box around a crowd", "isfake": "picture of the object", "isreflected": "reflected object"}


def here(name: str) -> Path | None:
    return Path(name)


def content(annotations: list[dict[str, Any]], images: int = 2) -> dict[str, Any]:
    listed = [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 50} for n in range(images)]
    return {"images": listed, "annotations": annotations, "categories": [{"id": 3, "name": "dog"}]}


def plain(whole: dict[str, Any], spell: Callable[[str], str] = str.strip) -> tuple[list[Scene], dict[str, int]]:
    """What the file says, by json and one box at a time."""
    tally, scenes = Tally(), []
    names = {one["id"]: spell(one["name"]) for one in whole["categories"]}
    for image in whole["images"]:
        instances, unboxed = [], set()
        for one in (one for one in whole["annotations"] if one["image_id"] == image["id"]):
            flag = next((reason for name, reason in FLAGS.items() if one.get(name)), None)
            if flag:
                tally.add(flag)
            box = Box.from_xywh_pixels(*one["bbox"], (image["width"], image["height"]))
            inside = None if flag else reading.clipped(box, tally)
            if inside:
                instances.append(Instance(inside, names[one["category_id"]]))
            else:
                unboxed.add(names[one["category_id"]])
        if instances:
            size = (image["width"], image["height"])
            path = Path(image["file_name"])
            scenes.append(Scene(str(image["id"]), path, size, tuple(instances), frozenset(unboxed)))
        else:
            tally.add("image without a usable box")
    return scenes, tally.counts


class TestRealFiles:
    @pytest.mark.parametrize("chunk", [61, 5_000, 1 << 20])
    @pytest.mark.parametrize(
        "name",
        [
            "coco/annotations/instances_train2017.json",
            "coco/annotations/instances_val2017.json",
            "objects365/annotations/zhiyuan_objv2_train_viewer_excerpt.json",
            "objects365/annotations/zhiyuan_objv2_xywh_viewer_excerpt.json",
        ],
    )
    def test_scenes_are_exactly_those_of_plain_json(
        self, shared: Path, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_window, "BLOCK", chunk)
        file = shared / "data/sources" / name
        tally = Tally()
        scenes = list(cocojson.read_instances(file, here, tally))
        expected, counts = plain(json.loads(file.read_bytes()))
        assert scenes == expected
        assert tally.counts == counts
        assert sum(len(scene.instances) for scene in scenes) > 7

    def test_every_usable_box_is_within_half_a_permille_of_the_file(self, shared: Path) -> None:
        file = shared / "data/sources/coco/annotations/instances_train2017.json"
        whole = json.loads(file.read_bytes())
        sizes = {image["id"]: (image["width"], image["height"]) for image in whole["images"]}
        for scene in coco.read(shared / "data/sources/coco", Tally()):
            width, height = sizes[int(scene.id)]
            written = [
                (x / width, y / height, (x + w) / width, (y + h) / height)
                for x, y, w, h in (
                    one["bbox"]
                    for one in whole["annotations"]
                    if str(one["image_id"]) == scene.id and not one["iscrowd"]
                )
            ]
            found = [instance.box.as_tuple() for instance in scene.instances]
            assert np.abs(np.array(found) - np.array(written)).max() <= 0.0005

    def test_labels_of_crowds_are_remembered(self, shared: Path) -> None:
        scenes = list(coco.read(shared / "data/sources/coco", Tally()))
        whole = json.loads((shared / "data/sources/coco/annotations/instances_train2017.json").read_bytes())
        names = {one["id"]: one["name"] for one in whole["categories"]}
        crowds = {(str(one["image_id"]), names[one["category_id"]]) for one in whole["annotations"] if one["iscrowd"]}
        remembered = {(scene.id, label) for scene in scenes for label in scene.unboxed}
        assert remembered == {(image, label) for image, label in crowds if image in {scene.id for scene in scenes}}
        assert remembered


number = st.one_of(st.integers(-20, 130), st.floats(-20, 130), st.floats(allow_nan=False, allow_infinity=False))
one_annotation = st.fixed_dictionaries(
    {
        "image_id": st.integers(0, 3),
        "category_id": st.sampled_from([3, 7]),
        "bbox": st.lists(number, min_size=4, max_size=4),
    },
    optional={
        "iscrowd": st.integers(0, 1),
        "isfake": st.integers(0, 1),
        "isreflected": st.integers(0, 1),
        # What may look like the end of an element, and is not.
        "segmentation": st.recursive(
            st.text('}{],["\\: a\u00e9', max_size=6),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('},"{', max_size=3), inner, max_size=2),
            max_leaves=5,
        ),
    },
)


class TestStreaming:
    @settings(max_examples=150, deadline=None)
    @given(
        annotations=st.lists(one_annotation, max_size=12),
        order=st.permutations(["info", "images", "annotations", "categories", "other"]),
        chunk=st.integers(1, 300),
        indent=st.sampled_from([None, 1]),
        ascii_only=st.booleans(),
    )
    def test_any_order_of_keys_any_chunk(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        annotations: list[dict[str, Any]],
        order: list[str],
        chunk: int,
        indent: int | None,
        ascii_only: bool,
    ) -> None:
        whole = content(annotations, images=4)
        whole["categories"].append({"id": 7, "name": " caf\u00e9 "})
        whole |= {"info": {"a": ["}, {", 1]}, "other": [[1, {"b": "],"}], 12345, "x"]}
        file = tmp_path_factory.mktemp("instances") / "i.json"
        text = json.dumps({key: whole[key] for key in order}, indent=indent, ensure_ascii=ascii_only)
        file.write_text(text, encoding="utf-8")
        tally = Tally()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_window, "BLOCK", chunk)
            patch.setattr(cocojson, "_BLOCK", 5)
            scenes = list(cocojson.read_instances(file, here, tally))
        expected, counts = plain(whole)
        assert scenes == expected
        assert tally.counts == counts

    def test_annotations_of_one_image_need_not_stand_together(self, tmp_path: Path) -> None:
        boxes = [{"image_id": n % 2, "category_id": 3, "bbox": [n, 0, 1, 1]} for n in range(6)]
        file = tmp_path / "i.json"
        file.write_text(json.dumps(content(boxes)))
        first, second = cocojson.read_instances(file, here, Tally())
        assert [round(instance.box.x1 * 100) for instance in first.instances] == [0, 2, 4]
        assert [round(instance.box.x1 * 100) for instance in second.instances] == [1, 3, 5]

    def test_images_without_boxes_and_boxes_without_images(self, tmp_path: Path) -> None:
        boxes = [{"image_id": n, "category_id": 3, "bbox": [0, 0, 1, 1]} for n in (-5, 1, 9)]
        file = tmp_path / "i.json"
        file.write_text(json.dumps(content(boxes, images=3)))
        tally = Tally()
        assert [scene.id for scene in cocojson.read_instances(file, here, tally)] == ["1"]
        assert tally.counts == {"box of an image that is not listed": 2, "image without a usable box": 2}
        file.write_text(json.dumps(content(boxes, images=0)))
        tally = Tally()
        assert list(cocojson.read_instances(file, here, tally)) == []
        assert tally.counts == {"box of an image that is not listed": 3}

    def test_memory_stays_small(self, tmp_path: Path) -> None:
        file = tmp_path / "i.json"
        count = 40_000
        with file.open("w") as stream:
            stream.write('{"images": [{"id": 1, "file_name": "a", "width": 99, "height": 99}], "annotations": [')
            one = json.dumps({"image_id": 2, "category_id": 3, "bbox": [1.5, 2.5, 3.5, 4.5], "note": "x" * 300})
            stream.write(",".join([one] * count))
            stream.write('], "categories": [{"id": 3, "name": "dog"}]}')
        tracemalloc.start()
        try:
            list(cocojson.read_instances(file, here, Tally()))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 100 * count + 8 * json_window.BLOCK < file.stat().st_size

    def test_not_a_number_is_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "i.json"
        bad = {"image_id": 0, "category_id": 3, "bbox": [float("nan"), 0, 1, 1]}
        file.write_text(json.dumps(content([bad, bad | {"bbox": [0, 0, 1, 1]}])))
        tally = Tally()
        (scene,) = cocojson.read_instances(file, here, tally)
        assert tally.counts["box that is not a number"] == 1
        assert scene.unboxed == {"dog"}


LISTS = '"images": [], "categories": []'


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            ("  \n", "is empty"),
            ("[]", r"at its beginning: expected '\{', found '\['"),
            ('{"images": []', "after images: the file ends too early"),
            ('{"images": [], "annotations": []}', "it has no list `categories`"),
            ('{"images": {}, "annotations": [], "categories": []}', "images: expected a list"),
            (f'{{{LISTS}, "annotations": [1]}}', r"Expected `object`, got `int` - at `annotations\[0\]`"),
            (f'{{{LISTS}, "annotations": [{{}}]}}', r"missing required field `image_id` - at `annotations\[0\]`"),
            (
                f'{{{LISTS}, "annotations": [{{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}}]}}',
                r"at `annotations\[0\]\.bbox`",
            ),
            (f'{{{LISTS}, "annotations": [{{"image_id": {2**63}}}]}}', r"at `annotations\[0\]\.image_id`"),
            (f'{{{LISTS}, "annotations": [}}', r"annotations\[0\]: cut off, or not JSON"),
            (f'{{{LISTS}, "annotations": []}} 5', "more follows the object"),
            (f'{{{LISTS}, "annotations": {"[" * 100_000}', r"annotations\[0\]: nested too deeply"),
            (f'{{{LISTS}, "annotations": [{"[" * 100_000}{{}},{{}},', r"annotations\[0\]: nested too deeply"),
            (f'{{{LISTS}, "annotations": [{"9" * 5000}]}}', r"annotations\[0\]: .*limit"),
            ("{3: []}", "a key is no string"),
        ],
    )
    def test_the_file_and_the_place_are_named(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "i.json"
        file.write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            list(cocojson.read_instances(file, here, Tally()))
        assert str(caught.value).startswith(f"{file}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("chunk", [50, 1 << 20])
    def test_the_element_is_counted_from_the_beginning(
        self, tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_window, "BLOCK", chunk)
        good = {"image_id": 0, "category_id": 3, "bbox": [0, 0, 1, 1]}
        file = tmp_path / "i.json"
        file.write_text(json.dumps(content([good] * 57 + [good | {"image_id": "0"}] + [good] * 9)))
        with pytest.raises(UserError, match=r"annotations\[57\]\.image_id"):
            list(cocojson.read_instances(file, here, Tally()))

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_a_file_cut_anywhere_is_refused(self, tmp_path: Path, share: float) -> None:
        text = json.dumps(content([{"image_id": 0, "category_id": 3, "bbox": [0, 0, 1, 1]}] * 30))
        file = tmp_path / "i.json"
        file.write_text(text[: int(len(text) * share)])
        with pytest.raises(UserError, match="not an instances file"):
            list(cocojson.read_instances(file, here, Tally()))

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_another_encoding(self, tmp_path: Path, encoding: str) -> None:
        whole = content([])
        whole["categories"] = [{"id": 3, "name": "caf\u00e9"}]
        file = tmp_path / "i.json"
        file.write_text(json.dumps(whole, ensure_ascii=False), encoding=encoding)
        with pytest.raises(UserError, match="cannot be read: 'utf-8' codec"):
            list(cocojson.read_instances(file, here, Tally()))

    def test_broken_content_is_not_read_to_the_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_window, "BLOCK", 100)
        monkeypatch.setattr(json_window, "_LARGEST_VALUE", 1000)
        file = tmp_path / "i.json"
        file.write_text(f'{{{LISTS}, "annotations": [nonsense {"x" * 100_000}')
        read = 0

        class Counted(io.FileIO):
            def readinto(self, buffer: Any) -> int:
                nonlocal read
                size = super().readinto(buffer)
                read += size or 0
                return size or 0

        window = json_window.Window(file, io.BufferedReader(Counted(file), 100))
        with pytest.raises(ValueError, match="Expecting"):
            list(record_file._members(window, {"annotations": object}))
        assert read < 20_000


class TestObjects365:
    def write(self, root: Path, name: str, file_name: str, *categories: tuple[int, str]) -> None:
        image = {"id": 7, "file_name": file_name, "width": 100, "height": 50}
        boxes = [{"image_id": 7, "category_id": number, "bbox": [1, 1, 9, 9]} for number, _ in categories]
        names = [{"id": number, "name": label} for number, label in categories]
        (root / name).write_text(json.dumps({"images": [image], "annotations": boxes, "categories": names}))
        place = root / "train" / Path(file_name).name
        place.parent.mkdir(exist_ok=True)
        Image.new("L", (100, 50)).save(place)

    def labels(self, root: Path) -> list[str]:
        (scene,) = objects365.read(root, Tally())
        return [instance.label for instance in scene.instances]

    def test_each_release_has_its_own_numbers(self, tmp_path: Path) -> None:
        self.write(tmp_path, "objects365_train.json", "objects365_v1_00000007.jpg", (4, "hat"), (9, "car"))
        assert self.labels(tmp_path) == ["hat", "car"]
        self.write(tmp_path, "zhiyuan_objv2_train.json", "images/v2/patch1/x.jpg", (4, "Other Shoes"), (9, "Bottle"))
        assert self.labels(tmp_path) == ["Other Shoes", "Bottle"]

    def test_misspelt_names_are_put_right(self, tmp_path: Path) -> None:
        names = ["Moniter/TV", "Bakset", "Dinning Table", "Table Tennis ", "Person", "moniter/TV"]
        self.write(tmp_path, "zhiyuan_objv2_train.json", "a.jpg", *enumerate(names))
        assert self.labels(tmp_path) == ["Monitor/TV", "Basket", "Dining Table", "Table Tennis", "Person", "Monitor/TV"]

    def test_a_file_name_cannot_lead_out_of_the_root(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        Image.new("L", (100, 50)).save(tmp_path / "secret.jpg")
        for name in ("../secret.jpg", str(tmp_path / "secret.jpg")):
            self.write(root, "zhiyuan_objv2_train.json", "a.jpg", (1, "Person"))
            file = root / "zhiyuan_objv2_train.json"
            file.write_text(file.read_text().replace('"a.jpg"', json.dumps(name)))
            with pytest.raises(UserError, match="none of its 1 images are there"):
                list(objects365.read(root, Tally()))


corner = st.one_of(
    st.floats(-0.5, 1.5), st.sampled_from([0.0, 1.0, -0.0005, 1.0005, 1.0006, float("nan"), float("inf")])
)


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=8))
def test_clipping_many_is_clipping_each(boxes: list[tuple[float, float, float, float]]) -> None:
    inside, verdicts = reading.all_clipped(np.array(boxes, dtype=np.float64).reshape(-1, 4))
    for corners, row, verdict in zip(boxes, inside.tolist(), verdicts.tolist(), strict=True):
        tally = Tally()
        one = reading.clipped(Box(*corners), tally)
        assert (one is not None) == (verdict <= CLIPPED)
        assert one is None or one == Box(*row)
        assert tally.counts == ({CLIPPING[verdict]: 1} if verdict else {})
