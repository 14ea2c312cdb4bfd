"""Answers that reason: the share is the declared one, the box is tied to its image, and what is told is annotated."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from drafting import drafts, scene

from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.balance import MIN_ANSWERS, Balance, balance_of, warnings
from migician.samples.survey import AREA_EDGES
from migician.sources.scenes import Frame, Track
from migician.tasks import TASKS
from migician.tasks.draft import Draft, Manner, Picture, Target
from migician.tasks.naming import with_article
from migician.tasks.reasoning import course, place

SENTENCE = {"manner": Manner(brief=0, sentence=1)}
LABELS = ("dog", "apple", "umbrella", "boat", "scissors", "cup")


def shown(labels: int) -> list[Any]:
    """Photos of which each shows two of so many labels, one of them large."""
    large, small = Box(0.05, 0.1, 0.75, 0.8), Box(0.8, 0.1, 0.95, 0.3)
    return [
        scene((LABELS[n % labels], large), (LABELS[(n + 1 + n // labels) % labels], small), name=str(n))
        for n in range(120)
    ]


WANDERER = Track("t", tuple(Frame(Path(f"/{k}.jpg"), Box(k / 150, 0.1, k / 150 + 0.2, 0.4)) for k in range(100)))
INPUTS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "common_object": (shown(6), {"passes": 9}),
    "referring_grounding": (shown(3), {"passes": 9}),
    "region_locating": (shown(6), {"min_boxes": 1, "passes": 2, "area": (0.01, 0.9), "regions": (1, 1)}),
    "free_form": (shown(6), {"passes": 9}),
    "group_grounding": (shown(6), {"passes": 9}),
    "object_tracking": ([WANDERER], {"passes": 60, "ordering": 0, "whole": 0, "seconds": (0.17, 0.3), "copyable": 1}),
}


@pytest.mark.parametrize("task", INPUTS)
class TestThoughts:
    def test_the_box_is_tied_to_the_image_that_has_it(self, task: str) -> None:
        scenes, changed = INPUTS[task]
        made, _ = drafts(task, scenes, 3, reasoning=1, **SENTENCE, **changed)
        assert len(made) > 20
        for draft in made:
            assert draft.reasoned == len(draft.turns)
            for (_, answer), target in zip(draft.turns, draft.targets, strict=True):
                (mention,) = parse_boxes(answer).mentions
                assert mention.image == target.image, answer
                assert (
                    max(abs(a - b) for a, b in zip(mention.box.as_tuple(), target.box.as_tuple(), strict=True)) <= 6e-4
                )

    def test_the_share_is_the_declared_one(self, task: str) -> None:
        scenes, changed = INPUTS[task]
        for share in (0.0, 0.4):
            counts: Counter[bool] = Counter()
            for seed in range(8):
                made, _ = drafts(task, scenes, seed, reasoning=share, **SENTENCE, **changed)
                counts[True] += sum(draft.reasoned for draft in made)
                counts[False] += sum(len(draft.turns) - draft.reasoned for draft in made)
            total = counts.total()
            assert abs(counts[True] - share * total) <= 5 * (share * (1 - share) * total) ** 0.5

    def test_a_box_alone_stays_alone(self, task: str) -> None:
        scenes, changed = INPUTS[task]
        made, _ = drafts(task, scenes, 3, reasoning=1, manner=Manner(brief=1), **changed)
        assert made and all(answer.startswith("<|box_start|>") for draft in made for _, answer in draft.turns)


def test_what_is_told_of_an_image_is_annotated_there() -> None:
    scenes = shown(6)
    labels = {f"{one.id}.jpg": {with_article(instance.label) for instance in one.instances} for one in scenes}
    for task in ("common_object", "free_form", "group_grounding"):
        made, _ = drafts(task, scenes, 1, reasoning=1, **SENTENCE, **INPUTS[task][1])
        for draft in made:
            told = re.findall(r"Image-(\d) shows ([^.]*)\.", draft.turns[0][1])
            assert [int(number) for number, _ in told] == list(range(1, len(draft.pictures) + 1))
            for number, what in told:
                assert set(re.split(", | and ", what)) == labels[draft.pictures[int(number) - 1].image]


def test_the_way_of_an_object_leaves_out_where_it_is_not_seen() -> None:
    left, right = Box(0, 0.4, 0.2, 0.6), Box(0.8, 0.8, 1, 1)
    assert course([left, None, right]) == (
        "In Image-1 the object is on the left, in Image-3 at the bottom right. In the third image, here:"
    )


@pytest.mark.parametrize(("x", "column"), [(0.1, "left"), (0.33, "left"), (0.34, ""), (0.66, ""), (0.67, "right")])
def test_thirds(x: float, column: str) -> None:
    assert place(Box(x - 0.01, 0.4, x + 0.01, 0.6)) == (f"on the {column}" if column else "in the middle")


class TestBalance:
    def test_it_counts_what_a_plain_count_counts(self) -> None:
        made, _ = drafts("group_grounding", shown(6), 5, passes=9)
        balance = Balance()
        for start in range(0, len(made), 7):  # pieces add up
            balance.add(balance_of(made[start : start + 7]))
        targets = [(len(draft.pictures), target) for draft in made for target in draft.targets]
        assert (balance.answers, balance.boxes) == (sum(len(draft.turns) for draft in made), len(targets))
        assert balance.labels == Counter(target.label for _, target in targets)
        for images, counts in balance.asked.items():
            assert counts == [sum(n == images and target.image == at for n, target in targets) for at in range(images)]
        classes = [sum(target.box.area > edge for edge in AREA_EDGES[1:-1]) for _, target in targets]
        assert balance.areas == [classes.count(number) for number in range(7)]
        middles = [((target.box.x1 + target.box.x2) / 2, (target.box.y1 + target.box.y2) / 2) for _, target in targets]
        assert balance.ninths == [
            sum(int(x * 3) == column and int(y * 3) == row for x, y in middles)
            for row in range(3)
            for column in range(3)
        ]

    @pytest.mark.parametrize(
        ("task", "changed", "said"),
        [
            ("free_form", {}, []),
            ("free_form", {"image": lambda n: n % 6 % 4 % 3}, ["of 3 images, Image-1 is asked for in 50%, evenly 33%"]),
            ("region_locating", {"image": lambda n: 0}, []),  # always the first, by what the family is
            ("object_tracking", {"image": lambda n: 1 + n % 2}, []),  # never the first
            ("object_tracking", {"image": lambda n: 1}, ["of 3 images, Image-2 is asked for in 100%, evenly 50%"]),
            ("free_form", {"x": lambda n: 0.5}, ["100% of the boxes are in the middle of their image, at most 70%"]),
            ("free_form", {"side": lambda n: 0.05}, ["100% of the boxes cover 0.1% to 0.3% of the image, at most 90%"]),
            ("free_form", {"label": lambda n: str(n % 3 and n)}, ["33% of the boxes are of '0', at most 25%"]),
            ("free_form", {"label": lambda n: "person"}, []),  # a source of one label
        ],
    )  # fmt: skip
    def test_warnings(self, task: str, changed: dict[str, Any], said: list[str]) -> None:
        found = {"image": lambda n: n % 3, "x": lambda n: 0.2 + n % 7 / 10, "side": lambda n: 0.1 + n % 3 / 10}
        found |= {"label": lambda n: str(n % 11)} | changed
        drawn = [
            Target(found["image"](n), self.around(found["x"](n), found["side"](n)), found["label"](n))
            for n in range(900)
        ]
        drafted = [Draft((Picture("a"),) * 3, (("?", "!"),), False, (target,)) for target in drawn]
        assert list(warnings(balance_of(drafted), TASKS[task].asks)) == said
        assert list(warnings(balance_of(drafted[: MIN_ANSWERS - 1]), TASKS[task].asks)) == []

    @staticmethod
    def around(x: float, side: float) -> Box:
        return Box(x - side / 2, 0.5 - side / 2, x + side / 2, 0.5 + side / 2)

    def test_nothing_counted_warns_of_nothing(self) -> None:
        assert list(warnings(balance_of([]), (0, None))) == []
