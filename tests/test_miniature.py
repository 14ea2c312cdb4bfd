"""The miniature world: exact boxes, readable by the real readers, training and held-out apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from migician.benchmarks import mig_bench
from migician.benchmarks.images import resolve_images
from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build import build
from migician.errors import UserError
from migician.miniature import Amounts, drawing, make_world
from migician.scenes import ImagePair, Scene, Tally, Track
from migician.seeds import stream
from migician.sources import SOURCES

AMOUNTS = Amounts(got10k=15, coco=60, objects365=15, magicbrush=15, held_out=8, imagenet=12, sa1b=8)
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "miniature.yaml"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_world(tmp_path_factory.mktemp("world") / "w", 7, AMOUNTS)


def pixels(folder: Path) -> set[str]:
    """A hash of the decoded pixels of every image below a folder."""
    found = set()
    for file in folder.rglob("*"):
        if file.suffix in (".jpg", ".png"):
            with Image.open(file) as image:
                found.add(hashlib.sha256(image.convert("RGB").tobytes() + str(image.size).encode()).hexdigest())
    return found


def test_no_image_is_in_training_and_held_out(world: dict[str, Path], tmp_path: Path) -> None:
    roots = {name: root for name, root in world.items() if name in SOURCES}
    build(["all"], roots, tmp_path / "data", count=10, config=CONFIG)  # crops are images of their own
    training = pixels(tmp_path / "data") | pixels(world["mig-bench"] / "sources")
    held_out = pixels(world["mig-bench"] / "MIG-Bench")
    assert len(training) > 150
    assert len(held_out) == 8 * (5 * 2)  # two images a question, none shared
    assert not training & held_out


def test_worlds_repeat_by_seed(world: dict[str, Path], tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", 7, AMOUNTS)
    other = make_world(tmp_path / "other", 8, AMOUNTS)
    for name in world:
        assert {file.name for file in world[name].rglob("*")} == {file.name for file in again[name].rglob("*")}
        assert pixels(world[name]) == pixels(again[name])
        assert not pixels(world[name]) & pixels(other[name])


def test_the_real_readers_read_it_without_a_complaint(world: dict[str, Path]) -> None:
    for name, source in ((name, SOURCES[name]) for name in world if name in SOURCES):
        tally = Tally()
        scenes = list(source.read(world[name], tally))
        assert len(scenes) == getattr(AMOUNTS, name)
        assert tally.counts == {}
        for scene in scenes:
            assert isinstance(scene, source.gives)
            for box in _boxes(scene):
                assert box.is_proper
                if name != "objects365":  # whose small shapes lie off the grid
                    assert all((value * 8).is_integer() for value in box.as_tuple())


def _boxes(scene: Scene | ImagePair | Track) -> list[Box | None]:
    if isinstance(scene, Track):
        return [frame.box for frame in scene.frames]
    if isinstance(scene, ImagePair):
        return [scene.box_before, scene.box_after]
    return [thing.box for thing in scene.things]


@pytest.mark.parametrize("shape", drawing.SHAPES)
@pytest.mark.parametrize("box", [(14, 28, 56, 42), (0, 0, 28, 28), (70, 70, 112, 112), (50, 51, 57, 59)])
def test_painted_shapes_touch_all_sides_of_their_box(shape: str, box: drawing.PixelBox) -> None:
    rng = [np.random.default_rng(3) for _ in range(2)]
    bare = np.asarray(drawing.picture(rng[0], []), dtype=int)
    painted = np.asarray(drawing.picture(rng[1], [drawing.Drawn(f"white {shape}", box)]), dtype=int)
    changed = (bare != painted).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == box


def test_an_edit_changes_nothing_outside_its_box() -> None:
    for number in range(20):
        before, after, box, instruction = drawing.edit(stream(1, number))
        changed = (np.asarray(before) != np.asarray(after)).any(axis=2)
        x1, y1, x2, y2 = box
        assert changed[y1:y2, x1:x2].any()
        changed[y1:y2, x1:x2] = False
        assert not changed.any()
        assert instruction.split()[0] in ("add", "remove", "make")


class TestHeldOut:
    def test_it_is_a_sound_benchmark_file(self, world: dict[str, Path]) -> None:
        bench = mig_bench.load(world["mig-bench"] / "MIG-Bench" / "MIG_data.json")
        assert (bench.kind, bench.malformed, len(bench.questions)) == ("original", [], 40)
        for question in bench.questions:
            assert all(path.is_file() for path in resolve_images(question, world["mig-bench"]))
            if question.task != "diff":
                assert question.target is not None

    def test_group_grounding_says_where_the_answer_is(self, world: dict[str, Path]) -> None:
        bench = mig_bench.load(world["mig-bench"] / "MIG-Bench" / "MIG_data.json")
        targets = [question.target for question in bench.questions if question.task == "group_grounding"]
        assert len(set(targets)) > 1

    def test_its_wording_is_mig_bench_s(self, shared: Path, world: dict[str, Path]) -> None:
        real = mig_bench.load(shared / "data/mig_bench/MIG_data.json")
        drawn = mig_bench.load(world["mig-bench"] / "MIG-Bench" / "MIG_data.json")

        def skeletons(bench: mig_bench.MigBench, task: str) -> set[str]:
            texts = (question.text for question in bench.questions if question.task == task)
            return {"".join(sign for sign in text if not sign.isdigit()) for text in texts}

        for task in ("object_tracking", "common_object", "region", "diff"):
            assert skeletons(drawn, task) <= skeletons(real, task)
        # The tiny model is not taught the sentence about the format: it would be a third of every question.
        assert not any(question.need_format for question in drawn.questions)

    def test_the_true_box_of_a_region_is_where_its_crop_came_from(self, world: dict[str, Path]) -> None:
        root = world["mig-bench"]
        bench = mig_bench.load(root / "MIG-Bench" / "MIG_data.json")
        for question in (one for one in bench.questions if one.task == "region"):
            source, crop = resolve_images(question, root)
            with Image.open(source) as whole, Image.open(crop) as part:
                x1, y1, x2, y2 = (round(value) for value in question.truth.to_pixels(whole.size))
                cut = np.asarray(whole.crop((x1, y1, x2, y2)), dtype=int)
                assert np.abs(cut - np.asarray(part, dtype=int)).mean() < 6


def test_a_world_is_not_drawn_over_another(world: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="exists and is not empty"):
        make_world(world["mig-bench"], 0, AMOUNTS)


def test_free_form_names_the_image(world: dict[str, Path], tmp_path: Path) -> None:
    from migician.samples import read_samples

    build(["free_form"], {"coco": world["coco"]}, tmp_path / "d", count=6, config=CONFIG)
    for one in read_samples(tmp_path / "d" / "Free-Form.json"):
        assert parse_boxes(one.conversations[1].value).mentions[0].image is not None
