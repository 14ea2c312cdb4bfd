"""SA-1B's reader against real annotation files and their masks, beside GranD's files, and with broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import sa1b
from migician.sources.scenes import Scene, Tally


def write(root: Path, name: str = "sa_1", *masks: list[float], size: tuple[int, int] = (100, 50)) -> None:
    root.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(root / f"{name}.jpg")
    listed = {"image_id": 1, "width": size[0], "height": size[1], "file_name": f"{name}.jpg"}
    content = {"image": listed, "annotations": [{"id": 1, "bbox": bbox, "area": 9} for bbox in masks]}
    (root / f"{name}.json").write_text(json.dumps(content))


def describe(root: Path, *objects: dict[str, Any], name: str = "sa_1", floating: tuple[Any, ...] = ()) -> Path:
    file = root / "GranD" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({f"{name}.jpg": {"objects": objects, "floating_objects": floating, "landmark": ""}}))
    return file


def read(root: Path) -> tuple[list[Scene], dict[str, int]]:
    tally = Tally()
    return list(sa1b.read(root, tally)), tally.counts


def mask_of(counts: str, height: int, width: int) -> np.ndarray:
    """COCO's compressed run lengths, decoded here for the test: 5 bits a character, every run after the second
    is a difference to the one before the last; columns first."""
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value = shift = 0
        more = True
        while more:
            bits = ord(counts[at]) - 48
            value |= (bits & 31) << shift
            more, shift, at = bool(bits & 32), shift + 5, at + 1
            if not more and bits & 16:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    return flat.reshape(width, height).T.astype(bool)


class TestRealFiles:
    @pytest.fixture
    def root(self, shared: Path, tmp_path: Path) -> Path:
        """The real annotation files, beside blank images of the sizes they state."""
        for file in (shared / "data/sources/sa1b/sa_000000").glob("*.json"):
            stated = json.loads(file.read_text())["image"]
            place = tmp_path / "sa_000000"
            place.mkdir(exist_ok=True)
            (place / file.name).write_bytes(file.read_bytes())
            Image.new("L", (stated["width"], stated["height"])).save(place / stated["file_name"])
        return tmp_path

    def test_boxes_are_those_of_the_decoded_masks(self, root: Path) -> None:
        scenes, counts = read(root)
        assert len(scenes) == 4
        checked = 0
        for scene in scenes:
            width, height = scene.size
            content = json.loads(scene.image.with_suffix(".json").read_text())
            for instance, one in zip(scene.instances, content["annotations"], strict=True):
                mask = mask_of(one["segmentation"]["counts"], height, width)
                assert mask.sum() == one["area"]
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                ends = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
                assert instance.box.as_tuple() == pytest.approx(ends, abs=1e-9)
                x, y, w, h = one["bbox"]  # within half a permille of what is written, plus the pixel it lacks
                written = x / width, y / height, (x + w + 1) / width, (y + h + 1) / height
                assert instance.box.as_tuple() == pytest.approx(written, abs=0.0005)
                checked += 1
        assert checked == 5
        assert counts == {"image without phrases": 4}

    def test_images_and_annotations_that_do_not_meet(self, shared: Path) -> None:
        tally = Tally()
        with pytest.raises(UserError, match=r"hold no sa_<id>\.jpg with annotations"):
            list(sa1b.read(shared / "data/sources/sa1b", tally))
        assert tally.counts == {"image annotated but missing": 4, "image without annotations": 3}


class TestMasks:
    def test_a_box_is_one_pixel_wider_than_written_and_stays_inside(self, tmp_path: Path) -> None:
        write(tmp_path / "sa_000000", "sa_1", [10, 10, 9, 19], [90, 40, 9, 9], [0, 0, 0, 0])
        (scene,), counts = read(tmp_path)
        boxes = [instance.box for instance in scene.instances]
        assert boxes == [Box(0.1, 0.2, 0.2, 0.6), Box(0.9, 0.8, 1, 1), Box(0, 0, 0.01, 0.02)]
        assert {(instance.label, instance.phrase) for instance in scene.instances} == {("", "")}
        assert counts == {"image without phrases": 1}

    @pytest.mark.parametrize("place", [".", "images", "sa_000020", "images/sa_000020"])
    def test_layouts(self, tmp_path: Path, place: str) -> None:
        write(tmp_path / place, "sa_5", [10, 10, 9, 9])
        (scene,), _ = read(tmp_path)
        assert (scene.id, scene.image) == ("sa_5", tmp_path / place / "sa_5.jpg")

    def test_boxes_that_cannot_be(self, tmp_path: Path) -> None:
        write(tmp_path, "sa_1", [10, 10, -5, 9], [300, 10, 5, 5])
        write(tmp_path, "sa_2", [95, 10, 20, 9])
        scenes, counts = read(tmp_path)
        assert [scene.id for scene in scenes] == ["sa_2"]
        assert scenes[0].instances[0].box == Box(0.95, 0.2, 1, 0.4)
        assert counts["box without area in the image"] == 2
        assert counts["box clipped to the image"] == counts["image without a usable box"] == 1

    @pytest.mark.parametrize(
        "content",
        ['{"image": {"width": 100, "hei', "", "[]", '{"image": {"width": 9, "height": 9}}', "\udce9", "[" * 100_000],
    )
    def test_broken_files_are_named(self, tmp_path: Path, content: str) -> None:
        write(tmp_path, "sa_1", [1, 1, 9, 9])
        file = tmp_path / "sa_1.json"
        file.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match="not a file of SA-1B") as caught:
            list(sa1b.read(tmp_path, Tally()))
        assert str(file) in str(caught.value)

    def test_no_size(self, tmp_path: Path) -> None:
        write(tmp_path, "sa_1", [1, 1, 9, 9])
        (tmp_path / "sa_1.json").write_text('{"image": {"width": 0, "height": 9}, "annotations": []}')
        with pytest.raises(UserError, match="size 0 x 9"):
            list(sa1b.read(tmp_path, Tally()))

    def test_there_are_no_splits(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="has no split 'val'"):
            list(sa1b.read(tmp_path, Tally(), split="val"))


class TestGrandFiles:
    """Where they lie; what is in them: test_grand.py."""

    @pytest.mark.parametrize("place", ["GranD", "GranD/sa_000000", "GranD/part_1"])
    def test_where_its_files_are_looked_for(self, tmp_path: Path, place: str) -> None:
        write(tmp_path / "sa_000000", "sa_1", [1, 1, 9, 9])
        file = describe(tmp_path, {"bbox": [1, 1, 9, 9], "labels": ["cup"]})
        moved = tmp_path / place / file.name
        moved.parent.mkdir(exist_ok=True)
        file.rename(moved)
        ((scene,), counts) = read(tmp_path)
        assert scene.instances[0].label == "cup"
        assert counts == {}

    def test_sa1b_s_own_file_is_not_needed_beside_it(self, tmp_path: Path) -> None:
        write(tmp_path, "sa_1", [1, 1, 9, 9])
        (tmp_path / "sa_1.json").unlink()
        describe(tmp_path, {"bbox": [10, 10, 20, 20], "labels": ["cup"]})
        (scene,), _ = read(tmp_path)
        assert (scene.size, scene.instances[0].box) == ((100, 50), Box(0.1, 0.2, 0.2, 0.4))

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"sa_1.jpg": {"objects": [', "not a file of GranD"),
            ('{"sa_1.jpg": {"objects": [{"bbox": "1,2,3,4"}]}}', r"objects\[0\]\.bbox|\.bbox"),
            ('{"sa_2.jpg": {}}', r"does not describe sa_1\.jpg; it names sa_2\.jpg"),
            ("{}", "it names nothing"),
        ],
    )
    def test_broken_files_are_named(self, tmp_path: Path, content: str, said: str) -> None:
        write(tmp_path, "sa_1", [1, 1, 9, 9])
        file = describe(tmp_path)
        file.write_text(content)
        with pytest.raises(UserError, match=said) as caught:
            list(sa1b.read(tmp_path, Tally()))
        assert str(file) in str(caught.value)
