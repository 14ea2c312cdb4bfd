"""Samples that ask for what is in none of their images: surely so by the annotations, and alike in all else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from drafting import HALF, SIZE, drafts, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.sources.scenes import Instance, Scene
from migician.tasks import TASKS, common_object, group_grounding, referring_grounding
from migician.tasks.draft import Draft
from migician.tasks.naming import named_kind

LABELS = ("dog", "cat", "bird", "apple", "car", "Sports Car", "Other Shoes", "Leather Shoes", "kite", "")
LARGE, SMALL = Box(0.1, 0.1, 0.9, 0.9), Box(0.4, 0.4, 0.5, 0.6)
TASKS_HERE = {
    "common_object": {"images": (2, 3)},
    "group_grounding": {"images": (2, 3)},
    "referring_grounding": {"passes": 2},
}
seeds = st.integers(0, 2**32 - 1)


@st.composite
def worlds(draw: st.DrawFn) -> list[Scene]:
    made = []
    for number in range(draw(st.integers(4, 16))):
        labels = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3))
        boxes = draw(st.lists(st.sampled_from([LARGE, SMALL, HALF]), min_size=3, max_size=3))
        unboxed = draw(st.frozensets(st.sampled_from(LABELS[:4]), max_size=1))
        instances = tuple(Instance(box, label) for box, label in zip(boxes, labels, strict=False))
        made.append(Scene(str(number), Path(f"/{number}.jpg"), SIZE, instances, unboxed))
    return made


def shown(scenes: Sequence[Scene], draft: Draft) -> list[set[str]]:
    """What each picture of a draft shows by its annotations, boxed or not."""
    found = {one.image.name: {each.label for each in one.instances} | one.unboxed for one in scenes}
    return [found[Path(picture.image).name] for picture in draft.pictures]


def refused(draft: Draft) -> list[str]:
    """The questions that are answered with nothing but that nothing is there."""
    questions = [question for question, answer in draft.turns if answer == QWEN.absent]
    assert len(questions) == draft.absent
    return questions


@pytest.mark.parametrize("task", TASKS_HERE)
@given(scenes=worlds(), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_what_is_asked_for_is_in_no_annotation(task: str, scenes: list[Scene], seed: int) -> None:
    for draft in drafts(task, scenes, seed, absent=1.0, **TASKS_HERE[task])[0]:
        assert len(draft.targets) == len(draft.turns) - draft.absent
        for question in refused(draft):
            there = shown(scenes, draft)
            if task == "common_object":
                assert not set.intersection(*there)
                continue
            if task == "group_grounding":
                (asked,) = [label for label in LABELS if label and named_kind(label) in question]
                sought = {asked}
            else:
                sought, there = there[0], there[1:]
            for labels in there:
                assert "" not in labels and not sought & labels
                # Kinds that are part of one another, by hand.
                for pair in ({"car", "Sports Car"}, {"Other Shoes", "Leather Shoes"}):
                    assert not (pair & sought and pair & labels)


@pytest.mark.parametrize("task", TASKS_HERE)
@given(scenes=worlds(), seed=seeds, share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_all_other_samples_stay_as_they_are(task: str, scenes: list[Scene], seed: int, share: float) -> None:
    without, some = (drafts(task, scenes, seed, absent=one, **TASKS_HERE[task]) for one in (0.0, share))
    assert len(without[0]) == len(some[0]) and without[1] == some[1]
    assert all(one == other for one, other in zip(without[0], some[0], strict=True) if not other.absent)
    assert not any(draft.absent for draft in without[0])


@pytest.mark.parametrize("module", [common_object, group_grounding, referring_grounding])
def test_the_share_is_kept_and_questions_are_the_task_s_own(module: Any) -> None:
    kinds = [f"kind{number}" for number in range(40)]
    scenes = [
        scene((kinds[number % 40], box), name=f"{number}-{size}")
        for number in range(240)
        for size, box in enumerate((LARGE, Box(0.3, 0.3, 0.7, 0.8)))
    ]
    task = module.__name__.rpartition(".")[2]
    changed = {"referring_grounding": {"hidden": (0.005, 0.5)}}.get(task, {"images": (2, 3)})
    made, _ = drafts(task, scenes, 7, absent=0.3, **changed)
    lots = [draft for draft in made if draft.absent]
    assert len(made) > 150 and len(lots) / len(made) == pytest.approx(0.3, abs=0.1)
    wordings = module.QUESTIONS
    beginnings = [text.partition("{")[0] for text in (*wordings.benchmark, *wordings.own, *wordings.naming)]
    for draft in lots:
        assert all(any(question.startswith(one.strip()) for one in beginnings) for question in refused(draft))
    if task == "common_object":  # each image is the odd one as often
        assert {len(draft.pictures) for draft in lots} == {2, 3}


def test_nothing_is_absent_where_every_image_has_it() -> None:
    scenes = [scene(("dog", LARGE), name=str(number)) for number in range(12)]
    for task in TASKS_HERE:
        made, _ = drafts(task, scenes, 1, absent=1.0, **TASKS_HERE[task])
        assert not any(draft.absent for draft in made)


def test_no_other_task_has_it() -> None:
    assert {name for name, task in TASKS.items() if hasattr(task.settings(), "absent")} == set(TASKS_HERE)
