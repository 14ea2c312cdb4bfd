"""What looking at nothing scores: the best constant box of each task, found on the questions themselves.

Fitting on the test questions flatters the baseline, never the models beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from migician.benchmarks.mig_bench import MigBench
from migician.boxes import Box, iou_matrix
from migician.boxtext import QWEN
from migician.scoring import CORRECT_IOU, Answer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID = 20


def best_constant_boxes(bench: MigBench) -> dict[str, Box]:
    """For each task the box that hits most of its questions at IoU 0.5; ties go to the higher mean IoU.

    Tried are all boxes with corners on a 20 x 20 raster (44,100 of them) and the true boxes
    themselves.
    """
    ticks = np.arange(_GRID + 1) / _GRID
    low, high = np.triu_indices(_GRID + 1, k=1)
    spans = np.stack([ticks[low], ticks[high]], axis=1)  # (210, 2): every interval of the raster
    x, y = (index.ravel() for index in np.meshgrid(range(len(spans)), range(len(spans))))
    raster = np.stack([spans[x, 0], spans[y, 0], spans[x, 1], spans[y, 1]], axis=1)
    truths: dict[str, list[tuple[float, float, float, float]]] = {}
    for question in bench.questions:
        truths.setdefault(question.task, []).append(question.truth.as_tuple())
    return {task: _best(np.concatenate([raster, some]), np.array(some)) for task, some in truths.items()}


def _best(candidates: NDArray[np.float64], truths: NDArray[np.float64]) -> Box:
    hits = np.zeros(len(candidates))
    overlap = np.zeros(len(candidates))
    for truth in truths:  # one at a time: all at once would not fit for the largest task
        ious = iou_matrix(candidates, truth[None])[:, 0]
        hits += ious >= CORRECT_IOU
        overlap += ious
    return Box(*candidates[np.lexsort((overlap, hits))[-1]].tolist())


def constant_answers(bench: MigBench) -> dict[int, Answer]:
    """An answer to every question: its task's best constant box."""
    boxes = best_constant_boxes(bench)
    return {
        question.index: Answer(question.index, QWEN.write(boxes[question.task]), question.task)
        for question in bench.questions
    }
