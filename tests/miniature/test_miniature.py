"""The miniature world: exact boxes, readable by the real readers, training and held-out apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.images import resolve_images
from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.dataset import build
from migician.build.recipe import read_recipe
from migician.errors import UserError
from migician.miniature import QUICKSTART, Amounts, drawing, held_out, make_world
from migician.miniature.drawing import Style
from migician.sampling import stream
from migician.sources import SOURCES
from migician.sources.scenes import ImagePair, Scene, Tally, Track
from migician.tasks import TASKS

pytestmark = pytest.mark.usefixtures("plain_card")

AMOUNTS = Amounts(got10k=15, coco=60, objects365=15, magicbrush=15, imagenet=20, sa1b=30, held_out=8)
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "miniature.yaml"


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
    assert len(training) > 180
    assert len(held_out) == 8 * (10 * 2)  # two images a question, none shared
    assert not training & held_out


def test_what_the_quickstart_draws_is_enough_for_its_recipe() -> None:
    for name, task in read_recipe(CONFIG).tasks.items():
        assert all(getattr(QUICKSTART, source) > 0 for source in task.sources), name
    assert {TASKS[name].folder for name in read_recipe(CONFIG).tasks} == {task.folder for task in TASKS.values()}


def test_every_family_and_direction_is_built(world: dict[str, Path], tmp_path: Path) -> None:
    roots = {name: root for name, root in world.items() if name in SOURCES}
    built = build(["all"], roots, tmp_path / "all", count=8, config=CONFIG)
    assert {part.task: part.made for part in built.parts} == dict.fromkeys(read_recipe(CONFIG).tasks, 8)
    (part,) = build(["group_referring"], {"sa1b": roots["sa1b"]}, tmp_path / "back", count=4).parts
    assert part.made == 4


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
    return [instance.box for instance in scene.instances]


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


def whole(picture: Image.Image) -> NDArray[np.int_]:
    return np.asarray(picture, dtype=int)


class TestUnseen:
    """The true box of each question is where the pictures, looked at as such, have it."""

    def test_a_moved_camera_moves_all_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = self.watched(monkeypatch)
        moved: set[tuple[int, ...]] = set()
        for number in range(100):
            _, box = held_out.moved_camera(stream(1, number))
            before, (*after, target) = shown[-2:]
            assert target.box == box
            assert target.label not in [one.label for one in before[len(after) :]]
            small, other = before[: len(after)], before[len(after) :]
            assert [one.label for one in small] == [one.label for one in after]
            pairs = [*zip(small, after, strict=True), *((one, target) for one in other)]
            ways = {tuple(x - y for x, y in zip(a.box, b.box, strict=True)) for a, b in pairs}
            assert len(ways) <= 1
            moved |= ways
        assert moved == {(x, y, x, y) for x in (-28, 0, 28) for y in (-28, 0, 28)}

    @staticmethod
    def watched(monkeypatch: pytest.MonkeyPatch) -> list[list[drawing.Drawn]]:
        """What every picture drawn from now on shows."""
        shown: list[list[drawing.Drawn]] = []
        real = drawing.picture

        def picture(rng: np.random.Generator, objects: Sequence[drawing.Drawn], style: Style) -> Image.Image:
            shown.append(list(objects))
            return real(rng, objects, style)

        monkeypatch.setattr(drawing, "picture", picture)
        return shown

    def test_the_second_view_has_the_same_object_not_far_off(self) -> None:
        plain = Style(clutter=(0, 0), noise=0, slope=0, light=0, weave=0)
        for number in range(40):
            views, *boxes = held_out.two_views(stream(1, number), plain)
            colours = [whole(view.crop(box)).reshape(-1, 3).max(axis=0) for view, box in zip(views, boxes, strict=True)]
            assert np.array_equal(*colours)
            sides = [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]
            assert sides[0] == sides[1]
            furthest = plain.step * plain.cell
            assert all(abs(a - b) <= furthest for a, b in zip(*boxes, strict=True))

    def test_the_red_frame_is_in_the_first_picture_alone(self) -> None:
        for number in range(40):
            pictures, box = held_out.like_parts(stream(1, number))
            framed = [(whole(picture) == held_out.FRAME).all(axis=2).sum() for picture in pictures]
            assert framed[0] >= 8 * (drawing.STYLE.cell - 2)
            assert framed[1] == 0
            assert all(side % drawing.STYLE.cell == 0 for side in box)

    def test_only_one_object_has_the_shape_shown_and_in_another_colour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = self.watched(monkeypatch)
        for number in range(100):
            _, box = held_out.repainted(stream(1, number))
            (alone,), scene = shown[-2:]
            colour, shape = alone.label.split()
            assert scene[-1].box == box
            assert scene[-1].label.split()[1] == shape and scene[-1].label.split()[0] != colour
            assert [one.label.split()[1] for one in scene].count(shape) == 1


class TestHeldOut:
    def test_it_is_a_sound_benchmark_file(self, world: dict[str, Path]) -> None:
        bench = mig_bench.load(world["mig-bench"] / "MIG-Bench" / "MIG_data.json")
        assert (bench.facts["file_kind"], bench.malformed, len(bench.questions)) == ("original", [], 80)
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

        def skeletons(bench: Benchmark, task: str) -> set[str]:
            texts = (question.text for question in bench.questions if question.task == task)
            return {"".join(sign for sign in text if not sign.isdigit()) for text in texts}

        tasks = {question.task for question in real.questions}
        assert {question.task for question in drawn.questions} == tasks
        for task in tasks - {"group_grounding", "reasoning"}:  # which name what they ask for
            assert skeletons(drawn, task) <= skeletons(real, task), task
        endings = {text.split("?")[-1] for text in skeletons(real, "reasoning")}
        assert {text.split("?")[-1] for text in skeletons(drawn, "reasoning")} <= endings
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
    with pytest.raises(UserError, match="made with other settings: seed was .* and is now 0"):
        make_world(world["mig-bench"], 0, AMOUNTS)


@pytest.mark.slow  # a minute
def test_the_whole_world_of_the_quickstart_is_drawn(tmp_path: Path) -> None:
    roots = make_world(tmp_path / "w", 0)
    assert len(mig_bench.load(tmp_path / "w/MIG-Bench/MIG_data.json").questions) == 10 * QUICKSTART.held_out
    assert len(list(roots["coco"].rglob("*.jpg"))) >= QUICKSTART.coco


def test_free_form_names_the_image(world: dict[str, Path], tmp_path: Path) -> None:
    from migician.samples.sample import read_samples

    build(["free_form"], {"coco": world["coco"]}, tmp_path / "d", count=6, config=CONFIG)
    for one in read_samples(tmp_path / "d" / "Free-Form.json"):
        assert parse_boxes(one.conversations[1].value).mentions[0].image is not None
