"""Img-Diff: the published records, boxes in both spellings, and above all the red frame that gives answers away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import img_diff
from migician.sources.index import make_index
from migician.sources.scenes import Tally
from migician.tasks import difference
from migician.tasks.draft import Plan

QUESTION = 'Which image has the object related to "A red frisbee."?\nA. the left image\nB. the right image\nAnswer.'


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Patches of many colours, reds among them."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def framed(image: Image.Image, box: Box, width: int) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).rectangle([round(value) for value in box.to_pixels(image.size)], outline="red", width=width)
    return copy


def planned(root: Path, refused: Tally, settings: difference.DifferenceSettings) -> list[Plan]:
    """What the task takes of a source, through its index."""
    pairs = make_index("img_diff", root, root / "index").items
    return list(difference.plan(pairs, 0, refused, settings))


def write(
    root: Path, record: dict[str, Any], place: str = "", kind: str = "replacement", frame: int = 0, quality: int = 75
) -> None:
    """One record, and its two images at `place`, with a frame so many pixels wide."""
    root.mkdir(exist_ok=True)
    (root / f"img_diff_object_{kind}.json").write_text(json.dumps([record]))
    for side in range(2):
        image = photograph(side)
        if frame:
            written = record["bbox"]
            image = framed(image, Box(*(json.loads(written) if isinstance(written, str) else written)), frame)
        file = root / f"{place or record['path']}_{side}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, quality=quality)


RECORD = {"path": "./filtered_new_edit_data/2_2311_0", "bbox": "[0.40, 0.25, 0.60, 0.50]"}


@pytest.mark.parametrize(
    ("bbox", "kind"), [("[0.40, 0.25, 0.60, 0.50]", "replacement"), ([0.4, 0.25, 0.6, 0.5], "removal")]
)
def test_boxes_are_texts_and_lists(tmp_path: Path, bbox: Any, kind: str) -> None:
    write(tmp_path, RECORD | {"bbox": bbox}, kind=kind)
    (pair,) = img_diff.read(tmp_path, Tally())
    assert pair.box_before == pair.box_after == Box(0.4, 0.25, 0.6, 0.5)
    assert (pair.id, pair.before.name, pair.after.name) == (f"{kind}-2_2311_0", "2_2311_0_0.jpg", "2_2311_0_1.jpg")
    assert not pair.box_shown


@pytest.mark.parametrize(
    "bbox",
    ["", "[0.1, 0.2, 0.3]", "[0.1, 0.2, 0.3, 0.4, 0.5]", "__import__('os')", [0.1, 0.2, 0.3], [0.5, 0.2, 0.5, 0.4],
     [0.6, 0.2, 0.5, 0.4], [0, 0, 300, 200], [-0.1, 0.1, 0.5, 0.5], "(0.1, 0.2, 0.3, 0.4)", '["a", 0.2, 0.3, 0.4]'],
)  # fmt: skip
def test_what_is_no_box_is_counted(tmp_path: Path, bbox: Any) -> None:
    write(tmp_path, RECORD | {"bbox": bbox})
    tally = Tally()
    assert list(img_diff.read(tmp_path, tally)) == []
    assert tally.counts == {"box that is not x1, y1, x2, y2 within the image": 1}


class TestFrame:
    @settings(deadline=None, max_examples=60)
    @given(
        corner=st.tuples(st.integers(0, 60), st.integers(0, 60)),
        sides=st.tuples(st.integers(10, 39), st.integers(10, 39)),
        width=st.integers(2, 5),
        quality=st.sampled_from([70, 85, 95]),
        seed=st.integers(0, 1000),
        shift=st.tuples(*[st.floats(-0.005, 0.005)] * 4),
    )
    def test_it_is_found_wherever_it_is_drawn(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        corner: tuple[int, int],
        sides: tuple[int, int],
        width: int,
        quality: int,
        seed: int,
        shift: tuple[float, float, float, float],
    ) -> None:
        (x, y), (across, down) = corner, sides
        exact = [x / 100, y / 100, (x + across) / 100, (y + down) / 100]
        true = Box(*(value + moved for value, moved in zip(exact, shift, strict=True)))  # the file's box is rounded
        file = tmp_path_factory.mktemp("frame") / "a.jpg"
        framed(photograph(seed), true, width).save(file, quality=quality)
        with Image.open(file) as opened:
            assert img_diff.is_framed(np.asarray(opened), Box(*exact))

    def test_it_is_hardly_ever_seen_where_there_is_none(self) -> None:
        seen = 0
        for seed in range(200):  # red patches among others, in boxes of any place and size
            rng = np.random.default_rng(seed)
            (x, y), (width, height) = rng.integers(0, 61, 2) / 100, rng.integers(10, 40, 2) / 100
            seen += img_diff.is_framed(np.asarray(photograph(seed)), Box(x, y, x + width, y + height))
        assert seen <= 2

    @pytest.mark.parametrize("ground", [(150, 60, 40), (220, 170, 140), (255, 0, 0)])
    def test_brick_and_skin_are_no_frame(self, ground: tuple[int, int, int]) -> None:
        assert not img_diff.is_framed(np.full((240, 320, 3), ground, np.uint8), Box(0.2, 0.3, 0.6, 0.6))

    @pytest.mark.parametrize("frame", [2, 4])
    def test_such_a_pair_is_marked_and_the_task_leaves_it_out(self, tmp_path: Path, frame: int) -> None:
        write(tmp_path, RECORD, frame=frame)
        pairs = list(img_diff.read(tmp_path, Tally()))
        assert [pair.box_shown for pair in pairs] == [True]
        refused = Tally()
        assert planned(tmp_path, refused, difference.DifferenceSettings()) == []
        assert refused.counts == {"box drawn on the images, which shows the answer": 1}

    def test_the_recipe_may_ask_for_the_pairs_as_published(self, tmp_path: Path) -> None:
        write(tmp_path, RECORD, frame=3)
        refused = Tally()
        published = difference.DifferenceSettings(boxes_shown=True)
        assert planned(tmp_path, refused, published) == [(0, 0)]
        assert refused.counts == {}

    def test_a_frame_on_one_image_is_enough(self, tmp_path: Path) -> None:
        write(tmp_path, RECORD, frame=3)
        photograph(1).save(tmp_path / f"{RECORD['path']}_1.jpg")
        (pair,) = img_diff.read(tmp_path, Tally())
        assert pair.box_shown

    def test_a_red_thing_beside_the_box_is_no_frame(self) -> None:
        pixels = np.full((240, 320, 3), 120, np.uint8)
        pixels[:, 130:140] = (255, 0, 0)  # along one side of four
        assert not img_diff.is_framed(pixels, Box(0.41, 0.3, 0.7, 0.6))

    def test_a_frame_cut_by_the_border(self) -> None:
        image = framed(photograph(3), Box(-0.02, 0.3, 0.4, 0.7), 3)
        assert img_diff.is_framed(np.asarray(image), Box(0, 0.3, 0.4, 0.7))


@pytest.mark.parametrize(
    "place",
    ["filtered_new_edit_data/2_2311_0", "2_2311_0", "object_replacement/filtered_new_edit_data/2_2311_0",
     "object_replacement/2_2311_0"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["./filtered_new_edit_data/2_2311_0", "filtered_new_edit_data/2_2311_0", "2_2311_0"])
def test_layouts_of_images(tmp_path: Path, place: str, path: str) -> None:
    write(tmp_path, RECORD | {"path": path}, place)
    (pair,) = img_diff.read(tmp_path, Tally())
    assert pair.after == tmp_path / f"{place}_1.jpg"


@pytest.mark.parametrize("path", ["../secret", "./inpaint/../../secret", "{root}/secret", "", ".", "a\\..\\secret"])
def test_paths_never_lead_out_of_the_folder(tmp_path: Path, path: str) -> None:
    given_path = path.format(root=tmp_path)
    root = tmp_path / "in"
    write(root, RECORD | {"path": given_path}, place="../secret")  # the images are there, outside
    tally = Tally()
    assert list(img_diff.read(root, tally)) == []
    assert tally.counts == {"path that leads out of the folder": 1}


def test_several_records_of_one_pair_each_tell_a_part(tmp_path: Path) -> None:
    write(tmp_path, RECORD)
    other = RECORD | {"path": "2_1_0"}
    records = [RECORD, other, RECORD | {"bbox": "[0.1, 0.1, 0.2, 0.2]"}]
    (tmp_path / "img_diff_object_replacement.json").write_text(json.dumps(records))
    for side in range(2):
        photograph(side).save(tmp_path / f"2_1_0_{side}.jpg")
    tally = Tally()
    assert [pair.id for pair in img_diff.read(tmp_path, tally)] == ["replacement-2_1_0"]
    assert tally.counts == {"pair with several boxes": 2}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"captions1": "A black camera.", "captions2": "TV."}, "a black camera becomes TV"),
        ({"conversations": [{"value": QUESTION}, {"value": "B"}]}, "a red frisbee is new"),
        ({"conversations": [{"value": QUESTION}, {"value": "A."}]}, "a red frisbee is gone"),
        ({"conversations": [{"value": QUESTION}, {"value": "C"}]}, ""),
        ({"conversations": [{"value": "What differs?"}, {"value": "The red bounding box holds a dog."}]}, ""),
        ({"conversations": []}, ""),
    ],
)
def test_descriptions(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    write(tmp_path, RECORD | fields)
    (pair,) = img_diff.read(tmp_path, Tally())
    assert pair.description == said


def test_the_real_records(shared: Path, tmp_path: Path) -> None:
    real = shared / "data/sources/img_diff"
    for kind in ("replacement", "removal"):
        content = (real / f"img_diff_object_{kind}.json").read_bytes()
        (tmp_path / f"img_diff_object_{kind}.json").write_bytes(content)
        for record in json.loads(content):
            for side in range(2):
                file = tmp_path / f"{record['path']}_{side}.jpg"
                file.parent.mkdir(exist_ok=True)
                photograph(side, (1024, 1024)).save(file)
    tally = Tally()
    pairs = list(img_diff.read(tmp_path, tally))
    assert [(pair.box_before, pair.description) for pair in pairs] == [
        (Box(0.86, 0.41, 0.98, 0.54), "the front of a truck becomes a yellow tractor"),
        (Box(0.4, 0.07, 0.64, 0.18), "a black camera becomes a stack of white plates"),
        (Box(0.63, 0.35, 0.77, 0.44), "a red frisbee is new"),
    ]
    assert tally.counts == {}
    with pytest.raises(UserError, match="none of the images of its 3 pairs are there"):
        list(img_diff.read(real, Tally()))


class TestFaults:
    def test_images_missing_or_of_two_sizes_are_counted(self, tmp_path: Path) -> None:
        write(tmp_path, RECORD)
        photograph(1, (100, 100)).save(tmp_path / "filtered_new_edit_data/2_2311_0_1.jpg")
        records = [RECORD, RECORD | {"path": "./filtered_new_edit_data/1_1_0"}]
        (tmp_path / "img_diff_object_replacement.json").write_text(json.dumps(records))
        tally = Tally()
        assert list(img_diff.read(tmp_path, tally)) == []
        assert tally.counts == {"images of a pair differ in size": 1, "pair with an image missing": 1}

    def test_an_image_cut_off(self, tmp_path: Path) -> None:
        write(tmp_path, RECORD)
        file = tmp_path / "filtered_new_edit_data/2_2311_0_0.jpg"
        file.write_bytes(file.read_bytes()[:900])
        with pytest.raises(UserError, match=r"2_2311_0_0\.jpg: cannot be read as an image"):
            list(img_diff.read(tmp_path, Tally()))

    @pytest.mark.parametrize("content", [b'[{"path": "a", "bb', b'[{"path": "a"}]', b'[{"path": "\xe9", "bbox": []}]'])
    def test_a_broken_file_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "img_diff_object_removal.json").write_bytes(content)
        with pytest.raises(UserError, match=r"img_diff_object_removal\.json: not records of Img-Diff"):
            list(img_diff.read(tmp_path, Tally()))

    def test_no_file_and_no_such_split(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"holds neither img_diff_object_replacement\.json nor"):
            list(img_diff.read(tmp_path, Tally()))
        with pytest.raises(UserError, match="has no split 'val'. Use 'train'"):
            list(img_diff.read(tmp_path, Tally(), split="val"))
