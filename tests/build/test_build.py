"""Whole builds over a drawn world: same bytes, nothing half-written, faults in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.dataset import Built, build
from migician.build.recipe import Recipe, TaskRecipe, adjusted, read_recipe
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.samples.dataset_info import write_dataset_info
from migician.samples.sample import read_samples, sample, write_samples
from migician.sampling import shares
from migician.sources import SOURCES
from migician.training.mixture import MixFile, mix

REPOSITORY = Path(__file__).resolve().parents[2]
MINIATURE = REPOSITORY / "configs" / "miniature.yaml"
WORLD = Amounts(got10k=12, coco=80, objects365=12, magicbrush=12, imagenet=32, sa1b=40, held_out=1)
"""Enough for eight samples of each family."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = make_world(tmp_path_factory.mktemp("world") / "w", 5, WORLD)
    return {name: root for name, root in roots.items() if name != "mig-bench"}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def miniature(world: dict[str, Path], out: Path, **changed: Any) -> Built:
    return build(["all"], world, out, **{"count": 8, "config": MINIATURE, **changed})


class TestBytes:
    def test_workers_do_not_matter_and_seeds_do(self, world: dict[str, Path], tmp_path: Path) -> None:
        for name, workers, seed in (("one", 1, 3), ("two", 2, 3), ("eight", 8, 3), ("other", 1, 4)):
            miniature(world, tmp_path / name, workers=workers, seed=seed)
        one = contents(tmp_path / "one")
        assert one == contents(tmp_path / "two") == contents(tmp_path / "eight")
        assert one["MGrounding-630k.json"] != contents(tmp_path / "other")["MGrounding-630k.json"]

    def test_workers_do_not_matter_where_pictures_fail(self, world: dict[str, Path], tmp_path: Path) -> None:
        broken = shutil.copytree(world["objects365"], tmp_path / "broken")
        for image in sorted(broken.rglob("*.jpg"))[::3]:
            image.write_bytes(image.read_bytes()[:700])
        roots = {"objects365": broken}
        for name, workers in (("one", 1), ("two", 2)):
            settings = {"config": MINIATURE, "count": 6, "workers": workers}
            built = build(["region_locating"], roots, tmp_path / name, **settings)
            assert built.samples == 6
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
        card = json.loads((tmp_path / "one" / "card.json").read_text())
        assert card["parts"][0]["refused"]["image that cannot be read"] > 0


class TestDataset:
    @pytest.fixture(scope="class")
    def built(self, world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Built:
        return miniature(world, tmp_path_factory.mktemp("data") / "d", collect=True)

    def test_samples_are_sound_and_their_images_there(self, built: Built) -> None:
        samples = read_samples(built.folder / "MGrounding-630k.json")
        assert len(samples) == built.samples == 7 * 8
        assert len({one.id for one in samples}) == 7 * 8
        for one in samples:
            assert one.problems() == []
            assert parse_boxes(one.conversations[-1].value).status == "read"
            for image in one.images:
                assert image.startswith("./MGrounding-630k/")
                assert (built.folder / image).is_file()

    def test_no_image_is_there_in_vain(self, built: Built) -> None:
        named = {Path(image) for one in read_samples(built.folder / "MGrounding-630k.json") for image in one.images}
        there = {file.relative_to(built.folder) for file in (built.folder / "MGrounding-630k").rglob("*.*")}
        assert there == named

    def test_families_make_up_the_whole(self, built: Built) -> None:
        info = json.loads((built.folder / "dataset_info.json").read_text())
        parts = [
            read_samples(built.folder / entry["file_name"]) for name, entry in info.items() if name != "mgrounding"
        ]
        assert sum(parts, []) == read_samples(built.folder / info["mgrounding"]["file_name"])
        assert info["difference"]["columns"] == {"messages": "conversations", "images": "images"}

    def test_crops_show_what_their_answer_says(self, built: Built) -> None:
        for one in read_samples(built.folder / "Region_Locating.json"):
            with Image.open(built.folder / one.images[0]) as whole, Image.open(built.folder / one.images[1]) as crop:
                (box,) = parse_boxes(one.conversations[1].value).boxes
                assert box.to_pixels(whole.size) == pytest.approx(self.place(one.images[1]), abs=0.06)
                x1, y1, x2, y2 = self.place(one.images[1])
                assert crop.size == (x2 - x1, y2 - y1)
                cut, shown = whole.crop((x1, y1, x2, y2)).convert("L"), crop.convert("L")
                assert max(abs(a - b) for a, b in zip(cut.tobytes(), shown.tobytes(), strict=True)) < 30

    @staticmethod
    def place(name: str) -> tuple[int, int, int, int]:
        x1, y1, x2, y2 = (int(value) for value in Path(name).stem.split("-")[1:])
        return x1, y1, x2, y2

    def test_the_card_tells_all(self, built: Built) -> None:
        card = json.loads((built.folder / "card.json").read_text())
        assert {part["task"]: part["made"] for part in card["parts"]} == dict.fromkeys(card["recipe"]["tasks"], 8)
        for name, file in card["files"].items():
            assert hashlib.sha256((built.folder / name).read_bytes()).hexdigest() == file["sha256"]
        assert "| region_locating | objects365 | 8 | 8 |" in (built.folder / "README.md").read_text()


@pytest.mark.usefixtures("plain_card")
class TestFaults:
    @pytest.mark.parametrize(
        ("tasks", "changed", "said"),
        [
            (["diference"], {}, "unknown task 'diference'.* Did you mean 'difference'"),
            (["difference"], {"config": None, "sources": ["got10k"]}, "needs one of these sources: .*magicbrush"),
            (["all"], {"sources": ["got10k"]}, "task 'common_object' needs source coco: give --source coco=ROOT"),
            (["all"], {"sources": ["got10k", "coko"]}, "unknown source 'coko'.* Did you mean 'coco'"),
            (["all"], {"config": None, "sources": []}, "task 'object_tracking' needs one of these sources: .*got10k"),
            (["all"], {"count": 0}, "count must be 1 or more, not 0"),
        ],
    )
    def test_names_and_numbers(
        self, world: dict[str, Path], tmp_path: Path, tasks: list[str], changed: dict[str, Any], said: str
    ) -> None:
        chosen = changed.pop("sources", list(world))
        sources = {name: world.get(name, tmp_path) for name in chosen}
        with pytest.raises(UserError, match=said):
            build(tasks, sources, tmp_path / "out", **{"config": MINIATURE, **changed})
        assert list(tmp_path.iterdir()) == []

    def test_a_root_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="source 'coco': .*nowhere is not a folder"):
            build(["common_object"], {"coco": tmp_path / "nowhere"}, tmp_path / "out")

    def test_a_source_that_cannot_be_read_leaves_nothing(self, world: dict[str, Path], tmp_path: Path) -> None:
        root = shutil.copytree(world["coco"], tmp_path / "coco")
        file = root / "annotations" / "instances_train2017.json"
        file.write_bytes(file.read_bytes()[:500])
        with pytest.raises(UserError, match=r"instances_train2017\.json: not an instances file"):
            miniature(world | {"coco": root}, tmp_path / "out")
        assert [entry.name for entry in tmp_path.iterdir()] == ["coco"]

    def test_what_is_there_stays(self, world: dict[str, Path], tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="not empty"):
            miniature(world, out)
        with pytest.raises(UserError, match="not what this command makes"):
            miniature(world, out, force=True)
        assert (out / "thesis.tex").read_text() == "years of work"

    def test_an_earlier_build_is_replaced_when_asked(self, world: dict[str, Path], tmp_path: Path) -> None:
        miniature(world, tmp_path / "out", seed=1)
        miniature(world, tmp_path / "out", seed=2, force=True)
        miniature(world, tmp_path / "fresh", seed=2)
        assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fresh", "out"]

    def test_images_of_another_size_are_refused(self, world: dict[str, Path], tmp_path: Path) -> None:
        root = shutil.copytree(world["coco"], tmp_path / "coco")
        for image in sorted((root / "train2017").iterdir())[::2]:
            Image.new("RGB", (90, 90)).save(image)
        build(["free_form"], {"coco": root}, tmp_path / "out", config=MINIATURE, count=3, collect=True)
        card = json.loads((tmp_path / "out" / "card.json").read_text())
        assert card["parts"][0]["refused"]["image of another size than its annotation says"] > 0

    @pytest.mark.parametrize("way", [2, 6])
    @pytest.mark.parametrize(("family", "source"), [("free_form", "coco"), ("region_locating", "objects365")])
    def test_images_that_would_be_seen_two_ways_are_refused(
        self, world: dict[str, Path], tmp_path: Path, way: int, family: str, source: str
    ) -> None:
        """A trainer reads them unturned, a model is asked about them upright: whole and as a crop."""
        root, exif = shutil.copytree(world[source], tmp_path / source), Image.Exif()
        exif[0x0112] = way
        turned = sorted(root.rglob("*.jpg"))[::2]
        for image in turned:
            with Image.open(image) as opened:
                opened.copy().save(image, exif=exif)
        build([family], {source: root}, tmp_path / "out", config=MINIATURE, count=3, collect=True)
        card = json.loads((tmp_path / "out" / "card.json").read_text())
        assert card["parts"][0]["refused"]["image that its EXIF tag turns"] > 0
        used = {file.stem.split("-")[0] for file in (tmp_path / "out").rglob("*.jpg")}
        assert used and not used & {image.stem for image in turned}

    def test_too_few_scenes_is_said_not_hidden(self, world: dict[str, Path], tmp_path: Path) -> None:
        built = build(["difference"], world, tmp_path / "out", config=MINIATURE, count=500)
        assert built.samples == 12
        assert [(part.asked, part.made) for part in built.short] == [(500, 12)]
        # In a notebook the same is a table, with the reasons.
        (row,) = [line for line in built._repr_markdown_().splitlines() if "| 500 |" in line]
        assert "| 12 |" in row and all(reason in row for reason in built.short[0].refused)

    def test_without_a_recipe_every_fitting_source_is_used_up(self, world: dict[str, Path], tmp_path: Path) -> None:
        built = build(["difference"], world, tmp_path / "out")
        assert [(part.source, part.asked, part.made) for part in built.parts] == [("magicbrush", None, 12)]


class TestRecipes:
    @pytest.mark.parametrize("name", ["miniature.yaml", "mgrounding-630k.yaml"])
    def test_those_in_the_repository_are_sound(self, name: str) -> None:
        assert set(read_recipe(REPOSITORY / "configs" / name).tasks)

    def test_published_counts(self) -> None:
        tasks = read_recipe(REPOSITORY / "configs" / "mgrounding-630k.yaml").tasks
        counts = {name: sum(count or 0 for count in task.sources.values()) for name, task in tasks.items()}
        assert counts == {
            "object_tracking": 130_000,
            "group_grounding": 80_000,
            "group_referring": 40_000,
            "difference": 70_000,
            "common_object": 70_000,
            "referring_grounding": 70_000,
            "region_locating": 70_000,
            "free_form": 100_000,
        }
        assert sum(counts.values()) == 630_000
        published = {name for name, source in SOURCES.items() if not source.of_file}
        assert {source for task in tasks.values() for source in task.sources} == published
        assert len(published) == 12

    @pytest.mark.parametrize(
        ("amounts", "shared"),
        [
            ({"coco": None, "objects365": 9000}, {"coco": 50, "objects365": 50}),
            ({"coco": 3000, "objects365": 9000}, {"coco": 25, "objects365": 75}),
            ({"coco": None, "objects365": None}, {"coco": 50, "objects365": 50}),
            ({"coco": None, "objects365": 3000, "imagenet": 1000}, {"coco": 33, "objects365": 50, "imagenet": 17}),
        ],
    )
    def test_a_source_of_which_all_is_taken_has_its_share_of_a_count(
        self, amounts: dict[str, int | None], shared: dict[str, int]
    ) -> None:
        recipe = adjusted(Recipe({"common_object": TaskRecipe(amounts)}), None, 100, None)
        assert recipe.tasks["common_object"].sources == shared

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        file = tmp_path / "r.yaml"
        file.write_text(
            "tasks:\n"
            "  diference: {sources: {magicbrush: 1}}\n"
            "  free_form: {sources: {got10k: 1}}\n"
            "  common_object: {sources: {coco: 1}, settings: {images: [5, 3]}}\n"
            "  object_tracking: {sources: {got10k: 1}, settings: {manner: {breif: 0.5}}}\n"
        )
        with pytest.raises(UserError) as caught:
            read_recipe(file)
        for said in (
            "Did you mean 'difference'",
            "task 'free_form' cannot use source 'got10k'",
            "images must be [lowest, highest], not [5, 3]",
            "Did you mean 'brief'",
        ):
            assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("tasks: [", "not YAML"),
            ("seed: 1", "missing required field `tasks`"),
            ("tasks: {}\nsede: 1", "Did you mean 'seed'"),
            ("tasks: {difference: {sources: {magicbrush: -5}}}", ">= 1"),
        ],
    )
    def test_files_that_are_no_recipe(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "r.yaml"
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            read_recipe(file)


class TestMixture:
    @given(st.dictionaries(st.text(max_size=3), st.floats(0.01, 100), min_size=1), st.integers(0, 10_000))
    def test_shares_are_exact(self, weights: dict[str, float], total: int) -> None:
        counts = shares(weights, total)
        everything = sum(weights.values())
        assert sum(counts.values()) == total
        assert all(abs(counts[name] - total * weight / everything) < 1 + 1e-6 for name, weight in weights.items())

    @staticmethod
    def write(file: Path, name: str, count: int) -> Path:
        write_samples(file, [sample(f"{name}{i}", ["./a.jpg"], [("<image>?", "!")], name) for i in range(count)])
        return file

    def test_too_few_samples(self, tmp_path: Path) -> None:
        parts = {"a": MixFile(self.write(tmp_path / "a.json", "a", 5), 1)}
        with pytest.raises(UserError, match=r"needs 8 samples of 'a' and the file has 5; mix at most 5"):
            mix(parts, tmp_path / "m.json", 8)
        assert not (tmp_path / "m.json").exists()

    def test_dataset_info_names_only_files_that_are_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"b\.json: no such file"):
            write_dataset_info(tmp_path, {"b": "b.json"})
        self.write(tmp_path / "a.json", "a", 1)
        entry = json.loads(write_dataset_info(tmp_path, {"a": "a.json"}).read_text())["a"]
        assert (entry["file_name"], entry["formatting"]) == ("a.json", "sharegpt")
        assert entry["tags"]["assistant_tag"] == "gpt"


def test_permille_of_whole_cells_is_exact() -> None:
    # The miniature world's boxes lie on eighths, so its answers lose nothing.
    assert Box.from_pixels(14, 28, 56, 112, (112, 112)).to_permille() == (125, 250, 500, 1000)
