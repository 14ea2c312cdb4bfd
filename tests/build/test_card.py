"""The card: its figures against a plain count, its pictures, and that `datasets` loads what it describes."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image, ImageColor

from migician.boxes import Box
from migician.boxtext import QWEN, parse_boxes
from migician.build.card.album import album, draw_sample
from migician.build.card.charts import histograms
from migician.build.card.readme import readme
from migician.build.dataset import build
from migician.build.image_roots import ImageRoots
from migician.draw import PALETTE, PREDICTION
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.samples import survey as surveying
from migician.samples.box_places import places
from migician.samples.sample import Sample, read_samples, sample, write_samples
from migician.samples.survey import AREA_EDGES, Figures, survey
from migician.sources import SOURCES
from migician.tasks import common_object, difference, free_form, object_tracking, referring_grounding, region_locating
from migician.tasks.draft import FORMATS, Wordings, image_fields
from migician.training.check import check
from tests.build.test_build import MINIATURE


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    roots = make_world(
        home / "w", 5, Amounts(got10k=12, coco=80, objects365=12, magicbrush=12, sa1b=24, imagenet=60, held_out=1)
    )
    sources = {name: root for name, root in roots.items() if name != "mig-bench"}
    return build(["all"], sources, home / "d", count=6, config=MINIATURE).folder


def counted(samples: list[Sample]) -> dict[str, Any]:
    boxes = [box for one in samples for turn in one.conversations for box in parse_boxes(turn.value).boxes]
    classes = [sum(box.area > edge + 1e-9 for edge in AREA_EDGES[1:-1]) for box in boxes]
    copying: dict[str, Any] = {}
    for one in samples:
        question, answer = (parse_boxes(turn.value).boxes for turn in one.conversations[:2])
        if question and answer and one.type == "ot_train":
            source = "/".join(one.images[0].split("/")[2:4])
            found = copying.setdefault(source, {"answers": 0, "copyable": 0, "shuffled": 0})
            found["answers"] += len(answer)
            found["copyable"] += sum(box.iou(question[0]) >= 0.5 for box in answer)
    return {
        "samples": len(samples),
        "images": dict(sorted(Counter(len(one.images) for one in samples).items())),
        "turns": dict(sorted(Counter(len(one.conversations) // 2 for one in samples).items())),
        "box_areas": [classes.count(number) for number in range(len(AREA_EDGES) - 1)],
        "copying": copying,
    }


class TestSurvey:
    @pytest.mark.parametrize("block", [1, 700, 1 << 20])
    def test_it_counts_what_a_plain_count_counts(
        self, built: Path, monkeypatch: pytest.MonkeyPatch, block: int
    ) -> None:
        monkeypatch.setattr(surveying, "_BLOCK", block)
        for family in ("Object_Tracking", "Free-Form", "Difference"):
            file = built / f"{family}.json"
            told = json.loads((built / "card.json").read_text())["figures"][family]
            figures = msgspec.to_builtins(survey(file, 0, 3).figures) | {"copying": told["copying"]}
            assert figures == counted(read_samples(file))

    def test_edges_of_the_classes_belong_to_the_lower_one(self, tmp_path: Path) -> None:
        # Whole permille: 100 x 100 is exactly 1%, one more on a side is above.
        texts = [QWEN.write(Box.from_permille(0, 0, x, y)) for x, y in ((100, 100), (101, 100), (1000, 1000), (1, 1))]
        write_samples(tmp_path / "a.json", [sample("a", ["a"], [("<image>" + " ".join(texts), "no box")], "t")])
        assert survey(tmp_path / "a.json", 0, 1).figures.box_areas == [1, 0, 1, 1, 0, 0, 1]

    def test_a_draw_is_fair_repeats_and_does_not_depend_on_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "a.json"
        write_samples(file, [sample(number, ["a"], [("<image>?", "!")], "t") for number in range(30)])
        drawn: Counter[int] = Counter()
        for seed in range(300):
            picked = survey(file, seed, 10).picked
            monkeypatch.setattr(surveying, "_BLOCK", 90)
            assert survey(file, seed, 10).picked == picked
            monkeypatch.undo()
            ids = [json.loads(record)["id"] for record in picked]
            assert len(set(ids)) == 10
            drawn.update(ids)
        # Each is expected 100 times with a deviation of 8; five of them never happen.
        assert set(drawn) == set(range(30)) and all(60 < count < 140 for count in drawn.values())

    @pytest.mark.parametrize("count", [0, 1])
    def test_files_with_hardly_anything(self, tmp_path: Path, count: int) -> None:
        write_samples(tmp_path / "a.json", [sample("a", ["a"], [("<image>?", "!")], "t")] * count)
        found = survey(tmp_path / "a.json", 0, 12)
        assert (found.figures.samples, len(found.picked)) == (count, count)


def filled(samples: int) -> Figures:
    return Figures(samples, {2: samples}, {1: samples // 2, 40: samples - samples // 2}, [samples] * 7)


class TestHistograms:
    FAMILIES = {f"Group_Grounding_REG_{number}": filled(1_300_000 + number) for number in range(9)}

    def test_the_same_bytes_whatever_matplotlib_is_set_to(self) -> None:
        first = histograms(self.FAMILIES)
        with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "black", "savefig.bbox": "tight"}):
            assert histograms(self.FAMILIES) == first

    @pytest.mark.parametrize(
        "families", [FAMILIES, {"Difference": filled(1)}, {"Difference": Figures(0, {}, {}, [0] * 7)}]
    )
    def test_nothing_is_cut_off(self, families: dict[str, Figures]) -> None:
        with Image.open(io.BytesIO(histograms(families))) as opened:
            picture = np.asarray(opened.convert("L"))
        for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
            assert (edge == 255).all()
        assert (picture < 100).any()


# One row for each family whose answers may be a box alone: its wordings, and its images that can be asked about.
BRIEF = [
    ("ot_train", object_tracking.ONE, (1, 2, 3)),
    ("co_train", common_object.QUESTIONS, (0, 1, 2)),
    ("rg_train", referring_grounding.QUESTIONS, (1,)),
    ("diff_train", difference.ONE, (0, 1)),
]


class TestPlaces:
    @pytest.mark.parametrize(("type_", "wordings", "positions"), BRIEF)
    def test_no_wording_leads_a_box_to_a_wrong_image(
        self, type_: str, wordings: Wordings, positions: tuple[int, ...]
    ) -> None:
        answer = QWEN.write(Box(0.1, 0.2, 0.3, 0.4))
        placed = []
        for wording in (*wordings.benchmark, *wordings.own):
            for position in positions:
                question = wording.format(**image_fields(position), box=QWEN.write(Box(0, 0, 0.5, 0.5)), object="a dog")
                for ending in ("", " " + FORMATS[0]):
                    (mention,) = parse_boxes(answer).mentions
                    found = places(type_, mention, answer, question + ending, 4, given=False)
                    assert found in ((position,), (0, 1, 2, 3)), question
                    placed.append(len(found) == 1)
        assert all(placed)

    def test_a_change_with_one_box_is_in_the_named_image_or_in_both(self) -> None:
        answer = QWEN.write(Box(0.1, 0.2, 0.3, 0.4))
        (mention,) = parse_boxes(answer).mentions
        for wording in (*difference.EITHER.benchmark, *difference.EITHER.own):
            for position in (0, 1):
                found = places("diff_train", mention, answer, wording.format(**image_fields(position)), 2, given=False)
                # "... from the first image to the second" names only one in full: the box is as good there.
                assert found in (((position,),) if "{" in wording else ((0, 1), (0,), (1,))), wording

    @pytest.mark.parametrize(
        ("type_", "sentences", "position", "fields"),
        [
            ("ff_train", free_form.SENTENCES, 2, {}),
            ("ot_train", object_tracking.SENTENCES, 2, {}),
            ("rl_train", region_locating.SENTENCES, 0, {"image": 2}),
            ("rg_train", referring_grounding.SENTENCES, 1, {}),
        ],
    )
    def test_an_answer_that_names_the_image(
        self, type_: str, sentences: tuple[str, ...], position: int, fields: dict[str, int]
    ) -> None:
        for sentence in sentences:
            told = sentence.format(**{**image_fields(position), "object": "a dog", **fields})
            text = f"{told} {QWEN.write(Box(0.1, 0.2, 0.3, 0.4))}"
            (mention,) = parse_boxes(text).mentions
            assert places(type_, mention, text, "Where is it?", 3, given=False) == (position,)

    @pytest.mark.parametrize(
        ("answer", "where"),
        [
            ("{box}", (0, 1, 2)),
            ("{box} in the second image", (1,)),
            ("Image-9: {box}", ()),
        ],
    )
    def test_a_box_whose_question_names_no_image(self, answer: str, where: tuple[int, ...]) -> None:
        text = answer.format(box=QWEN.write(Box(0.1, 0.2, 0.3, 0.4)))
        (mention,) = parse_boxes(text).mentions
        assert places("gg_train", mention, text, "Where in these images is a dog?", 3, given=False) == where


def painted(picture: Image.Image, colour: str) -> np.ndarray:
    return (np.asarray(picture) == np.array(ImageColor.getrgb(colour))).all(axis=-1)


class TestAlbum:
    @staticmethod
    def records(folder: Path, missing: Iterator[int] | tuple[int, ...] = ()) -> list[bytes]:
        lines = []
        for number in range(8):
            if number not in missing:
                Image.new("RGB", (400, 300), (90, 90, 90)).save(folder / f"{number}.png")
            asked = f"<image>What is at {QWEN.write(Box(0, 0, 0.5, 0.5))} in the first image?"
            told = sample(number, [f"./{number}.png"], [(asked, f"Here: {QWEN.write(Box(0.5, 0.5, 1, 1))}")], "x")
            write_samples(folder / "one.json", [told])
            lines.append((folder / "one.json").read_bytes().strip(b"[]\n"))
        return lines

    def test_boxes_of_questions_and_answers_have_their_colours(self, tmp_path: Path) -> None:
        shown = album({"Free-Form": self.records(tmp_path)[:1]}, ImageRoots([tmp_path], [tmp_path]), 12)
        assert (shown.shown, shown.unreadable) == (1, 0)
        assert shown.picture is not None
        blue, orange = painted(shown.picture, PALETTE[1]), painted(shown.picture, PREDICTION)
        assert blue.any() and orange.any()
        # The one ends where the other begins: both corners are in the middle of the image.
        assert np.nonzero(blue)[1].max() <= np.nonzero(orange)[1].min() + 3

    def test_what_cannot_be_opened_is_passed_over_and_counted(self, tmp_path: Path) -> None:
        records = self.records(tmp_path, missing=(0, 3))
        (tmp_path / "4.png").write_bytes(b"no image")
        shown = album({"A": records[:4], "B": records[4:]}, ImageRoots([tmp_path], [tmp_path]), 4)
        assert (shown.shown, shown.unreadable) == (4, 2)  # 0 and 4: what is not needed is not looked at
        nothing = album({"A": records[:1], "B": records[3:5]}, ImageRoots([tmp_path], [tmp_path]), 12)
        assert (nothing.picture, nothing.shown, nothing.unreadable) == (None, 0, 3)

    def test_one_sample_is_drawn_as_in_the_album(self, tmp_path: Path) -> None:
        (record, *_) = self.records(tmp_path)
        drawn = draw_sample(msgspec.json.decode(record, type=Sample), tmp_path)
        assert painted(drawn, PALETTE[1]).any() and painted(drawn, PREDICTION).any()
        with pytest.raises(UserError, match="sample 0: an image of it cannot be opened"):
            draw_sample(msgspec.json.decode(record, type=Sample), tmp_path / "elsewhere")

    def test_families_come_by_turns(self, tmp_path: Path) -> None:
        records = self.records(tmp_path)
        alone = [album({"A": [one]}, ImageRoots([tmp_path], [tmp_path]), 1).picture for one in (records[0], records[7])]
        both = album({"A": records[:7], "B": records[7:]}, ImageRoots([tmp_path], [tmp_path]), 2).picture
        assert both is not None and all(one is not None and one.height == both.height for one in alone)


class TestDataset:
    def test_datasets_loads_every_family(self, built: Path, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")
        files = {"default": "MGrounding-630k", **{name: name for name in ("Object_Tracking", "Free-Form")}}
        for name, stem in files.items():
            loaded = datasets.load_dataset(str(built), name, split="train", cache_dir=str(tmp_path))
            assert list(loaded) == json.loads((built / f"{stem}.json").read_text())
        names = {one.stem for one in built.glob("*.json")} - {"card", "dataset_info", "MGrounding-630k"}
        assert set(datasets.get_dataset_config_names(str(built))) == {"default", *names}

    def test_a_part_without_samples_is_no_config(self, built: Path, tmp_path: Path) -> None:
        roots = {"magicbrush": built.parent / "w" / "sources" / "magicbrush"}
        recipe = tmp_path / "r.yaml"
        recipe.write_text(
            "tasks: {difference: {sources: {magicbrush: 5}, settings: {area: [0.9999, 1]}}, "
            "free_form: {sources: {coco: 3}}}"
        )
        roots["coco"] = roots["magicbrush"].with_name("coco")
        made = build(["all"], roots, tmp_path / "d", config=recipe)
        assert not (made.folder / "Difference.json").exists()
        assert set(json.loads((made.folder / "dataset_info.json").read_text())) == {"free_form", "mgrounding"}
        configs = front_matter(made.folder / "README.md")["configs"]
        assert [one["config_name"] for one in configs] == ["default", "Free-Form"]
        assert [path.name for path in (made.folder / "MGrounding-630k").iterdir()] == ["Free-Form"]
        # It is said at the end of the build and on the card, with the reason.
        (part,) = made.short
        said = "difference from magicbrush: 0 of 5 samples, all that the source gives (12 pairs, passes: 1); change too"
        assert part.shortfall.startswith(said)
        assert part.shortfall in (made.folder / "README.md").read_text()
        report = check(made.folder)
        assert report.findings == [] and report.samples == 3

    def test_a_dataset_without_a_sample_is_refused_with_the_reason(self, built: Path, tmp_path: Path) -> None:
        roots = {"magicbrush": built.parent / "w" / "sources" / "magicbrush"}
        recipe = tmp_path / "r.yaml"
        recipe.write_text("tasks: {difference: {sources: {magicbrush: 5}, settings: {area: [0.9999, 1]}}}")
        with pytest.raises(UserError, match=r"not one sample could be made.*change too small or too large: 12"):
            build(["all"], roots, tmp_path / "d", config=recipe)
        assert sorted(tmp_path.iterdir()) == [recipe]

    def test_its_title_is_the_name_it_is_given(self, built: Path, tmp_path: Path) -> None:
        roots = {"magicbrush": built.parent / "w" / "sources" / "magicbrush"}
        named = build(["difference"], roots, tmp_path / "d", count=2, name="Edits of kitchens").folder
        assert "\n# Edits of kitchens, built by migician\n" in (named / "README.md").read_text()
        assert (named / "MGrounding-630k.json").exists()

    @pytest.mark.parametrize("collect", [False, True])
    def test_images_are_those_that_the_samples_use(self, built: Path, tmp_path: Path, collect: bool) -> None:
        roots = {"coco": built.parent / "w" / "sources" / "coco"}
        made = build(["free_form", "common_object"], roots, tmp_path / "d", count=5, collect=collect).folder
        named = {image for one in read_samples(made / "MGrounding-630k.json") for image in one.images}
        # One photo of COCO in two families is one image.
        used = {Path(image).resolve() if not collect else image.split("/", 3)[3] for image in named}
        card = json.loads((made / "card.json").read_text())
        assert card["images"] == len({str(image).rpartition("COCO/")[2] for image in used})
        assert card["image_files"] == (len(named) if collect else 0)

    def test_the_front_matter_and_the_sections(self, built: Path) -> None:
        front, text = front_matter(built / "README.md"), (built / "README.md").read_text()
        assert (front["license"], front["size_categories"]) == ("other", ["n<1K"])
        for source in ("got10k", "coco", "objects365", "magicbrush"):
            assert f"- {SOURCES[source].folder}: {SOURCES[source].terms}\n" in text
        card = json.loads((built / "card.json").read_text())
        for part in card["parts"]:
            for reason, count in part["refused"].items():
                assert f"| {part['task']} | {part['source']} | choosing | {reason} | {count:,} |" in text
        assert "![" in text and card["look"] == {"samples": 12, "unreadable": 0}

    def test_the_recipe_on_the_card_makes_the_same_again(self, built: Path, tmp_path: Path) -> None:
        card = json.loads((built / "card.json").read_text())
        (tmp_path / "recipe.yaml").write_text(json.dumps(card["recipe"]))
        used = {part["source"] for part in card["parts"]}
        roots = {name: built.parent / "w" / "sources" / name for name in used}
        again = build(["all"], roots, tmp_path / "d", config=tmp_path / "recipe.yaml").folder
        assert json.loads((again / "card.json").read_text())["files"] == card["files"]
        assert "How it was made" in (again / "README.md").read_text()
        assert "arXiv:2501.05767" in (again / "README.md").read_text()

    def test_figures_on_the_card_are_those_of_its_files(self, built: Path) -> None:
        figures = json.loads((built / "card.json").read_text())["figures"]
        for family, found in figures.items():
            wanted = counted(read_samples(built / f"{family}.json"))
            assert found == json.loads(json.dumps(wanted))


@pytest.mark.parametrize(
    ("samples", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (630_000, "100K<n<1M"), (10**7, "10M<n<100M")]
)
def test_sizes_as_the_hub_names_them(samples: int, name: str) -> None:
    card = {"name": "x", "samples": samples, "seed": 0, "stored": "files", "parts": [], "versions": {}}
    text = readme(card | {"look": {"samples": 0, "unreadable": 0}, "mig_bench": {"sentence": ""}}, {})
    assert yaml.safe_load(text.split("---")[1])["size_categories"] == [name]


def test_terms_are_those_of_the_reference(shared: Path) -> None:
    table = (shared / "data/sources/PROVENANCE.md").read_text()
    assert all(one.terms for one in SOURCES.values())
    assert [name for name, one in SOURCES.items() if one.withheld] == ["objects365"]
    for quoted in (
        "SA-1B Dataset Research License",
        "CC BY-NC-SA 3.0 (unverified)",
        "non-commercial research (unverified)",
    ):
        assert quoted in table and any(quoted in one.terms for one in SOURCES.values())


def front_matter(file: Path) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load(file.read_text().split("---\n")[1])
    return head
