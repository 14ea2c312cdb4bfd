"""Sequences whose frames change size: each box is that of its own frame, and what is not known is refused."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import command
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.build.dataset import build
from migician.errors import UserError
from migician.sources import scenes_of
from migician.sources.formats.reading import OTHER_SIZE, UNREADABLE, size_of
from migician.sources.index import make_index, open_index
from migician.sources.scenes import Tally, Track
from migician.training.check import check

pytestmark = pytest.mark.usefixtures("plain_card")

REPOSITORY = Path(__file__).resolve().parents[2]
OBJECT = (250, 300, 500, 600)
"""Where the object is in every frame, in thousandths."""
LARGE, SMALL, WIDE = (640, 360), (320, 240), (400, 200)
SETTINGS = {"frames": [2, 4], "seconds": [0.03, 0.1], "copyable": 1, "passes": 40, "ordering": 0, "turns": 2}

Sizes = list[tuple[int, int]]


def frame(file: Path, size: tuple[int, int]) -> str:
    """A picture of the size, and its row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (40, 90, 120)).save(file)
    width, height = size
    return f"{0.25 * width:.4f},{0.3 * height:.4f},{0.25 * width:.4f},{0.3 * height:.4f}\n"


def got10k(root: Path, sequences: list[Sizes]) -> None:
    names = [f"GOT-10k_Train_{number:06d}" for number in range(1, len(sequences) + 1)]
    for name, sizes in zip(names, sequences, strict=True):
        folder = root / "train" / name
        rows = [frame(folder / f"{number:08d}.jpg", size) for number, size in enumerate(sizes, start=1)]
        (folder / "groundtruth.txt").write_text("".join(rows))
        (folder / "absence.label").write_text("0\n" * len(sizes))
        (folder / "cover.label").write_text("8\n" * len(sizes))
    (root / "train" / "list.txt").write_text("".join(f"{name}\n" for name in names))


def lasot(root: Path, sequences: list[Sizes]) -> None:
    for number, sizes in enumerate(sequences, start=1):
        folder = root / "kite" / f"kite-{number}"
        rows = [frame(folder / "img" / f"{place:08d}.jpg", size) for place, size in enumerate(sizes, start=1)]
        (folder / "groundtruth.txt").write_text("".join(rows))
        for flag in ("full_occlusion", "out_of_view"):
            (folder / f"{flag}.txt").write_text(",".join("0" * len(sizes)))
    names = [f"kite-{number}\n" for number in range(1, len(sequences) + 1)]
    (root / "training_set.txt").write_text("".join(names))


def trackingnet(root: Path, sequences: list[Sizes]) -> None:
    for number, sizes in enumerate(sequences):
        rows = [
            frame(root / "TRAIN_0/frames" / f"v{number}_0" / f"{place}.jpg", size) for place, size in enumerate(sizes)
        ]
        (root / "TRAIN_0/anno").mkdir(parents=True, exist_ok=True)
        (root / f"TRAIN_0/anno/v{number}_0.txt").write_text("".join(rows))


LAYOUTS = {"got10k": got10k, "lasot": lasot, "trackingnet": trackingnet}

_BOX = re.compile(r"\((\d+),(\d+)\),\((\d+),(\d+)\)<\|box_end\|>")


def boxes(out: Path) -> Iterator[tuple[int, ...]]:
    """Every box of a built dataset, read in the plainest way."""
    for record in json.loads((out / "Object_Tracking.json").read_text()):
        for turn in record["conversations"]:
            yield from (tuple(map(int, match.groups())) for match in _BOX.finditer(turn["value"]))


def recipe(folder: Path, source: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"tasks": {"object_tracking": {"sources": {source: 60}, "settings": SETTINGS}}}))
    return file


def built(folder: Path, source: str, root: Path, **options: Any) -> dict[str, Any]:
    """The card of a dataset of at most 60 samples in `folder/out`."""
    build(["all"], {source: root}, folder / "out", config=recipe(folder, source), **options)
    card: dict[str, Any] = json.loads((folder / "out" / "card.json").read_text())
    return card


def near(box: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 0.5 for a, b in zip(box, OBJECT, strict=True))


CHANGES = {
    "to small": [LARGE] * 6 + [SMALL] * 6,
    "to large": [SMALL] * 6 + [LARGE] * 6,
    "twice": [LARGE] * 4 + [WIDE] * 4 + [LARGE] * 4,
    "at the end": [LARGE] * 11 + [SMALL],
    "often": [LARGE, SMALL, WIDE] * 4,
}


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("collect", [False, True])
def test_every_box_is_that_of_its_own_frame(tmp_path: Path, source: str, change: str, collect: bool) -> None:
    LAYOUTS[source](tmp_path / "root", [CHANGES[change], [LARGE] * 9])
    card = built(tmp_path, source, tmp_path / "root", collect=collect)
    found = list(boxes(tmp_path / "out"))
    assert card["samples"] >= 8 and len(found) >= 16
    assert [box for box in found if not near(box)] == []


@pytest.mark.parametrize(
    ("source", "folder"), [("got10k", "GOT-10k"), ("lasot", "LaSOT"), ("trackingnet", "TrackingNet")]
)
def test_the_sequences_of_the_cases_by_the_command(shared: Path, tmp_path: Path, source: str, folder: str) -> None:
    draw = shared / "cases" / "sequences" / "make.py"
    if not draw.is_file():
        pytest.skip(f"{draw} is not here")
    subprocess.run([sys.executable, draw, tmp_path / "drawn"], check=True)
    options = ["--config", recipe(tmp_path, source), "--out", tmp_path / "out", "--collect"]
    ended = command("build", "all", f"--source={source}={tmp_path / 'drawn' / folder}", *options)
    assert ended.status == 0, ended.error
    found = list(boxes(tmp_path / "out"))
    assert len(found) >= 16 and all(map(near, found))
    frames = list((tmp_path / "out" / "MGrounding-630k").rglob("*.jpg"))
    sizes = set()
    for file in frames:
        with Image.open(file) as opened:
            sizes.add(opened.size)
    assert sizes == {LARGE, SMALL}


@pytest.mark.parametrize("source", LAYOUTS)
def test_what_a_few_frames_do_not_show_is_refused(tmp_path: Path, source: str) -> None:
    sizes = [LARGE] * 60
    sizes[20:22] = [SMALL] * 2
    LAYOUTS[source](tmp_path / "root", [sizes])
    card = built(tmp_path, source, tmp_path / "root")
    assert card["samples"] > 0 and all(map(near, boxes(tmp_path / "out")))
    assert card["parts"][0]["refused"][OTHER_SIZE] > 0


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize(("content", "reason"), [(SMALL, OTHER_SIZE), (None, UNREADABLE)])
def test_a_frame_that_changes_after_its_index_was_made(
    tmp_path: Path, collect: bool, content: tuple[int, int] | None, reason: str
) -> None:
    got10k(tmp_path / "root", [[LARGE] * 12])
    make_index("got10k", tmp_path / "root", tmp_path / "index")
    file = tmp_path / "root/train/GOT-10k_Train_000001/00000005.jpg"
    if content:
        Image.new("RGB", content).save(file)
    else:
        file.write_bytes(b"")
    card = built(tmp_path, "got10k", tmp_path / "index", collect=collect)
    assert card["parts"][0]["refused"][reason] > 0 < card["samples"]
    used = {
        image
        for record in json.loads((tmp_path / "out/Object_Tracking.json").read_text())
        for image in record["images"]
    }
    assert used and not any(image.endswith("00000005.jpg") for image in used)


def test_an_index_of_an_earlier_version_is_read_and_its_changed_frames_are_refused(tmp_path: Path) -> None:
    got10k(tmp_path / "root", [CHANGES["to small"], [LARGE] * 12])
    make_index("got10k", tmp_path / "root", tmp_path / "index")
    for name in ("size_of.u32", "sizes.u32"):
        (tmp_path / "index" / name).unlink()
    tracks = open_index(tmp_path / "index").items
    assert {tracks.size(frame) for frame in range(24)} == {LARGE}
    card = built(tmp_path, "got10k", tmp_path / "index")
    assert card["samples"] > 0 and card["parts"][0]["refused"][OTHER_SIZE] > 0


def test_sizes_and_boxes_of_a_reader(tmp_path: Path) -> None:
    got10k(tmp_path, [CHANGES["twice"]])
    truth = tmp_path / "train/GOT-10k_Train_000001/groundtruth.txt"
    rows = truth.read_text().splitlines()
    rows[5] = "380.0000,0.0000,60.0000,300.0000"  # leaves its own frame, and would not have left the first
    truth.write_text("\n".join(rows) + "\n")
    tally = Tally()
    (track,) = scenes_of("got10k", tmp_path, tally)[1]
    assert isinstance(track, Track)
    assert [frame.size for frame in track.frames] == CHANGES["twice"]
    box = track.frames[5].box
    assert box is not None and box.as_tuple() == (0.95, 0.0, 1.0, 1.0)
    assert tally.counts == {"box clipped to the image": 1}


def test_an_index_tells_the_size_of_each_frame(tmp_path: Path) -> None:
    got10k(tmp_path / "root", [CHANGES["often"], [WIDE] * 3])
    make_index("got10k", tmp_path / "root", tmp_path / "index")
    tracks = open_index(tmp_path / "index").items
    assert [tracks.size(frame) for frame in range(15)] == [*CHANGES["often"], *[WIDE] * 3]


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PICTURES = {
    "plain": encoded(Image.new("RGB", (37, 21)), "JPEG"),
    "progressive": encoded(Image.new("RGB", (37, 21)), "JPEG", progressive=True),
    "grey": encoded(Image.new("L", (37, 21)), "JPEG"),
    "four colours": encoded(Image.new("CMYK", (37, 21)), "JPEG"),
    "restarts": encoded(Image.new("RGB", (37, 21)), "JPEG", restart_marker_rows=1, optimize=True),
    "a comment": encoded(Image.new("RGB", (37, 21)), "JPEG", comment=b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01"),
    "turned": encoded(Image.new("RGB", (37, 21)), "JPEG", exif=turned()),
    "a profile": encoded(Image.new("RGB", (37, 21)), "JPEG", icc_profile=b"\xff\xc0" * 900),
    "PNG": encoded(Image.new("RGB", (37, 21)), "PNG"),
    "WebP": encoded(Image.new("RGB", (37, 21)), "WEBP"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_sizes_are_those_of_pillow(tmp_path: Path, kind: str) -> None:
    (tmp_path / "picture").write_bytes(PICTURES[kind])
    assert size_of(tmp_path / "picture") == (37, 21)


@given(
    kind=st.sampled_from(sorted(PICTURES)),
    damage=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 900),
)
def test_a_damaged_head_gives_what_pillow_gives_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, damage: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(PICTURES[kind])
    for place, value in damage:
        if place < len(content):
            content[place] = value
    file = tmp_path_factory.getbasetemp() / f"damaged-{os.getpid()}"
    file.write_bytes(content[: len(content) - cut] if cut < len(content) else b"")
    try:
        size = size_of(file)
    except UserError as error:
        assert str(file) in str(error)
        return
    try:
        with Image.open(file) as opened:
            assert opened.size == size
    except (OSError, SyntaxError, ValueError):
        pass  # the size can be read where later segments are damaged


def kinds(folder: Path) -> dict[str, int]:
    return {one.kind: one.count for one in check(folder).findings}


@pytest.mark.parametrize("collect", [False, True])
def test_check_knows_the_sizes_of_frames_that_differ(tmp_path: Path, collect: bool) -> None:
    lasot(tmp_path / "root", [CHANGES["to small"], [LARGE] * 9])
    card = built(tmp_path, "lasot", tmp_path / "root", collect=collect, workers=2)
    out = tmp_path / "out"
    assert "annotated_size" not in kinds(out)
    (part,) = card["parts"]
    changed = {name for name, size in part["frame_sizes"].items() if tuple(size) == SMALL}
    assert changed and all(name.split("/")[-1] > "00000006.jpg" and "kite-1/" in name for name in changed)
    # As a build of before, whose card says nothing of sizes.
    (out / "card.json").write_text(json.dumps({**card, "parts": [{**part, "frame_sizes": {}}]}))
    assert kinds(out)["annotated_size"] >= len(changed)
    # As data of which nothing is known.
    (out / "card.json").unlink()
    assert "annotated_size" not in kinds(out)


def test_check_finds_a_frame_that_changed_after_the_build(tmp_path: Path) -> None:
    got10k(tmp_path / "root", [[LARGE] * 12])
    built(tmp_path, "got10k", tmp_path / "root")
    assert "annotated_size" not in kinds(tmp_path / "out")
    Image.new("RGB", SMALL).save(tmp_path / "root/train/GOT-10k_Train_000001/00000005.jpg")
    assert kinds(tmp_path / "out")["annotated_size"] > 0


def test_check_finds_a_crop_of_another_size_than_its_name_says(tmp_path: Path) -> None:
    folder = tmp_path / "M/Region_Locating/COCO-crops"
    folder.mkdir(parents=True)
    Image.new("RGB", (90, 60)).save(folder / "1-10-20-100-80.jpg")
    Image.new("RGB", (90, 60)).save(folder / "2-10-20-100-81.jpg")
    turns = [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "so"}]
    images = [f"./M/Region_Locating/COCO-crops/{name}" for name in ("1-10-20-100-80.jpg", "2-10-20-100-81.jpg")]
    (tmp_path / "d.json").write_text(json.dumps([{"id": 1, "images": images, "conversations": turns}]))
    (found,) = check(tmp_path / "d.json").findings
    assert (found.kind, found.count) == ("annotated_size", 1)
    assert found.places[0].value == f"{images[1]}: 90 x 60, not 90 x 61"
