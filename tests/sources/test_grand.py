"""GranD's descriptions: two whole released files, and small ones made here with what is difficult."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drafting import drafts

from migician.boxes import Box
from migician.sources.formats.grand import LEAST_SCORE, read_grand
from migician.sources.scenes import Instance, Scene, Tally

SIZE = (100, 50)
BOX = [10, 10, 20, 30]


def one(*labels: str, **more: Any) -> dict[str, Any]:
    return {"bbox": BOX, "labels": list(labels), "score": 0.9, "attributes": None, **more}


class Reader:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "sa_1.json"

    def read(self, *objects: Any, **more: Any) -> tuple[list[Instance], set[str], dict[str, int]]:
        self.file.write_text(json.dumps({"sa_1.jpg": {"objects": objects, **more}}))
        tally = Tally()
        instances, unboxed = read_grand(self.file, "sa_1.jpg", SIZE, tally)
        return instances, unboxed, tally.counts


@pytest.fixture
def grand(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


class TestRealFiles:
    SIZE = (2250, 1500)
    PHRASES = {
        "sa_302406": {
            ("awning", "red awning over doorway"),
            ("chair", "a red chair at a table"),
            ("dining table", "a table with chairs"),
            ("person", "man wearing blue shirt"),
            ("person", "man wearing brown pants"),
            ("", "the vibrant atmosphere"),
        },
        "sa_310343": {
            ("hot-air balloon", "a yellow, red and blue hot air balloon"),
            ("", "a beautiful view of the cityscape and a river below"),
            ("", "red lettering on the blue background"),
            ("", "round circle with white letters"),
        },
    }

    @pytest.mark.parametrize("name", PHRASES)
    def test_every_box_and_phrase(self, shared: Path, name: str) -> None:
        """Each thing is a region of the file, found again in the plainest way, clipped to the image."""
        file = shared / f"cases/grand/{name}.json"
        content = json.loads(file.read_text())[f"{name}.jpg"]
        regions = [*content["objects"], *content["floating_objects"], *content["floating_attributes"]]
        believed = [region for region in regions if region.get("score", 1) >= LEAST_SCORE]
        tally = Tally()
        instances, unboxed = read_grand(file, f"{name}.jpg", self.SIZE, tally)
        assert len(instances) == len(believed)
        for instance, region in zip(instances, believed, strict=True):
            x1, y1, x2, y2 = region["bbox"]
            inside = max(x1, 0) / 2250, max(y1, 0) / 1500, min(x2, 2250) / 2250, min(y2, 1500) / 1500
            assert instance.box.as_tuple() == pytest.approx(inside, abs=1e-9)
        assert tally.counts[f"object of GranD with a score below {LEAST_SCORE}"] == len(regions) - len(believed)
        assert {(instance.label, instance.phrase) for instance in instances if instance.phrase} == self.PHRASES[name]
        doubted = {label.replace("_", " ") for region in regions for label in region["labels"]} - {
            instance.label for instance in instances
        }
        doubted -= {"view", "scene", "atmosphere"}  # nothing to point at
        assert {label.partition(" (")[0] for label in doubted} <= unboxed | {instance.label for instance in instances}

    def test_what_is_asked(self, shared: Path) -> None:
        """Of a group of both images: what a phrase or the label alone tells from all else, and no other."""
        scenes = []
        for name in self.PHRASES:
            file = shared / f"cases/grand/{name}.json"
            instances, unboxed = read_grand(file, f"{name}.jpg", self.SIZE, Tally())
            scenes.append(Scene(name, Path(f"/{name}.jpg"), self.SIZE, tuple(instances), frozenset(unboxed)))
        asked: set[str] = set()
        for seed in range(60):
            made, _ = drafts("group_grounding", scenes, seed, images=(2, 2), area=(0.0, 1.0), turns=(4, 4))
            text = " ".join(question for draft in made for question, _ in draft.turns)
            asked |= {part.partition("<|object_ref_end|>")[0] for part in text.split("<|object_ref_start|>")[1:]}
        phrases = {phrase for one in self.PHRASES.values() for _, phrase in one}
        assert asked - phrases == {"a dress", "a fork", "a saltshaker", "a belt", "a vent", "a float", "a silo"}
        # There are people in both images.
        assert phrases - asked == {"man wearing blue shirt", "man wearing brown pants"}


class TestRegions:
    def test_labels_scores_and_boxes(self, grand: Reader) -> None:
        instances, unboxed, counts = grand.read(
            one("person", attributes=["a woman in an orange shirt"]),
            one("flip-flop_(sandal)", "shoe", bbox=[10, 0, 50, 50]),
            one("kite", score=LEAST_SCORE - 0.01),
            one("boat", score=LEAST_SCORE),
            one("tower", score=None),
            floating_objects=[one("sky", bbox=[0, 0, 100, 25])],
        )
        assert [(instance.box, instance.label, instance.phrase) for instance in instances] == [
            (Box(0.1, 0.2, 0.2, 0.6), "person", "a woman in an orange shirt"),
            (Box(0.1, 0, 0.5, 1), "flip-flop", ""),
            (Box(0.1, 0.2, 0.2, 0.6), "boat", ""),
            (Box(0.1, 0.2, 0.2, 0.6), "tower", ""),
            (Box(0, 0, 1, 0.5), "sky", ""),
        ]
        assert unboxed == {"shoe", "kite"}
        assert counts == {f"object of GranD with a score below {LEAST_SCORE}": 1}

    def test_a_label_that_names_no_thing_is_none(self, grand: Reader) -> None:
        """Nobody can point at an atmosphere; what a phrase says of such a region may be asked for."""
        instances, unboxed, counts = grand.read(
            one("Atmosphere"),
            one("view", "scene", attributes="a view of the river below"),
            one("scene", "boat"),
        )
        assert [(instance.label, instance.phrase) for instance in instances] == [
            ("", "a view of the river below"),
            ("boat", ""),
        ]
        assert (unboxed, counts) == (set(), {"object of GranD without a label or phrase": 1})

    def test_boxes_beyond_the_image_are_clipped(self, grand: Reader) -> None:
        instances, unboxed, counts = grand.read(
            one("beyond", bbox=[10, 10, 200, 30]),
            one("before", bbox=[-30, 10, 20, 30]),
            one("rounded", bbox=[-0.01, 0, 100.01, 50]),
            one("outside", bbox=[120, 10, 140, 30]),
            one("fractions", bbox=[0.1, 0.2, 0.5, 0.6]),
            one("x y w h", bbox=[60, 20, 30, 20]),
            one("three", bbox=[60, 20, 80]),
            one("none", bbox=None),
        )
        assert [(instance.label, instance.box) for instance in instances] == [
            ("beyond", Box(0.1, 0.2, 1, 0.6)),
            ("before", Box(0, 0.2, 0.2, 0.6)),
            ("rounded", Box(0, 0, 1, 1)),
        ]
        assert unboxed == {"outside", "fractions", "x y w h", "three", "none"}
        assert counts == {
            "box clipped to the image": 2,
            "box without area in the image": 1,
            "box of GranD smaller than a pixel": 2,
            "object of GranD without a box": 2,
        }

    def test_a_box_taken_from_sa1b_lacks_its_last_pixel_too(self, grand: Reader) -> None:
        box = one("cup", bbox=[10, 10, 19, 29])
        instances, _, _ = grand.read(box | {"segmentation_source": "SAM"}, box | {"segmentation_source": "EVA"})
        assert [instance.box for instance in instances] == [Box(0.1, 0.2, 0.2, 0.6), Box(0.1, 0.2, 0.19, 0.58)]

    @pytest.mark.parametrize("absent", ["objects", "floating_objects", "floating_attributes", "relationships"])
    def test_parts_may_be_null(self, grand: Reader, absent: str) -> None:
        content: dict[str, Any] = {"objects": [one("cup")], absent: None}
        grand.file.write_text(json.dumps({"sa_1.jpg": content}))
        instances, _ = read_grand(grand.file, "sa_1.jpg", SIZE, Tally())
        assert [instance.label for instance in instances] == ([] if absent == "objects" else ["cup"])

    def test_a_floating_attribute_has_a_phrase_and_no_label(self, grand: Reader) -> None:
        floating = [
            one(attributes=["red lettering on the blue background"]),
            one(attributes=["the lettering is red"]),
            one(attributes=None),
        ]
        instances, unboxed, counts = grand.read(floating_attributes=floating)
        assert [(instance.label, instance.phrase) for instance in instances] == [
            ("", "red lettering on the blue background")
        ]
        assert unboxed == set()
        assert counts == {"phrase that is a sentence": 1, "object of GranD without a label or phrase": 2}


class TestPhrases:
    @pytest.mark.parametrize(
        ("attributes", "phrase"),
        [
            ("a red cup", "a red cup"),
            (["Assistant: a red cup"], "a red cup"),
            (["istant: a red  cup\n"], "a red cup"),
            (["on the table", "a Red cup"], "a Red cup"),
            (["on the table", "red"], ""),
            (["the cup is red"], ""),
            (["the cup is red", "cup that is red"], "cup that is red"),
            (["it's a cup"], ""),
            (["a saucer with a cup"], ""),
            (["a cup handle"], ""),
            (["a white, red and blue cup filled with tea"], "a white, red and blue cup filled with tea"),
            (["a cup and a saucer"], "a cup and a saucer"),
            (["<image> a cup", "a cup <|box_start|>", ""], ""),
            ([], ""),
            (None, ""),
        ],
    )
    def test_which_is_taken(self, grand: Reader, attributes: Any, phrase: str) -> None:
        instances, _, _ = grand.read(one("red_cup", attributes=attributes))
        assert [(instance.label, instance.phrase) for instance in instances] == [("red cup", phrase)]

    @pytest.mark.parametrize(
        ("label", "phrase", "names"),
        [
            ("person", "man wearing blue shirt", True),
            ("woman", "two people sitting at a table", True),
            ("shirt", "man wearing blue shirt", False),
            ("wineglass", "a glass of wine", True),
            ("streetlight", "a street at night", False),
            ("awning", "red awning hanging over the door", True),
            ("awning", "red and white sign", False),
            ("hot-air balloon", "large multi colored beach umbrella", False),
            ("balloon", "white and red logo on the kite", False),
            ("potted plant", "a large potted plant next to the window", True),
            ("glasses", "a pair of glasses", False),  # better one lost than one wrong
            ("boxes", "two boxes on the floor", True),
            ("street", "a narrow street with tables and chairs", True),
            ("building", "a building covered in ivy", True),
            ("car", "cars parked along the street", True),
        ],
    )
    def test_whether_it_names_the_label(self, grand: Reader, label: str, phrase: str, names: bool) -> None:
        instances, _, counts = grand.read(one(label, attributes=[phrase]))
        assert [instance.phrase for instance in instances] == [phrase if names else ""]
        assert counts == ({} if names else {"phrase that names another thing than the label": 1})

    @pytest.mark.parametrize(
        ("other", "alone"),
        [
            (one("chair"), True),
            (one("chair", attributes=["a red chair at a table"]), False),
            (one("chair", attributes=["the chair is red"]), False),
            (one("chair", attributes=["red chairs"], score=0.1), False),
            (one("chair", attributes=["a blue chair"]), True),
            (one("table", attributes=["a table with a red chair"]), True),
            (one("stool", "red_chair"), False),
        ],
    )
    def test_a_phrase_that_fits_another_object_is_not_used(self, grand: Reader, other: Any, alone: bool) -> None:
        instances, _, counts = grand.read(one("chair", attributes=["a red chair"]), other)
        assert instances[0].phrase == ("a red chair" if alone else "")
        assert counts.get("phrase that fits another object of the image", 0) == (not alone)

    @pytest.mark.parametrize(
        ("labels", "kept"),
        [
            (("table", "dining table"), {"dining table"}),
            (("tables", "table"), set()),
            (("man", "person"), set()),
            (("car", "car_(automobile)"), {"car"}),  # twice the same, which the index sees
            (("boat", "sail"), {"boat", "sail"}),
        ],
    )
    def test_a_label_that_fits_another_object_is_not_the_only_one(
        self, grand: Reader, labels: tuple[str, ...], kept: set[str]
    ) -> None:
        instances, unboxed, _ = grand.read(*map(one, labels))
        assert {instance.label for instance in instances} - unboxed == (kept if labels[0] != "car" else set())

    def test_captions_give_phrases_to_single_objects(self, grand: Reader) -> None:
        grounding = [
            {"phrase": "a hot air balloon flying over a river", "object_ids": [7]},
            {"phrase": "outdoor seating", "object_ids": [7]},
            {"phrase": "boats", "object_ids": [7, 8]},
            {"phrase": "a ghost", "object_ids": [9]},
            {"phrase": "nothing", "object_ids": []},
        ]
        balloon = one("hot-air_balloon", id=7, attributes=["the balloon is red"])
        instances, _, counts = grand.read(balloon, one("boat", id=8), relationships={"grounding": grounding})
        assert [instance.phrase for instance in instances] == ["a hot air balloon flying over a river", ""]
        assert counts == {
            "phrase of several objects": 1,
            "phrase of an object that is not there": 2,
            "phrase that is a sentence": 1,
            "phrase that names another thing than the label": 1,
        }


class TestAsking:
    """What builders make of a thing that only its phrase tells from others of its label."""

    BIG = Box(0.1, 0.1, 0.9, 0.9)

    def group(self, *others: Instance) -> list[Scene]:
        chairs = (Instance(self.BIG, "chair", "a red chair"), Instance(self.BIG, "chair"))
        sign = (Instance(self.BIG, "", "red letters on a wall"),)
        return [
            Scene(str(at), Path(f"/{at}.jpg"), SIZE, instances)
            for at, instances in enumerate((chairs, sign, others or (Instance(self.BIG, "dog"),)))
        ]

    @pytest.mark.parametrize("task", ["group_grounding", "group_referring"])
    def test_by_its_phrase(self, task: str) -> None:
        (draft,), _ = drafts(task, self.group(), 0, images=(3, 3), turns=(4, 4))
        said = " ".join(text for turn in draft.turns for text in turn)
        assert len(draft.turns) == 3
        assert all(f">{name}<" in said for name in ("a red chair", "red letters on a wall", "a dog"))

    def test_not_where_another_image_has_its_label(self) -> None:
        (draft,), _ = drafts("group_grounding", self.group(Instance(self.BIG, "chair")), 0, images=(3, 3), turns=(4, 4))
        assert "chair" not in " ".join(question for question, _ in draft.turns)
        assert len(draft.turns) == 1

    def test_not_where_another_image_has_its_phrase(self) -> None:
        other = Instance(self.BIG, "", "Red letters on a wall")
        (draft,), _ = drafts("group_grounding", self.group(other), 0, images=(3, 3), turns=(4, 4))
        assert "letters" not in " ".join(question for question, _ in draft.turns)
