"""Builders: proper boxes, exact format, the published filters, the same drafts for the same seed."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from drafting import HALF, INPUTS, SIZE, drafts, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import QWEN, parse_boxes
from migician.imagenames import ordinal
from migician.samples.sample import sample
from migician.sources.scenes import Frame, ImagePair, Track
from migician.tasks import TASKS, group_referring
from migician.tasks.draft import FORMATS, Manner, Wordings


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
    texts = [wordings.own + wordings.naming for wordings in all_wordings(task)]
    assert len({text for one in texts for text in one}) >= 20
    assert all(len(one) == len(set(one)) for one in texts)


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
    from migician.models.family import QWEN2_VL

    assert FORMATS[0] == QWEN2_VL.format


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
            assert 30 <= steps.pop() <= 99
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
            assert answer == QWEN.write(dogs[int(draft.pictures[asked].image.removesuffix(".jpg"))].instances[0].box)


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
