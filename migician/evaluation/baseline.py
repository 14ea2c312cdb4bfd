"""What looking at nothing scores: the best constant answer of each task, found on the questions themselves.

Fitting on the test questions flatters the baseline, never the models beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.boxes import CORRECT_IOU
from migician.benchmarks.scoring.scoring import Answer
from migician.boxes import Box, iou_matrix
from migician.boxtext import QWEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID = 20


def constant_answers(bench: Benchmark) -> dict[int, Answer]:
    """An answer to every question: its task's best constant box, or its task's most frequent option."""
    return {
        index: Answer(index, reply, bench.questions[index].task)
        for index, reply in _CONSTANT[bench.scoring.name](bench).items()
    }


def best_constant_boxes(truths: Iterable[tuple[str, Box]]) -> dict[str, Box]:
    """For each task of (task, true box) the box that hits most of them at IoU 0.5; ties go to the higher mean IoU.

    Tried are all boxes with corners on a 20 x 20 raster (44,100 of them) and the true boxes
    themselves.
    """
    ticks = np.arange(_GRID + 1) / _GRID
    low, high = np.triu_indices(_GRID + 1, k=1)
    spans = np.stack([ticks[low], ticks[high]], axis=1)  # (210, 2): every interval of the raster
    x, y = (index.ravel() for index in np.meshgrid(range(len(spans)), range(len(spans))))
    raster = np.stack([spans[x, 0], spans[y, 0], spans[x, 1], spans[y, 1]], axis=1)
    of_task: dict[str, list[tuple[float, float, float, float]]] = {}
    for task, box in truths:
        of_task.setdefault(task, []).append(box.as_tuple())
    return {task: _best(np.concatenate([raster, some]), np.array(some)) for task, some in of_task.items()}


def _best(candidates: NDArray[np.float64], truths: NDArray[np.float64]) -> Box:
    hits = np.zeros(len(candidates))
    overlap = np.zeros(len(candidates))
    for truth in truths:  # one at a time: all at once would not fit for the largest task
        ious = iou_matrix(candidates, truth[None])[:, 0]
        hits += ious >= CORRECT_IOU
        overlap += ious
    return Box(*candidates[np.lexsort((overlap, hits))[-1]].tolist())


def _boxes(bench: Benchmark) -> dict[int, str]:
    boxes = best_constant_boxes((question.task, question.truth) for question in bench.questions if question.truth)
    written = {task: QWEN.write(box) for task, box in boxes.items()}
    return {question.index: written.get(question.task, QWEN.absent) for question in bench.questions}


def _box_sets(bench: Benchmark) -> dict[int, str]:
    """The same box in every image that is asked about."""
    boxes = best_constant_boxes((question.task, truth.box) for question in bench.questions for truth in question.truths)
    return {
        question.index: "\n".join(
            f"Image-{truth.image + 1}: {QWEN.write(boxes[question.task])}" for truth in question.truths
        )
        for question in bench.questions
    }


def _options(bench: Benchmark) -> dict[int, str]:
    """The option that is right most often in its task, by its place; where a question has fewer, its last."""
    right: dict[str, Counter[int]] = {}
    for question in bench.questions:
        if question.answer is not None:
            right.setdefault(question.task, Counter())[question.answer] += 1
    replies = {}
    for question in bench.questions:
        frequent = right.get(question.task, Counter([0])).most_common(1)[0][0]
        place = min(frequent, len(question.options) - 1)
        letter = chr(ord("A") + max(place, 0))
        replies[question.index] = letter if question.lettered or place < 0 else question.options[place]
    return replies


_CONSTANT: dict[str, Callable[[Any], dict[int, str]]] = {
    "boxes": _boxes,
    "matching": _box_sets,
    "choices": _options,
    "detection": _box_sets,
}
"""Name of a scoring -> the reply to each question."""
