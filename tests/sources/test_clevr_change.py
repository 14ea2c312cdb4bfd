"""CLEVR-Change: real images and splits, boxes written here (the dataset's own were never seen whole), and faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import clevr_change
from migician.sources.scenes import Tally

LEFT, RIGHT = [48, 32, 96, 64], [52, 30, 96, 64]


def write(root: Path, changes: Any, numbers: list[int] | None = None, size: tuple[int, int] = (480, 320)) -> None:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    listed = numbers if numbers is not None else sorted(int(key) for key in changes)
    (folder / "splits.json").write_text(json.dumps({"train": listed, "val": [], "test": []}))
    (folder / "change_captions_with_bbox.json").write_text(json.dumps(changes))
    for number in listed:
        for name in (f"images/CLEVR_default_{number:06d}.png", f"sc_images/CLEVR_semantic_{number:06d}.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", size).save(folder / name)


def test_each_image_has_its_own_box(tmp_path: Path) -> None:
    # Extra keys are nobody's business; ids are not padded in keys and are in file names.
    write(tmp_path, {"7": {"bbox_before": LEFT, "bbox_after": RIGHT, "captions": ["x"], "iou": 0.4}})
    tally = Tally()
    (pair,) = clevr_change.read(tmp_path, tally)
    assert pair.box_before == Box(0.1, 0.1, 0.3, 0.3)
    assert pair.box_after is not None
    assert pair.box_after.to_pixels((480, 320)) == pytest.approx((52, 30, 148, 94))
    assert (pair.id, pair.before.name, pair.after.name, pair.description) == (
        "7",
        "CLEVR_default_000007.png",
        "CLEVR_semantic_000007.png",
        "",
    )
    assert tally.counts == {}
    assert list(clevr_change.read(tmp_path / "data", Tally())) == [pair]


@pytest.mark.parametrize("absent", [[], None, "", "left out"])
def test_an_object_that_comes_or_goes_has_one_box(tmp_path: Path, absent: Any) -> None:
    added: dict[str, Any] = {"bbox_before": absent, "bbox_after": RIGHT}
    if absent == "left out":
        del added["bbox_before"]
    write(tmp_path, {"1": added})
    (pair,) = clevr_change.read(tmp_path, Tally())
    assert (pair.box_before, pair.box_after is None) == (None, False)


@pytest.mark.parametrize(
    ("before", "after", "counted"),
    [
        ([], [], {"change without a box": 1}),
        ([1, 2, 3], RIGHT, {"box that is not x, y, w, h": 1}),
        ([1, 2, 3, "4"], RIGHT, {"box that is not x, y, w, h": 1}),
        ({"x": 1}, RIGHT, {"box that is not x, y, w, h": 1}),
        ("[1, 2, 3, 4]", RIGHT, {"box that is not x, y, w, h": 1}),
        ([True, 2, 3, 4], RIGHT, {"box that is not x, y, w, h": 1}),
        ([480, 0, 5, 5], [], {"box without area in the image": 1}),
        ([9, 9, 0, 5], [9, 9, -2, 5], {"box without area in the image": 2}),
    ],
)
def test_what_is_no_box_is_counted(tmp_path: Path, before: Any, after: Any, counted: dict[str, int]) -> None:
    write(tmp_path, {"1": {"bbox_before": before, "bbox_after": after}})
    tally = Tally()
    assert list(clevr_change.read(tmp_path, tally)) == []
    assert tally.counts == counted


@given(
    xywh=st.tuples(
        st.integers(-60, 500), st.integers(-60, 350), st.integers(-5, 200), st.integers(-5, 200)
    )
)  # fmt: skip
def test_boxes_are_what_the_image_shows_of_them(
    tmp_path_factory: pytest.TempPathFactory, xywh: tuple[int, int, int, int]
) -> None:
    root = tmp_path_factory.mktemp("clevr")
    write(root, {"1": {"bbox_before": list(xywh), "bbox_after": LEFT}})
    (pair,) = clevr_change.read(root, Tally())
    x, y, width, height = xywh
    columns = [column for column in range(480) if x <= column < x + width]
    rows = [row for row in range(320) if y <= row < y + height]
    if columns and rows:
        assert pair.box_before is not None
        assert pair.box_before.to_pixels((480, 320)) == pytest.approx(
            (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        )
    else:
        assert pair.box_before is None


def test_captions_say_what_changed(tmp_path: Path) -> None:
    write(tmp_path, {"1": {"bbox_before": LEFT}, "2": {"bbox_before": LEFT}})
    captions = {"CLEVR_default_000001.png": ["the ball is gone", "no ball is left"], "CLEVR_default_000002.png": []}
    (tmp_path / "data/change_captions.json").write_text(json.dumps(captions))
    assert [pair.description for pair in clevr_change.read(tmp_path, Tally())] == ["the ball is gone", ""]


def test_resized_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"1": {"bbox_before": LEFT}}, size=(224, 224))
    tally = Tally()
    assert list(clevr_change.read(tmp_path, tally)) == []
    assert tally.counts == {"image is not 480 x 320, the size of its boxes": 1}


def test_missing_images_and_records_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {str(number): {"bbox_before": LEFT} for number in (4, 9)}, [9, 4, 5])
    (tmp_path / "data/sc_images/CLEVR_semantic_000004.png").unlink()
    tally = Tally()
    assert [pair.id for pair in clevr_change.read(tmp_path, tally)] == ["9"]
    assert tally.counts == {"pair with an image missing": 1, "pair without a record of boxes": 1}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("splits.json", b'{"train": [1, 2', "not splits of CLEVR-Change"),
        ("splits.json", b'{"val": [1]}', "has no split 'train'. It has: val"),
        ("splits.json", None, "cannot be read: No such file"),
        ("change_captions_with_bbox.json", None, "cannot be read: No such file"),
        ("change_captions_with_bbox.json", b"[1]", r"not boxes of CLEVR-Change: Expected `object`, got `array`"),
        ("change_captions_with_bbox.json", b'{"000001.png": {}}', "must be like '1', not '000001.png'"),
        ("change_captions_with_bbox.json", '{"1": "é"}'.encode("latin-1"), "not boxes of CLEVR-Change"),
        ("change_captions.json", b'{"a": "b"}', "not captions of CLEVR-Change"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    write(tmp_path, {"1": {"bbox_before": LEFT}})
    path = tmp_path / "data" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        list(clevr_change.read(tmp_path, Tally()))
    assert str(path) in str(caught.value)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"1": {"bbox_before": LEFT}})
    (tmp_path / "data/images/CLEVR_default_000001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match=r"CLEVR_default_000001\.png: cannot be read as an image"):
        list(clevr_change.read(tmp_path, Tally()))


def test_no_image_at_all(tmp_path: Path) -> None:
    write(tmp_path, {"1": {"bbox_before": LEFT}})
    shutil.rmtree(tmp_path / "data/images")
    with pytest.raises(UserError, match="holds none of the 1 pairs of 'train'"):
        list(clevr_change.read(tmp_path, Tally()))


def test_real_images_and_splits(shared: Path, tmp_path: Path) -> None:
    real = shared / "data/sources/clevr_change/data"
    for name in ("images", "sc_images", "splits.json"):
        (tmp_path / name).symlink_to(real / name)
    boxes = {str(number): {"bbox_before": LEFT, "bbox_after": RIGHT} for number in range(39803)}
    (tmp_path / "change_captions_with_bbox.json").write_text(json.dumps(boxes))
    splits = json.loads((real / "splits.json").read_text())
    seen = set()
    for split, numbers in splits.items():
        here = [str(number) for number in numbers if number < 6]
        tally = Tally()
        if not here:
            with pytest.raises(UserError, match="holds none of the"):
                list(clevr_change.read(tmp_path, tally, split=split))
            continue
        assert [pair.id for pair in clevr_change.read(tmp_path, tally, split=split)] == here
        assert tally.counts == {"pair with an image missing": len(numbers) - len(here)}
        seen.update(here)
    assert seen == {"0", "1", "2", "3", "4", "5"}
