"""No pass over a source gives a sample again, and what is built has nothing that `check` warns of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from drafting import HALF, INPUTS, drafts, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.build.dataset import build
from migician.miniature import Amounts, make_world
from migician.sources.scenes import Frame, ImagePair, Track
from migician.tasks.draft import Draft
from migician.training.check import check
from tests.build.test_build import MINIATURE

pytestmark = pytest.mark.usefixtures("plain_card")

GROUPS = ("free_form", "group_grounding", "group_referring", "common_object")
WIDE = {"area": (0.0, 1.0)}
CHANGED: dict[str, dict[str, Any]] = {
    "object_tracking": {"seconds": (0.03, 0.1), "copyable": 1, "area": 0, "frames": (2, 4), "ordering": 0.3},
    "common_object": WIDE | {"images": (2, 3), "excluded": ()},
    "region_locating": WIDE | {"min_boxes": 1, "min_pixels": 1, "aspect": (0.0, 1000.0)},
    "free_form": WIDE | {"images": (2, 3)},
    "group_grounding": WIDE | {"images": (2, 3), "words": (1, 14)},
    "group_referring": WIDE | {"images": (2, 3), "words": (1, 14)},
    "referring_grounding": {"shown": (0.0, 1.0), "hidden": (0.0, 1.0)},
}


def shows(task: str, draft: Draft) -> Any:
    """What a sample is about, whatever its words: a group of images, or images and what is asked for in them."""
    pictures = [(one.image, one.crop) for one in draft.pictures]
    if task in GROUPS:
        return frozenset(pictures)
    if task == "region_locating":  # what else is cut out makes it no other question
        return pictures[0], draft.targets
    return tuple(pictures), draft.targets


@pytest.mark.parametrize("task", CHANGED)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_pass_gives_a_sample_again(task: str, data: st.DataObject, seed: int) -> None:
    made, _ = drafts(task, data.draw(INPUTS[task]), seed, passes=4, **CHANGED[task])
    repeated = [count for count in Counter(shows(task, draft) for draft in made).values() if count > 1]
    assert not repeated


class TestPasses:
    def test_each_region_of_an_image_is_asked_for_once(self) -> None:
        things = [("cup", Box(x / 4, 0.1, x / 4 + 0.2, 0.6)) for x in range(4)]
        made, tally = drafts("region_locating", [scene(*things)], 0, min_boxes=1, area=(0.0, 1.0), passes=6)
        assert len({draft.targets[0].box for draft in made}) == len(made) == 4
        assert tally.counts["no other region in the image"] == 2

    def test_a_small_object_follows_each_large_one_once(self) -> None:
        small = scene(("dog", Box(0.1, 0.1, 0.3, 0.3)), name="small")
        large = [scene(("dog", Box(0, 0, 0.9, 0.9)), name=f"large {n}") for n in range(3)]
        made, tally = drafts("referring_grounding", [small, *large], 0, passes=5)
        assert sorted(draft.pictures[0].image for draft in made) == [f"large {n}.jpg" for n in range(3)]
        assert tally.counts["label not shown large once more"] == 2

    def test_a_sequence_gives_as_many_as_it_has_first_frames(self) -> None:
        track = Track("t", tuple(Frame(Path(f"/{k}.jpg"), HALF) for k in range(12)))
        made, _ = drafts("object_tracking", [track], 0, seconds=(0.03, 0.03), copyable=1, frames=(2, 2), passes=20)
        assert sorted(int(draft.pictures[0].image[:-4]) for draft in made) == list(range(11))

    def test_objects_that_share_their_frames_ask_for_the_order_once(self) -> None:
        people = [Track(str(n), tuple(Frame(Path(f"/s/{k}.jpg"), HALF) for k in range(40))) for n in range(5)]
        made, _ = drafts("object_tracking", people, 0, ordering=1, seconds=(0.03, 0.03), copyable=1, passes=1)
        assert sum("Image-1, " in draft.turns[0][1] for draft in made) == 1

    def test_a_pair_the_other_way_round_says_nothing_of_the_edit(self) -> None:
        before, after = Box(0.1, 0.1, 0.3, 0.3), Box(0.5, 0.5, 0.8, 0.8)
        pairs = [ImagePair(str(n), Path(f"/a{n}"), Path(f"/b{n}"), before, after, "it moved") for n in range(30)]
        made, _ = drafts("difference", pairs, 0, passes=2, reasoning=1)
        assert len(made) == 60
        for draft in made[30:]:
            assert [one.image[0] for one in draft.pictures] == ["b", "a"]
            assert "it moved" not in draft.turns[0][1]
        for draft in made:
            (target,) = draft.targets
            assert target.box == {"a": before, "b": after}[draft.pictures[target.image].image[0]]
        assert any("it moved" in draft.turns[0][1] for draft in made[:30])


@pytest.mark.parametrize("config", [MINIATURE, None], ids=["quickstart", "all there is"])
def test_check_warns_of_nothing_in_the_miniature_world(tmp_path: Path, config: Path | None) -> None:
    amounts = Amounts(got10k=12, coco=60, objects365=12, magicbrush=12, imagenet=40, sa1b=40, held_out=1)
    roots = make_world(tmp_path / "w", 5, amounts)
    sources = {name: root for name, root in roots.items() if name != "mig-bench"}
    built = build(["all"], sources, tmp_path / "d", config=config)
    report = check(built.folder)
    assert report.findings == []
    assert report.samples == built.samples > 100
