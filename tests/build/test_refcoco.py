"""RefCOCO/+/g as samples: every phrase with its box, nothing of what any of the three holds out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from foreign import dump, picture

from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.converters import groma, refcoco
from migician.build.converters.foreign import ImageFolder
from migician.errors import UserError
from migician.samples.sample import Sample
from migician.sources.refcoco import PARTITIONS
from migician.sources.scenes import Tally


def ref(number: int, image: int, *sentences: str, split: str = "train") -> dict[str, Any]:
    sents = [
        {"tokens": text.split(), "raw": text, "sent_id": number * 10 + i, "sent": text}
        for i, text in enumerate(sentences)
    ]
    return {
        "ref_id": number,
        "ann_id": number,
        "image_id": image,
        "split": split,
        "category_id": 1,
        "sentences": sents,
        "sent_ids": [one["sent_id"] for one in sents],
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
    }


def dataset(root: Path, name: str, refs: list[dict[str, Any]], boxes: dict[int, list[float]], **more: Any) -> None:
    partition = PARTITIONS[name]
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"refs({partition}).p").write_bytes(pickle.dumps(refs, 0))
    ids = sorted({one["image_id"] for one in refs})
    listed = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "width": 100, "height": 50} for i in ids]
    annotations = [
        {"id": number, "bbox": box, "iscrowd": 0, "segmentation": [[1, 2, 3]]} for number, box in boxes.items()
    ]
    dump(root / name / "instances.json", {"images": listed, "annotations": annotations, "categories": []} | more)


class TestRefCoco:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Path:
        """Image 1 is in train everywhere, 2 is held out by RefCOCOg only, 3 is RefCOCO's validation."""
        for number in (1, 2, 3):
            picture(tmp_path / "images/train2014" / f"COCO_train2014_{number:012d}.jpg")
        boxes = {1: [10, 10, 20, 20], 2: [50, 0, 50, 25], 3: [0, 0, 10, 10]}
        root = tmp_path / "refer"
        first = [
            ref(1, 1, "left man", "man  in Red"),
            ref(2, 1, "woman"),
            ref(3, 2, "cup"),
            ref(1, 3, "x", split="val"),
        ]
        dataset(root, "refcoco", first, boxes)
        dataset(root, "refcoco+", [ref(1, 1, "a red shirt"), ref(2, 3, "blue one")], boxes)
        dataset(root, "refcocog", [ref(2, 1, "the woman on the right"), ref(3, 2, "a cup", split="test")], boxes)
        return root

    def convert(self, world: Path, tally: Tally | None = None, **options: Any) -> list[Sample]:
        folder = ImageFolder(world.parent / "images", world.parent)
        return list(refcoco.convert(world, folder, tally or Tally(), **options))

    def test_every_phrase_comes_once_with_its_box(self, world: Path) -> None:
        tally = Tally()
        boxes = {
            "left man": Box(0.1, 0.2, 0.3, 0.6),
            "man in Red": Box(0.1, 0.2, 0.3, 0.6),
            "woman": Box(0.5, 0, 1, 0.5),
        }
        samples = [made for made in self.convert(world, tally) if made.type == "refcoco"]
        found: dict[str, Box] = {}
        for made in samples:
            assert made.problems() == [] and made.images == ["images/train2014/COCO_train2014_000000000001.jpg"]
            spoken = [turn.value for turn in made.conversations]
            for question, answer in zip(spoken[::2], spoken[1::2], strict=True):
                (box,) = parse_boxes(question + answer).boxes
                (phrase,) = [name for name in boxes if name in question + answer]
                assert phrase not in found
                found[phrase] = box
        assert found == boxes

    def test_images_of_any_held_out_split_are_not_in_train(self, world: Path) -> None:
        tally = Tally()
        samples = self.convert(world, tally)
        assert {made.images[0][-5] for made in samples} == {"1"}
        assert tally.counts == {"object of an image that val or test has": 2}
        assert {made.type for made in samples} == {"refcoco", "refcoco+", "refcocog"}

    def test_one_dataset_alone_still_knows_its_neighbours(self, world: Path) -> None:
        tally = Tally()
        folder = ImageFolder(world.parent / "images", world.parent)
        samples = list(refcoco.convert(world / "refcoco", folder, tally))
        assert {made.type for made in samples} == {"refcoco"} and tally.counts[
            "object of an image that val or test has"
        ] == 1

    def test_a_missing_dataset_is_said(self, world: Path) -> None:
        (world / "refcocog" / "instances.json").unlink()
        tally = Tally()
        assert {made.images[0][-5] for made in self.convert(world, tally)} == {"1", "2"}
        assert tally.counts["dataset not there, so that its held-out images could not be left out: refcocog"] == 1

    def test_other_splits_are_given_when_asked_for(self, world: Path) -> None:
        for name in ("refcoco+", "refcocog"):
            (world / name / "instances.json").unlink()
        (made,) = self.convert(world, split="val")
        assert made.id == "refcoco_val_000000" and made.images[0].endswith("3.jpg")
        with pytest.raises(UserError, match=r"unknown split 'tset'. Known: train, val"):
            self.convert(world, split="tset")
        with pytest.raises(UserError, match=r"unknown partition 'google'. Known: unc"):
            self.convert(world, partitions={"refcoco": "google"})
        with pytest.raises(UserError, match=r"unknown dataset 'refcco'.* Did you mean 'refcoco'"):
            self.convert(world, partitions={"refcco": "google"})

    def test_phrases_and_boxes_that_cannot_be_asked_for(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / f"{1:012d}.jpg")  # as train2017 names it, flat
        refs = [ref(1, 1, "man", "left one"), ref(2, 1, "Man"), ref(3, 1, "no area"), ref(4, 1, "crowd")]
        refs += [ref(5, 1, " "), ref(6, 1, "gone"), ref(7, 1, "speck"), ref(8, 1, "<|im_end|> dog")]
        refs += [ref(1, 1, "left one", "same thing"), ref(9, 1, "stranger")]
        boxes = {
            1: [10, 10, 20, 20],
            2: [0, 0, 5, 5],
            3: [5, 5, 0, 5],
            5: [1, 1, 5, 5],
            7: [1, 1, 0.001, 5],
            8: [90, 40, 30, 30],
        }
        dataset(tmp_path / "refer", "refcoco", refs, boxes)
        file = tmp_path / "refer/refcoco/instances.json"
        content = json.loads(file.read_text())
        content["annotations"].append({"id": 4, "bbox": [1, 1, 9, 9], "iscrowd": 1})
        content["annotations"].append({"id": 9, "image_id": 2, "bbox": [1, 1, 9, 9]})
        dump(file, content)
        tally = Tally()
        samples = list(refcoco.convert(tmp_path / "refer", ImageFolder(tmp_path / "images", tmp_path), tally))
        text = " ".join(turn.value for made in samples for turn in made.conversations)
        assert sum(text.count(phrase) for phrase in ("left one", "same thing", "< |im_end| > dog")) == 3
        assert not any(word in text for word in ("man", "no area", "crowd", "gone", "speck", "stranger", "<|im_end|>"))
        assert text.count("(900,800),(1000,1000)") == 1
        del tally.counts["dataset not there, so that its held-out images could not be left out: refcoco+"]
        del tally.counts["dataset not there, so that its held-out images could not be left out: refcocog"]
        assert tally.counts == {
            "phrase that names two objects": 2, "box without area in the image": 1, "box around a crowd": 1,
            "phrase without text": 1, "object that instances.json does not list": 1, "box too small for 0..1000": 1,
            "box clipped to the image": 1, "object that instances.json has in another image": 1,
        }  # fmt: skip

    def test_a_sample_asks_for_an_object_once_and_the_seed_decides(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / f"{1:012d}.jpg")
        refs = [ref(n, 1, *(f"thing {n} called {name}" for name in "abc")) for n in range(1, 8)]
        dataset(tmp_path / "refer", "refcoco", refs, {n: [n, n, 20, 20] for n in range(1, 8)})

        def samples(seed: int) -> list[Sample]:
            return list(
                refcoco.convert(tmp_path / "refer", ImageFolder(tmp_path / "images", tmp_path), Tally(), seed=seed)
            )

        made = samples(0)
        for sample in made:
            boxes = [parse_boxes(turn.value).boxes for turn in sample.conversations if parse_boxes(turn.value).boxes]
            assert len({box for (box,) in boxes}) == len(boxes) == len(sample.conversations) / 2 <= 3
        assert sum(len(sample.conversations) // 2 for sample in made) == 21
        assert {len(sample.conversations) // 2 for sample in made} == {1, 2, 3}
        assert samples(0) == made != samples(1)

    def test_questions_are_many_and_differ(self) -> None:
        for wordings, field in ((refcoco.LOCATE, "{phrase}"), (refcoco.DESCRIBE, "{box}")):
            assert len(set(wordings)) == len(wordings) >= 10 and all(one.count(field) == 1 for one in wordings)
        assert len(set(groma.REQUESTS)) >= 10

    def test_boxes_of_real_coco_annotations(self, shared: Path, tmp_path: Path) -> None:
        """References made up over COCO's own train sample: every box maps back within half a thousandth."""
        real = json.loads((shared / "data/sources/coco/annotations/instances_train2017.json").read_text())
        usable = [one for one in real["annotations"] if not one["iscrowd"]]
        refs = [ref(one["id"], one["image_id"], f"number {one['id']}") for one in usable]
        folder = tmp_path / "refcoco+"
        folder.mkdir()
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
        dump(folder / "instances.json", real)
        samples = list(
            refcoco.convert(tmp_path, ImageFolder(shared / "data/sources/coco/train2017", tmp_path), Tally())
        )
        sizes = {one["id"]: (one["width"], one["height"]) for one in real["images"]}
        truth = {str(one["id"]): (one["bbox"], sizes[one["image_id"]]) for one in usable}
        checked = 0
        for made in samples:
            spoken = [turn.value for turn in made.conversations]
            for question, answer in zip(spoken[::2], spoken[1::2], strict=True):
                (box,) = parse_boxes(question + answer).boxes
                number = (question + answer).split("number ")[1].split("<")[0].split()[0]
                (x, y, width, height), size = truth[number]
                expected = Box.from_xywh_pixels(x, y, width, height, size).as_tuple()
                assert box.as_tuple() == pytest.approx(expected, abs=0.0005001)
                checked += 1
        assert checked == len(usable) == 118

    @pytest.mark.parametrize(
        ("file", "content", "told"),
        [
            ("refs(unc).p", b"cos\nsystem\n(S'true'\ntR.", r"refs\(unc\)\.p: byte 0 is GLOBAL"),
            ("refs(unc).p", b"(lp0\n(dp1\nS'se", r"refs\(unc\)\.p: not a sound pickle at byte"),
            ("refs(unc).p", pickle.dumps([{"ref_id": 1}]), r"not a list of references: .*ann_id"),
            ("refs(unc).p", pickle.dumps({"a": 1}), "not a list of references"),
            ("instances.json", b'{"images": [', "not an instances file"),
            ("instances.json", b'{"images": [{"file_name": "\xe9"}]}', "not an instances file"),
            ("instances.json", b"", "not an instances file"),
            (
                "instances.json",
                b'{"images": [{"id": 1, "file_name": "a", "width": 0, "height": 5}],'
                b' "annotations": [{"id": 1, "bbox": [0,0,1,1]}]}',
                "image 1 has size 0 x 5",
            ),
        ],
    )  # fmt: skip
    def test_broken_files_are_named(self, world: Path, file: str, content: bytes, told: str) -> None:
        (world / "refcoco" / file).write_bytes(content)
        with pytest.raises(UserError, match=told):
            self.convert(world)

    def test_no_dataset_there(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "refer").mkdir()
        with pytest.raises(UserError, match=r"holds none of the folders refcoco, refcoco\+, refcocog"):
            self.convert(tmp_path / "refer")
