"""The figures of the experiment on positions, over records whose boxes were moved by known amounts."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY

from migician.benchmarks.scoring.boxes import Record


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    return importlib.import_module("positions_experiment")


def record(index: int, truth: tuple[float, ...], *boxes: tuple[float, ...]) -> Record:
    """Two questions in a row are over the same images."""
    return Record(
        index=index, task="diff", question="?", images=(f"{index // 2}.png",), truth=truth, reply="",
        boxes=list(boxes), outcome="wrong_box", iou=0.0, several=len(boxes) > 1, target=1, image=None,
    )  # fmt: skip


def moved(truth: tuple[float, ...], x: float, y: float) -> tuple[float, ...]:
    return truth[0] + x, truth[1] + y, truth[2] + x, truth[3] + y


HIGH, LOW, LEFT = (0.4, 0.0, 0.7, 0.2), (0.4, 0.6, 0.7, 0.8), (0.0, 0.3, 0.2, 0.6)


def test_shifts_go_to_the_half_of_the_true_centre(script: Any) -> None:
    first = {
        0: record(0, HIGH, moved(HIGH, 0, 0.03)),
        1: record(1, LOW, moved(LOW, 0.01, -0.1)),
        2: record(2, LEFT, LEFT),
    }
    second = {0: record(0, HIGH), 1: record(1, LOW, moved(LOW, 0.01, -0.25)), 2: record(2, LEFT, LEFT, HIGH)}
    arm = script.Arm.of([first, second])
    assert arm.clusters.tolist() == [0, 0, 1]
    halves = {name: script.mean(script.in_half(arm, *half), arm.clusters)[0] for name, half in script.HALVES.items()}
    assert halves == {
        "y, lower half": pytest.approx(-0.175),
        "y, upper half": pytest.approx((0.03 + 0) / 2),  # of the left one too; without one box there is no shift
        "x, right half": pytest.approx((0 + 0.01 + 0.01) / 3),
        "x, left half": pytest.approx(0),
    }
    quarter = script.mean(script.in_quarter(arm, 1, 2), arm.clusters)[0]
    assert quarter == pytest.approx(-0.1)  # the box that was moved by 0.25 overlaps its true one no longer


def test_the_stretch_is_the_published_one(script: Any) -> None:
    shrunk = (0.4, 0.6 / 1.05, 0.7, 0.8 / 1.10)
    arm = script.Arm.of([{0: record(0, LOW, shrunk), 1: record(1, LOW, LOW), 2: record(2, LOW)}])
    assert arm.stretched[0].tolist() == [pytest.approx(1, abs=0.01), pytest.approx(0.17 / 0.28), 0]
    assert arm.iou[0, 0] < 0.8 and arm.iou[0, 1:].tolist() == [1, 0]


def test_the_interval_is_about_tuples_of_images(script: Any) -> None:
    """Over equal questions of a tuple it is as wide as over one of them: more of the same say nothing new."""
    rng = np.random.default_rng(0)
    one = (rng.random((1, 60)) < 0.4).astype(float)
    value, low, high = script.mean(one, np.arange(60))
    assert value == one.mean() and low < value < high
    error = np.sqrt(value * (1 - value) / 60)
    assert (low, high) == (pytest.approx(value - 1.96 * error, abs=0.03), pytest.approx(value + 1.96 * error, abs=0.03))
    assert script.mean(np.repeat(one, 3, axis=1), np.repeat(np.arange(60), 3)) == pytest.approx((value, low, high))
    some = np.where(np.arange(60) < 20, np.nan, one)
    assert script.mean(some, np.arange(60))[0] == pytest.approx(one[0, 20:].mean())
