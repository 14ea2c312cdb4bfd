"""Builders: proper boxes, exact format, the published filters, the same drafts for the same seed."""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import QWEN, parse_boxes
from migician.imagenames import ordinal
from migician.index.pairs import Pairs, write_pairs
from migician.index.scenes import Scenes, write_scenes
from migician.index.tracks import Tracks, write_tracks
from migician.samples import sample
from migician.scenes import Frame, ImagePair, Scene, Tally, Thing, Track
from migician.tasks import TASKS, group_referring
from migician.tasks.draft import FORMATS, Draft, Manner, Wordings
from migician.tasks.grouping import named_kind

SIZE = (640, 480)
LABELS = ("dog", "cat", "bird", "Moniter/TV", "apple")


def boxes() -> st.SearchStrategy[Box]:
    """Boxes as readers give them: proper, down to a hair's breadth."""
    pair = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda two: two[0] < two[1])
    return st.builds(lambda x, y: Box(x[0], y[0], x[1], y[1]), pair, pair)


def scenes_(most: int = 14) -> st.SearchStrategy[list[Scene]]:
    phrases = st.sampled_from(["", "a very small one", "the other one.", "one"])
    things = st.lists(st.builds(Thing, boxes(), st.sampled_from(LABELS), phrases), min_size=1, max_size=most)
    return st.lists(things, max_size=12).map(
        lambda lists: [Scene(str(i), Path(f"/{i}.jpg"), SIZE, tuple(one)) for i, one in enumerate(lists)]
    )


def tracks() -> st.SearchStrategy[list[Track]]:
    frames = st.lists(st.none() | boxes(), min_size=1, max_size=40)
    return st.lists(frames, max_size=5).map(
        lambda lists: [
            Track(str(i), tuple(Frame(Path(f"/{i}/{k}.jpg"), box) for k, box in enumerate(one)), "dog")
            for i, one in enumerate(lists)
        ]
    )


def pairs() -> st.SearchStrategy[list[ImagePair]]:
    pair = st.builds(
        ImagePair,
        st.just("p"),
        st.just(Path("/a")),
        st.just(Path("/b")),
        st.none() | boxes(),
        st.none() | boxes(),
        st.sampled_from(["", "Add a dog."]),
    )
    return st.lists(pair, max_size=8)


INPUTS: dict[str, st.SearchStrategy[list[Any]]] = {
    "object_tracking": tracks(),
    "common_object": scenes_(4),
    "region_locating": scenes_(),
    "difference": pairs(),
    "free_form": scenes_(4),
    "group_grounding": scenes_(4),
    "group_referring": scenes_(4),
    "referring_grounding": scenes_(4),
}


WRITERS: dict[Any, Any] = {
    Scene: (write_scenes, Scenes),
    Track: (write_tracks, Tracks),
    ImagePair: (write_pairs, Pairs),
}


def drafts(name: str, scenes: list[Any], seed: int, **changed: Any) -> tuple[list[Draft], Tally]:
    """What a build makes of `scenes`, through a real index on disk."""
    task, tally = TASKS[name], Tally()
    settings = task.settings(**changed)
    write, opened = WRITERS[task.takes]
    with tempfile.TemporaryDirectory() as folder:
        write(scenes, Path(folder), Path("/"))
        columns = opened(Path(folder))
        plans = list(task.plan(columns, seed, tally, settings))
        made = list(task.drafts(columns, plans, seed, settings))
        assert made == [one for plan in plans for one in task.drafts(columns, [plan], seed, settings)]
    for refusal in made:
        if isinstance(refusal, str):
            tally.add(refusal)
    return [draft for draft in made if isinstance(draft, Draft)], tally


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_samples_are_well_formed_and_repeat(task: str, data: st.DataObject, seed: int) -> None:
    scenes = data.draw(INPUTS[task])
    made, tally = drafts(task, scenes, seed)
    assert drafts(task, scenes, seed) == (made, tally)
    assert all(count > 0 for count in tally.counts.values())
    for draft in made:
        conversation = draft.conversation()
        assert sample("x", [one.image for one in draft.pictures], conversation, "t").problems() == []
        for question, answer in conversation:
            assert "{" not in question + answer
            parsed = parse_boxes(answer)
            assert all(mention.status == "read" and mention.box.is_proper for mention in parsed.mentions)
            # An order in time has no box, and words for a box have it in the question.
            assert parsed.mentions or task == "group_referring" or "Image-1" in answer or "not visible" in answer
            if parsed.mentions and parsed.mentions[0].image is not None:
                assert parsed.mentions[0].image < len(draft.pictures)


def all_wordings(task: str) -> list[Wordings]:
    module = importlib.import_module(f"migician.tasks.{task}")
    return [value for value in vars(module).values() if isinstance(value, Wordings)]


@pytest.mark.parametrize("task", [name for name in TASKS if name != "group_referring"])
def test_twenty_own_wordings_a_family_none_twice(task: str) -> None:
    own = {text for wordings in all_wordings(task) for text in wordings.own}
    assert len(own) >= 20
    assert max(len(wordings.own) for wordings in all_wordings(task)) == max(
        len(set(wordings.own)) for wordings in all_wordings(task)
    )


def test_twenty_ways_to_ask_for_words() -> None:
    assert len(set(group_referring.QUESTIONS)) >= 20


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("object_tracking", "object_tracking"),
        ("common_object", "common_object"),
        ("region_locating", "region"),
        ("difference", "diff"),
        ("referring_grounding", "refer_grounding"),
        ("group_grounding", "group_grounding"),
    ],
)
def test_the_benchmark_s_own_spelling(shared: Path, task: str, name: str) -> None:
    rows = json.loads((shared / "data/mig_bench/MIG_data.json").read_text())
    rows += json.loads((shared / "data/mig_bench/revised_MIG_bench.json").read_text())
    asked = {row["question"] for row in rows if row["task"] == name}
    known = []
    for wordings in all_wordings(task):
        for text in wordings.benchmark:
            literal = re.split(r"\{\w+\}", text.strip())
            known.append(re.compile(".*".join(re.escape(part) for part in literal) + " ?"))
    assert all(any(pattern.fullmatch(question) for pattern in known) for question in asked)


def test_the_first_format_is_what_evaluation_asks() -> None:
    from migician.families import QWEN2_VL

    assert FORMATS[0] == QWEN2_VL.format


def scene(*things: tuple[str, Box], name: str = "s") -> Scene:
    return Scene(name, Path(f"/{name}.jpg"), SIZE, tuple(Thing(box, label) for label, box in things))


HALF = Box(0.2, 0.2, 0.7, 0.8)


class TestTracking:
    track = Track("t", tuple(Frame(Path(f"/{k}.jpg"), Box(k / 200, 0.1, k / 200 + 0.1, 0.2)) for k in range(100)))

    def test_frames_at_even_intervals_and_the_right_boxes(self) -> None:
        made, _ = drafts("object_tracking", [self.track] * 20, 3, ordering=0, whole=0)
        assert len(made) == 40
        for draft in made:
            shown = [int(one.image.removesuffix(".jpg")) for one in draft.pictures]
            assert 4 <= len(shown) <= 6
            steps = {b - a for a, b in zip(shown, shown[1:], strict=False)}
            assert len(steps) == 1
            assert 5 <= steps.pop() <= 20
            ((question, answer),) = draft.turns
            given_box = QWEN.write(self.track.frames[shown[0]].box or HALF)
            assert given_box in question
            written = answer[answer.index("<|box_start|>") :]
            later = [QWEN.write(self.track.frames[position].box or HALF) for position in shown[1:]]
            assert written in later
            image = later.index(written) + 1
            named = (
                f"{ordinal(image)}",
                f"{image + 1}th",
                f"Image-{image + 1}",
                f"frame {image + 1}",
                f"moment {image + 1}",
            )
            assert any(name in question for name in named)

    def test_short_and_hidden_sequences_are_counted(self) -> None:
        short = Track("s", self.track.frames[:2])
        hidden = Track("h", tuple(Frame(frame.image, None) for frame in self.track.frames))
        gone = Track("g", (self.track.frames[0], *hidden.frames[1:]))
        made, tally = drafts("object_tracking", [short, hidden, gone], 0, passes=1, ordering=0)
        assert made == []
        assert set(tally.counts) == {
            "sequence shorter than a sample",
            "object not seen in any first frame",
            "object not seen after the first frame",
        }

    def test_order_in_time(self) -> None:
        made, _ = drafts("object_tracking", [self.track], 1, ordering=1, passes=5)
        for draft in made:
            shown = [int(one.image.removesuffix(".jpg")) for one in draft.pictures]
            named = [int(text) - 1 for text in re.findall(r"Image-(\d+)", draft.turns[0][1])]
            assert [shown[position] for position in named] == sorted(shown)
            assert named[0] == 0

    def test_every_later_frame(self) -> None:
        made, _ = drafts("object_tracking", [self.track], 1, ordering=0, whole=1)
        answer = parse_boxes(made[0].turns[0][1])
        assert [mention.image for mention in answer.mentions] == list(range(1, len(made[0].pictures)))


class TestCommonObject:
    def test_only_one_object_is_common(self) -> None:
        both = [scene(("dog", HALF), ("cat", HALF), name=str(i)) for i in range(6)]
        made, tally = drafts("common_object", both, 0)
        assert made == []
        assert tally.counts["more than one object in common"] > 0

    def test_filters(self) -> None:
        small = scene(("dog", Box(0, 0, 0.1, 0.1)), name="small")
        two = scene(("dog", HALF), ("dog", HALF), name="two")
        couch = scene(("Couch", HALF), name="couch")
        made, tally = drafts("common_object", [small, two, couch] * 5, 0)
        assert made == []
        assert tally.counts == {
            "object too small or too large": 5,
            "several of the label in the image": 10,
            "label that comes with others": 5,
        }

    def test_the_answer_is_the_box_of_the_asked_image(self) -> None:
        dogs = [
            scene(("dog", Box(i / 20, 0.1, i / 20 + 0.5, 0.9)), (f"other {i}", HALF), name=str(i)) for i in range(9)
        ]
        made, _ = drafts("common_object", dogs, 0, manner=Manner(benchmark=1, brief=0, sentence=0))
        assert made
        for draft in made:
            question, answer = draft.turns[0]
            asked = int(re.findall(r"(\d)th", question)[0]) - 1
            assert answer == QWEN.write(dogs[int(draft.pictures[asked].image.removesuffix(".jpg"))].things[0].box)


class TestRegions:
    crowd = tuple(("cup", Box(i / 20, 0, i / 20 + 0.02, 0.1)) for i in range(11))

    def test_the_answer_is_the_annotation_and_the_crop_is_at_its_nearest_pixels(self) -> None:
        made, tally = drafts("region_locating", [scene(*self.crowd, ("sofa", Box(0.1003, 0.2, 0.7008, 0.8)))], 0)
        (draft,) = made
        source, crop = draft.pictures
        assert (source.crop, crop.crop) == (None, (64, 96, 449, 384))
        assert parse_boxes(draft.turns[0][1]).boxes == (Box.from_permille(100, 200, 701, 800),)
        assert tally.counts == {"region too long or too flat": 11}  # the cups

    def test_published_filters(self) -> None:
        def reasons(*extra: tuple[str, Box]) -> set[str]:
            return set(drafts("region_locating", [scene(*self.crowd, *extra)], 0)[1].counts)

        assert "region too long or too flat" in reasons(("pole", Box(0, 0, 0.99, 0.3)))
        assert "region too small or too large for its image" in reasons(("wall", Box(0, 0, 0.9, 0.9)))
        assert "region much like another" in reasons(("a", HALF), ("b", Box(0.2, 0.2, 0.7, 0.79)))
        _, tally = drafts("region_locating", [scene(("sofa", HALF))], 0)
        assert tally.counts == {"image with too few boxes": 1}

    def test_the_asked_region_is_the_one_in_the_answer(self) -> None:
        parts = [("a", Box(0, 0, 0.5, 0.5)), ("b", Box(0.5, 0, 1, 0.5)), ("c", Box(0, 0.5, 0.5, 1))]
        plain = Manner(benchmark=1, brief=0, sentence=0, labelled=0)
        made, _ = drafts("region_locating", [scene(*self.crowd, *parts)], 5, regions=(3, 3), passes=20, manner=plain)
        for draft in made:
            question, answer = draft.turns[0]
            asked = int(re.findall(r"(\d)th", question)[0])
            crop = draft.pictures[asked].crop
            assert crop is not None
            assert answer == QWEN.write(Box.from_pixels(*crop, SIZE))


class TestDifference:
    def test_an_object_in_one_image_only_is_asked_for_there(self) -> None:
        pair = ImagePair("p", Path("/a"), Path("/b"), None, HALF, "")
        for draft in drafts("difference", [pair] * 30, 0)[0]:
            question, answer = draft.turns[0]
            assert any(name in question for name in ("second", "2th", "Image-2"))
            assert parse_boxes(answer).boxes == (HALF,)

    def test_boxes_that_say_nothing_are_refused(self) -> None:
        whole, speck = Box(0, 0, 1, 1), Box(0.5, 0.5, 0.501, 0.501)
        made, tally = drafts(
            "difference", [ImagePair("p", Path("/a"), Path("/b"), box, box) for box in (whole, speck)], 0
        )
        assert (made, tally.counts) == ([], {"change too small or too large": 2})

    def test_reasoning_repeats_the_annotation(self) -> None:
        pair = ImagePair("p", Path("/a"), Path("/b"), HALF, HALF, "Add a dog.")
        made, _ = drafts("difference", [pair] * 5, 0, reasoning=1, manner=Manner(brief=0, sentence=1))
        assert all("Add a dog" in draft.turns[0][1] for draft in made)


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
        Scene("0", Path("/0.jpg"), SIZE, (Thing(HALF, "man", "a man in a red coat"), Thing(HALF, "tree", "a tree"))),
        Scene("1", Path("/1.jpg"), SIZE, (Thing(Box(0, 0, 0.4, 0.4), "boat", "a boat on a lake"),)),
        Scene("2", Path("/2.jpg"), SIZE, (Thing(HALF, "tree", "a tall tree"),), frozenset({"man"})),
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
            Scene(str(i), Path(f"/{i}.jpg"), SIZE, (Thing(HALF, str(i), phrase),))
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
        things = (Thing(self.BIG, label),)
        return [Scene(str(n), Path(f"/{n}.jpg"), (100, 100), things, unboxed) for n in range(6)]

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
        crowded = [Scene(one.id, one.image, one.size, one.things, crowds) for one in three]
        assert drafts("free_form", crowded, 0, images=(3, 3))[0] == []

    def test_a_reflection_is_no_companion(self) -> None:
        first, *others = self.scenes(frozenset())[:3]
        beside = Scene(first.id, first.image, first.size, (*first.things, Thing(self.BIG, "cat")))
        (draft,), _ = drafts("free_form", [beside, *others], 0, images=(3, 3), relation=1)
        assert "cat" in draft.turns[0][0]
        reflected = Scene(first.id, first.image, first.size, first.things, frozenset({"cat"}))
        assert drafts("free_form", [reflected, *others], 0, images=(3, 3), relation=1)[0] == []

    @pytest.mark.parametrize("task", ["free_form", "group_grounding", "group_referring"])
    def test_what_has_no_label_is_not_asked_for(self, task: str) -> None:
        assert drafts(task, self.scenes(frozenset(), ""), 0, images=(3, 3))[0] == []

    def test_what_has_no_label_is_not_common(self) -> None:
        made, tally = drafts("common_object", self.scenes(frozenset(), ""), 0)
        assert (made, tally.counts) == ([], {"box without a label": 6})
