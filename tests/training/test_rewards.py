"""Rewards beside independent readings of what was published, and by properties that any reward must have."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import STYLES
from migician.errors import UserError
from migician.training.overlaps import banded_iou, ciou, giou
from migician.training.rewards import PRESETS, Truth, best_reply, reward

HALF: Truth = (0, (0.0, 0.0, 0.5, 0.5))
RIGHT: Truth = (1, (0.5, 0.0, 1.0, 1.0))


def plain_iou(one: list[float], other: list[float], rim: float = 0.0) -> float:
    """IoU by its definition; an overlap no wider or higher than `rim` counts as none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= rim or height <= rim:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


TRUE = [100, 200, 500, 600]
REPLIES = [
    "<think>the dog</think><answer>(100,200),(500,600)</answer>",
    "<think>a\nb</think>\n<answer>(120, 180),(480, 640)</answer>",
    "<think>?</think><answer>(600,600),(900,900)</answer>",
    "<think>?</think><answer>(100,200),(101,600)</answer>",
    "<answer>(100,200),(500,600)</answer>",
    "(100,200),(500,600)",
    "<think>?</think><answer>no such object</answer>",
    "<think>never ends (100,200),(500,600)",
    "",
]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("preset", ["univg-r1", "vlm-r1"])
def test_univg_r1_and_vlm_r1(reply: str, preset: str) -> None:
    pairs = r"\((\d+),\s*(\d+)\),\s*\((\d+),\s*(\d+)\)"
    found = re.search(rf"<answer>.*?{pairs}.*?</answer>", reply, re.DOTALL)
    expected = {
        "format": float(bool(re.search(rf"<think>.*?</think>\s*<answer>{pairs}</answer>$", reply, re.DOTALL))),
        "iou": plain_iou([float(one) for one in found.groups()], TRUE, rim=1) if found else 0.0,
    }
    made = reward(_tokened(reply), [(0, tuple(one / 1000 for one in TRUE))], preset=preset)
    assert {name: made[name] for name in expected} == pytest.approx(expected)
    assert made["total"] == pytest.approx(sum(expected.values()))


def _tokened(reply: str) -> str:
    return re.sub(r"\(\d+, ?\d+\),\(\d+, ?\d+\)", lambda match: f"<|box_start|>{match[0]}<|box_end|>", reply)


@pytest.mark.parametrize(
    ("answer", "form", "overlap"),
    [
        ('{"boxes": [100, 200, 500, 600]}', True, 1.0),
        ('{"boxes": [100, 200, 300, 600]}', True, 0.5),
        ('{"boxes": [600, 600, 900, 900]}', True, 0.0),
        ('{"boxes": []}', False, 0.0),
        ("none", False, 0.0),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_onethinker(answer: str, form: bool, overlap: float, wrapped: bool) -> None:
    reply = f"<think>so</think>\n<answer>{answer}</answer>" if wrapped else answer
    made = reward(reply, [(0, (0.1, 0.2, 0.5, 0.6))], preset="onethinker", style="list-permille")
    expected = {"format": 0.1 * wrapped, "structure": 0.5 * (wrapped and form), "iou": 0.9 * overlap}
    assert made == pytest.approx({**expected, "total": sum(expected.values())})


LEAP = [
    ([[0.0, 0.0, 0.5, 0.5]], [[0.0, 0.0, 0.5, 0.5]]),
    ([[0.0, 0.0, 0.5, 0.4], [0.5, 0.5, 1.0, 1.0]], [[0.5, 0.5, 0.9, 1.0], [0.0, 0.0, 0.5, 0.5]]),
    ([[0.0, 0.0, 0.1, 0.1]], [[0.8, 0.8, 1.0, 1.0]]),
    ([[0.1, 0.1, 0.2, 0.2], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.6, 0.6]], [[0.3, 0.3, 0.6, 0.5]]),
    ([[0.0, 0.0, 1.0, 1.0]], []),
    ([], [[0.0, 0.0, 1.0, 1.0]]),
    ([], []),
]


@pytest.mark.parametrize(("given_boxes", "truths"), LEAP)
def test_leap(given_boxes: list[list[float]], truths: list[list[float]]) -> None:
    """Soft F1 over the best of all one-to-one matchings, each tried."""
    worth = [[ciou(Box(*one), Box(*truth)) for truth in truths] for one in given_boxes]
    if len(given_boxes) > len(truths):
        worth = [list(column) for column in zip(*worth, strict=True)]
    few, many = sorted((len(given_boxes), len(truths)))
    matchings = [
        [worth[row][column] for row, column in enumerate(one)] for one in itertools.permutations(range(many), few)
    ]
    matched = sum(max(0.0, one) for one in max(matchings, key=sum))
    f1 = 2 * matched / (few + many) if many else 1.0
    reply = json.dumps([{"label": "a dog", "bbox": one} for one in given_boxes])
    made = reward(reply, [(None, tuple(one)) for one in truths], preset="leap", style="list-fraction")
    assert made == pytest.approx({"format": 0.1 * bool(given_boxes), "f1": f1, "total": 0.1 * bool(given_boxes) + f1})
    assert reward(f"Here: {reply}", [], preset="leap", style="list-fraction")["format"] == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Both images and boxes right; the order does not matter.
        ("Image-1: {half}\nImage-2: {right}", {"block": 0.25, "image": 2.0, "iou": 2.0}),
        ("Image-2: {right}\nImage-1: {half}", {"block": 0.25, "image": 2.0, "iou": 2.0}),
        # The images swapped: each box is of the other image, and overlaps nothing there.
        ("Image-2: {half}\nImage-1: {right}", {"block": 0.25, "image": 2.0, "iou": 0.0}),
        ("Image-1: {half}", {"block": 0.25, "image": 1.0, "iou": 1.0}),
        ("Image-3: {half}", {"block": 0.25, "image": 0.0, "iou": 0.0}),
        # Of truths in two images, a box must say which it is in.
        ("{half}", {"block": 0.25, "image": 0.0, "iou": 0.0}),
        ("<|box_start|>(0,0),(500", {"block": 0.0, "image": 0.0, "iou": 0.0}),
        ("", {"block": 0.0, "image": 0.0, "iou": 0.0}),
    ],
)
def test_mg_thinker(answer: str, expected: dict[str, float]) -> None:
    half, right = (STYLES["qwen"].write(Box(*corners)) for _, corners in (HALF, RIGHT))
    answer = answer.format(half=half, right=right)
    made = reward(f"<think>so</think><answer>{answer}</answer>", [HALF, RIGHT])
    assert made == pytest.approx({"think": 0.25, "answer": 0.25, **expected, "total": 0.5 + sum(expected.values())})
    bare = reward(answer, [HALF, RIGHT])
    assert (bare["think"], bare["answer"]) == (0, 0) and bare["iou"] == expected["iou"]
    twice = reward(f"<think>a</think><think>b</think><answer>{answer}</answer>", [HALF, RIGHT])
    assert (twice["think"], twice["answer"]) == (0, 0.25)


@pytest.mark.parametrize(
    ("width", "worth"), [(1.0, 1.0), (0.95, 1.0), (0.9, 1.0), (0.89, 0.89), (0.11, 0.11), (0.1, 0)]
)
def test_banded(width: float, worth: float) -> None:
    assert banded_iou(Box(0, 0, width, 1), Box(0, 0, 1, 1)) == pytest.approx(worth)


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_there(preset: str) -> None:
    thinks = PRESETS[preset].thinks
    refused = (
        "<think></think><answer>It is in none of the images.</answer>" if thinks else "It is in none of the images."
    )
    most = PRESETS[preset].most(0)
    assert reward(refused, [], preset=preset)["total"] == pytest.approx(most)
    box = STYLES["qwen"].write(Box(*HALF[1]))
    assert reward(refused.replace("none", box), [], preset=preset)["total"] < most
    assert reward(refused, [HALF], preset=preset)["total"] < PRESETS[preset].most(1)


SIDE = st.tuples(st.integers(0, 980), st.integers(20, 1000)).map(lambda one: (one[0], min(sum(one), 1000)))
LARGE = st.tuples(SIDE, SIDE).map(lambda one: tuple(corner[end] / 1000 for end in (0, 1) for corner in one))
TRUTHS = st.lists(st.tuples(st.integers(0, 4), LARGE), max_size=3)


@given(TRUTHS, st.sampled_from(list(PRESETS)), st.sampled_from(["qwen", "qwen3-vl"]))
def test_the_truth_earns_all_there_is(truths: list[Truth], preset: str, style: str) -> None:
    made = reward(best_reply(truths, preset=preset, style=style), truths, preset=preset, style=style)
    assert made["total"] == pytest.approx(PRESETS[preset].most(len(truths)))


@given(TRUTHS, TRUTHS, st.sampled_from(list(PRESETS)))
def test_nothing_earns_more(truths: list[Truth], others: list[Truth], preset: str) -> None:
    total = reward(best_reply(others, preset=preset), truths, preset=preset)["total"]
    assert total <= PRESETS[preset].most(len(truths)) + 1e-9


@given(
    st.text(st.sampled_from('<>/thinkaswer ()[]{}0123456789,:"|_box\nImage-')), TRUTHS, st.sampled_from(list(PRESETS))
)
def test_any_reply_has_a_reward(reply: str, truths: list[Truth], preset: str) -> None:
    made = reward(reply, truths, preset=preset)
    assert made.keys() == {*PRESETS[preset].parts, "total"} and 0 <= made["total"] <= PRESETS[preset].most(len(truths))


@pytest.mark.parametrize("unit", ['\\"', '"\\', '{\\"', "```", "<|object_ref_start|>", "</think> <answer>", '"image":'])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_megabyte_of_anything_has_a_reward(preset: str, unit: str) -> None:
    reply = f"(1,1),(2,2) {unit * (1_000_000 // len(unit))}"  # read quadratically, it would take hours
    assert 0 <= reward(reply, [HALF], preset=preset)["total"] <= PRESETS[preset].most(1)


@given(LARGE, LARGE)
def test_overlaps_are_torchvisions(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    boxes = [torch.tensor([corners], dtype=torch.float64) for corners in (one, other)]
    assert giou(Box(*one), Box(*other)) == pytest.approx(float(ops.generalized_box_iou(*boxes)))
    if float(ops.box_iou(*boxes)) >= 0.5:
        loss = float(ops.complete_box_iou_loss(*boxes, eps=1e-6))
        assert ciou(Box(*one), Box(*other)) == pytest.approx(1 - loss, abs=1e-3)


def test_unknown_names_and_missing_sizes() -> None:
    with pytest.raises(UserError, match="Did you mean 'leap'"):
        reward("", [], preset="leep")
    with pytest.raises(UserError, match="unknown style"):
        reward("", [], style="qwen9")
    with pytest.raises(ValueError, match="counts pixels"):
        reward('[{"bbox_2d": [1, 2, 3, 4]}]', [HALF], style="qwen2.5-vl")
    assert (
        reward('[{"bbox_2d": [0, 0, 50, 50]}]', [HALF], preset="leap", style="qwen2.5-vl", sizes=[(100, 100)])["f1"]
        == 1
    )
