"""Objects found in several images, or rightly not found: AP at IoU 0.5 by pycocotools, and how many pairs are right.

AP is computed as MC-Bench's own script does: each image of each question is an image of its own, a category is a group
of the question, the mean is weighted by the true boxes of each category. A reply gives no scores, so that all boxes
count alike (score 1; among these AP depends on the order of the file), and no groups: its boxes stand for the group of
the question that they fit best. Two slips of that script are not repeated. It numbers annotations from 0, which
COCOeval takes for "unmatched"; and it reads the file again for each question with groups, so that only the last
assignment stays.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from migician.benchmarks.scoring.matching import MATCHING, SetRecord, match
from migician.boxes import Box
from migician.errors import UserError
from migician.metrics import Measure

_RESAMPLES = 200
_UNITS = 1000
"""Of an image's width and height, in which boxes are handed to COCOeval: IoU is the same in all."""


def _measures(records: Sequence[SetRecord]) -> dict[str, Measure]:
    """Those of `matching`, and the share of questions where a box is given in just the images that have one."""
    right = [
        float(record.outcome not in ("failed", "garbled") and _images_with(record.truths) == _images_with(record.boxes))
        for record in records
    ]
    found = MATCHING.measures(records)
    return {"image_accuracy": (np.array(right), None), **found}


def _images_with(boxes: Sequence[Any]) -> set[int | None]:
    return {box.image for box in boxes}


def ap50(records: Sequence[SetRecord]) -> dict[str, Any]:
    """{"ap50": {"n", "value", "interval"}}: AP at IoU 0.5 in percent over n true boxes, 95% by resampling questions.

    Raises `UserError` where pycocotools is not installed.
    """
    truths = sum(len(record.truths) for record in records)
    if not truths:
        return {}
    evaluation = _evaluated(records)
    images = np.arange(sum(len(record.images) for record in records))
    ends = np.cumsum([len(record.images) for record in records])
    of_question = np.split(images, ends[:-1])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES if len(records) > 1 else 0):
        # In the order of the file: among boxes of one score AP depends on their order.
        chosen = np.sort(rng.integers(len(records), size=len(records)))
        drawn.append(_weighted(evaluation, np.concatenate([of_question[one] for one in chosen])))
    value = _weighted(evaluation, images)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (0.0, 100.0)
    return {"ap50": {"n": truths, "value": value, "interval": [min(float(low), value), max(float(high), value)]}}


def _evaluated(records: Sequence[SetRecord]) -> Any:
    """COCOeval after matching each image."""
    try:
        coco_module = importlib.import_module("pycocotools.coco")
        evaluator = importlib.import_module("pycocotools.cocoeval").COCOeval
    except ImportError:
        raise UserError("AP needs pycocotools: pip install pycocotools") from None
    images: list[dict[str, int]] = []
    truths: list[dict[str, Any]] = []
    given: list[dict[str, Any]] = []
    for record in records:
        first = len(images) + 1
        images += [{"id": first + place, "width": _UNITS, "height": _UNITS} for place in range(len(record.images))]
        groups = record.groups or (1,) * len(record.truths)
        for box, group in zip(record.truths, groups, strict=True):
            where = {"image_id": first + (box.image or 0), "category_id": group, "iscrowd": 0}
            truths.append({"id": len(truths) + 1, **where, **_corner(box.box)})
        group = _fitting(record, groups)
        placed = [box for box in record.boxes if box.image is not None and box.image < len(record.images)]
        for box in placed:
            where = {"image_id": first + (box.image or 0), "category_id": group, "iscrowd": 0}
            given.append({"id": len(given) + 1, "score": 1.0, **where, **_corner(box.box)})
    categories = [{"id": group} for group in sorted({box["category_id"] for box in (*truths, *given)})]
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for boxes in (truths, given):
            coco = coco_module.COCO()
            coco.dataset = {"images": images, "annotations": boxes, "categories": categories}
            coco.createIndex()
            sides.append(coco)
        evaluation = evaluator(*sides, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    return evaluation


def _corner(box: tuple[float, float, float, float]) -> dict[str, Any]:
    """Left, top, width and height as COCO has them; a box with swapped corners has no area and matches nothing."""
    x1, y1, x2, y2 = (value * _UNITS for value in box)
    width, height = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
    return {"bbox": [x1, y1, width, height], "area": width * height}


def _fitting(record: SetRecord, groups: Sequence[int]) -> int:
    """The group of a question that the reply's boxes fit best, by the mean IoU of those that are matched."""
    boxes = [(box.image, Box(*box.box)) for box in record.boxes]
    fits: dict[int, float] = {}
    for group in sorted(set(groups)):
        truths = [
            (truth.image or 0, Box(*truth.box))
            for truth, own in zip(record.truths, groups, strict=True)
            if own == group
        ]
        pairs = match(truths, boxes)
        fits[group] = sum(pair.iou for pair in pairs) / len(pairs) if pairs else 0.0
    return max(fits, key=lambda group: fits[group], default=1)


def _weighted(evaluation: Any, images: Any) -> float:
    """The AP of each category over some images, repeated ones too, weighted by true boxes; percent."""
    total = len(evaluation.params.imgIds)
    kept = evaluation.evalImgs
    categories = len(evaluation.params.catIds)
    evaluation.evalImgs = [kept[category * total + image] for category in range(categories) for image in images]
    # As many images as before: accumulate() counts on that.
    evaluation.evalImgs += [None] * (categories * total - len(evaluation.evalImgs))
    counts = [
        sum(
            int((one["gtIgnore"] == 0).sum()) for image in images if (one := kept[category * total + image]) is not None
        )
        for category in range(categories)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    evaluation.evalImgs = kept
    precision = evaluation.eval["precision"][0, :, :, 0, 0]  # (recalls, categories); -1 where a category has no truth
    means = [float(column[column > -1].mean()) if (column > -1).any() else 0.0 for column in precision.T]
    return 100 * sum(mean * count for mean, count in zip(means, counts, strict=True)) / max(sum(counts), 1)


DETECTION = replace(MATCHING, name="detection", measures=_measures, whole=ap50)
"""Of questions for all objects of a kind in several images: the share of questions with boxes in just the right images,
precision, recall and F1 at IoU 0.5, and AP50 over all.
"""
