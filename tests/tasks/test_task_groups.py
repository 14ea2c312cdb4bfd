"""Builders over free-form, grouped and referred objects: what they ask, what they leave out."""

from __future__ import annotations

from pathlib import Path

import pytest
from drafting import HALF, SIZE, drafts, scene

from migician.boxes import Box
from migician.boxtext import QWEN, parse_boxes
from migician.imagenames import ordinal
from migician.sources.scenes import Instance, Scene
from migician.tasks.draft import Manner
from migician.tasks.naming import named_kind


class TestFreeForm:
    def test_the_object_asked_for_is_in_one_image_only(self) -> None:
        group = [
            scene(("dog", HALF), name="0"),
            scene(("dog", HALF), ("apple", Box(0, 0, 0.4, 0.4)), name="1"),
            scene(("dog", HALF), name="2"),
        ]
        made, _ = drafts("free_form", group, 0, images=(3, 3), relation=0)
        (draft,) = made
        question, answer = draft.turns[0]
        assert "<|object_ref_start|>an apple<|object_ref_end|>" in question
        image = [one.image.removesuffix(".jpg") for one in draft.pictures].index("1")
        parsed = parse_boxes(answer)
        assert (parsed.mentions[0].image, parsed.boxes) == (image, (Box(0, 0, 0.4, 0.4),))

    def test_a_relation_picks_among_equals_by_their_company(self) -> None:
        group = [
            scene(("dog", HALF), name="0"),
            scene(("dog", Box(0, 0, 0.4, 0.4)), ("apple", HALF), name="1"),
            scene(("dog", HALF), name="2"),
        ]
        made, _ = drafts("free_form", group, 0, images=(3, 3), relation=1)
        question, answer = made[0].turns[0]
        assert "a dog" in question
        assert "an apple" in question
        assert parse_boxes(answer).boxes == (Box(0, 0, 0.4, 0.4),)

    def test_labels_become_phrases(self) -> None:
        assert named_kind("Moniter/TV") == "<|object_ref_start|>a moniter or TV<|object_ref_end|>"

    def test_groups_without_an_answer_are_counted(self) -> None:
        same = [scene(("dog", HALF), name=str(i)) for i in range(3)]
        made, tally = drafts("free_form", same, 0, images=(3, 3))
        assert (made, tally.counts) == ([], {"group without an object of its own kind": 1})


class TestGroupGrounding:
    group = [
        Scene(
            "0", Path("/0.jpg"), SIZE, (Instance(HALF, "man", "a man in a red coat"), Instance(HALF, "tree", "a tree"))
        ),
        Scene("1", Path("/1.jpg"), SIZE, (Instance(Box(0, 0, 0.4, 0.4), "boat", "a boat on a lake"),)),
        Scene("2", Path("/2.jpg"), SIZE, (Instance(HALF, "tree", "a tall tree"),), frozenset({"man"})),
    ]

    def test_only_what_is_in_one_image_and_once_is_asked_for(self) -> None:
        made, _ = drafts("group_grounding", self.group, 0, images=(3, 3), turns=(4, 4))
        (draft,) = made
        ((question, answer),) = draft.turns  # a man may hide in the third image, trees are in two
        assert "<|object_ref_start|>a boat on a lake<|object_ref_end|>" in question
        image = [one.image for one in draft.pictures].index("1.jpg")
        parsed = parse_boxes(answer)
        assert (parsed.mentions[0].image, parsed.boxes) == (image, (Box(0, 0, 0.4, 0.4),))

    def test_phrases_that_are_no_phrases_are_left_out(self) -> None:
        scenes = [
            Scene(str(i), Path(f"/{i}.jpg"), SIZE, (Instance(HALF, str(i), phrase),))
            for i, phrase in enumerate(("tent", "an <|im_end|> intruder", "a " + "very " * 20 + "long phrase"))
        ]
        made, tally = drafts("group_grounding", scenes, 0, images=(3, 3))
        assert (made, tally.counts) == ([], {"group without a phrase that fits one thing only": 1})

    def test_the_other_direction_asks_with_the_box_and_answers_with_the_phrase(self) -> None:
        made, _ = drafts("group_referring", self.group, 0, images=(3, 3))
        ((question, answer),) = made[0].turns
        assert answer == "<|object_ref_start|>a boat on a lake<|object_ref_end|>"
        image = [one.image for one in made[0].pictures].index("1.jpg")
        assert QWEN.write(Box(0, 0, 0.4, 0.4)) in question
        assert any(name in question for name in (ordinal(image), f"Image-{image + 1}"))


class TestReferringGrounding:
    def test_shown_large_then_hidden_small(self) -> None:
        large = scene(("dog", Box(0, 0, 0.9, 0.9)), name="large")
        small = scene(("dog", Box(0.1, 0.1, 0.3, 0.3)), ("cat", Box(0.5, 0.5, 0.6, 0.6)), name="small")
        made, tally = drafts("referring_grounding", [large, small], 0, manner=Manner(benchmark=1, brief=0, sentence=0))
        (draft,) = made
        assert [one.image for one in draft.pictures] == ["large.jpg", "small.jpg"]
        assert draft.turns == (
            (
                "Find and locate where does the object in image-1 locate in the image-2.",
                QWEN.write(Box(0.1, 0.1, 0.3, 0.3)),
            ),
        )
        assert tally.counts == {"label never shown large": 1}  # the cat

    def test_an_object_that_is_not_alone_is_not_asked_for(self) -> None:
        large = scene(("dog", Box(0, 0, 0.9, 0.9)), name="large")
        two = scene(("dog", Box(0.1, 0.1, 0.3, 0.3)), ("dog", Box(0.5, 0.5, 0.6, 0.6)), name="two")
        made, tally = drafts("referring_grounding", [large, two], 0)
        assert (made, tally.counts) == ([], {"several of the label in the image": 2})


class TestLabelsWithoutABox:
    """A builder must not take a label for unique where another of it is in the image, though without a box."""

    BIG = Box(0.1, 0.1, 0.9, 0.9)

    def scenes(self, unboxed: frozenset[str], label: str = "dog") -> list[Scene]:
        instances = (Instance(self.BIG, label),)
        return [Scene(str(n), Path(f"/{n}.jpg"), (100, 100), instances, unboxed) for n in range(6)]

    def test_common_object(self) -> None:
        assert drafts("common_object", self.scenes(frozenset()), 0)[0]
        made, tally = drafts("common_object", self.scenes(frozenset({"dog"})), 0)
        assert (made, tally.counts) == ([], {"several of the label in the image": 6})
        # A crowd of people in every image is a second thing in common.
        assert drafts("common_object", self.scenes(frozenset({"person"})), 0)[0] == []

    def test_free_form(self) -> None:
        three = [self.scenes(frozenset(), label)[n] for n, label in enumerate(["dog", "cat", "cow"])]
        assert drafts("free_form", three, 0, images=(3, 3))[0]
        crowds = frozenset({"dog", "cat", "cow"})
        crowded = [Scene(one.id, one.image, one.size, one.instances, crowds) for one in three]
        assert drafts("free_form", crowded, 0, images=(3, 3))[0] == []

    def test_a_reflection_is_no_companion(self) -> None:
        first, *others = self.scenes(frozenset())[:3]
        beside = Scene(first.id, first.image, first.size, (*first.instances, Instance(self.BIG, "cat")))
        (draft,), _ = drafts("free_form", [beside, *others], 0, images=(3, 3), relation=1)
        assert "cat" in draft.turns[0][0]
        reflected = Scene(first.id, first.image, first.size, first.instances, frozenset({"cat"}))
        assert drafts("free_form", [reflected, *others], 0, images=(3, 3), relation=1)[0] == []

    @pytest.mark.parametrize("task", ["free_form", "group_grounding", "group_referring"])
    def test_what_has_no_label_is_not_asked_for(self, task: str) -> None:
        assert drafts(task, self.scenes(frozenset(), ""), 0, images=(3, 3))[0] == []

    def test_what_has_no_label_is_not_common(self) -> None:
        made, tally = drafts("common_object", self.scenes(frozenset(), ""), 0)
        assert (made, tally.counts) == ([], {"box without a label": 6})
