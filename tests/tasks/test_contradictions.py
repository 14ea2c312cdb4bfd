"""No answer contradicts its question or the annotations, whatever the wording and the settings."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contradictions import claims_one_object, contradictions, false_claims, images_named, retells
from drafting import HALF, INPUTS, drafts
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.sampling import dice
from migician.sources.scenes import Frame, ImagePair, Track
from migician.tasks import TASKS
from migician.tasks.draft import FORMATS, Manner, Speaker, Target, Wordings, image_fields

WITH_BOXES = [name for name in TASKS if name != "group_referring"]
FIELDS = {
    "object": "<|object_ref_start|>scissors<|object_ref_end|>",
    "companion": "<|object_ref_start|>a dog<|object_ref_end|>",
}
FIELDS |= {"phrase": FIELDS["object"], "box": "<|box_start|>(1,2),(3,4)<|box_end|>", "image": "3"}


def wordings_of(task: str) -> list[Wordings]:
    module = importlib.import_module(f"migician.tasks.{task}")
    return [value for value in vars(module).values() if isinstance(value, Wordings)]


def sentences_of(task: str) -> tuple[str, ...]:
    sentences: tuple[str, ...] = importlib.import_module(f"migician.tasks.{task}").SENTENCES
    return sentences


class TestTheCases:
    def test_the_reader_finds_each(self, shared: Path) -> None:
        cases = json.loads((shared / "cases/text/contradictions.json").read_text())
        assert len(cases) == 40
        assert [case["id"] for case in cases if not contradictions(case["q"], case["a"])] == []

    def test_no_builder_can_say_them(self, shared: Path) -> None:
        """Neither their questions nor their answers, taken apart into what is always said and what varies."""
        cases = json.loads((shared / "cases/text/contradictions.json").read_text())
        said = {turn for task in ("common_object", "group_grounding") for turn in every_turn(task)}
        forms = {tuple(map(plain, turn)) for turn in said}
        assert len(forms) > 400
        assert [case["id"] for case in cases if (plain(case["q"]), plain(case["a"])) in forms] == []


def plain(text: str) -> str:
    """A text without what differs from sample to sample."""
    text = re.sub(r"(?:Image-\d: )?<image>\n?", "", text)
    text = re.sub(r"\(\d+,\d+\),\(\d+,\d+\)", "", re.sub(r"_ref_start\|>.*?<", "_ref_start|><", text))
    return re.sub(r"Image-\d|first|second|third|fourth|fifth|\d(?:st|nd|rd|th)", "N", text)


def every_turn(task: str) -> Iterator[tuple[str, str]]:
    """Turns as a speaker makes them, in every manner, until every wording, format and sentence has come."""
    for wordings in wordings_of(task):
        texts = {*wordings.benchmark, *wordings.own, *wordings.naming}
        manners = [
            Manner(benchmark, brief, sentence) for benchmark, brief, sentence in itertools.product((0, 1), repeat=3)
        ]
        fields = image_fields(1) | FIELDS
        missing = {text.format(**fields).strip() for text in texts}
        for manner, seed in itertools.product(manners, range(400)):
            speaker = Speaker(dice(seed, task), manner)
            question, answer = speaker.exchange(wordings, sentences_of(task), Target(1, HALF), fields)
            missing = {text for text in missing if not question.startswith(text)}
            yield question, answer
        assert not missing


@pytest.mark.parametrize("task", WITH_BOXES)
def test_every_wording_agrees_with_every_answer_it_gets(task: str) -> None:
    for question, answer in every_turn(task):
        assert contradictions(question, answer) == [], (question, answer)


@pytest.mark.parametrize("task", TASKS)
@given(
    data=st.data(), seed=st.integers(0, 2**32 - 1), manner=st.builds(Manner, *[st.sampled_from([0.0, 0.5, 1.0])] * 4)
)
@settings(max_examples=25, deadline=None)
def test_built_samples_agree(task: str, data: st.DataObject, seed: int, manner: Manner) -> None:
    changed: dict[str, Any] = {} if task == "group_referring" else {"manner": manner}
    if task == "object_tracking":
        changed |= {"ordering": 0.3, "frames": (2, 4), "seconds": (0.03, 0.1), "copyable": 1, "area": 0}
    for draft in drafts(task, data.draw(INPUTS[task]), seed, **changed)[0]:
        for question, answer in draft.conversation():
            assert contradictions(question, answer) == [], (question, answer)


class TestOneObjectOrTwo:
    @pytest.mark.parametrize("task", ["referring_grounding", "common_object"])
    def test_photographs_of_a_kind_are_never_said_to_show_one_object(self, task: str) -> None:
        """But in MIG-Bench's own questions, which are kept character for character."""
        (wordings,) = wordings_of(task)
        fields = image_fields(1) | FIELDS
        for text, sentence in itertools.product((*wordings.own, *wordings.naming), sentences_of(task)):
            assert not claims_one_object(text.format(**fields), sentence.format(**fields)), (text, sentence)

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("Locate in the second image what the first image shows.", "Here:"),
            ("Find the same sort of object.", "Image-1 shows a dog, which Image-2 has here:"),
            ("Which object is shared by the images? Find this object.", "The common object is a dog."),
        ],
    )
    def test_the_reader_would_notice(self, question: str, answer: str) -> None:
        assert claims_one_object(question, answer)


class TestTracking:
    def test_what_is_said_of_frames_without_a_box(self) -> None:
        """Every pattern of seen, hidden and unknown over four frames."""
        said = 0
        kinds = (Frame(Path("/x.jpg"), HALF), Frame(Path("/x.jpg"), None, True), Frame(Path("/x.jpg"), None))
        for pattern in itertools.product(kinds, repeat=3):
            track = Track("t", (kinds[0], *pattern), "dog")
            hidden = [at for at, frame in enumerate(track.frames, start=1) if frame.is_hidden]
            manner = Manner(benchmark=0)  # MIG-Bench's own questions speak of moving objects
            shape: dict[str, Any] = {
                "frames": (4, 4),
                "seconds": (0.03, 0.03),
                "copyable": 1,
                "area": 0,
                "manner": manner,
            }
            made, _ = drafts("object_tracking", [track] * 8, 1, whole=1, ordering=0, **shape)
            for question, answer in itertools.chain.from_iterable(draft.turns for draft in made):
                assert false_claims(question, answer, hidden=hidden) == []
                assert "not visible" not in answer or images_named_as_unseen(answer) == set(hidden)
                said += "not visible" in answer
        assert said > 40

    def test_no_wording_says_that_it_moves(self) -> None:
        (wordings,) = wordings_of("object_tracking")
        module = importlib.import_module("migician.tasks.object_tracking")
        for text in (*wordings.own, *module.ALL, *module.SENTENCES):
            assert false_claims(text, "") == []

    @pytest.mark.parametrize("count", [2, 3, 4, 6])
    def test_the_order_asked_for_is_never_that_of_the_images(self, count: int) -> None:
        box = Box(0.1, 0.1, 0.2, 0.2)
        tracks = [Track("t", tuple(Frame(Path(f"/{n}/{k}.jpg"), box) for k in range(20))) for n in range(60)]
        made, _ = drafts("object_tracking", tracks, 5, frames=(count, count), seconds=(0.03, 0.1), ordering=1)
        orders = [draft for draft in made if "<|box" not in draft.turns[0][1]]
        assert len(orders) == (0 if count == 2 else 120)
        shown = {tuple(int(Path(one.image).stem) for one in draft.pictures) for draft in orders}
        assert all(list(one) != sorted(one) and one[0] == min(one) for one in shown)


def images_named_as_unseen(answer: str) -> set[int]:
    return {number for line in answer.split("\n") if "not visible" in line for number in images_named(line)}


class TestReasons:
    @pytest.mark.parametrize("instruction", ["Add a dog.", 'change the sign to say "stop"', "make it night"])
    def test_an_instruction_is_quoted_and_not_retold(self, instruction: str) -> None:
        pair = ImagePair("p", Path("/a"), Path("/b"), HALF, HALF, instruction, is_instruction=True)
        made, _ = drafts("difference", [pair] * 40, 0, reasoning=1, manner=Manner(brief=0))
        answers = {answer for draft in made for _, answer in draft.turns}
        asked = instruction.rstrip(".").replace('"', "'")
        assert sum(asked in answer for answer in answers) >= 3
        assert not any(retells(answer, asked) for answer in answers)

    def test_the_reader_would_notice(self) -> None:
        assert retells("this has happened: add a dog. The difference is here:", "add a dog")
        assert retells('this has happened: "add a dog".', "add a dog")
        assert not retells('The edit is "add a dog".', "add a dog")

    def test_a_remark_is_told_as_it_is(self) -> None:
        pair = ImagePair("p", Path("/a"), Path("/b"), HALF, HALF, "there are more people in the second image")
        made, _ = drafts("difference", [pair] * 40, 0, reasoning=1, manner=Manner(brief=0))
        told = [answer for draft in made for _, answer in draft.turns if pair.description in answer]
        assert len(told) > 10
        assert not any('"' in answer or "happened" in answer for answer in told)


class TestNumber:
    """A thing may be a plural, so that no verb may stand in the singular for it and no pronoun either."""

    _WRONG = re.compile(
        r"\b(?:is|was|there's)\s+\{(?:object|phrase)\}|\{(?:object|phrase|companion)\}\s+(?:is|was|appears|has|fit|does)\b"
        r"|\b(?:it|its|one)\b(?! (?:image|region|picture|of|would|together))",
        re.IGNORECASE,
    )

    @pytest.mark.parametrize("task", ["group_grounding", "free_form"])
    def test_wordings_fit_one_and_many(self, task: str) -> None:
        for wordings in wordings_of(task):
            for text in (*wordings.own, *wordings.naming):
                assert not self._WRONG.search(text), text
                assert "right image" not in text  # which may be the one on the right

    def test_the_reader_would_notice(self) -> None:
        for text in ("Where is {phrase}?", "Pick the image where {object} appears.", "Which has {object}? Box it."):
            assert self._WRONG.search(text)


def test_the_formats_ask_for_the_box_alone() -> None:
    assert all(contradictions(f"Find a dog. {text}", "It's here.") for text in FORMATS)
