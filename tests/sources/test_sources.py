"""Readers against real annotation files (counts taken from the files by hand) and against broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import SOURCES, coco, got10k, magicbrush, objects365
from migician.sources.scenes import Scene, Tally, Track


def picture(file: Path, size: tuple[int, int] = (100, 50), colour: tuple[int, int, int] = (90, 90, 90)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return file


def instances(file: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    listed = images or [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}]
    content = {"images": listed, "annotations": annotations, "categories": [{"id": 3, "name": "dog"}]}
    file.write_text(json.dumps(content))


def annotation(*bbox: float, **flags: int) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 3, "bbox": list(bbox), "iscrowd": 0, **flags}


class TestCoco:
    def test_the_real_train_sample(self, shared: Path) -> None:
        tally = Tally()
        scenes = list(coco.read(shared / "data/sources/coco", tally))
        # The file has 12 images and 122 boxes, 4 of them crowds; one image has nothing but a crowd.
        assert len(scenes) == 11
        assert sum(len(scene.instances) for scene in scenes) == 118
        assert tally.counts == {"box around a crowd": 4, "image without a usable box": 1}

    def test_the_real_val_sample(self, shared: Path) -> None:
        tally = Tally()
        scenes = list(coco.read(shared / "data/sources/coco", tally, split="val"))
        assert (len(scenes), sum(len(scene.instances) for scene in scenes)) == (6, 135)
        cup = scenes[0].instances[0]
        assert (cup.label, scenes[0].size, scenes[0].image.name) == ("cup", (640, 480), "000000471345.jpg")
        x1, y1, x2, y2 = cup.box.to_pixels((640, 480))
        assert (x1, y1, x2 - x1, y2 - y1) == pytest.approx((435.58, 235.5, 147.34, 168.3))

    def test_sizes_of_the_file_are_those_of_the_images(self, shared: Path) -> None:
        for scene in coco.read(shared / "data/sources/coco", Tally()):
            with Image.open(scene.image) as image:
                assert image.size == scene.size

    def test_boxes_are_clipped_dropped_and_counted(self, tmp_path: Path) -> None:
        picture(tmp_path / "train2017" / "a.jpg")
        boxes = [annotation(-10, 5, 30, 10), annotation(5, 5, 0, 10), annotation(200, 5, 9, 9), annotation(1, 1, 9, 9)]
        instances(tmp_path / "annotations" / "instances_train2017.json", boxes)
        tally = Tally()
        (scene,) = coco.read(tmp_path, tally)
        assert [instance.box for instance in scene.instances] == [Box(0, 0.1, 0.2, 0.3), Box(0.01, 0.02, 0.1, 0.2)]
        assert tally.counts == {"box clipped to the image": 1, "box without area in the image": 2}

    def test_a_missing_image_is_counted_and_none_at_all_is_an_error(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}]
        images.append({"id": 8, "file_name": "b.jpg", "width": 100, "height": 50})
        file = tmp_path / "annotations" / "instances_train2017.json"
        instances(file, [annotation(1, 1, 9, 9)], images)
        with pytest.raises(UserError, match=r"none of its 2 images are there, such as a\.jpg"):
            list(coco.read(tmp_path, Tally()))
        picture(tmp_path / "train2017" / "a.jpg")
        tally = Tally()
        assert len(list(coco.read(tmp_path, tally))) == 1
        assert tally.counts == {"image annotated but missing": 1}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b'{"images": [{"id": 1, "file_na', "not an instances file"),
            (b'{"images": [], "annotations": [{"image_id": "x"}], "categories": []}', r"annotations\[0\]\.image_id"),
            (b"", "cannot be read"),
            (
                b'{"images": [], "categories": [],'
                b' "annotations": [{"image_id": 1, "category_id": 5, "bbox": [1, 1, 1, 1]}]}',
                "annotation 0 has category 5",
            ),
        ],
    )
    def test_broken_files_are_named(self, tmp_path: Path, content: bytes, said: str) -> None:
        file = tmp_path / "annotations" / "instances_train2017.json"
        file.parent.mkdir()
        file.write_bytes(content)
        with pytest.raises(UserError, match=said) as caught:
            list(coco.read(tmp_path, Tally()))
        assert str(file) in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"instances_train2017\.json"):
            list(coco.read(tmp_path, Tally()))


class TestObjects365:
    def test_real_records_through_the_layout_of_the_archives(self, shared: Path, tmp_path: Path) -> None:
        real = shared / "data/sources/objects365/annotations/zhiyuan_objv2_train_viewer_excerpt.json"
        content = json.loads(real.read_text())
        (tmp_path / "zhiyuan_objv2_train.json").write_bytes(real.read_bytes())
        for image in content["images"]:  # the archives unpack to train/patchN/<name>; one image stays missing
            if image["id"] != 389926:
                patch, name = image["file_name"].split("/")[-2:]
                picture(tmp_path / "train" / patch / name)
        tally = Tally()
        scenes = list(objects365.read(tmp_path, tally))
        assert [scene.id for scene in scenes] == ["2279549", "2278994", "384682", "391122", "411425", "420917"]
        assert tally.counts["image annotated but missing"] == 1
        assert tally.counts["box clipped to the image"] == 2  # by 0.0011 and 0.0015 of the image
        assert all(instance.box.is_proper for scene in scenes for instance in scene.instances)
        assert scenes[0].size == (500, 333)

    @pytest.mark.parametrize("flag", ["iscrowd", "isfake", "isreflected"])
    def test_flagged_boxes_are_counted_not_used(self, tmp_path: Path, flag: str) -> None:
        picture(tmp_path / "patch1" / "a.jpg")
        images = [{"id": 7, "file_name": "images/v2/patch1/a.jpg", "width": 100, "height": 50}]
        instances(tmp_path / "annotations" / "zhiyuan_objv2_val.json", [annotation(1, 1, 9, 9, **{flag: 1})], images)
        tally = Tally()
        assert list(objects365.read(tmp_path, tally, split="val")) == []
        assert len(tally.counts) == 2
        assert tally.counts["image without a usable box"] == 1

    @pytest.mark.parametrize(
        "place",
        ["train/patch1/a.jpg", "patch1/a.jpg", "images/train/patch1/a.jpg", "images/v2/patch1/a.jpg", "train/a.jpg"],
    )
    def test_layouts_of_images(self, tmp_path: Path, place: str) -> None:
        picture(tmp_path / place)
        images = [{"id": 7, "file_name": "images/v2/patch1/a.jpg", "width": 100, "height": 50}]
        instances(tmp_path / "zhiyuan_objv2_train.json", [annotation(1, 1, 9, 9)], images)
        (scene,) = objects365.read(tmp_path, Tally())
        assert scene.image == tmp_path / place

    def test_neither_release_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"zhiyuan_objv2_train\.json nor objects365_train\.json"):
            objects365.read(tmp_path, Tally())


class TestGot10k:
    @pytest.fixture
    def sequence(self, tmp_path: Path) -> Path:
        folder = tmp_path / "train" / "GOT-10k_Train_000001"
        for number in range(1, 6):
            picture(folder / f"{number:08d}.jpg")
        rows = ["10.0000,5.0000,20.0000,10.0000", "-5,5,20,10", "0,0,0,0", "10,5,20,10", "10,5,20,10"]
        (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
        (folder / "absence.label").write_text("0\n0\n1\n0\n0\n")
        (folder / "cover.label").write_text("8\n8\n0\n0\n1\n")
        (folder / "meta_info.ini").write_text("[METAINFO]\nurl: https://youtu.be/P-fKM\nobject_class: ctenophore\n")
        (tmp_path / "train" / "list.txt").write_text("GOT-10k_Train_000001\n")
        return folder

    def test_boxes_and_visibility(self, tmp_path: Path, sequence: Path) -> None:
        tally = Tally()
        (track,) = got10k.read(tmp_path, tally)
        assert track.label == "ctenophore"
        # Frame 3 is absent, frame 4 wholly covered.
        assert [frame.box for frame in track.frames] == [
            Box(0.1, 0.1, 0.3, 0.3),
            Box(0, 0.1, 0.15, 0.3),
            None,
            None,
            Box(0.1, 0.1, 0.3, 0.3),
        ]
        assert tally.counts == {"box clipped to the image": 1}

    def test_parts_of_the_download_may_be_missing(self, tmp_path: Path, sequence: Path) -> None:
        (tmp_path / "train" / "list.txt").write_text("GOT-10k_Train_000001\nGOT-10k_Train_000002\n")
        tally = Tally()
        assert len(list(got10k.read(tmp_path, tally))) == 1
        assert tally.counts["sequence in list.txt without a folder"] == 1

    @pytest.mark.parametrize(
        ("file", "content", "said"),
        [
            ("groundtruth.txt", "1,2,3,4\n" * 4, "4 lines for 5 frames"),
            ("groundtruth.txt", "1,2,3,4\n" * 4 + "1,2,3\n", "line 5 is not x,y,w,h"),
            ("cover.label", "8\n8\nx\n8\n8\n", "line 3 is not a whole number"),
            ("absence.label", "", "0 lines for 5 frames"),
        ],
    )
    def test_faults_name_file_and_line(
        self, tmp_path: Path, sequence: Path, file: str, content: str, said: str
    ) -> None:
        (sequence / file).write_text(content)
        with pytest.raises(UserError, match=said) as caught:
            list(got10k.read(tmp_path, Tally()))
        assert str(sequence / file) in str(caught.value)

    def test_an_image_cut_off(self, tmp_path: Path, sequence: Path) -> None:
        (sequence / "00000001.jpg").write_bytes(b"\xff\xd8\xff")
        with pytest.raises(UserError, match=r"00000001\.jpg: cannot be read as an image"):
            list(got10k.read(tmp_path, Tally()))

    def test_the_test_split_has_no_boxes(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no boxes after the first frame"):
            list(got10k.read(tmp_path, Tally(), split="test"))


class TestMagicBrush:
    @staticmethod
    def write(root: Path, mask: np.ndarray, before: np.ndarray | None = None, after: np.ndarray | None = None) -> None:
        folder = root / "dev" / "images" / "1"
        folder.mkdir(parents=True)
        plain = np.full((50, 100, 3), 90, np.uint8)
        changed = plain.copy()
        changed[10:30, 20:60] = 200
        images = {"input": plain if before is None else before, "output1": changed if after is None else after}
        for name, pixels in (images | {"mask1": mask}).items():
            Image.fromarray(pixels).save(folder / f"1-{name}.png")
        turn = {"input": "1-input.png", "mask": "1-mask1.png", "output": "1-output1.png", "instruction": "light it"}
        (root / "dev" / "edit_sessions.json").write_text(json.dumps({"1": [turn]}))

    @staticmethod
    def mask(ground: int = 0) -> np.ndarray:
        mask = np.full((50, 100, 3), ground, np.uint8)
        mask[10:30, 20:60] = 255
        return mask

    def test_box_of_a_white_region_on_black(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.mask())
        (pair,) = magicbrush.read(tmp_path, Tally(), split="dev")
        assert pair.box_before == pair.box_after == Box(0.2, 0.2, 0.6, 0.6)
        assert (pair.id, pair.description, pair.before.name, pair.after.name) == (
            "1-1",
            "light it",
            "1-input.png",
            "1-output1.png",
        )

    def test_a_white_sky_is_not_the_mask(self, tmp_path: Path) -> None:
        before = np.full((50, 100, 3), 90, np.uint8)
        before[:8] = 255
        mask, after = before.copy(), before.copy()
        mask[10:30, 20:60] = 255
        after[10:30, 20:60] = 200
        self.write(tmp_path, mask, before, after)
        (pair,) = magicbrush.read(tmp_path, Tally(), split="dev")
        assert pair.box_before == Box(0.2, 0.2, 0.6, 0.6)

    def test_a_region_cut_out_of_the_image(self, tmp_path: Path) -> None:
        mask = np.full((50, 100, 4), 90, np.uint8)
        mask[..., 3] = 255
        mask[10:30, 20:60, 3] = 0
        self.write(tmp_path, mask)
        (pair,) = magicbrush.read(tmp_path, Tally(), split="dev")
        assert pair.box_before == Box(0.2, 0.2, 0.6, 0.6)

    @pytest.mark.parametrize("size", [(200, 100), (150, 75), (1024, 512), (50, 25), (1000, 501)])
    @pytest.mark.parametrize("kind", ["black", "photo", "sky", "alpha"])
    def test_a_mask_of_another_resolution(self, tmp_path: Path, size: tuple[int, int], kind: str) -> None:
        before, after = np.full((50, 100, 3), 90, np.uint8), np.full((50, 100, 3), 90, np.uint8)
        if kind == "sky":
            before[:8] = after[:8] = 255
        after[10:30, 20:60] = 200
        picture = Image.fromarray(before).resize(size, Image.Resampling.BICUBIC)
        corners = [round(part * side) for part, side in zip((0.2, 0.2, 0.6, 0.6), (*size, *size), strict=True)]
        if kind == "black":
            picture = Image.new("RGB", size)
        elif kind == "alpha":
            picture.putalpha(255)
        picture.paste((255, 255, 255, 0) if kind == "alpha" else (255, 255, 255), corners)
        self.write(tmp_path, np.asarray(picture), before, after)
        (pair,) = magicbrush.read(tmp_path, Tally(), split="dev")
        assert pair.box_before is not None
        # A pixel of the coarser of the two.
        near = 1 / min(50, size[1])
        assert pair.box_before.as_tuple() == pytest.approx((0.2, 0.2, 0.6, 0.6), abs=near)

    def test_specks_do_not_widen_the_box(self, tmp_path: Path) -> None:
        mask = self.mask()
        mask[49, 99] = 255
        self.write(tmp_path, mask)
        (pair,) = magicbrush.read(tmp_path, Tally(), split="dev")
        assert pair.box_before == Box(0.2, 0.2, 0.6, 0.6)

    @pytest.mark.parametrize(
        "fault",
        [
            "mask marks nothing",
            "nothing changes inside the mask",
            "images of a turn differ in size",
            "mask of another shape than its image",
        ],
    )
    def test_useless_turns_are_counted(self, tmp_path: Path, fault: str) -> None:
        mask, after = self.mask(), None
        if fault == "mask marks nothing":
            mask = np.zeros_like(mask)
        elif fault == "nothing changes inside the mask":
            after = np.full((50, 100, 3), 90, np.uint8)
        elif fault == "mask of another shape than its image":
            mask = np.full((100, 100, 3), 255, np.uint8)
        else:
            after = np.full((60, 100, 3), 200, np.uint8)
        self.write(tmp_path, mask, after=after)
        tally = Tally()
        assert list(magicbrush.read(tmp_path, tally, split="dev")) == []
        assert tally.counts == {fault: 1}

    def test_all_turns_of_the_real_dev_split_are_looked_for(self, shared: Path, tmp_path: Path) -> None:
        real = json.loads((shared / "data/sources/magicbrush/dev/edit_sessions.json").read_text())
        turn = real["142585"][0]
        folder = tmp_path / "dev" / "images" / "142585"
        picture(folder / turn["input"], colour=(10, 10, 10))
        picture(folder / turn["output"], colour=(99, 99, 99))
        picture(folder / turn["mask"], colour=(255, 255, 255))
        (tmp_path / "dev" / "edit_sessions.json").write_text(json.dumps(real))
        tally = Tally()
        (pair,) = magicbrush.read(tmp_path, tally, split="dev")
        assert pair.description == "Let the van turn black."
        assert tally.counts == {"turn annotated but an image is missing": 527}  # 528 turns in 266 sessions

    def test_without_images(self, shared: Path) -> None:
        with pytest.raises(UserError, match="none of its images are there"):
            list(magicbrush.read(shared / "data/sources/magicbrush", Tally(), split="dev"))

    def test_the_test_split_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="never be redistributed"):
            list(magicbrush.read(tmp_path, Tally(), split="test"))

    def test_an_unreadable_mask_is_named(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.mask())
        (tmp_path / "dev/images/1/1-mask1.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
        with pytest.raises(UserError, match=r"1-mask1\.png: cannot be read as an image"):
            list(magicbrush.read(tmp_path, Tally(), split="dev"))


def test_every_source_gives_what_it_declares() -> None:
    assert {source.gives for source in SOURCES.values()} >= {Scene, Track}
    assert len({source.folder for source in SOURCES.values()}) == len(SOURCES)
