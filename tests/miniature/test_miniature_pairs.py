"""Pairs drawn in the formats of their datasets: the real readers give back the boxes that were drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.dataset import build
from migician.miniature import Amounts, drawing, make_world
from migician.miniature.drawing import STYLE
from migician.samples.sample import read_samples
from migician.sampling import stream
from migician.sources import SOURCES
from migician.sources.scenes import ImagePair, Tally

pytestmark = pytest.mark.usefixtures("plain_card")

COUNT = 24
PAIRS = ("clevr_change", "img_diff", "magicbrush", "spot_the_diff")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    amounts = Amounts(magicbrush=COUNT, clevr_change=COUNT, img_diff=COUNT, spot_the_diff=COUNT)
    return make_world(tmp_path_factory.mktemp("world") / "w", 11, amounts)


def read(world: dict[str, Path], name: str) -> list[ImagePair]:
    tally = Tally()
    pairs = [pair for pair in SOURCES[name].read(world[name], tally) if isinstance(pair, ImagePair)]
    assert tally.counts == {}
    return pairs


def test_what_is_not_asked_for_is_not_drawn(world: dict[str, Path]) -> None:
    assert set(world) == {*PAIRS, "mig-bench"}
    assert {folder.name for folder in (world["mig-bench"] / "sources").iterdir()} == set(PAIRS)


@pytest.mark.parametrize("name", PAIRS)
def test_the_images_change_inside_the_box_and_nowhere_else(world: dict[str, Path], name: str) -> None:
    pairs = read(world, name)
    assert len(pairs) == COUNT
    for pair in pairs:
        assert pair.description.split()[0] in ("add", "remove", "make", "a")
        with Image.open(pair.before) as before, Image.open(pair.after) as after:
            first, second = (np.asarray(image.convert("RGB"), dtype=int) for image in (before, after))
        if name == "clevr_change":  # whose two images are not aligned
            continue
        box = pair.box_before
        assert box is not None
        assert box == pair.box_after
        x1, y1, x2, y2 = (round(value) for value in box.to_pixels((STYLE.size, STYLE.size)))
        changed = np.abs(first - second).max(axis=2) > 40
        assert changed[y1:y2, x1:x2].any()
        margin = 1 if name == "spot_the_diff" else 0  # its box is found, not written
        changed[max(y1 - margin, 0) : y2 + margin, max(x1 - margin, 0) : x2 + margin] = False
        assert not changed.any()


def test_clevr_change_has_the_drawn_picture_where_its_box_says(world: dict[str, Path]) -> None:
    absent = jittered = 0
    for pair in read(world, "clevr_change"):
        before, after, box, instruction = drawing.edit(stream(11, "train", "clevr_change", int(pair.id)))
        assert pair.description == instruction
        sides = [(pair.before, before, pair.box_before), (pair.after, after, pair.box_after)]
        absent += sum(truth is None for *_, truth in sides)
        jittered += pair.box_before != pair.box_after and None not in (pair.box_before, pair.box_after)
        for file, drawn, truth in sides:
            if truth is None:
                assert instruction.startswith("add" if file == pair.before else "remove")
                continue
            with Image.open(file) as image:
                assert image.size == (480, 320)
                corners = [round(value) for value in truth.to_pixels(image.size)]
                shown = np.asarray(image.crop(corners))
            assert (shown == np.asarray(drawn.crop(box))).all()
    assert absent > 3
    assert jittered > 3


def test_img_diff_boxes_are_those_drawn(world: dict[str, Path]) -> None:
    pairs = {int(pair.id.split("-")[1].split("_")[0]): pair for pair in read(world, "img_diff")}
    replaced = [number for number, pair in pairs.items() if pair.id.startswith("replacement")]
    assert len(replaced) == COUNT // 2
    for number, pair in pairs.items():
        rng = stream(11, "train", "img_diff", number)
        while True:
            *_, box, instruction = drawing.edit(rng)
            if instruction.startswith("make") == (number in replaced):
                break
        assert pair.box_before == Box.from_pixels(*box, (STYLE.size, STYLE.size))
        # A red thing that fills its box looks like a frame.
        assert not pair.box_shown or any(colour in pair.description for colour in ("red", "orange", "pink"))
    assert sum(pair.box_shown for pair in pairs.values()) < COUNT / 4


def test_spot_the_diff_boxes_are_found_where_they_were_drawn(world: dict[str, Path]) -> None:
    for pair in read(world, "spot_the_diff"):
        rng = stream(11, "train", "spot_the_diff", int(pair.id))
        while True:
            before, _, box, _ = drawing.edit(rng)
            with Image.open(pair.before) as image:
                if np.array_equal(np.asarray(image), np.asarray(before)):
                    break
        assert pair.box_after is not None
        assert pair.box_after.iou(Box.from_pixels(*box, (STYLE.size, STYLE.size))) >= 0.9


def test_difference_is_built_from_all_of_them(world: dict[str, Path], tmp_path: Path) -> None:
    built = build(["difference"], {name: world[name] for name in PAIRS}, tmp_path / "d", count=4 * 20, seed=1)
    truths = {
        (SOURCES[name].folder, pair.before.name): (pair.box_before, pair.box_after)
        for name in PAIRS
        for pair in read(world, name)
    }
    samples = read_samples(built.folder / "Difference.json")
    assert len(samples) == 80
    for one in samples:
        assert one.problems() == []
        folder = Path(one.images[0]).parts[2]
        (box,) = parse_boxes(one.conversations[1].value).boxes
        boxes = [truth for truth in truths[folder, Path(one.images[0]).name] if truth]
        assert any(
            max(abs(a - b) for a, b in zip(box.as_tuple(), truth.as_tuple(), strict=True)) <= 0.00051 for truth in boxes
        )
    card = json.loads((built.folder / "card.json").read_text())
    assert {part["source"]: part["made"] for part in card["parts"]} == dict.fromkeys(PAIRS, 20)
