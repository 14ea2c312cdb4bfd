"""Spot-the-Diff: the official sentences, images made here, and faults."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import spot_the_diff
from migician.sources.scenes import Tally
from migician.sources.spot_the_diff import says_no_difference


def write(root: Path, records: list[Any], split: str = "train", images: list[str] | None = None) -> Path:
    """Annotations, and for each name a pair in which a square of 40 x 40 pixels changes."""
    folder = root / "data"
    (folder / "annotations").mkdir(parents=True)
    (folder / "resized_images").mkdir()
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(records))
    before = np.full((224, 224, 3), 90, np.uint8)
    after = before.copy()
    after[56:96, 112:152] = (200, 40, 40)
    for name in images if images is not None else [record["img_id"] for record in records]:
        Image.fromarray(before).save(folder / "resized_images" / f"{name}.png")
        Image.fromarray(after).save(folder / "resized_images" / f"{name}_2.png")
    return folder


def record(name: str, *sentences: str) -> dict[str, Any]:
    return {"img_id": name, "sentences": list(sentences)}


def test_one_change_has_its_box_in_both_images(tmp_path: Path) -> None:
    folder = write(tmp_path, [record("235", " the red car is gone ", "")], "val")
    tally = Tally()
    (pair,) = spot_the_diff.read(tmp_path, tally, split="val")
    assert pair.box_before == pair.box_after == Box.from_pixels(112, 56, 152, 96, (224, 224))
    assert (pair.id, pair.description, tally.counts) == ("235", "the red car is gone", {})
    assert (pair.before, pair.after) == (folder / "resized_images/235.png", folder / "resized_images/235_2.png")
    assert list(spot_the_diff.read(folder, Tally(), split="val")) == [pair]


def test_several_annotators_of_a_pair_make_one_pair(tmp_path: Path) -> None:
    write(tmp_path, [record("9", "a car is gone"), record("5", "more people"), record("9", "the red car left")])
    tally = Tally()
    pairs = list(spot_the_diff.read(tmp_path, tally))
    assert [(pair.id, pair.description) for pair in pairs] == [("9", "a car is gone"), ("5", "more people")]
    assert tally.counts == {}


@pytest.mark.parametrize(
    ("annotators", "reason"),
    [
        ([["a car is gone", "a man is gone"]], "annotator names several changes"),
        ([["a car is gone"], ["a car is gone", "a man is gone"]], "annotator names several changes"),
        ([["there are no differences"]], "annotator sees no difference"),
        ([["a car is gone"], ["No change."]], "annotator sees no difference"),
        ([[""]], "annotator wrote nothing"),
        ([["a car is gone"], []], "annotator wrote nothing"),
    ],
)
def test_sentences_that_do_not_speak_of_one_change(
    tmp_path: Path, annotators: list[list[str]], reason: str
) -> None:  # fmt: skip
    write(tmp_path, [record("1", *sentences) for sentences in annotators])
    tally = Tally()
    assert list(spot_the_diff.read(tmp_path, tally)) == []
    assert tally.counts == {reason: 1}


@pytest.mark.parametrize(
    ("sentence", "none"),
    [
        ("there are no differences", True),
        ("i don t see a difference in the before and after images", True),
        ("no differnces", True),
        ("nothing in the second shot appears to have changed", True),
        ("no noticeable changes have occurred", True),
        ("Everything is the same.", True),
        ("these images are the same", True),
        ("same picture", True),
        ("none", True),
        ("i honestly don't see any differences between the two images", True),
        ("i can't see a difference", True),
        ("i don't notice anything different between the two", True),
        ("i did not spot any change", True),
        ("nothing changed", True),
        ("there isn't any difference", True),
        ("i couldn't tell the difference", True),
        ("i see nothing different", True),
        ("not much has changed", True),
        ("both images look exactly the same", True),
        ("they are the same", True),
        ("the parking lot looks the same", True),
        ("looks like the same picture", True),
        ("the pictures are very much alike", True),
        ("cannot tell what is different", True),
        ("the scene is unchanged", True),
        ("not a single difference", True),
        ("it is hard to see any difference", True),
        ("the cars all appear to be identical in both images", True),
        ("i see the same picture", True),
        ("there doesn't appear to be any difference", True),
        ("a man is not in a different place he left", False),
        ("the red car is no longer in the different lane", False),
        ("there is no difference in the frame other than the stance of the people in this frame", False),
        ("the two images are identical outside of a small piece of trash in the bottom left corner", False),
        ("both pictures are pretty similar other than the left has everyone in front of the buildings", False),
        ("everything is the same but the truck", False),
        ("i do not see the man in the different spot", False),
        ("no one is standing near the changing lane", False),
        ("there is nothing where the blue car was", False),
        ("the people changed", False),
        ("it is not the same car", False),
        ("the truck is similar to the one that left", False),
        ("the people are still the same in number but have moved", False),
        ("nothing is parked next to the changed car", False),
        ("no cars have moved but the couple walking near the dumpster have changed", False),
        ("the same people are in the group only they have moved slighyly", False),
        ("the position of people in the images are not the same", False),
        ("there is no car on the road in photo 2", False),
        ("the people have changed positions", False),
        ("the difference is there are two people missing", False),
        ("nothing is left of the crowd", False),
        ("people are no longer there", False),
    ],
)
def test_real_ways_to_see_no_difference(sentence: str, none: bool) -> None:
    assert says_no_difference(sentence) is none


def test_sentences_of_the_table(shared: Path) -> None:
    table = shared / "cases" / "text" / "no_difference.tsv"
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert [(none, said) for none, said in rows if says_no_difference(said) != (none == "1")] == []
    assert rows


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("the car is gone on the left side", "the car is gone on the left side"),
        ("2 people in the bottom right corner are gone", "2 people in the bottom right corner are gone"),
        ("a car in the right lane of the left photo", "a car in the right lane of the first image"),
        ("the before photo has a van", "the first image has a van"),
        ("the van is gone", "the van is gone"),
        ("there is a group on three people on the stairs in the r photo", ""),
        ("right picture has people walking up the stairs left does not", ""),
        ("there are 6 people on the left and 2 on the right", ""),
        ("car in second row in after not present in before", ""),
        ("3 people are walking by before there were none", ""),
    ],
)
def test_a_remark_that_may_speak_of_sides_is_not_told(tmp_path: Path, said: str, told: str) -> None:
    write(tmp_path, [record("1", said)])
    (pair,) = spot_the_diff.read(tmp_path, Tally())
    assert pair.description == told


def test_pixels_must_show_one_region_too(tmp_path: Path) -> None:
    folder = write(tmp_path, [record("1", "a car is gone"), record("2", "a car is gone")])
    Image.new("RGB", (224, 224)).save(folder / "resized_images/1_2.png")
    Image.new("RGB", (224, 220)).save(folder / "resized_images/2_2.png")
    tally = Tally()
    assert list(spot_the_diff.read(tmp_path, tally)) == []
    assert tally.counts == {"nothing changes between the images": 1, "images of a pair differ in size": 1}


def test_pickles_that_come_with_it_are_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, [record("1", "a car is gone")])
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    file = folder / "params_eps_20min_samples_9__allrectangles_corrected.obj"
    file.write_bytes(pickle.dumps(Trap()))
    assert len(list(spot_the_diff.read(tmp_path, Tally()))) == 1
    assert not marker.exists()
    pickle.loads(file.read_bytes())
    assert marker.exists()  # the trap does spring


class TestFaults:
    def test_missing_images_are_counted_and_none_at_all_is_an_error(self, tmp_path: Path) -> None:
        folder = write(tmp_path, [record("1", "a car is gone"), record("2", "a car is gone")], images=["1"])
        tally = Tally()
        assert [pair.id for pair in spot_the_diff.read(tmp_path, tally)] == ["1"]
        assert tally.counts == {"pair with an image missing": 1}
        (folder / "resized_images/1_2.png").unlink()
        with pytest.raises(UserError, match="none of its 2 pairs have images"):
            list(spot_the_diff.read(tmp_path, Tally()))

    def test_names_never_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        folder = write(tmp_path, [record("../1", "a car is gone"), record("2", "a car is gone")], images=["../1", "2"])
        assert (folder / "1_2.png").is_file()
        tally = Tally()
        assert [pair.id for pair in spot_the_diff.read(tmp_path, tally)] == ["2"]
        assert tally.counts == {"name that leads out of the folder": 1}

    def test_an_unreadable_image_is_named(self, tmp_path: Path) -> None:
        folder = write(tmp_path, [record("1", "a car is gone")])
        (folder / "resized_images/1_2.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
        with pytest.raises(UserError, match=r"1_2\.png: cannot be read as an image"):
            list(spot_the_diff.read(tmp_path, Tally()))

    @pytest.mark.parametrize(
        "content", [b'[{"img_id": "1", "sen', b'[{"img_id": 1, "sentences": []}]', b'[{"img_id": "\xe9"}]', b""]
    )
    def test_a_broken_file_is_named(self, tmp_path: Path, content: bytes) -> None:
        folder = write(tmp_path, [record("1", "a car is gone")])
        (folder / "annotations/train.json").write_bytes(content)
        with pytest.raises(UserError, match=r"train\.json: not annotations of Spot-the-Diff"):
            list(spot_the_diff.read(tmp_path, Tally()))

    def test_no_such_split(self, tmp_path: Path) -> None:
        write(tmp_path, [record("1", "a car is gone")])
        with pytest.raises(UserError, match=r"dev\.json: cannot be read: No such file"):
            list(spot_the_diff.read(tmp_path, Tally(), split="dev"))


@pytest.mark.parametrize(
    ("split", "pairs", "one_change"), [("train", 300, 108), ("val", 1493, 600), ("test", 1270, 700)]
)
def test_the_official_sentences(shared: Path, tmp_path: Path, split: str, pairs: int, one_change: int) -> None:
    real = shared / "data/sources/spot_the_diff/data/annotations"
    (tmp_path / "annotations").symlink_to(real)
    images = tmp_path / "resized_images"
    images.mkdir()
    plain = images / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    for one in json.loads((real / f"{split}.json").read_text()):
        for name in (f"{one['img_id']}.png", f"{one['img_id']}_2.png"):
            if not (images / name).exists():
                (images / name).hardlink_to(plain)
    tally = Tally()
    assert list(spot_the_diff.read(tmp_path, tally, split=split)) == []
    assert tally.counts["nothing changes between the images"] == one_change
    assert sum(tally.counts.values()) == pairs
