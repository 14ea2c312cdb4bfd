"""What is in none of the images, from the miniature world to the report, through the public commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import command

from migician.benchmarks import mig_bench
from migician.boxtext import QWEN
from migician.build.recipe import chosen
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.models.family import QWEN2_VL
from migician.samples.sample import Sample, read_samples

AMOUNTS = Amounts(coco=60, objects365=2, imagenet=30, sa1b=20, held_out=1)
TASKS = ("group_grounding", "common_object", "referring_grounding")
RECIPE = """
tasks:
  group_grounding: {sources: {coco: 16, sa1b: 6}, settings: {images: [2, 3], passes: 3}}
  common_object: {sources: {coco: 16}, settings: {images: [2, 2], area: [0.05, 0.95]}}
  referring_grounding: {sources: {coco: 12, imagenet: 8}, settings: {shown: [0.05, 1], hidden: [0.05, 1]}}
  free_form: {sources: {coco: 4}, settings: {turns: 1, images: [2, 2]}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("chain")
    make_world(home / "w", 5, AMOUNTS, absent=6)
    (home / "recipe.yaml").write_text(RECIPE)
    return home


def build(home: Path, out: Path, *options: Any, config: bool = True) -> tuple[int, str]:
    sources = [f"--source={root.name}={root}" for root in sorted((home / "w/sources").iterdir())]
    recipe = ["--config", home / "recipe.yaml"] if config else []
    done = command("build", "all", *recipe, *sources, "--out", out, *options)
    return done.status, done.error


def contents(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".made"]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    status, error = build(home, home / "data", "--absent", 0.5)
    assert status == 0, error
    return home / "data"


def refusals(samples: list[Sample]) -> dict[str, int]:
    """How many answers of each task and source say that nothing is there."""
    found: dict[str, int] = {}
    for sample in samples:
        place = "/".join(sample.images[0].split("/")[2:4])
        found[place] = found.get(place, 0) + sum(turn.value == QWEN.absent for turn in sample.conversations)
    return found


class TestBuilding:
    def test_the_card_counts_them(self, data: Path) -> None:
        found = refusals(read_samples(data / "MGrounding-630k.json"))
        card = json.loads((data / "card.json").read_text())
        counted = {task: one.get("absent") for task, one in card["balance"].items()}
        assert counted == {
            "group_grounding": found["Group_Grounding/COCO"],
            "common_object": found["Common_Object/COCO"],
            "referring_grounding": found["Referring_Grounding/COCO"],
            "free_form": None,
        }
        assert all(4 <= counted[task] <= 14 for task in TASKS)
        # What is annotated in part tells nothing.
        assert found["Group_Grounding/SA-1B"] == found["Referring_Grounding/ImageNet"] == 0
        assert "absent" not in card["recipe"]["tasks"]["free_form"]["settings"]
        assert f"common_object {counted['common_object']} of 16" in (data / "README.md").read_text()

    def test_no_annotation_has_what_is_asked_for(self, home: Path, data: Path) -> None:
        """By the annotations as their file has them."""
        file = json.loads((home / "w/sources/coco/annotations/instances_train2017.json").read_text())
        names = {one["id"]: one["name"] for one in file["categories"]}
        names_of: dict[str, set[str]] = {one["file_name"]: set() for one in file["images"]}
        images = {one["id"]: one["file_name"] for one in file["images"]}
        for one in file["annotations"]:
            names_of[images[one["image_id"]]].add(names[one["category_id"]])
        for sample in read_samples(data / "Group_Grounding.json"):
            if "/COCO/" not in sample.images[0]:
                continue
            there = set().union(*(names_of[Path(image).name] for image in sample.images))
            for question, answer in zip(sample.conversations[::2], sample.conversations[1::2], strict=True):
                asked = question.value.partition("ref_start|>a")[2].partition("<|")[0].removeprefix("n").strip()
                assert (asked in there) == (answer.value != QWEN.absent)
                assert asked in names.values()

    def test_any_number_of_workers_makes_the_same(self, home: Path, data: Path) -> None:
        assert build(home, home / "two", "--absent", 0.5, "--workers", 2)[0] == 0
        assert contents(home / "two") == contents(data)

    def test_a_recipe_says_the_same(self, home: Path, tmp_path: Path) -> None:
        told = RECIPE.replace("settings: {images", "settings: {absent: 0.5, images")
        (tmp_path / "recipe.yaml").write_text(told.replace("settings: {shown", "settings: {absent: 0.5, shown"))
        sources = {root.name: root for root in (home / "w/sources").iterdir()}
        by_option = chosen(["all"], sources, None, None, home / "recipe.yaml", {}, 0.5)
        assert by_option == chosen(["all"], sources, None, None, tmp_path / "recipe.yaml", {})

    def test_without_the_option_nothing_changes(self, home: Path, data: Path) -> None:
        assert build(home, home / "without")[0] == 0
        assert '"absent"' not in (home / "without/card.json").read_text()
        before = {one.id: one for one in read_samples(home / "without/MGrounding-630k.json")}
        some = read_samples(data / "MGrounding-630k.json")
        present = [one for one in some if not any(turn.value == QWEN.absent for turn in one.conversations)]
        assert len(present) > 30 and all(before[one.id] == one for one in present)

    @pytest.mark.parametrize(
        ("recipe", "options", "says"),
        [
            ("group_grounding: {sources: {sa1b: 6}}", ["--absent", 0.1], "from coco, objects365, coco-json, jsonl"),
            ("region_locating: {sources: {objects365: 6}}", ["--absent", 0.1], "Tasks that can: group_grounding"),
            ("group_grounding: {sources: {sa1b: 6}, settings: {absent: 0.1}}", [], "Those that do: coco, objects365"),
            ("group_grounding: {sources: {coco: 6}, settings: {absent: 2}}", [], "<= 1"),
            ("region_locating: {sources: {objects365: 6}, settings: {absent: 0.1}}", [], "unknown field `absent`"),
        ],
    )
    def test_what_cannot_be_is_said_in_one_line(
        self, home: Path, tmp_path: Path, recipe: str, options: list[Any], says: str
    ) -> None:
        (tmp_path / "w").symlink_to(home / "w")
        (tmp_path / "recipe.yaml").write_text(f"tasks:\n  {recipe}\n")
        status, error = build(tmp_path, tmp_path / "data", *options)
        assert status == 2 and says in error and len(error.splitlines()) == 1 and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("style", "form"),
    [
        ("qwen3_vl", "```json\n[]\n```"),
        ("qwen2_5_vl", "```json\n[]\n```"),
        ("fractions", "[]"),
        ("ms-swift", QWEN.absent),
    ],
)
def test_records_come_back(data: Path, tmp_path: Path, style: str, form: str) -> None:
    source, there, back = data / "MGrounding-630k.json", tmp_path / "there.json", tmp_path / "back.json"
    for given, out, (own, target) in ((source, there, ("qwen2_vl", style)), (there, back, (style, "qwen2_vl"))):
        options = ["--media", data, "--from", given, "--style", own, "--to", target, "--out", out]
        done = command("data", "convert", "records", *options)
        assert done.status == 0 and "converted back" not in done.error, done.error
    before, after = answers(source), answers(back)
    assert before.count(QWEN.absent) > 15
    assert [one == QWEN.absent for one in before] == [one == QWEN.absent for one in answers(back)]
    assert [one == form for one in answers(there)] == [one == QWEN.absent for one in before]
    if style != "qwen2_5_vl":  # pixels are coarse, so that boxes move a little
        assert after == before and read_samples(back) == read_samples(source)


def answers(file: Path) -> list[str]:
    """All answers of a file of records, in either layout."""
    texts = []
    for record in json.loads(file.read_text()):
        turns = [
            (one.get("from") or one["role"], one.get("value") or one["content"])
            for one in record.get("conversations") or record["messages"]
        ]
        texts += [text for who, text in turns if who in ("gpt", "assistant")]
    return texts


def test_the_world_is_otherwise_the_same(home: Path, tmp_path: Path) -> None:
    make_world(tmp_path / "w", 5, AMOUNTS)
    more = {name: digest for name, digest in contents(home / "w").items() if "absent" not in name}
    assert more == contents(tmp_path / "w")
    with pytest.raises(UserError, match="world"):  # it is another one
        make_world(tmp_path / "w", 5, AMOUNTS, absent=6)


def test_models_are_measured_on_both(home: Path, tmp_path: Path) -> None:
    data = home / "w/MIG-Bench/absent.json"
    bench = mig_bench.load(data)
    assert [one.is_absent for one in bench.questions] == [False, True] * 18
    assert len({image for one in bench.questions for image in one.images}) == 72
    script = tmp_path / "script.jsonl"
    prompts = {mig_bench.prompt(one, "corrected", QWEN2_VL) for one in bench.questions}
    script.write_text("".join(json.dumps({"prompt": one, "reply": QWEN.absent}) + "\n" for one in prompts))
    for model, refuses in ((f"scripted:{script}", 100), ("constant", 0)):
        out = tmp_path / str(refuses)
        asked = ["--data", data, "--images", home / "w", "--model", model, "--out", out, "--json"]
        done = command("eval", "mig-bench", *asked)
        assert done.status == 0, done.error
        report = json.loads(done.output)
        by_target = report["breakdowns"]["by_target"]
        assert by_target["absent"]["n"] == by_target["present"]["n"] == 18
        assert by_target["absent"]["acc@0.5"] == refuses
        if refuses:
            assert by_target["present"]["mean_iou"] == 0 and report["average"]["acc@0.5"] == 50
            assert all(one["outcomes"] == {"correct": 6, "refused": 6} for one in report["per_task"].values())
    shown = command("table", tmp_path / "100", tmp_path / "0")
    assert "Whether what is asked for is there" in shown.output
    assert command("report", tmp_path / "100", tmp_path / "0", "--out", tmp_path / "page").status == 0
