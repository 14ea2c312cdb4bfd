"""How often an answer in another image is the box that the question gives: in MIG-Bench, and in what is built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotations import SOURCES
from drafting import drafts
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import QWEN, parse_boxes
from migician.build.dataset import build
from migician.samples.box_places import NEAR, TRACKING, Copying, Seen, anchor, seen, source_of
from migician.samples.sample import Sample, Turn, read_samples, write_samples
from migician.sources.scenes import Frame, Track
from migician.training.check import check
from migician.training.check.options import CheckOptions

pytestmark = pytest.mark.usefixtures("plain_card")

SETTINGS: dict[str, dict[str, Any]] = {"before": {"seconds": [5 / 30, 20 / 30], "copyable": 1, "area": 0}, "now": {}}
"""What tracking asked for up to 2026-11 (5 to 20 frames of 30 a second, any box), and its own settings now."""


def turns_of(sample: Sample) -> list[tuple[str, str]]:
    told = [turn.value for turn in sample.conversations]
    return list(zip(told[::2], told[1::2], strict=True))


def counted(samples: Sequence[Sample]) -> Copying:
    """By the plainest reading: the one box of the question against each box of its answer."""
    total = Copying()
    for sample in samples:
        for question, answer in turns_of(sample):
            for box in parse_boxes(answer).boxes:
                (first,) = parse_boxes(question).boxes
                total.add(1, first.iou(box) >= 0.5, shuffled=False)
    return total


def test_mig_bench_itself(shared: Path) -> None:
    rows = json.loads((shared / "data/mig_bench/MIG_data.json").read_text())
    total = Copying()
    for row in rows:
        if row["task"] == "object_tracking":
            found = seen(TRACKING, row["images"], [(row["question"], QWEN.write(Box(*row["answer"])))])
            assert found is not None
            total.add(found.answers, found.copyable, found.shuffled)
    assert (total.answers, total.copyable, total.shuffled) == (550, 71, 0)
    assert 100 * total.share == pytest.approx(12.9, abs=0.05)


@pytest.mark.parametrize(("source", "before"), [("lasot", 0.25), ("trackingnet", 0.5)])
def test_real_sources(shared: Path, tmp_path: Path, source: str, before: float) -> None:
    shares = {name: share_of(shared, tmp_path / name, source, changed) for name, changed in SETTINGS.items()}
    print(source, {name: f"{one.copyable} of {one.answers}: {one.share:.1%}" for name, one in shares.items()})
    assert shares["before"].share > before
    assert shares["now"].share < 0.15
    assert shares["now"].answers > 50


def test_the_first_frames_of_mot17(shared: Path, tmp_path: Path) -> None:
    """The real sample has four and eight frames, of 0.1 and 0.3 seconds: nobody gets away."""
    found = share_of(shared, tmp_path / "before", "mot17", SETTINGS["before"])
    print("mot17", f"{found.copyable} of {found.answers}: {found.share:.1%}")
    assert found.answers > 30
    assert found.share > 0.9
    now = share_of(shared, tmp_path / "now", "mot17", SETTINGS["now"])
    assert now.answers < found.answers / 20


def share_of(shared: Path, folder: Path, source: str, changed: dict[str, Any]) -> Copying:
    """Of a build from the real samples of a source, counted plainly; its card says the same."""
    SOURCES[source](shared / "data/sources", folder / "root")
    part = {"sources": {source: None}, "settings": {"passes": 20, "ordering": 0, **changed}}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"tasks": {"object_tracking": part}}))
    built = build(["object_tracking"], {source: folder / "root"}, folder / "built", config=recipe).folder
    found = counted(read_samples(built / "MGrounding-630k.json"))
    (told,) = json.loads((built / "card.json").read_text())["figures"]["Object_Tracking"]["copying"].values()
    assert told == {"answers": found.answers, "copyable": found.copyable, "shuffled": 0}
    assert f"| {found.answers:,} | {found.share:.1%} | 0 |" in (built / "README.md").read_text()
    (checked,) = check(built, CheckOptions(quick=True)).copying
    assert (checked.answers, checked.copyable) == (found.answers, found.copyable)
    return found


def wanderer(speed: float, frames: int = 400, hidden: frozenset[int] = frozenset()) -> Track:
    """An object that goes back and forth across its image, at `speed` widths of the image a frame."""
    lefts = [abs((at * speed) % 1.6 - 0.8) for at in range(frames)]
    boxes = [None if at in hidden else Box(x, 0.4, x + 0.1, 0.6) for at, x in enumerate(lefts)]
    return Track("t", tuple(Frame(Path(f"/{at:04d}.jpg"), box, box is None) for at, box in enumerate(boxes)))


class TestBuilder:
    def test_an_object_that_stays_is_not_asked_for(self) -> None:
        made, tally = drafts("object_tracking", [wanderer(0.00001)], 1, ordering=0, passes=20)
        assert made == []
        assert tally.counts == {"object that stays where it is": 20}
        made, _ = drafts("object_tracking", [wanderer(0.00001)], 1, ordering=0, passes=20, copyable=1)
        assert len(made) == 20

    @given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.3]), whole=st.sampled_from([0.0, 1.0]))
    @settings(max_examples=15, deadline=None)
    def test_the_share_is_the_declared_one_at_most(self, seed: int, share: float, whole: float) -> None:
        chosen = {"copyable": share, "whole": whole}
        made, _ = drafts("object_tracking", [wanderer(0.001)], seed, ordering=0, passes=100, **chosen)
        assert len(made) > 90
        turns = [turn for draft in made for turn in draft.turns]
        pairs = [(parse_boxes(question).boxes[0], box) for question, told in turns for box in parse_boxes(told).boxes]
        found = [first.iou(box) >= NEAR for first, box in pairs]
        assert sum(found) <= (share + 0.15 * (share > 0)) * len(found)
        if share and not whole:
            assert sum(found) >= 0.1 * len(found)

    def test_steps_are_seconds(self) -> None:
        for fps in (10.0, 14.0, 30.0):
            track = Track("t", wanderer(0.01).frames, "dog", fps)
            made, _ = drafts("object_tracking", [track] * 9, 3, passes=4)
            assert made
            for draft in made:
                shown = sorted(int(one.image.removesuffix(".jpg")) for one in draft.pictures)
                assert 1.0 - 0.5 / fps <= (shown[1] - shown[0]) / fps <= 3.3 + 0.5 / fps

    def test_short_sequences_show_fewer_frames_before_the_steps_shrink(self) -> None:
        made, _ = drafts("object_tracking", [wanderer(0.03, 92)] * 30, 3, passes=1)
        assert {len(draft.pictures) for draft in made} == {4}
        made, _ = drafts("object_tracking", [wanderer(0.03, 61)] * 30, 3, passes=1)
        assert {len(draft.pictures) for draft in made} == {4}
        assert {int(draft.pictures[-1].image[:4]) for draft in made} <= set(range(61))

    def test_small_boxes_are_not_asked_for(self) -> None:
        made, tally = drafts("object_tracking", [wanderer(0.01)], 3, ordering=0, area=0.021)
        assert (made, tally.counts) == ([], {"object too small": 2})

    def test_no_two_passes_give_the_same_frames(self) -> None:
        made, _ = drafts("object_tracking", [wanderer(0.01)], 3, passes=60)
        assert len({draft.pictures for draft in made}) == len(made) > 50


class TestShuffled:
    def test_samples_have_the_released_form(self) -> None:
        track = wanderer(0.007, hidden=frozenset(range(150, 190)))
        made, _ = drafts("object_tracking", [track], 2, ordering=0, shuffle=1, passes=60, frames=[3, 6])
        assert len(made) > 30
        for draft in made:
            if len(draft.turns) != 2:
                continue
            (order, chosen), (question, answer) = draft.turns
            images = [one.image for one in draft.pictures]
            options = dict(line.split(". ") for line in order.splitlines()[1:])
            in_time = [images[int(one) - 1] for one in options[chosen].split(",")]
            assert in_time == sorted(images) != images
            assert len(set(options.values())) == 3
            first, is_shuffled = anchor(TRACKING, images, [order, question])
            assert is_shuffled
            assert images[first] == min(images)
            lines = dict(line.split(": ", 1) for line in answer.splitlines())
            assert list(lines) == [f"Image-{place + 1}" for place in range(len(images)) if place != first]
            for name, told in lines.items():
                box = track.frames[int(images[int(name[6:]) - 1][:4])].box
                assert told == (QWEN.write(box) if box else "not visible")
        assert sum(len(draft.turns) == 2 for draft in made) > 20

    def test_rows_as_released(self, shared: Path, tmp_path: Path) -> None:
        file = shared / "cases/shuffled_tracking/Object_Tracking.json"
        samples = read_samples(file)
        first = [anchor(one.type, one.images, [question for question, _ in turns_of(one)]) for one in samples]
        assert first == [(0, False), (2, True), (0, False)]
        report = check(file.parent)
        (found,) = report.copying
        assert (found.source, found.answers, found.shuffled) == ("Object_Tracking/GOT-10k", 6, 1)
        assert not [one for one in report.findings if one.kind == "anchor"]

    def test_an_answer_for_the_anchor_is_warned_of(self, shared: Path, tmp_path: Path) -> None:
        shuffled = read_samples(shared / "cases/shuffled_tracking/Object_Tracking.json")[1]
        *rest, answer = shuffled.conversations
        wrong = Turn("gpt", answer.value.replace("Image-1", "Image-3"))
        write_samples(tmp_path / "x.json", [Sample(1, shuffled.images, [*rest, wrong], shuffled.type)])
        assert [one.count for one in check(tmp_path / "x.json").findings if one.kind == "anchor"] == [1]


ORDERED = ["Put these frames in order."]


@pytest.mark.parametrize(
    ("type_", "images", "questions", "wanted"),
    [
        ("ot_train", ["a/3.jpg", "a/10.jpg"], ORDERED, (0, False)),
        ("ot_train", ["a/10.jpg", "a/3.jpg"], ORDERED, (1, True)),
        ("ot_train", ["a/10.jpg", "a/3.jpg"], ["Find it."], (0, False)),
        ("ot_train", ["a/10.jpg", "b/3.jpg"], ORDERED, (0, False)),
        ("ot_train", ["a/x.jpg", "a/3.jpg"], ORDERED, (0, False)),
        ("ot_train", ["a/3.jpg", "a/10_ref.jpg"], ["Find it."], (1, False)),
        ("ot_train", ["a/3_ref.jpg", "a/10_ref.jpg"], ["Find it."], (0, False)),
        ("ff_train", ["a/10.jpg", "a/3.jpg"], ORDERED, (0, False)),
        ("ot_train", [], [], (0, False)),
    ],
)
def test_what_the_first_image_is(type_: str, images: list[str], questions: list[str], wanted: tuple[int, bool]) -> None:
    assert anchor(type_, images, questions) == wanted


GIVEN = QWEN.write(Box(0, 0, 0.4, 0.4))
NEARLY, ELSEWHERE = QWEN.write(Box(0, 0, 0.4, 0.3)), QWEN.write(Box(0.5, 0.5, 1, 1))
BOTH = f"Image-2: {NEARLY}\nImage-3: {ELSEWHERE}"


@pytest.mark.parametrize("type_", ["ot_train", "mine"])
@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        (f"Image-1 has it at {GIVEN}. Find it in Image-2.", NEARLY, Seen(1, 1, False, False)),
        (f"Image-1 has it at {GIVEN}. Find it in Image-2.", ELSEWHERE, Seen(1, 0, False, False)),
        (
            f"Image-1 has it at {GIVEN}. Find it in the others.",
            BOTH,
            Seen(2, 1, False, False),
        ),
        (f"Image-1 has it at {GIVEN}. What is it?", "a dog", None),
        ("Find the dog.", NEARLY, None),
        (f"Image-1 has it at {GIVEN}. What is right of it?", f"Image-1: {ELSEWHERE}", None),
    ],
)
def test_what_counts(type_: str, question: str, answer: str, wanted: Seen | None) -> None:
    assert seen(type_, ["a/1.jpg", "a/2.jpg", "a/3.jpg"], [(question, answer)]) == wanted
    assert seen(type_, ["a/1.jpg"], [(question, answer)]) is None


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("./MGrounding-630k/Object_Tracking/MOT17/train/x/1.jpg", "Object_Tracking/MOT17"),
        ("MGrounding-630k/x.jpg", "MGrounding-630k"),
        ("x.jpg", ""),
        ("mine/deep/er/x.jpg", "mine"),
    ],
)
def test_sources(image: str, source: str) -> None:
    assert source_of(image) == source


def test_old_indexes_have_the_rate_of_their_source(tmp_path: Path) -> None:
    from migician.miniature import Amounts, make_world
    from migician.sources.index import make_index, open_index

    root = make_world(tmp_path / "w", 1, Amounts(got10k=2))["got10k"]
    index: Any = make_index("got10k", root, tmp_path / "index")
    assert index.items.fps.tolist() == [10, 10]
    (tmp_path / "index/fps.f32").unlink()
    assert open_index(tmp_path / "index").items.fps.tolist() == [10, 10]  # type: ignore[union-attr]
